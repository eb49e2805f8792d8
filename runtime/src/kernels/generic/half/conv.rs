//! Convolutions and dense layers: four rows of activations at a time with a panel of eight outputs.

use super::values::{SIZE, Wide, clamp, eight, store, widen, widen_panel};
use crate::kernels::generic::conv::{row_and_column, source};
use crate::kernels::{Kernel, Memory};
use crate::plan::format::PANEL;
use crate::plan::{Code, Op};

/// Convolution.
pub static CONV: Kernel = Kernel::with_workspace(Code::Conv16, |op| op.depth() * TILE_BYTES, conv);
/// Depthwise convolution.
pub static DEPTHWISE: Kernel =
    Kernel::with_workspace(Code::Depthwise16, |op| op.output.channels().next_multiple_of(PANEL) * 4, depthwise);
/// Dense layer.
pub static DENSE: Kernel = Kernel::with_workspace(Code::Dense16, |op| op.depth() * 4, dense);

/// Rows of activations that are multiplied at a time.
pub(super) const TILE: usize = 4;
/// One value of each row of a tile, in f32.
pub(super) const TILE_BYTES: usize = TILE * 4;

/// Bytes of one panel of weights.
fn panel_bytes(depth: usize) -> usize {
    (depth * PANEL * SIZE).max(1)
}

/// The products of `ROWS` rows of activations, interleaved, with a panel, onto `start`.
pub(super) fn product<const ROWS: usize>(
    rows: &[Wide],
    panel: impl Iterator<Item = [f32; PANEL]>,
    start: [f32; PANEL],
) -> [[f32; PANEL]; ROWS] {
    let mut sums = [start; ROWS];
    for (xs, weights) in rows.as_chunks::<ROWS>().0.iter().zip(panel) {
        for (sums, x) in sums.iter_mut().zip(xs) {
            let x = f32::from_ne_bytes(*x);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += x * weight;
            }
        }
    }
    sums
}

/// All outputs of one group for the first `count` rows of a tile, each row's outputs from `out[row · stride]` on.
fn tile(op: &Op<'_>, group: usize, rows: &[Wide], count: usize, out: &mut [[u8; SIZE]], stride: usize) {
    let (outputs, bounds) = (op.group_outputs(), op.bounds());
    let per_group = outputs.div_ceil(PANEL);
    let panels = op.weights.chunks_exact(panel_bytes(op.depth())).enumerate().skip(group * per_group).take(per_group);
    for ((index, panel), first) in panels.zip((0..outputs).step_by(PANEL)) {
        let weights = panel.as_chunks::<{ PANEL * SIZE }>().0.iter().map(widen_panel);
        let sums: [_; TILE] = product(rows, weights, eight(op.bias, index));
        let width = PANEL.min(outputs - first);
        for (row, sums) in sums.iter().enumerate().take(count) {
            let out = out.get_mut(row * stride + first..).and_then(|out| out.get_mut(..width)).unwrap_or_default();
            for (out, sum) in out.iter_mut().zip(sums) {
                store(out, clamp(*sum, bounds));
            }
        }
    }
}

fn dense(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (input, output, row) = memory.pair_and_workspace(op.input().range(), op.output.range());
    let row = row.as_chunks_mut().0;
    for (to, from) in row.iter_mut().zip(input.as_chunks().0) {
        *to = widen(*from).to_ne_bytes();
    }
    let row = row.get(..op.depth()).unwrap_or_default();
    let panels = op.weights.chunks_exact(panel_bytes(op.depth()));
    let (bounds, output) = (op.bounds(), output.as_chunks_mut().0);
    for (index, (panel, out)) in panels.zip(output.chunks_mut(PANEL)).enumerate() {
        let weights = panel.as_chunks::<{ PANEL * SIZE }>().0.iter().map(widen_panel);
        let [sums] = product(row, weights, eight(op.bias, index));
        for (out, sum) in out.iter_mut().zip(sums) {
            store(out, clamp(sum, bounds));
        }
    }
}

