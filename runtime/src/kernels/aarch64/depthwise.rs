//! Depthwise convolutions, 16 channels at a time (8 where fewer are left), along a row of outputs.
//!
//! Two taps are multiplied in 16 bits and then added to 32; see [`super::neon`] for weights of −128.

use core::arch::aarch64::*;

use super::bands::Bands;
use super::neon::{FLAG_BYTES, has_least};
use super::vector::{Narrow, mlal_high, mull_high, words};
use crate::kernels::{Kernel, Memory, generic};
use crate::plan::{Code, Op};

/// Depthwise convolution.
pub(super) static DEPTHWISE: Kernel = Kernel {
    code: Code::Depthwise,
    packed_bytes: |op| {
        FLAG_BYTES + blocks(op.output.channels()).map(|(_, lanes)| lanes * op.window.taps()).sum::<usize>()
    },
    pack,
    workspace_bytes: |op| if is_narrow(op) { 0 } else { Bands::new(op, false).workspace_bytes(op) },
    run,
};

/// Fewer channels than lanes: the portable kernel.
fn is_narrow(op: &Op<'_>) -> bool {
    op.output.channels() < 8
}

/// First channel and number of channels of every block. The last begins earlier where channels are no multiple of 8, so that it
/// computes a few channels once more.
fn blocks(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    let (wide, rest) = (channels / 16, channels % 16);
    let whole = (0..wide).map(|block| (16 * block, 16));
    let eight = (rest >= 8).then_some((16 * wide, 8));
    let last = (!rest.is_multiple_of(8) && channels >= 8).then(|| (channels - 8, 8));
    whole.chain(eight).chain(last)
}

/// Block by block, tap by tap, channels side by side.
fn pack(op: &Op<'_>, out: &mut [u8]) {
    let taps = op.window.taps();
    let weight = |channel: usize, tap: usize| {
        let pair = 4 * taps.next_multiple_of(2) * (channel / 4) + 8 * (tap / 2);
        let place = pair + 4 * (channel % 4 / 2) + 2 * (tap % 2) + channel % 2;
        op.weights.get(place).copied().unwrap_or(0)
    };
    let Some((flag, mut rest)) = out.split_at_mut_checked(FLAG_BYTES) else { return };
    flag.fill(u8::from(has_least(op.weights)));
    for (first, lanes) in blocks(op.output.channels()) {
        let (block, behind) = rest.split_at_mut_checked(lanes * taps).unwrap_or_default();
        for (tap, row) in block.chunks_exact_mut(lanes).enumerate() {
            for (channel, byte) in (first..).zip(row) {
                *byte = weight(channel, tap);
            }
        }
        rest = behind;
    }
}

fn run(op: &Op<'_>, memory: &mut Memory<'_>) {
    if is_narrow(op) {
        return (generic::DEPTHWISE.run)(op, memory);
    }
    let Some((flag, weights)) = memory.packed.split_at_checked(FLAG_BYTES) else { return };
    let Ok([input, output]) = memory.arena.get_disjoint_mut([op.input().range(), op.output.range()]) else { return };
    let rare = op.requant.left() > 0 || flag.first().is_none_or(|flag| *flag != 0);
    let [height, width, channels] = op.output.shape;
    let (bands, narrow) = (Bands::new(op, false), Narrow::new(op.requant));
    let ([stride_y, stride_x], [dilation_y, dilation_x]) = (op.window.stride, op.window.dilation);
    for first_row in (0..height).step_by(bands.rows().max(1)) {
        let rows = bands.rows().min(height - first_row);
        let source = bands.read(op, input, first_row, rows, memory.workspace);
        let out = output.get_mut(first_row * width * channels..).unwrap_or_default();
        let mut behind = weights;
        // Block by block of channels, so that weights stay in registers.
        for (first, lanes) in blocks(channels) {
            let (weights, rest) = behind.split_at_checked(lanes * op.window.taps()).unwrap_or_default();
            behind = rest;
            let block = Block {
                source: source.get(first..).unwrap_or_default(),
                window: op.window.kernel,
                tap_steps: [dilation_y * bands.row_bytes(), dilation_x * channels],
                steps: [stride_y * bands.row_bytes(), stride_x * channels],
                counts: [rows, width],
                out_step: channels,
                weights,
                bias: op.bias.get(4 * first..).unwrap_or_default(),
                multipliers: op.multipliers.get(4 * first..).unwrap_or_default(),
                narrow: &narrow,
            };
            let out = out.get_mut(first..).unwrap_or_default();
            match (lanes == 16, rare) {
                (true, false) => block.run::<Sixteen, false>(out),
                (true, true) => block.run::<Sixteen, true>(out),
                (false, false) => block.run::<Eight, false>(out),
                (false, true) => block.run::<Eight, true>(out),
            }
        }
    }
}

