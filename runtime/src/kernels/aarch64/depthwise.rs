//! Depthwise convolutions, 16 channels at a time (8 where fewer are left), along a row of outputs.
//!
//! Two taps are multiplied in 16 bits and then added to 32; see [`super::neon`] for weights of −128.

use core::arch::aarch64::*;

use super::bands::Bands;
use super::neon::{FLAG_BYTES, has_least};
use super::vector::{Narrow, words};
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
    if flag.first().is_some_and(|flag| *flag == 0) {
        rows::<false>(op, weights, memory.arena, memory.workspace);
    } else {
        rows::<true>(op, weights, memory.arena, memory.workspace);
    }
}

/// Row by row of outputs, and in each block by block of channels, so that weights stay in registers along a row.
fn rows<const LEAST: bool>(op: &Op<'_>, weights: &[u8], arena: &mut [u8], workspace: &mut [u8]) {
    let Ok([input, output]) = arena.get_disjoint_mut([op.input().range(), op.output.range()]) else { return };
    let [height, width, channels] = op.output.shape;
    let (bands, narrow) = (Bands::new(op, false), Narrow::new(op.requant));
    let ([stride_y, stride_x], [dilation_y, dilation_x]) = (op.window.stride, op.window.dilation);
    let [window_rows, columns] = op.window.kernel;
    for first in (0..height).step_by(bands.rows().max(1)) {
        let rows = bands.rows().min(height - first);
        let source = bands.read(op, input, first, rows, workspace);
        for row in 0..rows {
            let source = source.get(row * stride_y * bands.row_bytes()..).unwrap_or_default();
            let out = output.get_mut((first + row) * width * channels..).unwrap_or_default();
            let mut behind = weights;
            for (first, lanes) in blocks(channels) {
                let (weights, rest) = behind.split_at_checked(lanes * columns * window_rows).unwrap_or_default();
                behind = rest;
                let strip = Strip {
                    source: source.get(first..).unwrap_or_default(),
                    window: [window_rows, columns],
                    row_step: dilation_y * bands.row_bytes(),
                    tap_step: dilation_x * channels,
                    step: stride_x * channels,
                    count: width,
                    weights,
                    bias: op.bias.get(4 * first..).unwrap_or_default(),
                    multipliers: op.multipliers.get(4 * first..).unwrap_or_default(),
                    narrow: &narrow,
                    out_step: channels,
                };
                let out = out.get_mut(first..).unwrap_or_default();
                if lanes == 16 { strip.run::<2, LEAST>(out) } else { strip.run::<1, LEAST>(out) }
            }
        }
    }
}

/// One row of outputs for one block of channels.
struct Strip<'a> {
    /// The first input of the first window.
    source: &'a [u8],
    /// Rows and columns.
    window: [usize; 2],
    /// Bytes between rows of the window, between its columns, and from one window to the next.
    row_step: usize,
    tap_step: usize,
    step: usize,
    /// Number of windows.
    count: usize,
    weights: &'a [u8],
    bias: &'a [u8],
    multipliers: &'a [u8],
    narrow: &'a Narrow,
    /// Bytes from one output to the next.
    out_step: usize,
}

/// `H` times 8 bytes, and their sums.
type Bytes<const H: usize> = [int8x8_t; H];
type Sums<const H: usize> = [[int32x4_t; 2]; H];

