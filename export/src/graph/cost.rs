//! What a node costs: multiply-accumulates, bytes of parameters, bytes of activations. All figures are for one row of data:
//! symbolic sizes count as one.
//!
//! Shapes must have been inferred ([`super::infer`]); what has no shape counts as zero. [`Limit`] refuses what would cost too much,
//! however small the file that asks for it.

use std::collections::HashSet;
use std::ops::{Add, AddAssign};

use super::{Dim, Graph, Node, Op, Tensor, ValueId, eval, infer};
use crate::{Error, Result};

/// What one element read or written counts, in operations: moving it takes about as long as so many multiply-accumulates.
const ELEMENT: u64 = 8;

/// Costs of a node or of a graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and matrix products.
    pub macs: u64,
    /// The work of evaluating: a multiply-accumulate counts 1, an element read or written 8, one compared or summed in a window 1.
    pub operations: u64,
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
            operations: self.operations.saturating_add(other.operations),
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

/// What evaluating one row may cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// [`Cost::operations`] of the whole graph.
    pub operations: u64,
    /// [`Cost::activation_bytes`] of the whole graph.
    pub activation_bytes: u64,
}

impl Default for Limit {
    /// 8 G operations (a ResNet-50 has 4.1 G multiply-accumulates, a MobileNetV2 0.3 G) and 1 GiB of activations.
    fn default() -> Self {
        Self { operations: 8_000_000_000, activation_bytes: 1 << 30 }
    }
}

impl Limit {
    /// No limit may be set higher, and bundles are held to this one: 100 G operations and 8 GiB of activations.
    pub const MOST: Self = Self { operations: 100_000_000_000, activation_bytes: 8 << 30 };

    /// With another number of operations, in units of 10⁹; the activations grow along.
    ///
    /// # Errors
    /// [`Error::Setting`] beyond 0..=100.
    pub fn of_giga(operations: f64) -> Result<Self> {
        let share = operations * 1e9 / Self::MOST.operations as f64;
        if !(0.0..=1.0).contains(&share) {
            let why = format!("{operations} is outside 0..=100");
            return Err(Error::Setting { name: "--max-gmacs".into(), why });
        }
        let default = Self::default();
        let grown = (Self::MOST.activation_bytes as f64 * share) as u64;
        Ok(Self { operations: (operations * 1e9) as u64, activation_bytes: grown.max(default.activation_bytes) })
    }

    /// The cost of one row, where it is known and within the limit.
    ///
    /// # Errors
    /// [`Error::TooCostly`] naming the node that costs most, [`Error::Unsupported`] where an operator is not known or a size depends
    /// on the data, and what [`infer::with_batch`] meets.
    pub fn check(self, graph: &Graph) -> Result<Cost> {
        let mut one = graph.clone();
        infer::with_batch(&mut one, 1)?;
        for node in &one.nodes {
            eval::check(node).map_err(|fault| fault.at(&one, node))?;
            let is_known =
                |id: &ValueId| one.value(*id).shape.as_ref().is_some_and(|s| s.iter().all(|d| d.fixed().is_some()));
            if let Some(id) = node.outputs.iter().find(|id| !is_known(id)) {
                let why =
                    format!("the size of '{}' depends on the data, so its cost has no bound", one.value(*id).name);
                return Err(Error::Unsupported { node: node.name.clone(), op: node.op.name(), why });
            }
        }
        let costs = nodes(&one);
        let total = costs.iter().copied().fold(Cost::default(), Add::add);
        self.within(&one, &costs, |c| c.operations, self.operations, "operations (multiply-accumulates and the like)")?;
        self.within(&one, &costs, |c| c.activation_bytes, self.activation_bytes, "bytes of activations")?;
        Ok(total)
    }

    fn within(self, graph: &Graph, costs: &[Cost], of: fn(&Cost) -> u64, limit: u64, unit: &'static str) -> Result<()> {
        let needs = costs.iter().map(of).fold(0, u64::saturating_add);
        let largest = costs.iter().enumerate().max_by_key(|(i, c)| (of(c), std::cmp::Reverse(*i)));
        match largest {
            Some((i, _)) if needs > limit => {
                let node = &graph.nodes[i];
                Err(Error::TooCostly { node: node.name.clone(), op: node.op.name(), needs, limit, unit })
            }
            _ => Ok(()),
        }
    }
}

fn node_cost(graph: &Graph, node: &Node, counted: &mut HashSet<ValueId>) -> Cost {
    let macs = macs(graph, node);
    let operations = macs.saturating_add(moves(graph, node));
    let mut cost = Cost { macs, operations, ..Cost::default() };
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

/// Elements that are read and written, in operations, and what windows do with them.
fn moves(graph: &Graph, node: &Node) -> u64 {
    let read = node.inputs.iter().flatten().map(|id| elements(graph, *id)).fold(0, u64::saturating_add);
    let written = node.outputs.iter().map(|id| elements(graph, *id)).fold(0, u64::saturating_add);
    let taps = match &node.op {
        Op::MaxPool { window, .. } | Op::AveragePool { window, .. } => {
            window.kernel.iter().fold(1u64, |a, &k| a.saturating_mul(k as u64))
        }
        _ => 0,
    };
    read.saturating_add(written).saturating_mul(ELEMENT).saturating_add(written.saturating_mul(taps))
}

/// The operations of one node whose shapes are known.
pub(super) fn operations(graph: &Graph, node: &Node) -> u64 {
    macs(graph, node).saturating_add(moves(graph, node))
}

/// The operations of a pass over that many numbers, read and written.
pub(super) fn per_number(numbers: u64) -> u64 {
    numbers.saturating_mul(2 * ELEMENT)
}
