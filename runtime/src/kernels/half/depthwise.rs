//! Depthwise convolutions: eight channels of a row of outputs at a time.

use super::values::{Bounds, EIGHT, SIZE, narrow_some, narrow8, numbers, widen_some, widen8};
use super::vector::{Eight, add, multiply_add, widen_at, zero};
use crate::kernels::Memory;
use crate::plan::Op;

pub(super) fn depthwise(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has all of it.
    unsafe { run(op, memory) }
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn run(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    let ([height, width, channels], [_, out_width, _]) = (op.input().shape, op.output.shape);
    let row_bytes = width * channels * SIZE;
    let ([down, _], [down_dilation, across_dilation]) = (op.window.stride, op.window.dilation);
    let is_three = op.window.kernel == [3, 3] && across_dilation == 1;
    for (y, out) in output.chunks_exact_mut((out_width * channels * SIZE).max(1)).enumerate() {
        // Rows of the window that lie in the input: their tap row and bytes.
        let row = |tap: usize| {
            let place =
                (y * down + tap * down_dilation).checked_sub(op.window.pad[0]).filter(|place| *place < height)?;
            Some((tap, input.get(place * row_bytes..(place + 1) * row_bytes)?))
        };
        let mut three = (0..3).filter_map(row);
        let three = [three.next(), three.next(), three.next()];
        for first in (0..channels).step_by(8) {
            let of = Channels { op, first };
            match (three, op.window.stride[1]) {
                _ if !is_three || first + 8 > channels => of.any((0..op.window.kernel[0]).filter_map(row), out),
                ([Some(a), Some(b), Some(c)], 1) => of.three::<3, 1>([a, b, c], out),
                ([Some(a), Some(b), None], 1) => of.three::<2, 1>([a, b], out),
                ([Some(a), Some(b), Some(c)], 2) => of.three::<3, 2>([a, b, c], out),
                ([Some(a), Some(b), None], 2) => of.three::<2, 2>([a, b], out),
                _ => of.any((0..3).filter_map(row), out),
            }
        }
    }
}

/// Eight channels, or as many as there are, from `first` on.
struct Channels<'a> {
    op: &'a Op<'a>,
    first: usize,
}

impl Channels<'_> {
    /// The weights, tap by tap.
    fn weights(&self) -> &[[u8; EIGHT]] {
        let taps = self.op.window.taps();
        self.op.weights.as_chunks().0.get(self.first / 8 * taps..).and_then(|from| from.get(..taps)).unwrap_or_default()
    }

    /// 3 × 3 taps side by side, `STEP` (1 or 2) columns from one output to the next: each column of the input is brought to f32 once.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline]
    fn three<const ROWS: usize, const STEP: usize>(&self, rows: [(usize, &[u8]); ROWS], out: &mut [u8]) {
        let ([_, width, channels], left) = (self.op.input().shape, self.op.window.pad[1]);
        let mut columns = Columns { rows: [core::ptr::null(); ROWS], width, step: channels * SIZE };
        let [mut first, mut second, mut third] = [[zero(); ROWS]; 3];
        let places = first.iter_mut().zip(&mut second).zip(&mut third).zip(&mut columns.rows);
        for ((((a, b), c), from), (tap, row)) in places.zip(rows) {
            let Some([own_a, own_b, own_c]) = self.weights().get(tap * 3..).and_then(|from| from.first_chunk()) else {
                return;
            };
            (*a, *b, *c) = (widen8(own_a), widen8(own_b), widen8(own_c));
            if row.len() < width * columns.step || self.first + 8 > channels {
                return;
            }
            *from = row.as_ptr().wrapping_add(self.first * SIZE);
        }
        let weights = [first, second, third];
        let (bounds, bias) = (Bounds::new(self.op.bounds()), numbers(self.op.bias, self.first));
        let mut next = 0usize.wrapping_sub(left);
        let mut before = [[zero(); ROWS]; 3];
        for before in before.iter_mut().skip(STEP) {
            *before = columns.get(next);
            next = next.wrapping_add(1);
        }
        for pixel in out.chunks_exact_mut(channels * SIZE) {
            let Some(to) = pixel.get_mut(self.first * SIZE..).and_then(|to| to.first_chunk_mut()) else { return };
            let [_, b, c] = before;
            let now = if STEP == 1 {
                [b, c, columns.get(next)]
            } else {
                [c, columns.get(next), columns.get(next.wrapping_add(1))]
            };
            next = next.wrapping_add(STEP);
            // A sum for each column: one for all would be too long a chain.
            let mut sums = [bias, zero(), zero()];
            for ((sum, weights), column) in sums.iter_mut().zip(&weights).zip(now) {
                for (weight, value) in weights.iter().zip(column) {
                    *sum = multiply_add(value, *weight, *sum);
                }
            }
            let [a, b, c] = sums;
            narrow8(to, bounds.clamp(add(add(a, b), c)));
            before = now;
        }
    }

    /// Any window; `rows` are those that lie in the input.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline(never)]
    fn any<'m>(&self, rows: impl Iterator<Item = (usize, &'m [u8])> + Clone, out: &mut [u8]) {
        let ([_, width, channels], window) = (self.op.input().shape, self.op.window);
        let count = channels.min(self.first + 8) - self.first;
        let (bounds, bias) = (Bounds::new(self.op.bounds()), numbers(self.op.bias, self.first));
        let ([_, across], [_, right], [_, dilation]) = (window.kernel, window.stride, window.dilation);
        for (x, pixel) in out.chunks_exact_mut(channels * SIZE).enumerate() {
            let mut sum = bias;
            for (tap, row) in rows.clone() {
                let weights = self.weights().get(tap * across..(tap + 1) * across).unwrap_or_default();
                for (column, weights) in weights.iter().enumerate() {
                    let place = (x * right + column * dilation).wrapping_sub(window.pad[1]);
                    if place < width {
                        let from = (place * channels + self.first) * SIZE;
                        let values = widen_some(row.get(from..from + count * SIZE).unwrap_or_default());
                        sum = multiply_add(values, widen8(weights), sum);
                    }
                }
            }
            let to = self.first * SIZE..(self.first + count) * SIZE;
            narrow_some(pixel.get_mut(to).unwrap_or_default(), bounds.clamp(sum));
        }
    }
}

/// Eight channels of the columns of some rows.
struct Columns<const ROWS: usize> {
    /// Every row has `width` pixels of `step` bytes from here on, or eight values in place of the last one.
    rows: [*const u8; ROWS],
    width: usize,
    step: usize,
}

impl<const ROWS: usize> Columns<ROWS> {
    /// Column `x`; zeros outside the rows.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline]
    fn get(&self, x: usize) -> [Eight; ROWS] {
        let mut out = [zero(); ROWS];
        if x < self.width {
            for (out, row) in out.iter_mut().zip(self.rows) {
                // SAFETY: the column is one of the row's, and the load takes any alignment.
                *out = unsafe { widen_at(row.wrapping_add(x * self.step)) };
            }
        }
        out
    }
}
