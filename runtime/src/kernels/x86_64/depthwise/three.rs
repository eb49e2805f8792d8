//! 3 × 3 windows with steps of 1 or 2 along the width: two pixels at a time share what they load and interleave.
//!
//! Rows 0 and 1 are paired tap by tap, row 2 is paired along the width.

use core::arch::x86_64::*;
use core::ops::Range;

use super::any::load;
use super::{Group, Pair, channels, group_bytes, store, unpack};
use crate::kernels::Memory;
use crate::kernels::x86_64::bands::Bands;
use crate::kernels::x86_64::simd::{Lanes, load32};
use crate::plan::Op;

/// Pairs of taps: rows 0 and 1 of every column; row 2 of a pixel whose first tap comes first in its pair, then of one whose first comes
/// second.
pub(super) const PAIRS: [Pair; 7] = [
    [Some(0), Some(3)],
    [Some(1), Some(4)],
    [Some(2), Some(5)],
    [Some(6), Some(7)],
    [Some(8), None],
    [None, Some(6)],
    [Some(7), Some(8)],
];

/// Whether an operator is worked on here.
pub(super) fn fits(op: &Op<'_>) -> bool {
    let [_, right] = op.window.stride;
    op.window.kernel == [3, 3] && op.window.dilation == [1, 1] && (right == 1 || right == 2)
}

/// Bytes of the unpacked rows that are there at a time, where three rows do not take more: they stay in the first level of cache.
const RING_BYTES: usize = 20 * 1024;
/// Pixels of a row that one lane group takes before the next has its turn, for the same reason.
const CHUNK: usize = 16;

/// The rows of the input that are unpacked, by their number (the border's count, too) modulo their count.
#[derive(Clone, Copy)]
struct Ring {
    bands: Bands,
    /// Rows that are there at a time.
    count: usize,
    /// Output rows that are made before others are unpacked.
    block: usize,
}

impl Ring {
    fn new(op: &Op<'_>) -> Self {
        let (bands, down) = (Bands::new(op, 2 * channels(op)), op.window.stride[0]);
        let fit = (RING_BYTES / bands.row).max(3);
        let block = ((fit - 3) / down + 1).min(op.output.height());
        Self { bands, count: (block - 1) * down + 3, block }
    }

    /// With what is read behind the last row: the pixel next to the last, and the rest of a vector.
    fn bytes(&self, op: &Op<'_>) -> usize {
        self.count * self.bands.row + self.bands.patch(op, 0, 1) + 64
    }
}

/// Where in a row the patches of pairs of pixels begin, and the ring.
pub(super) fn workspace_bytes(op: &Op<'_>) -> usize {
    starts_bytes(op) + Ring::new(op).bytes(op)
}

/// The rows behind keep their alignment.
fn starts_bytes(op: &Op<'_>) -> usize {
    (8 * op.output.width().div_ceil(2)).next_multiple_of(64)
}

#[target_feature(enable = "avx2")]
pub(super) fn run(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (ring, [height, width, outputs]) = (Ring::new(op), op.output.shape);
    let (bands, down) = (ring.bands, op.window.stride[0]);
    let (starts, memory_of_ring) = memory.workspace.split_at_mut_checked(starts_bytes(op)).unwrap_or_default();
    let starts = starts.as_chunks_mut::<8>().0.get_mut(..width.div_ceil(2)).unwrap_or_default();
    for (pair, start) in starts.iter_mut().enumerate() {
        *start = (bands.patch(op, 0, 2 * pair) as u64).to_ne_bytes();
    }
    if memory_of_ring.len() < ring.bytes(op) {
        return;
    }
    let mut filled = 0;
    for first in (0..height).step_by(ring.block) {
        let rows = first..(first + ring.block).min(height);
        let input = memory.arena.get(op.input().range()).unwrap_or_default();
        let last = (rows.end - 1) * down + 3;
        for number in filled.max(first * down)..last {
            let slot = memory_of_ring.get_mut(number % ring.count * bands.row..).and_then(|r| r.get_mut(..bands.row));
            bands.fill_row(op, number, input, slot.unwrap_or_default(), 2, unpack);
        }
        filled = last;
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        let out = output.get_mut(rows.start * width * outputs..rows.end * width * outputs).unwrap_or_default();
        let block = Block {
            ring,
            base: memory_of_ring.as_ptr(),
            rows,
            starts,
            pixel: bands.pixel,
            step: bands.patch(op, 0, 1),
            packed: memory.packed,
        };
        // SAFETY: the ring holds its rows and what is read behind them, as was checked above.
        unsafe { block.run(op, out) };
    }
}

