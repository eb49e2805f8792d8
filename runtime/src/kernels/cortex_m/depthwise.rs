//! Depthwise convolutions: four channels at a time, row by row of the output.
//!
//! The input's columns under a row of outputs are widened once, into a strip on the stack that all windows over them share. In it the
//! values of neighbouring tap rows lie in pairs, and so do the weights, so that one `smlad` takes two taps.

use super::instructions::{pack4, pkhbt, pkhtb, requantize, smlabb, smlad, smlatt, sxtb16, sxtb16_ror8};
use super::layer::{clamp, words};
use super::micro::{Row, columns, columns_bottom, columns_top, depthwise as row3x3};
use crate::kernels::{Kernel, Memory, generic};
use crate::plan::{Code, Op, Window};

/// Depthwise convolution.
pub static DEPTHWISE: Kernel = Kernel::in_place(Code::Depthwise, depthwise);

/// Words of the strip.
const STRIP: usize = 216;
/// Words of weights with what else a block of four channels has.
const BLOCK: usize = 96;
/// Words beside the weights: biases, multipliers, high word, shift.
const BESIDE: usize = 10;

fn depthwise(op: &Op<'_>, memory: &mut Memory<'_>) {
    match run(op, memory).and_then(|()| memory.arena.get_mut(op.output.range())) {
        Some(output) => clamp(op, output),
        None => (generic::DEPTHWISE.run)(op, memory),
    }
}

/// Words of a column: four for every pair of tap rows, two for the last row where their number is odd.
fn column_words(window: &Window) -> usize {
    2 * window.kernel[0]
}

fn run(op: &Op<'_>, memory: &mut Memory<'_>) -> Option<()> {
    let window = op.window;
    let channels = op.output.channels();
    let column = column_words(&window);
    let [_, extent] = window.extent();
    // One window has to fit the strip, and the weights of four channels their place.
    let fits = column * extent <= STRIP && column * window.kernel[1] + BESIDE <= BLOCK;
    if !channels.is_multiple_of(4) || !fits || op.requant.left() != 0 {
        return None;
    }
    let (bias, multipliers) = (words(op.bias)?.as_chunks::<4>().0, words(op.multipliers)?.as_chunks::<4>().0);
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    let rows = Rows::new(op, input, output)?;
    let size = 4 * window.taps().next_multiple_of(2);
    let mut block = [0; BLOCK];
    let mut strip = [0; STRIP];
    for index in 0..channels / 4 {
        let weights = op.weights.get(index * size..)?.get(..size)?;
        let (bias, multipliers) = (bias.get(index)?, multipliers.get(index)?);
        prepare(op, weights, bias, multipliers, &mut block)?;
        rows.run(index, &block, &mut strip);
    }
    Some(())
}

/// Biases, for every tap column the weights in the order of the strip's columns, multipliers, high word, shift.
#[inline(never)]
fn prepare(
    op: &Op<'_>,
    weights: &[u8],
    bias: &[u32; 4],
    multipliers: &[u32; 4],
    block: &mut [u32; BLOCK],
) -> Option<()> {
    let (to, rest) = block.split_first_chunk_mut()?;
    *to = *bias;
    let rest = if op.window.kernel == [3, 3] {
        let (to, rest) = rest.split_at_mut_checked(18)?;
        weights3x3(weights, to.as_chunks_mut().0);
        rest
    } else {
        let (to, rest) = rest.split_at_mut_checked(column_words(&op.window) * op.window.kernel[1])?;
        spread(&op.window, weights, to);
        rest
    };
    let (to, rest) = rest.split_first_chunk_mut()?;
    *to = *multipliers;
    *rest.first_chunk_mut()? =
        [op.requant.high_word().cast_unsigned(), u32::from(op.requant.shift()).saturating_sub(32)];
    Some(())
}

/// The weights of any window, column by column: pairs of neighbouring rows, then the last row where their number is odd.
fn spread(window: &Window, weights: &[u8], to: &mut [u32]) {
    let [rows, columns] = window.kernel;
    // a₀ a₁ b₀ b₁ a₂ a₃ b₂ b₃ for taps a, b and channels 0 to 3 of the block.
    let at = |row: usize, column: usize, channel: usize| {
        let tap = row * columns + column;
        let place = tap / 2 * 8 + channel / 2 * 4 + tap % 2 * 2 + channel % 2;
        u32::from(i16::from(weights.get(place).copied().unwrap_or(0).cast_signed()).cast_unsigned())
    };
    for (column, words) in to.chunks_exact_mut(column_words(window).max(1)).enumerate() {
        for (place, word) in words.iter_mut().enumerate() {
            let (row, channel) = (place / 4 * 2, place % 4);
            let second = if row + 1 < rows { at(row + 1, column, channel) } else { at(row, column, channel + 2) };
            *word = at(row, column, channel) | second << 16;
        }
    }
}

