//! The export from end to end: read, simplify, split, calibrate, quantize, verify, write.
//!
//! Everything is made and verified in memory (large intermediate tensors in unnamed temporary files) before the first file
//! is written; files appear complete or not at all, the bundle last.

mod assemble;
mod rows;
mod write;

use std::path::PathBuf;
use std::time::Instant;

use hone_runtime::bundle::Preprocess;

use crate::data::{Options as DataOptions, Source};
use crate::graph::cost::Limit;
use crate::graph::{self, Graph, Op, ValueId};
use crate::quantize::{self, LayerReport};
use crate::split::{self, Cut, HeadKind, Split};
use crate::verify::{self, Agreement, Candidate};
use crate::{Error, Result, onnx};

pub use assemble::{CANARIES_PER_CLASS, Native};
pub use quantize::{Precision, Preset};

/// What to export and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// ONNX file.
    pub model: PathBuf,
    /// Calibration data.
    pub calibration: PathBuf,
    /// Its parts.
    pub data: DataOptions,
    /// From a row to the model's input.
    pub preprocess: Preprocess,
    /// Tokens of a text, one a line; needed where [`Request::preprocess`] is that of a text.
    pub vocabulary: Option<PathBuf>,
    /// Folder to write.
    pub out: PathBuf,
    /// Name of the bundle; `None`: the folder's.
    pub name: Option<String>,
    /// Where the backbone ends; `None`: before the last classifier.
    pub cut: Option<String>,
    /// What the files are meant for. It is written down beside them; the settings are those below.
    pub preset: Preset,
    /// Precision of the backbone.
    pub precision: Precision,
    /// Whether the files take one row at a time, instead of any number.
    pub fixed_batch: bool,
    /// Settings of the quantizer.
    pub quantize: quantize::Options,
    /// Calibration rows used at most.
    pub calibration_rows: usize,
    /// Least agreement with the original, 0..=1.
    pub least_agreement: f64,
    /// Names of the model's own classes.
    pub model_classes: Option<Vec<String>>,
    /// What evaluating one row may cost at most.
    pub limit: Limit,
    /// Whether files may be replaced.
    pub force: bool,
}

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the bundle.
    pub name: String,
    /// What was rewritten while reading.
    pub summary: graph::Summary,
    /// Where the model was cut.
    pub cut: Cut,
    /// Why there is no base head, where there is none.
    pub no_head: Option<String>,
    /// Against the original.
    pub agreement: Agreement,
    /// Layer by layer: int8 on the calibration rows, fp16 on the rows of the verification.
    pub layers: Vec<LayerReport>,
    /// Size of the model's file.
    pub bytes_before: u64,
    /// Size of the quantized model's file.
    pub bytes_after: u64,
    /// Calibration rows used.
    pub calibration_rows: usize,
    /// Canaries in the bundle.
    pub canaries: usize,
    /// For a text encoder: words of the vocabulary, and rows of the model's table of embeddings, which are never fewer.
    pub words: Option<[usize; 2]>,
    /// The backbone on the native engine.
    pub native: Native,
    /// Files written, the bundle last.
    pub files: Vec<PathBuf>,
    /// Wall time.
    pub seconds: f64,
}

impl Outcome {
    /// The bundle's file.
    #[must_use]
    pub fn bundle(&self) -> &std::path::Path {
        self.files.last().map_or_else(|| std::path::Path::new(""), PathBuf::as_path)
    }
}

/// Runs the export. `progress` is called with the stage's name and (done, total) within it.
///
/// # Errors
/// Those of every stage; nothing is written then.
pub fn run(request: &Request, progress: &mut dyn FnMut(&str, usize, usize)) -> Result<Outcome> {
    stages(request, progress).map_err(|error| error.in_model(&request.model))
}

