//! One step of the network on given values: with its weights in float, or as they are rounded.

use ndarray::Axis;

use super::Step;
use super::fit::Rounded;
use super::network::{Bounds, Network, Step as NetStep, Weighted};
use super::sequential::{take_f32, tensor};
use crate::Result;
use crate::graph::{Graph, Op, Tensor, ValueId, eval};

/// References to what is there.
pub(super) fn borrow(tensors: &[Option<Tensor>]) -> Vec<Option<&Tensor>> {
    tensors.iter().map(Option::as_ref).collect()
}

/// The data inputs of a step from the walk's values or the graph's constants; weights are given apart.
pub(super) fn arguments<'t>(
    network: &'t Network,
    step: &NetStep,
    find: impl Fn(ValueId) -> Option<&'t Tensor>,
) -> Vec<Option<&'t Tensor>> {
    let data_inputs = if step.weighted.is_some() { 1 } else { step.node.inputs.len() };
    step.node.inputs[..data_inputs]
        .iter()
        .map(|id| id.and_then(|id| find(id).or(network.graph.value(id).constant.as_ref())))
        .collect()
}

/// The outputs of a step, with the weights and bias of `layer` where it has some.
pub(super) fn apply<'t>(
    graph: &Graph,
    step: &NetStep,
    mut args: Vec<Option<&'t Tensor>>,
    layer: Option<&'t (Tensor, Tensor)>,
) -> Result<Vec<Tensor>> {
    let Some((weights, bias)) = layer else { return eval::node(&step.node, graph, &args) };
    args.truncate(1);
    args.extend([Some(weights), Some(bias)]);
    let mut node = step.node.clone();
    if step.weighted.as_ref().is_none_or(|w| w.window.is_some()) {
        return eval::node(&node, graph, &args);
    }
    node.op = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let Some(Tensor::F32(x)) = args[0].filter(|x| x.shape().len() > 2) else {
        return eval::node(&node, graph, &args);
    };
    // One row a position.
    let (lead, width) = x.shape().split_at(x.ndim() - 1);
    let flat = tensor(&[lead.iter().product(), width[0]], x.iter().copied().collect())?;
    let shape = [lead, &weights.shape()[..1]].concat();
    let outputs = eval::node(&node, graph, &[Some(&flat), Some(weights), Some(bias)])?;
    Ok(vec![tensor(&shape, take_f32(outputs)?)?])
}

/// Weights and bias as they are.
pub(super) fn float_layer(weighted: &Weighted) -> Result<(Tensor, Tensor)> {
    let values: Vec<f32> = weighted.matrix.iter().copied().collect();
    Ok((tensor(&weighted.shape, values)?, tensor(&[weighted.bias.len()], weighted.bias.clone())?))
}

/// Weights and bias as the quantized file has them; `is_product`: the bias is added in float.
pub(super) fn quantized_layer(
    weighted: &Weighted,
    rounded: &Rounded,
    input: Option<Step>,
    is_product: bool,
) -> Result<(Tensor, Tensor)> {
    let mut values = Vec::with_capacity(rounded.weights.len());
    for (row, &scale) in rounded.weights.rows().into_iter().zip(&rounded.scales) {
        values.extend(row.iter().map(|&q| f32::from(q) * scale));
    }
    let bias = rounded.bias.iter().zip(&rounded.scales).map(|(&b, &scale)| {
        let unit = if is_product { 0.0 } else { input.map_or(0.0, |s| s.scale) * scale };
        if unit > 0.0 { (b / unit).round_ties_even() * unit } else { b }
    });
    Ok((tensor(&weighted.shape, values)?, tensor(&[rounded.bias.len()], bias.collect())?))
}

/// Clamps to the bounds; an equalized channel's (axis 1) upper bound is its factor times as high.
pub(super) fn bound(tensor: &mut Tensor, bounds: Bounds, factors: &[f32]) {
    let Tensor::F32(data) = tensor else { return };
    if bounds == Bounds::NONE {
        return;
    }
    if factors.is_empty() || bounds.high.is_infinite() {
        data.mapv_inplace(|v| bounds.clamp(v));
        return;
    }
    for (mut channel, &factor) in data.axis_iter_mut(Axis(1)).zip(factors) {
        let bounds = Bounds { high: bounds.high * factor, ..bounds };
        channel.mapv_inplace(|v| bounds.clamp(v));
    }
}
