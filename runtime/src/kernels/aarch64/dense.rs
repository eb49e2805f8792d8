//! Dense layers: one row of inputs, 16 outputs at a time, weights in place.

use core::arch::aarch64::*;

use super::tile::{Isa, Offsets, Outputs, Panel, Places, Walk};
use super::vector::{Narrow, quad};
use crate::kernels::Memory;
use crate::plan::Op;

/// Room for a copy of the input rounded up to whole blocks, where it is not already.
pub(super) fn workspace_bytes(op: &Op<'_>) -> usize {
    let depth = op.depth();
    if depth.is_multiple_of(4) { 0 } else { depth.next_multiple_of(4) }
}

/// The input in whole blocks, zeros behind it.
fn row<'a>(input: &'a [u8], workspace: &'a mut [u8]) -> &'a [u8] {
    let len = input.len().next_multiple_of(4);
    if len == input.len() {
        return input;
    }
    let Some(row) = workspace.get_mut(..len) else { return &[] };
    for (to, from) in row.iter_mut().zip(input.iter().chain(core::iter::repeat(&0))) {
        *to = *from;
    }
    row
}

/// A dense layer to int8.
#[inline(always)]
pub(super) fn run<I: Isa>(isa: I, op: &Op<'_>, memory: &mut Memory<'_>) {
    let Ok([input, out]) = memory.arena.get_disjoint_mut([op.input().range(), op.output.range()]) else { return };
    let outputs = Outputs { bias: op.bias, multipliers: op.multipliers, narrow: Narrow::new(op.requant) };
    let finish = Requantize { outputs: &outputs, out, len: op.output.elements() };
    blocks(isa, op, row(input, memory.workspace), finish);
}

/// A dense layer to f32.
#[inline(always)]
pub(super) fn run_float<I: Isa>(isa: I, op: &Op<'_>, memory: &mut Memory<'_>) {
    let input = memory.arena.get(op.input().range()).unwrap_or_default();
    let finish = Scale { multipliers: op.multipliers, out: memory.output };
    blocks(isa, op, row(input, memory.workspace), finish);
}

/// What becomes of the sums of blocks `index` and following.
trait Finish {
    fn finish<const B: usize>(&mut self, index: usize, sums: [int32x4_t; B]);
}

struct Requantize<'a> {
    outputs: &'a Outputs<'a>,
    out: &'a mut [u8],
    len: usize,
}

impl Finish for Requantize<'_> {
    #[inline(always)]
    fn finish<const B: usize>(&mut self, index: usize, sums: [int32x4_t; B]) {
        let (to, count) = (Offsets::new([4 * index]), self.len.saturating_sub(4 * index));
        if count >= 4 * B {
            self.outputs.store([sums], index, to, self.out);
        } else {
            self.outputs.store_some([sums], index, to, count, self.out);
        }
    }
}

/// f32(sum) · multiplier.
struct Scale<'a> {
    multipliers: &'a [u8],
    out: &'a mut [f32],
}

impl Finish for Scale<'_> {
    #[inline(always)]
    fn finish<const B: usize>(&mut self, index: usize, sums: [int32x4_t; B]) {
        for (index, sums) in (index..).zip(sums) {
            let mut scores = [0.0; 4];
            // SAFETY: AArch64 always has these instructions, and the array has the 4 numbers that are written.
            unsafe {
                let scale = vreinterpretq_f32_s32(quad(self.multipliers, index));
                vst1q_f32(scores.as_mut_ptr(), vmulq_f32(vcvtq_f32_s32(sums), scale));
            }
            for (to, score) in self.out.iter_mut().skip(4 * index).zip(scores) {
                *to = score;
            }
        }
    }
}

/// The sums of all outputs, four blocks at a time while there are as many.
#[inline(always)]
fn blocks<I: Isa>(isa: I, op: &Op<'_>, row: &[u8], mut finish: impl Finish) {
    let blocks = op.output.elements().div_ceil(4);
    let mut index = 0;
    while index + 4 <= blocks {
        some::<I, 4>(isa, op, row, index, &mut finish);
        index += 4;
    }
    match blocks - index {
        3 => some::<I, 3>(isa, op, row, index, &mut finish),
        2 => some::<I, 2>(isa, op, row, index, &mut finish),
        1 => some::<I, 1>(isa, op, row, index, &mut finish),
        _ => {}
    }
}

#[inline(always)]
fn some<I: Isa, const B: usize>(isa: I, op: &Op<'_>, row: &[u8], index: usize, finish: &mut impl Finish) {
    let places = Places::<1>::new(row, [0], Walk::row(row.len()));
    if let (Some(places), Some(panel)) = (places, Panel::<B>::new(op.weights, index, row.len())) {
        let [sums] = isa.sums(&places, &panel, core::array::from_fn(|block| quad(op.bias, index + block)));
        finish.finish(index, sums);
    }
}
