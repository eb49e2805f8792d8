//! Convolutions and dense layers: which rows a product has, block by block of pixels.

use super::bands::{BAND_BYTES, Bands};
use super::pack::Layout;
use super::product::{Isa, Offset, Panel, Rows, Starts};
use crate::kernels::Memory;
use crate::plan::Op;

/// Pixels of a block, at most.
const BLOCK_PIXELS: usize = 1024;
/// The only run of every row.
pub(super) const RUN: &[Offset] = &[[0; 8]];
/// The only row.
const ONE: Starts<'_> = Starts::Every { bytes: 0, count: 1 };
/// What a row may read behind its last value.
const SLACK: usize = 64;

/// Bytes of an activation.
const fn width<I: Isa>() -> usize {
    4 / I::GROUP
}

/// Distance of rows of `values` activations: not a multiple of a large power of two, which would crowd a few sets of the cache.
pub(super) fn row_bytes<I: Isa>(values: usize) -> usize {
    let bytes = (values * width::<I>()).next_multiple_of(4);
    if bytes.is_multiple_of(512) { bytes + 64 } else { bytes }
}

/// Whether every output depends on one pixel of the input alone.
fn is_pointwise(op: &Op<'_>) -> bool {
    op.window.is_one_pixel() && op.groups == 1
}

/// How many pixels of a pointwise convolution are worked on at a time.
fn block_pixels<I: Isa>(op: &Op<'_>) -> usize {
    let pixels = op.output.height() * op.output.width();
    // A multiple of the rows of a tile, and of their pairs.
    let most = (BAND_BYTES / row_bytes::<I>(op.input().channels()) / 12 * 12).clamp(12, BLOCK_PIXELS / 12 * 12);
    // Blocks of equal size, so that the last is not a short one.
    pixels.div_ceil(pixels.div_ceil(most)).next_multiple_of(6).min(pixels.max(1))
}

/// Bytes of workspace: the offsets of a block's rows, then their activations.
pub(super) fn workspace_bytes<I: Isa>(op: &Op<'_>) -> usize {
    if is_pointwise(op) {
        let pixels = block_pixels::<I>(op);
        pixels * row_bytes::<I>(op.input().channels()) + SLACK
    } else {
        let bands = Bands::new(op, op.input().channels() * width::<I>());
        8 * (Layout::of::<I>(op).runs + bands.rows * op.output.width()) + bands.bytes(op) + SLACK
    }
}

/// Convolution.
pub(super) fn conv<I: Isa>(op: &Op<'_>, memory: &mut Memory<'_>) {
    if is_pointwise(op) { pointwise::<I>(op, memory) } else { windows::<I>(op, memory) }
}

/// The first `count` offsets of the workspace, and the rest of it.
fn offsets(workspace: &mut [u8], count: usize) -> (&mut [Offset], &mut [u8]) {
    let (offsets, rest) = workspace.split_at_mut_checked(8 * count).unwrap_or_default();
    (offsets.as_chunks_mut().0, rest)
}

fn offset(at: usize) -> Offset {
    (at as u64).to_ne_bytes()
}

/// All outputs of one group for the rows of a block.
fn product<I: Isa>(op: &Op<'_>, layout: &Layout, rows: &Rows<'_>, packed: &mut &[u8], out: &mut [u8]) {
    let mut first = 0;
    for outputs in layout.panels::<I>() {
        let Some((panel, rest)) = Panel::split::<I>(packed, outputs, layout.runs * layout.steps) else { return };
        *packed = rest;
        I::panel(rows, &panel, op.requant, out.get_mut(first..).unwrap_or_default(), op.output.channels(), outputs);
        first += outputs;
    }
}

