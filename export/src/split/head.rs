//! The last dense layer, and the head as one linear map.

use ndarray::{Array2, ArrayD, IxDyn};

use super::Cut;
use crate::graph::{DType, Dim, Graph, Node, Op, Tensor, Value, ValueId, op::Padding, op::Window};
use crate::{Result, graph::infer};

/// What follows the linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Activation {
    None,
    Softmax,
    Sigmoid,
}

/// What the outputs mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// One of the classes.
    Classification,
    /// Any number of the classes (sigmoid).
    MultiLabel,
    /// Values: no activation, and as many outputs as the model has inputs (a reconstruction).
    Regression,
}

/// activation(weights · embedding + bias)
#[derive(Debug, Clone, PartialEq)]
pub struct LinearHead {
    /// `[classes, width]`
    pub weights: Array2<f32>,
    /// `[classes]`
    pub bias: Vec<f32>,
    /// What follows.
    pub activation: Activation,
    /// What the outputs mean.
    pub kind: HeadKind,
}

/// Whether the graph has one output, a matrix: then a linear head is one Gemm and its activation.
pub(super) fn is_plain(graph: &Graph) -> bool {
    matches!(graph.outputs[..], [id] if graph.value(id).shape.as_ref().is_some_and(|s| s.len() == 2))
}

impl LinearHead {
    /// The head as a graph, from the backbone's embedding to the model's output.
    pub(super) fn to_graph(&self, model: &Graph, backbone: &Graph) -> Result<Graph> {
        let mut out = Graph {
            name: format!("{}_head", model.name),
            opset: model.opset,
            producer: model.producer.clone(),
            ..Graph::default()
        };
        let embedding = backbone.outputs.first().map(|id| backbone.value(*id).clone()).unwrap_or_default();
        let x = out.add_value(embedding);
        let output = model.outputs.first().map_or_else(|| "output".to_owned(), |id| model.value(*id).name.clone());
        let value = |name: &str| Value { name: name.to_owned(), dtype: Some(DType::F32), ..Value::default() };
        let y = out.add_value(value(&output));
        let w = out.add_constant("head.weight", Tensor::F32(self.weights.clone().into_dyn()));
        let bias = ArrayD::from_shape_fn(IxDyn(&[self.bias.len()]), |i| self.bias[i[0]]);
        let b = out.add_constant("head.bias", Tensor::F32(bias));
        let activation = match self.activation {
            Activation::None => None,
            Activation::Softmax => Some(Op::Softmax { axis: 1 }),
            Activation::Sigmoid => Some(Op::Sigmoid),
        };
        let logits = if activation.is_some() { out.add_value(value("logits")) } else { y };
        out.nodes.push(Node {
            name: "head".to_owned(),
            op: Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true },
            inputs: vec![Some(x), Some(w), Some(b)],
            outputs: vec![logits],
        });
        if let Some(op) = activation {
            out.nodes.push(Node {
                name: "head_activation".to_owned(),
                op,
                inputs: vec![Some(logits)],
                outputs: vec![y],
            });
        }
        (out.inputs, out.outputs) = (vec![x], vec![y]);
        infer::infer(&mut out)?;
        Ok(out)
    }
}

