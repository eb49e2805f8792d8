//! Backbone and head as one plain ONNX model.
//!
//! The embedding is rounded as the bundle stores it (QuantizeLinear and DequantizeLinear, or a cast to f16 and back), so that the
//! model gives the scores that the device gives; then length 1 where the head asks for it (a row of zeros stays one), one Gemm,
//! and Softmax or Sigmoid.

use hone_runtime::backbone::provider::Provider;
use hone_runtime::backbone::tract::TractModel;
use hone_runtime::head::Kind;
use hone_runtime::quant::EmbeddingKind;
use hone_runtime::{Backbone, HeadView};
use ndarray::{ArrayD, IxDyn, arr0};

use super::{Applied, latency};
use crate::graph::{DType, Dim, Graph, Node, Op, Tensor, Value, ValueId, infer};
use crate::onnx::{self, WriteOptions};
use crate::{Error, Result};

/// Largest difference of a score that the check against the bundle allows.
pub const TOLERANCE: f32 = 1e-3;

/// Inputs that the check runs on.
const CHECKED_INPUTS: usize = 8;

/// Smallest length that an embedding is divided by: below every length that an embedding can have.
const TINY: f32 = 1e-30;

/// A model that was checked against the bundle.
#[derive(Debug)]
pub struct Plain {
    /// Input → scores `[N, classes]`.
    pub graph: Graph,
    /// Largest difference of a score from that of the bundle's backbone and head, both run by tract, over the inputs of the check.
    pub difference: f32,
    /// The same from what the bundle answers with the provider that runs it here, whose integers round otherwise than floats.
    pub provider_difference: f32,
}

/// Joins the bundle's backbone and `head`, and runs the result against them on seeded random inputs and the `inputs` given, on the same
/// provider, so that nothing but the joining can differ.
///
/// # Errors
/// [`Error::Runtime`] for a head of another backbone, [`Error::InvalidModel`] when the scores differ by more than [`TOLERANCE`],
/// and what reading the backbone says.
pub fn join(applied: &Applied<'_>, head: &HeadView<'_>, inputs: &[Vec<f32>]) -> Result<Plain> {
    head.check_backbone(applied.bundle.fingerprint)?;
    let graph = build(applied, head)?;
    let bytes = onnx::encode(&graph, &WriteOptions::default())?;
    let model = TractModel::load(&bytes, 1)?;
    let mut backbone = Provider::load(&applied.bundle, "tract", &applied.settings)?;
    let mut in_use = applied.backbone.clone();
    let random = latency::random_inputs(applied.bundle.input.elements(), CHECKED_INPUTS, 1);
    let (mut difference, mut provider_difference) = (0.0f32, 0.0f32);
    for input in random.iter().chain(inputs) {
        let got = model.run(&[input])?.into_iter().next().unwrap_or_default();
        let both: [(&mut dyn Backbone, &mut f32); 2] =
            [(&mut backbone, &mut difference), (&mut in_use, &mut provider_difference)];
        for (backbone, largest) in both {
            *largest = largest.max(farthest(&got, &scores(backbone, head, input)?));
        }
    }
    if difference > TOLERANCE {
        return Err(Error::InvalidModel {
            model: graph.name,
            why: format!(
                "its scores differ by {difference} from those of {}, {TOLERANCE} is allowed",
                applied.path.display()
            ),
        });
    }
    Ok(Plain { graph, difference, provider_difference })
}

/// Scores of one input by a backbone and a head.
fn scores(backbone: &mut dyn Backbone, head: &HeadView<'_>, input: &[f32]) -> Result<Vec<f32>> {
    let mut row = vec![0; backbone.embedding().row_bytes()];
    backbone.embed(input, &mut row)?;
    let mut scores = vec![0.0; head.classes()];
    head.scores(&row, &mut scores)?;
    Ok(scores)
}

/// The largest difference of two rows of scores; infinite where they are not equally many.
fn farthest(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    a.iter().zip(b).fold(0.0, |most, (x, y)| f32::max(most, (x - y).abs()))
}