fn conv(op: &Op<'_>, memory: &mut Memory<'_>) {
    let pixels = op.output.height() * op.output.width();
    let outputs = op.output.channels();
    let is_pointwise = op.window.is_pointwise() && op.groups == 1;
    let tiles = pixels.div_ceil(TILE);
    for index in 0..tiles {
        // In place from the front where pixels shrink, from the back where they grow, so that no pixel is overwritten before its turn.
        let index = if is_pointwise && outputs > op.input().channels() { tiles - 1 - index } else { index };
        let first = index * TILE;
        let count = TILE.min(pixels - first);
        let Some(rows) = memory.workspace.get_mut(..op.depth() * TILE_BYTES) else { return };
        let rows = rows.as_chunks_mut().0;
        for group in 0..op.groups {
            let input = memory.arena.get(op.input().range()).unwrap_or_default().as_chunks().0;
            for row in 0..count {
                if is_pointwise {
                    interleave(input.get((first + row) * op.depth()..).unwrap_or_default(), rows, row);
                } else {
                    gather(op, input, row_and_column(first + row, op.output.width()), group, rows, row);
                }
            }
            let output = memory.arena.get_mut(op.output.range()).unwrap_or_default().as_chunks_mut().0;
            let output = output.get_mut(first * outputs + group * op.group_outputs()..).unwrap_or_default();
            tile(op, group, rows, count, output, outputs);
        }
    }
}

/// Values as row `row` of a tile.
pub(super) fn interleave(from: &[[u8; SIZE]], rows: &mut [Wide], row: usize) {
    for (to, from) in rows.iter_mut().skip(row).step_by(TILE).zip(from) {
        *to = widen(*from).to_ne_bytes();
    }
}

/// The input's values under the window at output place `at`, for one group, as row `row` of a tile; zeros outside the input.
fn gather(op: &Op<'_>, input: &[[u8; SIZE]], at: [usize; 2], group: usize, rows: &mut [Wide], row: usize) {
    let (channels, depth) = (op.input().channels(), op.group_inputs());
    for (tap, part) in rows.chunks_exact_mut((depth * TILE).max(1)).enumerate() {
        let place = source(&op.window, at, tap, op.input().shape);
        let values = place.and_then(|pixel| input.get(pixel * channels + group * depth..));
        match values.and_then(|values| values.get(..depth)) {
            Some(values) => interleave(values, part, row),
            None => part.iter_mut().skip(row).step_by(TILE).for_each(|to| *to = [0; 4]),
        }
    }
}

fn depthwise(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (channels, width, taps) = (op.output.channels(), op.output.width(), op.window.taps());
    let (input, output, sums) = memory.pair_and_workspace(op.input().range(), op.output.range());
    let (input, bounds) = (input.as_chunks::<SIZE>().0, op.bounds());
    let sums = sums.as_chunks_mut::<{ PANEL * 4 }>().0;
    for (index, pixel) in output.as_chunks_mut::<SIZE>().0.chunks_exact_mut(channels.max(1)).enumerate() {
        for (block, sums) in sums.iter_mut().enumerate() {
            set(sums, eight(op.bias, block));
        }
        for tap in 0..taps {
            let place = source(&op.window, row_and_column(index, width), tap, op.input().shape);
            let Some(values) = place.and_then(|pixel| input.get(pixel * channels..)) else { continue };
            let values = values.get(..channels).unwrap_or_default();
            let weights = op.weights.as_chunks::<{ PANEL * SIZE }>().0.iter().skip(tap).step_by(taps.max(1));
            for ((sums, values), weights) in sums.iter_mut().zip(values.chunks(PANEL)).zip(weights) {
                let mut xs = [0.0; PANEL];
                for (x, value) in xs.iter_mut().zip(values) {
                    *x = widen(*value);
                }
                let mut next = get(sums);
                for ((sum, x), weight) in next.iter_mut().zip(xs).zip(widen_panel(weights)) {
                    *sum += x * weight;
                }
                set(sums, next);
            }
        }
        for (out, sums) in pixel.chunks_mut(PANEL).zip(sums.iter()) {
            for (out, sum) in out.iter_mut().zip(get(sums)) {
                store(out, clamp(sum, bounds));
            }
        }
    }
}

/// Eight f32 values, wherever they lie.
pub(super) fn get(from: &[u8; PANEL * 4]) -> [f32; PANEL] {
    let mut out = [0.0; PANEL];
    for (to, from) in out.iter_mut().zip(from.as_chunks().0) {
        *to = f32::from_ne_bytes(*from);
    }
    out
}

pub(super) fn set(to: &mut [u8; PANEL * 4], values: [f32; PANEL]) {
    for (to, value) in to.as_chunks_mut().0.iter_mut().zip(values) {
        *to = value.to_ne_bytes();
    }
}
