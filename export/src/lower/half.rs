//! Graphs in half precision: every node becomes an operator at once, or is merged into the one before it.

mod functions;
mod layers;

use half::f16;
use hone_runtime::plan::{Code, Function, OpParts};

use super::draft::{Draft, Stored, row_major};
use super::walk::{Source, Walk};
use super::{HalfOutput, invalid, moves, unsupported};
use crate::Result;
use crate::graph::{DType, Graph, Node, Op, Tensor, ValueId};

/// Nothing bounds an output.
const OPEN: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// The whole graph.
pub(super) fn run(graph: &Graph, gives: HalfOutput) -> Result<Draft> {
    let (mut walk, input, output) = Walk::new(graph)?;
    for index in 0..graph.nodes.len() {
        walk.half_node(index, input)?;
    }
    walk.half_finish(output, gives)?;
    Ok(walk.draft)
}

/// A constant of the graph.
pub(super) struct Constant {
    pub values: Vec<f16>,
    pub shape: Vec<usize>,
}

impl Constant {
    fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|value| value.to_f32()).collect()
    }

    /// Its only value.
    fn scalar(&self) -> Option<f32> {
        match self.values[..] {
            [one] => Some(one.to_f32()),
            _ => None,
        }
    }
}

impl Walk<'_> {
    /// The constant behind a node's input, where it is one in f16.
    fn half_constant(&self, node: &Node, slot: usize) -> Option<Constant> {
        match self.graph.constant(node.inputs.get(slot).copied().flatten())? {
            Tensor::F16(data) => {
                Some(Constant { values: data.iter().copied().collect(), shape: data.shape().to_vec() })
            }
            _ => None,
        }
    }

    fn half_node(&mut self, index: usize, input: ValueId) -> Result<()> {
        let graph = self.graph;
        let node = &graph.nodes[index];
        let (Some(Some(first)), [output]) = (node.inputs.first().copied(), &node.outputs[..]) else {
            return Err(unsupported(node, "the native engine takes nodes of one output"));
        };
        let output = *output;
        let stored = match &node.op {
            Op::Cast { to: DType::F16 } if first == input => self.place_input(node, input, &[output], Draft::half)?,
            // The way out.
            Op::Cast { to: DType::F32 } if graph.outputs.contains(&output) => self.stored(node, 0)?,
            op if moves::keeps_values(op) => moves::lower(self, index)?,
            _ => self.half_layer(node)?,
        };
        self.sources.insert(output, Source::Stored(stored));
        Ok(())
    }

    fn half_layer(&mut self, node: &Node) -> Result<Stored> {
        match &node.op {
            Op::Conv { window, group } => layers::conv(self, node, window, *group),
            Op::Gemm { .. } => layers::dense(self, node),
            Op::MatMul if self.half_constant(node, 1).is_some() => layers::dense(self, node),
            Op::MatMul => layers::product(self, node),
            Op::AveragePool { .. } | Op::GlobalAveragePool | Op::ReduceMean { .. } => layers::average(self, node),
            Op::Concat { axis } => layers::concat(self, node, *axis),
            Op::Softmax { axis } => layers::softmax(self, node, *axis),
            Op::LayerNormalization { axis, epsilon } => layers::layer_norm(self, node, *axis, *epsilon),
            _ => functions::lower(self, node),
        }
    }

    /// The name of what a node makes.
    fn made(&self, node: &Node) -> String {
        self.graph.value(node.outputs[0]).name.clone()
    }

    /// The operator that makes a node's input `slot`, where this node alone reads it: what is merged into it changes nothing for others.
    fn half_maker(&self, node: &Node, slot: usize) -> Option<usize> {
        let id = node.inputs.get(slot).copied().flatten()?;
        let Some(Source::Stored(stored)) = self.sources.get(&id) else { return None };
        let maker = self.draft.ops.iter().position(|op| op.output == stored.tensor)?;
        let own = self.draft.layers[maker].value.as_ref() == Some(&self.graph.value(id).name);
        (own && self.is_read_once(id)).then_some(maker)
    }

    /// What a node makes is what operator `maker` makes, which it was merged into.
    fn half_merged(&mut self, node: &Node, slot: usize, maker: usize) -> Result<Stored> {
        self.draft.layers[maker].value = Some(self.made(node));
        self.stored(node, slot)
    }

    /// A function of one value as an operator of its own, on what `node` makes; merged where the operator before can take it.
    fn half_function(&mut self, node: &Node, slot: usize, function: Function) -> Result<Stored> {
        if let Some(maker) = self.half_maker(node, slot)
            && functions::merge(&mut self.draft.ops[maker], function)
        {
            return self.half_merged(node, slot, maker);
        }
        let input = self.stored(node, slot)?;
        let shape = self.draft.tensors[input.tensor].shape;
        let output = self.draft.half(shape);
        let op = OpParts::new(Code::Unary16, &node.name, &[input.tensor], output).function(function);
        let name = self.made(node);
        self.draft.push(op, &name, &input.order);
        Ok(Stored { tensor: output, ..input })
    }

    fn half_finish(&mut self, output: ValueId, gives: HalfOutput) -> Result<()> {
        let name = self.graph.value(output).name.clone();
        let Some(Source::Stored(stored)) = self.sources.get(&output).cloned() else {
            return Err(invalid(self.graph, format!("nothing that is supported makes its output '{name}'")));
        };
        let rank = stored.dims.len();
        let stored = self.reordered(stored, &row_major(rank), &name)?;
        if stored.tensor == self.draft.input {
            return Err(invalid(self.graph, "its output is its input"));
        }
        self.draft.output = stored.tensor;
        self.draft.end();
        if gives == HalfOutput::F16 {
            return Ok(());
        }
        // A softmax at the end is computed in f32.
        let mut scores = stored.tensor;
        let softmax = self.draft.ops.pop_if(|op| op.code == Code::Softmax16);
        if let Some(op) = &softmax {
            self.draft.layers.pop();
            scores = op.inputs[0];
        }
        let shape = self.draft.tensors[scores].shape;
        let floats = self.draft.float(shape);
        self.draft.push_helper(OpParts::new(Code::Float16, &name, &[scores], floats));
        self.draft.output = floats;
        if let Some(op) = softmax {
            self.draft.output = self.draft.float(shape);
            let op = OpParts::new(Code::SoftmaxFloat, &op.name, &[floats], self.draft.output);
            self.draft.push_helper(OpParts { in_place: true, ..op });
        }
        Ok(())
    }
}
