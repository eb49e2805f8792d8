//! Layers with weights, poolings, and what transformers are made of.

use half::f16;
use hone_runtime::plan::writer::{padded_floats, panels};
use hone_runtime::plan::{Code, OpParts};

use super::OPEN;
use crate::Result;
use crate::graph::op::Window as OnnxWindow;
use crate::graph::{Node, Op};
use crate::lower::draft::{Stored, channels_last, row_major, three};
use crate::lower::layers::{mean_window, plan_window};
use crate::lower::walk::Walk;
use crate::lower::{POINT, dims, own_axis, unsupported, with_last};

pub(super) fn conv(walk: &mut Walk<'_>, node: &Node, window: &OnnxWindow, groups: usize) -> Result<Stored> {
    let input = walk.stored(node, 0)?;
    let rank = input.dims.len();
    let input = walk.reordered(input, &channels_last(rank), &node.name)?;
    let window = plan_window(node, window, &input.dims, false)?;
    let shape = input.shape().ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
    let weights = walk.half_constant(node, 1).ok_or_else(|| unsupported(node, "weights that are no f16 constant"))?;
    let (Some(&outputs), Some(&group_inputs)) = (weights.shape.first(), weights.shape.get(1)) else {
        return Err(unsupported(node, "weights of less than two axes"));
    };
    let taps = window.taps();
    let whole = weights.values.len() == outputs * group_inputs * taps && outputs.is_multiple_of(groups);
    if !whole || weights.values.is_empty() || groups == 0 {
        return Err(unsupported(node, "weights that do not fit its window and groups"));
    }
    // ONNX has [output, input channel, tap]; a patch has the channels of a tap side by side.
    let depth = taps * group_inputs;
    let mut rows = Vec::with_capacity(weights.values.len());
    for output in weights.values.chunks_exact(depth) {
        rows.extend((0..depth).map(|k| output[k % group_inputs * taps + k / group_inputs]));
    }
    let bias = bias(walk, node, outputs)?;
    let out_dims = dims(walk.graph, node.outputs[0])?;
    let mut output = Stored { tensor: 0, order: channels_last(out_dims.len()), dims: out_dims };
    let out_shape = output.shape().ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
    let tensor = walk.shaped(input.tensor, shape, &node.name);
    output.tensor = walk.draft.half(out_shape);
    let is_depthwise = groups == shape[2] && outputs == groups && groups > 1;
    let code = if is_depthwise { Code::Depthwise16 } else { Code::Conv16 };
    let mut op = OpParts::new(code, &node.name, &[tensor], output.tensor).bounded(OPEN.0, OPEN.1);
    op.window = window;
    op.groups = groups;
    if is_depthwise {
        op.weights = panels(&rows, outputs, taps);
        op.bias = padded_floats(&bias);
    } else {
        let per_group = outputs / groups;
        op.weights = rows.chunks(per_group * depth).flat_map(|group| panels(group, per_group, depth)).collect();
        op.bias = bias.chunks(per_group).flat_map(padded_floats).collect();
    }
    let name = walk.made(node);
    walk.draft.push(op, &name, &output.order);
    Ok(output)
}

/// The third input, or zeros.
fn bias(walk: &Walk<'_>, node: &Node, outputs: usize) -> Result<Vec<f32>> {
    if node.inputs.get(2).copied().flatten().is_none() {
        return Ok(vec![0.0; outputs]);
    }
    let bias = walk.half_constant(node, 2).ok_or_else(|| unsupported(node, "a bias that is no f16 constant"))?;
    match (bias.scalar(), bias.floats()) {
        (Some(one), _) => Ok(vec![one; outputs]),
        (None, bias) if bias.len() == outputs => Ok(bias),
        (None, bias) => Err(unsupported(node, format!("{} bias values for {outputs} outputs", bias.len()))),
    }
}

