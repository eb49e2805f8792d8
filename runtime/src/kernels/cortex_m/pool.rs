//! Poolings: four channels at a time.

use super::instructions::{max4, min4, pack4, sxtab16, sxtab16_ror8};
use super::layer::{words, words_mut};
use crate::kernels::{Kernel, Memory, generic};
use crate::plan::{Code, Op};

/// Largest value of a window.
pub static MAX_POOL: Kernel = Kernel::in_place(Code::MaxPool, max_pool);
/// Mean of a window, requantized.
pub static AVERAGE_POOL: Kernel = Kernel::in_place(Code::AveragePool, average_pool);

/// As many int8 as an int16 holds the sum of.
const MOST: usize = 256;

/// The part of the input under a window, in words.
struct Under<'a> {
    input: &'a [u32],
    /// Where its first word lies.
    first: usize,
    rows: usize,
    columns: usize,
    /// Words of a pixel and of a row of pixels.
    pixel: usize,
    line: usize,
}

impl Under<'_> {
    /// The words of channels `4 · block` to `4 · block + 3`, row by row; `row` comes before each row.
    #[inline(always)]
    fn fold<T>(&self, block: usize, start: T, row: impl Fn(&mut T), f: impl Fn(&mut T, u32)) -> T {
        let mut state = start;
        let mut line = self.first + block;
        for _ in 0..self.rows {
            row(&mut state);
            let mut at = line;
            for _ in 0..self.columns {
                // Every pixel under the window is inside the input.
                f(&mut state, self.input.get(at).copied().unwrap_or(0));
                at += self.pixel;
            }
            line += self.line;
        }
        state
    }
}

/// Places `at..at + taps` of a window that begins at `at` of the bordered input, as places of the input.
fn inside(at: usize, taps: usize, border: usize, size: usize) -> (usize, usize) {
    let first = at.max(border) - border;
    (first, (at + taps).saturating_sub(border).min(size).saturating_sub(first))
}

/// `out = f(what lies under the window, block of four channels)`; `None` for channels that are no multiple of 4.
fn pool(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(&Under<'_>, usize) -> u32) -> Option<()> {
    let ([height, width, channels], [_, out_width, _]) = (op.input().shape, op.output.shape);
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    let pixel = channels / 4;
    if !channels.is_multiple_of(4) || pixel * out_width == 0 {
        return None;
    }
    let (input, output) = (words(input)?, words_mut(output)?);
    let ([rows, columns], [down, right], [top, left]) = (op.window.kernel, op.window.stride, op.window.pad);
    for (y, line) in output.chunks_exact_mut((pixel * out_width).max(1)).enumerate() {
        let (y, rows) = inside(y * down, rows, top, height);
        for (x, words) in line.chunks_exact_mut(pixel.max(1)).enumerate() {
            let (x, columns) = inside(x * right, columns, left, width);
            let under = Under { input, first: (y * width + x) * pixel, rows, columns, pixel, line: width * pixel };
            for (block, out) in words.iter_mut().enumerate() {
                *out = f(&under, block);
            }
        }
    }
    Some(())
}

fn max_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    let all = |bound: i8| u32::from(bound.cast_unsigned()) * 0x0101_0101;
    let (least, min, max) = (all(i8::MIN), all(op.requant.min), all(op.requant.max));
    let done = pool(op, memory, |under, block| {
        let greatest = under.fold(block, least, |_| (), |greatest, word| *greatest = max4(*greatest, word));
        min4(max4(greatest, min), max)
    });
    if done.is_none() {
        (generic::MAX_POOL.run)(op, memory);
    }
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
    let zero = i32::from(op.input().quant.zero_point);
    let last = (op.multipliers.len() / 4).saturating_sub(1);
    let requant = op.requant;
    let columns = op.window.kernel[1];
    let Some(rows) = MOST.checked_div(columns).filter(|rows| *rows > 0) else {
        return (generic::AVERAGE_POOL.run)(op, memory);
    };
    let done = pool(op, memory, |under, block| {
        let count = under.rows * under.columns;
        let start = (count as i32).wrapping_mul(-zero);
        let mut sums = under.fold(
            block,
            Sums { whole: [start; 4], even: 0, odd: 0, rows },
            |sums| sums.row(rows),
            |sums, word| (sums.even, sums.odd) = (sxtab16(sums.even, word), sxtab16_ror8(sums.odd, word)),
        );
        sums.flush();
        let multiplier = Op::word(op.multipliers, count.saturating_sub(1).min(last));
        pack4(sums.whole.map(|sum| i32::from(requant.apply(sum, multiplier))))
    });
    if done.is_none() {
        (generic::AVERAGE_POOL.run)(op, memory);
    }
}
