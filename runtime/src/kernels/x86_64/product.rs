//! The matrix product at the heart of convolutions and dense layers: pixels × outputs over a list of runs of bytes.
//!
//! A row (one output pixel) is where its patch begins in a block of activations; the patch is a few *runs* of consecutive values at
//! fixed distances: one run for a pointwise convolution, one a row of the kernel for a wider one. Weights come in panels of 16 outputs (8
//! for a short rest), in the order in which they are needed.

use core::arch::x86_64::*;

use super::simd::{Lanes, Multipliers, load32, store32, swapped};
use crate::plan::Requant;

/// Rows of a tile; with two vectors of outputs that is 12 accumulators of 16 registers.
const TILE: usize = 6;

/// What differs between the tiers: how activations lie, and the instruction that multiplies.
pub(super) trait Isa {
    /// Products that go into one int32 lane at a time: 2 of int16, or 4 of bytes. A step takes 4 bytes of a row either way.
    const GROUP: usize;
    /// What is added to an activation when it is unpacked.
    const OFFSET: i32;

    /// Brings activations into the form that [`Isa::panel`] takes, 4 / [`Isa::GROUP`] bytes each.
    fn unpack(from: &[u8], to: &mut [u8]);

    /// One panel of outputs for all rows.
    fn panel(rows: &Rows<'_>, panel: &Panel<'_>, requant: Requant, out: &mut [u8], stride: usize, outputs: usize);

    /// Accumulators of one row and one panel.
    fn single(rows: &Rows<'_>, panel: &Panel<'_>) -> [i32; 16];
}

/// A native-endian u64, as it lies in the workspace.
pub(super) type Offset = [u8; 8];

/// Where rows begin.
#[derive(Clone, Copy)]
pub(super) enum Starts<'a> {
    /// So many, at equal distances.
    Every { bytes: usize, count: usize },
    /// At these places.
    At(&'a [Offset]),
}

impl Starts<'_> {
    fn count(&self) -> usize {
        match self {
            Self::Every { count, .. } => *count,
            Self::At(offsets) => offsets.len(),
        }
    }
}

/// Where the rows of a product lie.
pub(super) struct Rows<'a> {
    bytes: &'a [u8],
    starts: Starts<'a>,
    runs: &'a [Offset],
    steps: usize,
}

impl<'a> Rows<'a> {
    /// Rows that begin at `starts` of `bytes`; in each, runs of `steps` · 4 bytes at the distances `runs`. `None` when one would reach
    /// beyond the end, or when there is none.
    pub(super) fn new(bytes: &'a [u8], starts: Starts<'a>, runs: &'a [Offset], steps: usize) -> Option<Self> {
        let greatest = |offsets: &[Offset]| offsets.iter().map(|at| u64::from_ne_bytes(*at)).max().unwrap_or(0);
        let last = match starts {
            Starts::Every { bytes, count } => bytes.checked_mul(count.checked_sub(1)?)?,
            Starts::At(offsets) => usize::try_from(greatest(offsets)).ok()?,
        };
        let run = usize::try_from(greatest(runs)).ok()?;
        let end = last.checked_add(run)?.checked_add(steps.checked_mul(4)?)?;
        (starts.count() > 0 && end <= bytes.len()).then_some(Self { bytes, starts, runs, steps })
    }

    /// Where `R` rows from `first` on begin; the first row's place for rows that there are not.
    #[inline]
    fn pointers<const R: usize>(&self, first: usize) -> [*const u8; R] {
        let base = self.bytes.as_ptr();
        // In bounds: `new` has checked every row.
        match self.starts {
            Starts::Every { bytes, count } => {
                let first = if first + R <= count { first * bytes } else { 0 };
                let step = if R <= count { bytes } else { 0 };
                core::array::from_fn(|row| base.wrapping_add(first + row * step))
            }
            Starts::At(offsets) => match offsets.get(first..).and_then(|offsets| offsets.first_chunk::<R>()) {
                Some(offsets) => offsets.map(|at| base.wrapping_add(u64::from_ne_bytes(at) as usize)),
                None => [base; R],
            },
        }
    }
}

/// Bias, multipliers and weights of one panel.
pub(super) struct Panel<'a> {
    lanes: usize,
    bias: &'a [u8],
    multipliers: &'a [u8],
    weights: &'a [u8],
}

impl<'a> Panel<'a> {
    /// Multiplier `index` of a layer whose results are float.
    pub(super) fn float_multiplier(&self, index: usize) -> f32 {
        self.multipliers.as_chunks::<4>().0.get(swapped(index)).map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
    }

    /// Lanes of the panel that holds the next `outputs`.
    pub(super) fn lanes(outputs: usize) -> usize {
        if outputs > 8 { 16 } else { 8 }
    }

    /// Bytes of a panel: bias, multipliers, then `group` weights a lane and step.
    pub(super) fn bytes(lanes: usize, steps: usize, group: usize) -> usize {
        lanes * (8 + steps * group)
    }

