//! The ONNX files and the bundle, as bytes.

use hone_runtime::Fingerprint;
use hone_runtime::backbone::Backbone as _;
use hone_runtime::backbone::provider::Provider;
use hone_runtime::backbone::{native::NativeBackbone, tract::TractBackbone};
use hone_runtime::bundle::{BundleParts, InputSpec, Precision as BundlePrecision, Statistics};
use hone_runtime::head::{HeadParts, HeadView, Kind, Weights};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams, symmetric_row};
use sha2::{Digest as _, Sha256};

use super::rows::Calibration;
use super::{Precision, Request, restricted};
use crate::graph::{Graph, Tensor};
use crate::lower::HalfOutput;
use crate::quantize::{Rows as _, Step};
use crate::split::{Activation, HeadKind, LinearHead, Split};
use crate::verify::Agreement;
use crate::{Error, Result, lower, onnx};

/// Canaries that a bundle carries for each class, at most.
pub const CANARIES_PER_CLASS: usize = 10;

/// How an embedding is stored when the backbone gives uint8 steps: the same steps as int8.
pub(super) fn int8_kind(step: Step) -> EmbeddingKind {
    EmbeddingKind::Int8(QuantParams { scale: step.scale, zero_point: (i16::from(step.zero_point) - 128) as i8 })
}

pub(super) fn fp16_kind() -> EmbeddingKind {
    EmbeddingKind::F16
}

/// What the files are made from.
pub(super) struct Parts<'a> {
    pub request: &'a Request,
    pub name: &'a str,
    pub split: &'a Split,
    /// Outputs: the model's, then the embedding.
    pub written: &'a Graph,
    pub embedding_kind: EmbeddingKind,
    pub agreement: &'a Agreement,
}

/// The files' bytes.
pub(super) struct Files {
    pub backbone: Vec<u8>,
    pub head: Option<Vec<u8>>,
    pub model: Vec<u8>,
    pub bundle: Vec<u8>,
    pub canaries: usize,
    pub native: Native,
}

/// Whether the native engine runs the backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Native {
    /// It does.
    Plan {
        /// Size of the plan, weights included.
        bytes: usize,
        /// Working memory that it needs.
        arena_bytes: usize,
    },
    /// It does not, and why: node, operator, cause.
    Refused(String),
}

impl Parts<'_> {
    pub fn encode(&self, rows: &mut Calibration) -> Result<Files> {
        let options = onnx::WriteOptions::default();
        let Some((&embedding, outputs)) = self.written.outputs.split_last() else {
            return Err(Error::InvalidModel { model: self.written.name.clone(), why: "no outputs".into() });
        };
        let model = onnx::encode(&restricted(self.written, outputs.to_vec()), &options)?;
        let backbone_graph = restricted(self.written, vec![embedding]);
        let backbone = onnx::encode(&backbone_graph, &options)?;
        let head = self.split.head_graph.as_ref().map(|g| onnx::encode(g, &options)).transpose()?;
        let (bundle, canaries, native) = self.bundle(&backbone_graph, &backbone, rows)?;
        Ok(Files { backbone, head, model, bundle, canaries, native })
    }

    fn bundle(&self, graph: &Graph, backbone: &[u8], rows: &mut Calibration) -> Result<(Vec<u8>, usize, Native)> {
        let digest = Sha256::digest(backbone);
        let mut fingerprint = [0u8; 16];
        fingerprint.copy_from_slice(&digest[..16]);
        let fingerprint = Fingerprint(fingerprint);
        let spec = EmbeddingSpec { dim: self.split.cut.width, kind: self.embedding_kind };
        let shape = super::rows::input_shape(graph)?;
        let lowered = self.lowered(graph)?;
        // What a device will see: the native engine's embeddings, where it runs the model.
        let mut provider = match &lowered {
            Ok(lowered) => {
                let native =
                    NativeBackbone::from_plan(lowered.read()?, hone_runtime::kernels::best()?, &shape[1..], spec)?;
                Provider::Native(Box::new(native))
            }
            Err(_) => Provider::Tract(TractBackbone::from_onnx(backbone, &shape[1..], spec)?),
        };

        let mut embeddings: Vec<u8> = Vec::new();
        for i in 0..rows.len() {
            let input = rows.row(i)?;
            let mut row = vec![0; spec.row_bytes()];
            provider.embed(values(&input)?, &mut row)?;
            embeddings.extend(row);
        }
        let (mean, mean_squared_norm) = statistics(&spec, &embeddings)?;
        let head = self.split.head.as_ref().map(|head| self.base_head(head, spec, fingerprint)).transpose()?;
        let canaries = match &head {
            Some(bytes) if self.split.head.as_ref().is_some_and(|h| h.kind == HeadKind::Classification) => {
                choose_canaries(&HeadView::parse(bytes)?, &spec, &embeddings, rows)?
            }
            _ => (Vec::new(), Vec::new()),
        };
        let facts = serde_json::json!({
            "agreement": self.agreement,
            "cut": self.split.cut.tensor,
            "preset": self.request.preset.name(),
            "calibration_rows": rows.len(),
            "source_file": self.request.model.file_name().and_then(|n| n.to_str()),
        })
        .to_string();
        let made_by = concat!("hone ", env!("CARGO_PKG_VERSION"));
        let parts = BundleParts {
            name: self.name,
            made_by,
            precision: match self.request.precision {
                Precision::Int8 => BundlePrecision::Int8,
                Precision::Fp16 => BundlePrecision::Fp16,
            },
            input: InputSpec::new(&graph.value(graph.inputs[0]).name, &shape[1..])?,
            embedding: spec,
            preprocess: self.request.preprocess.clone(),
            vocabulary: rows.vocabulary(),
            statistics: Some(Statistics { rows: rows.len() as u32, mean_squared_norm, mean: &mean }),
            head: head.as_deref(),
            canaries: (!canaries.0.is_empty()).then_some((&canaries.0[..], &canaries.1[..])),
            facts: Some(&facts),
            plan: lowered.as_ref().ok().map(|lowered| lowered.plan.as_slice()),
            ..BundleParts::new(backbone, fingerprint)
        };
        let native = match &lowered {
            Ok(lowered) => Native::Plan { bytes: lowered.plan.len(), arena_bytes: lowered.read()?.arena_bytes() },
            Err(why) => Native::Refused(why.clone()),
        };
        Ok((parts.to_bytes()?, canaries.0.len(), native))
    }

    /// The backbone as a plan, or why the native engine does not run it.
    fn lowered(&self, graph: &Graph) -> Result<Result<lower::Lowered, String>> {
        let lowered = match self.request.precision {
            Precision::Int8 => lower::int8(graph),
            Precision::Fp16 => lower::fp16(graph, HalfOutput::F16),
        };
        match lowered {
            Ok(lowered) => Ok(Ok(lowered)),
            Err(why @ Error::Unsupported { .. }) => Ok(Err(why.to_string())),
            Err(other) => Err(other),
        }
    }

    /// The model's own last layer as a head record, int8 rows.
    fn base_head(&self, head: &LinearHead, spec: EmbeddingSpec, fingerprint: Fingerprint) -> Result<Vec<u8>> {
        let classes = head.weights.nrows();
        let names: Vec<String> = match &self.request.model_classes {
            Some(names) if names.len() == classes => names.clone(),
            Some(names) => {
                return Err(Error::Setting {
                    name: "--model-classes".into(),
                    why: format!("{} names for the model's {classes} outputs", names.len()),
                });
            }
            None => (0..classes).map(|i| i.to_string()).collect(),
        };
        let labels: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut steps = vec![0i8; head.weights.len()];
        let mut scales = Vec::with_capacity(classes);
        for (row, steps) in head.weights.rows().into_iter().zip(steps.chunks_mut(spec.dim)) {
            scales.push(symmetric_row(&row.to_vec(), steps)?);
        }
        let kind = match (head.kind, head.activation) {
            (HeadKind::Regression, _) => Kind::Regression,
            (HeadKind::MultiLabel, _) | (_, Activation::Sigmoid) => Kind::Sigmoid,
            (HeadKind::Classification, _) => Kind::Softmax,
        };
        let parts = HeadParts {
            kind,
            unit: false,
            fingerprint,
            embedding: spec,
            labels: &labels,
            bias: &head.bias,
            weights: Weights::Int8 { scales: &scales, rows: &steps },
        };
        Ok(parts.to_bytes()?)
    }
}

