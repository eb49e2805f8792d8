//! Convolutions: which activations a product has, block by block of pixels.

use super::product::{Pixels, Runs, panel_floats, product};
use super::values::{SIZE, SLACK_BYTES, floats, widen};
use super::{row, winograd};
use crate::kernels::Memory;
use crate::plan::Op;

/// Activations of a block, in bytes of f32: they stay in the second level of cache.
const BLOCK_BYTES: usize = 256 * 1024;
/// Pixels of a block, at most.
const BLOCK_PIXELS: usize = 2048;
/// Bytes of an activation in the workspace.
const WIDE: usize = 4;

/// Whether every output depends on one pixel of the input alone.
fn is_pointwise(op: &Op<'_>) -> bool {
    op.window.is_one_pixel() && op.groups == 1
}

/// Whether there is one pixel only.
fn is_row(op: &Op<'_>) -> bool {
    let [[height, width, _], [out_height, out_width, _]] = [op.input().shape, op.output.shape];
    is_pointwise(op) && [height, width, out_height, out_width] == [1; 4]
}

/// Distance of a pixel's activations from the next one's: no multiple of a large power of two, which would crowd a few sets of the
/// cache.
fn pixel_floats(op: &Op<'_>) -> usize {
    let channels = op.input().channels();
    if channels.is_multiple_of(128) { channels + 16 } else { channels }
}

/// How many pixels of a pointwise convolution are worked on at a time.
fn block_pixels(op: &Op<'_>) -> usize {
    let pixels = op.output.height() * op.output.width();
    let most = (BLOCK_BYTES / (WIDE * pixel_floats(op)).max(1)).clamp(12, BLOCK_PIXELS);
    // Blocks of equal size, so that the last is not a short one.
    pixels.div_ceil(pixels.div_ceil(most).max(1)).next_multiple_of(12).min(pixels.max(1))
}

/// Rows of the input with their border, in the workspace, for some rows of the output at a time.
#[derive(Clone, Copy)]
struct Bands {
    /// Output rows of a band.
    rows: usize,
    /// Values of a row with its border.
    row: usize,
}

impl Bands {
    fn new(op: &Op<'_>) -> Self {
        let ([height, width, _], [tall, wide]) = (op.output.shape, op.window.extent());
        let [down, right] = op.window.stride;
        let row = (width.saturating_sub(1) * right + wide) * op.input().channels();
        let fit = (BLOCK_BYTES / (WIDE * row).max(1)).saturating_sub(tall.saturating_sub(down)) / down.max(1);
        let rows = fit.min(BLOCK_PIXELS / width.max(1)).clamp(1, height.max(1));
        // Bands of equal height.
        Self { rows: height.div_ceil(height.div_ceil(rows).max(1)).max(1), row }
    }

    /// Input rows under that many output rows.
    fn height(op: &Op<'_>, rows: usize) -> usize {
        rows.saturating_sub(1) * op.window.stride[0] + op.window.extent()[0]
    }
}

/// A panel of weights, then a block of activations.
pub(super) fn workspace_bytes(op: &Op<'_>) -> usize {
    if is_row(op) {
        row::workspace_bytes(op)
    } else if is_pointwise(op) {
        panel_floats(op) * WIDE + block_pixels(op) * pixel_floats(op) * WIDE + SLACK_BYTES
    } else if winograd::fits(op) {
        winograd::workspace_bytes(op)
    } else {
        let bands = Bands::new(op);
        (panel_floats(op) + Bands::height(op, bands.rows) * bands.row) * WIDE + SLACK_BYTES
    }
}