/// A matrix product with constant weights.
pub(super) fn dense(walk: &mut Walk<'_>, node: &Node) -> Result<Stored> {
    let (transposed, alpha, beta) = match node.op {
        Op::Gemm { trans_a: false, trans_b, alpha, beta } => (trans_b, alpha, beta),
        Op::MatMul => (false, 1.0, 1.0),
        _ => return Err(unsupported(node, "transA = 1")),
    };
    if alpha != 1.0 {
        return Err(unsupported(node, format!("alpha = {alpha}")));
    }
    let stored = walk.stored(node, 0)?;
    let order = row_major(stored.dims.len());
    let stored = walk.reordered(stored, &order, &node.name)?;
    let weights = walk.half_constant(node, 1).ok_or_else(|| unsupported(node, "weights that are no f16 constant"))?;
    let [a, b] = weights.shape[..] else { return Err(unsupported(node, "weights that are no matrix")) };
    let (outputs, depth) = if transposed { (a, b) } else { (b, a) };
    if stored.dims.last() != Some(&depth) {
        return Err(unsupported(node, format!("{depth} weights an output on an input of {:?}", stored.dims)));
    }
    let rows: Vec<f16> = if transposed {
        weights.values
    } else {
        (0..outputs).flat_map(|o| (0..depth).map(move |k| (o, k))).map(|(o, k)| weights.values[k * b + o]).collect()
    };
    let positions: usize = stored.dims[..stored.dims.len() - 1].iter().product();
    let input =
        if positions == 1 { stored.tensor } else { walk.shaped(stored.tensor, [1, positions, depth], &node.name) };
    let bias: Vec<f32> = bias(walk, node, outputs)?.into_iter().map(|value| value * beta).collect();
    let output = walk.draft.half([1, positions, outputs]);
    let code = if positions == 1 { Code::Dense16 } else { Code::Conv16 };
    let mut op = OpParts::new(code, &node.name, &[input], output).bounded(OPEN.0, OPEN.1);
    op.window = POINT;
    op.weights = panels(&rows, outputs, depth);
    op.bias = padded_floats(&bias);
    let dims = dims(walk.graph, node.outputs[0])?;
    let order = row_major(dims.len());
    let name = walk.made(node);
    walk.draft.push(op, &name, &order);
    Ok(Stored { tensor: output, order, dims })
}

/// A matrix product of two tensors.
pub(super) fn product(walk: &mut Walk<'_>, node: &Node) -> Result<Stored> {
    let (a, b) = (walk.stored(node, 0)?, walk.stored(node, 1)?);
    let rank = a.dims.len();
    let fits = rank == b.dims.len() && (2..=3).contains(&rank) && a.dims[..rank - 2] == b.dims[..rank - 2];
    if !fits {
        return Err(unsupported(node, format!("matrices of {:?} and {:?}", a.dims, b.dims)));
    }
    let order = row_major(rank);
    let mut transposed_order = order.clone();
    transposed_order.swap(rank - 2, rank - 1);
    let a = walk.reordered(a, &order, &node.name)?;
    // The second operand is taken as it lies where it can be.
    let is_transposed = !b.lies_as(&order) && b.lies_as(&transposed_order);
    let b = if is_transposed { b } else { walk.reordered(b, &order, &node.name)? };
    let size = |dims: &[usize], from_end: usize| dims[rank - from_end];
    let heads: usize = a.dims[..rank - 2].iter().product();
    let (m, k, n) = (size(&a.dims, 2), size(&a.dims, 1), size(&b.dims, 1));
    let first = walk.shaped(a.tensor, [heads, m, k], &node.name);
    let second = walk.shaped(b.tensor, if is_transposed { [heads, n, k] } else { [heads, k, n] }, &node.name);
    let output = walk.draft.half([heads, m, n]);
    let op = OpParts::new(Code::MatMul16, &node.name, &[first, second], output).bounded(1.0, 0.0);
    let name = walk.made(node);
    walk.draft.push(OpParts { shifts: (u8::from(is_transposed), 0), ..op }, &name, &order);
    Ok(Stored { tensor: output, order, dims: dims(walk.graph, node.outputs[0])? })
}

pub(super) fn average(walk: &mut Walk<'_>, node: &Node) -> Result<Stored> {
    let input = walk.stored(node, 0)?;
    let rank = input.dims.len();
    let (window, count_all) = mean_window(node, &input.dims)?;
    let input = walk.reordered(input, &channels_last(rank), &node.name)?;
    let out_dims = dims(walk.graph, node.outputs[0])?;
    let shape = input.shape().ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
    // Without kept axes the channels are all that is left.
    let order = if out_dims.len() == rank { channels_last(rank) } else { row_major(out_dims.len()) };
    let mut output = Stored { tensor: 0, dims: out_dims, order };
    let out_shape = output.shape().ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
    let tensor = walk.shaped(input.tensor, shape, &node.name);
    output.tensor = walk.draft.half(out_shape);
    let op = OpParts::new(Code::AveragePool16, &node.name, &[tensor], output.tensor).bounded(OPEN.0, OPEN.1);
    let name = walk.made(node);
    walk.draft.push(OpParts { window, shifts: (u8::from(count_all), 0), ..op }, &name, &output.order);
    Ok(output)
}

