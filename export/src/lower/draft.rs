//! A plan while it is made: tensors without a place, operators on them.

use hone_runtime::QuantParams;
use hone_runtime::plan::{Code, DType, OpParts, Tensor};

/// A tensor as the graph sees it: sizes along the graph's axes, and how they lie in memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    /// Index in [`Draft::tensors`].
    pub tensor: usize,
    /// Sizes along the graph's axes, without the batch.
    pub dims: Vec<usize>,
    /// The graph's axes from the slowest to the fastest in memory.
    pub order: Vec<usize>,
}

impl Stored {
    /// Sizes in memory order as height, width, channels; axes of one element do not count. `None` for more than three others.
    pub fn shape(&self) -> Option<[usize; 3]> {
        let sizes: Vec<usize> = self.order.iter().map(|&axis| self.dims[axis]).collect();
        three(&sizes)
    }

    /// Whether the elements lie as they would in `order`.
    pub fn lies_as(&self, order: &[usize]) -> bool {
        let significant =
            |order: &[usize]| order.iter().copied().filter(|&axis| self.dims[axis] != 1).collect::<Vec<_>>();
        significant(&self.order) == significant(order)
    }

    /// Whether the elements lie in the graph's own, row-major order.
    pub fn is_row_major(&self) -> bool {
        self.lies_as(&row_major(self.dims.len()))
    }
}

/// `0, 1, 2, …`
pub(super) fn row_major(rank: usize) -> Vec<usize> {
    (0..rank).collect()
}

/// Channels, the graph's first axis, in memory last.
pub(super) fn channels_last(rank: usize) -> Vec<usize> {
    (1..rank).chain(0..rank.min(1)).collect()
}

/// Exactly three sizes: ones added in front or taken out.
pub(super) fn three(sizes: &[usize]) -> Option<[usize; 3]> {
    let mut sizes = sizes.to_vec();
    while sizes.len() > 3 {
        let one = sizes.iter().position(|&size| size == 1)?;
        sizes.remove(one);
    }
    while sizes.len() < 3 {
        sizes.insert(0, 1);
    }
    sizes.try_into().ok()
}

/// What an operator makes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    /// The graph's value; `None` for a helper's.
    pub value: Option<String>,
    /// The value's axes, without the batch, from the slowest to the fastest in memory.
    pub order: Vec<usize>,
}

/// What [`super::memory`] places.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub tensors: Vec<Tensor>,
    pub ops: Vec<OpParts>,
    /// For every operator, what it makes.
    pub layers: Vec<Made>,
    pub input: usize,
    pub output: usize,
    pub channels_first: bool,
}

impl Draft {
    /// An int8 tensor.
    pub fn int8(&mut self, shape: [usize; 3], quant: QuantParams) -> usize {
        self.tensors.push(Tensor { dtype: DType::Int8, shape, quant, offset: Some(0) });
        self.tensors.len() - 1
    }

    /// A tensor of the type, scale and zero point of another.
    pub fn like(&mut self, tensor: usize, shape: [usize; 3]) -> usize {
        self.tensors.push(Tensor { shape, ..self.tensors[tensor] });
        self.tensors.len() - 1
    }

    /// An f16 tensor.
    pub fn half(&mut self, shape: [usize; 3]) -> usize {
        let quant = QuantParams { scale: 1.0, zero_point: 0 };
        self.tensors.push(Tensor { dtype: DType::F16, shape, quant, offset: Some(0) });
        self.tensors.len() - 1
    }

    /// A float tensor in the caller's output.
    pub fn float(&mut self, shape: [usize; 3]) -> usize {
        let quant = QuantParams { scale: 1.0, zero_point: 0 };
        self.tensors.push(Tensor { dtype: DType::F32, shape, quant, offset: None });
        self.tensors.len() - 1
    }

    /// Adds an operator that makes the graph's value `value`, whose axes lie in `order`.
    pub fn push(&mut self, op: OpParts, value: &str, order: &[usize]) {
        self.ops.push(op);
        self.layers.push(Made { value: Some(value.to_owned()), order: order.to_vec() });
    }

    /// Adds an operator that makes no value of the graph's own: it only prepares another's input.
    pub fn push_helper(&mut self, op: OpParts) {
        self.ops.push(op);
        self.layers.push(Made { value: None, order: Vec::new() });
    }

    /// Drops what comes after the operator that gives the output.
    pub fn end(&mut self) {
        let last = self.ops.iter().position(|op| op.output == self.output);
        self.ops.truncate(last.map_or(0, |last| last + 1));
        self.layers.truncate(self.ops.len());
    }

    /// Adds a helper of one input without parameters, and its output of the same type and scale.
    pub fn helper(&mut self, code: Code, name: &str, input: usize, shape: [usize; 3]) -> usize {
        let output = self.like(input, shape);
        self.push_helper(OpParts::new(code, name, &[input], output));
        output
    }
}
