//! Sums and products of two tensors, 32 values at a time.

use core::arch::x86_64::*;

use super::simd::{Lanes, Multipliers, load16, store32, unswap};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Sum of two tensors.
pub(super) static ADD: Kernel = Kernel::in_place(Code::Add, add);
/// Product of two tensors.
pub(super) static MUL: Kernel = Kernel::in_place(Code::Mul, mul);

fn add(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has AVX2.
    unsafe { binary(op, memory, &Sum::new(op)) }
}

fn mul(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: as above.
    unsafe { binary(op, memory, &Product::new(op)) }
}

/// A function of two int8 values, lane by lane.
trait Function {
    /// Of 32 lanes.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn apply(&self, first: &[u8; 32], second: &[u8; 32]) -> __m256i;
}

/// `out = f(first, second)`, where the second operand has as many values, one a channel, or one.
#[target_feature(enable = "avx2")]
fn binary(op: &Op<'_>, memory: &mut Memory<'_>, f: &impl Function) {
    let (first, second, out) = (op.input().range(), op.second().range(), op.output.range());
    let count = out.len().min(first.len());
    // Values until the second operand begins again.
    let period = second.len().min(count);
    let repeated = (period == 1).then(|| memory.arena.get(second.start).map_or([0; 32], |value| [*value; 32]));
    let step = if period == 1 { count } else { period };
    for start in (0..count).step_by(step.max(1)) {
        let len = step.min(count - start);
        for at in (0..len).step_by(32) {
            // A rest is worked on in copies, as reading and writing beyond it would reach other values.
            let n = (len - at).min(32);
            let place = first.start + start + at;
            let a = read(memory.arena, place, n);
            let b = repeated.unwrap_or_else(|| read(memory.arena, second.start + at, n));
            let mut results = [0; 32];
            // SAFETY: this function has AVX2.
            store32(&mut results, unsafe { f.apply(&a, &b) });
            let to = memory.arena.get_mut(out.start + start + at..).unwrap_or_default();
            match to.first_chunk_mut::<32>() {
                Some(to) if n == 32 => *to = results,
                _ => to.iter_mut().zip(results).take(n).for_each(|(to, from)| *to = from),
            }
        }
    }
}

/// `n` bytes, at most 32, and zeros behind.
#[inline]
fn read(arena: &[u8], at: usize, n: usize) -> [u8; 32] {
    let from = arena.get(at..).unwrap_or_default();
    match from.first_chunk::<32>() {
        Some(all) if n == 32 => *all,
        _ => {
            let mut out = [0; 32];
            out.iter_mut().zip(from).take(n).for_each(|(to, from)| *to = *from);
            out
        }
    }
}

/// Both halves of 32 bytes as int16.
#[target_feature(enable = "avx2")]
#[inline]
fn wide(bytes: &[u8; 32]) -> [__m256i; 2] {
    let halves: [__m128i; 2] = match bytes.as_chunks::<16>().0 {
        [low, high] => [load16(low), load16(high)],
        _ => [_mm_setzero_si128(); 2],
    };
    halves.map(|half| _mm256_cvtepi8_epi16(half))
}

/// int32 results of two times 16 lanes, as `unpack` of int16 orders them, to int8.
#[target_feature(enable = "avx2")]
#[inline]
fn narrow([[a, b], [c, d]]: [[__m256i; 2]; 2]) -> __m256i {
    let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    _mm256_permute4x64_epi64::<0xD8>(bytes)
}

/// clamp((a · ma + b · mb + c) >> shift).
struct Sum {
    multipliers: i32,
    rounding: i32,
    shift: i32,
    bounds: [i8; 2],
}

impl Sum {
    fn new(op: &Op<'_>) -> Self {
        let shift = i32::from(op.shift) & 31;
        // Number a holds both multipliers, as int16, in the order in which values are interleaved.
        Self { multipliers: op.a, rounding: op.b, shift, bounds: [op.requant.min, op.requant.max] }
    }
}

impl Function for Sum {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn apply(&self, first: &[u8; 32], second: &[u8; 32]) -> __m256i {
        let (multipliers, rounding) = (_mm256_set1_epi32(self.multipliers), _mm256_set1_epi32(self.rounding));
        let (shift, [min, max]) = (_mm_cvtsi32_si128(self.shift), self.bounds.map(|bound| _mm256_set1_epi8(bound)));
        let one =
            |pairs: __m256i| _mm256_sra_epi32(_mm256_add_epi32(_mm256_madd_epi16(pairs, multipliers), rounding), shift);
        let ([a, b], [c, d]) = (wide(first), wide(second));
        let bytes = narrow([
            [one(_mm256_unpacklo_epi16(a, c)), one(_mm256_unpackhi_epi16(a, c))],
            [one(_mm256_unpacklo_epi16(b, d)), one(_mm256_unpackhi_epi16(b, d))],
        ]);
        _mm256_min_epi8(_mm256_max_epi8(bytes, min), max)
    }
}

/// requantize((a − za) · (b − zb)).
struct Product<'a> {
    op: &'a Op<'a>,
    multiplier: i32,
}

impl<'a> Product<'a> {
    fn new(op: &'a Op<'a>) -> Self {
        Self { op, multiplier: Op::word(op.multipliers, 0) }
    }
}

impl Function for Product<'_> {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn apply(&self, first: &[u8; 32], second: &[u8; 32]) -> __m256i {
        let lanes = Lanes::new(self.op.requant);
        let multipliers = Multipliers::new(_mm256_set1_epi32(self.multiplier));
        let [za, zb] = [self.op.input(), self.op.second()].map(|t| _mm256_set1_epi16(t.quant.zero_point.into()));
        let zero = _mm256_setzero_si256();
        let ([a, b], [c, d]) = (wide(first), wide(second));
        let products = |x: __m256i, y: __m256i| {
            let (x, y) = (_mm256_sub_epi16(x, za), _mm256_sub_epi16(y, zb));
            // Differences have 9 bits, so that their product needs more than 16: beside a zero, it is an int32.
            let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(x, zero), _mm256_unpacklo_epi16(y, zero));
            [low, _mm256_madd_epi16(_mm256_unpackhi_epi16(x, zero), _mm256_unpackhi_epi16(y, zero))]
        };
        let mut acc = [products(a, c), products(b, d)];
        if lanes.shifts() {
            lanes.shift_left(acc.as_flattened_mut());
        }
        let words = acc.map(|pair| pair.map(|acc| lanes.apply(acc, multipliers)));
        lanes.clamp(unswap(narrow(words)))
    }
}
