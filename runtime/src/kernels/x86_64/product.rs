//! The matrix product at the heart of convolutions and dense layers: pixels × outputs over a list of runs of bytes.
//!
//! A row (one output pixel) is where its patch begins in a block of activations; the patch is a few *runs* of consecutive values at
//! fixed distances: one run for a pointwise convolution, one a row of the kernel for a wider one. Weights come in panels of as many outputs
//! as the tier likes best (fewer for a short rest), in the order in which they are needed.
//!
//! Written once over [`Dot`], the few instructions that differ: a tier compiles it with its own processor features.

use core::arch::x86_64::*;

use super::simd::{Lanes, Multipliers, load32, store32, swapped};
use crate::plan::Requant;

/// Most outputs of a panel.
pub(super) const WIDEST: usize = 32;
/// Rows of a tile, at most.
const TILE: usize = 8;

/// What differs between the tiers: how activations and weights lie, and the product.
pub(super) trait Isa {
    /// Products that go into one int32 lane at a time: 2 of int16, or 4 of bytes. A step takes 4 bytes of a row either way.
    const GROUP: usize;
    /// Bytes of a weight in a panel.
    const WEIGHT: usize;
    /// What is added to an activation when it is unpacked.
    const OFFSET: i32;
    /// Outputs of a panel, 16 or [`WIDEST`].
    const LANES: usize;

    /// Brings activations into the form that [`Isa::panel`] takes, 4 / [`Isa::GROUP`] bytes each.
    fn unpack(from: &[u8], to: &mut [u8]);

    /// One panel of outputs for all rows.
    fn panel(rows: &Rows<'_>, panel: &Panel<'_>, requant: Requant, out: &mut [u8], stride: usize, outputs: usize);

    /// Accumulators of one row and one panel.
    fn single(rows: &Rows<'_>, panel: &Panel<'_>) -> [i32; WIDEST];
}

/// One step of a product: 4 bytes of a row with the weights of every lane of a panel.
///
/// The methods are inlined into functions that have the processor's features, which these have not.
///
/// # Safety
/// Of all: the processor has what the implementation names, and what is pointed to can be read.
pub(super) trait Dot {
    /// int32 accumulators of one row, a lane an output.
    type Acc: Copy;
    /// Weights of a step.
    type Weights: Copy;
    /// Lanes.
    const LANES: usize;
    /// Bytes of a step's weights.
    const STEP: usize;
    /// Rows of a tile whose accumulators fit the registers: 6 or [`TILE`].
    const ROWS: usize;

    /// Accumulators from int32 numbers.
    unsafe fn start(numbers: *const u8) -> Self::Acc;
    /// The weights of a step.
    unsafe fn weights(from: *const u8) -> Self::Weights;
    /// The products with 4 bytes of a row, onto `acc`. Sums wrap.
    unsafe fn dot(acc: Self::Acc, x: *const u8, weights: Self::Weights) -> Self::Acc;
    /// Eight lanes each; beyond [`Dot::LANES`] anything.
    unsafe fn eights(acc: Self::Acc) -> [__m256i; 4];
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
    pub(super) lanes: usize,
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
        match outputs {
            ..=8 => 8,
            9..=16 => 16,
            _ => WIDEST,
        }
    }

    /// Bytes of a panel: bias, multipliers, then the weights of every lane and step.
    pub(super) fn bytes<I: Isa>(lanes: usize, steps: usize) -> usize {
        lanes * (8 + steps * I::GROUP * I::WEIGHT)
    }

    /// The panel that `packed` begins with, and what follows it.
    pub(super) fn split<I: Isa>(packed: &'a [u8], outputs: usize, steps: usize) -> Option<(Self, &'a [u8])> {
        let lanes = Self::lanes(outputs);
        let (own, rest) = packed.split_at_checked(Self::bytes::<I>(lanes, steps))?;
        let (bias, own) = own.split_at_checked(4 * lanes)?;
        let (multipliers, weights) = own.split_at_checked(4 * lanes)?;
        Some((Self { lanes, bias, multipliers, weights }, rest))
    }

    /// Weights of `steps` steps, `index` · `steps` further on, without bias.
    pub(super) fn part<D: Dot>(&self, index: usize, steps: usize) -> Self {
        let bytes = steps * D::STEP;
        let weights = self.weights.get(index * bytes..(index + 1) * bytes).unwrap_or_default();
        Self { bias: &[0; 4 * WIDEST], weights, ..*self }
    }

    /// The bias of eight lanes.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn bias_vector(&self, index: usize) -> __m256i {
        let bias = self.bias.as_chunks().0.get(index);
        bias.map_or_else(|| _mm256_setzero_si256(), |bias| load32(bias))
    }

    /// Whether it is one of `D`'s and has weights for every step.
    fn is_whole<D: Dot>(&self, rows: &Rows<'_>) -> bool {
        self.lanes == D::LANES && self.weights.len() >= rows.runs.len() * rows.steps * D::STEP
    }
}

