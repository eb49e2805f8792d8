//! The product in registers: rows of activations by a panel of weights, both in f32.

use super::values::{Bounds, EIGHT, SIZE, narrow8, numbers};
use super::vector::{Eight, all, load_at, multiply_add, narrow_at, prefetch, store_at, widen_at, zero};
use crate::plan::Op;

/// Vectors of outputs of a panel, at most.
const MOST_VECTORS: usize = 3;

/// Values of the panels of `depth` weights for each output.
pub(super) fn panel_floats(op: &Op<'_>) -> usize {
    op.depth() * 8 * op.group_outputs().div_ceil(8).min(MOST_VECTORS)
}

/// Where the activations of one pixel lie: runs of `len` values, `across` runs a row of the window, `down` rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    pub down: usize,
    pub down_step: usize,
    pub across: usize,
    pub across_step: usize,
    pub len: usize,
}

impl Runs {
    /// Values side by side.
    pub(super) fn one(len: usize) -> Self {
        Self { down: 1, down_step: 0, across: 1, across_step: 0, len }
    }

    /// Values from the first that a pixel has to its last, both counted.
    fn extent(&self) -> usize {
        (self.down - 1) * self.down_step + (self.across - 1) * self.across_step + self.len
    }

    fn depth(&self) -> usize {
        self.down * self.across * self.len
    }
}

/// Pixels whose activations lie at fixed distances: `columns` pixels a row, `rows` rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixels {
    pub rows: usize,
    pub row_step: usize,
    pub columns: usize,
    pub column_step: usize,
}

/// The outputs of one group for a block of pixels: pixel `p`'s begin at byte `p · stride` of `out`.
///
/// `panel` is room for [`panel_floats`] values. Nothing happens where sizes do not fit each other, which a checked plan rules out.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
pub(super) fn product(
    op: &Op<'_>,
    group: usize,
    (values, pixels, runs): (&[f32], Pixels, Runs),
    panel: &mut [f32],
    out: &mut [u8],
    stride: usize,
) {
    let (outputs, bounds) = (op.group_outputs(), Bounds::new(op.bounds()));
    if pixels.rows == 0 || pixels.columns == 0 || runs.down == 0 || runs.across == 0 || runs.len == 0 {
        return;
    }
    let last = (pixels.rows - 1) * pixels.row_step + (pixels.columns - 1) * pixels.column_step;
    if last + runs.extent() > values.len() {
        return;
    }
    let (mut first, eights) = (0, outputs.div_ceil(8));
    while first < eights {
        // An odd number of vectors ends with three.
        let vectors = if eights - first == MOST_VECTORS { MOST_VECTORS } else { (eights - first).min(2) };
        let place = group * eights + first;
        let depth = runs.depth();
        let weights = op.weights.get(place * depth * EIGHT..).unwrap_or_default();
        let out = out.get_mut(first * EIGHT..).unwrap_or_default();
        let block = Block { values, pixels, runs, bounds, bias: op.bias, place, stride };
        let width = (outputs - first * 8).min(vectors * 8);
        match vectors {
            3 => block.panel::<3, 3>(weights, panel, out, width),
            2 => block.panel::<6, 2>(weights, panel, out, width),
            _ => block.panel::<8, 1>(weights, panel, out, width),
        }
        first += vectors;
    }
}

/// What the panels of a block of pixels share. Every value of every pixel lies in `values`.
struct Block<'a> {
    values: &'a [f32],
    pixels: Pixels,
    runs: Runs,
    bounds: Bounds,
    bias: &'a [u8],
    /// Which panel of eight outputs is the first.
    place: usize,
    stride: usize,
}