/// Some rows of outputs.
struct Block<'a> {
    ring: Ring,
    base: *const u8,
    rows: Range<usize>,
    /// Where the patches of pairs of pixels begin in a row.
    starts: &'a [[u8; 8]],
    /// Distance of columns in the ring.
    pixel: usize,
    /// From one pixel's patch to the next.
    step: usize,
    packed: &'a [u8],
}

impl Block<'_> {
    /// # Safety
    /// The ring is as large as it says, at `base`.
    #[target_feature(enable = "avx2")]
    unsafe fn run(&self, op: &Op<'_>, out: &mut [u8]) {
        let (channels, lanes) = (channels(op), Lanes::new(op.requant));
        let (full, pairs) = (channels / 16, self.starts.len());
        for first in (0..pairs).step_by(CHUNK / 2) {
            let pairs = first..(first + CHUNK / 2).min(pairs);
            // SAFETY: the caller's.
            unsafe {
                if self.step == self.pixel {
                    self.groups::<1, false>(op, &lanes, 0..full, pairs.clone(), out);
                } else {
                    self.groups::<2, false>(op, &lanes, 0..full, pairs.clone(), out);
                }
                if channels > 16 * full {
                    self.groups::<0, true>(op, &lanes, full..full + 1, pairs, out);
                }
            }
        }
    }

    /// Some pairs of pixels of every row, for some lane groups; `S` is the distance of pixels in input columns. `HALF`: groups are of 8
    /// channels of two pixels.
    ///
    /// # Safety
    /// As [`Block::run`].
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn groups<const S: usize, const HALF: bool>(
        &self,
        op: &Op<'_>,
        lanes: &Lanes,
        groups: Range<usize>,
        pairs: Range<usize>,
        out: &mut [u8],
    ) {
        let [_, pixels, stride] = op.output.shape;
        let (bytes, width) = (group_bytes(op), if HALF { 8 } else { 16 });
        let Some(starts) = self.starts.get(pairs.clone()) else { return };
        for index in groups {
            let Some(group) = Group::new(op, self.packed, index, bytes) else { return };
            let Some(weights) = group.weights.first_chunk() else { return };
            for (y, out) in self.rows.clone().zip(out.chunks_exact_mut(pixels * stride)) {
                let top = y * op.window.stride[0];
                let rows = [top, top + 1, top + 2]
                    .map(|row| self.base.wrapping_add(row % self.ring.count * self.ring.bands.row + 32 * index));
                // SAFETY: the caller's: every row holds the patches of all pairs, or what follows it does.
                let sums = |start: &[u8; 8]| unsafe {
                    let start = u64::from_ne_bytes(*start) as usize;
                    let rows = rows.map(|row| row.wrapping_add(start));
                    if HALF {
                        [half(&group, weights, self.pixel, self.step, rows); 2]
                    } else {
                        two::<S>(&group, weights, self.pixel, rows)
                    }
                };
                // A pair's results are made beside the sums of the next: one after the other would be a long chain.
                let Some((first, rest)) = starts.split_first() else { return };
                let mut acc = sums(first);
                for pair in 0..starts.len() {
                    let bytes = group.requantize(lanes, acc);
                    let low = _mm256_castsi256_si128(bytes);
                    let high = if HALF { _mm_unpackhi_epi64(low, low) } else { _mm256_extracti128_si256::<1>(bytes) };
                    if let Some(next) = rest.get(pair) {
                        acc = sums(next);
                    }
                    let pixel = 2 * (pairs.start + pair);
                    if group.outputs >= width {
                        let to = out.as_mut_ptr().wrapping_add(pixel * stride + 16 * index);
                        // SAFETY: the pixels are inside the row, and so are `width` channels of each.
                        unsafe {
                            put::<HALF>(to, low);
                            if pixel + 1 < pixels {
                                put::<HALF>(to.add(stride), high);
                            }
                        }
                    } else {
                        let place = Place { pixel, channel: 16 * index, stride, outputs: group.outputs.min(width) };
                        place.store(out, [low, high]);
                    }
                }
            }
        }
    }
}

/// Where the results of two pixels belong that a plain store does not serve.
struct Place {
    pixel: usize,
    channel: usize,
    stride: usize,
    outputs: usize,
}

