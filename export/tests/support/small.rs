//! Small graphs by hand.
#![allow(dead_code, reason = "each test binary uses its own part")]

use hone_export::graph::{DType, Dim, Graph, Node, Op, Tensor, Value, ValueId, infer};

/// A graph by hand.
pub struct Small {
    pub graph: Graph,
    pub input: ValueId,
    seed: u64,
}

impl Small {
    pub fn new(shape: &[usize]) -> Self {
        let mut graph = Graph { name: "small".into(), opset: 17, ..Graph::default() };
        let dims = std::iter::once(Dim::Symbol("N".into())).chain(shape.iter().map(|n| Dim::Fixed(*n))).collect();
        let value = Value { name: "x".into(), dtype: Some(DType::F32), shape: Some(dims), constant: None };
        let input = graph.add_value(value);
        graph.inputs.push(input);
        Self { graph, input, seed: 1 }
    }

    pub fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = format!("{}_{}", op.name(), self.graph.nodes.len());
        let id = self.graph.add_value(Value { name: name.clone(), dtype: Some(DType::F32), ..Value::default() });
        let inputs = inputs.iter().copied().map(Some).collect();
        self.graph.nodes.push(Node { name, op, inputs, outputs: vec![id] });
        id
    }

    pub fn noise(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    pub fn constant(&mut self, shape: &[usize]) -> ValueId {
        let data = self.noise(shape.iter().product());
        self.graph.add_constant("c", Tensor::from_f32(shape, data).unwrap())
    }

    pub fn number(&mut self, x: f32) -> ValueId {
        self.graph.add_constant("c", Tensor::from_f32(&[], vec![x]).unwrap())
    }

    pub fn integers(&mut self, values: &[i64]) -> ValueId {
        let data = ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(&[values.len()]), values.to_vec()).unwrap();
        self.graph.add_constant("s", Tensor::I64(data))
    }

    pub fn finished(&self, output: ValueId) -> Graph {
        let mut graph = self.graph.clone();
        graph.outputs = vec![output];
        infer::infer(&mut graph).expect("shapes");
        graph
    }

    /// An operator on two functions of the input, the second of another shape; and what it makes.
    pub fn with_operands(op: Op, shape: &[usize], other: &[i64], swapped: bool) -> (Self, ValueId) {
        let mut small = Self::new(shape);
        let first = small.node(Op::Relu, &[small.input]);
        let second = small.node(Op::Tanh, &[small.input]);
        let other = small.integers(other);
        let second = small.node(Op::Reshape { allow_zero: false }, &[second, other]);
        let operands = if swapped { [second, first] } else { [first, second] };
        let output = small.node(op, &operands);
        (small, output)
    }
}
