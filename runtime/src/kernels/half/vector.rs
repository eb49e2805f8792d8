//! Eight f32 values: what an x86-64 with AVX2, FMA and F16C has in one register, an AArch64 in two.

#[cfg(target_arch = "aarch64")]
pub(super) use neon::*;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::*;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use core::arch::x86_64::*;

    /// Eight f32 values.
    pub(in super::super) type Eight = __m256;

    /// f32 values from memory.
    ///
    /// # Safety
    /// Eight are there.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in super::super) unsafe fn load_at(from: *const f32) -> Eight {
        // SAFETY: eight values are there, and the load takes any alignment.
        unsafe { _mm256_loadu_ps(from) }
    }

    /// f32 values to memory.
    ///
    /// # Safety
    /// There is room for eight.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in super::super) unsafe fn store_at(to: *mut f32, values: Eight) {
        // SAFETY: there is room for eight values, and the store takes any alignment.
        unsafe { _mm256_storeu_ps(to, values) }
    }

    /// f16 values from memory, in f32.
    ///
    /// # Safety
    /// Eight are there.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in super::super) unsafe fn widen_at(from: *const u8) -> Eight {
        // SAFETY: 16 bytes are there, and the load takes any alignment.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
    }

    /// Values to memory, each rounded to the nearest f16, to even at halves.
    ///
    /// # Safety
    /// There is room for eight.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in super::super) unsafe fn narrow_at(to: *mut u8, values: Eight) {
        let values = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
        // SAFETY: there is room for 16 bytes, and the store takes any alignment.
        unsafe { _mm_storeu_si128(to.cast(), values) }
    }

    /// A hint that what lies there is wanted soon; nothing need lie there.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in super::super) fn prefetch(from: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }

    macro_rules! functions {
        ($($name:ident($($x:ident),*) = $f:ident;)*) => {
            $(
                #[target_feature(enable = "avx2,fma,f16c")]
                #[inline]
                pub(in super::super) fn $name($($x: Eight),*) -> Eight {
                    $f($($x),*)
                }
            )*
        };
    }

    functions! {
        zero() = _mm256_setzero_ps;
        add(a, b) = _mm256_add_ps;
        sub(a, b) = _mm256_sub_ps;
        mul(a, b) = _mm256_mul_ps;
        div(a, b) = _mm256_div_ps;
        max(a, b) = _mm256_max_ps;
        min(a, b) = _mm256_min_ps;
        sqrt(a) = _mm256_sqrt_ps;
        multiply_add(a, b, summand) = _mm256_fmadd_ps;
    }

    /// Eight times the same value.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in super::super) fn all(x: f32) -> Eight {
        _mm256_set1_ps(x)
    }

    /// Sizes.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in super::super) fn abs(x: Eight) -> Eight {
        _mm256_andnot_ps(_mm256_set1_ps(-0.0), x)
    }

    /// `below` where `x` is below 0, `x` elsewhere.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in super::super) fn where_negative(x: Eight, below: Eight) -> Eight {
        _mm256_blendv_ps(x, below, _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_setzero_ps()))
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use core::arch::aarch64::*;

    /// Eight f32 values.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Eight(float32x4_t, float32x4_t);

    /// f32 values from memory.
    ///
    /// # Safety
    /// Eight are there.
    #[inline(always)]
    pub(in super::super) unsafe fn load_at(from: *const f32) -> Eight {
        // SAFETY: eight values are there.
        unsafe { Eight(vld1q_f32(from), vld1q_f32(from.wrapping_add(4))) }
    }

    /// f32 values to memory.
    ///
    /// # Safety
    /// There is room for eight.
    #[inline(always)]
    pub(in super::super) unsafe fn store_at(to: *mut f32, Eight(a, b): Eight) {
        // SAFETY: there is room for eight values.
        unsafe {
            vst1q_f32(to, a);
            vst1q_f32(to.wrapping_add(4), b);
        }
    }

    /// f16 values from memory, in f32.
    ///
    /// # Safety
    /// Eight are there.
    #[inline(always)]
    pub(in super::super) unsafe fn widen_at(from: *const u8) -> Eight {
        // SAFETY: 16 bytes are there, which need no alignment as bytes; the rest works on registers.
        unsafe {
            let values = vreinterpretq_f16_u8(vld1q_u8(from));
            Eight(vcvt_f32_f16(vget_low_f16(values)), vcvt_high_f32_f16(values))
        }
    }

    /// Values to memory, each rounded to the nearest f16, to even at halves.
    ///
    /// # Safety
    /// There is room for eight.
    #[inline(always)]
    pub(in super::super) unsafe fn narrow_at(to: *mut u8, Eight(a, b): Eight) {
        // SAFETY: there is room for 16 bytes, which need no alignment as bytes; the rest works on registers.
        unsafe { vst1q_u8(to, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(a), b))) }
    }

    /// The processor fetches ahead by itself.
    #[inline(always)]
    pub(in super::super) fn prefetch(_: *const u8) {}

    macro_rules! functions {
        ($($name:ident($($x:ident),*) = $f:ident;)*) => {
            $(
                #[inline(always)]
                pub(in super::super) fn $name($($x: Eight),*) -> Eight {
                    // SAFETY: works on registers alone, and AArch64 always has it.
                    unsafe { Eight($f($($x.0),*), $f($($x.1),*)) }
                }
            )*
        };
    }

    functions! {
        add(a, b) = vaddq_f32;
        sub(a, b) = vsubq_f32;
        mul(a, b) = vmulq_f32;
        div(a, b) = vdivq_f32;
        max(a, b) = vmaxq_f32;
        min(a, b) = vminq_f32;
        sqrt(a) = vsqrtq_f32;
        abs(a) = vabsq_f32;
    }

    /// a · b + summand, rounded once.
    #[inline(always)]
    pub(in super::super) fn multiply_add(a: Eight, b: Eight, summand: Eight) -> Eight {
        // SAFETY: works on registers alone, and AArch64 always has it.
        unsafe { Eight(vfmaq_f32(summand.0, a.0, b.0), vfmaq_f32(summand.1, a.1, b.1)) }
    }

    /// Zeros.
    #[inline(always)]
    pub(in super::super) fn zero() -> Eight {
        all(0.0)
    }

    /// Eight times the same value.
    #[inline(always)]
    pub(in super::super) fn all(x: f32) -> Eight {
        // SAFETY: works on registers alone, and AArch64 always has it.
        let four = unsafe { vdupq_n_f32(x) };
        Eight(four, four)
    }

    /// `below` where `x` is below 0, `x` elsewhere.
    #[inline(always)]
    pub(in super::super) fn where_negative(x: Eight, below: Eight) -> Eight {
        // SAFETY: works on registers alone, and AArch64 always has it.
        let one = |x, below| unsafe { vbslq_f32(vcltzq_f32(x), below, x) };
        Eight(one(x.0, below.0), one(x.1, below.1))
    }
}
