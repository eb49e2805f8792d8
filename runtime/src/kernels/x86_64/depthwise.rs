//! Depthwise convolutions: 16 lanes of channels, pairs of taps in int16.
//!
//! A lane group is 16 channels of one pixel, or the last 8 channels of two pixels side by side. Interleaving two taps gives the operands of
//! `vpmaddwd`; `unpack` works within halves of 128 bits, so that one half of the sums belongs to lanes 0–3 and 8–11, the other to 4–7
//! and 12–15, which is the order that packing them together undoes.

use core::arch::x86_64::*;

use super::bands::Bands;
use super::simd::{Lanes, Multipliers, load32, store16, unswap, widen};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op, Requant};

/// Depthwise convolution.
pub(super) static DEPTHWISE: Kernel =
    Kernel { code: Code::Depthwise, packed_bytes, pack, workspace_bytes, run: depthwise };

/// Bytes of bias and multipliers of a lane group.
const NUMBERS: usize = 128;
/// What a load may read behind the last value.
const SLACK: usize = 64;

/// Channels of a pixel in the workspace.
fn channels(op: &Op<'_>) -> usize {
    op.output.channels().next_multiple_of(8)
}

/// Pairs of taps.
fn pairs(op: &Op<'_>) -> usize {
    op.window.taps().div_ceil(2)
}

/// Bytes of a lane group: bias, multipliers, weights of every pair.
fn group_bytes(op: &Op<'_>) -> usize {
    NUMBERS + 64 * pairs(op)
}

fn packed_bytes(op: &Op<'_>) -> usize {
    channels(op).div_ceil(16) * group_bytes(op)
}

/// The channel of lane `lane` (0–15, in the order of the accumulators) of the group that begins at `first`.
fn channel(op: &Op<'_>, first: usize, lane: usize) -> usize {
    let (half, within) = (lane / 8, lane % 8);
    // The first accumulator holds lanes 0–3 and 8–11, the second 4–7 and 12–15.
    let natural = within % 4 + 4 * half + within / 4 * 8;
    first + if channels(op) - first < 16 { natural % 8 } else { natural }
}

fn pack(op: &Op<'_>, packed: &mut [u8]) {
    let (taps, blocks) = (op.window.taps(), op.weights.as_chunks::<8>().0);
    // Blocks of 4 channels; in one, pairs of taps (a, b) as a₀ a₁ b₀ b₁ a₂ a₃ b₂ b₃.
    let weight = |channel: usize, tap: usize| {
        let block = blocks.get(channel / 4 * taps.div_ceil(2) + tap / 2);
        let place = channel % 4 / 2 * 4 + tap % 2 * 2 + channel % 2;
        block.and_then(|block| block.get(place)).map_or(0, |byte| i16::from(byte.cast_signed()))
    };
    for (group, own) in packed.chunks_exact_mut(group_bytes(op)).enumerate() {
        let first = 16 * group;
        let (numbers, weights) = own.split_at_mut_checked(NUMBERS).unwrap_or_default();
        for (index, number) in numbers.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let from = if index < 16 { op.bias } else { op.multipliers };
            // Beyond the plan's channels, which are rounded up to 4, there are zeros.
            *number = Op::word(from, channel(op, first, index % 16)).to_le_bytes();
        }
        for (pair, own) in weights.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            for (lane, own) in own.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let channel = channel(op, first, lane);
                let [[a, b], [c, d]] = [2 * pair, 2 * pair + 1].map(|tap| weight(channel, tap).to_le_bytes());
                *own = [a, b, c, d];
            }
        }
    }
}

fn workspace_bytes(op: &Op<'_>) -> usize {
    let bands = Bands::new(op, 2 * channels(op));
    16 * pairs(op) + bands.bytes(op) + SLACK
}

fn depthwise(op: &Op<'_>, memory: &mut Memory<'_>) {
    let bands = Bands::new(op, 2 * channels(op));
    let [_, width, outputs] = op.output.shape;
    let (taps, band) = memory.workspace.split_at_mut_checked(16 * pairs(op)).unwrap_or_default();
    let taps = taps.as_chunks_mut::<8>().0;
    let [_, columns] = op.window.kernel;
    for (index, tap) in taps.iter_mut().enumerate() {
        // The last pair of an odd number of taps has zeros for its second weights.
        let index = index.min(op.window.taps() - 1);
        *tap = (bands.tap(op, index / columns, index % columns) as u64).to_ne_bytes();
    }
    for rows in bands.iter(op) {
        let input = memory.arena.get(op.input().range()).unwrap_or_default();
        bands.fill(op, rows.clone(), input, band, 2, |from, to| {
            // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has AVX2.
            unsafe { widen(from, to) }
        });
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        let output = output.get_mut(rows.start * width * outputs..rows.end * width * outputs).unwrap_or_default();
        for (y, out) in output.chunks_exact_mut(width * outputs).enumerate() {
            let band = band.get(bands.patch(op, y, 0)..).unwrap_or_default();
            let step = bands.patch(op, 0, 1);
            for (group, packed) in memory.packed.chunks_exact(group_bytes(op)).enumerate() {
                let Some(band) = band.get(32 * group..) else { return };
                let Some(out) = out.get_mut(16 * group..) else { return };
                let row = Row { band, taps, step, packed, width, outputs: outputs - 16 * group, stride: outputs };
                // SAFETY: as above.
                unsafe {
                    if channels(op) - 16 * group < 16 {
                        row.run::<true>(op.requant, out);
                    } else {
                        row.run::<false>(op.requant, out);
                    }
                }
            }
        }
    }
}

