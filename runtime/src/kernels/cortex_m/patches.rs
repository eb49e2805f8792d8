//! Gathers the activations under a window into patches.

use super::micro::{Run, copy, expand};
use crate::plan::{Op, Window};

/// Bytes of a patch that need not be whole words.
const MAX_BYTES: usize = 256;

/// How the patches of one group are gathered.
#[derive(Debug)]
pub struct Gather<'a> {
    input: &'a [u8],
    window: Window,
    height: isize,
    width: isize,
    /// Bytes of a pixel, and of a row of pixels.
    pixel: usize,
    line: usize,
    /// Bytes of one tap, and where they begin in a pixel.
    tap: usize,
    offset: usize,
    zero: i8,
    /// Bytes of a patch, rounded up to words.
    bytes: usize,
    /// Whether taps begin at words, and are so many.
    aligned: bool,
    /// For taps that are no words: where a patch is put together.
    buffer: Buffer,
}

/// Aligned bytes.
#[derive(Debug)]
#[repr(align(4))]
struct Buffer([u8; MAX_BYTES]);

/// Taps of a window that lie inside the input.
struct Inside {
    rows: [usize; 2],
    columns: [usize; 2],
}

impl<'a> Gather<'a> {
    /// For one group; `None` where a patch can neither be gathered in words nor fits the buffer for bytes.
    #[must_use]
    pub fn new(op: &Op<'_>, input: &'a [u8], group: usize) -> Option<Self> {
        let ([height, width, pixel], tap) = (op.input().shape, op.group_inputs());
        let aligned = pixel.is_multiple_of(4) && tap.is_multiple_of(4) && input.as_ptr().addr().is_multiple_of(4);
        let bytes = op.depth().next_multiple_of(4);
        let fits = input.len() == height * width * pixel && (aligned || bytes <= MAX_BYTES);
        fits.then_some(Self {
            input,
            window: op.window,
            height: isize::try_from(height).ok()?,
            width: isize::try_from(width).ok()?,
            pixel,
            line: width * pixel,
            tap,
            offset: group * tap,
            zero: op.input().quant.zero_point,
            bytes,
            aligned,
            buffer: Buffer([0; MAX_BYTES]),
        })
    }

    /// The patch whose first tap lies at row `y`, column `x` of the input, into the places of pixel `slot` (0 or 1) of `patches`.
    ///
    /// # Safety
    /// `patches` has room for two patches.
    pub unsafe fn patch(&mut self, y: isize, x: isize, patches: *mut u32, slot: usize) {
        let to = patches.wrapping_add(2 * slot);
        let [rows, columns] = self.window.kernel;
        let part = |at: isize, size: isize, taps: usize| {
            let first = (-at).max(0).min(taps as isize);
            [first as usize, (size - at).max(first).min(taps as isize) as usize]
        };
        if self.window.dilation == [1, 1] && self.tap == self.pixel {
            // Neighbouring taps of a row are neighbours in memory.
            let inside = Inside { rows: part(y, self.height, rows), columns: part(x, self.width, columns) };
            // SAFETY: the caller's.
            unsafe { self.rows(y, x, inside, to) };
        } else {
            // SAFETY: the caller's.
            unsafe { self.taps(y, x, to) };
        }
        if !self.aligned {
            let run = Run { len: self.bytes / 4, rows: 1, from: 0, to: 0 };
            // SAFETY: `new` has seen that the buffer holds a patch; there is room for it.
            unsafe { expand(self.buffer.0.as_ptr(), to, &raw const run) };
        }
    }

    /// Rows of taps that lie side by side.
    ///
    /// # Safety
    /// At `to` there is room for a patch.
    #[inline(always)]
    unsafe fn rows(&mut self, y: isize, x: isize, inside: Inside, to: *mut u32) {
        let ([top, bottom], [left, right]) = (inside.rows, inside.columns);
        let taps = self.window.taps();
        if (bottom - top) * (right - left) < taps {
            // SAFETY: the caller's.
            unsafe { self.zeros(0, taps * self.tap, to) };
            if bottom == top || right == left {
                return;
            }
        }
        let [_, columns] = self.window.kernel;
        let pixel = (y + top as isize) * self.width + x + left as isize;
        // Inside the input, as `inside` says.
        let from = self.input.as_ptr().wrapping_add(pixel as usize * self.pixel);
        let place = (top * columns + left) * self.tap;
        let (rows, bytes, row) = (bottom - top, (right - left) * self.tap, columns * self.tap);
        if self.aligned {
            let run = Run { len: bytes / 4, rows, from: self.line, to: 4 * row };
            // SAFETY: the rows lie in the input; in the patch four bytes take 16, beginning at `place`.
            unsafe { expand(from, to.wrapping_add(place), &raw const run) };
        } else {
            let run = Run { len: bytes, rows, from: self.line, to: row };
            // SAFETY: the rows lie in the input, and the patch in the buffer.
            unsafe { copy(from, self.buffer.0.as_mut_ptr().wrapping_add(place), &raw const run) };
        }
    }

    /// Tap by tap.
    ///
    /// # Safety
    /// At `to` there is room for a patch.
    unsafe fn taps(&mut self, y: isize, x: isize, to: *mut u32) {
        let ([rows, columns], [down, right]) = (self.window.kernel, self.window.dilation);
        let mut place = 0;
        for row in 0..rows {
            let y = y + (row * down) as isize;
            for column in 0..columns {
                let x = x + (column * right) as isize;
                if y < 0 || y >= self.height || x < 0 || x >= self.width {
                    // SAFETY: the caller's.
                    unsafe { self.zeros(place, self.tap, to) };
                } else {
                    let at = y as usize * self.line + x as usize * self.pixel + self.offset;
                    let from = self.input.as_ptr().wrapping_add(at);
                    let run = Run { len: if self.aligned { self.tap / 4 } else { self.tap }, rows: 1, from: 0, to: 0 };
                    // SAFETY: the tap lies in the input; for the rest, as in `rows`.
                    unsafe {
                        if self.aligned {
                            expand(from, to.wrapping_add(place), &raw const run);
                        } else {
                            copy(from, self.buffer.0.as_mut_ptr().wrapping_add(place), &raw const run);
                        }
                    }
                }
                place += self.tap;
            }
        }
    }

    /// `bytes` of the zero point from byte `place` of the patch on.
    ///
    /// # Safety
    /// At `to` there is room for a patch, and these bytes are in it.
    unsafe fn zeros(&mut self, place: usize, bytes: usize, to: *mut u32) {
        if self.aligned {
            let zero = u32::from(i16::from(self.zero).cast_unsigned());
            let mut to = to.wrapping_add(place).cast::<[u32; 2]>();
            for _ in 0..bytes / 4 {
                // SAFETY: the caller's; four bytes take 16.
                unsafe { to.write([zero | zero << 16; 2]) };
                to = to.wrapping_add(2);
            }
        } else {
            let zero = self.zero.cast_unsigned();
            self.buffer.0.iter_mut().skip(place).take(bytes).for_each(|byte| *byte = zero);
        }
    }
}
