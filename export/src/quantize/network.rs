//! The float graph as the quantizer walks it: activations folded into the steps that feed them, weights as matrices,
//! and which values get a scale of their own or share one.

use ndarray::Array2;

use super::{Options, Scores};
use crate::graph::{Graph, Node, Op, Tensor, ValueId, op::Window};
use crate::{Error, Result};

/// Bounds that an absorbed activation puts on a step's output; infinite where there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub low: f32,
    pub high: f32,
}

impl Bounds {
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    pub fn clamp(self, v: f32) -> f32 {
        v.max(self.low).min(self.high)
    }
}

/// Weights of a convolution or dense layer.
#[derive(Debug, Clone)]
pub(super) struct Weighted {
    /// [O, K]: one row an output channel; K = inputs of one group × window taps.
    pub matrix: Array2<f32>,
    /// [O].
    pub bias: Vec<f32>,
    /// 1, or the convolution's groups.
    pub groups: usize,
    /// The window of a convolution; `None` for a dense layer.
    pub window: Option<Window>,
    /// Shape of the weights in the model: [O, C/groups, …] or [O, K].
    pub shape: Vec<usize>,
}

/// One node, with what was folded into it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The node; its first output is that of the absorbed activation.
    pub node: Node,
    /// The absorbed activation.
    pub bounds: Bounds,
    /// Weights, for layers that have them.
    pub weighted: Option<Weighted>,
    /// Whether it computes on quantized values (it feeds a weighted layer or the embedding).
    pub quantized: bool,
}

/// The graph as steps in topological order.
#[derive(Debug, Clone)]
pub(super) struct Network {
    /// Values, inputs and outputs; its node list is not used.
    pub graph: Graph,
    pub steps: Vec<Step>,
    /// For every value: whether it is stored quantized.
    pub stored: Vec<bool>,
    /// For every value: whether those readers that are no weighted layers take it as it was before it was stored quantized. Not what
    /// convolutions give: their integer kernels have no other output.
    pub float_beside: Vec<bool>,
    /// For every value: the representative of the values that share its scale.
    pub share: Vec<usize>,
    /// Steps that read each value.
    pub readers: Vec<Vec<usize>>,
    /// The step that makes each value.
    pub maker: Vec<Option<usize>>,
}

impl Network {
    /// Builds the steps; `embedding` is always stored quantized, the other outputs where the options say so.
    pub fn new(graph: &Graph, embedding: ValueId, options: &Options) -> Result<Self> {
        let mut graph = graph.clone();
        dense_classifiers(&mut graph);
        let products_only = is_transformer(&graph);
        biases_into_products(&mut graph);
        let mut steps = absorb_activations(&graph, embedding)?;
        let mut ends = vec![embedding];
        if options.scores == Scores::Quantized {
            ends.extend(&graph.outputs);
        }
        if products_only {
            steps.iter_mut().for_each(|step| step.quantized = step.weighted.is_some());
        } else {
            mark_quantized(&graph, &mut steps, &ends);
        }
        let (readers, maker) = links(&graph, &steps);
        let stored = stored_values(&graph, &steps, &readers, &ends);
        let share = match products_only {
            true => (0..stored.len()).collect(),
            false => shared_scales(&graph, &steps, &stored, options.prescribed_steps),
        };
        let from_convolution = from_convolution(&graph, &steps);
        let float_beside = from_convolution.iter().map(|from| products_only && !from).collect();
        Ok(Self { graph, steps, stored, float_beside, share, readers, maker })
    }

    /// First output of a step.
    pub fn output(&self, step: usize) -> ValueId {
        self.steps[step].node.outputs[0]
    }
}

/// Whether the model has layer norms or attention (products of two computed matrices). Their values span too much for eight bits, so that only what
/// weighted layers read is stored quantized; norms, softmax, GELU and attention's own products stay in float.
pub(super) fn is_transformer(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| match node.op {
        Op::LayerNormalization { .. } => true,
        Op::MatMul => node.inputs.iter().all(|id| graph.constant(*id).is_none()),
        _ => false,
    })
}