/// One row of outputs of one lane group.
struct Row<'a> {
    /// int16 activations, from the first pixel's patch on.
    band: &'a [u8],
    /// Distances of the taps, an even number of them.
    taps: &'a [[u8; 8]],
    /// Bytes from one pixel's patch to the next.
    step: usize,
    packed: &'a [u8],
    /// Pixels.
    width: usize,
    /// Channels from the group's first on.
    outputs: usize,
    /// Bytes of an output pixel.
    stride: usize,
}

impl Row<'_> {
    /// `HALF`: lanes are 8 channels of two pixels.
    #[target_feature(enable = "avx2")]
    fn run<const HALF: bool>(&self, requant: Requant, out: &mut [u8]) {
        let last = self.taps.iter().map(|tap| u64::from_ne_bytes(*tap) as usize).max().unwrap_or(0);
        let (numbers, weights) = self.packed.split_at_checked(NUMBERS).unwrap_or_default();
        let weights = weights.as_chunks::<64>().0;
        let [bias_low, bias_high, low, high] = numbers.as_chunks::<32>().0 else { return };
        let taps = self.taps.as_chunks::<2>().0;
        if (self.width - 1) * self.step + last + 32 > self.band.len() || weights.len() < taps.len() {
            return;
        }
        let bias = [load32(bias_low), load32(bias_high)];
        let multipliers = [Multipliers::new(load32(low)), Multipliers::new(load32(high))];
        let lanes = Lanes::new(requant);
        let per_vector = if HALF { 2 } else { 1 };
        let mut x = 0;
        while x < self.width {
            // Places beyond the last pixel repeat it; their results are not stored.
            let at = |index: usize| (x + index).min(self.width - 1) * self.step;
            let starts = [[at(0), at(per_vector - 1)], [at(per_vector), at(2 * per_vector - 1)]];
            let mut acc = [bias; 2];
            for ([first, second], weights) in taps.iter().zip(weights) {
                let [low, high] = weights.as_chunks::<32>().0 else { return };
                let weights = [load32(low), load32(high)];
                let [first, second] = [first, second].map(|tap| u64::from_ne_bytes(*tap) as usize);
                for (acc, start) in acc.iter_mut().zip(starts) {
                    // SAFETY: no pixel and no tap is beyond those of the check above.
                    let (a, b) = unsafe { (self.load::<HALF>(start, first), self.load::<HALF>(start, second)) };
                    let pairs = [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
                    for ((acc, pair), weight) in acc.iter_mut().zip(pairs).zip(weights) {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(pair, weight));
                    }
                }
            }
            if lanes.shifts() {
                let mut shifted = acc;
                lanes.shift_left(shifted.as_flattened_mut());
                acc = shifted;
            }
            let [m_low, m_high] = multipliers;
            let [a, b] = acc.map(|[low, high]| _mm256_packs_epi32(lanes.apply(low, m_low), lanes.apply(high, m_high)));
            let bytes = lanes.clamp(unswap(_mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi16(a, b))));
            for half in [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)] {
                if HALF {
                    self.store(out, x, half);
                    self.store(out, x + 1, _mm_unpackhi_epi64(half, half));
                } else {
                    self.store(out, x, half);
                }
                x += per_vector;
            }
        }
    }

    /// One tap of a lane group.
    ///
    /// # Safety
    /// 32 bytes can be read at either of `start` + `tap`; 16 are enough where `HALF`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load<const HALF: bool>(&self, start: [usize; 2], tap: usize) -> __m256i {
        let [first, second] = start;
        // SAFETY: the caller's.
        unsafe {
            let first = self.band.as_ptr().add(first + tap);
            if HALF {
                let second = self.band.as_ptr().add(second + tap);
                _mm256_loadu2_m128i(second.cast(), first.cast())
            } else {
                _mm256_loadu_si256(first.cast())
            }
        }
    }

    /// The group's channels of pixel `x`, unless it is beyond the last.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn store(&self, out: &mut [u8], x: usize, values: __m128i) {
        let Some(to) = out.get_mut(x * self.stride..) else { return };
        if self.outputs >= 16
            && let Some(to) = to.first_chunk_mut()
        {
            return store16(to, values);
        }
        let mut all = [0; 16];
        store16(&mut all, values);
        if self.outputs == 8
            && let (Some(to), Some(from)) = (to.first_chunk_mut::<8>(), all.first_chunk::<8>())
        {
            *to = *from;
            return;
        }
        for (to, from) in to.iter_mut().zip(all).take(self.outputs) {
            *to = from;
        }
    }
}
