//! Where int8 meets float: the model's input, and scores.

use super::conv::blocks;
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op, Tensor};

/// Dense layer whose scores leave as f32.
pub static DENSE_FLOAT: Kernel = Kernel::in_place(Code::DenseFloat, dense_float);
/// int8 to f32.
pub static DEQUANTIZE: Kernel = Kernel::in_place(Code::Dequantize, dequantize);
/// Mean of every channel, as f32.
pub static MEAN_FLOAT: Kernel = Kernel::in_place(Code::MeanFloat, mean_float);
/// Softmax over f32 scores.
pub static SOFTMAX_FLOAT: Kernel = Kernel::in_place(Code::SoftmaxFloat, softmax_float);

/// See [`crate::kernels::QuantizeInput`].
pub fn quantize(input: &[f32], tensor: &Tensor, channels_first: bool, bytes: &mut [u8]) {
    fill(input, tensor, channels_first, bytes.as_chunks_mut().0, |x| [tensor.quant.quantize(x).cast_unsigned()]);
}

/// As [`quantize`], to f16: rounded to the nearest, to even at halves; beyond the range of f16 infinite.
#[cfg(feature = "f16")]
pub fn halve(input: &[f32], tensor: &Tensor, channels_first: bool, bytes: &mut [u8]) {
    fill(input, tensor, channels_first, bytes.as_chunks_mut().0, |x| narrow(x).to_le_bytes());
}

/// Never called: [`crate::plan::Plan::parse`] refuses tensors in f16 in a build without them.
#[cfg(not(feature = "f16"))]
pub fn halve(_: &[f32], _: &Tensor, _: bool, _: &mut [u8]) {}

fn fill<const SIZE: usize>(
    input: &[f32],
    tensor: &Tensor,
    channels_first: bool,
    values: &mut [[u8; SIZE]],
    store: impl Fn(f32) -> [u8; SIZE],
) {
    let (channels, pixels) = (tensor.channels(), tensor.height() * tensor.width());
    for (index, out) in values.iter_mut().enumerate() {
        let place = if channels_first {
            // A checked plan has no tensor without channels.
            index.checked_rem(channels).unwrap_or(0) * pixels + index.checked_div(channels).unwrap_or(0)
        } else {
            index
        };
        *out = store(input.get(place).copied().unwrap_or(0.0));
    }
}

/// The nearest f16, to even at halves, in integer operations that compilers turn into vectors; infinite from 65,520 on, and what is no
/// number stays none.
#[cfg(feature = "f16")]
#[inline(always)]
pub(crate) fn narrow(x: f32) -> u16 {
    let bits = x.to_bits();
    let size = bits & 0x7FFF_FFFF;
    let sign = (bits >> 16) as u16 & 0x8000;
    // Exponents count from 127 in f32 and from 15 in f16; half of the last place is added, a little less where that place is even.
    let normal = size.wrapping_sub((127 - 15) << 23).wrapping_add(0xFFF + (size >> 13 & 1)) >> 13;
    // 0.5 has 2^-24 as its last place, the smallest f16: adding rounds to it.
    let small = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let huge = if size > 0x7F80_0000 { 0x7E00 } else { 0x7C00 };
    let rounded = if size < (127 - 14) << 23 {
        small
    } else if size < (127 + 16) << 23 {
        normal
    } else {
        huge
    };
    sign | rounded as u16
}

/// f32(accumulator) · multiplier, the multipliers being f32 here: input scale · weight scale.
fn dense_float(op: &Op<'_>, memory: &mut Memory<'_>) {
    let input = memory.arena.get(op.input().range()).unwrap_or_default();
    let mut fours = memory.output.chunks_mut(4);
    blocks(input, op, 0, &mut |acc, multipliers| {
        let out = fours.next().unwrap_or_default();
        for ((out, acc), multiplier) in out.iter_mut().zip(acc).zip(multipliers) {
            *out = acc as f32 * f32::from_bits(multiplier.cast_unsigned());
        }
    });
}

fn dequantize(op: &Op<'_>, memory: &mut Memory<'_>) {
    let input = memory.arena.get(op.input().range()).unwrap_or_default();
    for (out, q) in memory.output.iter_mut().zip(input) {
        *out = op.input().quant.dequantize(q.cast_signed());
    }
}

fn mean_float(op: &Op<'_>, memory: &mut Memory<'_>) {
    let input = memory.arena.get(op.input().range()).unwrap_or_default();
    let (channels, zero) = (op.input().channels(), i32::from(op.input().quant.zero_point));
    let multiplier = f32::from_bits(Op::word(op.multipliers, 0).cast_unsigned());
    for (channel, out) in memory.output.iter_mut().enumerate().take(channels) {
        let sum = input.iter().skip(channel).step_by(channels.max(1)).map(|q| i32::from(q.cast_signed()) - zero);
        *out = sum.fold(0i32, i32::wrapping_add) as f32 * multiplier;
    }
}

/// exp(x − greatest) / Σ over the channels, in `libm`'s exp and in order: the same bits on every target.
fn softmax_float(op: &Op<'_>, memory: &mut Memory<'_>) {
    let scores = memory.output.get_mut(..op.output.elements()).unwrap_or_default();
    for row in scores.chunks_mut(op.output.channels().max(1)) {
        let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for x in row.iter_mut() {
            *x = libm::expf(*x - greatest);
            sum += *x;
        }
        row.iter_mut().for_each(|x| *x /= sum);
    }
}