impl Strip<'_> {
    #[inline(always)]
    fn run<const H: usize, const LEAST: bool>(&self, out: &mut [u8]) {
        let [rows, columns] = self.window;
        let (Some(last), bytes) = (self.count.checked_sub(1), 8 * H) else { return };
        let reach = (rows - 1) * self.row_step + (columns - 1) * self.tap_step + last * self.step + bytes;
        let fits = reach <= self.source.len()
            && last * self.out_step + bytes <= out.len()
            && bytes * rows * columns <= self.weights.len();
        let (Some(bias), Some(multipliers)) = (sums::<H>(self.bias), sums::<H>(self.multipliers)) else { return };
        if !fits {
            return;
        }
        // SAFETY: every window of this strip lies in `source`, and every output in `out`: that is what `fits` says; and there is a
        // vector of weights for every tap.
        unsafe {
            if self.window == [3, 3] {
                self.three::<H, LEAST>(bias, multipliers, out.as_mut_ptr());
            } else {
                self.any::<H, LEAST>(bias, multipliers, out.as_mut_ptr());
            }
        }
    }

    /// 3 × 3 taps, weights in registers.
    ///
    /// # Safety
    /// As [`Strip::run`] has checked.
    #[inline(always)]
    unsafe fn three<const H: usize, const LEAST: bool>(&self, bias: Sums<H>, multipliers: Sums<H>, out: *mut u8) {
        // SAFETY: as the caller says.
        let w: [Bytes<H>; 9] =
            core::array::from_fn(|tap| unsafe { load::<H>(self.weights.as_ptr().wrapping_add(8 * H * tap)) });
        let taps: [*const u8; 9] = core::array::from_fn(|tap| {
            self.source.as_ptr().wrapping_add(tap / 3 * self.row_step + tap % 3 * self.tap_step)
        });
        let ([wa, wb, wc, wd, we, wf, wg, wh, wi], [a, b, c, d, e, f, g, h, i]) = (w, taps);
        let (mut at, mut out) = (0, out);
        for _ in 0..self.count {
            let mut sums = bias;
            // SAFETY: as the caller says.
            unsafe {
                let x = |tap: *const u8| load::<H>(tap.wrapping_add(at));
                add_two::<H, LEAST>(&mut sums, [x(a), x(b)], [wa, wb]);
                add_two::<H, LEAST>(&mut sums, [x(c), x(d)], [wc, wd]);
                add_two::<H, LEAST>(&mut sums, [x(e), x(f)], [we, wf]);
                add_two::<H, LEAST>(&mut sums, [x(g), x(h)], [wg, wh]);
                add_one::<H>(&mut sums, x(i), wi);
                self.store::<H>(sums, multipliers, out);
            }
            at += self.step;
            out = out.wrapping_add(self.out_step);
        }
    }

    /// Any window.
    ///
    /// # Safety
    /// As [`Strip::run`] has checked.
    #[inline(always)]
    unsafe fn any<const H: usize, const LEAST: bool>(&self, bias: Sums<H>, multipliers: Sums<H>, out: *mut u8) {
        let ([rows, columns], mut out) = (self.window, out);
        for index in 0..self.count {
            let (mut sums, mut weights) = (bias, self.weights.as_ptr());
            for row in 0..rows {
                let mut tap = self.source.as_ptr().wrapping_add(index * self.step + row * self.row_step);
                // SAFETY: as the caller says.
                unsafe {
                    for _ in 0..columns / 2 {
                        let x = [load::<H>(tap), load::<H>(tap.wrapping_add(self.tap_step))];
                        let w = [load::<H>(weights), load::<H>(weights.wrapping_add(8 * H))];
                        add_two::<H, LEAST>(&mut sums, x, w);
                        tap = tap.wrapping_add(2 * self.tap_step);
                        weights = weights.wrapping_add(16 * H);
                    }
                    if columns % 2 == 1 {
                        add_one::<H>(&mut sums, load::<H>(tap), load::<H>(weights));
                        weights = weights.wrapping_add(8 * H);
                    }
                }
            }
            // SAFETY: as the caller says.
            unsafe { self.store::<H>(sums, multipliers, out) };
            out = out.wrapping_add(self.out_step);
        }
    }

    /// # Safety
    /// 8 · `H` bytes from `out` on may be written.
    #[inline(always)]
    unsafe fn store<const H: usize>(&self, sums: Sums<H>, multipliers: Sums<H>, out: *mut u8) {
        let mut wide = sums
            .into_iter()
            .zip(multipliers)
            .map(|([low, high], [m, n])| self.narrow.offset(self.narrow.scale(low, m), self.narrow.scale(high, n)));
        // SAFETY: as the caller says.
        unsafe {
            match (wide.next(), wide.next()) {
                (Some(low), Some(high)) => vst1q_s8(out.cast(), self.narrow.sixteen(low, high)),
                (Some(low), None) => vst1_s8(out.cast(), self.narrow.eight(low)),
                _ => {}
            }
        }
    }
}

/// One number a channel.
#[inline(always)]
fn sums<const H: usize>(table: &[u8]) -> Option<Sums<H>> {
    let pairs = table.as_chunks::<16>().0.as_chunks::<2>().0;
    let mut out = [[words(&[0; 16]); 2]; H];
    for (to, from) in out.iter_mut().zip(pairs.get(..H)?) {
        *to = from.map(|block| words(&block));
    }
    Some(out)
}

/// # Safety
/// 8 · `H` bytes may be read.
#[inline(always)]
unsafe fn load<const H: usize>(at: *const u8) -> Bytes<H> {
    // SAFETY: as the caller says.
    unsafe {
        if H == 2 {
            let both = vld1q_s8(at.cast());
            let halves = [vget_low_s8(both), vget_high_s8(both)];
            core::array::from_fn(|half| if half == 0 { halves[0] } else { halves[1] })
        } else {
            core::array::from_fn(|half| vld1_s8(at.wrapping_add(8 * half).cast()))
        }
    }
}

/// Adds the products of two taps.
#[inline(always)]
fn add_two<const H: usize, const LEAST: bool>(sums: &mut Sums<H>, [x, y]: [Bytes<H>; 2], [w, v]: [Bytes<H>; 2]) {
    if LEAST {
        add_one(sums, x, w);
        return add_one(sums, y, v);
    }
    for (sums, ((x, w), (y, v))) in sums.iter_mut().zip(x.into_iter().zip(w).zip(y.into_iter().zip(v))) {
        // SAFETY: AArch64 always has these instructions.
        unsafe { widen(sums, vmlal_s8(vmull_s8(w, x), v, y)) };
    }
}

/// Adds the products of one tap.
#[inline(always)]
fn add_one<const H: usize>(sums: &mut Sums<H>, x: Bytes<H>, w: Bytes<H>) {
    for (sums, (x, w)) in sums.iter_mut().zip(x.into_iter().zip(w)) {
        // SAFETY: AArch64 always has these instructions.
        unsafe { widen(sums, vmull_s8(w, x)) };
    }
}

#[inline(always)]
fn widen([low, high]: &mut [int32x4_t; 2], products: int16x8_t) {
    // SAFETY: AArch64 always has these instructions.
    unsafe { (*low, *high) = (vaddw_s16(*low, vget_low_s16(products)), vaddw_high_s16(*high, products)) }
}
