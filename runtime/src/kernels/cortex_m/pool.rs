//! Poolings: four channels at a time, sixteen for a maximum.

use super::instructions::{all4, max4, min4, pack4};
#[cfg(hone_dsp)]
use super::instructions::{sxtab16, sxtab16_ror8};
use super::layer::{words, words_mut};
use crate::kernels::{Kernel, Memory, generic};
use crate::plan::{Code, Op};

/// Largest value of a window.
pub static MAX_POOL: Kernel = Kernel::in_place(Code::MaxPool, max_pool);
/// Mean of a window, requantized.
pub static AVERAGE_POOL: Kernel = Kernel::in_place(Code::AveragePool, average_pool);
/// Mean of every channel, as f32.
pub static MEAN_FLOAT: Kernel = Kernel::in_place(Code::MeanFloat, mean_float);

/// As many int8 as an int16 holds the sum of.
const MOST: usize = 256;
/// Words of channels whose maxima are found at a time.
const WIDE: usize = 4;

/// The part of the input under a window, from its first pixel's first word on.
#[derive(Clone, Copy)]
struct Under {
    first: *const u32,
    rows: usize,
    columns: usize,
    /// Words of a pixel and of a row of pixels.
    pixel: usize,
    line: usize,
}

impl Under {
    /// Words `block..block + N` of every pixel, row by row; `row` comes before each row.
    ///
    /// # Safety
    /// Every pixel is there to be read and has so many words.
    #[inline(always)]
    unsafe fn each<const N: usize, T>(
        &self,
        block: usize,
        state: &mut T,
        row: impl Fn(&mut T),
        f: impl Fn(&mut T, [u32; N]),
    ) {
        let mut line = self.first.wrapping_add(block);
        for _ in 0..self.rows {
            row(state);
            let mut at = line;
            for _ in 0..self.columns {
                // SAFETY: the caller's.
                f(state, unsafe { at.cast::<[u32; N]>().read() });
                at = at.wrapping_add(self.pixel);
            }
            line = line.wrapping_add(self.line);
        }
    }
}

/// The first of places `at..at + taps` of the bordered input that lies in the input, as a place of the input, and how many do.
#[inline(never)]
fn inside(at: usize, taps: usize, border: usize, size: usize) -> (usize, usize) {
    let first = at.max(border) - border;
    (first, (at + taps).saturating_sub(border).min(size).saturating_sub(first))
}

/// Calls `f` with what lies under the window and the words of every output pixel; `None` for channels that are no multiple of 4.
fn pool(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(Under, &mut [u32])) -> Option<()> {
    let ([height, width, channels], [out_height, out_width, _]) = (op.input().shape, op.output.shape);
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    let pixel = channels / 4;
    let (input, output) = (words(input)?, words_mut(output)?);
    let sizes = (height * width * pixel, out_height * out_width * pixel);
    if !channels.is_multiple_of(4) || pixel == 0 || (input.len(), output.len()) != sizes {
        return None;
    }
    let ([rows, columns], [down, right], [top, left]) = (op.window.kernel, op.window.stride, op.window.pad);
    let [mut y, mut x] = [0, 0];
    for words in output.chunks_exact_mut(pixel) {
        let ((top, rows), (left, columns)) = (inside(y, rows, top, height), inside(x, columns, left, width));
        let first = input.as_ptr().wrapping_add((top * width + left) * pixel);
        f(Under { first, rows, columns, pixel, line: width * pixel }, words);
        x += right;
        if x == right * out_width {
            (x, y) = (0, y + down);
        }
    }
    Some(())
}

fn max_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (min, max) = (all4(op.requant.min), all4(op.requant.max));
    let done = pool(op, memory, |under, words| {
        let (wide, rest) = words.as_chunks_mut::<WIDE>();
        let first = wide.len() * WIDE;
        // Written out, not as loops over arrays, which stay loops over memory where the program is optimized for size.
        for (block, out) in wide.iter_mut().enumerate() {
            let [a, b, c, d] = greatest(under, block * WIDE, [min; 4], |[a, b, c, d], [e, f, g, h]| {
                [max4(a, e), max4(b, f), max4(c, g), max4(d, h)]
            });
            *out = [min4(a, max), min4(b, max), min4(c, max), min4(d, max)];
        }
        for (block, out) in rest.iter_mut().enumerate() {
            let [greatest] = greatest(under, first + block, [min], |[a], [b]| [max4(a, b)]);
            *out = min4(greatest, max);
        }
    });
    if done.is_none() {
        (generic::MAX_POOL.run)(op, memory);
    }
}

/// The greatest values of words `block..block + N` under a window, and of `start`.
#[inline(always)]
fn greatest<const N: usize>(
    under: Under,
    block: usize,
    start: [u32; N],
    max: impl Fn([u32; N], [u32; N]) -> [u32; N],
) -> [u32; N] {
    let mut all = start;
    // SAFETY: every pixel under the window is inside the input, as `inside` says, and `pool`'s words are one pixel's.
    unsafe { under.each(block, &mut all, |_| (), |all, words| *all = max(*all, words)) };
    all
}