/// Accumulators of one row and one panel.
///
/// # Safety
/// As [`Dot`] says.
#[inline(always)]
pub(super) unsafe fn single<D: Dot>(rows: &Rows<'_>, panel: &Panel<'_>) -> [i32; WIDEST] {
    let mut out = [0; WIDEST];
    if !panel.is_whole::<D>(rows) {
        return out;
    }
    // SAFETY: `Rows` vouches for the row, the line above for the panel, the caller for the processor.
    let acc = unsafe {
        let [acc] = tile::<D, 1>(rows.pointers(0), rows, panel);
        D::eights(acc)
    };
    let mut bytes = [0; 4 * WIDEST];
    for (bytes, acc) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(acc) {
        // SAFETY: every tier has AVX2.
        unsafe { store32(bytes, acc) };
    }
    for (lane, bytes) in bytes.as_chunks::<4>().0.iter().enumerate().take(D::LANES) {
        if let Some(out) = out.get_mut(swapped(lane)) {
            *out = i32::from_ne_bytes(*bytes);
        }
    }
    out
}

/// Accumulators of all rows, each in [`Dot::LANES`] int32.
///
/// # Safety
/// As [`Dot`] says.
#[inline(always)]
pub(super) unsafe fn sums<D: Dot>(rows: &Rows<'_>, panel: &Panel<'_>, out: &mut [u8], bytes: usize) {
    let count = rows.starts.count();
    if bytes < 4 * D::LANES || out.len() < count * bytes || !panel.is_whole::<D>(rows) {
        return;
    }
    let mut first = 0;
    macro_rules! tile {
        ($rows:literal) => {{
            // SAFETY: `Rows` vouches for the rows, the check above for the panel and for where the accumulators go.
            unsafe {
                for (row, acc) in tile::<D, $rows>(rows.pointers(first), rows, panel).into_iter().enumerate() {
                    let to = out.as_mut_ptr().add((first + row) * bytes);
                    for (index, eight) in D::eights(acc).into_iter().take(D::LANES / 8).enumerate() {
                        _mm256_storeu_si256(to.add(32 * index).cast(), eight);
                    }
                }
            }
            first + $rows
        }};
    }
    while first + 6 <= count {
        first = tile!(6);
    }
    let _end = match count - first {
        0 => first,
        1 => tile!(1),
        2 => tile!(2),
        3 => tile!(3),
        4 => tile!(4),
        _ => tile!(5),
    };
}