/// Some rows of outputs for one block of channels. Steps are in bytes; of two numbers the first is about rows, the second about columns.
struct Block<'a> {
    /// The first input of the first window.
    source: &'a [u8],
    /// Taps.
    window: [usize; 2],
    /// From one tap to the next.
    tap_steps: [usize; 2],
    /// From one window to the next.
    steps: [usize; 2],
    /// Number of windows.
    counts: [usize; 2],
    /// From one output to the next.
    out_step: usize,
    weights: &'a [u8],
    bias: &'a [u8],
    multipliers: &'a [u8],
    narrow: &'a Narrow,
}

impl Block<'_> {
    /// `RARE`: whether a weight is −128 or the layer shifts accumulators to the left.
    #[inline(always)]
    fn run<L: Lanes, const RARE: bool>(&self, out: &mut [u8]) {
        let ([rows, columns], [height, width]) = (self.window, self.counts);
        let ([row_tap, tap], [row_step, step]) = (self.tap_steps, self.steps);
        let before = |count: usize| count.saturating_sub(1);
        let reach = before(rows) * row_tap + before(columns) * tap + before(height) * row_step + before(width) * step;
        let fits = reach + L::BYTES <= self.source.len()
            && before(height * width) * self.out_step + L::BYTES <= out.len()
            && L::BYTES * rows * columns <= self.weights.len();
        let (Some(bias), Some(multipliers)) = (L::sums(self.bias), L::sums(self.multipliers)) else { return };
        if !fits {
            return;
        }
        // SAFETY: every window lies in `source`, every output in `out`, and there is a vector of weights for every tap: that is what
        // `fits` says.
        unsafe {
            if self.window == [3, 3] {
                self.three::<L, RARE>(bias, multipliers, out.as_mut_ptr());
            } else {
                self.any::<L, RARE>(bias, multipliers, out.as_mut_ptr());
            }
        }
    }

    /// 3 × 3 taps, weights in registers.
    ///
    /// # Safety
    /// As [`Block::run`] has checked.
    #[inline(never)]
    unsafe fn three<L: Lanes, const RARE: bool>(&self, bias: L::Sums, multipliers: L::Sums, out: *mut u8) {
        let ([row_tap, tap], [row_step, step]) = (self.tap_steps, self.steps);
        let (source, weights, narrow) = (self.source.as_ptr(), self.weights.as_ptr(), *self.narrow);
        // SAFETY: as the caller says.
        let w: [L::Bytes; 9] = core::array::from_fn(|tap| unsafe { L::load(weights.wrapping_add(L::BYTES * tap)) });
        let taps: [*const u8; 9] =
            core::array::from_fn(|index| source.wrapping_add(index / 3 * row_tap + index % 3 * tap));
        let ([wa, wb, wc, wd, we, wf, wg, wh, wi], [a, b, c, d, e, f, g, h, i]) = (w, taps);
        let mut out = out;
        for row in 0..self.counts[0] {
            let mut at = row * row_step;
            for _ in 0..self.counts[1] {
                let mut sums = bias;
                // SAFETY: as the caller says.
                unsafe {
                    let x = |tap: *const u8| L::load(tap.wrapping_add(at));
                    L::add_two::<RARE>(&mut sums, [x(a), x(b)], [wa, wb]);
                    L::add_two::<RARE>(&mut sums, [x(c), x(d)], [wc, wd]);
                    L::add_two::<RARE>(&mut sums, [x(e), x(f)], [we, wf]);
                    L::add_two::<RARE>(&mut sums, [x(g), x(h)], [wg, wh]);
                    L::add_one(&mut sums, x(i), wi);
                    L::store::<RARE>(sums, multipliers, &narrow, out);
                }
                at += step;
                out = out.wrapping_add(self.out_step);
            }
        }
    }

    /// Any window.
    ///
    /// # Safety
    /// As [`Block::run`] has checked.
    #[inline(never)]
    unsafe fn any<L: Lanes, const RARE: bool>(&self, bias: L::Sums, multipliers: L::Sums, out: *mut u8) {
        let ([rows, columns], [row_tap, step_tap], narrow) = (self.window, self.tap_steps, *self.narrow);
        let ([height, width], [row_step, step]) = (self.counts, self.steps);
        let mut out = out;
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let (mut sums, mut weights) = (bias, self.weights.as_ptr());
            for row in 0..rows {
                let mut tap = self.source.as_ptr().wrapping_add(y * row_step + x * step + row * row_tap);
                // SAFETY: as the caller says.
                unsafe {
                    for _ in 0..columns / 2 {
                        let x = [L::load(tap), L::load(tap.wrapping_add(step_tap))];
                        let w = [L::load(weights), L::load(weights.wrapping_add(L::BYTES))];
                        L::add_two::<RARE>(&mut sums, x, w);
                        tap = tap.wrapping_add(2 * step_tap);
                        weights = weights.wrapping_add(2 * L::BYTES);
                    }
                    if columns % 2 == 1 {
                        L::add_one(&mut sums, L::load(tap), L::load(weights));
                        weights = weights.wrapping_add(L::BYTES);
                    }
                }
            }
            // SAFETY: as the caller says.
            unsafe { L::store::<RARE>(sums, multipliers, &narrow, out) };
            out = out.wrapping_add(self.out_step);
        }
    }
}

