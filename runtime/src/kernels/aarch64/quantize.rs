//! The model's input from f32 to int8, 16 values at a time.

use core::arch::aarch64::*;

use super::vector::store;
use crate::kernels::generic;
use crate::plan::Tensor;
use crate::quant::QuantParams;

/// See [`crate::kernels::QuantizeInput`].
pub(super) fn quantize(input: &[f32], tensor: &Tensor, channels_first: bool, bytes: &mut [u8]) {
    match (channels_first, tensor.channels()) {
        (false, _) | (true, 1) => plane(input, tensor.quant, bytes),
        (true, 3) => three(input, tensor, bytes),
        _ => generic::quantize(input, tensor, channels_first, bytes),
    }
}

/// [`QuantParams::quantize`] of 16 values: the quotient rounded half to even, the zero point, both saturating; NaN as 0.
#[inline(always)]
fn sixteen(values: &[f32; 16], quant: QuantParams) -> int8x16_t {
    // SAFETY: AArch64 always has these instructions, and the array has the values that are read.
    unsafe {
        let (scale, zero) = (vdupq_n_f32(quant.scale), vdupq_n_f32(f32::from(quant.zero_point)));
        let four = |index: usize| {
            let steps = vrndnq_f32(vdivq_f32(vld1q_f32(values.as_ptr().wrapping_add(4 * index)), scale));
            let numbers = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(steps), vceqq_f32(steps, steps)));
            vqmovn_s32(vcvtq_s32_f32(vaddq_f32(numbers, zero)))
        };
        let (low, high) = (vcombine_s16(four(0), four(1)), vcombine_s16(four(2), four(3)));
        vcombine_s8(vqmovn_s16(low), vqmovn_s16(high))
    }
}

/// Value by value.
fn plane(input: &[f32], quant: QuantParams, bytes: &mut [u8]) {
    let (blocks, rest) = bytes.as_chunks_mut::<16>();
    let (values, values_rest) = input.as_chunks::<16>();
    for (out, values) in blocks.iter_mut().zip(values) {
        store(out, sixteen(values, quant));
    }
    for (out, value) in rest.iter_mut().zip(values_rest) {
        *out = quant.quantize(*value).cast_unsigned();
    }
}

/// Three planes, interleaved.
fn three(input: &[f32], tensor: &Tensor, bytes: &mut [u8]) {
    let size = tensor.height() * tensor.width();
    let mut planes = input.chunks_exact(size.max(1));
    let (Some(red), Some(green), Some(blue)) = (planes.next(), planes.next(), planes.next()) else { return };
    let (blocks, rest) = bytes.as_chunks_mut::<48>();
    let ((reds, red), (greens, green), (blues, blue)) = (red.as_chunks(), green.as_chunks(), blue.as_chunks());
    for (((out, r), g), b) in blocks.iter_mut().zip(reds).zip(greens).zip(blues) {
        let pixels = int8x16x3_t(sixteen(r, tensor.quant), sixteen(g, tensor.quant), sixteen(b, tensor.quant));
        // SAFETY: the array has the 48 bytes that are written.
        unsafe { vst3q_s8(out.as_mut_ptr().cast(), pixels) };
    }
    for (((pixel, r), g), b) in rest.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        for (out, value) in pixel.iter_mut().zip([r, g, b]) {
            *out = tensor.quant.quantize(*value).cast_unsigned();
        }
    }
}
