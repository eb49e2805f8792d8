//! The original model on the same rows as its bundle, for comparison.

use std::path::{Path, PathBuf};
use std::time::Instant;

use hone_runtime::Backbone as _;
use hone_runtime::backbone::tract::TractModel;
use rayon::prelude::*;

use super::accuracy::{Evaluation, Judge, Matching, best_class};
use super::latency::{self, Line};
use super::{Applied, Progress, backbone};
use crate::data::Source;
use crate::graph::cost::Limit;
use crate::graph::{infer, simplify, text};
use crate::onnx::{self, WriteOptions};
use crate::{Error, Result};

/// A float model that takes the inputs of a bundle's backbone.
pub struct Original {
    path: PathBuf,
    model: TractModel,
    /// What reading, simplifying and loading took, in milliseconds.
    pub load_ms: f64,
}

impl Original {
    /// Reads the model (external data too), simplifies it and loads it for one row at a time.
    ///
    /// # Errors
    /// As [`onnx::read`] and [`Limit::check`]; [`Error::Shape`] where its input is not that of the bundle; what the provider says.
    pub fn open(path: &Path, applied: &Applied<'_>) -> Result<Self> {
        let start = Instant::now();
        let bytes = Self::prepare(path, applied)?;
        let model = TractModel::load(&bytes, 1).map_err(Error::place(path.display()))?;
        let elements: Vec<usize> = model.inputs().iter().map(|port| port.elements()).collect();
        if elements != [applied.bundle.input.elements()] {
            return Err(Error::Shape {
                what: format!("input of {}", path.display()),
                expected: format!("{:?} as in {}", applied.bundle.input.shape(), applied.path.display()),
                got: model.inputs().iter().map(|port| format!("{:?}", port.shape)).collect::<Vec<_>>().join(", "),
            });
        }
        Ok(Self { path: path.to_path_buf(), model, load_ms: start.elapsed().as_secs_f64() * 1e3 })
    }

    /// An ONNX file in one piece: the model, simplified, for one row at a time, with its first output alone.
    ///
    /// # Errors
    /// As [`onnx::read`] and [`Limit::check`].
    pub(crate) fn prepare(path: &Path, applied: &Applied<'_>) -> Result<Vec<u8>> {
        let mut graph = onnx::read(path)?;
        let tokens = applied.bundle.input.shape().last().copied();
        text::merge_inputs(&mut graph, tokens).map_err(|error| error.in_model(path))?;
        simplify(&mut graph)?;
        infer::with_batch(&mut graph, 1)?;
        // Room for a head behind the backbone, and for a backbone that was exported with a higher limit.
        let limit = Limit::default();
        let cost = backbone::check(applied.bundle.backbone, applied.path)?;
        let limit = Limit {
            operations: limit.operations.max(cost.operations.saturating_mul(2)),
            activation_bytes: limit.activation_bytes.max(cost.activation_bytes.saturating_mul(2)),
        };
        limit.check(&graph).map_err(|error| error.in_model(path))?;
        graph.outputs.truncate(1);
        onnx::encode(&graph, &WriteOptions::default())
    }

    /// The model's first output for one input.
    ///
    /// # Errors
    /// What the provider says.
    pub fn scores(&self, input: &[f32]) -> Result<Vec<f32>> {
        let outputs = self.model.run(&[input]).map_err(Error::place(self.path.display()))?;
        Ok(outputs.into_iter().next().unwrap_or_default())
    }

    /// The model's first output for every row of `source`, in order.
    ///
    /// # Errors
    /// As [`Applied::embed`].
    pub fn run(
        &self,
        applied: &Applied<'_>,
        source: &mut Source,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut out = Vec::with_capacity(source.len());
        while out.len() < source.len() {
            let batch = out.len()..(out.len() + super::BATCH).min(source.len());
            let inputs: Vec<Vec<f32>> =
                batch.map(|at| applied.preprocessor.apply(&source.row(at)?)).collect::<Result<_>>()?;
            out.extend(inputs.par_iter().map(|input| self.scores(input)).collect::<Result<Vec<_>>>()?);
            progress(out.len(), source.len());
        }
        Ok(out)
    }

