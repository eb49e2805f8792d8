//! Sums, products and tables, 16 values at a time.

use core::arch::aarch64::*;
use core::ops::Range;

use super::vector::{Narrow, load, load_part, store, store_part};
use crate::kernels::generic::multipliers;
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Sum of two tensors.
pub(super) static ADD: Kernel = Kernel::in_place(Code::Add, add);
/// Product of two tensors.
pub(super) static MUL: Kernel = Kernel::in_place(Code::Mul, mul);
/// Any function of one value.
pub(super) static TABLE: Kernel = Kernel::in_place(Code::Table, table);

/// `out = f(a, b)`, where the second operand has as many values, one a channel, or one.
#[inline(always)]
fn binary(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(int8x16_t, int8x16_t) -> int8x16_t) {
    let (first, second, output) = (op.input().range(), op.second().range(), op.output.range());
    let Some(parts) = Parts::split(memory.arena, &output) else { return };
    let Parts { before, out, after } = parts;
    let part = |range: Range<usize>| -> &[u8] {
        let start = range.start.wrapping_sub(output.end);
        let part = if range.end <= output.start { before.get(range) } else { after.get(start..start + range.len()) };
        part.unwrap_or_default()
    };
    let second = part(second);
    let first = if op.in_place { None } else { Some(part(first)) };
    match (second, first) {
        ([one], first) => {
            // SAFETY: AArch64 always has these instructions.
            let one = unsafe { vdupq_n_s8(one.cast_signed()) };
            unary(first, out, |a| f(a, one));
        }
        (second, None) => {
            for out in out.chunks_mut(second.len().max(1)) {
                let (blocks, rest) = out.as_chunks_mut::<16>();
                let (seconds, second_rest) = second.as_chunks::<16>();
                for (out, b) in blocks.iter_mut().zip(seconds) {
                    let a = load(out);
                    store(out, f(a, load(b)));
                }
                let a = load_part(rest);
                store_part(rest, f(a, load_part(second_rest)));
            }
        }
        (second, Some(first)) => {
            let period = second.len().max(1);
            for (out, first) in out.chunks_mut(period).zip(first.chunks(period)) {
                let (blocks, rest) = out.as_chunks_mut::<16>();
                let (firsts, first_rest) = first.as_chunks::<16>();
                let (seconds, second_rest) = second.as_chunks::<16>();
                for ((out, a), b) in blocks.iter_mut().zip(firsts).zip(seconds) {
                    store(out, f(load(a), load(b)));
                }
                if !rest.is_empty() {
                    store_part(rest, f(load_part(first_rest), load_part(second_rest)));
                }
            }
        }
    }
}

/// `out = f(a)`; in place without a first operand.
#[inline(always)]
fn unary(first: Option<&[u8]>, out: &mut [u8], f: impl Fn(int8x16_t) -> int8x16_t) {
    let (blocks, rest) = out.as_chunks_mut::<16>();
    match first {
        None => {
            for out in blocks {
                let a = load(out);
                store(out, f(a));
            }
            let a = load_part(rest);
            store_part(rest, f(a));
        }
        Some(first) => {
            let (firsts, first_rest) = first.as_chunks::<16>();
            for (out, a) in blocks.iter_mut().zip(firsts) {
                store(out, f(load(a)));
            }
            store_part(rest, f(load_part(first_rest)));
        }
    }
}

/// The arena around an output, because both operands may be the same tensor.
struct Parts<'a> {
    before: &'a [u8],
    out: &'a mut [u8],
    after: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(arena: &'a mut [u8], output: &Range<usize>) -> Option<Self> {
        let (before, rest) = arena.split_at_mut_checked(output.start)?;
        let (out, after) = rest.split_at_mut_checked(output.len())?;
        Some(Self { before, out, after })
    }
}

/// clamp((a · ma + b · mb + c) >> shift)
fn add(op: &Op<'_>, memory: &mut Memory<'_>) {
    let ((ma, mb), shift) = (multipliers(op), i32::from(op.shift));
    // SAFETY: AArch64 always has these instructions.
    let (ma, mb, c, shift, min, max) = unsafe {
        let (ma, mb) = (vdup_n_s16(ma as i16), vdup_n_s16(mb as i16));
        let (min, max) = (vdupq_n_s8(op.requant.min), vdupq_n_s8(op.requant.max));
        (ma, mb, vdupq_n_s32(op.b), vdupq_n_s32(-shift), min, max)
    };
    // The shifted sum is past every bound where it does not fit 16 bits.
    let four = |a, b| {
        // SAFETY: as above.
        unsafe { vqmovn_s32(vshlq_s32(vmlal_s16(vmlal_s16(c, a, ma), b, mb), shift)) }
    };
    // SAFETY: as above.
    let eight = |a, b| unsafe {
        let (low, high) = (four(vget_low_s16(a), vget_low_s16(b)), four(vget_high_s16(a), vget_high_s16(b)));
        vqmovn_s16(vcombine_s16(low, high))
    };
    // SAFETY: as above.
    binary(op, memory, |a, b| unsafe {
        let low = eight(vmovl_s8(vget_low_s8(a)), vmovl_s8(vget_low_s8(b)));
        let high = eight(vmovl_high_s8(a), vmovl_high_s8(b));
        vminq_s8(vmaxq_s8(vcombine_s8(low, high), min), max)
    });
}

/// requantize((a − za) · (b − zb))
fn mul(op: &Op<'_>, memory: &mut Memory<'_>) {
    let narrow = Narrow::new(op.requant);
    // SAFETY: AArch64 always has these instructions.
    let (za, zb, multiplier) = unsafe {
        let (za, zb) = (op.input().quant.zero_point, op.second().quant.zero_point);
        (vdup_n_s8(za), vdup_n_s8(zb), vdupq_n_s32(Op::word(op.multipliers, 0)))
    };
    // SAFETY: as above.
    let eight = |a, b| unsafe {
        let (a, b) = (vsubl_s8(a, za), vsubl_s8(b, zb));
        let (low, high) = (vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
        let scale = |product| narrow.scale(narrow.shift_left(product), multiplier);
        narrow.offset(scale(low), scale(high))
    };
    // SAFETY: as above.
    binary(op, memory, |a, b| unsafe {
        narrow.sixteen(eight(vget_low_s8(a), vget_low_s8(b)), eight(vget_high_s8(a), vget_high_s8(b)))
    });
}

/// `table[q]`, q as an unsigned byte: four times 64 entries, each of which leaves alone what lies outside.
fn table(op: &Op<'_>, memory: &mut Memory<'_>) {
    let ([a, b, c, d], _) = op.weights.as_chunks::<64>() else { return };
    let part = |bytes: &[u8; 64]| {
        // SAFETY: the array has the 64 bytes that are read.
        unsafe { vld1q_u8_x4(bytes.as_ptr()) }
    };
    let (a, b, c, d) = (part(a), part(b), part(c), part(d));
    // SAFETY: AArch64 always has these instructions.
    let look = |q| unsafe {
        let (q, step) = (vreinterpretq_u8_s8(q), vdupq_n_u8(64));
        let (r, s) = (vsubq_u8(q, step), vsubq_u8(q, vdupq_n_u8(128)));
        let found = vqtbx4q_u8(vqtbx4q_u8(vqtbl4q_u8(a, q), b, r), c, s);
        vreinterpretq_s8_u8(vqtbx4q_u8(found, d, vsubq_u8(s, step)))
    };
    if op.in_place {
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        return unary(None, output, look);
    }
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    unary(Some(input), output, look);
}
