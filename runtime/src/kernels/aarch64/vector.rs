//! Loads and stores between checked bytes and vectors, and requantization.

use core::arch::aarch64::*;
use core::arch::asm;

use crate::plan::Requant;

/// 16 bytes.
pub(super) fn load(bytes: &[u8; 16]) -> int8x16_t {
    // SAFETY: the array has the 16 bytes that are read; bytes need no alignment.
    unsafe { vld1q_s8(bytes.as_ptr().cast()) }
}

/// 16 bytes.
pub(super) fn store(bytes: &mut [u8; 16], vector: int8x16_t) {
    // SAFETY: the array has the 16 bytes that are written; bytes need no alignment.
    unsafe { vst1q_s8(bytes.as_mut_ptr().cast(), vector) }
}

/// Four little-endian int32.
pub(super) fn words(bytes: &[u8; 16]) -> int32x4_t {
    // SAFETY: AArch64 always has these instructions.
    unsafe { vreinterpretq_s32_s8(load(bytes)) }
}

/// Block `index` of four int32; zeros beyond the end, where a checked plan has none.
pub(super) fn quad(table: &[u8], index: usize) -> int32x4_t {
    words(table.as_chunks::<16>().0.get(index).unwrap_or(&[0; 16]))
}

/// Up to 16 bytes, zeros behind them.
pub(super) fn load_part(bytes: &[u8]) -> int8x16_t {
    let mut whole = [0; 16];
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    load(&whole)
}

/// As many bytes as `bytes` holds, at most 16.
pub(super) fn store_part(bytes: &mut [u8], vector: int8x16_t) {
    let mut whole = [0; 16];
    store(&mut whole, vector);
    for (to, from) in bytes.iter_mut().zip(whole) {
        *to = from;
    }
}

/// `smull2`. The compiler's own takes upper halves that stay the same out of the loop, and then has too few registers.
#[inline(always)]
pub(super) fn mull_high(a: int8x16_t, b: int8x16_t) -> int16x8_t {
    let products;
    // SAFETY: works on registers alone, and AArch64 always has it.
    unsafe {
        asm!(
            "smull2 {products:v}.8h, {a:v}.16b, {b:v}.16b",
            products = lateout(vreg) products,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    products
}

/// `smlal2`; see [`mull_high`].
#[inline(always)]
pub(super) fn mlal_high(mut sums: int16x8_t, a: int8x16_t, b: int8x16_t) -> int16x8_t {
    // SAFETY: works on registers alone, and AArch64 always has it.
    unsafe {
        asm!(
            "smlal2 {sums:v}.8h, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// [`Requant::apply`] on vectors.
///
/// With y = floor(acc · m / 2^31), which `sqdmulh` gives, floor((acc · m + 2^(shift − 1)) / 2^shift) = floor((y + 2^(shift − 32)) /
/// 2^(shift − 31)), because shift ≥ 33 and a floor of a floor is the floor of the whole: that is `srshl`. It saturates nowhere: m ≥ 0.
/// Then the saturation to int16 is past every bound already, so that the zero point can be added there.
#[derive(Clone, Copy)]
pub(super) struct Narrow {
    left: int32x4_t,
    /// Whether accumulators are shifted to the left first, which few layers need.
    pub(super) shifts_left: bool,
    /// 31 − shift: negative, to the right.
    right: int32x4_t,
    zero_point: int16x8_t,
    min: int8x16_t,
    max: int8x16_t,
}

impl Narrow {
    pub(super) fn new(requant: Requant) -> Self {
        // SAFETY: AArch64 always has these instructions.
        unsafe {
            Self {
                left: vdupq_n_s32(i32::from(requant.left())),
                shifts_left: requant.left() > 0,
                right: vdupq_n_s32(31 - i32::from(requant.shift())),
                zero_point: vdupq_n_s16(i16::from(requant.zero_point)),
                min: vdupq_n_s8(requant.min),
                max: vdupq_n_s8(requant.max),
            }
        }
    }

    /// Four accumulators as they are multiplied; for a layer that does not shift them, the same.
    #[inline(always)]
    pub(super) fn shift_left(&self, acc: int32x4_t) -> int32x4_t {
        // SAFETY: AArch64 always has these instructions.
        unsafe { vqshlq_s32(acc, self.left) }
    }

    /// Four accumulators, shifted to the left already, times their multipliers, rounded.
    #[inline(always)]
    pub(super) fn scale(&self, acc: int32x4_t, multipliers: int32x4_t) -> int32x4_t {
        // SAFETY: AArch64 always has these instructions.
        unsafe { vrshlq_s32(vqdmulhq_s32(acc, multipliers), self.right) }
    }

    /// Eight scaled accumulators with the zero point.
    #[inline(always)]
    pub(super) fn offset(&self, low: int32x4_t, high: int32x4_t) -> int16x8_t {
        // SAFETY: AArch64 always has these instructions.
        unsafe { vqaddq_s16(vqmovn_high_s32(vqmovn_s32(low), high), self.zero_point) }
    }

    /// Eight outputs.
    #[inline(always)]
    pub(super) fn eight(&self, wide: int16x8_t) -> int8x8_t {
        // SAFETY: AArch64 always has these instructions.
        unsafe { vmin_s8(vmax_s8(vqmovn_s16(wide), vget_low_s8(self.min)), vget_low_s8(self.max)) }
    }

    /// Sixteen outputs.
    #[inline(always)]
    pub(super) fn sixteen(&self, low: int16x8_t, high: int16x8_t) -> int8x16_t {
        // SAFETY: AArch64 always has these instructions.
        unsafe { vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(low), high), self.min), self.max) }
    }
}
