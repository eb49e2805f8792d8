//! The tiers' instructions: how each multiplies four bytes of activations with a panel's weights.

use core::arch::x86_64::*;

use super::product::{Dot, Isa, Panel, Rows, WIDEST, panel, single};
use super::simd::{load32, store32, widen};
use crate::plan::Requant;

/// Declares a tier: its [`Isa`], whose functions are [`panel`] and [`single`] compiled with the tier's features for each width of panel.
macro_rules! isa {
    ($(#[$doc:meta])* $isa:ident, features: $features:literal, group: $group:literal, weight: $weight:literal,
        offset: $offset:literal, lanes: $lanes:literal, unpack: $unpack:path, dots: [$($width:literal => $dot:ty),*]) => {
        $(#[$doc])*
        pub(super) struct $isa;

        impl Isa for $isa {
            const GROUP: usize = $group;
            const WEIGHT: usize = $weight;
            const OFFSET: i32 = $offset;
            const LANES: usize = $lanes;

            fn unpack(from: &[u8], to: &mut [u8]) {
                // SAFETY: kernels of this tier are reached only through the tier, which is handed out where the processor has its features.
                unsafe { $unpack(from, to) }
            }

            fn panel(rows: &Rows<'_>, own: &Panel<'_>, requant: Requant, out: &mut [u8], stride: usize, outputs: usize) {
                #[target_feature(enable = $features)]
                fn all<D: Dot>(rows: &Rows<'_>, own: &Panel<'_>, requant: Requant, out: &mut [u8], stride: usize, outputs: usize) {
                    // SAFETY: this function has the features, and `D` is one of theirs.
                    unsafe { panel::<D>(rows, own, requant, out, stride, outputs) }
                }
                // SAFETY: as above.
                unsafe {
                    match own.lanes {
                        $($width => all::<$dot>(rows, own, requant, out, stride, outputs),)*
                        _ => (),
                    }
                }
            }

            fn single(rows: &Rows<'_>, own: &Panel<'_>) -> [i32; WIDEST] {
                #[target_feature(enable = $features)]
                fn one<D: Dot>(rows: &Rows<'_>, own: &Panel<'_>) -> [i32; WIDEST] {
                    // SAFETY: this function has the features, and `D` is one of theirs.
                    unsafe { single::<D>(rows, own) }
                }
                // SAFETY: as above.
                unsafe {
                    match own.lanes {
                        $($width => one::<$dot>(rows, own),)*
                        _ => [0; WIDEST],
                    }
                }
            }
        }
    };
}

isa! {
    /// int16 activations and `vpmaddwd`: exact for all values, as its sums of two products are int32. Weights are int16, too: nothing but
    /// products is left in the loop.
    Avx2, features: "avx2", group: 2, weight: 2, offset: 0, lanes: 16, unpack: widen,
    dots: [8 => Words<1>, 16 => Words<2>]
}

isa! {
    /// [`Avx2`] for one row, where every weight is used once: they stay int8, as reading them takes longer than widening them.
    Avx2Row, features: "avx2", group: 2, weight: 1, offset: 0, lanes: 16, unpack: widen,
    dots: [8 => NarrowWords<1>, 16 => NarrowWords<2>]
}

isa! {
    /// 256-bit `vpdpbusd` of AVX-VNNI: activations become unsigned by adding 128, which the bias takes back.
    AvxVnni, features: "avx2,avxvnni", group: 4, weight: 1, offset: 128, lanes: 16, unpack: flip,
    dots: [8 => Lanes<AvxVnniDot, 1>, 16 => Lanes<AvxVnniDot, 2>]
}

isa! {
    /// 512-bit `vpdpbusd`, 256-bit for the narrowest panels.
    Avx512Vnni, features: "avx2,avx512f,avx512bw,avx512vl,avx512vnni", group: 4, weight: 1, offset: 128, lanes: 32, unpack: flip,
    dots: [8 => Lanes<Avx512VlDot, 1>, 16 => WideBytes<Avx512Dot, 1>, 32 => WideBytes<Avx512Dot, 2>]
}

#[cfg(any(test, feature = "testing"))]
isa! {
    /// [`AvxVnni`] with AVX2 in place of the one instruction, so that all the rest is tested on processors without it.
    AvxVnniEmulated, features: "avx2", group: 4, weight: 1, offset: 128, lanes: 16, unpack: flip,
    dots: [8 => Lanes<emulated::Dot256, 1>, 16 => Lanes<emulated::Dot256, 2>]
}

#[cfg(any(test, feature = "testing"))]
isa! {
    /// [`Avx512Vnni`] likewise.
    Avx512VnniEmulated, features: "avx2", group: 4, weight: 1, offset: 128, lanes: 32, unpack: flip,
    dots: [8 => Lanes<emulated::Dot256, 1>, 16 => WideBytes<emulated::Dot512, 1>, 32 => WideBytes<emulated::Dot512, 2>]
}

/// int8 to uint8: 128 is added, as many as both have room for.
#[target_feature(enable = "avx2")]
fn flip(from: &[u8], to: &mut [u8]) {
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<32>(), to.as_chunks_mut::<32>());
    for (from, to) in from.iter().zip(to.iter_mut()) {
        store32(to, _mm256_xor_si256(load32(from), _mm256_set1_epi8(i8::MIN)));
    }
    // Either both have a rest behind the same number of chunks, or the shorter ended with a chunk.
    let (from, to) = match (from.get(to.len()), to.get_mut(from.len())) {
        (None, None) => (from_rest, to_rest),
        (Some(from), None) => (from.as_slice(), to_rest),
        (None, Some(to)) => (from_rest, to.as_mut_slice()),
        (Some(_), Some(_)) => return,
    };
    from.iter().zip(to).for_each(|(from, to)| *to = from ^ 0x80);
}

/// `V` vectors of eight lanes, two int16 each, weights as int16.
pub(super) type Words<const V: usize> = Lanes<Pairs, V>;

/// As [`Words`], weights as int8.
pub(super) struct NarrowWords<const V: usize>;

impl<const V: usize> Dot for NarrowWords<V> {
    type Acc = [__m256i; V];
    type Weights = [__m256i; V];
    const LANES: usize = 8 * V;
    const STEP: usize = 16 * V;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn start(numbers: *const u8) -> Self::Acc {
        // SAFETY: the caller's.
        unsafe { load256(numbers) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's.
        unsafe {
            let mut weights = [_mm256_setzero_si256(); V];
            for (index, weights) in weights.iter_mut().enumerate() {
                *weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(16 * index).cast()));
            }
            weights
        }
    }

    #[inline(always)]
    unsafe fn dot(acc: Self::Acc, x: *const u8, weights: Self::Weights) -> Self::Acc {
        // SAFETY: the caller's.
        unsafe { Words::<V>::dot(acc, x, weights) }
    }

    #[inline(always)]
    unsafe fn eights(acc: Self::Acc) -> [__m256i; 4] {
        // SAFETY: the caller's.
        unsafe { padded(acc) }
    }
}

