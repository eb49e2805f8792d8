//! What each section holds, and the sections against each other.

use super::container::{self, Sections, kind};
use super::preprocess::{Preprocess, TextPrep};
use super::{Bundle, Canaries, InputSpec, Precision, Statistics};
use crate::backbone::Fingerprint;
use crate::bytes::Reader;
use crate::error::{Error, Result};
use crate::head::{HeadView, Labels, MAX_CLASSES, read_embedding};
use crate::quant::EmbeddingSpec;
use crate::tensor::Rows;

pub(super) fn parse(file: &[u8]) -> Result<Bundle<'_>> {
    let sections = Sections::parse(file)?;
    let (name, made_by, precision) = read_model(sections.need(kind::MODEL)?)?;
    let (embedding, fingerprint) = read_embedding_section(sections.need(kind::EMBEDDING)?)?;
    let head = sections.get(kind::HEAD).map(HeadView::parse).transpose()?;
    if let Some(head) = &head {
        head.check_backbone(fingerprint)?;
        if head.embedding() != embedding {
            return Err(Error::Malformed { what: "head section", why: "it takes another kind of embedding" });
        }
    }
    let labels = sections.get(kind::LABELS).map(read_labels).transpose()?;
    if head.is_some() && labels.is_some() {
        return Err(Error::Malformed { what: "labels section", why: "the head has the labels already" });
    }
    let mut bundle = Bundle {
        name,
        made_by,
        precision,
        backbone: sections.need(kind::BACKBONE_ONNX)?,
        plan: sections.get(kind::PLAN),
        input: read_input(sections.need(kind::INPUT)?)?,
        embedding,
        fingerprint,
        preprocess: Preprocess::decode(sections.need(kind::PREPROCESS)?)?,
        statistics: sections.get(kind::STATISTICS).map(|s| read_statistics(s, embedding)).transpose()?,
        head,
        canaries: None,
        facts: sections.get(kind::FACTS).map(|s| read_utf8(kind::FACTS, s)).transpose()?,
        vocabulary: sections.get(kind::VOCABULARY).map(read_vocabulary).transpose()?,
        labels,
    };
    match (&bundle.preprocess, bundle.vocabulary) {
        (Preprocess::Text(_), None) => return Err(Error::Missing { what: container::name(kind::VOCABULARY) }),
        (Preprocess::Text(_), Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            return Err(Error::Malformed { what: container::name(kind::VOCABULARY), why: "the input is no text" });
        }
    }
    let classes = bundle.labels().map_or(0, |labels| labels.len());
    bundle.canaries = sections.get(kind::CANARIES).map(|s| read_canaries(s, embedding, classes)).transpose()?;
    Ok(bundle)
}

fn read_model(section: &[u8]) -> Result<(&str, &str, Precision)> {
    let mut r = Reader::new(container::name(kind::MODEL), section);
    let precision = match r.u8()? {
        0 => Precision::Int8,
        1 => Precision::Fp16,
        2 => Precision::Fp32,
        other => return Err(Error::Bounds { what: "precision", value: u64::from(other), min: 0, max: 2 }),
    };
    let (name, made_by) = (r.text()?, r.text()?);
    r.end()?;
    Ok((name, made_by, precision))
}

fn read_input(section: &[u8]) -> Result<InputSpec<'_>> {
    let mut r = Reader::new(container::name(kind::INPUT), section);
    let rank = r.count("dimensions of an input", InputSpec::MAX_RANK)?;
    let mut shape = [0; InputSpec::MAX_RANK];
    for dim in shape.iter_mut().take(rank) {
        *dim = r.count("dimension of an input", InputSpec::MAX_ELEMENTS)?;
    }
    let name = r.text()?;
    r.end()?;
    InputSpec::new(name, shape.get(..rank).unwrap_or_default())
}

fn read_embedding_section(section: &[u8]) -> Result<(EmbeddingSpec, Fingerprint)> {
    let mut r = Reader::new(container::name(kind::EMBEDDING), section);
    let spec = read_embedding(&mut r)?;
    let fingerprint = Fingerprint(r.array()?);
    r.end()?;
    Ok((spec, fingerprint))
}

fn read_statistics(section: &[u8], embedding: EmbeddingSpec) -> Result<Statistics<'_>> {
    let what = container::name(kind::STATISTICS);
    let mut r = Reader::new(what, section);
    let (rows, mean_squared_norm) = (r.u32()?, r.f32()?);
    let mean = r.bytes(embedding.row_bytes())?;
    r.end()?;
    if rows == 0 || !(mean_squared_norm.is_finite() && mean_squared_norm >= 0.0) {
        return Err(Error::Malformed { what, why: "no rows, or a norm that is none" });
    }
    Ok(Statistics { rows, mean_squared_norm, mean })
}

fn read_labels(section: &[u8]) -> Result<Labels<'_>> {
    let mut r = Reader::new(container::name(kind::LABELS), section);
    let classes = r.count("classes", MAX_CLASSES)?;
    let text_bytes = r.count("text of labels in bytes", section.len())?;
    let labels = Labels::read(&mut r, classes, text_bytes)?;
    r.end()?;
    Ok(labels)
}

fn read_canaries(section: &[u8], embedding: EmbeddingSpec, known: usize) -> Result<Canaries<'_>> {
    let mut r = Reader::new(container::name(kind::CANARIES), section);
    let count = r.count("canaries", section.len())?;
    let classes = r.bytes(count.saturating_mul(2))?.as_chunks().0;
    for class in classes {
        let class = usize::from(u16::from_le_bytes(*class));
        if class >= known {
            return Err(Error::UnknownClass { class, classes: known });
        }
    }
    r.pad_to(16)?;
    let rows = Rows::new(r.bytes(count.saturating_mul(embedding.row_bytes()))?, embedding.row_bytes())?;
    r.end()?;
    Ok(Canaries { classes, rows })
}

fn read_vocabulary(section: &[u8]) -> Result<&str> {
    if section.len() > TextPrep::MAX_VOCABULARY_BYTES {
        let (value, max) = (section.len() as u64, TextPrep::MAX_VOCABULARY_BYTES as u64);
        return Err(Error::Bounds { what: "bytes of a vocabulary", value, min: 0, max });
    }
    read_utf8(kind::VOCABULARY, section)
}

fn read_utf8(kind: u16, section: &[u8]) -> Result<&str> {
    core::str::from_utf8(section)
        .map_err(|_| Error::Malformed { what: container::name(kind), why: "text is not UTF-8" })
}