    /// The panel that `packed` begins with, and what follows it.
    pub(super) fn split(packed: &'a [u8], outputs: usize, steps: usize, group: usize) -> Option<(Self, &'a [u8])> {
        let lanes = Self::lanes(outputs);
        let (own, rest) = packed.split_at_checked(Self::bytes(lanes, steps, group))?;
        let (bias, own) = own.split_at_checked(4 * lanes)?;
        let (multipliers, weights) = own.split_at_checked(4 * lanes)?;
        Some((Self { lanes, bias, multipliers, weights }, rest))
    }
}

/// int16 activations and `vpmaddwd`: exact for all values, as its sums of two products are int32.
pub(super) struct Avx2;

impl Isa for Avx2 {
    const GROUP: usize = 2;
    const OFFSET: i32 = 0;

    fn unpack(from: &[u8], to: &mut [u8]) {
        // SAFETY: kernels of this tier are reached only through the tier, which is handed out where the processor has AVX2.
        unsafe { super::simd::widen(from, to) }
    }

    fn panel(rows: &Rows<'_>, panel: &Panel<'_>, requant: Requant, out: &mut [u8], stride: usize, outputs: usize) {
        // SAFETY: as above.
        unsafe {
            match panel.lanes {
                16 => panel_avx2::<2>(rows, panel, requant, out, stride, outputs),
                _ => panel_avx2::<1>(rows, panel, requant, out, stride, outputs),
            }
        }
    }

    fn single(rows: &Rows<'_>, panel: &Panel<'_>) -> [i32; 16] {
        // SAFETY: as above.
        unsafe {
            match panel.lanes {
                16 => single_avx2::<2>(rows, panel),
                _ => single_avx2::<1>(rows, panel),
            }
        }
    }
}

/// The first `V` vectors of a table of int32.
#[target_feature(enable = "avx2")]
#[inline]
fn vectors<const V: usize>(table: &[u8]) -> [__m256i; V] {
    let mut out = [_mm256_setzero_si256(); V];
    for (out, bytes) in out.iter_mut().zip(table.as_chunks::<32>().0) {
        *out = load32(bytes);
    }
    out
}

#[target_feature(enable = "avx2")]
fn single_avx2<const V: usize>(rows: &Rows<'_>, panel: &Panel<'_>) -> [i32; 16] {
    let mut out = [0; 16];
    if panel.weights.len() < rows.runs.len() * rows.steps * 16 * V {
        return out;
    }
    // SAFETY: `Rows` vouches for the row, the line above for the weights.
    let [acc] = unsafe { tile_avx2::<1, V>(rows.pointers(0), rows, panel, vectors(panel.bias)) };
    let mut bytes = [0; 64];
    for (bytes, acc) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(acc) {
        store32(bytes, acc);
    }
    for (lane, bytes) in bytes.as_chunks::<4>().0.iter().enumerate() {
        if let Some(out) = out.get_mut(swapped(lane)) {
            *out = i32::from_ne_bytes(*bytes);
        }
    }
    out
}

#[target_feature(enable = "avx2")]
fn panel_avx2<const V: usize>(
    rows: &Rows<'_>,
    panel: &Panel<'_>,
    requant: Requant,
    out: &mut [u8],
    stride: usize,
    outputs: usize,
) {
    let count = rows.starts.count();
    let fits = outputs <= 8 * V && (count - 1) * stride + outputs <= out.len();
    if !fits || panel.weights.len() < rows.runs.len() * rows.steps * 16 * V {
        return;
    }
    let mut multipliers = [Multipliers::new(_mm256_setzero_si256()); V];
    for (multipliers, vector) in multipliers.iter_mut().zip(vectors::<V>(panel.multipliers)) {
        *multipliers = Multipliers::new(vector);
    }
    let bias = vectors::<V>(panel.bias);
    let finish = Finish { multipliers, lanes: Lanes::new(requant) };
    let mut first = 0;
    let mut short = [0; 16 * TILE];
    let (is_short, shifts) = (outputs < 8 * V, finish.lanes.shifts());
    // Rows by name, so that the accumulators stay in registers.
    macro_rules! tile {
        ($rows:literal: $($a:ident $b:ident),* $(; $last:ident)?) => {{
            // SAFETY: `Rows` vouches for the rows, the check above for the weights.
            let mut acc = unsafe { tile_avx2::<$rows, V>(rows.pointers(first), rows, panel, bias) };
            if shifts {
                // A copy, as what has an address does not stay in registers.
                let mut shifted = acc;
                finish.lanes.shift_left(shifted.as_flattened_mut());
                acc = shifted;
            }
            let (to, step) =
                if is_short { (short.as_mut_ptr(), 16) } else { (out.as_mut_ptr().wrapping_add(first * stride), stride) };
            let [$($a, $b,)* $($last)?] = acc;
            let mut row = 0;
            // SAFETY: rows of whole panels end within `out`, as was checked above; those of short ones lie in `short`.
            unsafe {
                $(
                    finish.two(to.wrapping_add(row * step), to.wrapping_add((row + 1) * step), $a, $b);
                    row += 2;
                )*
                $(
                    finish.one(to.wrapping_add(row * step), $last);
                    row += 1;
                )?
            }
            if is_short {
                copy_short(&short, out.get_mut(first * stride..).unwrap_or_default(), row, stride, outputs);
            }
            first + row
        }};
    }
    while first + TILE <= count {
        first = tile!(6: a b, c d, e f);
    }
    let _end = match count - first {
        0 => first,
        1 => tile!(1: ; a),
        2 => tile!(2: a b),
        3 => tile!(3: a b; c),
        4 => tile!(4: a b, c d),
        _ => tile!(5: a b, c d; e),
    };
}