/// `V` vectors.
///
/// # Safety
/// They can be read, and the processor has AVX2.
#[inline(always)]
unsafe fn load256<const V: usize>(from: *const u8) -> [__m256i; V] {
    // SAFETY: the caller's; loads take any alignment.
    unsafe {
        let mut all = [_mm256_setzero_si256(); V];
        for (index, vector) in all.iter_mut().enumerate() {
            *vector = _mm256_loadu_si256(from.add(32 * index).cast());
        }
        all
    }
}

/// With zeros behind.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn padded<const V: usize>(acc: [__m256i; V]) -> [__m256i; 4] {
    // SAFETY: the caller's.
    let mut all = [unsafe { _mm256_setzero_si256() }; 4];
    for (to, from) in all.iter_mut().zip(acc) {
        *to = from;
    }
    all
}

/// The sums of two products of int16, or of four of unsigned with signed bytes, in every int32 lane, onto `acc`, without saturation.
///
/// # Safety
/// The processor has what the implementation names.
pub(super) trait Multiply {
    type Vector: Copy;
    /// Rows of a tile of one vector's width.
    const TALL: usize;
    unsafe fn multiply(acc: Self::Vector, x: Self::Vector, weights: Self::Vector) -> Self::Vector;
}

/// `vpmaddwd`.
pub(super) struct Pairs;

impl Multiply for Pairs {
    type Vector = __m256i;
    const TALL: usize = 6;

    #[inline(always)]
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(x, weights)) }
    }
}

/// `vpdpbusd`, VEX-encoded.
pub(super) struct AvxVnniDot;

impl Multiply for AvxVnniDot {
    type Vector = __m256i;
    const TALL: usize = 8;

    #[inline(always)]
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_dpbusd_avx_epi32(acc, x, weights) }
    }
}

/// `vpdpbusd`, EVEX-encoded, of 256 bits.
pub(super) struct Avx512VlDot;

impl Multiply for Avx512VlDot {
    type Vector = __m256i;
    const TALL: usize = 8;

    #[inline(always)]
    unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_dpbusd_epi32(acc, x, weights) }
    }
}

/// `vpdpbusd` of 512 bits.
pub(super) struct Avx512Dot;

impl Multiply for Avx512Dot {
    type Vector = __m512i;
    const TALL: usize = 8;

    #[inline(always)]
    unsafe fn multiply(acc: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_dpbusd_epi32(acc, x, weights) }
    }
}

/// What is loaded and spread of a vector of 512 bits.
///
/// # Safety
/// The processor has what the implementation names, and what is pointed to can be read.
pub(super) trait Wide: Multiply {
    unsafe fn load(from: *const u8) -> Self::Vector;
    unsafe fn spread(four: i32) -> Self::Vector;
    unsafe fn halves(vector: Self::Vector) -> [__m256i; 2];
}

impl Wide for Avx512Dot {
    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        // SAFETY: the caller's; loads take any alignment.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn spread(four: i32) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_set1_epi32(four) }
    }

    #[inline(always)]
    unsafe fn halves(vector: __m512i) -> [__m256i; 2] {
        // SAFETY: the caller's.
        unsafe { [_mm512_castsi512_si256(vector), _mm512_extracti64x4_epi64::<1>(vector)] }
    }
}

