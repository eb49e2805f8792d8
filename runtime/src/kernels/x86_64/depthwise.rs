//! Depthwise convolutions: 16 lanes of channels, pairs of taps in int16.
//!
//! A lane group is 16 channels of one pixel, or the last 8 channels of two pixels side by side. Interleaving two taps gives the operands of
//! `vpmaddwd`; `unpack` works within halves of 128 bits, so that one half of the sums belongs to lanes 0–3 and 8–11, the other to 4–7
//! and 12–15, which is the order that packing them together undoes.

mod any;
mod three;

use core::arch::x86_64::*;

use super::simd::{Lanes, Multipliers, load32, store16, unswap, widen};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Depthwise convolution.
pub(super) static DEPTHWISE: Kernel =
    Kernel { code: Code::Depthwise, packed_bytes, pack, workspace_bytes, run: depthwise };

/// Bytes of bias and multipliers of a lane group.
const NUMBERS: usize = 128;

/// The taps of a pair; `None`: weights of zero.
type Pair = [Option<usize>; 2];

/// Channels of a pixel in the workspace.
fn channels(op: &Op<'_>) -> usize {
    op.output.channels().next_multiple_of(8)
}

/// The pairs whose weights are packed, in order.
fn pairs(op: &Op<'_>) -> impl Iterator<Item = Pair> + use<> {
    let (taps, is_three) = (op.window.taps(), three::fits(op));
    let count = if is_three { three::PAIRS.len() } else { taps.div_ceil(2) };
    (0..count).map(move |pair| match three::PAIRS.get(pair) {
        Some(pair) if is_three => *pair,
        _ => [Some(2 * pair), Some(2 * pair + 1).filter(|tap| *tap < taps)],
    })
}

/// Bytes of a lane group: bias, multipliers, weights of every pair.
fn group_bytes(op: &Op<'_>) -> usize {
    NUMBERS + 64 * pairs(op).count()
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
        for (pair, own) in pairs(op).zip(weights.as_chunks_mut::<64>().0) {
            for (lane, own) in own.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let channel = channel(op, first, lane);
                let [[a, b], [c, d]] = pair.map(|tap| tap.map_or(0, |tap| weight(channel, tap)).to_le_bytes());
                *own = [a, b, c, d];
            }
        }
    }
}

fn workspace_bytes(op: &Op<'_>) -> usize {
    if three::fits(op) { three::workspace_bytes(op) } else { any::workspace_bytes(op) }
}

fn depthwise(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has AVX2.
    unsafe { if three::fits(op) { three::run(op, memory) } else { any::run(op, memory) } }
}

fn unpack(from: &[u8], to: &mut [u8]) {
    // SAFETY: as above.
    unsafe { widen(from, to) }
}

/// One lane group.
struct Group<'a> {
    bias: [__m256i; 2],
    multipliers: [Multipliers; 2],
    weights: &'a [[u8; 64]],
    /// Channels from the group's first on.
    outputs: usize,
}

impl<'a> Group<'a> {
    /// Lane group `index`, in which every group takes `bytes`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(op: &Op<'_>, packed: &'a [u8], index: usize, bytes: usize) -> Option<Self> {
        let (numbers, weights) = packed.get(index * bytes..(index + 1) * bytes)?.split_at_checked(NUMBERS)?;
        let [bias_low, bias_high, low, high] = numbers.as_chunks::<32>().0 else { return None };
        Some(Self {
            bias: [load32(bias_low), load32(bias_high)],
            multipliers: [Multipliers::new(load32(low)), Multipliers::new(load32(high))],
            weights: weights.as_chunks().0,
            outputs: op.output.channels() - 16 * index,
        })
    }
}

impl Group<'_> {
    /// Requantizes two vectors; the results of the first are in the lower half.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn requantize(&self, lanes: &Lanes, mut acc: [[__m256i; 2]; 2]) -> __m256i {
        if lanes.shifts() {
            // A copy, as what has an address does not stay in registers.
            let mut shifted = acc;
            lanes.shift_left(shifted.as_flattened_mut());
            acc = shifted;
        }
        let [m_low, m_high] = self.multipliers;
        let [[a_low, a_high], [b_low, b_high]] = acc;
        let a = _mm256_packs_epi32(lanes.apply(a_low, m_low), lanes.apply(a_high, m_high));
        let b = _mm256_packs_epi32(lanes.apply(b_low, m_low), lanes.apply(b_high, m_high));
        lanes.clamp(unswap(_mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi16(a, b))))
    }
}

/// The first `outputs` of 16 bytes, as far as there is room.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn store(to: &mut [u8], values: __m128i, outputs: usize) {
    let mut all = [0; 16];
    store16(&mut all, values);
    to.iter_mut().zip(all).take(outputs).for_each(|(to, from)| *to = from);
}
