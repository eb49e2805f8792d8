//! fp16: weights and activations in half precision, the model's inputs and outputs kept f32.
//!
//! A cast follows every input and precedes every output; everything between computes in f16. Nodes stay in topological order.
//! Values beyond ±65 504 cannot be represented: such a weight is refused by name rather than turned into infinity.

use half::f16;

use crate::graph::{DType, Graph, Node, Op, Tensor, Value, ValueId};
use crate::{Error, Result};

/// Inputs of `Resize` that ONNX defines as f32 whatever the data is: roi and scales.
const RESIZE_F32_INPUTS: [usize; 2] = [1, 2];

/// The same model in half precision.
///
/// # Errors
/// [`Error::Unsupported`] for a weight beyond f16's range, and for nodes whose result type is f32 by definition.
pub fn convert(graph: &Graph) -> Result<Graph> {
    let mut out = graph.clone();
    products_and_sums(&mut out);
    let graph = &out.clone();
    let keep_f32 = values_that_stay_f32(graph);
    let far_below = stand_for_minus_infinity(graph);
    for (i, value) in out.values.iter_mut().enumerate() {
        if keep_f32[i] {
            continue;
        }
        if let Some(Tensor::F32(data)) = &mut value.constant {
            if far_below[i] {
                data.mapv_inplace(|v| v.max(f16::MIN.to_f32()));
            }
            if let Some(too_large) = data.iter().find(|v| v.abs() > f16::MAX.to_f32() || v.is_nan()) {
                return Err(Error::Unsupported {
                    node: value.name.clone(),
                    op: "initializer".into(),
                    why: format!("{too_large} is outside fp16's range of ±65504"),
                });
            }
            value.constant = Some(Tensor::F16(data.mapv(f16::from_f32)));
        }
        if value.dtype == Some(DType::F32) {
            value.dtype = Some(DType::F16);
        }
    }
    for node in &mut out.nodes {
        match &mut node.op {
            Op::Cast { to } if *to == DType::F32 => *to = DType::F16,
            Op::ConstantOfShape { value: Tensor::F32(v) } => {
                let halved = v.mapv(f16::from_f32);
                node.op = Op::ConstantOfShape { value: Tensor::F16(halved) };
            }
            Op::QuantizeLinear { .. } | Op::DequantizeLinear { .. } => {
                return Err(Error::Unsupported {
                    node: node.name.clone(),
                    op: "QuantizeLinear".into(),
                    why: "the model is quantized already; fp16 starts from a float32 model".into(),
                });
            }
            _ => {}
        }
    }
    cast_inputs(&mut out);
    cast_outputs(&mut out);
    Ok(out)
}

/// A dense layer becomes a matrix product and a sum: runtimes that compute `Gemm` in f32 only still take these in f16.
fn products_and_sums(graph: &mut Graph) {
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        let Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b } = node.op else {
            nodes.push(node);
            continue;
        };
        let Some(Tensor::F32(weights)) = graph.constant(node.inputs.get(1).copied().flatten()).cloned() else {
            nodes.push(node);
            continue;
        };
        let matrix = if trans_b { weights.t().as_standard_layout().into_owned() } else { weights };
        let matrix = graph.add_constant(&format!("{}_matrix", node.name), Tensor::F32(matrix));
        let bias = node.inputs.get(2).copied().flatten();
        let y = node.outputs[0];
        let product = match bias {
            None => y,
            Some(_) => {
                let mut value = graph.value(y).clone();
                value.name.push_str("_product");
                graph.add_value(value)
            }
        };
        let inputs = vec![node.inputs[0], Some(matrix)];
        nodes.push(Node { name: node.name.clone(), op: Op::MatMul, inputs, outputs: vec![product] });
        if bias.is_some() {
            let name = format!("{}_bias", node.name);
            nodes.push(Node { name, op: Op::Add, inputs: vec![Some(product), bias], outputs: vec![y] });
        }
    }
    graph.nodes = nodes;
    crate::graph::fold::remove_dead(graph);
}

/// For every value: whether it is one number far below f16's range that is added, or multiplied by a mask before: what attention masks are made of. Before
/// a softmax f16's least number does the same; where it does not, verification says so.
fn stand_for_minus_infinity(graph: &Graph) -> Vec<bool> {
    let consumers = graph.consumers();
    let is_far_below = |tensor: &Tensor| {
        tensor
            .as_f32()
            .is_some_and(|data| data.len() == 1 && data.iter().all(|v| v.is_finite() && *v < f16::MIN.to_f32()))
    };
    let masks = |&node: &usize| matches!(graph.nodes[node].op, Op::Add | Op::Mul | Op::Where);
    let values = graph.values.iter().zip(&consumers);
    values
        .map(|(value, readers)| value.constant.as_ref().is_some_and(is_far_below) && readers.iter().all(masks))
        .collect()
}

fn values_that_stay_f32(graph: &Graph) -> Vec<bool> {
    let mut keep = numbers_for_integers(graph);
    for node in &graph.nodes {
        if matches!(node.op, Op::Resize(_)) {
            for slot in RESIZE_F32_INPUTS {
                if let Some(Some(id)) = node.inputs.get(slot) {
                    keep[id.0] = true;
                }
            }
        }
    }
    keep
}