/// `V` vectors of eight lanes.
pub(super) struct Lanes<F, const V: usize>(core::marker::PhantomData<F>);

impl<F: Multiply<Vector = __m256i>, const V: usize> Dot for Lanes<F, V> {
    type Acc = [__m256i; V];
    type Weights = [__m256i; V];
    const LANES: usize = 8 * V;
    const STEP: usize = 32 * V;
    const ROWS: usize = if V == 1 { F::TALL } else { 6 };

    #[inline(always)]
    unsafe fn start(numbers: *const u8) -> Self::Acc {
        // SAFETY: the caller's.
        unsafe { load256(numbers) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's.
        unsafe { load256(from) }
    }

    #[inline(always)]
    unsafe fn dot(mut acc: Self::Acc, x: *const u8, weights: Self::Weights) -> Self::Acc {
        // SAFETY: the caller's.
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            for (acc, weights) in acc.iter_mut().zip(weights) {
                *acc = F::multiply(*acc, x, weights);
            }
            acc
        }
    }

    #[inline(always)]
    unsafe fn eights(acc: Self::Acc) -> [__m256i; 4] {
        // SAFETY: the caller's.
        unsafe { padded(acc) }
    }
}

/// `V` vectors of sixteen lanes, four bytes each. 32 registers hold the accumulators of more rows, but then there are too few for
/// where the rows lie.
pub(super) struct WideBytes<F, const V: usize>(core::marker::PhantomData<F>);

impl<F: Wide, const V: usize> Dot for WideBytes<F, V> {
    type Acc = [F::Vector; V];
    type Weights = [F::Vector; V];
    const LANES: usize = 16 * V;
    const STEP: usize = 64 * V;
    const ROWS: usize = F::TALL;

    #[inline(always)]
    unsafe fn start(numbers: *const u8) -> Self::Acc {
        // SAFETY: the caller's.
        unsafe { Self::weights(numbers) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's.
        unsafe {
            let mut all = [F::load(from); V];
            for (index, vector) in all.iter_mut().enumerate() {
                *vector = F::load(from.add(64 * index));
            }
            all
        }
    }

    #[inline(always)]
    unsafe fn dot(mut acc: Self::Acc, x: *const u8, weights: Self::Weights) -> Self::Acc {
        // SAFETY: the caller's.
        unsafe {
            let x = F::spread(x.cast::<i32>().read_unaligned());
            for (acc, weights) in acc.iter_mut().zip(weights) {
                *acc = F::multiply(*acc, x, weights);
            }
            acc
        }
    }

    #[inline(always)]
    unsafe fn eights(acc: Self::Acc) -> [__m256i; 4] {
        // SAFETY: the caller's.
        unsafe {
            let mut all = [_mm256_setzero_si256(); 4];
            for (to, vector) in all.as_chunks_mut::<2>().0.iter_mut().zip(acc) {
                *to = F::halves(vector);
            }
            all
        }
    }
}

/// `vpdpbusd` from instructions of AVX2.
#[cfg(any(test, feature = "testing"))]
mod emulated {
    use super::*;

    /// Of 256 bits.
    pub(in super::super) struct Dot256;

    impl Multiply for Dot256 {
        type Vector = __m256i;
        const TALL: usize = 8;

        #[inline(always)]
        unsafe fn multiply(acc: __m256i, x: __m256i, weights: __m256i) -> __m256i {
            // SAFETY: the caller's.
            unsafe {
                // Bytes at even places, then those at odd ones, as int16.
                let even = _mm256_madd_epi16(
                    _mm256_and_si256(x, _mm256_set1_epi16(0xFF)),
                    _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(weights)),
                );
                let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(x), _mm256_srai_epi16::<8>(weights));
                _mm256_add_epi32(acc, _mm256_add_epi32(even, odd))
            }
        }
    }

    /// Of 512 bits, as two halves.
    pub(in super::super) struct Dot512;

    impl Multiply for Dot512 {
        type Vector = [__m256i; 2];
        const TALL: usize = 8;

        #[inline(always)]
        unsafe fn multiply([a, b]: [__m256i; 2], [x, y]: [__m256i; 2], [v, w]: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: the caller's.
            unsafe { [Dot256::multiply(a, x, v), Dot256::multiply(b, y, w)] }
        }
    }

    impl Wide for Dot512 {
        #[inline(always)]
        unsafe fn load(from: *const u8) -> [__m256i; 2] {
            // SAFETY: the caller's.
            unsafe { load256(from) }
        }

        #[inline(always)]
        unsafe fn spread(four: i32) -> [__m256i; 2] {
            // SAFETY: the caller's.
            [unsafe { _mm256_set1_epi32(four) }; 2]
        }

        #[inline(always)]
        unsafe fn halves(vector: [__m256i; 2]) -> [__m256i; 2] {
            vector
        }
    }
}