/// Name and data input of the last layer with a constant matrix, seen from the output through operators without weights.
pub(super) fn last_dense_layer(graph: &Graph) -> std::result::Result<(String, ValueId), String> {
    let [output] = graph.outputs[..] else {
        return Err(format!("it has {} outputs", graph.outputs.len()));
    };
    let is_vector = graph.value(output).shape.as_ref().is_some_and(|s| {
        s.iter().skip(1).all(|d| d.fixed().is_some()) && s.iter().skip(1).filter(|d| **d != Dim::Fixed(1)).count() <= 1
    });
    if !is_vector {
        let shape = graph.value(output).shape.as_deref().map_or_else(|| "unknown".to_owned(), crate::graph::show_shape);
        return Err(format!("its output '{}' has shape {shape}, not one row of scores", graph.value(output).name));
    }
    let makers = graph.producers();
    let mut at = output;
    loop {
        let name = &graph.value(at).name;
        let Some(node) = makers[at.0].map(|i| &graph.nodes[i]) else {
            return Err(format!("only operators without weights lie between its input '{name}' and its output"));
        };
        let dynamic: Vec<ValueId> =
            node.inputs.iter().flatten().copied().filter(|id| graph.value(*id).constant.is_none()).collect();
        let constant_weights = graph.constant(node.inputs.get(1).copied().flatten()).is_some();
        let passes = match &node.op {
            Op::Gemm { .. } | Op::MatMul if constant_weights && dynamic.len() == 1 => {
                return Ok((node.name.clone(), dynamic[0]));
            }
            Op::Conv { window, group: 1 } if is_pointwise(window) && constant_weights => {
                return Ok((node.name.clone(), dynamic[0]));
            }
            Op::Relu
            | Op::LeakyRelu { .. }
            | Op::Clip { .. }
            | Op::Sigmoid
            | Op::HardSigmoid { .. }
            | Op::Tanh
            | Op::Softmax { .. }
            | Op::Log
            | Op::Reshape { .. }
            | Op::Flatten { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Transpose { .. }
            | Op::Identity
            | Op::AveragePool { .. }
            | Op::GlobalAveragePool
            | Op::GlobalMaxPool
            | Op::ReduceMean { .. } => true,
            Op::Add | Op::Sub | Op::Mul | Op::Div => dynamic.len() == 1,
            _ => false,
        };
        match (passes, &dynamic[..]) {
            (true, [next]) => at = *next,
            _ => {
                return Err(format!(
                    "looking back from the output for a Gemm, MatMul or 1x1 Conv with constant weights, '{}' ({}) was met",
                    node.name,
                    node.op.name()
                ));
            }
        }
    }
}

/// A convolution that is a matrix product at every position.
fn is_pointwise(window: &Window) -> bool {
    let ones = |v: &[usize]| v.iter().all(|&n| n == 1);
    let unpadded = match &window.padding {
        Padding::Explicit(p) => p.iter().all(|&n| n == 0),
        Padding::SameUpper | Padding::SameLower => true,
    };
    ones(&window.kernel) && ones(&window.strides) && unpadded
}

/// Everything after the cut as one linear layer and an activation, or why it is not.
pub(super) fn linear(graph: &Graph, cut: &Cut) -> std::result::Result<LinearHead, String> {
    let [output] = graph.outputs[..] else {
        return Err(format!("the model has {} outputs", graph.outputs.len()));
    };
    if cut.is_output {
        return Err("the cut is the model's output: nothing follows".to_owned());
    }
    let consumers = graph.consumers();
    let mut at = cut.value;
    let mut pooling_due = cut.pooled;
    let mut layer: Option<(Array2<f32>, Vec<f32>)> = None;
    let mut activation = Activation::None;
    while at != output {
        let [reader] = consumers[at.0][..] else {
            return Err(format!("'{}' is read by several nodes", graph.value(at).name));
        };
        let node = &graph.nodes[reader];
        let refuse = |why: &str| Err(format!("'{}' ({}) {why}", node.name, node.op.name()));
        let [next] = node.outputs[..] else { return refuse("has several outputs") };
        if activation != Activation::None
            && !matches!(node.op, Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze { .. })
        {
            return refuse("follows the activation");
        }
        match &node.op {
            Op::Identity => {}
            Op::GlobalAveragePool => pooling_due = false,
            Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
                if pooling_due {
                    return refuse("reads positions that the embedding averages");
                }
                // A batch that is still axis 0 means that rows stay rows.
                if graph.value(next).shape.as_ref().and_then(|s| s.first()) != cut.shape.first() {
                    return refuse("mixes rows");
                }
            }
            Op::Gemm { .. } if pooling_due => return refuse("reads positions that the embedding averages"),
            Op::Gemm { .. } | Op::Conv { .. } if layer.is_some() => return refuse("is a second layer"),
            Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true } => {
                layer = Some(weights(graph, node, cut)?)
            }
            Op::Conv { window, group: 1 } if is_pointwise(window) => layer = Some(weights(graph, node, cut)?),
            Op::Softmax { axis } if layer.is_some() && !pooling_due => {
                let rank = graph.value(at).shape.as_ref().map_or(0, Vec::len) as i64;
                if *axis != 1 && *axis + rank != 1 {
                    return refuse("is not over the classes");
                }
                activation = Activation::Softmax;
            }
            Op::Sigmoid if layer.is_some() && !pooling_due => activation = Activation::Sigmoid,
            _ => return refuse("is no part of one linear layer with softmax or sigmoid"),
        }
        at = next;
    }
    let Some((weights, bias)) = layer else { return Err("no dense layer follows".to_owned()) };
    if pooling_due {
        return Err("the embedding is averaged over positions, the model is not".to_owned());
    }
    let inputs: usize = graph
        .inputs
        .iter()
        .filter_map(|id| graph.value(*id).shape.as_ref())
        .map(|s| s.iter().skip(1).filter_map(Dim::fixed).product::<usize>())
        .sum();
    let kind = match activation {
        Activation::Softmax => HeadKind::Classification,
        Activation::Sigmoid => HeadKind::MultiLabel,
        Activation::None if bias.len() == inputs => HeadKind::Regression,
        Activation::None => HeadKind::Classification,
    };
    Ok(LinearHead { weights, bias, activation, kind })
}

/// Weights [classes, width] and bias of a dense layer.
fn weights(graph: &Graph, node: &Node, cut: &Cut) -> std::result::Result<(Array2<f32>, Vec<f32>), String> {
    let input = |k: usize| graph.constant(node.inputs.get(k).copied().flatten());
    let fault = || format!("the weights of '{}' are no constant [classes, {}] matrix", node.name, cut.width);
    let w = input(1).and_then(Tensor::as_f32).ok_or_else(fault)?;
    let classes = *w.shape().first().ok_or_else(fault)?;
    let data: Vec<f32> = w.iter().copied().collect();
    let weights = Array2::from_shape_vec((classes, cut.width), data).map_err(|_| fault())?;
    let bias = match node.inputs.get(2).copied().flatten() {
        None => vec![0.0; classes],
        Some(_) => input(2).and_then(Tensor::as_f32).ok_or_else(fault)?.iter().copied().collect(),
    };
    if bias.len() == classes { Ok((weights, bias)) } else { Err(fault()) }
}
