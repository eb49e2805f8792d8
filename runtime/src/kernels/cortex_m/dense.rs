//! Dense layers, and pointwise convolutions that have no scratch: row by row, straight from the tensor.

use super::layer::{clamp, layer};
use super::micro::{Layer, Single, single};
use crate::kernels::{Kernel, Memory, generic};
use crate::plan::{Code, Op};

/// Dense layer.
pub static DENSE: Kernel = Kernel::in_place(Code::Dense, dense);
/// Dense layer whose scores leave as f32.
pub static DENSE_FLOAT: Kernel = Kernel::in_place(Code::DenseFloat, dense_float);

fn dense(op: &Op<'_>, memory: &mut Memory<'_>) {
    if run(op, memory).is_none() {
        (generic::DENSE.run)(op, memory);
    }
}

/// The row of a layer's input. The last step reads whole words: what lies behind the row meets weights of zero, but it has to be memory.
fn padded(op: &Op<'_>, layer: &Layer<'_>) -> core::ops::Range<usize> {
    let start = op.input().range().start;
    start..start + 4 * layer.steps
}

fn run(op: &Op<'_>, memory: &mut Memory<'_>) -> Option<()> {
    let layer = layer(op)?;
    let padded = padded(op, &layer);
    let (row, out) = match memory.arena.get_disjoint_mut([padded, op.output.range()]) {
        Ok([row, out]) => (&*row, out),
        Err(_) => return None,
    };
    rows(&layer, row, 4 * layer.steps, out, op.output.channels())?;
    clamp(op, out);
    Some(())
}

fn dense_float(op: &Op<'_>, memory: &mut Memory<'_>) {
    if float(op, memory).is_none() {
        (generic::DENSE_FLOAT.run)(op, memory);
    }
}

/// f32(sum) · multiplier, where the multipliers are f32.
fn float(op: &Op<'_>, memory: &mut Memory<'_>) -> Option<()> {
    let layer = layer(op)?;
    let row = memory.arena.get(padded(op, &layer))?.as_ptr();
    let out = memory.output.get_mut(..op.output.channels())?;
    // The sums first, as bits.
    let (whole, rest) = (out.len() / 4, out.len() % 4);
    let blocks = Single::new(&layer, 0, whole)?.sums();
    if whole > 0 {
        // SAFETY: the row has as many bytes as the layer's steps take, `out` four words a block and more.
        unsafe { single(&raw const blocks, row, out.as_mut_ptr().cast()) };
    }
    if rest > 0 {
        let last = Single::new(&layer, whole, 1)?.sums();
        let mut sums = [0; 4];
        // SAFETY: as above, one block.
        unsafe { single(&raw const last, row, sums.as_mut_ptr().cast()) };
        out.iter_mut().skip(4 * whole).zip(sums).for_each(|(out, sum)| *out = f32::from_bits(sum));
    }
    for (out, multiplier) in out.iter_mut().zip(layer.multipliers) {
        *out = out.to_bits().cast_signed() as f32 * f32::from_bits(multiplier.cast_unsigned());
    }
    Some(())
}

/// Rows of `outputs` outputs, from rows of input that begin `distance` bytes apart.
pub fn rows(layer: &Layer<'_>, input: &[u8], distance: usize, out: &mut [u8], outputs: usize) -> Option<()> {
    let (whole, rest) = (outputs / 4, outputs % 4);
    let blocks = Single::new(layer, 0, whole)?;
    let last = if rest > 0 { Some(Single::new(layer, whole, 1)?) } else { None };
    for (index, out) in out.chunks_exact_mut(outputs.max(1)).enumerate() {
        let row = input.get(index * distance..)?.get(..4 * layer.steps)?.as_ptr();
        if whole > 0 {
            // SAFETY: the row has as many bytes as the layer's steps take, `out` has four bytes a block and more.
            unsafe { single(&raw const blocks, row, out.as_mut_ptr()) };
        }
        if let Some(last) = &last {
            let mut four = [0; 4];
            // SAFETY: as above.
            unsafe { single(last, row, four.as_mut_ptr()) };
            for (out, q) in out.iter_mut().skip(4 * whole).zip(four) {
                *out = q;
            }
        }
    }
    Some(())
}