/// Four sums, in halves of words for as long as these hold them.
struct Sums {
    whole: [i32; 4],
    even: u32,
    odd: u32,
    /// Rows that the halves still hold.
    rows: usize,
}

impl Sums {
    /// Of what lies under a window, of which the halves hold `rows` rows; from `start` on.
    ///
    /// # Safety
    /// As for [`Under::each`].
    unsafe fn of(under: Under, block: usize, start: i32, rows: usize) -> [i32; 4] {
        let mut sums = Self { whole: [start; 4], even: 0, odd: 0, rows };
        let add = |sums: &mut Self, [word]: [u32; 1]| sums.add(word);
        // SAFETY: the caller's.
        unsafe { under.each(block, &mut sums, |sums| sums.row(rows), add) };
        sums.flush();
        sums.whole
    }

    /// Four values more.
    #[cfg(hone_dsp)]
    #[inline(always)]
    fn add(&mut self, word: u32) {
        (self.even, self.odd) = (sxtab16(self.even, word), sxtab16_ror8(self.odd, word));
    }

    /// Four values more; without the DSP extension halves of words would be put together and taken apart again.
    #[cfg(not(hone_dsp))]
    #[inline(always)]
    fn add(&mut self, word: u32) {
        for (sum, value) in self.whole.iter_mut().zip(word.to_le_bytes()) {
            *sum = sum.wrapping_add(i32::from(value.cast_signed()));
        }
    }

    /// Before a row, of which the halves hold `most`.
    #[inline(always)]
    fn row(&mut self, most: usize) {
        if self.rows == 0 {
            self.flush();
            self.rows = most;
        }
        self.rows -= 1;
    }

    fn flush(&mut self) {
        let half = |word: u32| i32::from(word as u16 as i16);
        let parts = [half(self.even), half(self.odd), half(self.even >> 16), half(self.odd >> 16)];
        for (sum, part) in self.whole.iter_mut().zip(parts) {
            *sum = sum.wrapping_add(part);
        }
        (self.even, self.odd) = (0, 0);
    }
}

fn average_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    if average(op, memory).is_none() {
        (generic::AVERAGE_POOL.run)(op, memory);
    }
}

/// `None` as [`pool`], and for windows wider than halves of words hold.
fn average(op: &Op<'_>, memory: &mut Memory<'_>) -> Option<()> {
    let zero = i32::from(op.input().quant.zero_point);
    let last = (op.multipliers.len() / 4).saturating_sub(1);
    let requant = op.requant;
    let rows = MOST.checked_div(op.window.kernel[1]).filter(|rows| *rows > 0)?;
    pool(op, memory, |under, words| {
        let count = under.rows * under.columns;
        let multiplier = Op::word(op.multipliers, count.saturating_sub(1).min(last));
        for (block, out) in words.iter_mut().enumerate() {
            // SAFETY: as in `greatest`.
            let sums = unsafe { Sums::of(under, block, (count as i32).wrapping_mul(-zero), rows) };
            *out = pack4(sums.map(|sum| i32::from(requant.apply(sum, multiplier))));
        }
    })
}

fn mean_float(op: &Op<'_>, memory: &mut Memory<'_>) {
    if mean(op, memory).is_none() {
        (generic::MEAN_FLOAT.run)(op, memory);
    }
}

/// f32(sum) · multiplier; `None` as [`pool`].
fn mean(op: &Op<'_>, memory: &mut Memory<'_>) -> Option<()> {
    let [height, width, channels] = op.input().shape;
    let (zero, pixel, pixels) = (i32::from(op.input().quant.zero_point), channels / 4, height * width);
    let multiplier = f32::from_bits(Op::word(op.multipliers, 0).cast_unsigned());
    let input = words(memory.arena.get(op.input().range())?)?;
    let (out, rest) = memory.output.as_chunks_mut::<4>();
    if channels % 4 != 0 || input.len() != pixels * pixel || out.len() < pixel || !rest.is_empty() {
        return None;
    }
    // Rows of as many pixels as halves of words hold, and what is left.
    let (rows, left) = (pixels / MOST, pixels % MOST);
    let whole = Under { first: input.as_ptr(), rows, columns: MOST, pixel, line: MOST * pixel };
    let first = input.as_ptr().wrapping_add(rows * whole.line);
    let last = Under { first, rows: usize::from(left > 0), columns: left, ..whole };
    for (block, out) in out.iter_mut().enumerate().take(pixel) {
        let mut sums = [(pixels as i32).wrapping_mul(-zero); 4];
        for under in [whole, last] {
            // SAFETY: so many pixels are in the input, and `pixel` words in each of them.
            let more = unsafe { Sums::of(under, block, 0, 1) };
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.wrapping_add(more));
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum as f32 * multiplier;
        }
    }
    Some(())
}
