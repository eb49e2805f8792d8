//! Poolings, 16 channels at a time (8 where fewer are left).

use core::arch::aarch64::*;
use core::ops::Range;

use super::vector::{Narrow, load_part, store_part};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Largest value of a window.
pub(super) static MAX_POOL: Kernel = Kernel::in_place(Code::MaxPool, max_pool);
/// Mean of a window, requantized.
pub(super) static AVERAGE_POOL: Kernel = Kernel::in_place(Code::AveragePool, average_pool);

/// Values that 16 bits hold the sum of: 255 · 128 < 2^15.
const SUMMED: usize = 255;

/// What a window sees of the input.
struct Seen<'a> {
    input: &'a [u8],
    rows: Range<usize>,
    columns: Range<usize>,
    width: usize,
    channels: usize,
}

impl Seen<'_> {
    /// Number of values.
    fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Gives `f` up to 16 channels of every pixel, from channel `first` on.
    #[inline(always)]
    fn each(&self, first: usize, mut f: impl FnMut(int8x16_t)) {
        for y in self.rows.clone() {
            let start = (y * self.width + self.columns.start) * self.channels;
            let row = self.input.get(start..start + self.columns.len() * self.channels).unwrap_or_default();
            if first + 16 <= self.channels {
                let mut at = row.as_ptr().wrapping_add(first);
                for _ in 0..row.len() / self.channels {
                    // SAFETY: each of that many pixels in `row` has 16 channels from `first` on.
                    f(unsafe { vld1q_s8(at.cast()) });
                    at = at.wrapping_add(self.channels);
                }
            } else {
                for pixel in row.chunks_exact(self.channels) {
                    f(load_part(pixel.get(first..).unwrap_or_default()));
                }
            }
        }
    }
}

/// Stores `f` of what every window sees, for every 16 channels from the one that it is given.
#[inline(always)]
fn pool(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(&Seen<'_>, usize) -> int8x16_t) {
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    let ([height, width, channels], [_, out_width, _]) = (op.input().shape, op.output.shape);
    let ([kh, kw], [sy, sx], [top, left]) = (op.window.kernel, op.window.stride, op.window.pad);
    let inside = |at: usize, step: usize, border: usize, taps: usize, size: usize| {
        (at * step).saturating_sub(border)..(at * step + taps).saturating_sub(border).min(size)
    };
    for (index, pixel) in output.chunks_exact_mut(channels).enumerate() {
        let rows = inside(index / out_width, sy, top, kh, height);
        let columns = inside(index % out_width, sx, left, kw, width);
        let seen = Seen { input, rows, columns, width, channels };
        for (block, out) in pixel.chunks_mut(16).enumerate() {
            store_part(out, f(&seen, 16 * block));
        }
    }
}

fn max_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: AArch64 always has these instructions.
    unsafe {
        let (least, min, max) = (vdupq_n_s8(i8::MIN), vdupq_n_s8(op.requant.min), vdupq_n_s8(op.requant.max));
        pool(op, memory, |seen, first| {
            let mut greatest = least;
            seen.each(first, |q| greatest = vmaxq_s8(greatest, q));
            vminq_s8(vmaxq_s8(greatest, min), max)
        });
    }
}

/// requantize(Σ(q − zero point), multiplier for that many values).
fn average_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    let zero = i32::from(op.input().quant.zero_point);
    let last = (op.multipliers.len() / 4).saturating_sub(1);
    let narrow = Narrow::new(op.requant);
    pool(op, memory, |seen, first| {
        let count = seen.count();
        let multiplier = Op::word(op.multipliers, count.saturating_sub(1).min(last));
        // Wrapping, as the portable kernel's sum of as many differences.
        let offset = zero.wrapping_mul(count as i32).wrapping_neg();
        // SAFETY: AArch64 always has these instructions.
        unsafe {
            let (multiplier, zeros) = (vdupq_n_s32(multiplier), vdupq_n_s16(0));
            let mut sums = [vdupq_n_s32(offset); 4];
            let (mut low, mut high, mut room) = (zeros, zeros, SUMMED);
            let mut flush = |low, high| {
                let [a, b, c, d] = sums;
                let (a, b) = (vaddw_s16(a, vget_low_s16(low)), vaddw_high_s16(b, low));
                sums = [a, b, vaddw_s16(c, vget_low_s16(high)), vaddw_high_s16(d, high)];
            };
            seen.each(first, |q| {
                if room == 0 {
                    flush(low, high);
                    (low, high, room) = (zeros, zeros, SUMMED);
                }
                (low, high) = (vaddw_s8(low, vget_low_s8(q)), vaddw_high_s8(high, q));
                room -= 1;
            });
            flush(low, high);
            let [a, b, c, d] = sums.map(|sum| narrow.scale(narrow.shift_left(sum), multiplier));
            narrow.sixteen(narrow.offset(a, b), narrow.offset(c, d))
        }
    });
}
