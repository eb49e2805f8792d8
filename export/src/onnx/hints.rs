//! What can be said of a shape while reading, without the full inference that [`crate::graph`] does later.
//!
//! Some older forms mean different things for different ranks (`Softmax` below opset 13, `Transpose` without a
//! permutation). A hint that is there is right; one that is missing makes the reader refuse where it would need it.

use super::import::Importer;
use crate::graph::{Op, Tensor, ValueId};

/// Rank and known dimensions; `None` where not even the rank is known.
pub(super) type Hint = Option<Vec<Option<usize>>>;

/// The hint for the only output of a node.
pub(super) fn output(op: &Op, inputs: &[Option<ValueId>], importer: &Importer) -> Hint {
    let hint = |i: usize| inputs.get(i).copied().flatten().and_then(|id| importer.hints[id.0].clone());
    let ints = |i: usize| {
        let tensor = inputs.get(i).copied().flatten().and_then(|id| importer.constant(id));
        tensor.and_then(Tensor::as_i64).map(|a| a.iter().copied().collect::<Vec<_>>())
    };
    let unknown = |rank: usize| Some(vec![None; rank]);
    let same_rank = || hint(0).and_then(|h| unknown(h.len()));
    match op {
        Op::Conv { .. } | Op::MaxPool { .. } | Op::AveragePool { .. } => {
            let x = hint(0)?;
            let channels = if let Op::Conv { .. } = op { hint(1)?.first().copied()? } else { x.get(1).copied()? };
            Some([x.first().copied()?, channels].into_iter().chain(std::iter::repeat_n(None, x.len() - 2)).collect())
        }
        Op::GlobalAveragePool | Op::GlobalMaxPool => {
            let x = hint(0)?;
            Some(x.iter().enumerate().map(|(i, d)| if i < 2 { *d } else { Some(1) }).collect())
        }
        Op::Gemm { .. } | Op::Flatten { .. } => unknown(2),
        Op::MatMul => match (hint(0)?.len(), hint(1)?.len()) {
            (a @ 2.., b @ 2..) => unknown(a.max(b)),
            _ => None,
        },
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pow | Op::Max | Op::Min | Op::Where | Op::Equal | Op::PRelu => {
            (1..inputs.len()).try_fold(hint(0)?, |shape, i| Some(broadcast(&shape, &hint(i)?)))
        }
        Op::BatchNormalization { .. }
        | Op::LayerNormalization { .. }
        | Op::Relu
        | Op::LeakyRelu { .. }
        | Op::Clip { .. }
        | Op::Sigmoid
        | Op::Tanh
        | Op::Erf
        | Op::HardSigmoid { .. }
        | Op::HardSwish
        | Op::Softmax { .. }
        | Op::Sqrt
        | Op::Exp
        | Op::Log
        | Op::Neg
        | Op::Abs
        | Op::Reciprocal
        | Op::Cast { .. }
        | Op::Identity
        | Op::QuantizeLinear { .. }
        | Op::DequantizeLinear { .. } => hint(0),
        Op::Concat { .. } | Op::Slice | Op::Pad { .. } | Op::PadMode { .. } | Op::Resize(_) => same_rank(),
        Op::ReduceMean { axes, keepdims } | Op::ReduceSum { axes, keepdims } | Op::ReduceMax { axes, keepdims } => {
            let rank = hint(0)?.len();
            match (keepdims, axes.is_empty()) {
                (true, _) => unknown(rank),
                (false, true) => unknown(0),
                (false, false) => unknown(rank.checked_sub(axes.len())?),
            }
        }
        Op::Reshape { allow_zero } => {
            let known = |n: i64| usize::try_from(n).ok().filter(|&n| n > 0 || *allow_zero);
            match ints(1) {
                Some(shape) => Some(shape.into_iter().map(known).collect()),
                // The length of a computed shape is the rank.
                None => unknown(hint(1)?.first().copied()??),
            }
        }
        Op::Transpose { perm } => {
            let x = hint(0)?;
            perm.iter().map(|&p| x.get(p).copied()).collect()
        }
        Op::Squeeze { axes } if !axes.is_empty() => unknown(hint(0)?.len().checked_sub(axes.len())?),
        Op::Unsqueeze { axes } => unknown(hint(0)?.len() + axes.len()),
        Op::Gather { .. } => unknown((hint(0)?.len() + hint(1)?.len()).checked_sub(1)?),
        Op::Shape { .. } => match (op, hint(0)) {
            (Op::Shape { start: 0, end: None }, Some(x)) => Some(vec![Some(x.len())]),
            _ => unknown(1),
        },
        Op::Range => unknown(1),
        _ => None,
    }
}

fn broadcast(a: &[Option<usize>], b: &[Option<usize>]) -> Vec<Option<usize>> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[Option<usize>], i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(i) => shape[i],
        None => Some(1),
    };
    let merge = |i| match (dim(a, i), dim(b, i)) {
        (Some(1), other) | (other, Some(1)) => other,
        (Some(n), _) | (_, Some(n)) => Some(n),
        (None, None) => None,
    };
    (0..rank).map(merge).collect()
}
