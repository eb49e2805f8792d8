//! Constant folding, operators that do nothing, nodes that nobody reads.
//!
//! Folding is bounded (`Budget`): a small file cannot make it produce large constants or compute for long.

use std::borrow::Cow;

use super::{
    DType, Dim, Graph, Node, Op, Tensor, ValueId, cost, eval,
    infer::{self, Item},
};
use crate::Result;

/// No folded constant is larger.
const MAX_BYTES: usize = 64 << 20;
/// A folded constant may be this many times as large as what it is computed from…
const MAX_GROWTH: usize = 4;
/// …or have this size in any case.
const FREE_BYTES: usize = 1 << 20;
/// All new constants of a graph together, beyond a multiple of those it came with.
const FREE_TOTAL_BYTES: usize = 32 << 20;
/// What computing them may cost, in [`cost::Cost::operations`], beyond a multiple of the numbers it came with.
const FREE_OPERATIONS: u64 = 1 << 28;
/// Operations for each number that the graph came with: a few passes over every weight.
const OPERATIONS_PER_NUMBER: u64 = 128;

/// What simplification may still spend on constants, over all its rounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    bytes: usize,
    operations: u64,
}

impl Budget {
    /// For a graph as it was read.
    pub fn of(graph: &Graph) -> Self {
        let constants = || graph.values.iter().filter_map(|v| v.constant.as_ref());
        let bytes = constants().map(bytes).fold(0, usize::saturating_add);
        let numbers = constants().map(|t| t.len() as u64).fold(0, u64::saturating_add);
        Self {
            bytes: FREE_TOTAL_BYTES.saturating_add(bytes.saturating_mul(MAX_GROWTH)),
            operations: FREE_OPERATIONS.saturating_add(numbers.saturating_mul(OPERATIONS_PER_NUMBER)),
        }
    }

    /// Whether there is enough left; it is spent then.
    pub fn spend(&mut self, bytes: usize, operations: u64) -> bool {
        match (self.bytes.checked_sub(bytes), self.operations.checked_sub(operations)) {
            (Some(bytes), Some(operations)) => {
                *self = Self { bytes, operations };
                true
            }
            _ => false,
        }
    }
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.len().saturating_mul(tensor.dtype().size_bytes())
}

/// What [`fold`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// Nodes replaced by their constant result.
    pub constants: usize,
    /// Nodes that gave their input unchanged.
    pub identities: usize,
    /// Nodes whose outputs nobody read.
    pub dead: usize,
}

/// Folds constants, resolves Reshape targets that depend on the batch, removes identities and dead nodes.
///
/// # Errors
/// [`crate::Error::InvalidModel`] when shapes contradict each other or a tensor is absurdly large.
pub fn fold(graph: &mut Graph) -> Result<Folded> {
    let mut budget = Budget::of(graph);
    fold_within(graph, &mut budget)
}

/// As [`fold`], spending from what the rounds before left.
pub(super) fn fold_within(graph: &mut Graph, budget: &mut Budget) -> Result<Folded> {
    let facts = infer::analyze(graph)?;
    resolve_reshapes(graph, &facts);
    let constants = fold_constants(graph, budget);
    let identities = remove_identities(graph);
    let dead = remove_dead(graph);
    Ok(Folded { constants, identities, dead })
}

/// Gives every Reshape a constant target: sizes that are one symbol become `-1`, or `0` where the axis is copied.
fn resolve_reshapes(graph: &mut Graph, facts: &[infer::Fact]) {
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let (Op::Reshape { allow_zero }, [Some(data), Some(target)]) = (&node.op, &node.inputs[..]) else { continue };
        if graph.value(*target).constant.is_some() {
            continue;
        }
        let (Some(items), Some(shape)) = (&facts[target.0].items, &facts[data.0].shape) else { continue };
        if *allow_zero && items.contains(&Item::Int(0)) {
            continue;
        }
        let mut open = items.contains(&Item::Int(-1));
        let mut resolved = Vec::with_capacity(items.len());
        for (axis, item) in items.iter().enumerate() {
            resolved.push(match item {
                Item::Int(n) => Some(*n),
                Item::Symbol(s) if shape.get(axis) == Some(&Dim::Symbol(s.clone())) => Some(0),
                Item::Symbol(_) if !open => {
                    open = true;
                    Some(-1)
                }
                Item::Symbol(_) => None,
            });
        }
        if let Some(target) = resolved.into_iter().collect::<Option<Vec<i64>>>() {
            let name = format!("{}_shape", graph.nodes[i].name);
            let id = graph.add_constant(&name, Tensor::from_i64(target));
            graph.nodes[i].op = Op::Reshape { allow_zero: false };
            graph.nodes[i].inputs[1] = Some(id);
        }
    }
}

