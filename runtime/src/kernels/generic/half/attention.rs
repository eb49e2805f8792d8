//! What transformers have beside dense layers: softmax, layer normalization, products of two tensors.

use super::conv::{TILE, TILE_BYTES, get, interleave, product, set};
use super::values::{SIZE, store, widen};
use crate::kernels::{Kernel, Memory};
use crate::plan::format::PANEL;
use crate::plan::{Code, Op};

/// Softmax over the channels.
pub static SOFTMAX: Kernel = Kernel::with_workspace(Code::Softmax16, row_bytes, softmax);
/// Layer normalization over the channels.
pub static LAYER_NORM: Kernel = Kernel::with_workspace(Code::LayerNorm16, row_bytes, layer_norm);
/// Matrix product of two tensors.
pub static MAT_MUL: Kernel =
    Kernel::with_workspace(Code::MatMul16, |op| op.depth() * (TILE_BYTES + PANEL * 4), mat_mul);

/// One row of channels in f32.
fn row_bytes(op: &Op<'_>) -> usize {
    op.output.channels() * 4
}

/// Every row of channels in f32, changed by `f`, then stored.
fn rows(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(&mut [[u8; 4]])) {
    let channels = op.output.channels();
    let (input, output) = (op.input().range(), op.output.range());
    let wide = memory.workspace.as_chunks_mut().0.get_mut(..channels).unwrap_or_default();
    for row in 0..op.output.height() * op.output.width() {
        let place = row * channels..(row + 1) * channels;
        let from = memory.arena.get(input.clone()).unwrap_or_default().as_chunks::<SIZE>().0;
        for (to, from) in wide.iter_mut().zip(from.get(place.clone()).unwrap_or_default()) {
            *to = widen(*from).to_ne_bytes();
        }
        f(wide);
        let to = memory.arena.get_mut(output.clone()).unwrap_or_default().as_chunks_mut::<SIZE>().0;
        for (to, from) in to.get_mut(place).unwrap_or_default().iter_mut().zip(wide.iter()) {
            store(to, f32::from_ne_bytes(*from));
        }
    }
}

fn each(row: &mut [[u8; 4]], mut f: impl FnMut(f32) -> f32) {
    row.iter_mut().for_each(|x| *x = f(f32::from_ne_bytes(*x)).to_ne_bytes());
}

fn sum(row: &[[u8; 4]], f: impl Fn(f32) -> f32) -> f32 {
    row.iter().fold(0.0, |sum, x| sum + f(f32::from_ne_bytes(*x)))
}

/// exp(x − greatest) / Σ.
fn softmax(op: &Op<'_>, memory: &mut Memory<'_>) {
    rows(op, memory, |row| {
        let greatest = row.iter().fold(f32::NEG_INFINITY, |greatest, x| greatest.max(f32::from_ne_bytes(*x)));
        each(row, |x| libm::expf(x - greatest));
        let whole = sum(row, |x| x);
        each(row, |x| x / whole);
    });
}

/// (x − mean) / √(variance + epsilon) · scale + summand (Ba, Kiros and Hinton, "Layer normalization", 2016).
fn layer_norm(op: &Op<'_>, memory: &mut Memory<'_>) {
    let ((epsilon, _), count) = (op.bounds(), op.output.channels() as f32);
    rows(op, memory, |row| {
        let mean = sum(row, |x| x) / count;
        each(row, |x| x - mean);
        let variance = sum(row, |x| x * x) / count;
        let factor = 1.0 / libm::sqrtf(variance + epsilon);
        let (scales, summands) = (op.multipliers.as_chunks().0, op.bias.as_chunks().0);
        for ((x, scale), summand) in row.iter_mut().zip(scales).zip(summands) {
            let value = f32::from_ne_bytes(*x) * factor * f32::from_le_bytes(*scale) + f32::from_le_bytes(*summand);
            *x = value.to_ne_bytes();
        }
    });
}

/// Eight columns of the second operand in f32 at a time, then four rows of the first.
fn mat_mul(op: &Op<'_>, memory: &mut Memory<'_>) {
    let ([heads, height, depth], [_, _, width]) = (op.input().shape, op.output.shape);
    let (factor, _) = op.bounds();
    let (tile, panel) = memory.workspace.split_at_mut_checked(depth * TILE_BYTES).unwrap_or_default();
    let (tile, panel) = (tile.as_chunks_mut().0, panel.as_chunks_mut::<{ PANEL * 4 }>().0);
    let Some(panel) = panel.get_mut(..depth) else { return };
    let of = |head: usize, size: usize| head * size..(head + 1) * size;
    for head in 0..heads {
        for first in (0..width).step_by(PANEL) {
            let second = memory.arena.get(op.second().range()).unwrap_or_default().as_chunks::<SIZE>().0;
            let second = second.get(of(head, depth * width)).unwrap_or_default();
            for (k, to) in panel.iter_mut().enumerate() {
                let mut values = [0.0; PANEL];
                for (value, column) in values.iter_mut().zip(first..width) {
                    let place = if op.shift == 1 { column * depth + k } else { k * width + column };
                    *value = second.get(place).map_or(0.0, |value| widen(*value));
                }
                set(to, values);
            }
            for top in (0..height).step_by(TILE) {
                let input = memory.arena.get(op.input().range()).unwrap_or_default().as_chunks::<SIZE>().0;
                let input = input.get(of(head, height * depth)).unwrap_or_default();
                for row in 0..TILE.min(height - top) {
                    interleave(input.get((top + row) * depth..).unwrap_or_default(), tile, row);
                }
                let sums: [_; TILE] = product(tile, panel.iter().map(get), [0.0; PANEL]);
                let output = memory.arena.get_mut(op.output.range()).unwrap_or_default().as_chunks_mut::<SIZE>().0;
                for (sums, row) in sums.iter().zip(top..height) {
                    let place = (head * height + row) * width + first;
                    let out = output.get_mut(place..).unwrap_or_default();
                    for ((out, sum), _) in out.iter_mut().zip(sums).zip(first..width) {
                        store(out, sum * factor);
                    }
                }
            }
        }
    }
}
