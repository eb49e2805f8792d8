//! What a node costs: multiply-accumulates, bytes of parameters, bytes of activations. All figures are for one row of data:
//! symbolic sizes count as one.
//!
//! Shapes must have been inferred ([`super::infer`]); what has no shape counts as zero.

use std::collections::HashSet;
use std::ops::{Add, AddAssign};

use super::{Dim, Graph, Node, Op, Tensor, ValueId};

/// Costs of a node or of a graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and matrix products.
    pub macs: u64,
    /// Bytes of constants, as they are stored now.
    pub parameter_bytes: u64,
    /// Bytes of the outputs, in their element type.
    pub activation_bytes: u64,
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            macs: self.macs.saturating_add(other.macs),
            parameter_bytes: self.parameter_bytes.saturating_add(other.parameter_bytes),
            activation_bytes: self.activation_bytes.saturating_add(other.activation_bytes),
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Cost of every node, in the order of [`Graph::nodes`]; a constant that several nodes read counts for the first.
#[must_use]
pub fn nodes(graph: &Graph) -> Vec<Cost> {
    let mut counted = HashSet::new();
    graph.nodes.iter().map(|node| node_cost(graph, node, &mut counted)).collect()
}

/// Cost of the whole graph.
#[must_use]
pub fn total(graph: &Graph) -> Cost {
    nodes(graph).into_iter().fold(Cost::default(), Add::add)
}

fn node_cost(graph: &Graph, node: &Node, counted: &mut HashSet<ValueId>) -> Cost {
    let mut cost = Cost { macs: macs(graph, node), ..Cost::default() };
    for id in node.inputs.iter().flatten() {
        if let Some(tensor) = &graph.value(*id).constant
            && counted.insert(*id)
        {
            cost.parameter_bytes += bytes(tensor);
        }
    }
    for id in &node.outputs {
        let width = graph.value(*id).dtype.map_or(4, |d| d.size_bytes() as u64);
        cost.activation_bytes = cost.activation_bytes.saturating_add(elements(graph, *id).saturating_mul(width));
    }
    cost
}

fn bytes(tensor: &Tensor) -> u64 {
    (tensor.len() as u64).saturating_mul(tensor.dtype().size_bytes() as u64)
}

/// Elements of one row; zero when the shape is not known.
fn elements(graph: &Graph, id: ValueId) -> u64 {
    let product = |shape: &Vec<Dim>| shape.iter().filter_map(Dim::fixed).fold(1u64, |a, n| a.saturating_mul(n as u64));
    graph.value(id).shape.as_ref().map_or(0, product)
}

fn macs(graph: &Graph, node: &Node) -> u64 {
    let input = |k: usize| node.inputs.get(k).copied().flatten();
    let size = |id: Option<ValueId>, axis: usize| -> u64 {
        let shape = id.and_then(|id| graph.value(id).shape.as_ref());
        shape.and_then(|s| s.get(axis)).map_or(0, |d| d.fixed().unwrap_or(1) as u64)
    };
    let rank = |id: Option<ValueId>| id.and_then(|id| graph.value(id).shape.as_ref()).map_or(0, Vec::len);
    let outputs: u64 = node.outputs.first().map_or(0, |id| elements(graph, *id));
    let depth = match &node.op {
        // Elements of one filter: everything of the weights but the output channels.
        Op::Conv { .. } => input(1).map_or(0, |w| elements(graph, w)) / size(input(1), 0).max(1),
        Op::Gemm { trans_a, .. } => size(input(0), usize::from(!trans_a)),
        Op::MatMul => size(input(0), rank(input(0)).saturating_sub(1)),
        _ => 0,
    };
    outputs.saturating_mul(depth)
}