/// The mean embedding as a stored row, and the mean squared distance from it.
fn statistics(spec: &EmbeddingSpec, embeddings: &[u8]) -> Result<(Vec<u8>, f32)> {
    let rows: Vec<Vec<f32>> = embeddings
        .chunks_exact(spec.row_bytes())
        .map(|row| {
            let mut real = vec![0.0; spec.dim];
            spec.dequantize_row(row, &mut real)?;
            Ok(real)
        })
        .collect::<Result<_>>()?;
    let n = rows.len().max(1) as f64;
    let mean: Vec<f32> =
        (0..spec.dim).map(|d| (rows.iter().map(|r| f64::from(r[d])).sum::<f64>() / n) as f32).collect();
    let mut stored = vec![0; spec.row_bytes()];
    spec.quantize_row(&mean, &mut stored)?;
    let mut on_grid = vec![0.0; spec.dim];
    spec.dequantize_row(&stored, &mut on_grid)?;
    let distance = |row: &Vec<f32>| row.iter().zip(&on_grid).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    Ok((stored, (rows.iter().map(distance).sum::<f64>() / n) as f32))
}

/// Calibration embeddings that the base head answers with their class: the data's label where its name is one of the model's
/// classes, the head's own answer where there is no label or where the data's classes are others. An example that is answered wrongly cannot tell forgetting.
fn choose_canaries(
    head: &HeadView<'_>,
    spec: &EmbeddingSpec,
    embeddings: &[u8],
    rows: &Calibration,
) -> Result<(Vec<u16>, Vec<u8>)> {
    let known = rows.class_names().iter().any(|name| head.labels().iter().any(|label| label == name));
    let mut count = vec![0usize; head.classes()];
    let (mut classes, mut kept) = (Vec::new(), Vec::new());
    for (i, row) in embeddings.chunks_exact(spec.row_bytes()).enumerate() {
        let answer = head.predict(row)?.class;
        let agrees = !known || rows.class_name(i).is_none_or(|name| head.label(answer) == Some(name.as_str()));
        if agrees && count[answer] < CANARIES_PER_CLASS {
            count[answer] += 1;
            classes.push(answer as u16);
            kept.extend_from_slice(row);
        }
    }
    Ok((classes, kept))
}

fn values(tensor: &Tensor) -> Result<&[f32]> {
    tensor.as_f32().and_then(|d| d.as_slice()).ok_or_else(|| Error::Shape {
        what: "calibration row".into(),
        expected: "float32".into(),
        got: format!("{:?}", tensor.dtype()),
    })
}
