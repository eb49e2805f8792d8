//! Arm MPS2 with the FPGA image AN505: Cortex-M33 at 20 MHz.
//!
//! The memory map is in Arm's application note AN505; the devices are those of the Cortex-M System Design Kit.

mod cmsdk;
mod image;
mod semihosting;

use cmsdk::{Timer, Uart};

pub use image::{Memory, sections, stack_used, take};
pub use semihosting::exit;

/// As QEMU's `-M` names it.
pub const NAME: &str = "mps2-an505";
/// With QEMU's `-icount shift=0` an instruction takes a nanosecond, and a tick of the 20 MHz timer this many of them.
pub const INSTRUCTIONS_PER_TICK: u32 = 1_000 / 20;

// SAFETY: UART0 and TIMER0 of this image lie there.
const UART: Uart = unsafe { Uart::at(0x5020_0000) };
// SAFETY: as above.
const TIMER: Timer = unsafe { Timer::at(0x5000_0000) };

/// Starts the devices.
pub fn start() {
    UART.start();
    TIMER.start();
}

/// Sends one byte.
pub fn send(byte: u8) {
    UART.send(byte);
}

/// Ticks since [`start`], wrapping.
#[must_use]
pub fn ticks() -> u32 {
    TIMER.ticks()
}
