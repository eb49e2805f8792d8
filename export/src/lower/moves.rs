//! Operators that only move values: what comes out is on the scale of what went in.

use hone_runtime::plan::{Code, DType, OpParts, Window};
use ndarray::{ArrayD, IxDyn};

use super::draft::{Stored, channels_last, row_major};
use super::layers::{plan_window, whole};
use super::walk::Walk;
use super::{dims, unsupported};
use crate::Result;
use crate::graph::{Op, Tensor, eval};

/// Whether [`lower`] knows the operator.
pub(super) fn keeps_values(op: &Op) -> bool {
    matches!(
        op,
        Op::MaxPool { .. }
            | Op::GlobalMaxPool
            | Op::Flatten { .. }
            | Op::Reshape { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Transpose { .. }
            | Op::Identity
            | Op::Resize(_)
            | Op::Pad { .. }
    )
}

pub(super) fn lower(walk: &mut Walk<'_>, index: usize) -> Result<Stored> {
    let graph = walk.graph;
    let node = &graph.nodes[index];
    let input = walk.stored(node, 0)?;
    let out_dims = dims(graph, node.outputs[0])?;
    let name = graph.value(node.outputs[0]).name.clone();
    match &node.op {
        Op::Identity => Ok(input),
        Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
            // Axes of one element come and go freely; anything else needs the graph's own order.
            let significant = |dims: &[usize]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
            if significant(&input.dims) == significant(&out_dims) {
                return Ok(Stored { tensor: input.tensor, order: renamed(&input, &out_dims), dims: out_dims });
            }
            let order = row_major(input.dims.len());
            let input = walk.reordered(input, &order, &name)?;
            Ok(Stored { tensor: input.tensor, order: row_major(out_dims.len()), dims: out_dims })
        }
        Op::Transpose { perm } => {
            // Nothing moves: the axes get other names, and who needs another order asks for it.
            let Some((0, rest)) = perm.split_first().map(|(first, rest)| (*first, rest)) else {
                return Err(unsupported(node, "the batch axis is moved"));
            };
            let order = input.order.iter().map(|&axis| rest.iter().position(|&p| p == axis + 1).unwrap_or(0)).collect();
            Ok(Stored { tensor: input.tensor, dims: out_dims, order })
        }
        Op::MaxPool { window, ceil } => {
            let input = walk.reordered(input.clone(), &channels_last(input.dims.len()), &name)?;
            let window = plan_window(node, window, &input.dims, *ceil)?;
            slide(walk, Code::MaxPool, &name, &input, out_dims, window)
        }
        Op::GlobalMaxPool => {
            let window = whole(node, input.dims.get(1..).unwrap_or_default())?;
            let input = walk.reordered(input.clone(), &channels_last(input.dims.len()), &name)?;
            slide(walk, Code::MaxPool, &name, &input, out_dims, window)
        }
        Op::Pad { amounts, value } => {
            let input = walk.reordered(input.clone(), &channels_last(input.dims.len()), &name)?;
            let rank = input.dims.len() + 1;
            let before = amounts.get(..rank).unwrap_or_default();
            let moved =
                |axis: usize| amounts.get(axis).copied().unwrap_or(0) + amounts.get(axis + rank).copied().unwrap_or(0);
            if *value != 0.0 || moved(0) != 0 || moved(1) != 0 {
                return Err(unsupported(node, "only borders of zeros around the spatial axes are run"));
            }
            let pad = match *before {
                [_, _, x] => [0, x],
                [_, _, y, x] => [y, x],
                _ => return Err(unsupported(node, "more than two spatial axes")),
            };
            slide(walk, Code::Pad, &name, &input, out_dims, Window { pad, ..Window::default() })
        }
        Op::Resize(resize) => {
            if resize.mode != "nearest" {
                return Err(unsupported(
                    node,
                    format!("mode '{}'; the native engine resizes to the nearest", resize.mode),
                ));
            }
            let input = walk.reordered(input.clone(), &channels_last(input.dims.len()), &name)?;
            let maps = maps(walk, index, &input.dims, &out_dims)?;
            let output = slide(walk, Code::Resize, &name, &input, out_dims, Window::default())?;
            if let Some(op) = walk.draft.ops.last_mut() {
                op.weights = maps;
            }
            Ok(output)
        }
        _ => Err(unsupported(node, "not an operator that keeps values")),
    }
}

/// The order of the same elements with axes of one element added or taken out.
fn renamed(input: &Stored, dims: &[usize]) -> Vec<usize> {
    let old: Vec<usize> = (0..input.dims.len()).filter(|&axis| input.dims[axis] != 1).collect();
    let new: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis] != 1).collect();
    let ones = (0..dims.len()).filter(|&axis| dims[axis] == 1);
    let moved = input.order.iter().filter_map(|axis| old.iter().position(|o| o == axis)).map(|at| new[at]);
    ones.chain(moved).collect()
}

/// An operator that gives channels last from channels last.
fn slide(
    walk: &mut Walk<'_>,
    code: Code,
    name: &str,
    input: &Stored,
    dims: Vec<usize>,
    window: Window,
) -> Result<Stored> {
    let order = channels_last(dims.len());
    let mut output = Stored { tensor: 0, dims, order };
    let (Some(from), Some(to)) = (input.shape(), output.shape()) else {
        let why = "more than two spatial axes".into();
        return Err(crate::Error::Unsupported { node: name.to_owned(), op: code.name().into(), why });
    };
    let tensor = walk.shaped(input.tensor, from, name);
    output.tensor = walk.draft.like(tensor, to);
    let mut op = OpParts::new(code, name, &[tensor], output.tensor);
    if code == Code::MaxPool && walk.draft.tensors[tensor].dtype == DType::F16 {
        op = OpParts::new(Code::MaxPool16, name, &[tensor], output.tensor).bounded(f32::NEG_INFINITY, f32::INFINITY);
    }
    op.window = window;
    walk.draft.push(op, name, &output.order);
    Ok(output)
}

/// For every row and every column of a resized map, where it comes from: the node is evaluated on row and on column numbers.
fn maps(walk: &Walk<'_>, index: usize, from: &[usize], to: &[usize]) -> Result<Vec<u8>> {
    let graph = walk.graph;
    let node = &graph.nodes[index];
    let spatial = from.len() - 1;
    let mut maps = Vec::new();
    if spatial == 1 {
        maps.extend(0u32.to_le_bytes());
    }
    for axis in 0..spatial {
        let shape: Vec<usize> = std::iter::once(1).chain(from.iter().copied()).collect();
        let places = ArrayD::from_shape_fn(IxDyn(&shape), |at| at[axis + 2] as f32);
        let places = Tensor::F32(places);
        let mut inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(|id| graph.constant(*id)).collect();
        inputs[0] = Some(&places);
        let result = eval::node(node, graph, &inputs)?;
        let result = result.first().and_then(Tensor::as_f32).ok_or_else(|| unsupported(node, "it gives no floats"))?;
        for place in 0..to[axis + 1] {
            let mut at = vec![0; to.len() + 1];
            at[axis + 2] = place;
            let from = result.get(IxDyn(&at)).copied().unwrap_or(0.0);
            maps.extend((from.round() as u32).to_le_bytes());
        }
    }
    Ok(maps)
}