fn build(applied: &Applied<'_>, head: &HeadView<'_>) -> Result<Graph> {
    let mut graph = onnx::read_bytes(applied.bundle.backbone, applied.path)?;
    let embedding = match graph.outputs[..] {
        [id] => id,
        _ => return Err(Error::InvalidModel { model: graph.name, why: "its backbone has several outputs".into() }),
    };
    graph.name = if applied.bundle.name.is_empty() { "model".into() } else { applied.bundle.name.into() };
    let mut b = Builder { graph };
    let (dim, classes) = (head.dim(), head.classes());
    let mut at = match head.embedding().kind {
        // A quantized backbone ends with just this rounding.
        EmbeddingKind::Int8(q) if b.ends_with(embedding) == Some((q.scale, i16::from(q.zero_point))) => embedding,
        EmbeddingKind::Int8(q) => {
            let scale = b.constant("embedding_scale", Tensor::F32(arr0(q.scale).into_dyn()));
            let zero = b.constant("embedding_zero_point", Tensor::I8(arr0(q.zero_point).into_dyn()));
            let stored =
                b.node("embedding_stored", DType::I8, Op::QuantizeLinear { axis: 1 }, &[embedding, scale, zero]);
            b.node("embedding_real", DType::F32, Op::DequantizeLinear { axis: 1 }, &[stored, scale, zero])
        }
        EmbeddingKind::F16 => {
            let low = b.node(
                "embedding_bounded",
                DType::F32,
                Op::Clip { min: half::f16::MIN.to_f32(), max: half::f16::MAX.to_f32() },
                &[embedding],
            );
            let stored = b.node("embedding_stored", DType::F16, Op::Cast { to: DType::F16 }, &[low]);
            b.node("embedding_real", DType::F32, Op::Cast { to: DType::F32 }, &[stored])
        }
    };
    if head.unit() {
        let squares = b.node("embedding_squares", DType::F32, Op::Mul, &[at, at]);
        let sum = Op::ReduceSum { axes: vec![1], keepdims: true };
        let sum = b.node("embedding_sum", DType::F32, sum, &[squares]);
        let length = b.node("embedding_length", DType::F32, Op::Sqrt, &[sum]);
        let tiny = b.constant("tiny", Tensor::F32(arr0(TINY).into_dyn()));
        let divisor = b.node("embedding_divisor", DType::F32, Op::Max, &[length, tiny]);
        at = b.node("embedding_unit", DType::F32, Op::Div, &[at, divisor]);
    }
    let mut weights = vec![0.0; classes * dim];
    for (class, row) in weights.chunks_exact_mut(dim).enumerate() {
        head.real_weights(class, row)?;
    }
    let bias: Vec<f32> = (0..classes).filter_map(|class| head.bias(class)).collect();
    let weights = b.constant("head_weights", array(&[classes, dim], weights)?);
    let bias = b.constant("head_bias", array(&[classes], bias)?);
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let plain = matches!(head.kind(), Kind::Regression | Kind::Prototype);
    at = b.node(if plain { "scores" } else { "logits" }, DType::F32, gemm, &[at, weights, bias]);
    match head.kind() {
        Kind::Softmax => at = b.node("scores", DType::F32, Op::Softmax { axis: 1 }, &[at]),
        Kind::Sigmoid => at = b.node("scores", DType::F32, Op::Sigmoid, &[at]),
        Kind::Regression | Kind::Prototype => {}
    }
    let mut graph = b.graph;
    graph.outputs = vec![at];
    infer::infer(&mut graph)?;
    // The batch keeps its name; nothing else is open.
    let batch =
        graph.value(embedding).shape.as_ref().and_then(|s| s.first().cloned()).unwrap_or(Dim::Symbol("N".into()));
    graph.value_mut(at).shape = Some(vec![batch, Dim::Fixed(classes)]);
    Ok(graph)
}

fn array(shape: &[usize], values: Vec<f32>) -> Result<Tensor> {
    let array = ArrayD::from_shape_vec(IxDyn(shape), values);
    array.map(Tensor::F32).map_err(|e| Error::InvalidModel { model: "head".into(), why: e.to_string() })
}

struct Builder {
    graph: Graph,
}

