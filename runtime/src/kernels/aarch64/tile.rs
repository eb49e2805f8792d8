//! A tile: a few output pixels times a few blocks of 4 output channels, summed in registers over the whole depth.
//!
//! [`Places`] and [`Panel`] hold addresses that were checked once for everything that a tile reads through them.

use core::arch::aarch64::*;
use core::marker::PhantomData;

use super::vector::{Narrow, quad};

/// The inputs of one output, seen from its place: `rows` × `taps` runs of `len` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Walk {
    pub(super) rows: usize,
    /// Bytes from one row of the window to the next.
    pub(super) row_step: usize,
    pub(super) taps: usize,
    /// Bytes from one run in a row to the next.
    pub(super) tap_step: usize,
    /// Bytes of a run, rounded up to the tier's step.
    pub(super) len: usize,
}

impl Walk {
    /// One run.
    pub(super) fn row(len: usize) -> Self {
        Self { rows: 1, row_step: 0, taps: 1, tap_step: 0, len }
    }

    /// Bytes from the first to the last, both counted.
    fn reach(&self) -> usize {
        self.rows.saturating_sub(1) * self.row_step + self.taps.saturating_sub(1) * self.tap_step + self.len
    }

    /// Products of one output.
    pub(super) fn depth(&self) -> usize {
        self.rows * self.taps * self.len
    }

    /// Where each run begins.
    #[inline(always)]
    pub(super) fn starts(&self) -> Starts {
        Starts { walk: *self, left: self.rows * self.taps, tap: 0, row: 0, next: 0 }
    }
}

/// Bytes from the place of an output to each of its runs.
pub(super) struct Starts {
    walk: Walk,
    left: usize,
    tap: usize,
    row: usize,
    next: usize,
}

impl Iterator for Starts {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let start = self.next;
        self.tap += 1;
        self.next += self.walk.tap_step;
        if self.tap == self.walk.taps {
            self.tap = 0;
            self.row += self.walk.row_step;
            self.next = self.row;
        }
        Some(start)
    }
}

/// Where the inputs of `P` outputs lie.
pub(super) struct Places<'a, const P: usize> {
    /// Behind each lies all that `walk` reaches.
    at: [*const u8; P],
    walk: Walk,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a, const P: usize> Places<'a, P> {
    /// `None` when a walk would leave `bytes`.
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], offsets: [usize; P], walk: Walk) -> Option<Self> {
        let last = offsets.iter().fold(0, |last, offset| last.max(*offset));
        let inside = last.checked_add(walk.reach()).is_some_and(|end| end <= bytes.len());
        let start = bytes.as_ptr();
        inside.then(|| Self { at: offsets.map(|offset| start.wrapping_add(offset)), walk, bytes: PhantomData })
    }

    pub(super) fn at(&self) -> [*const u8; P] {
        self.at
    }

    pub(super) fn walk(&self) -> Walk {
        self.walk
    }
}

/// The weights of `B` blocks of 4 outputs.
pub(super) struct Panel<'a, const B: usize> {
    /// Behind each lie 4 · depth bytes.
    at: [*const u8; B],
    depth: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a, const B: usize> Panel<'a, B> {
    /// Blocks `index` and following, each with 4 · `depth` bytes. `None` when they leave `weights`.
    #[inline(always)]
    pub(super) fn new(weights: &'a [u8], index: usize, depth: usize) -> Option<Self> {
        let inside = (index + B).checked_mul(4 * depth).is_some_and(|end| end <= weights.len());
        let start = weights.as_ptr().wrapping_add(index * 4 * depth);
        let mut at = [start; B];
        for (block, at) in at.iter_mut().enumerate() {
            *at = start.wrapping_add(block * 4 * depth);
        }
        inside.then_some(Self { at, depth, bytes: PhantomData })
    }

    pub(super) fn at(&self) -> [*const u8; B] {
        self.at
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }
}

/// One way to multiply and add. A value of it proves that the processor has the instructions.
pub(super) trait Isa: Copy {
    /// What the length of a run is rounded up to; weights lie in blocks of 4 outputs × that many inputs.
    const STEP: usize;

    /// `bias` + Σ, for every place and block. Wrapping. Gives the bias alone where the two differ in depth.
    fn sums<const P: usize, const B: usize>(
        self,
        places: &Places<'_, P>,
        panel: &Panel<'_, B>,
        bias: [int32x4_t; B],
    ) -> [[int32x4_t; B]; P];

    /// [`Layer::tiles`], compiled for the processor.
    fn tiles<const P: usize, const B: usize>(self, layer: &Layer<'_>, pixels: &Pixels<'_, P>, out: &mut [u8]);
}

/// What is the same for all pixels of a convolution.
pub(super) struct Layer<'a> {
    /// Panels of 4 outputs, group by group.
    pub(super) weights: &'a [u8],
    pub(super) depth: usize,
    pub(super) outputs: Outputs<'a>,
    pub(super) group_outputs: usize,
}

/// Where the outputs of `P` pixels go: bytes from the start of the outputs.
#[derive(Clone, Copy)]
pub(super) struct Offsets<const P: usize> {
    at: [usize; P],
    greatest: usize,
}

impl<const P: usize> Offsets<P> {
    #[inline(always)]
    pub(super) fn new(at: [usize; P]) -> Self {
        Self { at, greatest: at.iter().fold(0, |greatest, at| greatest.max(*at)) }
    }
}

/// Some pixels of one group of channels.
pub(super) struct Pixels<'a, const P: usize> {
    pub(super) places: Places<'a, P>,
    pub(super) group: usize,
    /// Where the first output of each goes.
    pub(super) to: Offsets<P>,
}

