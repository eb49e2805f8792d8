//! Operators that move values, of one byte (int8) or two (f16).

use super::conv::row_and_column;
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op, Tensor};

/// Border of the zero point.
pub static PAD: Kernel = Kernel::in_place(Code::Pad, pad);
/// Permutation of the axes.
pub static TRANSPOSE: Kernel = Kernel::in_place(Code::Transpose, transpose);
/// Nearest-neighbour resizing.
pub static RESIZE: Kernel = Kernel::in_place(Code::Resize, resize);
/// Channels side by side.
pub static CONCAT: Kernel = Kernel::in_place(Code::Concat, concat);
/// The same bytes under another shape.
pub static RESHAPE: Kernel = Kernel::in_place(Code::Reshape, reshape);

/// Calls `f` with the next `read` bytes of `from` and the next `write` bytes of `to`, for as long as both have so many.
///
/// Not a zip of chunks, whose division by their size is a panic path.
pub(super) fn side_by_side(from: &[u8], read: usize, to: &mut [u8], write: usize, mut f: impl FnMut(&[u8], &mut [u8])) {
    let (mut from, mut to) = (from, to);
    while !from.is_empty() && !to.is_empty() {
        let Some((one, rest)) = from.split_at_checked(read) else { return };
        let Some((other, rest_to)) = to.split_at_mut_checked(write) else { return };
        f(one, other);
        (from, to) = (rest, rest_to);
    }
}

pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Bytes of one pixel.
fn pixel_bytes(tensor: &Tensor) -> usize {
    tensor.channels() * tensor.dtype.bytes()
}

fn pad(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (width, out_width, [top, left]) = (op.input().width(), op.output.width(), op.window.pad);
    let pixel = pixel_bytes(&op.output);
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    // f16 tensors have the zero point 0, and 0.0 is two bytes of zeros.
    output.fill(op.output.quant.zero_point.cast_unsigned());
    let (line, out_line) = ((width * pixel).max(1), (out_width * pixel).max(1));
    let below = output.get_mut(top * out_line..).unwrap_or_default();
    side_by_side(input, line, below, out_line, |from, to| {
        copy(to.get_mut(left * pixel..).unwrap_or_default(), from);
    });
}

fn transpose(op: &Op<'_>, memory: &mut Memory<'_>) {
    let [_, width, channels] = op.input().shape;
    let steps = [width * channels, channels, 1];
    let of = |axis: usize| steps.get(axis).copied().unwrap_or(0);
    let ([p, q, r], [_, out_width, out_channels]) = (op.transpose_axes().map(of), op.output.shape);
    let size = op.output.dtype.bytes();
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    for (y, plane) in output.chunks_exact_mut((out_width * out_channels * size).max(1)).enumerate() {
        for (x, row) in plane.chunks_exact_mut((out_channels * size).max(1)).enumerate() {
            let first = y * p + x * q;
            if size == 1 {
                for (c, out) in row.iter_mut().enumerate() {
                    *out = input.get(first + c * r).copied().unwrap_or(0);
                }
            } else {
                let input = input.as_chunks::<2>().0;
                for (c, out) in row.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    *out = input.get(first + c * r).copied().unwrap_or_default();
                }
            }
        }
    }
}

/// Maps of row and column numbers: first one for every output row, then one for every output column.
fn resize(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (width, [out_height, out_width, _]) = (op.input().width(), op.output.shape);
    let size = pixel_bytes(&op.output);
    let map = |index: usize| Op::word(op.weights, index).cast_unsigned() as usize;
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    for (index, pixel) in output.chunks_exact_mut(size.max(1)).enumerate() {
        let [y, x] = row_and_column(index, out_width);
        let place = map(y) * width + map(out_height + x);
        copy(pixel, input.get(place * size..).unwrap_or_default());
    }
}

fn concat(op: &Op<'_>, memory: &mut Memory<'_>) {
    let whole = pixel_bytes(&op.output);
    let mut first = 0;
    for part in op.inputs() {
        let own = pixel_bytes(&part);
        let (input, output) = memory.pair(part.range(), op.output.range());
        side_by_side(input, own.max(1), output, whole.max(1), |from, to| {
            copy(to.get_mut(first..).unwrap_or_default(), from);
        });
        first += own;
    }
}

fn reshape(op: &Op<'_>, memory: &mut Memory<'_>) {
    if !op.in_place {
        let (input, output) = memory.pair(op.input().range(), op.output.range());
        copy(output, input);
    }
}