/// Channels side by side.
trait Lanes {
    const BYTES: usize;
    type Bytes: Copy;
    type Sums: Copy;

    /// One number a channel, where the table has as many.
    fn sums(table: &[u8]) -> Option<Self::Sums>;

    /// # Safety
    /// [`Lanes::BYTES`] may be read.
    unsafe fn load(at: *const u8) -> Self::Bytes;

    /// Adds the products of one tap.
    fn add_one(sums: &mut Self::Sums, x: Self::Bytes, w: Self::Bytes);

    /// Adds the products of two taps, in 16 bits first.
    fn add_in_16_bits(sums: &mut Self::Sums, x: [Self::Bytes; 2], w: [Self::Bytes; 2]);

    /// # Safety
    /// [`Lanes::BYTES`] may be written.
    unsafe fn store<const RARE: bool>(sums: Self::Sums, multipliers: Self::Sums, narrow: &Narrow, out: *mut u8);

    /// Adds the products of two taps.
    #[inline(always)]
    fn add_two<const RARE: bool>(sums: &mut Self::Sums, x: [Self::Bytes; 2], w: [Self::Bytes; 2]) {
        if RARE {
            let ([x, y], [w, v]) = (x, w);
            Self::add_one(sums, x, w);
            Self::add_one(sums, y, v);
        } else {
            Self::add_in_16_bits(sums, x, w);
        }
    }
}

/// 16 channels.
struct Sixteen;
/// 8 channels.
struct Eight;

impl Lanes for Sixteen {
    const BYTES: usize = 16;
    type Bytes = int8x16_t;
    type Sums = [int32x4_t; 4];

