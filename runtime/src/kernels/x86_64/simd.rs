//! The few vector operations that every kernel here shares: loads and stores of chunks, requantization, narrowing.

use core::arch::x86_64::*;

use crate::plan::Requant;

/// 32 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are there, and the load takes any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are there, and the load takes any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// 32 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store32(bytes: &mut [u8; 32], value: __m256i) {
    // SAFETY: 32 bytes are there, and the store takes any alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}

/// 16 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store16(bytes: &mut [u8; 16], value: __m128i) {
    // SAFETY: 16 bytes are there, and the store takes any alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}

/// int8 to int16, as many as both have room for.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn widen(from: &[u8], to: &mut [u8]) {
    let (from, from_rest) = from.as_chunks::<16>();
    let (to, to_rest) = to.as_chunks_mut::<32>();
    for (from, to) in from.iter().zip(to.iter_mut()) {
        store32(to, _mm256_cvtepi8_epi16(load16(from)));
    }
    // Either both have a rest behind the same number of chunks, or the shorter ended with a chunk.
    let (rest_from, rest_to) = match (from.get(to.len()), to.get_mut(from.len())) {
        (None, None) => (from_rest, to_rest),
        (Some(from), None) => (from.as_slice(), to_rest),
        (None, Some(to)) => (from_rest, to.as_mut_slice()),
        (Some(_), Some(_)) => return,
    };
    for (from, to) in rest_from.iter().zip(rest_to.as_chunks_mut::<2>().0) {
        *to = i16::from(from.cast_signed()).to_le_bytes();
    }
}

/// The lane of a vector of results that belongs to lane `lane` of their accumulators: the middle two of every four change places. It is
/// its own inverse.
pub(super) const fn swapped(lane: usize) -> usize {
    lane / 4 * 4 + lane % 2 * 2 + lane % 4 / 2
}

/// Undoes [`swapped`] in bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn unswap(bytes: __m256i) -> __m256i {
    let order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(order))
}

/// Multipliers of eight accumulators.
#[derive(Clone, Copy)]
pub(super) struct Multipliers {
    even: __m256i,
    odd: __m256i,
}

impl Multipliers {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(multipliers: __m256i) -> Self {
        Self { even: multipliers, odd: _mm256_shuffle_epi32::<0xF5>(multipliers) }
    }
}

/// What a requantization needs, spread over the lanes.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    high: __m256i,
    after: __m128i,
    left: u32,
    min: __m256i,
    max: __m256i,
}

impl Lanes {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(requant: Requant) -> Self {
        Self {
            high: _mm256_set1_epi32(requant.high_word()),
            after: _mm_cvtsi32_si128(i32::from(requant.shift()) - 32),
            left: u32::from(requant.left()),
            min: _mm256_set1_epi8(requant.min),
            max: _mm256_set1_epi8(requant.max),
        }
    }

    /// floor((acc · m + rounding) / 2^shift) + zero point of eight accumulators, neither saturated nor clamped, in the order of
    /// [`swapped`]; after [`Lanes::shift_left`], where the layer has one.
    ///
    /// Everything below the high word of the product is rounding, and what is added to it (below 2^30 in size, as the high word is)
    /// cannot overflow: see [`Requant`].
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn apply(&self, acc: __m256i, multipliers: Multipliers) -> __m256i {
        let even = _mm256_castsi256_ps(_mm256_mul_epi32(acc, multipliers.even));
        let odd = _mm256_castsi256_ps(_mm256_mul_epi32(_mm256_shuffle_epi32::<0xF5>(acc), multipliers.odd));
        let high = _mm256_castps_si256(_mm256_shuffle_ps::<0xDD>(even, odd));
        _mm256_sra_epi32(_mm256_add_epi32(high, self.high), self.after)
    }

    /// Whether accumulators are to be shifted left first.
    #[inline]
    pub(super) fn shifts(&self) -> bool {
        self.left > 0
    }

    /// Accumulators · 2^left, saturated.
    #[target_feature(enable = "avx2")]
    #[inline(never)]
    pub(super) fn shift_left(&self, acc: &mut [__m256i]) {
        let count = _mm_cvtsi32_si128(self.left.cast_signed());
        for acc in acc {
            let shifted = _mm256_sll_epi32(*acc, count);
            let fits = _mm256_cmpeq_epi32(_mm256_sra_epi32(shifted, count), *acc);
            let limit = _mm256_xor_si256(_mm256_srai_epi32::<31>(*acc), _mm256_set1_epi32(i32::MAX));
            *acc = _mm256_blendv_epi8(limit, shifted, fits);
        }
    }

    /// Clamps int8 lanes.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn clamp(&self, q: __m256i) -> __m256i {
        _mm256_min_epi8(_mm256_max_epi8(q, self.min), self.max)
    }

    /// Four times eight results, saturated and clamped to int8: `a` then `b` in the lower half, `c` then `d` in the upper one.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn narrow(&self, a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
        // Packing works within halves of 128 bits: the words come out as a₀ b₀ c₀ d₀ a₁ b₁ c₁ d₁.
        let words = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        self.clamp(_mm256_permutevar8x32_epi32(words, order))
    }
}
