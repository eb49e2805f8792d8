//! The device's side: a board, a serial line to report on, and a job to do.
//!
//! - [`board`]: one file of `boards/`, chosen by `HONE_BOARD`; all unsafe code is there
//! - [`serial`]: words and numbers over the board's UART, without `core::fmt`, which may panic
//! - [`crc`]: the checksum of what is reported
//! - [`job`]: plans, inputs and heads that a loader has written beside the program
#![no_std]

include!(concat!(env!("OUT_DIR"), "/board.rs"));

pub mod crc;
pub mod job;
pub mod serial;

/// Nothing here panics, and `cargo xtask firmware build` shows that the linker found no way to this function.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    serial::line(&["panic"]);
    board::exit(false)
}