    /// Times the model, row by row, on one thread.
    ///
    /// # Errors
    /// As [`Original::scores`]; [`Error::Setting`] for no runs at all.
    pub fn latency(&self, inputs: &[Vec<f32>], runs: usize) -> Result<Line> {
        let [p50_us, p90_us, p99_us] = latency::time(inputs, runs, |input| self.scores(input).map(|_| ()))?;
        Ok(Line {
            provider: "tract".into(),
            kernel: "tract".into(),
            precision: "fp32",
            threads: 1,
            load_ms: self.load_ms,
            p50_us,
            p90_us,
            p99_us,
            peak_rss_bytes: latency::peak_rss_bytes(),
            agreement: None,
        })
    }

    /// Share of rows whose best class is the same for the bundle's own head on a provider and for this model; none where the bundle has
    /// no head, or one of other classes.
    ///
    /// # Errors
    /// What the provider says.
    pub fn agreement(&self, applied: &Applied<'_>, provider: &str, inputs: &[Vec<f32>]) -> Result<Option<f64>> {
        let Some(head) = applied.bundle.head else { return Ok(None) };
        let mut backbone = latency::load(applied, provider)?;
        let mut row = vec![0; applied.bundle.embedding.row_bytes()];
        let mut same = 0;
        for input in inputs {
            let scores = self.scores(input)?;
            if scores.len() != head.classes() {
                return Ok(None);
            }
            backbone.embed(input, &mut row)?;
            same += usize::from(best_class(&scores) == Some(head.predict(&row)?.class));
        }
        Ok((!inputs.is_empty()).then(|| same as f64 / inputs.len() as f64))
    }

    /// Accuracy on labelled rows. The model's classes are the labels of the bundle's own head, or the classes of the data where
    /// those are as many as the model's outputs.
    ///
    /// # Errors
    /// [`Error::Label`] when the outputs cannot be named (those of a model that gives an embedding are no classes) or a class is unknown; as
    /// [`Original::run`].
    pub fn evaluate(
        &self,
        applied: &Applied<'_>,
        source: &mut Source,
        matching: Matching,
        restricted: bool,
        progress: &mut Progress<'_>,
    ) -> Result<Evaluation> {
        let truths = source.labels()?;
        let scores = self.run(applied, source, progress)?;
        let width = scores.first().map_or(0, Vec::len);
        let classes = source.classes().to_vec();
        let own: Vec<&str> = applied.bundle.labels().map(|labels| labels.iter().collect()).unwrap_or_default();
        let names = class_names(own, &classes, width).map_err(|why| Error::Label {
            path: source.path().to_path_buf(),
            why: format!("{} {why}", self.path.display()),
        })?;
        let judge = Judge::new(&truths, &classes, &names, matching)
            .map_err(|why| Error::Label { path: source.path().to_path_buf(), why })?;
        judge.count(restricted, |row| Ok(scores[row].clone()))
    }
}

/// What the `width` outputs of the original are called: as the bundle's own classes, or as those of the data. Else why they have no names.
fn class_names<'a>(own: Vec<&'a str>, data: &'a [String], width: usize) -> std::result::Result<Vec<&'a str>, String> {
    if own.len() == width {
        return Ok(own);
    }
    if data.len() == width {
        return Ok(data.iter().map(String::as_str).collect());
    }
    Err(match own.len() {
        0 => format!(
            "has {width} outputs that are not known to be classes: the bundle has none of its own (its backbone gives an embedding) and the \
             data has {}; there is nothing to compare: leave --original out",
            data.len()
        ),
        own => format!("has {width} outputs, the bundle names {own} classes and the data {}", data.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named_by_the_bundle_or_the_data() {
        let data = ["a", "b"].map(str::to_owned);
        assert_eq!(class_names(vec!["x", "y"], &data, 2).unwrap(), ["x", "y"]);
        assert_eq!(class_names(vec!["x", "y", "z"], &data, 2).unwrap(), ["a", "b"]);
        assert_eq!(class_names(Vec::new(), &data, 2).unwrap(), ["a", "b"]);
        let why = class_names(vec!["x"], &data, 384).unwrap_err();
        assert!(why.contains("384 outputs, the bundle names 1 classes and the data 2"), "{why}");
        let why = class_names(Vec::new(), &data, 384).unwrap_err();
        assert!(why.contains("none of its own") && why.contains("leave --original out"), "{why}");
    }
}