impl Layer<'_> {
    /// Every output of some pixels, `B` blocks at a time while there are as many.
    #[inline(always)]
    pub(super) fn tiles<I: Isa, const P: usize, const B: usize>(&self, isa: I, pixels: &Pixels<'_, P>, out: &mut [u8]) {
        let blocks = self.group_outputs.div_ceil(4);
        let mut block = 0;
        while block + B <= blocks {
            self.tile::<I, P, B>(isa, pixels, block, out);
            block += B;
        }
        while block < blocks {
            self.tile::<I, P, 1>(isa, pixels, block, out);
            block += 1;
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const P: usize, const B: usize>(
        &self,
        isa: I,
        pixels: &Pixels<'_, P>,
        block: usize,
        out: &mut [u8],
    ) {
        let index = pixels.group * self.group_outputs.div_ceil(4) + block;
        let Some(panel) = Panel::<B>::new(self.weights, index, self.depth) else { return };
        let sums = isa.sums(&pixels.places, &panel, self.outputs.bias(index));
        let (count, Some(out)) = (self.group_outputs - 4 * block, out.get_mut(4 * block..)) else { return };
        if count >= 4 * B {
            self.outputs.store(sums, index, pixels.to, out);
        } else {
            // A copy, so that the sums of all other tiles can stay in registers.
            let copy = sums.map(|row| row.map(|sum| sum));
            self.outputs.store_some(copy, index, pixels.to, count, out);
        }
    }
}

/// What turns the sums of some output channels into bytes.
pub(super) struct Outputs<'a> {
    pub(super) bias: &'a [u8],
    pub(super) multipliers: &'a [u8],
    pub(super) narrow: Narrow,
}

impl Outputs<'_> {
    #[inline(always)]
    pub(super) fn bias<const B: usize>(&self, index: usize) -> [int32x4_t; B] {
        blocks(self.bias, index)
    }

    /// Requantizes the sums of blocks `index` and following and stores the 4 · `B` channels of each.
    #[inline(always)]
    pub(super) fn store<const P: usize, const B: usize>(
        &self,
        sums: [[int32x4_t; B]; P],
        index: usize,
        to: Offsets<P>,
        out: &mut [u8],
    ) {
        let multipliers: [int32x4_t; B] = blocks(self.multipliers, index);
        let narrow = self.narrow;
        if to.greatest.checked_add(4 * B).is_none_or(|end| end > out.len()) {
            return;
        }
        let sums = if narrow.shifts_left { sums.map(|row| row.map(|acc| narrow.shift_left(acc))) } else { sums };
        let start = out.as_mut_ptr();
        for (sums, at) in sums.iter().zip(to.at) {
            let at = start.wrapping_add(at);
            let (pairs, rest) = sums.as_chunks::<2>();
            let (pair_multipliers, rest_multipliers) = multipliers.as_chunks::<2>();
            for (pair, ([a, b], [ma, mb])) in pairs.iter().zip(pair_multipliers).enumerate() {
                let eight = narrow.eight(narrow.offset(narrow.scale(*a, *ma), narrow.scale(*b, *mb)));
                // SAFETY: 4 · `B` bytes behind the greatest offset lie in `out`, which is 8 for every pair and 4 for what is left.
                unsafe { vst1_s8(at.wrapping_add(8 * pair).cast(), eight) };
            }
            for (a, ma) in rest.iter().zip(rest_multipliers) {
                let scaled = narrow.scale(*a, *ma);
                // SAFETY: as above; alignment is not needed.
                unsafe {
                    let four = vreinterpret_s32_s8(narrow.eight(narrow.offset(scaled, scaled)));
                    at.wrapping_add(4 * B - 4).cast::<i32>().write_unaligned(vget_lane_s32::<0>(four));
                }
            }
        }
    }

    /// As [`Outputs::store`], the first `count` channels alone.
    #[cold]
    #[inline(never)]
    pub(super) fn store_some<const P: usize, const B: usize>(
        &self,
        sums: [[int32x4_t; B]; P],
        index: usize,
        to: Offsets<P>,
        count: usize,
        out: &mut [u8],
    ) {
        // Room for 16 blocks a pixel.
        let mut all = [[0; 64]; P];
        let own = core::array::from_fn(|pixel| 64 * pixel);
        self.store(sums, index, Offsets::new(own), all.as_flattened_mut());
        for (bytes, at) in all.iter().zip(to.at) {
            for (to, from) in out.iter_mut().skip(at).zip(bytes).take(count.min(4 * B)) {
                *to = *from;
            }
        }
    }
}

#[inline(always)]
fn blocks<const B: usize>(table: &[u8], index: usize) -> [int32x4_t; B] {
    core::array::from_fn(|block| quad(table, index + block))
}

/// Four bytes from `at` on in the first lane.
///
/// # Safety
/// They may be read.
#[inline(always)]
pub(super) unsafe fn first_four(at: *const u8) -> int8x16_t {
    // SAFETY: as the caller says; alignment is not needed.
    unsafe { vreinterpretq_s8_s32(vsetq_lane_s32::<0>(at.cast::<i32>().read_unaligned(), vdupq_n_s32(0))) }
}

/// Four bytes from `at` on in every lane.
///
/// # Safety
/// They may be read.
#[inline(always)]
pub(super) unsafe fn four(at: *const u8) -> int8x16_t {
    // SAFETY: as the caller says; alignment is not needed.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(at.cast::<i32>().read_unaligned())) }
}
