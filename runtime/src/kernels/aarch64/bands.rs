//! The input as windows see it, border and all.

use crate::plan::Op;

/// What a copied band may take, so that it stays in the first cache beside weights and outputs.
const BAND_BYTES: usize = 24 * 1024;
/// Output rows that a band has at least, so that rows that two bands share are not copied too often.
const MIN_ROWS: usize = 4;
/// Bytes behind a copy that may be read, and are ignored.
pub(super) const SLACK: usize = 16;

/// Reads an input where it lies, or as a copy with its border, a few output rows at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bands {
    copies: bool,
    /// Output rows of a band.
    rows: usize,
    /// Bytes of a row of what is read.
    row_bytes: usize,
}

impl Bands {
    /// Copies where windows reach beyond the input, or where `reads_beyond` says that kernels do.
    pub(super) fn new(op: &Op<'_>, reads_beyond: bool) -> Self {
        let ([height, width, channels], [out_height, out_width, _]) = (op.input().shape, op.output.shape);
        let ([stride, stride_x], [extent, extent_x]) = (op.window.stride, op.window.extent());
        // In what the windows cover, which may be less than the input.
        let rows = out_height.saturating_sub(1) * stride + extent;
        let columns = out_width.saturating_sub(1) * stride_x + extent_x;
        let inside = op.window.pad == [0, 0] && rows <= height && columns <= width;
        if inside && !reads_beyond {
            return Self { copies: false, rows: out_height, row_bytes: width * channels };
        }
        let row_bytes = columns * channels;
        let fit = (BAND_BYTES.checked_div(row_bytes).unwrap_or(0).saturating_sub(extent)).checked_div(stride);
        Self { copies: true, rows: fit.map_or(0, |rows| rows + 1).max(MIN_ROWS).min(out_height), row_bytes }
    }

    /// Output rows of a band; the last may have fewer.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of a row of what is read.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Bytes of workspace.
    pub(super) fn workspace_bytes(&self, op: &Op<'_>) -> usize {
        let ([stride, _], [extent, _]) = (op.window.stride, op.window.extent());
        let rows = self.rows.saturating_sub(1) * stride + extent;
        if self.copies { rows * self.row_bytes + SLACK } else { 0 }
    }

    /// What the windows of `rows` output rows from `first` on read, the first window at its first byte.
    pub(super) fn read<'a>(
        &self,
        op: &Op<'_>,
        input: &'a [u8],
        first: usize,
        rows: usize,
        workspace: &'a mut [u8],
    ) -> &'a [u8] {
        if !self.copies {
            return input.get(first * op.window.stride[0] * self.row_bytes..).unwrap_or_default();
        }
        let ([height, width, channels], [top, left]) = (op.input().shape, op.window.pad);
        let ([stride, _], [extent, _]) = (op.window.stride, op.window.extent());
        let zero = op.input().quant.zero_point.cast_unsigned();
        let before = left * channels;
        let count = rows.saturating_sub(1) * stride + extent;
        for (index, to) in workspace.chunks_exact_mut(self.row_bytes.max(1)).take(count).enumerate() {
            let y = (first * stride + index).checked_sub(top).filter(|y| *y < height);
            let from = y.and_then(|y| input.get(y * width * channels..(y + 1) * width * channels));
            let (border, rest) = to.split_at_mut(before.min(to.len()));
            border.fill(zero);
            let (middle, behind) = rest.split_at_mut((width * channels).min(rest.len()));
            match from.and_then(|from| from.get(..middle.len())) {
                Some(from) => middle.copy_from_slice(from),
                None => middle.fill(zero),
            }
            behind.fill(zero);
        }
        workspace
    }
}
