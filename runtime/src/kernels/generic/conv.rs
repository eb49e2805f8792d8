//! Convolutions and dense layers.

use super::shape::{copy, side_by_side};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op, Requant, Window};

/// Convolution.
pub static CONV: Kernel = Kernel::in_place(Code::Conv, conv);
/// Depthwise convolution.
pub static DEPTHWISE: Kernel = Kernel::in_place(Code::Depthwise, depthwise);
/// Dense layer.
pub static DENSE: Kernel = Kernel::in_place(Code::Dense, dense);

/// Σ over `patch` of the products with four rows of weights in blocks of 4 × 4, onto `acc`. Wrapping.
fn dot4(patch: &[u8], blocks: &[u8], mut acc: [i32; 4]) -> [i32; 4] {
    for (xs, block) in patch.chunks(4).zip(blocks.as_chunks::<16>().0) {
        for (acc, row) in acc.iter_mut().zip(block.as_chunks::<4>().0) {
            for (x, w) in xs.iter().zip(row) {
                *acc = acc.wrapping_add(i32::from(x.cast_signed()) * i32::from(w.cast_signed()));
            }
        }
    }
    acc
}

/// Four int32 numbers from block `index` of a table.
fn four(table: &[u8], index: usize) -> [i32; 4] {
    let mut out = [0; 4];
    let words = table.as_chunks::<16>().0.get(index).map_or(&[][..], |block| block.as_chunks::<4>().0);
    for (to, from) in out.iter_mut().zip(words) {
        *to = i32::from_le_bytes(*from);
    }
    out
}

/// One row of outputs from one patch, every four from their block of weights: calls `f` with the sums and the multipliers of each.
#[inline(never)]
pub(super) fn blocks(patch: &[u8], op: &Op<'_>, group: usize, f: &mut dyn FnMut([i32; 4], [i32; 4])) {
    let bytes = (4 * patch.len().next_multiple_of(4)).max(1);
    let count = op.group_outputs().div_ceil(4);
    for (index, blocks) in op.weights.chunks(bytes).enumerate().skip(group * count).take(count) {
        f(dot4(patch, blocks, four(op.bias, index)), four(op.multipliers, index));
    }
}

#[inline(never)]
fn row(patch: &[u8], op: &Op<'_>, group: usize, out: &mut [u8]) {
    let mut fours = out.chunks_mut(4);
    blocks(patch, op, group, &mut |acc, multipliers| {
        store(op.requant, acc, multipliers, fours.next().unwrap_or_default());
    });
}

fn store(requant: Requant, acc: [i32; 4], multipliers: [i32; 4], out: &mut [u8]) {
    for ((out, acc), multiplier) in out.iter_mut().zip(acc).zip(multipliers) {
        *out = requant.apply(acc, multiplier).cast_unsigned();
    }
}

fn dense(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    row(input, op, 0, output);
}

fn conv(op: &Op<'_>, memory: &mut Memory<'_>) {
    if op.window.is_pointwise() && op.groups == 1 {
        return pointwise(op, memory);
    }
    let (input, output, scratch) = memory.triple(op.input().range(), op.output.range(), op.scratch_range());
    let (width, outputs) = (op.output.width(), op.group_outputs());
    let Some(patch) = scratch.get_mut(..op.depth()) else { return };
    for (index, pixel) in output.chunks_exact_mut(op.output.channels().max(1)).enumerate() {
        for (group, out) in pixel.chunks_exact_mut(outputs.max(1)).enumerate() {
            gather(op, input, row_and_column(index, width), group, patch);
            row(patch, op, group, out);
        }
    }
}