impl Block<'_> {
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline]
    fn panel<const ROWS: usize, const VECTORS: usize>(
        &self,
        weights: &[u8],
        panel: &mut [f32],
        out: &mut [u8],
        width: usize,
    ) {
        let depth = self.runs.depth();
        let Some(panel) = panel.get_mut(..depth * VECTORS * 8) else { return };
        let Some(weights) = weights.get(..depth * VECTORS * EIGHT) else { return };
        unpack::<VECTORS>(weights, depth, panel);
        let mut bias = [zero(); VECTORS];
        for (index, bias) in bias.iter_mut().enumerate() {
            *bias = numbers(self.bias, (self.place + index) * 8);
        }
        let Pixels { rows, row_step, columns, column_step } = self.pixels;
        let (mut x, mut at, mut row_start) = (0, 0, 0);
        let mut starts = [0; 8];
        let mut out = out;
        // Tiles of about equal height: a low one waits for its own sums.
        let tiles = (rows * columns).div_ceil(ROWS);
        let (low, high) = (rows * columns / tiles, rows * columns % tiles);
        for tile in 0..tiles {
            let count = low + usize::from(tile < high);
            for start in starts.iter_mut().take(count) {
                *start = at;
                (x, at) = (x + 1, at + column_step);
                if x == columns {
                    row_start += row_step;
                    (x, at) = (0, row_start);
                }
            }
            match count {
                8 => self.tile::<8, VECTORS>(&starts, panel, bias, out, width),
                7 => self.tile::<7, VECTORS>(&starts, panel, bias, out, width),
                6 => self.tile::<6, VECTORS>(&starts, panel, bias, out, width),
                5 => self.tile::<5, VECTORS>(&starts, panel, bias, out, width),
                4 => self.tile::<4, VECTORS>(&starts, panel, bias, out, width),
                3 => self.tile::<3, VECTORS>(&starts, panel, bias, out, width),
                2 => self.tile::<2, VECTORS>(&starts, panel, bias, out, width),
                _ => self.tile::<1, VECTORS>(&starts, panel, bias, out, width),
            }
            out = out.get_mut(count * self.stride..).unwrap_or_default();
        }
    }

    /// The pixels that begin at `starts`.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline(never)]
    fn tile<const ROWS: usize, const VECTORS: usize>(
        &self,
        starts: &[usize; 8],
        panel: &[f32],
        bias: [Eight; VECTORS],
        out: &mut [u8],
        width: usize,
    ) {
        // SAFETY: `product` has checked the runs of every pixel, `panel` the panel.
        let sums = unsafe { sums::<ROWS, VECTORS>(self.values, starts, self.runs, panel, bias) };
        if width < VECTORS * 8 {
            return self.store_some(sums, out, width);
        }
        if out.len() < (ROWS - 1) * self.stride + VECTORS * EIGHT {
            return;
        }
        for (index, sums) in sums.into_iter().enumerate() {
            for (vector, sum) in sums.into_iter().enumerate() {
                let to = out.as_mut_ptr().wrapping_add(index * self.stride + vector * EIGHT);
                // SAFETY: there is room for the last row's last vector, and the store takes any alignment.
                unsafe { narrow_at(to, self.bounds.clamp(sum)) };
            }
        }
    }

    /// The first `width` outputs of each row.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline(never)]
    fn store_some<const ROWS: usize, const VECTORS: usize>(
        &self,
        sums: [[Eight; VECTORS]; ROWS],
        out: &mut [u8],
        width: usize,
    ) {
        for (index, sums) in sums.iter().enumerate() {
            let mut all = [[0; EIGHT]; VECTORS];
            for (to, sum) in all.iter_mut().zip(sums) {
                narrow8(to, self.bounds.clamp(*sum));
            }
            let to = out.get_mut(index * self.stride..).unwrap_or_default();
            to.iter_mut().zip(all.as_flattened()).take(width * SIZE).for_each(|(to, from)| *to = *from);
        }
    }
}

/// `VECTORS` panels of eight outputs, one behind the other, as one in f32.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn unpack<const VECTORS: usize>(weights: &[u8], depth: usize, panel: &mut [f32]) {
    if weights.len() < depth * VECTORS * EIGHT || panel.len() < depth * VECTORS * 8 {
        return;
    }
    for k in 0..depth {
        for vector in 0..VECTORS {
            let from = weights.as_ptr().wrapping_add((vector * depth + k) * EIGHT);
            // SAFETY: the weights are there, and the load takes any alignment.
            let value = unsafe { widen_at(from) };
            // SAFETY: there is room, and the store takes any alignment.
            unsafe { store_at(panel.as_mut_ptr().wrapping_add((k * VECTORS + vector) * 8), value) };
            if k.is_multiple_of(AHEAD) {
                // The weights after these come while these are used.
                let next = from.wrapping_add(VECTORS * depth * EIGHT);
                prefetch(next);
            }
        }
    }
}

/// Steps of a panel in a line of the cache.
const AHEAD: usize = 4;

/// The products of the rows that begin at `starts` with a panel, onto `start`.
///
/// # Safety
/// The runs of every row lie in `values`, and the panel has `VECTORS` · 8 weights for each of their steps.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) unsafe fn sums<const ROWS: usize, const VECTORS: usize>(
    values: &[f32],
    starts: &[usize; 8],
    runs: Runs,
    panel: &[f32],
    start: [Eight; VECTORS],
) -> [[Eight; VECTORS]; ROWS] {
    let mut rows = [values.as_ptr(); ROWS];
    for (row, start) in rows.iter_mut().zip(starts) {
        *row = row.wrapping_add(*start);
    }
    let mut sums = [start; ROWS];
    let Runs { down, down_step, across, across_step, len } = runs;
    let mut weights = panel.as_ptr();
    for y in 0..down {
        for x in 0..across {
            let first = y * down_step + x * across_step;
            for k in first..first + len {
                let mut now = [zero(); VECTORS];
                for (index, now) in now.iter_mut().enumerate() {
                    // SAFETY: the panel has these weights for every step.
                    *now = unsafe { load_at(weights.wrapping_add(index * 8)) };
                }
                weights = weights.wrapping_add(VECTORS * 8);
                for (sums, row) in sums.iter_mut().zip(rows) {
                    // SAFETY: the runs of every row lie in the values.
                    let value = all(unsafe { *row.wrapping_add(k) });
                    for (sum, weight) in sums.iter_mut().zip(now) {
                        *sum = multiply_add(value, weight, *sum);
                    }
                }
            }
        }
    }
    sums
}
