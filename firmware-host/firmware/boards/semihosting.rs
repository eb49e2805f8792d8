//! Leaving the emulator: Arm's semihosting, operation SYS_EXIT.

use core::arch::asm;

/// Ends the program; the emulator's exit code is 0 if `well`, else 1.
pub fn exit(well: bool) -> ! {
    const SYS_EXIT: u32 = 0x18;
    const APPLICATION_EXIT: u32 = 0x2_0026;
    const RUN_TIME_ERROR: u32 = 0x2_0023;
    let reason = if well { APPLICATION_EXIT } else { RUN_TIME_ERROR };
    // SAFETY: a debugger, or an emulator with semihosting, answers the breakpoint; without one the processor halts here.
    unsafe { asm!("bkpt 0xab", inout("r0") SYS_EXIT => _, in("r1") reason) };
    loop {
        core::hint::spin_loop();
    }
}