    #[inline(always)]
    fn sums(table: &[u8]) -> Option<Self::Sums> {
        table.as_chunks::<16>().0.first_chunk::<4>().map(|blocks| blocks.map(|block| words(&block)))
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> int8x16_t {
        // SAFETY: as the caller says.
        unsafe { vld1q_s8(at.cast()) }
    }

    #[inline(always)]
    fn add_one(sums: &mut Self::Sums, x: int8x16_t, w: int8x16_t) {
        // SAFETY: AArch64 always has these instructions.
        unsafe { widen_both(sums, vmull_s8(vget_low_s8(w), vget_low_s8(x)), mull_high(w, x)) }
    }

    #[inline(always)]
    fn add_in_16_bits(sums: &mut Self::Sums, [x, y]: [int8x16_t; 2], [w, v]: [int8x16_t; 2]) {
        // SAFETY: AArch64 always has these instructions.
        unsafe {
            let low = vmlal_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vget_low_s8(v), vget_low_s8(y));
            widen_both(sums, low, mlal_high(mull_high(w, x), v, y));
        }
    }

    #[inline(always)]
    unsafe fn store<const RARE: bool>(sums: Self::Sums, multipliers: Self::Sums, narrow: &Narrow, out: *mut u8) {
        let ([a, b, c, d], [ma, mb, mc, md]) =
            (if RARE { sums.map(|sum| narrow.shift_left(sum)) } else { sums }, multipliers);
        let low = narrow.offset(narrow.scale(a, ma), narrow.scale(b, mb));
        let high = narrow.offset(narrow.scale(c, mc), narrow.scale(d, md));
        // SAFETY: as the caller says.
        unsafe { vst1q_s8(out.cast(), narrow.sixteen(low, high)) }
    }
}

impl Lanes for Eight {
    const BYTES: usize = 8;
    type Bytes = int8x8_t;
    type Sums = [int32x4_t; 2];

    #[inline(always)]
    fn sums(table: &[u8]) -> Option<Self::Sums> {
        table.as_chunks::<16>().0.first_chunk::<2>().map(|blocks| blocks.map(|block| words(&block)))
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> int8x8_t {
        // SAFETY: as the caller says.
        unsafe { vld1_s8(at.cast()) }
    }

    #[inline(always)]
    fn add_one(sums: &mut Self::Sums, x: int8x8_t, w: int8x8_t) {
        // SAFETY: AArch64 always has these instructions.
        unsafe { widen(sums, vmull_s8(w, x)) }
    }

    #[inline(always)]
    fn add_in_16_bits(sums: &mut Self::Sums, [x, y]: [int8x8_t; 2], [w, v]: [int8x8_t; 2]) {
        // SAFETY: AArch64 always has these instructions.
        unsafe { widen(sums, vmlal_s8(vmull_s8(w, x), v, y)) }
    }

    #[inline(always)]
    unsafe fn store<const RARE: bool>(sums: Self::Sums, multipliers: Self::Sums, narrow: &Narrow, out: *mut u8) {
        let ([a, b], [ma, mb]) = (if RARE { sums.map(|sum| narrow.shift_left(sum)) } else { sums }, multipliers);
        let eight = narrow.eight(narrow.offset(narrow.scale(a, ma), narrow.scale(b, mb)));
        // SAFETY: as the caller says.
        unsafe { vst1_s8(out.cast(), eight) }
    }
}

#[inline(always)]
fn widen_both([a, b, c, d]: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t) {
    let (mut first, mut second) = ([*a, *b], [*c, *d]);
    widen(&mut first, low);
    widen(&mut second, high);
    ([*a, *b], [*c, *d]) = (first, second);
}

#[inline(always)]
fn widen([low, high]: &mut [int32x4_t; 2], products: int16x8_t) {
    // SAFETY: AArch64 always has these instructions.
    unsafe { (*low, *high) = (vaddw_s16(*low, vget_low_s16(products)), vaddw_high_s16(*high, products)) }
}