/// The weights of 3 × 3 taps: flat pairs of taps become pairs of neighbouring rows.
fn weights3x3(weights: &[u8], to: &mut [[u32; 6]]) {
    // For each pair of taps, channels 0 and 1, then 2 and 3.
    let mut words = [0; 10];
    for (word, bytes) in words.iter_mut().zip(weights.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let [a, b, c, d, e, f, g, h, i, j] = words;
    let pairs = |low: u32, high: u32| [sxtb16(low), sxtb16_ror8(low), sxtb16(high), sxtb16_ror8(high)];
    let (t01, t23, t45, t67, t8) = (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h), pairs(i, j));
    let ([a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]) = (t01, t23, t45);
    let ([g0, g1, g2, g3], [i0, i1, i2, i3]) = (t67, t8);
    let both = |low: u32, high: u32| low & 0xffff | high & 0xffff_0000;
    let cross = |low: u32, high: u32| low >> 16 | high << 16;
    let first = [both(a0, b0), both(a1, b1), both(a2, b2), both(a3, b3), pkhbt(g0, g2), pkhbt(g1, g3)];
    let second = [cross(a0, c0), cross(a1, c1), cross(a2, c2), cross(a3, c3), pkhtb(g0, g2), pkhtb(g1, g3)];
    let third = [both(b0, c0), both(b1, c1), both(b2, c2), both(b3, c3), pkhbt(i0, i2), pkhbt(i1, i3)];
    for (to, word) in to.as_flattened_mut().iter_mut().zip([first, second, third].as_flattened()) {
        *to = *word;
    }
}

/// The tensors, and how windows lie in them.
struct Rows {
    window: Window,
    input: *const u8,
    output: *mut u8,
    height: isize,
    width: isize,
    out_height: usize,
    out_width: usize,
    channels: usize,
    zero: i8,
    /// Words of a column.
    words: usize,
    /// Outputs whose columns fit the strip.
    most: usize,
}

/// Columns of the strip: how many lie left of the input, inside it, and right of it.
#[derive(Clone, Copy)]
struct Columns {
    left: usize,
    inside: usize,
    right: usize,
}

impl Rows {
    fn new(op: &Op<'_>, input: &[u8], output: &mut [u8]) -> Option<Self> {
        let [height, width, channels] = op.input().shape;
        let [out_height, out_width, _] = op.output.shape;
        let whole = input.len() == height * width * channels && output.len() == out_height * out_width * channels;
        if !whole || !input.as_ptr().addr().is_multiple_of(4) || !output.as_ptr().addr().is_multiple_of(4) {
            return None;
        }
        let words = column_words(&op.window);
        let ([_, extent], [_, stride]) = (op.window.extent(), op.window.stride);
        Some(Self {
            window: op.window,
            input: input.as_ptr(),
            output: output.as_mut_ptr(),
            height: height as isize,
            width: width as isize,
            out_height,
            out_width,
            channels,
            zero: op.input().quant.zero_point,
            words,
            most: STRIP.checked_div(words)?.checked_sub(extent)?.checked_div(stride)? + 1,
        })
    }

    /// All outputs of four channels. Parts of rows whose columns fit the strip, one below the other.
    #[inline(never)]
    fn run(&self, index: usize, block: &[u32; BLOCK], strip: &mut [u32; STRIP]) {
        let ([top, left], [down, right]) = (self.window.pad, self.window.stride);
        let [_, extent] = self.window.extent();
        let three = self.window.kernel == [3, 3] && self.window.dilation[1] == 1;
        let mut first = 0;
        while first < self.out_width {
            let outputs = self.most.min(self.out_width - first);
            let x = (first * right) as isize - left as isize;
            let columns = self.columns(x, (outputs - 1) * right + extent);
            // What lies beside the input is the same in every row.
            let middle = self.border(strip, columns);
            let bytes = 4 * self.words;
            let row = Row { stride: self.channels, outputs, back: (3 * bytes).wrapping_sub(right * bytes) };
            let mut out = self.output.wrapping_add(first * self.channels + 4 * index);
            let mut y = -(top as isize);
            for _ in 0..self.out_height {
                self.fill(strip.as_mut_ptr().wrapping_add(middle), 4 * index, y, x.max(0) as usize, columns.inside);
                if three {
                    // SAFETY: the strip has the columns of these outputs, a block of 3 × 3 taps is 28 words, and `out` walks
                    // through the output's pixels.
                    unsafe { row3x3(strip.as_ptr(), block.as_ptr(), out, &raw const row) };
                } else {
                    self.outputs(strip, block, outputs, out);
                }
                out = out.wrapping_add(self.out_width * self.channels);
                y += down as isize;
            }
            first += outputs;
        }
    }

    /// Of `count` columns from `x` on.
    fn columns(&self, x: isize, count: usize) -> Columns {
        let left = (-x).max(0).min(count as isize) as usize;
        let end = (self.width - x).max(left as isize).min(count as isize) as usize;
        Columns { left, inside: end - left, right: count - end }
    }

    /// Fills what lies beside the input; gives the place of the rest.
    fn border(&self, strip: &mut [u32; STRIP], columns: Columns) -> usize {
        let zeros = self.zeros();
        let (left, rest) = strip.split_at_mut_checked(columns.left * self.words).unwrap_or_default();
        let right = rest.get_mut(columns.inside * self.words..).unwrap_or_default();
        left.iter_mut().chain(right.iter_mut().take(columns.right * self.words)).for_each(|word| *word = zeros);
        left.len()
    }

