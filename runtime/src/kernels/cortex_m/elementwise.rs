//! Sums of two tensors, four values at a time.

use super::instructions::{pack4, pkhbt, pkhtb, smlad, ssat8, sxtb16, sxtb16_ror8};
use super::layer::clamp;
use crate::kernels::{Kernel, Memory, generic};
use crate::plan::{Code, Op};

/// Sum of two tensors.
pub static ADD: Kernel = Kernel::in_place(Code::Add, add);

fn add(op: &Op<'_>, memory: &mut Memory<'_>) {
    match run(op, memory).and_then(|()| memory.arena.get_mut(op.output.range())) {
        Some(output) => clamp(op, output),
        None => (generic::ADD.run)(op, memory),
    }
}

/// `None` where the second operand has another shape than the first, or a tensor begins at an odd address.
fn run(op: &Op<'_>, memory: &mut Memory<'_>) -> Option<()> {
    let (first, second, output) = (op.input().range(), op.second().range(), op.output.range());
    let size = output.len();
    let arena: *mut [u8] = &raw mut *memory.arena;
    let place = |range: &core::ops::Range<usize>| {
        let at = arena.cast::<u8>().wrapping_add(range.start);
        (range.len() == size && range.end <= arena.len() && at.addr().is_multiple_of(4)).then_some(at)
    };
    // All three lie in the arena; what is read may be what is written, place for place, or elsewhere.
    let (mut a, mut b, mut out) = (place(&first)?, place(&second)?, place(&output)?);
    let shift = u32::from(op.shift) & 31;
    let (factors, addend) = (op.a.cast_unsigned(), op.b);
    let sum = |pair: u32| ssat8(smlad(pair, factors, addend) >> shift);
    let four = |a: u32, b: u32| {
        let (a02, a13, b02, b13) = (sxtb16(a), sxtb16_ror8(a), sxtb16(b), sxtb16_ror8(b));
        // Not `map`, which is a call where the program is optimized for size.
        pack4([sum(pkhbt(a02, b02)), sum(pkhbt(a13, b13)), sum(pkhtb(a02, b02)), sum(pkhtb(a13, b13))])
    };
    for _ in 0..size / 4 {
        // SAFETY: four bytes of each, of as many as each has, aligned; nothing else borrows the arena.
        unsafe {
            let q = four(u32::from_le(a.cast::<u32>().read()), u32::from_le(b.cast::<u32>().read()));
            out.cast::<u32>().write(q.to_le());
        }
        (a, b, out) = (a.wrapping_add(4), b.wrapping_add(4), out.wrapping_add(4));
    }
    for _ in 0..size % 4 {
        // SAFETY: as above, for one byte.
        unsafe { out.write(four(u32::from(a.read()), u32::from(b.read())) as u8) };
        (a, b, out) = (a.wrapping_add(1), b.wrapping_add(1), out.wrapping_add(1));
    }
    Some(())
}