fn fold_constants(graph: &mut Graph, budget: &mut Budget) -> usize {
    let mut folded = 0;
    let mut is_output = vec![false; graph.values.len()];
    for id in &graph.outputs {
        is_output[id.0] = true;
    }
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        // A graph output stays a node's output, so that the model keeps its interface.
        if node.outputs.iter().any(|id| is_output[id.0]) {
            continue;
        }
        let Some(outputs) = constant_result(graph, node, budget) else { continue };
        let ids = graph.nodes[i].outputs.clone();
        for (id, tensor) in ids.into_iter().zip(outputs) {
            let value = graph.value_mut(id);
            value.dtype = Some(tensor.dtype());
            value.shape = Some(tensor.shape().iter().map(|&n| Dim::Fixed(n)).collect());
            value.constant = Some(tensor);
        }
        graph.nodes[i].outputs.clear();
        folded += 1;
    }
    graph.nodes.retain(|node| !node.outputs.is_empty());
    folded
}

/// The outputs of a node whose inputs are all constants, within the budget.
fn constant_result(graph: &Graph, node: &Node, budget: &mut Budget) -> Option<Vec<Tensor>> {
    // Quantized weights stay what they are: the pair of operators is how they are written.
    if matches!(node.op, Op::QuantizeLinear { .. } | Op::DequantizeLinear { .. }) || eval::check(node).is_err() {
        return None;
    }
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for id in &node.inputs {
        match (id, graph.constant(*id)) {
            (None, _) => inputs.push(None),
            (Some(_), Some(tensor)) => inputs.push(Some(tensor)),
            // Shape needs no data, only sizes.
            (Some(_), None) => return fixed_shape_of(graph, node),
        }
    }
    let input_bytes: usize = inputs.iter().flatten().map(|t| bytes(t)).sum();
    let output_bytes = output_bytes(graph, node)?;
    let allowed = FREE_BYTES.max(input_bytes.saturating_mul(MAX_GROWTH)).min(MAX_BYTES);
    if output_bytes > allowed || !budget.spend(output_bytes, cost::operations(graph, node)) {
        return None;
    }
    // What cannot be evaluated stays a node; who runs the graph gets the error with its name.
    eval::node(node, graph, &inputs).ok()
}

fn fixed_shape_of(graph: &Graph, node: &Node) -> Option<Vec<Tensor>> {
    let Op::Shape { start, end } = node.op else { return None };
    let shape = graph.value((*node.inputs.first()?)?).shape.as_ref()?;
    let range = eval::shape_range(shape.len(), start, end);
    let sizes: Option<Vec<i64>> = shape[range].iter().map(|d| d.fixed().map(|n| n as i64)).collect();
    Some(vec![Tensor::from_i64(sizes?)])
}

fn output_bytes(graph: &Graph, node: &Node) -> Option<usize> {
    let mut total = 0usize;
    for id in &node.outputs {
        let value = graph.value(*id);
        let len = value.shape.as_ref()?.iter().map(Dim::fixed).try_fold(1usize, |a, n| a.checked_mul(n?))?;
        total = total.checked_add(len.checked_mul(value.dtype.unwrap_or(DType::F64).size_bytes())?)?;
    }
    Some(total)
}

