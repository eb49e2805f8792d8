//! The writer: collects the sections, then has the reader accept the file before anyone else sees it.

use crate::prelude::*;

use super::container::{ALIGN, MANDATORY, Section, assemble, kind};
use super::{Bundle, InputSpec, Precision, Preprocess, Statistics};
use crate::backbone::Fingerprint;
use crate::bytes::Writer;
use crate::error::{Error, Result};
use crate::head::{Labels, MAX_CLASSES, write_embedding};
use crate::plan::Plan;
use crate::quant::{EmbeddingKind, EmbeddingSpec};

/// What a bundle holds, for writing one.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleParts<'a> {
    /// Name of the model.
    pub name: &'a str,
    /// Program and version that exports it.
    pub made_by: &'a str,
    /// Numbers that the backbone computes with.
    pub precision: Precision,
    /// The backbone, an ONNX file whose only output is the embedding.
    pub backbone: &'a [u8],
    /// The backbone compiled for the native engine.
    pub plan: Option<&'a [u8]>,
    /// The backbone's input.
    pub input: InputSpec<'a>,
    /// Shape and storage of the embedding.
    pub embedding: EmbeddingSpec,
    /// First 16 bytes of SHA-256 over `backbone`.
    pub fingerprint: Fingerprint,
    /// How a row of data becomes the input.
    pub preprocess: Preprocess,
    /// Tokens of a text, one a line; needed where the input is one ([`Preprocess::Text`]).
    pub vocabulary: Option<&'a str>,
    /// What calibration saw.
    pub statistics: Option<Statistics<'a>>,
    /// A head record ([`crate::head::HeadParts`]); its fingerprint and embedding must be the bundle's.
    pub head: Option<&'a [u8]>,
    /// Class labels where there is no head; with a head they are its labels.
    pub labels: Option<&'a [&'a str]>,
    /// Classes (indices into the labels) and as many embedding rows.
    pub canaries: Option<(&'a [u16], &'a [u8])>,
    /// Export facts for people, JSON.
    pub facts: Option<&'a str>,
}

impl<'a> BundleParts<'a> {
    /// A bundle of `backbone` alone; every other field is to be set: no name, an input of one value, an embedding of
    /// one f16, no preprocessing, nothing optional.
    #[must_use]
    pub fn new(backbone: &'a [u8], fingerprint: Fingerprint) -> Self {
        Self {
            name: "",
            made_by: "",
            precision: Precision::Fp32,
            backbone,
            plan: None,
            input: InputSpec { name: "", shape: heapless::Vec::new() },
            embedding: EmbeddingSpec { dim: 1, kind: EmbeddingKind::F16 },
            fingerprint,
            preprocess: Preprocess::None,
            vocabulary: None,
            statistics: None,
            head: None,
            labels: None,
            canaries: None,
            facts: None,
        }
    }

    /// The file's bytes. Equal parts give equal bytes.
    ///
    /// # Errors
    /// Whatever [`Bundle::parse`] would refuse.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        if let Some(plan) = self.plan {
            Plan::parse(plan)?;
        }
        let model = section(|w| {
            w.u8(match self.precision {
                Precision::Int8 => 0,
                Precision::Fp16 => 1,
                Precision::Fp32 => 2,
            })?;
            w.text(self.name)?;
            w.text(self.made_by)
        })?;
        let input = section(|w| {
            w.count("dimensions of an input", self.input.shape().len(), InputSpec::MAX_RANK)?;
            for dim in self.input.shape() {
                w.count("dimension of an input", *dim, InputSpec::MAX_ELEMENTS)?;
            }
            w.text(self.input.name)
        })?;
        let embedding = section(|w| {
            write_embedding(w, self.embedding)?;
            w.bytes(&self.fingerprint.0)
        })?;
        let preprocess = self.preprocess.to_bytes()?;
        let statistics = self.statistics.map(|s| statistics(&s)).transpose()?;
        let labels = self.labels.map(labels).transpose()?;
        let canaries = self.canaries.map(|(classes, rows)| self.canaries(classes, rows)).transpose()?;

        let mut sections: Vec<Section<'_>> = vec![
            (kind::MODEL, MANDATORY, &model),
            (kind::INPUT, MANDATORY, &input),
            (kind::EMBEDDING, MANDATORY, &embedding),
            (kind::PREPROCESS, MANDATORY, &preprocess),
        ];
        for (kind, bytes) in [
            (kind::STATISTICS, statistics.as_deref()),
            (kind::HEAD, self.head),
            (kind::LABELS, labels.as_deref()),
            (kind::CANARIES, canaries.as_deref()),
            (kind::FACTS, self.facts.map(str::as_bytes)),
            (kind::VOCABULARY, self.vocabulary.map(str::as_bytes)),
            (kind::PLAN, self.plan),
        ] {
            sections.extend(bytes.map(|bytes| (kind, 0, bytes)));
        }
        // The largest comes last, so that the small ones sit together at the front.
        sections.push((kind::BACKBONE_ONNX, MANDATORY, self.backbone));
        let file = assemble(&sections)?;
        Bundle::parse(&file)?;
        Ok(file)
    }

    fn canaries(&self, classes: &[u16], rows: &[u8]) -> Result<Vec<u8>> {
        let expected = classes.len().saturating_mul(self.embedding.row_bytes());
        if rows.len() != expected {
            return Err(Error::Shape { what: "bytes of the canaries", expected, got: rows.len() });
        }
        let mut bytes = Vec::with_capacity(4 + ALIGN + 2 * classes.len() + rows.len());
        bytes.extend(count("canaries", classes.len(), u32::MAX as usize)?);
        bytes.extend(classes.iter().flat_map(|class| class.to_le_bytes()));
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes.extend(rows);
        Ok(bytes)
    }
}

fn statistics(statistics: &Statistics<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(8 + statistics.mean.len());
    bytes.extend(statistics.rows.to_le_bytes());
    bytes.extend(statistics.mean_squared_norm.to_le_bytes());
    bytes.extend(statistics.mean);
    Ok(bytes)
}

fn labels(labels: &[&str]) -> Result<Vec<u8>> {
    let text_bytes = Labels::text_bytes(labels);
    let mut bytes = vec![0; 8 + 4 * labels.len() + text_bytes];
    let mut w = Writer::new("labels section", &mut bytes);
    w.count("classes", labels.len(), MAX_CLASSES)?;
    w.count("text of labels in bytes", text_bytes, u32::MAX as usize)?;
    Labels::write(&mut w, labels)?;
    Ok(bytes)
}

/// A section of a few numbers and at most two texts.
fn section(fill: impl FnOnce(&mut Writer<'_>) -> Result<()>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 256 + 2 * usize::from(u16::MAX)];
    let mut w = Writer::new("bundle", &mut bytes);
    fill(&mut w)?;
    let len = w.position();
    bytes.truncate(len);
    Ok(bytes)
}

fn count(what: &'static str, value: usize, max: usize) -> Result<[u8; 4]> {
    let mut bytes = [0; 4];
    Writer::new(what, &mut bytes).count(what, value, max)?;
    Ok(bytes)
}
