//! Where int8 meets float: the model's input, and scores.

use super::conv::{dot4, four};
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
    let channels = tensor.channels();
    let planes = if channels_first { tensor.height() * tensor.width() } else { 0 };
    for (index, pixel) in bytes.chunks_exact_mut(channels.max(1)).enumerate() {
        for (channel, out) in pixel.iter_mut().enumerate() {
            let place = if channels_first { channel * planes + index } else { index * channels + channel };
            *out = tensor.quant.quantize(input.get(place).copied().unwrap_or(0.0)).cast_unsigned();
        }
    }
}

/// f32(accumulator) · multiplier, the multipliers being f32 here: input scale · weight scale.
fn dense_float(op: &Op<'_>, memory: &mut Memory<'_>) {
    let input = memory.arena.get(op.input().range()).unwrap_or_default();
    let blocks = op.weights.chunks((4 * op.depth().next_multiple_of(4)).max(1));
    for (index, (blocks, out)) in blocks.zip(memory.output.chunks_mut(4)).enumerate() {
        let acc = dot4(input, blocks, four(op.bias, index));
        for ((out, acc), scale) in out.iter_mut().zip(acc).zip(four(op.multipliers, index)) {
            *out = acc as f32 * f32::from_bits(scale.cast_unsigned());
        }
    }
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