/// A matrix product whose only reader adds one constant a column takes it as its third input, as its bias. In every model.
fn biases_into_products(graph: &mut Graph) {
    let consumers = graph.consumers();
    let mut added = vec![false; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let (Op::MatMul, [_, weights]) = (&node.op, &node.inputs[..]) else { continue };
        let Some(&[_, outputs]) = graph.constant(*weights).map(Tensor::shape) else { continue };
        let y = node.outputs[0];
        let [next] = consumers[y.0][..] else { continue };
        if graph.outputs.contains(&y) || graph.nodes[next].op != Op::Add {
            continue;
        }
        let other = graph.nodes[next].inputs.iter().copied().find(|id| *id != Some(y)).flatten();
        let is_bias = |t: &Tensor| t.as_f32().is_some_and(|_| t.len() == outputs && t.shape().last() == Some(&outputs));
        if !graph.constant(other).is_some_and(is_bias) {
            continue;
        }
        graph.nodes[i].inputs.push(other);
        graph.nodes[i].outputs = graph.nodes[next].outputs.clone();
        added[next] = true;
    }
    let mut index = 0..;
    graph.nodes.retain(|_| index.next().is_some_and(|i: usize| !added[i]));
}

/// A 1×1 convolution on a 1×1 map that is only flattened afterwards becomes a dense layer after the flattening: the same numbers, and
/// a kernel that may give float scores.
fn dense_classifiers(graph: &mut Graph) {
    let consumers = graph.consumers();
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let Op::Conv { window, group: 1 } = &node.op else { continue };
        let [Some(x), Some(w), ..] = node.inputs[..] else { continue };
        let is_point = |id: ValueId| {
            graph
                .value(id)
                .shape
                .as_ref()
                .is_some_and(|s| s.len() == 4 && s[2].fixed() == Some(1) && s[3].fixed() == Some(1))
        };
        let y = node.outputs[0];
        let pointwise = window.kernel.iter().all(|&k| k == 1);
        let next = match consumers[y.0][..] {
            [next] if !graph.outputs.contains(&y) => next,
            _ => continue,
        };
        let flattens =
            matches!(graph.nodes[next].op, Op::Flatten { axis: 1 } | Op::Reshape { .. } | Op::Squeeze { .. })
                && graph.value(graph.nodes[next].outputs[0]).shape.as_ref().is_some_and(|s| s.len() == 2);
        if !pointwise || !is_point(x) || !is_point(y) || !flattens {
            continue;
        }
        let Some(Tensor::F32(weights)) = graph.constant(Some(w)).cloned() else { continue };
        let (o, k) = (weights.shape()[0], weights.shape()[1]);
        let Ok(matrix) = weights.into_shape_with_order(ndarray::IxDyn(&[o, k])) else { continue };
        let name = format!("{}_matrix", graph.value(w).name);
        let matrix = graph.add_constant(&name, Tensor::F32(matrix));
        let mut flat = graph.value(x).clone();
        flat.name = format!("{}_flat", flat.name);
        flat.shape = flat.shape.map(|s| s[..2].to_vec());
        let flat = graph.add_value(flat);
        let bias = graph.nodes[i].inputs.get(2).copied().flatten();
        let out = graph.nodes[next].outputs[0];
        let name = graph.nodes[i].name.clone();
        graph.nodes[i] = Node {
            name: format!("{name}_flatten"),
            op: Op::Flatten { axis: 1 },
            inputs: vec![Some(x)],
            outputs: vec![flat],
        };
        graph.nodes[next] = Node {
            name,
            op: Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true },
            inputs: vec![Some(flat), Some(matrix), bias],
            outputs: vec![out],
        };
    }
}

