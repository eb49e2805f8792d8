//! Runs the written model against the original, on rows that calibration did not see where there are any.
//!
//! The original is evaluated in f32. The written bytes of an int8 file run through tract, so that what is judged is the file and not our
//! own arithmetic; those of an fp16 file are read back and evaluated with every stored value rounded to f16 ([`half`]).

pub mod half;

use std::borrow::Cow;

use hone_runtime::backbone::tract::TractModel;
use rayon::prelude::*;

use crate::apply::accuracy::best_class;
use crate::graph::{Graph, Node, Op, Tensor, ValueId, eval::Evaluator};
use crate::quantize::LayerReport;
use crate::{Error, Result};

/// How well the written model follows the original.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Agreement {
    /// Share of rows with the same answer (largest output); `None` where the outputs are no class scores.
    pub top1: Option<f64>,
    /// Signal to noise of the scores before softmax, or of the embedding where there are none, in dB.
    pub sqnr_db: f64,
    /// Mean cosine of the embeddings.
    pub cosine: f64,
    /// Signal to noise of the embeddings in dB.
    pub embedding_sqnr_db: f64,
    /// Rows compared.
    pub rows: usize,
    /// Whether calibration did not see them.
    pub held_out: bool,
}

/// What is compared. Both graphs have the same outputs: the model's, then the embedding.
pub struct Candidate<'a> {
    /// The original.
    pub original: &'a Graph,
    /// The quantized graph, as it is written.
    pub written: &'a Graph,
    /// Whether the first output is class scores.
    pub is_classifier: bool,
}

/// The graph with its first output taken before a final softmax, so that noise is measured where it arises. Casts and quantization behind
/// the softmax are passed over; the scores keep the type that they are computed in.
#[must_use]
pub fn before_softmax(graph: &Graph) -> Graph {
    let mut out = graph.clone();
    let producers = graph.producers();
    let maker = |id: ValueId| producers[id.0].map(|i| &graph.nodes[i]);
    let mut last = out.outputs.first().copied();
    while let Some(Node {
        op: Op::Cast { .. } | Op::QuantizeLinear { .. } | Op::DequantizeLinear { .. }, inputs, ..
    }) = last.and_then(maker)
    {
        last = inputs.first().copied().flatten();
    }
    if let Some(Node { op: Op::Softmax { .. }, inputs, .. }) = last.and_then(maker)
        && let Some(Some(scores)) = inputs.first()
        && !out.outputs.contains(scores)
    {
        out.outputs[0] = *scores;
        crate::graph::fold::remove_dead(&mut out);
    }
    out
}

/// Compares on `inputs`, each `[1, …]`, running the written graph in tract.
///
/// # Errors
/// What evaluation and tract meet; [`Error::Data`] is the caller's to avoid: `inputs` must not be empty.
pub fn compare(candidate: &Candidate<'_>, inputs: &[Tensor], held_out: bool) -> Result<Agreement> {
    let (original, written) = (before_softmax(candidate.original), before_softmax(candidate.written));
    let evaluator = Evaluator::new(&original)?;
    let bytes = crate::onnx::encode(&written, &crate::onnx::WriteOptions::default())?;
    let shape = inputs.first().map(|t| t.shape().to_vec()).unwrap_or_default();
    let model = TractModel::load_with_shapes(&bytes, &[&shape])?;
    let rows: Vec<Row> = inputs
        .par_iter()
        .map(|input| {
            let reference = evaluator.run(std::slice::from_ref(input))?;
            let given = model.run(&[&floats(input)?])?;
            let (scores, embedding) = (floats(&reference[0])?, floats(&reference[reference.len() - 1])?);
            let mut row = Row::default();
            row.add(&scores, &given[0], &embedding, &given[given.len() - 1]);
            Ok(row)
        })
        .collect::<Result<_>>()?;
    Ok(Agreement::of(rows.into_iter(), candidate.is_classifier, held_out))
}

