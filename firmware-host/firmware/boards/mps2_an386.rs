//! Arm MPS2 with the FPGA image AN386: Cortex-M4F at 25 MHz.
//!
//! The memory map is in Arm's application note AN386; the devices are those of the Cortex-M System Design Kit.

mod cmsdk;
mod image;
mod semihosting;

use cmsdk::{Timer, Uart};

pub use image::{Memory, sections, stack_used, take};
pub use semihosting::exit;

/// As QEMU's `-M` names it.
pub const NAME: &str = "mps2-an386";
/// With QEMU's `-icount shift=0` an instruction takes a nanosecond, and a tick of the 25 MHz timer this many of them.
pub const INSTRUCTIONS_PER_TICK: u32 = 1_000 / 25;

// SAFETY: UART0 and TIMER0 of this image lie there.
const UART: Uart = unsafe { Uart::at(0x4000_4000) };
// SAFETY: as above.
const TIMER: Timer = unsafe { Timer::at(0x4000_0000) };

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