fn absorb_activations(graph: &Graph, embedding: ValueId) -> Result<Vec<Step>> {
    let consumers = graph.consumers();
    let mut steps: Vec<Step> = Vec::new();
    let mut absorbed = vec![false; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        if absorbed[i] {
            continue;
        }
        let mut step =
            Step { weighted: weights(graph, node)?, node: node.clone(), bounds: Bounds::NONE, quantized: false };
        let can_absorb = step.weighted.is_some() || matches!(node.op, Op::Add | Op::LeakyRelu { .. });
        loop {
            let out = step.node.outputs[0];
            if !can_absorb {
                break;
            }
            let [next] = consumers[out.0][..] else { break };
            if graph.outputs.contains(&out) || out == embedding {
                break;
            }
            let bounds = match &graph.nodes[next].op {
                Op::Relu => Bounds { low: 0.0, high: f32::INFINITY },
                Op::Clip { min, max } => Bounds { low: *min, high: *max },
                Op::Max => match scalar_operand(graph, &graph.nodes[next], out) {
                    Some(low) => Bounds { low, high: f32::INFINITY },
                    None => break,
                },
                _ => break,
            };
            step.bounds = Bounds { low: step.bounds.low.max(bounds.low), high: step.bounds.high.min(bounds.high) };
            step.node.outputs[0] = graph.nodes[next].outputs[0];
            absorbed[next] = true;
        }
        steps.push(step);
    }
    Ok(steps)
}

/// The one-element constant that a two-input node combines `with`.
fn scalar_operand(graph: &Graph, node: &Node, with: ValueId) -> Option<f32> {
    let other = node.inputs.iter().flatten().find(|&&id| id != with)?;
    let constant = graph.value(*other).constant.as_ref()?.as_f32()?;
    if constant.len() == 1 && node.inputs.len() == 2 { constant.first().copied() } else { None }
}

fn weights(graph: &Graph, node: &Node) -> Result<Option<Weighted>> {
    let unsupported =
        |why: &str| Error::Unsupported { node: node.name.clone(), op: node.op.name(), why: why.to_owned() };
    let (groups, window, transposed, alpha, beta) = match &node.op {
        Op::Conv { window, group } => (*group, Some(window.clone()), true, 1.0, 1.0),
        Op::Gemm { trans_a: false, trans_b, alpha, beta } => (1, None, *trans_b, *alpha, *beta),
        Op::MatMul if graph.constant(node.inputs.get(1).copied().flatten()).is_some_and(|w| w.shape().len() == 2) => {
            (1, None, false, 1.0, 1.0)
        }
        Op::Gemm { .. } => return Err(unsupported("the quantizer needs transA = 0")),
        _ => return Ok(None),
    };
    let Some(Tensor::F32(w)) = graph.constant(node.inputs.get(1).copied().flatten()) else {
        return Err(unsupported("the quantizer needs constant float32 weights"));
    };
    let mut shape = w.shape().to_vec();
    let rows = shape[0];
    if node.op == Op::MatMul {
        shape.reverse();
    }
    let flat = w.to_shape((rows, w.len() / rows.max(1))).map_err(|e| unsupported(&e.to_string()))?;
    let matrix = if transposed { flat.to_owned() } else { flat.t().to_owned() } * alpha;
    let outputs = matrix.nrows();
    let bias = match graph.constant(node.inputs.get(2).copied().flatten()) {
        Some(Tensor::F32(b)) if b.len() == outputs => b.iter().map(|v| v * beta).collect(),
        Some(Tensor::F32(b)) if b.len() == 1 => vec![b.iter().next().map_or(0.0, |v| v * beta); outputs],
        None if node.inputs.get(2).copied().flatten().is_none() => vec![0.0; outputs],
        _ => return Err(unsupported("the quantizer needs a constant bias with one value per output")),
    };
    let shape = if window.is_some() { shape } else { vec![outputs, matrix.ncols()] };
    let matrix = matrix.as_standard_layout().to_owned();
    Ok(Some(Weighted { matrix, bias, groups, window, shape }))
}

/// A step is quantized when a weighted layer or one of the `ends` depends on it.
fn mark_quantized(graph: &Graph, steps: &mut [Step], ends: &[ValueId]) {
    let mut needed = vec![false; graph.values.len()];
    ends.iter().for_each(|end| needed[end.0] = true);
    for step in steps.iter_mut().rev() {
        step.quantized = step.weighted.is_some() || step.node.outputs.iter().any(|o| needed[o.0]);
        if step.quantized {
            for id in step.node.inputs.iter().flatten() {
                needed[id.0] = true;
            }
        }
    }
}