impl Agreement {
    fn of(rows: impl Iterator<Item = Row>, is_classifier: bool, held_out: bool) -> Self {
        let (count, sum) = rows.fold((0usize, Row::default()), |(n, a), b| {
            let sum = Row {
                same: a.same + b.same,
                cosine: a.cosine + b.cosine,
                scores: (a.scores.0 + b.scores.0, a.scores.1 + b.scores.1),
                embedding: (a.embedding.0 + b.embedding.0, a.embedding.1 + b.embedding.1),
            };
            (n + 1, sum)
        });
        let n = count.max(1) as f64;
        Self {
            top1: is_classifier.then(|| sum.same / n),
            sqnr_db: decibels(sum.scores),
            cosine: sum.cosine / n,
            embedding_sqnr_db: decibels(sum.embedding),
            rows: count,
            held_out,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    same: f64,
    cosine: f64,
    /// Power of signal and of error.
    scores: (f64, f64),
    embedding: (f64, f64),
}

impl Row {
    fn add(&mut self, scores: &[f32], given_scores: &[f32], embedding: &[f32], given_embedding: &[f32]) {
        self.same = f64::from(u8::from(best_class(scores) == best_class(given_scores)));
        self.scores = powers(scores, given_scores);
        self.embedding = powers(embedding, given_embedding);
        let dot: f64 = embedding.iter().zip(given_embedding).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        let norms = norm(embedding) * norm(given_embedding);
        self.cosine =
            if norms > 0.0 { dot / norms } else { f64::from(u8::from(norm(embedding) == norm(given_embedding))) };
    }
}

fn powers(reference: &[f32], given: &[f32]) -> (f64, f64) {
    reference.iter().zip(given).fold((0.0, 0.0), |(signal, error), (&a, &b)| {
        (signal + f64::from(a) * f64::from(a), error + f64::from(a - b) * f64::from(a - b))
    })
}

/// 10·log10(signal / error), at most 200 so that it stays a number in JSON.
#[must_use]
pub fn decibels((signal, error): (f64, f64)) -> f64 {
    if error > 0.0 { (10.0 * (signal / error).log10()).clamp(-200.0, 200.0) } else { 200.0 }
}

/// A tensor's numbers, row-major; f16 widened.
fn floats(tensor: &Tensor) -> Result<Cow<'_, [f32]>> {
    match tensor {
        Tensor::F32(a) => Ok(a.as_slice().map_or_else(|| a.iter().copied().collect(), Cow::Borrowed)),
        Tensor::F16(a) => Ok(a.iter().map(|v| v.to_f32()).collect()),
        other => Err(Error::Shape {
            what: "tensor".into(),
            expected: "floating-point numbers".into(),
            got: format!("{:?}", other.dtype()),
        }),
    }
}

/// Refuses a model that no longer agrees with the original, naming the layers where most was lost.
///
/// # Errors
/// [`Error::Collapsed`].
pub fn accept(agreement: &Agreement, precision: &str, least: f64, layers: &[LayerReport]) -> Result<()> {
    let (value, what) = match agreement.top1 {
        Some(top1) => (top1, "top-1 agreement"),
        None => (agreement.cosine, "cosine of the embeddings"),
    };
    if value >= least {
        return Ok(());
    }
    Err(Error::Collapsed {
        precision: precision.to_owned(),
        why: format!("{what} {value:.3} on {} rows is below {least:.3}", agreement.rows),
        layers: at_fault(layers, 5),
    })
}

/// The layers at which most signal-to-noise ratio is lost against the layer before, worst first.
#[must_use]
pub fn at_fault(layers: &[LayerReport], count: usize) -> Vec<String> {
    let mut drops: Vec<(f64, String)> = Vec::new();
    let mut before = 60.0f64;
    for layer in layers.iter().filter(|l| l.quantized) {
        let now = layer.sqnr_db.clamp(-60.0, 60.0);
        drops.push((before - now, format!("{} ({}, {now:.1} dB)", layer.name, layer.op)));
        before = now;
    }
    drops.sort_by(|a, b| b.0.total_cmp(&a.0));
    drops.into_iter().take(count).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, sqnr_db: f64) -> LayerReport {
        LayerReport { name: name.into(), op: "Conv".into(), sqnr_db, quantized: true, strength: None }
    }

    #[test]
    fn a_collapsed_model_names_the_layer_where_the_signal_was_lost() {
        let layers = [layer("a", 40.0), layer("b", 38.0), layer("c", 2.0), layer("d", 1.5)];
        assert!(at_fault(&layers, 2)[0].starts_with("c "));
        let agreement =
            Agreement { top1: Some(0.1), sqnr_db: 1.0, cosine: 0.2, embedding_sqnr_db: 1.0, rows: 10, held_out: true };
        let error = accept(&agreement, "int8", 0.8, &layers).expect_err("collapsed");
        assert_eq!(error.code(), "collapsed");
        assert!(error.to_string().contains("c (Conv, 2.0 dB)"), "{error}");
        assert!(accept(&Agreement { top1: None, cosine: 0.99, ..agreement }, "int8", 0.8, &layers).is_ok());
    }
}
