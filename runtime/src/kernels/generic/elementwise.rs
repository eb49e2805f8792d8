//! Sums, products, tables and softmax.

use super::shape::side_by_side;
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Sum of two tensors.
pub static ADD: Kernel = Kernel::in_place(Code::Add, add);
/// Product of two tensors.
pub static MUL: Kernel = Kernel::in_place(Code::Mul, mul);
/// Any function of one value.
pub static TABLE: Kernel = Kernel::in_place(Code::Table, table);
/// Softmax over the channels.
pub static SOFTMAX: Kernel = Kernel::in_place(Code::Softmax, softmax);

/// `out = f(a, b)`, where the second operand has as many values, one a channel, or one.
fn binary(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(i32, i32) -> i8) {
    let period = op.second().elements().max(1);
    let f = |a: u8, b: u8| f(i32::from(a.cast_signed()), i32::from(b.cast_signed())).cast_unsigned();
    if op.in_place {
        let (second, output) = memory.pair(op.second().range(), op.output.range());
        for part in output.chunks_mut(period) {
            for (out, b) in part.iter_mut().zip(second) {
                *out = f(*out, *b);
            }
        }
        return;
    }
    let (first, second, out) = apart(op, memory);
    side_by_side(first, period, out, period, |first, out| {
        for ((out, a), b) in out.iter_mut().zip(first).zip(second) {
            *out = f(*a, *b);
        }
    });
}

/// Both operands and the output, of an operator that does not work in place. The operands may be the same tensor, so the arena is split
/// around the output alone.
pub(in crate::kernels) fn apart<'m>(op: &Op<'_>, memory: &'m mut Memory<'_>) -> (&'m [u8], &'m [u8], &'m mut [u8]) {
    let output = op.output.range();
    let (before, rest) = memory.arena.split_at_mut_checked(output.start).unwrap_or_default();
    let (out, after) = rest.split_at_mut_checked(output.len()).unwrap_or_default();
    let (before, after) = (&*before, &*after);
    let part = |range: core::ops::Range<usize>| {
        if range.end <= output.start {
            before.get(range)
        } else {
            after.get(range.start.wrapping_sub(output.end)..range.end.wrapping_sub(output.end))
        }
        .unwrap_or_default()
    };
    (part(op.input().range()), part(op.second().range()), out)
}

/// The two 16-bit multipliers of an addition.
pub(crate) fn multipliers(op: &Op<'_>) -> (i32, i32) {
    op.factors()
}

/// clamp((a · ma + b · mb + c) >> shift): zero points, rounding and the output's zero point are in c.
fn add(op: &Op<'_>, memory: &mut Memory<'_>) {
    let ((ma, mb), c, shift) = (multipliers(op), op.b, u32::from(op.shift));
    let (min, max) = (i32::from(op.requant.min), i32::from(op.requant.max));
    binary(op, memory, |a, b| {
        ((a * ma).wrapping_add(b * mb).wrapping_add(c).wrapping_shr(shift)).max(min).min(max) as i8
    });
}

fn mul(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (za, zb) = (i32::from(op.input().quant.zero_point), i32::from(op.second().quant.zero_point));
    let (requant, multiplier) = (op.requant, Op::word(op.multipliers, 0));
    binary(op, memory, |a, b| requant.apply((a - za) * (b - zb), multiplier));
}

/// `table[q]`, q as an unsigned byte.
fn table(op: &Op<'_>, memory: &mut Memory<'_>) {
    let look = |q: u8| op.weights.get(usize::from(q)).copied().unwrap_or(q);
    if op.in_place {
        let (_, output) = memory.pair(0..0, op.output.range());
        output.iter_mut().for_each(|q| *q = look(*q));
        return;
    }
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    for (out, q) in output.iter_mut().zip(input) {
        *out = look(*q);
    }
}

/// With d = greatest − q and the table's e(d) = round(2^20 · exp(−scale · d)):
/// zero point + floor((e · a + Σe / 2) / Σe), a = round(1 / output scale).
fn softmax(op: &Op<'_>, memory: &mut Memory<'_>) {
    let channels = op.output.channels();
    let exp = |greatest: i8, q: u8| {
        let distance = i32::from(greatest) - i32::from(q.cast_signed());
        Op::word(op.weights, usize::try_from(distance).unwrap_or(0)).cast_unsigned()
    };
    let scale = u64::from(op.a.cast_unsigned());
    let requant = op.requant;
    let one = |row: &mut [u8]| {
        let greatest = row.iter().map(|q| q.cast_signed()).max().unwrap_or(0);
        let sum: u64 = row.iter().map(|q| u64::from(exp(greatest, *q))).sum();
        for q in row {
            let share = (u64::from(exp(greatest, *q)) * scale + sum / 2).checked_div(sum).unwrap_or(0);
            let value = share.min(1 << 16) as i32 + i32::from(requant.zero_point);
            *q = value.max(i32::from(requant.min)).min(i32::from(requant.max)) as i8 as u8;
        }
    };
    if !op.in_place {
        let (input, output) = memory.pair(op.input().range(), op.output.range());
        for (out, q) in output.iter_mut().zip(input) {
            *out = *q;
        }
    }
    let (_, output) = memory.pair(0..0, op.output.range());
    output.chunks_mut(channels.max(1)).for_each(one);
}
