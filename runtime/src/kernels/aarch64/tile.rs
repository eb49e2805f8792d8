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

    #[inline(always)]
    fn multipliers<const B: usize>(&self, index: usize) -> [int32x4_t; B] {
        blocks(self.multipliers, index)
    }

    /// Requantizes the sums of blocks `index` and following and stores `count` channels of each, at `offsets` in `out`.
    #[inline(always)]
    pub(super) fn store<const P: usize, const B: usize>(
        &self,
        sums: [[int32x4_t; B]; P],
        index: usize,
        count: usize,
        offsets: [usize; P],
        out: &mut [u8],
    ) {
        let multipliers = self.multipliers::<B>(index);
        let count = count.min(4 * B);
        let last = offsets.iter().fold(0, |last, offset| last.max(*offset));
        if last.checked_add(count).is_none_or(|end| end > out.len()) {
            return;
        }
        let start = out.as_mut_ptr();
        for (sums, offset) in sums.into_iter().zip(offsets) {
            let mut at = start.wrapping_add(offset);
            let mut left = count;
            let (pairs, rest) = sums.as_chunks::<2>();
            let (pair_multipliers, rest_multipliers) = multipliers.as_chunks::<2>();
            for ([a, b], [ma, mb]) in pairs.iter().zip(pair_multipliers) {
                let wide = self.narrow.offset(self.narrow.scale(*a, *ma), self.narrow.scale(*b, *mb));
                // SAFETY: `at` and the `left` bytes behind it lie in `out`, as was checked for the last offset and all of them.
                unsafe { store_up_to_eight(at, self.narrow.eight(wide), left) };
                at = at.wrapping_add(8);
                left = left.saturating_sub(8);
            }
            for (a, ma) in rest.iter().zip(rest_multipliers) {
                let scaled = self.narrow.scale(*a, *ma);
                let wide = self.narrow.offset(scaled, scaled);
                // SAFETY: as above.
                unsafe { store_up_to_eight(at, self.narrow.eight(wide), left.min(4)) };
            }
        }
    }
}

#[inline(always)]
fn blocks<const B: usize>(table: &[u8], index: usize) -> [int32x4_t; B] {
    core::array::from_fn(|block| quad(table, index + block))
}

/// # Safety
/// `count` bytes from `at` on may be written.
#[inline(always)]
unsafe fn store_up_to_eight(at: *mut u8, vector: int8x8_t, count: usize) {
    // SAFETY: 8 bytes, 4 bytes, or `count` of fewer than 8 are written, each after it is known that `count` is no less.
    unsafe {
        if count >= 8 {
            vst1_s8(at.cast(), vector);
        } else if count == 4 {
            at.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(vector)));
        } else {
            let mut bytes = [0u8; 8];
            vst1_s8(bytes.as_mut_ptr().cast(), vector);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), at, count);
        }
    }
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
