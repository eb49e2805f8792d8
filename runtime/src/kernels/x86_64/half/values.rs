//! f16 to f32 and back, eight values at a time.

use core::arch::x86_64::*;

use super::super::simd::{load16, store16};

/// Bytes of an f16.
pub(super) const SIZE: usize = 2;
/// Eight f16 values.
pub(super) const EIGHT: usize = 8 * SIZE;

/// Eight f16 values in f32.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn widen8(from: &[u8; EIGHT]) -> __m256 {
    _mm256_cvtph_ps(load16(from))
}

/// Eight values, rounded to the nearest f16, to even at halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn narrow8(to: &mut [u8; EIGHT], values: __m256) {
    store16(to, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values));
}

/// As many of eight values as there are; zeros in place of the others.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn widen_some(from: &[u8]) -> __m256 {
    match from.first_chunk() {
        Some(eight) => widen8(eight),
        None => {
            let mut all = [0; EIGHT];
            all.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            widen8(&all)
        }
    }
}

/// As many of eight values as there is room for.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn narrow_some(to: &mut [u8], values: __m256) {
    match to.first_chunk_mut() {
        Some(eight) => narrow8(eight, values),
        None => {
            let mut all = [0; EIGHT];
            narrow8(&mut all, values);
            to.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        }
    }
}

/// Eight f32 values.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn load(from: &[f32; 8]) -> __m256 {
    // SAFETY: eight values are there, and the load takes any alignment.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

/// Eight f32 values.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn store(to: &mut [f32; 8], values: __m256) {
    // SAFETY: there is room for eight values, and the store takes any alignment.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) }
}

/// Eight f32 numbers of a table in the plan, from number `first` on; zeros beyond its end.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn numbers(table: &[u8], first: usize) -> __m256 {
    match table.get(first * 4..).and_then(|rest| rest.first_chunk::<32>()) {
        // SAFETY: 32 bytes are there, and the load takes any alignment.
        Some(eight) => unsafe { _mm256_loadu_ps(eight.as_ptr().cast()) },
        None => _mm256_setzero_ps(),
    }
}

/// f16 to f32, as many as both have room for.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn widen(from: &[u8], to: &mut [f32]) {
    let count = to.len().min(from.len() / SIZE);
    let (from, from_rest) = from.split_at_checked(count / 8 * EIGHT).unwrap_or_default();
    let (to, to_rest) = to.split_at_mut_checked(count / 8 * 8).unwrap_or_default();
    for (from, to) in from.as_chunks::<EIGHT>().0.iter().zip(to.as_chunks_mut::<8>().0) {
        store(to, widen8(from));
    }
    if !count.is_multiple_of(8) {
        let mut last = [0.0; 8];
        store(&mut last, widen_some(from_rest.get(..count % 8 * SIZE).unwrap_or_default()));
        to_rest.iter_mut().zip(last).take(count % 8).for_each(|(to, from)| *to = from);
    }
}

/// Bounds on what an operator gives.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    low: __m256,
    high: __m256,
}

impl Bounds {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn new((low, high): (f32, f32)) -> Self {
        Self { low: _mm256_set1_ps(low), high: _mm256_set1_ps(high) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn clamp(self, values: __m256) -> __m256 {
        _mm256_min_ps(_mm256_max_ps(values, self.low), self.high)
    }
}

/// The part of a workspace that is aligned for f32: all of it but what [`SLACK_BYTES`] allows for.
pub(super) fn floats(workspace: &mut [u8]) -> &mut [f32] {
    // SAFETY: any four bytes are an f32.
    unsafe { workspace.align_to_mut().1 }
}

/// What a workspace wants beside its f32 values, as it may begin anywhere.
pub(super) const SLACK_BYTES: usize = 4;