pub(super) fn conv(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has all of it.
    unsafe {
        if is_row(op) {
            row::row(op, memory);
        } else if is_pointwise(op) {
            pointwise(op, memory);
        } else if winograd::fits(op) {
            winograd::run(op, memory);
        } else {
            windows(op, memory);
        }
    }
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn pointwise(op: &Op<'_>, memory: &mut Memory<'_>) {
    let ([_, width, channels], [out_height, out_width, outputs]) = (op.input().shape, op.output.shape);
    let [down, right] = op.window.stride;
    let (pixels, block, step) = (out_height * out_width, block_pixels(op), pixel_floats(op));
    let blocks = pixels.div_ceil(block);
    let Some((panel, values)) = floats(memory.workspace).split_at_mut_checked(panel_floats(op)) else { return };
    for index in 0..blocks {
        // In place from the front where pixels shrink, from the back where they grow, so that no pixel is overwritten before its turn.
        let index = if outputs > channels { blocks - 1 - index } else { index };
        let first = index * block;
        let count = block.min(pixels - first);
        let input = memory.arena.get(op.input().range()).unwrap_or_default();
        let Some(values) = values.get_mut(..count * step) else { return };
        if step == channels && [down, right] == [1, 1] {
            widen(input.get(first * channels * SIZE..).unwrap_or_default(), values);
        } else {
            for (place, to) in (first..).zip(values.chunks_exact_mut(step.max(1))) {
                let pixel = place / out_width * down * width + place % out_width * right;
                let from = input.get(pixel * channels * SIZE..).unwrap_or_default();
                widen(from, to.get_mut(..channels).unwrap_or_default());
            }
        }
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        let output = output.get_mut(first * outputs * SIZE..(first + count) * outputs * SIZE).unwrap_or_default();
        let pixels = Pixels { rows: 1, row_step: 0, columns: count, column_step: step };
        let runs = Runs::one(channels);
        product(op, 0, (values, pixels, runs), panel, output, outputs * SIZE);
    }
}

/// Any window: bands of the input with their border in the workspace.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn windows(op: &Op<'_>, memory: &mut Memory<'_>) {
    let bands = Bands::new(op);
    let ([_, out_width, outputs], channels) = (op.output.shape, op.group_inputs());
    let Some((panel, values)) = floats(memory.workspace).split_at_mut_checked(panel_floats(op)) else { return };
    let [down, across] = op.window.kernel;
    let (row, pixel) = (bands.row, op.input().channels());
    let ([down_dilation, across_dilation], [down_stride, across_stride]) = (op.window.dilation, op.window.stride);
    let runs =
        Runs { down, down_step: row * down_dilation, across, across_step: pixel * across_dilation, len: channels };
    // Taps side by side are one run.
    let is_dense = op.groups == 1 && across_dilation == 1;
    let runs = if is_dense { Runs { across: 1, across_step: 0, len: across * channels, ..runs } } else { runs };
    for top in (0..op.output.height()).step_by(bands.rows) {
        let rows = top..(top + bands.rows).min(op.output.height());
        let input = memory.arena.get(op.input().range()).unwrap_or_default();
        let first = rows.start * down_stride;
        for (y, to) in (first..first + Bands::height(op, rows.len())).zip(values.chunks_exact_mut(row.max(1))) {
            fill_row(op, y, input, to);
        }
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        let stride = outputs * SIZE;
        let output = output.get_mut(rows.start * out_width * stride..rows.end * out_width * stride);
        let output = output.unwrap_or_default();
        let pixels = Pixels {
            rows: rows.len(),
            row_step: row * down_stride,
            columns: out_width,
            column_step: pixel * across_stride,
        };
        for group in 0..op.groups {
            let own = values.get(group * channels..).unwrap_or_default();
            let output = output.get_mut(group * op.group_outputs() * SIZE..).unwrap_or_default();
            product(op, group, (own, pixels, runs), panel, output, stride);
        }
    }
}

/// One row of the input with its border; its number counts the border's rows, too.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn fill_row(op: &Op<'_>, row: usize, input: &[u8], to: &mut [f32]) {
    let ([height, width, channels], [above, left]) = (op.input().shape, op.window.pad);
    let Some(y) = row.checked_sub(above).filter(|y| *y < height) else { return to.fill(0.0) };
    let (before, rest) = to.split_at_mut_checked(left * channels).unwrap_or_default();
    let inside = (width * channels).min(rest.len());
    let (inside, behind) = rest.split_at_mut_checked(inside).unwrap_or_default();
    before.fill(0.0);
    behind.fill(0.0);
    widen(input.get(y * width * channels * SIZE..).unwrap_or_default(), inside);
}
