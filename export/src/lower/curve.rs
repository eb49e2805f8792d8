//! Functions of one stored tensor, whatever nodes they are written with: x·sigmoid(x), a clipped leaky ReLU, 2·x + 1, …
//!
//! The nodes are evaluated for all 256 values that an int8 tensor can hold; the answers are a table.

use hone_runtime::QuantParams;

use super::draft::Stored;
use super::walk::{Source, Walk};
use crate::graph::{Op, Tensor, ValueId, eval};
use crate::{Error, Result};

/// The values of a function at every step of a tensor, from −128 to 127.
pub(super) struct Curve {
    pub of: Stored,
    pub values: Vec<f32>,
}

impl Curve {
    /// The table of the function's values on another scale, indexed by the step as an unsigned byte.
    pub fn table(&self, to: QuantParams) -> Vec<u8> {
        let quantized: Vec<u8> = self.values.iter().map(|&v| to.quantize(v).cast_unsigned()).collect();
        // 0..=127 first, then −128..=−1.
        [&quantized[128..], &quantized[..128]].concat()
    }
}

/// Deeper expressions are no activation functions.
const DEEPEST: usize = 16;

/// `id` as a function of one stored tensor; `None` where it depends on more, or on another operator.
pub(super) fn of(walk: &Walk<'_>, id: ValueId) -> Result<Option<Curve>> {
    at(walk, id, DEEPEST)
}

fn at(walk: &Walk<'_>, id: ValueId, depth: usize) -> Result<Option<Curve>> {
    let node = match walk.sources.get(&id) {
        Some(Source::Stored(stored)) => {
            let quant = walk.draft.tensors[stored.tensor].quant;
            let values = (i8::MIN..=i8::MAX).map(|q| quant.dequantize(q)).collect();
            return Ok(Some(Curve { of: stored.clone(), values }));
        }
        Some(Source::Computed(computed)) if computed.is_plain() => &walk.graph.nodes[computed.node],
        _ => return Ok(None),
    };
    if depth == 0 || !is_elementwise(&node.op) {
        return Ok(None);
    }
    let mut of: Option<Stored> = None;
    let mut arguments = Vec::with_capacity(node.inputs.len());
    for input in node.inputs.iter().flatten() {
        if let Some(constant) = walk.scalar(*input)? {
            arguments.push(ndarray::arr0(constant).into_dyn());
            continue;
        }
        let Some(curve) = at(walk, *input, depth - 1)? else { return Ok(None) };
        if of.as_ref().is_some_and(|of| *of != curve.of) {
            return Ok(None);
        }
        of = Some(curve.of);
        arguments.push(ndarray::Array1::from(curve.values).into_dyn());
    }
    let Some(of) = of else { return Ok(None) };
    let arguments: Vec<Tensor> = arguments.into_iter().map(Tensor::F32).collect();
    let results = eval::node(node, walk.graph, &arguments.iter().map(Some).collect::<Vec<_>>())?;
    let values = results.first().and_then(Tensor::as_f32).map(|v| v.iter().copied().collect::<Vec<_>>());
    let Some(values) = values.filter(|v| v.len() == 256) else { return Ok(None) };
    if let Some(index) = values.iter().position(|v| v.is_nan()) {
        return Err(Error::NonFinite {
            what: format!("node '{}' over its input's range", node.name),
            value: f32::NAN,
            index,
        });
    }
    Ok(Some(Curve { of, values }))
}

fn is_elementwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Relu
            | Op::LeakyRelu { .. }
            | Op::PRelu
            | Op::Clip { .. }
            | Op::Sigmoid
            | Op::Tanh
            | Op::Erf
            | Op::HardSigmoid { .. }
            | Op::HardSwish
            | Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Div
            | Op::Pow
            | Op::Max
            | Op::Min
            | Op::Sqrt
            | Op::Exp
            | Op::Log
            | Op::Neg
            | Op::Abs
            | Op::Reciprocal
    )
}