impl Place {
    /// Kept out of line, as its checks would be made before they are needed.
    #[target_feature(enable = "avx2")]
    #[inline(never)]
    fn store(&self, out: &mut [u8], values: [__m128i; 2]) {
        let pixels = out.get_mut(self.pixel * self.stride..).unwrap_or_default().chunks_mut(self.stride);
        for (pixel, values) in pixels.zip(values) {
            store(pixel.get_mut(self.channel..).unwrap_or_default(), values, self.outputs);
        }
    }
}

/// 16 bytes, or 8 where `HALF`.
///
/// # Safety
/// There is room for them.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn put<const HALF: bool>(to: *mut u8, values: __m128i) {
    // SAFETY: the caller's; stores take any alignment.
    unsafe {
        if HALF {
            _mm_storel_epi64(to.cast(), values);
        } else {
            _mm_storeu_si128(to.cast(), values);
        }
    }
}

/// Products of a pair of vectors, interleaved, with the weights of a pair of taps, onto `acc`.
#[target_feature(enable = "avx2")]
#[inline]
fn add(acc: [__m256i; 2], pair: [__m256i; 2], weights: &[u8; 64]) -> [__m256i; 2] {
    let (Some(w_low), Some(w_high)) = (weights.first_chunk(), weights.last_chunk()) else { return acc };
    let ([low, high], [a, b]) = (pair, acc);
    let low = _mm256_madd_epi16(low, load32(w_low));
    let high = _mm256_madd_epi16(high, load32(w_high));
    [_mm256_add_epi32(a, low), _mm256_add_epi32(b, high)]
}

#[target_feature(enable = "avx2")]
#[inline]
fn interleave(a: __m256i, b: __m256i) -> [__m256i; 2] {
    [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)]
}

/// Accumulators of two pixels, `S` input columns apart.
///
/// # Safety
/// 32 bytes can be read at every tap of both.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn two<const S: usize>(
    group: &Group<'_>,
    weights: &[[u8; 64]; 7],
    pixel: usize,
    rows: [*const u8; 3],
) -> [[__m256i; 2]; 2] {
    let [r0, r1, r2] = rows;
    // SAFETY: the caller's; `S` + 2 is the last column of the second pixel.
    let at = |row: *const u8, x: usize| unsafe { load::<false>(row.add(x * pixel), 0) };
    let [v0, v1, v2, h0, h1, g0, g1] = weights;
    let (mut a, mut b) = (group.bias, group.bias);
    let column = interleave(at(r0, 0), at(r1, 0));
    a = add(a, column, v0);
    let column = interleave(at(r0, 1), at(r1, 1));
    a = add(a, column, v1);
    if S == 1 {
        b = add(b, column, v0);
    }
    let column = interleave(at(r0, 2), at(r1, 2));
    a = add(a, column, v2);
    b = add(b, column, if S == 1 { v1 } else { v0 });
    let column = interleave(at(r0, 3), at(r1, 3));
    b = add(b, column, if S == 1 { v2 } else { v1 });
    let (first, second) = (interleave(at(r2, 0), at(r2, 1)), interleave(at(r2, 2), at(r2, 3)));
    a = add(add(a, first, h0), second, h1);
    if S == 1 {
        b = add(add(b, first, g0), second, g1);
    } else {
        let column = interleave(at(r0, 4), at(r1, 4));
        b = add(b, column, v2);
        let last = at(r2, 4);
        b = add(add(b, second, h0), interleave(last, last), h1);
    }
    [a, b]
}

/// Accumulators of one vector, which holds 8 channels of two pixels.
///
/// # Safety
/// 16 bytes can be read at every tap of both.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn half(
    group: &Group<'_>,
    weights: &[[u8; 64]; 7],
    pixel: usize,
    step: usize,
    rows: [*const u8; 3],
) -> [__m256i; 2] {
    let [r0, r1, r2] = rows;
    // SAFETY: the caller's.
    let at = |row: *const u8, x: usize| unsafe { load::<true>(row.add(x * pixel), step) };
    let [v0, v1, v2, h0, h1, ..] = weights;
    let mut acc = group.bias;
    for (x, weights) in [v0, v1, v2].into_iter().enumerate() {
        acc = add(acc, interleave(at(r0, x), at(r1, x)), weights);
    }
    let last = at(r2, 2);
    add(add(acc, interleave(at(r2, 0), at(r2, 1)), h0), interleave(last, last), h1)
}
