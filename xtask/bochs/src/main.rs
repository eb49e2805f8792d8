//! Runs every case of the kernel suite's products with a tier and with `generic`, and says over the serial line how many agree.
//!
//! There is no system: memory comes from a block and is given back all at once, and `start.s` has switched the processor's vectors on.
#![no_main]

use std::alloc::{GlobalAlloc, Layout};
use std::arch::{asm, global_asm};
use std::sync::atomic::{AtomicUsize, Ordering};

use hone_runtime::engine::Prepared;
use hone_runtime::kernels::suite::{Group, Rng, case, values};
use hone_runtime::kernels::{Tier, generic, x86_64};
use hone_runtime::plan::Plan;

global_asm!(include_str!("start.s"));

const HEAP_BYTES: usize = 256 << 20;
static mut HEAP: [u8; HEAP_BYTES] = [0; HEAP_BYTES];
static USED: AtomicUsize = AtomicUsize::new(0);

struct Block;

// SAFETY: places are handed out once between two resets, which are made where nothing is held; there is one thread.
unsafe impl GlobalAlloc for Block {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = (&raw mut HEAP).cast::<u8>();
        let place = (base as usize + USED.load(Ordering::Relaxed)).next_multiple_of(layout.align()) - base as usize;
        if place + layout.size() > HEAP_BYTES {
            return core::ptr::null_mut();
        }
        USED.store(place + layout.size(), Ordering::Relaxed);
        base.wrapping_add(place)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Block = Block;

const LINE: u16 = 0x3F8;

fn write_port(port: u16, value: u8) {
    // SAFETY: ports of the serial line.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

fn print(text: &str) {
    for byte in text.bytes() {
        // Room for a byte.
        wait(0x20);
        write_port(LINE, byte);
    }
    // All is sent.
    wait(0x40);
}

fn wait(flag: u8) {
    let mut status: u8 = 0;
    while status & flag == 0 {
        // SAFETY: a port of the serial line.
        unsafe { asm!("in al, dx", in("dx") LINE + 5, out("al") status, options(nomem, nostack)) }
    }
}

/// libc's functions that are chosen by processor: each place gets what its chooser returns.
fn relocate() {
    unsafe extern "C" {
        static relocations_begin: [usize; 3];
        static relocations_end: u8;
    }
    let (mut at, end) = (&raw const relocations_begin, (&raw const relocations_end) as usize);
    while (at as usize) < end {
        // SAFETY: the linker script puts R_X86_64_IRELATIVE entries there, and nothing else: offset, kind, chooser.
        unsafe {
            let [place, _, chooser] = at.read();
            let chooser: extern "C" fn() -> usize = core::mem::transmute(chooser);
            (place as *mut usize).write(chooser());
        }
        at = at.wrapping_add(1);
    }
}

// libc's forms of these rely on what its start-up code finds out.

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe { asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _) }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize) <= from as usize {
        // SAFETY: the caller's; what is overwritten has been read.
        return unsafe { memcpy(to, from, count) };
    }
    let (last, from) = (to.wrapping_add(count).wrapping_sub(1), from.wrapping_add(count).wrapping_sub(1));
    // SAFETY: as above.
    unsafe { asm!("std", "rep movsb", "cld", inout("rcx") count => _, inout("rdi") last => _, inout("rsi") from => _) }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe { asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte as u8) }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: the caller's; volatile, so that the loop does not become a call of itself.
        let (a, b) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(a, b, count) }
}

#[unsafe(no_mangle)]
extern "C" fn program() {
    // Eight bits, no parity.
    write_port(LINE + 3, 3);
    relocate();
    for (name, tier) in [("avx512vnni", x86_64::avx512vnni()), ("avxvnni", x86_64::avxvnni())] {
        let Some(tier) = tier else {
            print(&format!("{name}: not on this processor\n"));
            continue;
        };
        for group in [Group::Dense, Group::DenseFloat, Group::Pointwise, Group::Conv] {
            let (mut same, mut different) = (0, 0);
            for index in 0..group.cases() {
                USED.store(0, Ordering::Relaxed);
                *if agrees(group, index, tier) { &mut same } else { &mut different } += 1;
            }
            print(&format!("{name} {group:?}: same {same}, different {different}\n"));
        }
    }
    print("end\n");
    // Ends the emulator.
    "Shutdown".bytes().for_each(|byte| write_port(0x8900, byte));
}

fn agrees(group: Group, index: usize, tier: &'static Tier) -> bool {
    let bytes = case(group, index).parts.to_bytes().unwrap();
    let input = Plan::parse(&bytes).unwrap().input();
    let values = values(&mut Rng::new(index as u64), input.elements());
    let input: Vec<f32> = values.iter().map(|value| input.quant.dequantize(value.cast_signed())).collect();
    outputs(&bytes, tier, &input) == outputs(&bytes, &generic::TIER, &input)
}

/// What every operator gives, and the bits of the float results.
fn outputs(bytes: &[u8], tier: &'static Tier, input: &[f32]) -> (Vec<u8>, Vec<u32>) {
    let plan = Plan::parse(bytes).unwrap();
    let mut prepared = Prepared::new(plan, tier).unwrap();
    prepared.set_input(input).unwrap();
    let mut all = Vec::new();
    for (index, op) in plan.ops().enumerate() {
        prepared.run_op(index);
        all.extend_from_slice(&prepared.arena()[op.output.range()]);
    }
    (all, prepared.float_output().iter().map(|value| value.to_bits()).collect())
}