    /// Two zero points.
    fn zeros(&self) -> u32 {
        let zero = u32::from(i16::from(self.zero).cast_unsigned());
        zero | zero << 16
    }

    /// Widens `count` columns from column `x` of the input on, of the tap rows of the window that begins at row `y`; they lie inside, and
    /// at `to` there is room for them.
    fn fill(&self, to: *mut u32, channel: usize, y: isize, x: usize, count: usize) {
        if count == 0 {
            return;
        }
        let ([rows, _], [distance, _]) = (self.window.kernel, self.window.dilation);
        let step = distance * self.width as usize * self.channels;
        // Row `y` may lie outside: then `at` is an address that is not read.
        let at = self.input.wrapping_offset((y * self.width) * self.channels as isize);
        let at = at.wrapping_add(x * self.channels + channel);
        let row = |row: usize| {
            let y = y + (row * distance) as isize;
            (y >= 0 && y < self.height).then(|| at.wrapping_add(row * step))
        };
        if rows == 3 {
            let zeros = usize::from(self.zero.cast_unsigned()) * 0x0101_0101;
            // SAFETY: the rows that are there lie in the input, with columns `x..x + count`; at `to` there is room.
            unsafe {
                match [row(0), row(1), row(2)] {
                    [Some(a), Some(_), Some(_)] => return columns(a, step, to, self.channels, count, 2 * step),
                    [None, Some(b), Some(_)] => return columns_top(b, step, to, self.channels, count, zeros),
                    [Some(a), Some(_), None] => return columns_bottom(a, step, to, self.channels, count, zeros),
                    _ => {}
                }
            }
        }
        // SAFETY: the caller's.
        let strip = unsafe { core::slice::from_raw_parts_mut(to, count * self.words) };
        for first in (0..rows).step_by(2) {
            let (a, b) = (row(first), row(first + 1));
            for (column, words) in strip.chunks_exact_mut(self.words.max(1)).enumerate() {
                let load = |row: Option<*const u8>| match row {
                    // SAFETY: a word of a row and of a column that both lie in the input.
                    Some(row) => unsafe {
                        let x = row.wrapping_add(column * self.channels).cast::<u32>().read();
                        (sxtb16(x), sxtb16_ror8(x))
                    },
                    None => (self.zeros(), self.zeros()),
                };
                let (a02, a13) = load(a);
                let words = words.get_mut(2 * first..).unwrap_or_default();
                if first + 1 == rows {
                    words.iter_mut().zip([a02, a13]).for_each(|(to, word)| *to = word);
                } else {
                    let (b02, b13) = load(b);
                    let pairs = [pkhbt(a02, b02), pkhbt(a13, b13), pkhtb(a02, b02), pkhtb(a13, b13)];
                    words.iter_mut().zip(pairs).for_each(|(to, word)| *to = word);
                }
            }
        }
    }

    /// A row of outputs for any window.
    #[inline(never)]
    fn outputs(&self, strip: &[u32; STRIP], block: &[u32; BLOCK], outputs: usize, out: *mut u8) {
        let ([_, columns], [_, right], [_, distance]) = (self.window.kernel, self.window.stride, self.window.dilation);
        let (bias, rest) = block.split_at_checked(4).unwrap_or_default();
        let (weights, beside) = rest.split_at_checked(columns * self.words).unwrap_or_default();
        let &[m0, m1, m2, m3, high_word, shift, ..] = beside else { return };
        for output in 0..outputs {
            let mut acc = [0; 4];
            bias.iter().zip(&mut acc).for_each(|(bias, acc)| *acc = bias.cast_signed());
            for (column, weights) in weights.chunks_exact(self.words.max(1)).enumerate() {
                let from = (output * right + column * distance) * self.words;
                let xs = strip.get(from..from + self.words).unwrap_or_default();
                let ((xs, last), (weights, last_weights)) = (xs.as_chunks::<4>(), weights.as_chunks::<4>());
                for (xs, weights) in xs.iter().zip(weights) {
                    for ((acc, x), w) in acc.iter_mut().zip(xs).zip(weights) {
                        *acc = smlad(*x, *w, *acc);
                    }
                }
                if let (&[x02, x13], &[w02, w13]) = (last, last_weights) {
                    let [a, b, c, d] = acc;
                    acc = [smlabb(x02, w02, a), smlabb(x13, w13, b), smlatt(x02, w02, c), smlatt(x13, w13, d)];
                }
            }
            let [a, b, c, d] = acc;
            let done = [(a, m0), (b, m1), (c, m2), (d, m3)]
                .map(|(acc, m)| requantize(acc, m.cast_signed(), high_word.cast_signed(), shift));
            // SAFETY: `out` is four channels of a pixel of the output, and `outputs` of them follow in its row.
            unsafe { out.wrapping_add(output * self.channels).cast::<u32>().write_unaligned(pack4(done).to_le()) };
        }
    }
}
