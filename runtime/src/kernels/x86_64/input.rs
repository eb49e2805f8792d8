//! The model's input, from f32 to int8.

use core::arch::x86_64::*;

use super::simd::{store16, store32};
use crate::plan::Tensor;
use crate::quant::QuantParams;

/// See [`crate::kernels::QuantizeInput`].
pub(super) fn quantize(input: &[f32], tensor: &Tensor, channels_first: bool, bytes: &mut [u8]) {
    let channels = tensor.channels();
    let plane = tensor.height() * tensor.width();
    let quantizer = |from: &[f32], to: &mut [u8]| {
        // SAFETY: this function is reached only through its tiers, which are handed out where the processor has AVX2.
        unsafe { all(tensor.quant, from, to) }
    };
    if !channels_first || channels == 1 {
        return quantizer(input, bytes);
    }
    // A few pixels at a time: plane by plane, then side by side.
    let mut planes = [[0; BLOCK]; 3];
    for (block, pixels) in bytes.chunks_mut(BLOCK * channels).enumerate() {
        let start = block * BLOCK;
        let count = BLOCK.min(plane.saturating_sub(start));
        for first in (0..channels).step_by(planes.len()) {
            for (channel, values) in (first..channels).zip(&mut planes) {
                let from = input.get(channel * plane + start..).unwrap_or_default();
                let to = values.get_mut(..count).unwrap_or_default();
                quantizer(from.get(..count).unwrap_or_default(), to);
            }
            if channels == 3 && count == BLOCK {
                // SAFETY: as above.
                unsafe { interleave(&planes, pixels) };
                continue;
            }
            for (channel, values) in (first..channels).zip(&planes) {
                for (pixel, value) in pixels.chunks_exact_mut(channels).zip(values) {
                    if let Some(to) = pixel.get_mut(channel) {
                        *to = *value;
                    }
                }
            }
        }
    }
}

/// Pixels worked on at a time.
const BLOCK: usize = 64;

/// As [`QuantParams::quantize`].
#[target_feature(enable = "avx2")]
fn all(quant: QuantParams, from: &[f32], to: &mut [u8]) {
    let (from, from_rest) = from.as_chunks::<32>();
    let (to, to_rest) = to.as_chunks_mut::<32>();
    for (from, to) in from.iter().zip(to.iter_mut()) {
        store32(to, thirty_two(quant, from));
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        *to = quant.quantize(*from).cast_unsigned();
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn thirty_two(quant: QuantParams, from: &[f32; 32]) -> __m256i {
    let (scale, zero) = (_mm256_set1_ps(quant.scale), _mm256_set1_ps(quant.zero_point.into()));
    let (min, max) = (_mm256_set1_ps(-128.0), _mm256_set1_ps(127.0));
    let mut words = [_mm256_setzero_si256(); 4];
    for (word, from) in words.iter_mut().zip(from.as_chunks::<8>().0) {
        // SAFETY: eight f32 are there to read, and the load takes any alignment.
        let x = unsafe { _mm256_loadu_ps(from.as_ptr()) };
        let steps = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_div_ps(x, scale));
        // NaN becomes 0 steps.
        let steps = _mm256_and_ps(steps, _mm256_cmp_ps::<_CMP_ORD_Q>(steps, steps));
        let value = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(steps, zero), min), max);
        *word = _mm256_cvtps_epi32(value);
    }
    let [a, b, c, d] = words;
    let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Three planes to pixels of three channels.
#[target_feature(enable = "avx2")]
fn interleave(planes: &[[u8; BLOCK]; 3], pixels: &mut [u8]) {
    // Where the values of one plane go in each third of 16 pixels; −1 leaves a place for another plane.
    const PLACES: [[[i8; 16]; 3]; 3] = places();
    let [a, b, c] = planes.each_ref().map(|plane| plane.as_chunks::<16>().0);
    for (((a, b), c), to) in a.iter().zip(b).zip(c).zip(pixels.as_chunks_mut::<48>().0) {
        let planes = [a, b, c].map(|plane| super::simd::load16(plane));
        for (third, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let mut all = _mm_setzero_si128();
            for (values, places) in planes.iter().zip(&PLACES) {
                let Some(places) = places.get(third) else { return };
                let order = super::simd::load16(&places.map(i8::cast_unsigned));
                all = _mm_or_si128(all, _mm_shuffle_epi8(*values, order));
            }
            store16(to, all);
        }
    }
}

/// For every plane and every third of 48 bytes, which of the plane's 16 values goes where.
const fn places() -> [[[i8; 16]; 3]; 3] {
    let mut places = [[[-1; 16]; 3]; 3];
    let mut byte = 0;
    while byte < 48 {
        #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            places[byte % 3][byte / 16][byte % 16] = (byte / 3) as i8;
        }
        byte += 1;
    }
    places
}
