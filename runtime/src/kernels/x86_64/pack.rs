//! The weights of convolutions and dense layers, from the plan's blocks to panels.

use super::product::{Isa, Panel};
use super::simd::swapped;
use crate::plan::{Code, Op};

/// How the products of one operator are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Groups of a convolution.
    pub groups: usize,
    /// Outputs of a group.
    pub outputs: usize,
    /// Input channels of a group.
    pub inputs: usize,
    /// Runs of a patch.
    pub runs: usize,
    /// Values of a run.
    pub run: usize,
    /// Steps of a run: its values by [`Isa::GROUP`], rounded up.
    pub steps: usize,
}

impl Layout {
    /// Of a Conv, Dense or DenseFloat.
    pub(super) fn of<I: Isa>(op: &Op<'_>) -> Self {
        let (groups, inputs, outputs, runs, run) = if op.code == Code::Conv {
            let ([rows, columns], inputs) = (op.window.kernel, op.group_inputs());
            let [_, dilation] = op.window.dilation;
            // The pixels under one row of the kernel lie side by side, unless they are dilated or other groups lie between.
            let joined = op.groups == 1 && (dilation == 1 || columns == 1);
            let (runs, run) = if joined { (rows, columns * inputs) } else { (rows * columns, inputs) };
            (op.groups, inputs, op.group_outputs(), runs, run)
        } else {
            let inputs = op.input().elements();
            (1, inputs, op.output.channels(), 1, inputs)
        };
        Self { groups, outputs, inputs, runs, run, steps: run.div_ceil(I::GROUP) }
    }

    /// Outputs that each panel of a group holds, in order.
    pub(super) fn panels<I: Isa>(&self) -> impl Iterator<Item = usize> + use<I> {
        let outputs = self.outputs;
        (0..outputs).step_by(I::LANES).map(move |first| (outputs - first).min(I::LANES))
    }

    /// Bytes of all panels.
    pub(super) fn bytes<I: Isa>(&self) -> usize {
        let steps = self.runs * self.steps;
        let group: usize = self.panels::<I>().map(|outputs| Panel::bytes::<I>(Panel::lanes(outputs), steps)).sum();
        self.groups * group
    }
}

/// Bytes that [`pack`] fills.
pub(super) fn packed_bytes<I: Isa>(op: &Op<'_>) -> usize {
    Layout::of::<I>(op).bytes::<I>()
}

/// Panels of every group: bias, multipliers, and for every step of every run the weights of each lane.
pub(super) fn pack<I: Isa>(op: &Op<'_>, packed: &mut [u8]) {
    let layout = Layout::of::<I>(op);
    let padded = layout.outputs.next_multiple_of(4);
    let mut rest = packed;
    for group in 0..layout.groups {
        let mut first = group * padded;
        for outputs in layout.panels::<I>() {
            let lanes = Panel::lanes(outputs);
            let bytes = Panel::bytes::<I>(lanes, layout.runs * layout.steps);
            let Some((own, behind)) = rest.split_at_mut_checked(bytes) else { return };
            panel::<I>(op, &layout, first, outputs, lanes, own);
            rest = behind;
            first += outputs;
        }
    }
}

/// The weight of an output (its number with every group rounded up to 4) for value `k` of its patch.
pub(super) fn weight(op: &Op<'_>, layout: &Layout, output: usize, k: usize) -> i8 {
    let across = (layout.runs * layout.run).div_ceil(4);
    let block = op.weights.as_chunks::<16>().0.get((output / 4) * across + k / 4);
    block.and_then(|block| block.get((output % 4) * 4 + k % 4)).map_or(0, |byte| byte.cast_signed())
}

/// One panel, its lanes in the order that requantization undoes: `outputs` from the operator's output `first` on, as [`weight`] counts it.
fn panel<I: Isa>(op: &Op<'_>, layout: &Layout, first: usize, outputs: usize, lanes: usize, bytes: &mut [u8]) {
    let weights = numbers::<I>(op, layout, first, outputs, lanes, bytes);
    for (step, step_weights) in weights.chunks_exact_mut(lanes * I::GROUP * I::WEIGHT).enumerate() {
        let (run, start) = (step / layout.steps, step % layout.steps * I::GROUP);
        for (index, lane) in step_weights.chunks_exact_mut(I::GROUP * I::WEIGHT).enumerate() {
            for (k, bytes) in (start..).zip(lane.chunks_exact_mut(I::WEIGHT)) {
                let is_there = swapped(index) < outputs && k < layout.run;
                let value = if is_there { weight(op, layout, first + swapped(index), run * layout.run + k) } else { 0 };
                bytes.iter_mut().zip(i16::from(value).to_le_bytes()).for_each(|(to, from)| *to = from);
            }
        }
    }
}

/// Bias and multipliers of a panel, as [`panel`] has them; what follows them.
pub(super) fn numbers<'b, I: Isa>(
    op: &Op<'_>,
    layout: &Layout,
    first: usize,
    outputs: usize,
    lanes: usize,
    bytes: &'b mut [u8],
) -> &'b mut [u8] {
    let (numbers, weights) = bytes.split_at_mut_checked(8 * lanes).unwrap_or_default();
    let (bias, multipliers) = numbers.split_at_mut_checked(4 * lanes).unwrap_or_default();
    let (bias, multipliers) = (bias.as_chunks_mut::<4>().0, multipliers.as_chunks_mut::<4>().0);
    for (index, (bias, multiplier)) in bias.iter_mut().zip(multipliers).enumerate() {
        let (output, is_there) = (first + swapped(index), swapped(index) < outputs);
        *multiplier = if is_there { Op::word(op.multipliers, output).to_le_bytes() } else { [0; 4] };
        let weights = (0..layout.runs * layout.run).map(|k| i32::from(weight(op, layout, output, k)));
        let sum = weights.fold(0i32, i32::wrapping_add);
        let shifted = Op::word(op.bias, output).wrapping_sub(sum.wrapping_mul(I::OFFSET));
        *bias = if is_there { shifted.to_le_bytes() } else { [0; 4] };
    }
    weights
}