/// Pixels are copied into the workspace a block at a time, from the last block on where they grow, so that a convolution in place
/// overwrites no pixel before its turn.
fn pointwise<I: Isa>(op: &Op<'_>, memory: &mut Memory<'_>) {
    let layout = Layout::of::<I>(op);
    let ([_, in_width, inputs], [_, out_width, outputs]) = (op.input().shape, op.output.shape);
    let ([down, right], pixels) = (op.window.stride, op.output.height() * out_width);
    let (block, bytes) = (block_pixels::<I>(op), row_bytes::<I>(inputs));
    let activations = &mut *memory.workspace;
    let blocks = pixels.div_ceil(block);
    for index in 0..blocks {
        let first = block * if outputs > inputs { blocks - 1 - index } else { index };
        let count = block.min(pixels - first);
        let input = memory.arena.get(op.input().range()).unwrap_or_default();
        if op.window.is_pointwise() {
            let input = input.get(first * inputs..(first + count) * inputs).unwrap_or_default();
            if bytes == inputs * width::<I>() {
                I::unpack(input, activations);
            } else {
                for (from, to) in input.chunks_exact(inputs).zip(activations.chunks_exact_mut(bytes)) {
                    I::unpack(from, to);
                }
            }
        } else {
            for (pixel, to) in (first..first + count).zip(activations.chunks_exact_mut(bytes)) {
                let place = (pixel / out_width * down) * in_width + pixel % out_width * right;
                I::unpack(input.get(place * inputs..(place + 1) * inputs).unwrap_or_default(), to);
            }
        }
        let starts = Starts::Every { bytes, count };
        let Some(rows) = Rows::new(activations, starts, RUN, layout.steps) else { return };
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        let output = output.get_mut(first * outputs..(first + count) * outputs).unwrap_or_default();
        product::<I>(op, &layout, &rows, &mut &*memory.packed, output);
    }
}

/// Any window: bands of the input with their border in the workspace.
fn windows<I: Isa>(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (layout, element) = (Layout::of::<I>(op), width::<I>());
    let bands = Bands::new(op, op.input().channels() * element);
    let [_, out_width, outputs] = op.output.shape;
    let (runs, rest) = offsets(memory.workspace, layout.runs);
    let (offsets, activations) = offsets(rest, bands.rows * out_width);
    for (y, row) in offsets.chunks_exact_mut(out_width).enumerate() {
        for (x, at) in row.iter_mut().enumerate() {
            *at = offset(bands.patch(op, y, x));
        }
    }
    let columns = layout.runs.checked_div(op.window.kernel[0]).unwrap_or(1).max(1);
    for (index, run) in runs.iter_mut().enumerate() {
        *run = offset(bands.tap(op, index / columns, index % columns));
    }
    for rows in bands.iter(op) {
        let input = memory.arena.get(op.input().range()).unwrap_or_default();
        bands.fill(op, rows.clone(), input, activations, element, I::unpack);
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        let output = output.get_mut(rows.start * out_width * outputs..rows.end * out_width * outputs);
        let (output, mut packed) = (output.unwrap_or_default(), memory.packed);
        let offsets = offsets.get(..rows.len() * out_width).unwrap_or_default();
        for group in 0..layout.groups {
            let own = activations.get(group * layout.inputs * element..).unwrap_or_default();
            let Some(rows) = Rows::new(own, Starts::At(offsets), runs, layout.steps) else { return };
            product::<I>(op, &layout, &rows, &mut packed, output.get_mut(group * layout.outputs..).unwrap_or_default());
        }
    }
}

/// Dense layer.
pub(super) fn dense<I: Isa>(op: &Op<'_>, memory: &mut Memory<'_>) {
    let layout = Layout::of::<I>(op);
    unpack_row::<I>(op, memory);
    let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
    if let Some(rows) = Rows::new(memory.workspace, ONE, RUN, layout.steps) {
        product::<I>(op, &layout, &rows, &mut &*memory.packed, output);
    }
}

/// Dense layer whose scores leave as f32(accumulator) · multiplier.
pub(super) fn dense_float<I: Isa>(op: &Op<'_>, memory: &mut Memory<'_>) {
    let layout = Layout::of::<I>(op);
    unpack_row::<I>(op, memory);
    let Some(rows) = Rows::new(memory.workspace, ONE, RUN, layout.steps) else { return };
    let mut packed = memory.packed;
    for (outputs, out) in layout.panels::<I>().zip(memory.output.chunks_mut(I::LANES)) {
        let Some((panel, rest)) = Panel::split::<I>(packed, outputs, layout.steps) else { return };
        packed = rest;
        for ((out, acc), index) in out.iter_mut().zip(I::single(&rows, &panel)).zip(0..outputs) {
            *out = acc as f32 * panel.float_multiplier(index);
        }
    }
}

fn unpack_row<I: Isa>(op: &Op<'_>, memory: &mut Memory<'_>) {
    let input = memory.arena.get(op.input().range()).unwrap_or_default();
    I::unpack(input, memory.workspace);
}

/// Bytes of workspace of a dense layer: its input.
pub(super) fn dense_workspace_bytes<I: Isa>(op: &Op<'_>) -> usize {
    op.input().elements() * width::<I>() + SLACK
}