/// Whether the node gives its first input unchanged, by shapes and constants that are known.
fn is_identity(graph: &Graph, node: &Node) -> bool {
    let shape = |id: ValueId| graph.value(id).shape.as_deref();
    let (Some(Some(x)), [y]) = (node.inputs.first(), &node.outputs[..]) else { return false };
    let unchanged = || shape(*x).is_some() && shape(*x) == shape(*y);
    let all = |id: usize, n: f32| match graph.constant(node.inputs.get(id).copied().flatten()) {
        Some(Tensor::F32(a)) => a.iter().all(|&v| v == n),
        _ => false,
    };
    match &node.op {
        Op::Identity => true,
        Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Expand => unchanged(),
        Op::Transpose { perm } => !perm.is_empty() && perm.iter().enumerate().all(|(i, &p)| i == p),
        Op::Pad { amounts, .. } | Op::PadMode { amounts, .. } => amounts.iter().all(|&n| n == 0),
        Op::Cast { to } => graph.value(*x).dtype == Some(*to),
        Op::Concat { .. } | Op::Max | Op::Min => node.inputs.len() == 1,
        Op::Clip { min, max } => *min == f32::NEG_INFINITY && *max == f32::INFINITY,
        Op::Mul | Op::Div => all(1, 1.0) && unchanged(),
        Op::Add | Op::Sub => all(1, 0.0) && unchanged(),
        _ => false,
    }
}

/// Removes nodes that change nothing; names of graph inputs and outputs stay.
pub(super) fn remove_identities(graph: &mut Graph) -> usize {
    let mut made: Vec<bool> = vec![false; graph.values.len()];
    for id in graph.nodes.iter().flat_map(|n| &n.outputs) {
        made[id.0] = true;
    }
    let mut is_output: Vec<bool> = vec![false; graph.values.len()];
    for id in &graph.outputs {
        is_output[id.0] = true;
    }
    // What to read instead of a value.
    let mut instead: Vec<ValueId> = (0..graph.values.len()).map(ValueId).collect();
    let mut removed = 0;
    for i in 0..graph.nodes.len() {
        for id in graph.nodes[i].inputs.iter_mut().flatten() {
            *id = instead[id.0];
        }
        if !is_identity(graph, &graph.nodes[i]) {
            continue;
        }
        let (Some(x), y) = (graph.nodes[i].inputs[0], graph.nodes[i].outputs[0]) else { continue };
        if !is_output[y.0] {
            instead[y.0] = x;
        } else if made[x.0] && !is_output[x.0] {
            // The output keeps its name: its maker now writes it, and earlier readers of `x` read it.
            for node in &mut graph.nodes[..i] {
                for id in node.outputs.iter_mut().chain(node.inputs.iter_mut().flatten()) {
                    if *id == x {
                        *id = y;
                    }
                }
            }
            instead[x.0] = y;
            for id in &mut instead {
                if *id == x {
                    *id = y;
                }
            }
        } else {
            continue;
        }
        graph.nodes[i].outputs.clear();
        removed += 1;
    }
    graph.nodes.retain(|node| !node.outputs.is_empty());
    removed
}

/// Removes nodes whose outputs nobody reads, and the data of constants that nobody reads.
pub(crate) fn remove_dead(graph: &mut Graph) -> usize {
    let mut live = vec![false; graph.values.len()];
    for id in graph.outputs.iter().chain(&graph.inputs) {
        live[id.0] = true;
    }
    // Inputs come from outside, whoever made them before the graph was cut.
    let mut given = vec![false; graph.values.len()];
    for id in &graph.inputs {
        given[id.0] = true;
    }
    let before = graph.nodes.len();
    let mut keep = vec![false; before];
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|id| live[id.0] && !given[id.0]) {
            keep[i] = true;
            for id in node.inputs.iter().flatten() {
                live[id.0] = true;
            }
        }
    }
    let mut keep = keep.into_iter();
    graph.nodes.retain(|_| keep.next().unwrap_or(true));
    for (value, live) in graph.values.iter_mut().zip(live) {
        if !live {
            value.constant = None;
        }
    }
    before - graph.nodes.len()
}

/// A constant's numbers as f32, row-major; `None` when it is no f32 tensor.
pub(super) fn floats(tensor: &Tensor) -> Option<Cow<'_, [f32]>> {
    let a = tensor.as_f32()?;
    Some(match a.as_slice() {
        Some(data) => Cow::Borrowed(data),
        None => Cow::Owned(a.iter().copied().collect()),
    })
}
