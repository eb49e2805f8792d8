//! Convolutions, of any window and any number of groups, as tiles over runs of the input.

use super::bands::{Bands, SLACK};
use super::pack::Runs;
use super::tile::{Isa, Layer, Offsets, Outputs, Pixels, Places, Walk};
use super::vector::Narrow;
use crate::kernels::Memory;
use crate::plan::Op;

/// Pixels that a pointwise convolution which works in place copies before it overwrites them: a multiple of every tile.
const CHUNK: usize = 32;

/// Weights are read from the plan where its order is what the tier takes.
fn repacks<I: Isa>(runs: &Runs) -> bool {
    I::STEP != 4 || runs.is_padded()
}

/// See [`crate::kernels::Kernel::packed_bytes`].
pub(super) fn packed_bytes<I: Isa>(op: &Op<'_>) -> usize {
    let runs = Runs::new(op, I::STEP);
    if repacks::<I>(&runs) { runs.weight_bytes(op) } else { 0 }
}

/// See [`crate::kernels::Kernel::pack`].
pub(super) fn pack<I: Isa>(op: &Op<'_>, out: &mut [u8]) {
    let runs = Runs::new(op, I::STEP);
    if repacks::<I>(&runs) {
        runs.pack(op, I::STEP, out);
    }
}

/// See [`crate::kernels::Kernel::workspace_bytes`].
pub(super) fn workspace_bytes<I: Isa>(op: &Op<'_>) -> usize {
    if op.in_place {
        return CHUNK * op.input().channels() + SLACK;
    }
    Bands::new(op, Runs::new(op, I::STEP).is_padded()).workspace_bytes(op)
}

/// A convolution, in tiles of `P` pixels × `B` blocks of 4 outputs, and of `T` pixels where few are left.
#[inline(always)]
pub(super) fn run<I: Isa, const P: usize, const B: usize, const T: usize>(
    isa: I,
    op: &Op<'_>,
    memory: &mut Memory<'_>,
) {
    let runs = Runs::new(op, I::STEP);
    let weights = if repacks::<I>(&runs) { memory.packed } else { op.weights };
    let outputs = Outputs { bias: op.bias, multipliers: op.multipliers, narrow: Narrow::new(op.requant) };
    let layer = Layer { weights, depth: runs.depth(), outputs, group_outputs: op.group_outputs() };
    if op.in_place {
        return in_place::<I, P, B, T>(isa, &layer, op, memory);
    }
    let bands = Bands::new(op, runs.is_padded());
    let Ok([input, output]) = memory.arena.get_disjoint_mut([op.input().range(), op.output.range()]) else { return };
    let ([height, width, channels], inputs) = (op.output.shape, op.input().channels());
    let ([stride_y, stride_x], [dilation_y, dilation_x]) = (op.window.stride, op.window.dilation);
    let walk = Walk {
        rows: runs.rows,
        row_step: dilation_y * bands.row_bytes(),
        taps: runs.taps,
        tap_step: dilation_x * inputs,
        len: runs.padded,
    };
    let grid = Grid { width, step: stride_x * inputs, row_step: stride_y * bands.row_bytes() };
    for first in (0..height).step_by(bands.rows().max(1)) {
        let rows = bands.rows().min(height - first);
        let source = bands.read(op, input, first, rows, memory.workspace);
        let out = output.get_mut(first * width * channels..).unwrap_or_default();
        for group in 0..op.groups {
            let source = source.get(group * op.group_inputs()..).unwrap_or_default();
            let part = Part { source, walk, grid, count: rows * width, group, channels };
            part.run::<I, P, B, T>(isa, &layer, out);
        }
    }
}

/// From the front where pixels shrink, from the back where they grow, so that no pixel is overwritten before it was read.
#[inline(always)]
fn in_place<I: Isa, const P: usize, const B: usize, const T: usize>(
    isa: I,
    layer: &Layer<'_>,
    op: &Op<'_>,
    memory: &mut Memory<'_>,
) {
    let (inputs, outputs) = (op.input().channels(), op.output.channels());
    let (start, pixels) = (op.input().range().start, op.output.height() * op.output.width());
    let chunks = pixels.div_ceil(CHUNK);
    let grid = Grid { width: CHUNK, step: inputs, row_step: 0 };
    let walk = Walk::row(inputs.next_multiple_of(I::STEP));
    for index in 0..chunks {
        let index = if outputs > inputs { chunks - 1 - index } else { index };
        let first = index * CHUNK;
        let count = CHUNK.min(pixels - first);
        let from = start + first * inputs;
        let (Some(read), Some(copy)) =
            (memory.arena.get(from..from + count * inputs), memory.workspace.get_mut(..count * inputs))
        else {
            return;
        };
        copy.copy_from_slice(read);
        let to = start + first * outputs;
        let Some(out) = memory.arena.get_mut(to..to + count * outputs) else { return };
        let part = Part { source: memory.workspace, walk, grid, count, group: 0, channels: outputs };
        part.run::<I, P, B, T>(isa, layer, out);
    }
}

/// Where the windows of output pixels begin: bytes between neighbours and between rows.
#[derive(Clone, Copy)]
struct Grid {
    width: usize,
    step: usize,
    row_step: usize,
}

/// Neighbouring pixels of one group of channels.
struct Part<'a> {
    source: &'a [u8],
    walk: Walk,
    grid: Grid,
    /// Number of pixels.
    count: usize,
    group: usize,
    /// Bytes of an output pixel.
    channels: usize,
}

impl Part<'_> {
    #[inline(always)]
    fn run<I: Isa, const P: usize, const B: usize, const T: usize>(&self, isa: I, layer: &Layer<'_>, out: &mut [u8]) {
        let mut cursor = Cursor { grid: self.grid, x: 0, row: 0, at: 0 };
        let mut done = 0;
        while done < self.count {
            let left = self.count - done;
            // A whole tile with its last pixel repeated costs less than several small ones, from half a tile on.
            if 2 * left >= P {
                done += self.tiles::<I, P, B>(isa, layer, &mut cursor, done, out);
            } else {
                done += self.tiles::<I, T, 4>(isa, layer, &mut cursor, done, out);
            }
        }
    }

    /// The next pixels, as many as a tile takes or as there are; how many.
    #[inline(always)]
    fn tiles<I: Isa, const P: usize, const B: usize>(
        &self,
        isa: I,
        layer: &Layer<'_>,
        cursor: &mut Cursor,
        done: usize,
        out: &mut [u8],
    ) -> usize {
        let taken = P.min(self.count - done);
        let first = done * self.channels + self.group * layer.group_outputs;
        let to = core::array::from_fn(|pixel| first + pixel.min(taken - 1) * self.channels);
        if let Some(places) = Places::new(self.source, cursor.take(taken), self.walk) {
            isa.tiles::<P, B>(layer, &Pixels { places, group: self.group, to: Offsets::new(to) }, out);
        }
        taken
    }
}

/// Steps through the windows of output pixels, row by row.
struct Cursor {
    grid: Grid,
    x: usize,
    row: usize,
    at: usize,
}

impl Cursor {
    /// The next `taken` places, the last repeated.
    #[inline(always)]
    fn take<const P: usize>(&mut self, taken: usize) -> [usize; P] {
        let mut last = self.at;
        let mut left = taken;
        core::array::from_fn(|_| {
            if left > 0 {
                last = self.at;
                left -= 1;
                self.x += 1;
                self.at += self.grid.step;
                if self.x == self.grid.width {
                    self.x = 0;
                    self.row += self.grid.row_step;
                    self.at = self.row;
                }
            }
            last
        })
    }
}
