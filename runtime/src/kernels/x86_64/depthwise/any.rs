//! Any window.

use core::arch::x86_64::*;

use super::{Group, channels, group_bytes, store, unpack};
use crate::kernels::Memory;
use crate::kernels::x86_64::bands::Bands;
use crate::kernels::x86_64::simd::{Lanes, load32};
use crate::plan::Op;

/// Taps, rounded up to pairs.
fn taps(op: &Op<'_>) -> usize {
    op.window.taps().next_multiple_of(2)
}

/// Distances of the taps, a band, and what is read behind it: three pixels next to the last, and the rest of a vector.
pub(super) fn workspace_bytes(op: &Op<'_>) -> usize {
    let bands = Bands::new(op, 2 * channels(op));
    8 * taps(op) + bands.bytes(op) + 3 * bands.patch(op, 0, 1) + 64
}

#[target_feature(enable = "avx2")]
pub(super) fn run(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (bands, [_, width, outputs]) = (Bands::new(op, 2 * channels(op)), op.output.shape);
    let (taps, band) = memory.workspace.split_at_mut_checked(8 * taps(op)).unwrap_or_default();
    let taps = taps.as_chunks_mut::<8>().0;
    let [_, columns] = op.window.kernel;
    for (index, tap) in taps.iter_mut().enumerate() {
        // The last pair of an odd number of taps has zeros for its second weights.
        let index = index.min(op.window.taps() - 1);
        *tap = (bands.tap(op, index / columns, index % columns) as u64).to_ne_bytes();
    }
    for rows in bands.iter(op) {
        let input = memory.arena.get(op.input().range()).unwrap_or_default();
        bands.fill(op, rows.clone(), input, band, 2, unpack);
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        let output = output.get_mut(rows.start * width * outputs..rows.end * width * outputs).unwrap_or_default();
        for (y, out) in output.chunks_exact_mut(width * outputs).enumerate() {
            let band = band.get(bands.patch(op, y, 0)..).unwrap_or_default();
            row(op, taps, band, bands.patch(op, 0, 1), memory.packed, out);
        }
    }
}

/// A row of outputs, whose patches begin at the beginning of `band` and every `step` bytes.
#[target_feature(enable = "avx2")]
fn row(op: &Op<'_>, taps: &[[u8; 8]], band: &[u8], step: usize, packed: &[u8], out: &mut [u8]) {
    let ([_, width, outputs], last) = (op.output.shape, taps.iter().map(|tap| u64::from_ne_bytes(*tap)).max());
    let (lanes, bytes) = (Lanes::new(op.requant), group_bytes(op));
    for index in 0..channels(op).div_ceil(16) {
        let Some(group) = Group::new(op, packed, index, bytes) else { return };
        let (Some(band), Some(out)) = (band.get(32 * index..), out.get_mut(16 * index..)) else { return };
        let is_half = channels(op) - 16 * index < 16;
        // Vectors of a half group hold two pixels; places beyond the last pixel are read, too, but not stored.
        let pixels = if is_half { 4 } else { 2 };
        let reach = last.unwrap_or(0) as usize + if is_half { 16 } else { 32 };
        if (width.next_multiple_of(pixels) - 1) * step + reach > band.len() {
            return;
        }
        for x in (0..width).step_by(pixels) {
            // SAFETY: no pixel and no tap is beyond those of the check above.
            let acc = unsafe {
                let start = band.as_ptr().add(x * step);
                if is_half { sums::<true>(&group, taps, start, step) } else { sums::<false>(&group, taps, start, step) }
            };
            let bytes = group.requantize(&lanes, acc);
            let (a, b) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            let vectors =
                if is_half { [a, _mm_unpackhi_epi64(a, a), b, _mm_unpackhi_epi64(b, b)] } else { [a, b, a, b] };
            let places = out.get_mut(x * outputs..).unwrap_or_default().chunks_mut(outputs);
            for (to, values) in places.zip(vectors).take(pixels) {
                store(to, values, group.outputs);
            }
        }
    }
}

/// Accumulators of two vectors of pixels.
///
/// # Safety
/// 32 bytes can be read at every tap of every pixel; 16 are enough where `HALF`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn sums<const HALF: bool>(
    group: &Group<'_>,
    taps: &[[u8; 8]],
    start: *const u8,
    step: usize,
) -> [[__m256i; 2]; 2] {
    let mut acc = [group.bias; 2];
    let second = start.wrapping_add(if HALF { 2 * step } else { step });
    for (pair, weights) in taps.as_chunks::<2>().0.iter().zip(group.weights) {
        let [low, high] = weights.as_chunks::<32>().0 else { return acc };
        let weights = [load32(low), load32(high)];
        let pair = pair.map(|tap| u64::from_ne_bytes(tap) as usize);
        for (acc, start) in acc.iter_mut().zip([start, second]) {
            // SAFETY: the caller's.
            let [a, b] = unsafe { pair.map(|tap| load::<HALF>(start.add(tap), step)) };
            let pairs = [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
            for ((acc, pair), weight) in acc.iter_mut().zip(pairs).zip(weights) {
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(pair, weight));
            }
        }
    }
    acc
}

/// One tap of a lane group: 16 channels, or 8 of each of two pixels.
///
/// # Safety
/// 32 bytes can be read; where `HALF`, 16 there and `step` bytes further on.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn load<const HALF: bool>(from: *const u8, step: usize) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        if HALF { _mm256_loadu2_m128i(from.add(step).cast(), from.cast()) } else { _mm256_loadu_si256(from.cast()) }
    }
}
