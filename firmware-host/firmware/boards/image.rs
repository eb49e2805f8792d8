//! What the linker placed: the job, the arena, the sections, the stack. The symbols come from the board's `.x` file and from
//! cortex-m-rt's linker script.

use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

unsafe extern "C" {
    static _job_start: u8;
    static _job_end: u8;
    static mut _arena_start: u8;
    static _arena_end: u8;
    static _stack_start: u32;
    static _stack_end: u32;
    static __stext: u8;
    static __erodata: u8;
    static __sdata: u8;
    static __edata: u8;
    static __sbss: u8;
    static __ebss: u8;
}

/// As cortex-m-rt's feature `paint-stack` paints.
const PAINT: u32 = 0xcccc_cccc;

/// Float results that fit.
const MAX_FLOATS: usize = 1024;

/// The memory beside the program's own.
#[derive(Debug)]
pub struct Memory {
    /// Where a job is written before the program starts.
    pub job: &'static [u8],
    /// For tensors.
    pub arena: &'static mut [u8],
    /// For float results.
    pub floats: &'static mut [f32],
}

/// The memory, once.
#[must_use]
pub fn take() -> Option<Memory> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    static mut FLOATS: [f32; MAX_FLOATS] = [0.0; MAX_FLOATS];
    // One thread and no interrupts: two steps are as good as one.
    if TAKEN.load(Ordering::Relaxed) {
        return None;
    }
    TAKEN.store(true, Ordering::Relaxed);
    // SAFETY: both regions are memory of the board that the linker gives to nothing else; nothing writes the job's while the
    // program runs, and `TAKEN` sees to it that the rest is handed out once.
    unsafe {
        Some(Memory {
            job: slice::from_raw_parts(&raw const _job_start, distance(&raw const _job_start, &raw const _job_end)),
            arena: slice::from_raw_parts_mut(
                &raw mut _arena_start,
                distance(&raw const _arena_start, &raw const _arena_end),
            ),
            floats: slice::from_raw_parts_mut((&raw mut FLOATS).cast(), MAX_FLOATS),
        })
    }
}

/// Bytes of code with constants, of initialized data, and of zeroed data.
#[must_use]
pub fn sections() -> [usize; 3] {
    [
        distance(&raw const __stext, &raw const __erodata),
        distance(&raw const __sdata, &raw const __edata),
        distance(&raw const __sbss, &raw const __ebss),
    ]
}

/// The most bytes of stack that were in use since the start: down to the lowest word that is not painted any more.
#[must_use]
pub fn stack_used() -> usize {
    let (mut word, top) = (&raw const _stack_end, &raw const _stack_start);
    // SAFETY: every word between the two symbols is memory, aligned by the linker script.
    while word < top && unsafe { ptr::read_volatile(word) } == PAINT {
        word = word.wrapping_add(1);
    }
    distance(word.cast(), top.cast())
}

fn distance(from: *const u8, to: *const u8) -> usize {
    to.addr().wrapping_sub(from.addr())
}
