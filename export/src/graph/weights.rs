//! Weights that are no numbers: a model that holds NaN or infinity in a layer gives nothing else, whatever the data.

use half::f16;

use super::{Graph, Node, Op, Tensor};
use crate::{Error, Result};

/// A weight that is NaN or infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct NonFinite {
    /// Index of the first node that reads the tensor, in [`Graph::nodes`].
    pub node: usize,
    /// Name of the tensor.
    pub tensor: String,
    /// NaN, infinity or minus infinity.
    pub value: f32,
    /// Flat index of the first such element, row-major.
    pub index: usize,
}

/// Every constant that a node computes with and that holds NaN, or infinity where that makes no sense: a bound may be infinite, a
/// factor may not.
#[must_use]
pub fn non_finite(graph: &Graph) -> Vec<NonFinite> {
    let mut seen = vec![false; graph.values.len()];
    let mut out = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for id in node.inputs.iter().flatten() {
            let Some(tensor) = graph.constant(Some(*id)).filter(|_| !seen[id.0]) else { continue };
            let infinite_is_wrong = computes(node);
            // A bound somewhere may be a factor elsewhere.
            seen[id.0] = infinite_is_wrong;
            let wrong = |v: f32| v.is_nan() || (infinite_is_wrong && v.is_infinite());
            if let Some((index, value)) = first(tensor, wrong) {
                seen[id.0] = true;
                out.push(NonFinite { node: i, tensor: graph.value(*id).name.clone(), value, index });
            }
        }
    }
    out
}

/// Refuses a graph with such weights.
///
/// # Errors
/// [`Error::NonFinite`] naming the tensor and the node of the first one.
pub fn check(graph: &Graph) -> Result<()> {
    non_finite(graph).into_iter().next().map_or(Ok(()), |bad| {
        let node = &graph.nodes[bad.node];
        let what = format!("weight '{}' of node '{}' ({})", bad.tensor, node.name, node.op.name());
        Err(Error::NonFinite { what, value: bad.value, index: bad.index })
    })
}

/// Whether the node calculates with its constants rather than compare, choose or move them.
fn computes(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Conv { .. }
            | Op::Gemm { .. }
            | Op::MatMul
            | Op::BatchNormalization { .. }
            | Op::LayerNormalization { .. }
            | Op::PRelu
            | Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Div
            | Op::Pow
            | Op::QuantizeLinear { .. }
            | Op::DequantizeLinear { .. }
    )
}

fn first(tensor: &Tensor, wrong: impl Fn(f32) -> bool) -> Option<(usize, f32)> {
    match tensor {
        Tensor::F32(a) => a.iter().copied().enumerate().find(|&(_, v)| wrong(v)),
        Tensor::F16(a) => a.iter().copied().map(f16::to_f32).enumerate().find(|&(_, v)| wrong(v)),
        // Beyond f32 is no number here either: everything is computed in f32.
        Tensor::F64(a) => a.iter().map(|&v| v as f32).enumerate().find(|&(_, v)| wrong(v)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{Builder, tensor};

    #[test]
    fn nan_is_wrong_everywhere_and_infinity_only_where_it_is_calculated_with() {
        let mut b = Builder::new(13);
        let x = b.input("x", &[2]);
        let bound = b.constant(tensor(&[2], vec![f32::INFINITY, 1.0]));
        let low = b.node(Op::Min, &[x, bound]);
        let factor = b.constant(tensor(&[2], vec![1.0, f32::NEG_INFINITY]));
        let scaled = b.node(Op::Mul, &[low, factor]);
        let hole = b.constant(tensor(&[2], vec![f32::NAN, 1.0]));
        let y = b.node(Op::Max, &[scaled, hole]);
        let graph = b.output(y);
        let found: Vec<(usize, usize)> = non_finite(&graph).iter().map(|bad| (bad.node, bad.index)).collect();
        assert_eq!(found, [(1, 1), (2, 0)]);
        let error = check(&graph).expect_err("refused");
        assert_eq!(error.code(), "non-finite");
        let text = error.to_string();
        assert!(text.contains("node 'mul'") && text.contains("'c_1'") && text.contains("-inf at index 1"), "{text}");
    }
}