/// Values of which only integers are made, as the ids of a text: not every integer above 2048 has an f16.
fn numbers_for_integers(graph: &Graph) -> Vec<bool> {
    let is_float = |id: ValueId| graph.value(id).dtype == Some(DType::F32);
    let mut keep: Vec<bool> = (0..graph.values.len()).map(|v| is_float(ValueId(v))).collect();
    let mut is_read = vec![false; graph.values.len()];
    for id in &graph.outputs {
        keep[id.0] = false;
    }
    for node in graph.nodes.iter().rev() {
        let to_integers = matches!(node.op, Op::Cast { to: DType::I64 | DType::I32 | DType::Bool });
        let moves = matches!(
            node.op,
            Op::Split { .. } | Op::Squeeze { .. } | Op::Flatten { .. } | Op::Reshape { .. } | Op::Slice | Op::Identity
        );
        let kept = to_integers || (moves && node.outputs.iter().all(|o| keep[o.0] && is_read[o.0]));
        for id in node.inputs.iter().flatten() {
            is_read[id.0] = true;
            keep[id.0] &= kept;
        }
    }
    keep.iter().zip(&is_read).map(|(keep, is_read)| *keep && *is_read).collect()
}

fn cast_inputs(graph: &mut Graph) {
    let mut casts = Vec::new();
    for slot in 0..graph.inputs.len() {
        let inner = graph.inputs[slot];
        if graph.value(inner).dtype != Some(DType::F16) {
            continue;
        }
        // The outer value takes the input's name, so that callers see no difference.
        let name = graph.value(inner).name.clone();
        graph.rename(inner, &format!("{name}_f16"));
        let shape = graph.value(inner).shape.clone();
        let outer = graph.add_value(Value { name: name.clone(), dtype: Some(DType::F32), shape, constant: None });
        graph.inputs[slot] = outer;
        casts.push(cast_node(&format!("{name}/to_f16"), outer, inner, DType::F16));
    }
    graph.nodes.splice(0..0, casts);
}

fn cast_outputs(graph: &mut Graph) {
    for slot in 0..graph.outputs.len() {
        let inner = graph.outputs[slot];
        if graph.value(inner).dtype != Some(DType::F16) {
            continue;
        }
        let name = graph.value(inner).name.clone();
        graph.rename(inner, &format!("{name}_f16"));
        let shape = graph.value(inner).shape.clone();
        let outer = graph.add_value(Value { name: name.clone(), dtype: Some(DType::F32), shape, constant: None });
        graph.outputs[slot] = outer;
        graph.nodes.push(cast_node(&format!("{name}/to_f32"), inner, outer, DType::F32));
    }
}

fn cast_node(name: &str, from: ValueId, to: ValueId, dtype: DType) -> Node {
    Node { name: name.to_owned(), op: Op::Cast { to: dtype }, inputs: vec![Some(from)], outputs: vec![to] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dim;

    fn scaled_input(weight: f32) -> Graph {
        let mut graph = Graph { opset: 13, ..Graph::default() };
        let shape = Some(vec![Dim::Symbol("N".into()), Dim::Fixed(2)]);
        let x =
            graph.add_value(Value { name: "x".into(), dtype: Some(DType::F32), shape: shape.clone(), constant: None });
        let w = graph.add_constant("w", Tensor::from_f32(&[2], vec![weight, 1.0]).expect("two values"));
        let y = graph.add_value(Value { name: "y".into(), dtype: Some(DType::F32), shape, constant: None });
        graph.nodes.push(Node { name: "mul".into(), op: Op::Mul, inputs: vec![Some(x), Some(w)], outputs: vec![y] });
        graph.inputs.push(x);
        graph.outputs.push(y);
        graph
    }

    #[test]
    fn inputs_and_outputs_keep_their_names_and_type_and_the_inside_is_half() {
        let half = convert(&scaled_input(0.5)).expect("in range");
        let (x, y) = (half.value(half.inputs[0]), half.value(half.outputs[0]));
        assert_eq!((x.name.as_str(), x.dtype), ("x", Some(DType::F32)));
        assert_eq!((y.name.as_str(), y.dtype), ("y", Some(DType::F32)));
        let mul = half.nodes.iter().find(|n| n.op == Op::Mul).expect("kept");
        for id in mul.inputs.iter().flatten().chain(&mul.outputs) {
            assert_eq!(half.value(*id).dtype, Some(DType::F16), "{}", half.value(*id).name);
        }
        // Topological order: every node reads what an earlier one made.
        let made = |id: ValueId, before: usize| {
            half.inputs.contains(&id)
                || half.value(id).constant.is_some()
                || half.nodes[..before].iter().any(|n| n.outputs.contains(&id))
        };
        for (i, node) in half.nodes.iter().enumerate() {
            assert!(node.inputs.iter().flatten().all(|&id| made(id, i)), "{}", node.name);
        }
    }

    #[test]
    fn a_weight_beyond_the_range_is_refused_by_name() {
        let error = convert(&scaled_input(1e6)).expect_err("out of range");
        assert_eq!(error.code(), "unsupported");
        assert!(error.to_string().contains("'w'"), "{error}");
    }
}