/// The first `outputs` of every 16 bytes, row by row. Kept out of line, as its checks would be made where there is nothing to copy, too.
#[inline(never)]
fn copy_short(short: &[u8], out: &mut [u8], rows: usize, stride: usize, outputs: usize) {
    for (to, from) in out.chunks_mut(stride).zip(short.chunks(16)).take(rows) {
        to.iter_mut().zip(from).take(outputs).for_each(|(to, from)| *to = *from);
    }
}

/// Accumulators of `R` rows × 8 · `V` outputs, onto `bias`.
///
/// # Safety
/// From every row on, every run's bytes are there to read, and the panel holds 16 · `V` bytes of weights for every step.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn tile_avx2<const R: usize, const V: usize>(
    pointers: [*const u8; R],
    rows: &Rows<'_>,
    panel: &Panel<'_>,
    bias: [__m256i; V],
) -> [[__m256i; V]; R] {
    let mut acc = [bias; R];
    let mut weights = panel.weights.as_ptr();
    for run in rows.runs {
        let mut at = u64::from_ne_bytes(*run) as usize;
        // SAFETY: the caller's: 4 bytes of every row and 16 · V bytes of weights a step.
        unsafe {
            for _ in 0..rows.steps / 2 {
                step_avx2(&mut acc, pointers, at, weights);
                step_avx2(&mut acc, pointers, at + 4, weights.add(16 * V));
                at += 8;
                weights = weights.add(32 * V);
            }
            if rows.steps % 2 == 1 {
                step_avx2(&mut acc, pointers, at, weights);
                weights = weights.add(16 * V);
            }
        }
    }
    acc
}

/// Two products of every row and output, onto `acc`.
///
/// # Safety
/// `at` bytes from every row on, 4 can be read, and 16 · `V` bytes of weights.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn step_avx2<const R: usize, const V: usize>(
    acc: &mut [[__m256i; V]; R],
    pointers: [*const u8; R],
    at: usize,
    weights: *const u8,
) {
    let mut w = [_mm256_setzero_si256(); V];
    for (index, w) in w.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *w = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(weights.add(16 * index).cast()) });
    }
    for (acc, pointer) in acc.iter_mut().zip(pointers) {
        // SAFETY: the caller's.
        let x = _mm256_set1_epi32(unsafe { pointer.add(at).cast::<i32>().read_unaligned() });
        let products = w.map(|w| _mm256_madd_epi16(x, w));
        for (acc, product) in acc.iter_mut().zip(products) {
            *acc = _mm256_add_epi32(*acc, product);
        }
    }
}

/// What turns accumulators into results.
struct Finish<const V: usize> {
    multipliers: [Multipliers; V],
    lanes: Lanes,
}

impl<const V: usize> Finish<V> {
    /// Requantizes and stores two rows.
    ///
    /// # Safety
    /// Both places hold 8 · `V` bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn two(&self, to: *mut u8, second_to: *mut u8, first: [__m256i; V], second: [__m256i; V]) {
        let ([a, b], [c, d]) = (self.requantize(first), self.requantize(second));
        let bytes = self.lanes.narrow(a, b, c, d);
        // SAFETY: the caller's.
        unsafe {
            store::<V>(to, _mm256_castsi256_si128(bytes));
            store::<V>(second_to, _mm256_extracti128_si256::<1>(bytes));
        }
    }

    /// Requantizes and stores one row.
    ///
    /// # Safety
    /// The place holds 8 · `V` bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn one(&self, to: *mut u8, acc: [__m256i; V]) {
        let [a, b] = self.requantize(acc);
        let bytes = self.lanes.narrow(a, b, a, b);
        // SAFETY: the caller's.
        unsafe { store::<V>(to, _mm256_castsi256_si128(bytes)) };
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn requantize(&self, acc: [__m256i; V]) -> [__m256i; 2] {
        let mut words = [_mm256_setzero_si256(); 2];
        for ((word, acc), multipliers) in words.iter_mut().zip(acc).zip(self.multipliers) {
            *word = self.lanes.apply(acc, multipliers);
        }
        words
    }
}

/// The first 8 · `V` bytes.
///
/// # Safety
/// There is room for them.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store<const V: usize>(to: *mut u8, values: __m128i) {
    // SAFETY: the caller's; stores take any alignment.
    unsafe {
        if V == 2 {
            _mm_storeu_si128(to.cast(), values);
        } else {
            _mm_storel_epi64(to.cast(), values);
        }
    }
}