fn stages(request: &Request, progress: &mut dyn FnMut(&str, usize, usize)) -> Result<Outcome> {
    let start = Instant::now();
    let name = bundle_name(request)?;
    let planned = write::plan(request, &name)?;
    progress("read", 0, 1);
    let mut model = onnx::read(&request.model)?;
    let bytes_before = std::fs::metadata(&request.model).map_err(Error::io(&request.model))?.len();
    let tokens = match &request.preprocess {
        Preprocess::Text(prep) => Some(prep.tokens as usize),
        _ => None,
    };
    let merged = graph::text::merge_inputs(&mut model, tokens)?;
    rows::check_text(request, &model, tokens, merged)?;
    graph::weights::check(&model)?;
    let summary = graph::simplify(&mut model)?;
    // Sums and quotients of finite weights may be too large, too.
    graph::weights::check(&model)?;
    graph::infer::make_batch_dynamic(&mut model)?;
    let cost = request.limit.check(&model)?;
    let split = split::choose(&model, request.cut.as_deref())?;
    let (whole, embedding) = with_embedding(&model, &split.cut)?;
    let mut rows = rows::Calibration::open(request, &model)?;
    let words = rows.check_vocabulary(request, &model)?;
    let is_classifier = is_classifier(&whole, &split);

    let (mut written, mut layers, embedding_kind) = match request.precision {
        Precision::Int8 => {
            let scratch = write::scratch_folder(&request.out)?;
            let quantized =
                quantize::int8(&whole, embedding, &mut rows, &request.quantize, &scratch, &mut |done, total| {
                    progress("quantize", done, total);
                })?;
            (quantized.graph, quantized.layers, assemble::int8_kind(quantized.embedding))
        }
        Precision::Fp16 => (quantize::fp16::convert(&whole)?, Vec::new(), assemble::fp16_kind()),
    };
    if request.fixed_batch {
        graph::infer::with_batch(&mut written, 1)?;
    }
    progress("verify", 0, 1);
    let (inputs, held_out) = rows.verification(cost.macs)?;
    let candidate = Candidate { original: &whole, written: &written, is_classifier };
    let agreement = match request.precision {
        Precision::Int8 => verify::compare(&candidate, &inputs, held_out)?,
        Precision::Fp16 => {
            let (agreement, by_layer) = verify::half::compare(&candidate, &inputs, held_out)?;
            layers = by_layer;
            agreement
        }
    };
    verify::accept(&agreement, request.precision.name(), request.least_agreement, &layers)?;

    progress("bundle", 0, 1);
    let parts = assemble::Parts {
        request,
        name: &name,
        split: &split,
        written: &written,
        embedding_kind,
        agreement: &agreement,
    };
    let files = parts.encode(&mut rows)?;
    let bytes_after = files.model.len() as u64;
    let (canaries, native) = (files.canaries, files.native.clone());
    let paths = planned.write(&files)?;
    Ok(Outcome {
        name,
        summary,
        no_head: split
            .not_linear
            .clone()
            .or_else(|| split.head.is_none().then(|| "the model has no linear last layer".into())),
        cut: split.cut,
        agreement,
        layers,
        bytes_before,
        bytes_after,
        calibration_rows: rows.used(),
        canaries,
        words,
        native,
        files: paths,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn bundle_name(request: &Request) -> Result<String> {
    let from_folder = || request.out.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    let name = request.name.clone().or_else(from_folder).unwrap_or_else(|| "model".into());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(Error::Setting {
            name: "--name".into(),
            why: format!("'{name}' is no plain file name: letters, digits, '-', '_' and '.' are allowed"),
        });
    }
    Ok(name)
}

/// The model with its embedding as an additional, last output.
fn with_embedding(model: &Graph, cut: &Cut) -> Result<(Graph, ValueId)> {
    let mut out = model.clone();
    let end = split::embedding(&mut out, cut);
    out.outputs.push(end);
    graph::infer::infer(&mut out)?;
    Ok((out, end))
}

/// Only some of the outputs, without what they do not need.
fn restricted(graph: &Graph, outputs: Vec<ValueId>) -> Graph {
    let mut out = graph.clone();
    out.outputs = outputs;
    graph::fold::remove_dead(&mut out);
    out
}

fn is_classifier(whole: &Graph, split: &Split) -> bool {
    let ends_in_softmax =
        whole.producers()[whole.outputs[0].0].is_some_and(|i| matches!(whole.nodes[i].op, Op::Softmax { .. }));
    ends_in_softmax || split.head.as_ref().is_some_and(|h| h.kind == HeadKind::Classification)
}

/// Opens a source with `data`, keeping its error.
fn open(path: &std::path::Path, data: &DataOptions) -> Result<Source> {
    Source::open(path, data)
}
