//! A band of the input's rows with their border, unpacked into the workspace: patches lie in it at fixed distances.

use core::ops::Range;

use crate::plan::Op;

/// Activations of a band, in bytes: they stay in the second level of cache.
pub(super) const BAND_BYTES: usize = 48 * 1024;
/// Pixels of a band's output, at most.
const BAND_PIXELS: usize = 1024;

/// How an operator's input is cut into bands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bands {
    /// Output rows of a band.
    pub rows: usize,
    /// Bytes of a pixel.
    pub pixel: usize,
    /// Bytes of a row with its border.
    pub row: usize,
}

impl Bands {
    /// For pixels of `pixel` bytes.
    pub(super) fn new(op: &Op<'_>, pixel: usize) -> Self {
        let ([out_height, out_width, _], [extent_height, extent_width]) = (op.output.shape, op.window.extent());
        let [down, right] = op.window.stride;
        let row = ((out_width - 1) * right + extent_width) * pixel;
        let fit = (BAND_BYTES / row).saturating_sub(extent_height.saturating_sub(down)) / down;
        let rows = fit.min(BAND_PIXELS / out_width).clamp(1, out_height);
        // Bands of equal height.
        let rows = out_height.div_ceil(out_height.div_ceil(rows));
        Self { rows, pixel, row }
    }

    /// Bytes of a whole band.
    pub(super) fn bytes(&self, op: &Op<'_>) -> usize {
        self.height(op, self.rows) * self.row
    }

    /// Input rows under that many output rows.
    fn height(&self, op: &Op<'_>, rows: usize) -> usize {
        (rows - 1) * op.window.stride[0] + op.window.extent()[0]
    }

    /// The output rows of every band.
    pub(super) fn iter(self, op: &Op<'_>) -> impl Iterator<Item = Range<usize>> + use<> {
        let height = op.output.height();
        (0..height).step_by(self.rows).map(move |first| first..(first + self.rows).min(height))
    }

    /// Where, in a band, the patch of an output pixel begins; `y` is counted from the band's first.
    pub(super) fn patch(&self, op: &Op<'_>, y: usize, x: usize) -> usize {
        let [down, right] = op.window.stride;
        y * down * self.row + x * right * self.pixel
    }

    /// Distance of a tap from the beginning of its patch.
    pub(super) fn tap(&self, op: &Op<'_>, y: usize, x: usize) -> usize {
        let [down, right] = op.window.dilation;
        y * down * self.row + x * right * self.pixel
    }

    /// Fills a band for the output rows `rows`; `unpack` brings int8 values into their form in the band, in which a value takes
    /// `element` bytes. The border is the zero point.
    pub(super) fn fill(
        &self,
        op: &Op<'_>,
        rows: Range<usize>,
        input: &[u8],
        band: &mut [u8],
        element: usize,
        unpack: fn(&[u8], &mut [u8]),
    ) {
        let first = rows.start * op.window.stride[0];
        for (row, to) in (first..first + self.height(op, rows.len())).zip(band.chunks_exact_mut(self.row)) {
            self.fill_row(op, row, input, to, element, unpack);
        }
    }

    /// Fills one row, whose number counts the border's rows, too.
    pub(super) fn fill_row(
        &self,
        op: &Op<'_>,
        row: usize,
        input: &[u8],
        to: &mut [u8],
        element: usize,
        unpack: fn(&[u8], &mut [u8]),
    ) {
        let ([height, width, channels], [above, left]) = (op.input().shape, op.window.pad);
        let zeros = [op.input().quant.zero_point.cast_unsigned(); 32];
        let border = |to: &mut [u8]| to.chunks_mut(32 * element).for_each(|to| unpack(&zeros, to));
        let Some(y) = row.checked_sub(above).filter(|y| *y < height) else { return border(to) };
        let (before, rest) = to.split_at_mut_checked(left * self.pixel).unwrap_or_default();
        let columns = width.min(rest.len() / self.pixel);
        let (inside, behind) = rest.split_at_mut_checked(columns * self.pixel).unwrap_or_default();
        border(before);
        border(behind);
        let from = input.get(y * width * channels..(y * width + columns) * channels).unwrap_or_default();
        if self.pixel == channels * element {
            unpack(from, inside);
        } else {
            for (from, to) in from.chunks_exact(channels).zip(inside.chunks_exact_mut(self.pixel)) {
                unpack(from, to);
            }
        }
    }
}
