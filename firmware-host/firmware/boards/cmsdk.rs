//! UART and timer of the Cortex-M System Design Kit (Arm DDI 0479), as far as a report needs them.

use core::ptr;

/// Registers of 32 bits.
#[derive(Debug)]
struct Registers(usize);

impl Registers {
    fn read(&self, offset: usize) -> u32 {
        // SAFETY: whoever made a device vouched for its address, and `offset` is one of its registers.
        unsafe { ptr::read_volatile(ptr::with_exposed_provenance(self.0 + offset)) }
    }

    fn write(&self, offset: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(self.0 + offset), value) }
    }
}

/// The APB UART.
#[derive(Debug)]
pub struct Uart(Registers);

impl Uart {
    const DATA: usize = 0x0;
    const STATE: usize = 0x4;
    const CTRL: usize = 0x8;
    const BAUDDIV: usize = 0x10;
    const TX_FULL: u32 = 1;
    const TX_ENABLE: u32 = 1;

    /// # Safety
    /// A UART of this kind lies at `base`.
    pub const unsafe fn at(base: usize) -> Self {
        Self(Registers(base))
    }

    /// Switches the sender on, at the fastest rate: the other end is an emulator.
    pub fn start(&self) {
        self.0.write(Self::BAUDDIV, 16);
        self.0.write(Self::CTRL, Self::TX_ENABLE);
    }

    /// Waits until there is room, then sends.
    pub fn send(&self, byte: u8) {
        while self.0.read(Self::STATE) & Self::TX_FULL != 0 {}
        self.0.write(Self::DATA, u32::from(byte));
    }
}

/// The APB timer, counting down from 2^32 − 1.
#[derive(Debug)]
pub struct Timer(Registers);

impl Timer {
    const CTRL: usize = 0x0;
    const VALUE: usize = 0x4;
    const RELOAD: usize = 0x8;
    const ENABLE: u32 = 1;

    /// # Safety
    /// A timer of this kind lies at `base`.
    pub const unsafe fn at(base: usize) -> Self {
        Self(Registers(base))
    }

    /// From zero.
    pub fn start(&self) {
        self.0.write(Self::CTRL, 0);
        self.0.write(Self::RELOAD, u32::MAX);
        self.0.write(Self::VALUE, u32::MAX);
        self.0.write(Self::CTRL, Self::ENABLE);
    }

    /// Ticks since the start, wrapping.
    pub fn ticks(&self) -> u32 {
        u32::MAX - self.0.read(Self::VALUE)
    }
}
