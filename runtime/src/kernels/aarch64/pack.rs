//! Runs of inputs, and weights in their order.

use crate::plan::Op;

/// The inputs of one output as stretches of bytes that lie together: a row of the window, or a single tap where taps lie apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Runs {
    /// Rows of the window.
    pub(super) rows: usize,
    /// Runs in a row.
    pub(super) taps: usize,
    /// Bytes of a run.
    pub(super) bytes: usize,
    /// The same, rounded up to the tier's step.
    pub(super) padded: usize,
}

impl Runs {
    pub(super) fn new(op: &Op<'_>, step: usize) -> Self {
        let ([rows, columns], [_, dilation]) = (op.window.kernel, op.window.dilation);
        let together = op.groups == 1 && (dilation == 1 || columns == 1);
        let (taps, bytes) = if together { (1, columns * op.group_inputs()) } else { (columns, op.group_inputs()) };
        Self { rows, taps, bytes, padded: bytes.next_multiple_of(step) }
    }

    /// Whether a kernel that reads whole steps reads beyond a run.
    pub(super) fn is_padded(&self) -> bool {
        self.padded != self.bytes
    }

    /// Products of one output.
    pub(super) fn depth(&self) -> usize {
        self.rows * self.taps * self.padded
    }

    /// Bytes of the weights of all outputs.
    pub(super) fn weight_bytes(&self, op: &Op<'_>) -> usize {
        op.groups * op.group_outputs().next_multiple_of(4) * self.depth()
    }

    /// Writes the weights run by run, each rounded up with zeros, in blocks of 4 outputs × `step` inputs.
    pub(super) fn pack(&self, op: &Op<'_>, step: usize, out: &mut [u8]) {
        let blocks_of_group = op.group_outputs().div_ceil(4);
        let old = 4 * op.depth().next_multiple_of(4);
        let panels = op.weights.chunks_exact(old).zip(out.chunks_exact_mut(4 * self.depth()));
        debug_assert_eq!(panels.len(), blocks_of_group * op.groups);
        for (from, to) in panels {
            let runs = (0..self.rows * self.taps).zip(to.chunks_exact_mut(4 * self.padded));
            for (run, to) in runs {
                for (start, block) in (0..).step_by(step).zip(to.chunks_exact_mut(4 * step)) {
                    for (output, row) in block.chunks_exact_mut(step).enumerate() {
                        for (k, byte) in (start..).zip(row) {
                            let input = run * self.bytes + k;
                            let place = input / 4 * 16 + output * 4 + input % 4;
                            *byte = if k < self.bytes { from.get(place).copied().unwrap_or(0) } else { 0 };
                        }
                    }
                }
            }
        }
    }
}