fn links(graph: &Graph, steps: &[Step]) -> (Vec<Vec<usize>>, Vec<Option<usize>>) {
    let mut readers = vec![Vec::new(); graph.values.len()];
    let mut maker = vec![None; graph.values.len()];
    for (i, step) in steps.iter().enumerate() {
        for id in step.node.inputs.iter().flatten() {
            if readers[id.0].last() != Some(&i) {
                readers[id.0].push(i);
            }
        }
        for o in &step.node.outputs {
            maker[o.0] = Some(i);
        }
    }
    (readers, maker)
}

/// For every value: whether a convolution makes it.
fn from_convolution(graph: &Graph, steps: &[Step]) -> Vec<bool> {
    let mut from = vec![false; graph.values.len()];
    for step in steps.iter().filter(|s| s.weighted.as_ref().is_some_and(|w| w.window.is_some())) {
        from[step.node.outputs[0].0] = true;
    }
    from
}

/// Float values that quantized steps read, what convolutions give (integer kernels need a quantized output; only dense layers have
/// one with a float output), and the `ends`.
fn stored_values(graph: &Graph, steps: &[Step], readers: &[Vec<usize>], ends: &[ValueId]) -> Vec<bool> {
    let is_float = |v: usize| {
        !matches!(
            graph.values[v].dtype,
            Some(crate::graph::DType::I64 | crate::graph::DType::I32 | crate::graph::DType::Bool)
        )
    };
    let from_convolution = from_convolution(graph, steps);
    (0..graph.values.len())
        .map(|v| {
            let read = readers[v].iter().any(|&r| {
                let step = &steps[r];
                // Weights and biases have scales of their own; shapes and amounts are no data.
                let is_data = step.node.inputs.iter().enumerate().any(|(slot, id)| {
                    *id == Some(ValueId(v)) && (slot == 0 || (step.weighted.is_none() && takes_many(&step.node.op)))
                });
                step.quantized && is_data
            });
            (read || from_convolution[v] || ends.contains(&ValueId(v))) && is_float(v)
        })
        .collect()
}

/// Operators all of whose inputs are data.
fn takes_many(op: &Op) -> bool {
    matches!(
        op,
        Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Div
            | Op::Max
            | Op::Min
            | Op::Concat { .. }
            | Op::MatMul
            | Op::Gemm { .. }
            | Op::PRelu
    )
}

/// Operators that only move values: what comes out is on the grid of what went in.
pub(super) fn keeps_values(op: &Op) -> bool {
    match op {
        Op::MaxPool { .. }
        | Op::GlobalMaxPool
        | Op::Flatten { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Squeeze { .. }
        | Op::Unsqueeze { .. }
        | Op::Slice
        | Op::Split { .. }
        | Op::Identity => true,
        Op::Resize(r) => r.mode == "nearest",
        Op::Pad { value, .. } => *value == 0.0,
        _ => false,
    }
}

fn shared_scales(graph: &Graph, steps: &[Step], stored: &[bool], with_pools: bool) -> Vec<usize> {
    let mut share: Vec<usize> = (0..graph.values.len()).collect();
    for step in steps {
        // Over everything it is TFLite's MEAN, whose scales are free.
        let is_pool = matches!(step.node.op, Op::AveragePool { .. });
        let shares = keeps_values(&step.node.op)
            || matches!(step.node.op, Op::Concat { .. } | Op::LeakyRelu { .. })
            || (with_pools && is_pool);
        let Some(Some(first)) = step.node.inputs.first() else { continue };
        if !shares || !stored[first.0] {
            continue;
        }
        let mut members = step.node.outputs.clone();
        if matches!(step.node.op, Op::Concat { .. }) {
            members.extend(step.node.inputs.iter().flatten());
        }
        for member in members {
            if stored[member.0] {
                let (a, b) = (root(&share, first.0), root(&share, member.0));
                share[b] = a;
            }
        }
    }
    (0..share.len()).map(|v| root(&share, v)).collect()
}

/// The representative of a union-find class.
pub(super) fn root(parents: &[usize], mut v: usize) -> usize {
    while parents[v] != v {
        v = parents[v];
    }
    v
}
