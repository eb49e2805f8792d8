//! Weights and biases of a quantized graph, whatever form they come in.

use hone_runtime::QuantParams;

use super::unsupported;
use crate::Result;
use crate::graph::{Graph, Node, Op, Tensor, ValueId};

/// Scale and zero point of a QuantizeLinear or DequantizeLinear that has one of each; uint8 as int8 with 128 less.
pub(super) fn params(graph: &Graph, node: &Node) -> Result<QuantParams> {
    let scale = graph.constant(node.inputs.get(1).copied().flatten()).and_then(Tensor::as_f32);
    let Some(scale) = scale.filter(|s| s.len() == 1).and_then(|s| s.iter().next().copied()) else {
        return Err(unsupported(node, "activations need one constant float32 scale a tensor"));
    };
    let zero_point = match graph.constant(node.inputs.get(2).copied().flatten()) {
        None => -128, // ONNX's default: uint8 zero
        Some(Tensor::U8(z)) if z.len() == 1 => i16::from(z.iter().next().copied().unwrap_or(0)) - 128,
        Some(Tensor::I8(z)) if z.len() == 1 => i16::from(z.iter().next().copied().unwrap_or(0)),
        Some(_) => return Err(unsupported(node, "activations need one int8 or uint8 zero point a tensor")),
    };
    QuantParams { scale, zero_point: zero_point as i8 }.check().map_err(|e| unsupported(node, e.to_string()))
}

/// An integer initializer behind a DequantizeLinear.
pub(super) struct Weights {
    /// Row-major codes with the zero point taken off.
    pub codes: Vec<i32>,
    pub shape: Vec<usize>,
    /// One scale, or one for each index of `axis`.
    pub scales: Vec<f32>,
    pub axis: usize,
}

impl Weights {
    /// The scale of index `i` of axis `axis`; an error where the scales belong to another axis.
    pub fn scale(&self, axis: usize, i: usize) -> Result<f32, &'static str> {
        match self.scales.as_slice() {
            [one] => Ok(*one),
            many if axis == self.axis => many.get(i).copied().ok_or("fewer scales than outputs"),
            _ => Err("scales along another axis than the outputs"),
        }
    }
}

/// The constant that `node`, a DequantizeLinear, makes.
pub(super) fn dequantized(graph: &Graph, node: &Node) -> Result<Weights> {
    let Some(codes) = graph.constant(node.inputs.first().copied().flatten()) else {
        return Err(unsupported(node, "it was expected to make a constant"));
    };
    let Op::DequantizeLinear { axis } = node.op else { return Err(unsupported(node, "not a DequantizeLinear")) };
    let Some(scales) = graph.constant(node.inputs.get(1).copied().flatten()).and_then(Tensor::as_f32) else {
        return Err(unsupported(node, "a scale that is no float32 constant"));
    };
    let shape = codes.shape().to_vec();
    let rank = shape.len() as i64;
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).unwrap_or(0);
    let scales: Vec<f32> = scales.iter().copied().collect();
    if scales.len() != 1 && shape.get(axis) != Some(&scales.len()) {
        return Err(unsupported(node, "scales that are neither one nor one for each index of the axis"));
    }
    let zero_points = graph.constant(node.inputs.get(2).copied().flatten()).map(integers).unwrap_or_default();
    let inner: usize = shape.get(axis + 1..).unwrap_or_default().iter().product();
    let zero_point = |i: usize| match zero_points.as_slice() {
        [] => 0,
        [one] => *one,
        many => many[(i / inner) % many.len()],
    };
    let codes = integers(codes).into_iter().enumerate().map(|(i, code)| code - zero_point(i)).collect();
    Ok(Weights { codes, shape, scales, axis })
}

fn integers(tensor: &Tensor) -> Vec<i32> {
    match tensor {
        Tensor::I8(a) => a.iter().map(|&v| v.into()).collect(),
        Tensor::U8(a) => a.iter().map(|&v| v.into()).collect(),
        Tensor::I32(a) => a.iter().copied().collect(),
        _ => Vec::new(),
    }
}

/// Value of a float constant, plain or behind a DequantizeLinear (`maker` is the node that makes it).
pub(super) fn floats(graph: &Graph, id: ValueId, maker: Option<&Node>) -> Result<Option<Vec<f32>>> {
    if let Some(Tensor::F32(data)) = graph.constant(Some(id)) {
        return Ok(Some(data.iter().copied().collect()));
    }
    let Some(node) = maker.filter(|n| matches!(n.op, Op::DequantizeLinear { .. })) else { return Ok(None) };
    if graph.constant(node.inputs.first().copied().flatten()).is_none() {
        return Ok(None);
    }
    let w = dequantized(graph, node)?;
    let inner: usize = w.shape.get(w.axis + 1..).unwrap_or_default().iter().product();
    let scale =
        |i: usize| if w.scales.len() == 1 { w.scales[0] } else { w.scales[(i / inner.max(1)) % w.scales.len()] };
    Ok(Some(w.codes.iter().enumerate().map(|(i, &code)| code as f32 * scale(i)).collect()))
}