pub(super) fn concat(walk: &mut Walk<'_>, node: &Node, axis: i64) -> Result<Stored> {
    let out_dims = dims(walk.graph, node.outputs[0])?;
    let rank = out_dims.len();
    let order = with_last(&row_major(rank), own_axis(node, axis, rank)?);
    if node.inputs.len() > hone_runtime::plan::MAX_INPUTS {
        return Err(unsupported(node, "more than six parts"));
    }
    let sizes = |dims: &[usize]| {
        let sizes: Vec<usize> = order.iter().map(|&a| dims[a]).collect();
        three(&sizes).ok_or_else(|| unsupported(node, "more than three axes"))
    };
    let mut parts = Vec::new();
    for slot in 0..node.inputs.len() {
        let part = walk.stored(node, slot)?;
        let part = walk.reordered(part, &order, &node.name)?;
        let shape = sizes(&part.dims)?;
        parts.push(walk.shaped(part.tensor, shape, &node.name));
    }
    let shape = sizes(&out_dims)?;
    let tensor = walk.draft.half(shape);
    let name = walk.made(node);
    walk.draft.push(OpParts::new(Code::Concat, &node.name, &parts, tensor), &name, &order);
    Ok(Stored { tensor, dims: out_dims, order })
}

pub(super) fn softmax(walk: &mut Walk<'_>, node: &Node, axis: i64) -> Result<Stored> {
    let stored = walk.stored(node, 0)?;
    let rank = stored.dims.len();
    let (stored, input, shape) = rows(walk, node, stored, own_axis(node, axis, rank)?)?;
    let output = walk.draft.half(shape);
    let name = walk.made(node);
    walk.draft.push(OpParts::new(Code::Softmax16, &node.name, &[input], output), &name, &stored.order);
    Ok(Stored { tensor: output, ..stored })
}

pub(super) fn layer_norm(walk: &mut Walk<'_>, node: &Node, axis: i64, epsilon: f32) -> Result<Stored> {
    let stored = walk.stored(node, 0)?;
    let rank = stored.dims.len();
    let axis = own_axis(node, axis, rank)?;
    if axis + 1 != rank {
        return Err(unsupported(node, "a normalization over more than the last axis"));
    }
    let (stored, input, shape) = rows(walk, node, stored, axis)?;
    let numbers = |slot: usize| walk.half_constant(node, slot).map(|constant| constant.floats());
    let scales = numbers(1).ok_or_else(|| unsupported(node, "a scale that is no f16 constant"))?;
    let summands = match node.inputs.get(2).copied().flatten() {
        Some(_) => numbers(2).ok_or_else(|| unsupported(node, "a bias that is no f16 constant"))?,
        None => vec![0.0; scales.len()],
    };
    if scales.len() != shape[2] || summands.len() != shape[2] {
        return Err(unsupported(node, format!("{} scales for {} values", scales.len(), shape[2])));
    }
    let output = walk.draft.half(shape);
    let mut op = OpParts::new(Code::LayerNorm16, &node.name, &[input], output).bounded(epsilon, 0.0);
    (op.multipliers, op.bias) = (padded_floats(&scales), padded_floats(&summands));
    let name = walk.made(node);
    walk.draft.push(op, &name, &stored.order);
    Ok(Stored { tensor: output, ..stored })
}

/// A tensor with one axis last in memory, as height, width and that axis.
fn rows(walk: &mut Walk<'_>, node: &Node, stored: Stored, axis: usize) -> Result<(Stored, usize, [usize; 3])> {
    let order = with_last(&row_major(stored.dims.len()), axis);
    let stored = walk.reordered(stored, &order, &node.name)?;
    let sizes: Vec<usize> = order.iter().map(|&a| stored.dims[a]).collect();
    let shape = three(&sizes).filter(|shape| shape[2] == stored.dims[axis]);
    let shape = shape.ok_or_else(|| unsupported(node, "more than three axes"))?;
    let input = walk.shaped(stored.tensor, shape, &node.name);
    Ok((stored, input, shape))
}
