//! Smoothing (SmoothQuant, Xiao et al. 2023, arXiv:2211.10438): a few channels of what a matrix product of a transformer reads are far larger than
//! the others, and one step for all would leave these a handful of levels. Each channel is divided by a factor, the matrix's row multiplied
//! by it: the product stays, the input needs fewer levels.

use std::collections::HashMap;

use super::network::Network;
use super::sequential::Walk;
use crate::Result;
use crate::graph::{Graph, Node, Op, Tensor, Value, ValueId};

/// How much of a channel's size moves into the weights: factor = |x|^α / |w|^(1−α).
const ALPHA: f32 = 0.6;

/// `graph` with the inputs of its matrix products smoothed by what `walk` sees in `network`, which is made of it.
pub(super) fn smooth(graph: &Graph, network: &Network, walk: &Walk<'_>) -> Result<Graph> {
    // For every value that matrix products read: the nodes.
    let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        if let (Op::MatMul, [Some(x), w]) = (&node.op, &node.inputs[..])
            && graph.constant(*w).and_then(Tensor::as_f32).is_some_and(|w| w.ndim() == 2)
            && graph.constant(Some(*x)).is_none()
        {
            readers.entry(*x).or_default().push(i);
        }
    }
    let largest = largest(network, walk, &readers)?;
    let mut out = graph.clone();
    let mut order: Vec<(ValueId, Vec<usize>)> = readers.into_iter().collect();
    order.sort_unstable();
    let mut divisions: Vec<(usize, Node)> = Vec::new();
    for (x, nodes) in order {
        let Some(factors) = factors(&out, &nodes, &largest[&x]) else { continue };
        for &node in &nodes {
            let w = out.nodes[node].inputs[1];
            let Some(Tensor::F32(matrix)) = out.constant(w).cloned() else { continue };
            let mut matrix = matrix;
            for (mut row, factor) in matrix.outer_iter_mut().zip(&factors) {
                row *= *factor;
            }
            let id = out.add_constant(&format!("{}_smoothed", out.nodes[node].name), Tensor::F32(matrix));
            out.nodes[node].inputs[1] = Some(id);
        }
        let inverse: Vec<f32> = factors.iter().map(|f| 1.0 / f).collect();
        let name = graph.value(x).name.clone();
        if !scale_of_maker(&mut out, x, &nodes, &inverse) {
            let inverse = ndarray::Array1::from(inverse).into_dyn();
            let inverse = out.add_constant(&format!("{name}_factors"), Tensor::F32(inverse));
            let value = Value { name: format!("{name}_smooth"), ..out.value(x).clone() };
            let smoothed = out.add_value(value);
            let inputs = vec![Some(x), Some(inverse)];
            let node = Node { name: format!("{name}_smooth"), op: Op::Mul, inputs, outputs: vec![smoothed] };
            divisions.push((nodes[0], node));
            for &reader in &nodes {
                out.nodes[reader].inputs[0] = Some(smoothed);
            }
        }
    }
    // From behind, so that the places stay what they are.
    divisions.sort_by_key(|(before, _)| *before);
    for (before, node) in divisions.into_iter().rev() {
        out.nodes.insert(before, node);
    }
    Ok(out)
}

/// The largest magnitude of each channel (last axis) of the values that products read.
fn largest(
    network: &Network,
    walk: &Walk<'_>,
    readers: &HashMap<ValueId, Vec<usize>>,
) -> Result<HashMap<ValueId, Vec<f32>>> {
    let start = || -> HashMap<ValueId, Vec<f32>> { readers.keys().map(|id| (*id, Vec::new())).collect() };
    let parts = walk.float_pass(network, None, start, |seen, id, tensor| {
        let (Some(seen), Some(data)) = (seen.get_mut(&id), tensor.as_f32()) else { return Ok(()) };
        let width = data.shape().last().copied().unwrap_or(1).max(1);
        seen.resize(width, 0.0);
        for (at, v) in data.iter().enumerate() {
            let of_channel = &mut seen[at % width];
            *of_channel = of_channel.max(v.abs());
        }
        Ok(())
    })?;
    let merge = |mut a: HashMap<ValueId, Vec<f32>>, b: HashMap<ValueId, Vec<f32>>| {
        for (id, other) in b {
            let own = a.entry(id).or_default();
            own.resize(own.len().max(other.len()), 0.0);
            own.iter_mut().zip(other).for_each(|(a, b)| *a = a.max(b));
        }
        a
    };
    Ok(parts.into_iter().reduce(merge).unwrap_or_default())
}

/// One factor a channel; `None` where the weights do not fit what was seen.
fn factors(graph: &Graph, nodes: &[usize], largest: &[f32]) -> Option<Vec<f32>> {
    let mut weights = vec![0.0f32; largest.len()];
    for &node in nodes {
        let matrix = graph.constant(graph.nodes[node].inputs[1])?.as_f32()?;
        if matrix.shape()[0] != largest.len() {
            return None;
        }
        for (row, most) in matrix.outer_iter().zip(&mut weights) {
            *most = row.iter().fold(*most, |m, v| m.max(v.abs()));
        }
    }
    let factor = |(x, w): (&f32, &f32)| match x.powf(ALPHA) / w.powf(1.0 - ALPHA) {
        f if f.is_normal() && (1e-4..1e4).contains(&f) => f,
        _ => 1.0,
    };
    Some(largest.iter().zip(&weights).map(factor).collect())
}

/// Puts the factors into the multiplication by one constant that makes `x`, as the halving at the end of GELU, where products alone read `x`.
fn scale_of_maker(graph: &mut Graph, x: ValueId, readers: &[usize], inverse: &[f32]) -> bool {
    let is_read_by_others = graph.outputs.contains(&x)
        || graph.nodes.iter().enumerate().any(|(i, node)| node.inputs.contains(&Some(x)) && !readers.contains(&i));
    let maker = graph.nodes.iter().position(|node| node.op == Op::Mul && node.outputs.contains(&x));
    let (Some(maker), false) = (maker, is_read_by_others) else { return false };
    let inputs = graph.nodes[maker].inputs.clone();
    for (slot, id) in inputs.iter().enumerate() {
        // Of one axis at most, as the factors are: more axes than the other operand has would add to those of the result.
        let constant = graph.constant(*id).and_then(Tensor::as_f32).filter(|c| c.len() == 1 && c.ndim() <= 1);
        if let Some(factor) = constant.and_then(|c| c.iter().next().copied()) {
            let scaled: Vec<f32> = inverse.iter().map(|v| v * factor).collect();
            let name = format!("{}_factors", graph.nodes[maker].name);
            let id = graph.add_constant(&name, Tensor::F32(ndarray::Array1::from(scaled).into_dyn()));
            graph.nodes[maker].inputs[slot] = Some(id);
            return true;
        }
    }
    false
}