/// One panel of outputs for all rows.
///
/// # Safety
/// As [`Dot`] says.
#[inline(always)]
pub(super) unsafe fn panel<D: Dot>(
    rows: &Rows<'_>,
    panel: &Panel<'_>,
    requant: Requant,
    out: &mut [u8],
    stride: usize,
    outputs: usize,
) {
    let count = rows.starts.count();
    let fits = outputs <= D::LANES && (count - 1) * stride + outputs <= out.len();
    if !fits || !panel.is_whole::<D>(rows) {
        return;
    }
    // SAFETY: every tier has AVX2.
    let finish = unsafe { Finish::new(panel, requant) };
    let mut first = 0;
    let mut short = [0; WIDEST * TILE];
    let is_short = outputs < D::LANES;
    // Rows by name, so that the accumulators stay in registers.
    macro_rules! tile {
        ($rows:literal: $($a:ident $b:ident),* $(; $last:ident)?) => {{
            // SAFETY: `Rows` vouches for the rows, the check above for the panel.
            let acc = unsafe { tile::<D, $rows>(rows.pointers(first), rows, panel) };
            let (to, step) = if is_short {
                (short.as_mut_ptr(), WIDEST)
            } else {
                (out.as_mut_ptr().wrapping_add(first * stride), stride)
            };
            let [$($a, $b,)* $($last)?] = acc;
            let mut row = 0;
            // SAFETY: rows of whole panels end within `out`, as was checked above; those of short ones lie in `short`.
            unsafe {
                $(
                    finish.two::<D>([to.wrapping_add(row * step), to.wrapping_add((row + 1) * step)], $a, $b);
                    row += 2;
                )*
                $(
                    finish.two::<D>([to.wrapping_add(row * step); 2], $last, $last);
                    row += 1;
                )?
            }
            if is_short {
                copy_short(&short, out.get_mut(first * stride..).unwrap_or_default(), row, stride, outputs);
            }
            first + row
        }};
    }
    if D::ROWS == TILE {
        while first + TILE <= count {
            first = tile!(8: a b, c d, e f, g h);
        }
    }
    while first + 6 <= count {
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

/// The first `outputs` of every [`WIDEST`] bytes, row by row. Kept out of line, as its checks would be made where there is nothing to copy,
/// too.
#[inline(never)]
fn copy_short(short: &[u8], out: &mut [u8], rows: usize, stride: usize, outputs: usize) {
    for (to, from) in out.chunks_mut(stride).zip(short.chunks(WIDEST)).take(rows) {
        to.iter_mut().zip(from).take(outputs).for_each(|(to, from)| *to = *from);
    }
}

/// Accumulators of `R` rows.
///
/// # Safety
/// As [`Dot`] says; from every row on, every run's bytes are there to read, and the panel is whole.
#[inline(always)]
unsafe fn tile<D: Dot, const R: usize>(pointers: [*const u8; R], rows: &Rows<'_>, panel: &Panel<'_>) -> [D::Acc; R] {
    // SAFETY: the caller's: 4 bytes of every row and `Dot::STEP` bytes of weights a step.
    unsafe {
        let mut acc = [D::start(panel.bias.as_ptr()); R];
        let mut weights = panel.weights.as_ptr();
        for run in rows.runs {
            let mut at = u64::from_ne_bytes(*run) as usize;
            for _ in 0..rows.steps / 2 {
                step::<D, R>(&mut acc, pointers, at, weights);
                step::<D, R>(&mut acc, pointers, at + 4, weights.add(D::STEP));
                at += 8;
                weights = weights.add(2 * D::STEP);
            }
            if rows.steps % 2 == 1 {
                step::<D, R>(&mut acc, pointers, at, weights);
                weights = weights.add(D::STEP);
            }
        }
        acc
    }
}

/// One step of every row, onto `acc`.
///
/// # Safety
/// As [`Dot`] says; `at` bytes from every row on, 4 can be read.
#[inline(always)]
unsafe fn step<D: Dot, const R: usize>(acc: &mut [D::Acc; R], pointers: [*const u8; R], at: usize, weights: *const u8) {
    // SAFETY: the caller's.
    unsafe {
        let weights = D::weights(weights);
        for (acc, pointer) in acc.iter_mut().zip(pointers) {
            *acc = D::dot(*acc, pointer.add(at), weights);
        }
    }
}

/// What turns accumulators into results.
pub(super) struct Finish {
    multipliers: [Multipliers; WIDEST / 8],
    lanes: Lanes,
}

impl Finish {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(panel: &Panel<'_>, requant: Requant) -> Self {
        let mut multipliers = [Multipliers::new(_mm256_setzero_si256()); WIDEST / 8];
        for (multipliers, bytes) in multipliers.iter_mut().zip(panel.multipliers.as_chunks::<32>().0) {
            *multipliers = Multipliers::new(load32(bytes));
        }
        Self { multipliers, lanes: Lanes::new(requant) }
    }

    /// Requantizes and stores two rows.
    ///
    /// # Safety
    /// As [`Dot`] says; both places hold [`Dot::LANES`] bytes.
    #[inline(always)]
    pub(super) unsafe fn two<D: Dot>(&self, to: [*mut u8; 2], first: D::Acc, second: D::Acc) {
        // SAFETY: the caller's.
        unsafe {
            let (mut first, mut second) = (D::eights(first), D::eights(second));
            if self.lanes.shifts() {
                // Copies, as what has an address does not stay in registers.
                let mut shifted = [first, second];
                self.lanes.shift_left(shifted.as_flattened_mut());
                [first, second] = shifted;
            }
            self.store::<D>(to, first, second);
        }
    }

    /// As [`Finish::two`], of accumulators in place.
    ///
    /// # Safety
    /// As there; every tier has AVX2.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn store<D: Dot>(&self, [to, second_to]: [*mut u8; 2], first: [__m256i; 4], second: [__m256i; 4]) {
        let ([m0, m1, m2, m3], lanes) = (self.multipliers, &self.lanes);
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (first, second);
        // SAFETY: the caller's; stores take any alignment.
        unsafe {
            if D::LANES == 32 {
                let narrow = |a, b, c, d| {
                    lanes.narrow(lanes.apply(a, m0), lanes.apply(b, m1), lanes.apply(c, m2), lanes.apply(d, m3))
                };
                _mm256_storeu_si256(to.cast(), narrow(a0, a1, a2, a3));
                _mm256_storeu_si256(second_to.cast(), narrow(b0, b1, b2, b3));
                return;
            }
            let (a, b) = (lanes.apply(a0, m0), lanes.apply(b0, m0));
            let bytes = if D::LANES == 16 {
                lanes.narrow(a, lanes.apply(a1, m1), b, lanes.apply(b1, m1))
            } else {
                lanes.narrow(a, a, b, b)
            };
            let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            if D::LANES == 16 {
                _mm_storeu_si128(to.cast(), low);
                _mm_storeu_si128(second_to.cast(), high);
            } else {
                _mm_storel_epi64(to.cast(), low);
                _mm_storel_epi64(second_to.cast(), high);
            }
        }
    }
}
