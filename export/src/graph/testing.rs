//! Small graphs by hand, for tests of the passes.

use super::{DType, Dim, Graph, Node, Op, Tensor, Value, ValueId, eval::Evaluator, op::Padding, op::Window};

/// Numbers in -1..1 that look random and are the same everywhere (xorshift).
pub(crate) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

pub(crate) fn tensor(shape: &[usize], data: Vec<f32>) -> Tensor {
    Tensor::from_f32(shape, data).unwrap()
}

pub(crate) fn noisy(seed: u64, shape: &[usize]) -> Tensor {
    tensor(shape, noise(seed, shape.iter().product()))
}

pub(crate) fn window(kernel: &[usize], strides: &[usize], pads: &[usize]) -> Window {
    Window {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations: vec![1; kernel.len()],
        padding: Padding::Explicit(pads.to_vec()),
    }
}

/// Builds a graph node by node.
pub(crate) struct Builder {
    pub graph: Graph,
}

impl Builder {
    /// `shape` without the batch, which is the symbol `N`.
    pub fn new(opset: i64) -> Self {
        Self { graph: Graph { name: "test".to_owned(), opset, ..Graph::default() } }
    }

    pub fn input(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let dims = std::iter::once(Dim::Symbol("N".to_owned())).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect();
        let value = Value { name: name.to_owned(), dtype: Some(DType::F32), shape: Some(dims), constant: None };
        let id = self.graph.add_value(value);
        self.graph.inputs.push(id);
        id
    }

    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.graph.add_constant("c", tensor)
    }

    pub fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = op.name().to_lowercase();
        let id = self.graph.add_value(Value { name, ..Value::default() });
        let name = self.graph.value(id).name.clone();
        let inputs = inputs.iter().copied().map(Some).collect();
        self.graph.nodes.push(Node { name, op, inputs, outputs: vec![id] });
        id
    }

    pub fn output(mut self, id: ValueId) -> Graph {
        self.graph.outputs.push(id);
        self.graph
    }
}

pub(crate) fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    Evaluator::new(graph).unwrap().run(inputs).unwrap()
}

/// Same shape, every element within `tolerance` relative to the largest.
pub(crate) fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.as_f32().unwrap(), b.as_f32().unwrap());
    let largest = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * largest, "element {i}: {x} and {y}");
    }
}

/// The operators of a graph, in order.
pub(crate) fn ops(graph: &Graph) -> Vec<String> {
    graph.nodes.iter().map(|n| n.op.name()).collect()
}