impl Builder {
    fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.graph.add_constant(name, tensor)
    }

    /// Scale and zero point (as int8) of the DequantizeLinear that `id` comes from, past what only changes its shape.
    fn ends_with(&self, mut id: ValueId) -> Option<(f32, i16)> {
        let producers = self.graph.producers();
        loop {
            let node = &self.graph.nodes[producers[id.0]?];
            match node.op {
                Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Identity => {
                    id = (*node.inputs.first()?)?
                }
                Op::DequantizeLinear { .. } => {
                    let constant = |at: usize| self.graph.constant(node.inputs.get(at).copied().flatten());
                    let scale = *constant(1)?.as_f32()?.iter().next()?;
                    let zero = match constant(2)? {
                        Tensor::U8(zero) => i16::from(*zero.iter().next()?) - 128,
                        Tensor::I8(zero) => i16::from(*zero.iter().next()?),
                        _ => return None,
                    };
                    return Some((scale, zero));
                }
                _ => return None,
            }
        }
    }

    fn node(&mut self, name: &str, dtype: DType, op: Op, inputs: &[ValueId]) -> ValueId {
        let id = self.graph.add_value(Value { name: name.to_owned(), dtype: Some(dtype), ..Value::default() });
        let name = self.graph.value(id).name.clone();
        self.graph.nodes.push(Node { name, op, inputs: inputs.iter().copied().map(Some).collect(), outputs: vec![id] });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::BundleFile;
    use hone_runtime::Fingerprint;
    use hone_runtime::bundle::{BundleParts, EmbeddingSpec, InputSpec};
    use hone_runtime::head::{HeadParts, Weights};
    use hone_runtime::quant::QuantParams;

    /// A backbone of one Relu, three wide.
    fn relu() -> Vec<u8> {
        let mut b = Builder { graph: Graph { name: "relu".into(), opset: 13, ..Graph::default() } };
        let shape = Some(vec![Dim::Symbol("N".into()), Dim::Fixed(3)]);
        let x = b.graph.add_value(Value {
            name: "x".into(),
            dtype: Some(DType::F32),
            shape: shape.clone(),
            constant: None,
        });
        let y = b.node("y", DType::F32, Op::Relu, &[x]);
        b.graph.value_mut(y).shape = shape;
        (b.graph.inputs, b.graph.outputs) = (vec![x], vec![y]);
        onnx::encode(&b.graph, &WriteOptions::default()).unwrap()
    }

    /// Every kind of head on both kinds of embedding, a row of zeros among the inputs: [`join`] itself compares the scores.
    #[test]
    fn joined_models_give_the_scores_of_the_bundle_even_for_zeros() {
        let backbone = relu();
        let fingerprint = Fingerprint([3; 16]);
        let int8 = EmbeddingKind::Int8(QuantParams { scale: 1.0 / 127.0, zero_point: 0 });
        for (embedding, unit) in [(int8, true), (int8, false), (EmbeddingKind::F16, true), (EmbeddingKind::F16, false)]
        {
            for kind in [Kind::Softmax, Kind::Sigmoid, Kind::Regression, Kind::Prototype] {
                let embedding = EmbeddingSpec { dim: 3, kind: embedding };
                let record = HeadParts {
                    kind,
                    unit,
                    fingerprint,
                    embedding,
                    labels: &["a", "b"],
                    bias: &[0.25, -0.5],
                    weights: Weights::F32(&[1.0, -2.0, 0.5, 0.0, 1.5, -1.0]),
                };
                let record = record.to_bytes().unwrap();
                let parts = BundleParts {
                    input: InputSpec::new("x", &[3]).unwrap(),
                    embedding,
                    ..BundleParts::new(&backbone, fingerprint)
                };
                let file = BundleFile { path: "relu.hone".into(), bytes: parts.to_bytes().unwrap() };
                let applied = Applied::open(&file).unwrap();
                let head = HeadView::parse(&record).unwrap();
                let plain = join(&applied, &head, &[vec![0.0; 3], vec![-1.0; 3], vec![1.0, 0.0, 0.0]]).unwrap();
                assert!(plain.difference < 1e-6, "{kind:?}, unit {unit}: {}", plain.difference);
            }
        }
    }

    #[test]
    fn a_head_of_another_backbone_is_refused() {
        let backbone = relu();
        let embedding = EmbeddingSpec { dim: 3, kind: EmbeddingKind::F16 };
        let parts = BundleParts {
            input: InputSpec::new("x", &[3]).unwrap(),
            embedding,
            ..BundleParts::new(&backbone, Fingerprint([3; 16]))
        };
        let file = BundleFile { path: "relu.hone".into(), bytes: parts.to_bytes().unwrap() };
        let record = HeadParts {
            kind: Kind::Softmax,
            unit: true,
            fingerprint: Fingerprint([4; 16]),
            embedding,
            labels: &["a"],
            bias: &[0.0],
            weights: Weights::F32(&[1.0; 3]),
        };
        let record = record.to_bytes().unwrap();
        let head = HeadView::parse(&record).unwrap();
        let error = join(&Applied::open(&file).unwrap(), &head, &[]).unwrap_err();
        assert_eq!(error.code(), "fingerprint-mismatch");
    }
}