/// In place from the front where pixels shrink, from the back where they grow, so that no pixel is overwritten before its turn.
fn pointwise(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (inputs, outputs) = (op.input().channels(), op.output.channels());
    if !op.in_place {
        let (input, output) = memory.pair(op.input().range(), op.output.range());
        return side_by_side(input, inputs.max(1), output, outputs.max(1), |pixel, out| row(pixel, op, 0, out));
    }
    let start = op.input().range().start;
    let pixels = op.output.height() * op.output.width();
    for index in 0..pixels {
        let index = if outputs > inputs { pixels - 1 - index } else { index };
        let both = start..start + pixels * inputs.max(outputs);
        let (_, tensors, scratch) = memory.triple(0..0, both, op.scratch_range());
        let Some(patch) = scratch.get_mut(..inputs) else { return };
        let Some(pixel) = tensors.get(index * inputs..(index + 1) * inputs) else { return };
        copy(patch, pixel);
        let Some(out) = tensors.get_mut(index * outputs..(index + 1) * outputs) else { return };
        row(patch, op, 0, out);
    }
}

/// The input's values under the window at output place `at`, for one group; the zero point outside the input.
fn gather(op: &Op<'_>, input: &[u8], at: [usize; 2], group: usize, patch: &mut [u8]) {
    let (channels, depth) = (op.input().channels(), op.group_inputs());
    let zero = op.input().quant.zero_point.cast_unsigned();
    for (tap, part) in patch.chunks_exact_mut(depth.max(1)).enumerate() {
        let place = source(&op.window, at, tap, op.input().shape);
        let values =
            place.and_then(|pixel| input.get(pixel * channels + group * depth..)).and_then(|rest| rest.get(..depth));
        match values {
            Some(values) => copy(part, values),
            None => part.fill(zero),
        }
    }
}

/// Row and column of pixel `index`.
pub(super) fn row_and_column(index: usize, width: usize) -> [usize; 2] {
    // A checked plan has no tensor without columns.
    [index.checked_div(width).unwrap_or(0), index.checked_rem(width).unwrap_or(0)]
}

/// Index of the input pixel under tap `tap` of the window at output place `at`; `None` outside the input.
pub(super) fn source(window: &Window, at: [usize; 2], tap: usize, shape: [usize; 3]) -> Option<usize> {
    let ([y, x], [height, width, _]) = (at, shape);
    let ([_, columns], [sy, sx], [dy, dx], [top, left]) = (window.kernel, window.stride, window.dilation, window.pad);
    let y = (y * sy + tap.checked_div(columns)? * dy).checked_sub(top)?;
    let x = (x * sx + tap.checked_rem(columns)? * dx).checked_sub(left)?;
    (y < height && x < width).then_some(y * width + x)
}

fn depthwise(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    let (channels, width, taps) = (op.output.channels(), op.output.width(), op.window.taps());
    let zero = op.input().quant.zero_point.cast_unsigned();
    for (index, pixel) in output.chunks_exact_mut(channels.max(1)).enumerate() {
        let at = row_and_column(index, width);
        let blocks = op.weights.chunks((4 * taps.next_multiple_of(2)).max(1));
        for (block, (weights, out)) in blocks.zip(pixel.chunks_mut(4)).enumerate() {
            let mut acc = four(op.bias, block);
            for tap in 0..taps {
                let place = source(&op.window, at, tap, op.input().shape);
                let xs = place.and_then(|pixel| input.get(pixel * channels + 4 * block..));
                // a₀ a₁ b₀ b₁ a₂ a₃ b₂ b₃ for taps a, b and channels 0 to 3.
                let pair = weights.as_chunks::<8>().0.get(tap / 2).copied().unwrap_or_default();
                let [a0, a1, b0, b1, a2, a3, b2, b3] = pair;
                let ws = if tap % 2 == 0 { [a0, a1, a2, a3] } else { [b0, b1, b2, b3] };
                for (channel, (acc, w)) in acc.iter_mut().zip(ws).enumerate() {
                    let x = xs.map_or(zero, |xs| xs.get(channel).copied().unwrap_or(zero));
                    *acc = acc.wrapping_add(i32::from(x.cast_signed()) * i32::from(w.cast_signed()));
                }
            }
            store(op.requant, acc, four(op.multipliers, block), out);
        }
    }
}
