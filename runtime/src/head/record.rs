//! The record: parsed in place, written into a caller's buffer. Layout in `docs/bundle-format.md`, part "head record".

#[allow(unused_imports, reason = "Vec, where there is an allocator")]
use crate::prelude::*;

use half::f16;

use super::labels::{Labels, MAX_TEXT_BYTES};
use super::{HeadView, Kind, MAX_CLASSES, WeightRow};
use crate::backbone::Fingerprint;
use crate::bytes::{Reader, Writer, crc32};
use crate::error::{Error, Result};
use crate::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};

const WHAT: &str = "head";
const MAGIC: [u8; 4] = *b"HNHD";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 48;
/// Weights are f32, not int8 rows with scales.
const FLAG_F32: u8 = 1;
/// Embeddings are brought to Euclidean length 1 first.
const FLAG_UNIT: u8 = 2;

/// What a record holds, for writing one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadParts<'a> {
    /// What the logits mean.
    pub kind: Kind,
    /// Whether an embedding is brought to Euclidean length 1 first.
    pub unit: bool,
    /// The backbone that it is made for.
    pub fingerprint: Fingerprint,
    /// Shape and storage of the rows that it takes.
    pub embedding: EmbeddingSpec,
    /// C labels.
    pub labels: &'a [&'a str],
    /// C biases, real units.
    pub bias: &'a [f32],
    /// C rows of D weights.
    pub weights: Weights<'a>,
}

/// Weights for writing, row-major \[C, D\], real units of the embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weights<'a> {
    /// weight\[c\]\[d\] = `scales`\[c\] · `rows`\[c · D + d\]; see [`crate::quant::symmetric_row`].
    Int8 {
        /// C scales, not negative.
        scales: &'a [f32],
        /// C · D steps.
        rows: &'a [i8],
    },
    /// C · D weights.
    F32(&'a [f32]),
}

/// Weights as they lie in the record.
#[derive(Debug, Clone, Copy)]
pub(super) enum RawWeights<'a> {
    Int8 { scales: &'a [[u8; 4]], rows: &'a [u8] },
    F32(&'a [[u8; 4]]),
}

impl<'a> RawWeights<'a> {
    pub(super) fn row(&self, class: usize, dim: usize) -> Option<WeightRow<'a>> {
        let start = class.checked_mul(dim)?;
        let range = start..start.checked_add(dim)?;
        match *self {
            Self::Int8 { scales, rows } => {
                Some(WeightRow::Int8 { scale: f32::from_le_bytes(*scales.get(class)?), row: rows.get(range)? })
            }
            Self::F32(rows) => Some(WeightRow::F32(rows.get(range)?)),
        }
    }
}

impl HeadParts<'_> {
    /// Bytes of the record.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let classes = self.bias.len();
        let weights = match self.weights {
            Weights::Int8 { scales, rows } => 4 * scales.len() + rows.len(),
            Weights::F32(rows) => 4 * rows.len(),
        };
        let to_labels = (HEADER_BYTES + 4 * classes + weights).next_multiple_of(4);
        (to_labels + 4 * classes + Labels::text_bytes(self.labels)).next_multiple_of(4) + 4
    }

    /// Writes the record into `buffer`; returns the bytes used ([`HeadParts::encoded_len`]).
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize> {
        self.check()?;
        let mut w = Writer::new(WHAT, buffer);
        w.bytes(&MAGIC)?;
        w.u16(VERSION)?;
        w.u8(match self.kind {
            Kind::Softmax => 0,
            Kind::Sigmoid => 1,
            Kind::Regression => 2,
            Kind::Prototype => 3,
        })?;
        let weights = match self.weights {
            Weights::Int8 { .. } => 0,
            Weights::F32(_) => FLAG_F32,
        };
        w.u8(weights | if self.unit { FLAG_UNIT } else { 0 })?;
        write_embedding(&mut w, self.embedding)?;
        w.count("classes", self.bias.len(), MAX_CLASSES)?;
        w.count("bytes of a head", self.encoded_len(), u32::MAX as usize)?;
        w.count("text of labels in bytes", Labels::text_bytes(self.labels), MAX_TEXT_BYTES)?;
        w.bytes(&self.fingerprint.0)?;
        self.bias.iter().try_for_each(|v| w.f32(*v))?;
        match self.weights {
            Weights::Int8 { scales, rows } => {
                scales.iter().try_for_each(|v| w.f32(*v))?;
                rows.iter().try_for_each(|q| w.u8(q.cast_unsigned()))?;
            }
            Weights::F32(rows) => rows.iter().try_for_each(|v| w.f32(*v))?,
        }
        w.pad_to(4)?;
        Labels::write(&mut w, self.labels)?;
        w.pad_to(4)?;
        let crc = crc32(w.written());
        w.u32(crc)?;
        Ok(w.position())
    }

    /// The record's bytes.
    #[cfg(feature = "alloc")]
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        let mut bytes = vec![0; self.encoded_len()];
        self.encode(&mut bytes)?;
        Ok(bytes)
    }

    fn check(&self) -> Result<()> {
        self.embedding.check()?;
        let classes = self.bias.len();
        check_classes(classes as u64)?;
        expect("labels of a head", classes, self.labels.len())?;
        let all = classes.checked_mul(self.embedding.dim);
        let all = all.ok_or(Error::Malformed { what: WHAT, why: "it does not fit this machine's memory" })?;
        finite("bias", self.bias.iter().copied())?;
        match self.weights {
            Weights::Int8 { scales, rows } => {
                expect("scales of a head", classes, scales.len())?;
                expect("weights of a head", all, rows.len())?;
                check_scales(scales.iter().copied())
            }
            Weights::F32(rows) => {
                expect("weights of a head", all, rows.len())?;
                finite("weights", rows.iter().copied())
            }
        }
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<HeadView<'_>> {
    let mut r = Reader::new(WHAT, bytes);
    let magic = r.array()?;
    if magic != MAGIC {
        return Err(Error::BadMagic { what: WHAT, found: magic });
    }
    let version = r.u16()?;
    if version != VERSION {
        return Err(Error::Version { what: WHAT, found: version, supported: VERSION });
    }
    let kind = r.u8()?;
    let flags = r.u8()?;
    if flags & !(FLAG_F32 | FLAG_UNIT) != 0 {
        return Err(Error::Malformed { what: WHAT, why: "unknown flags" });
    }
    let embedding = read_embedding(&mut r)?;
    let classes = r.count("classes", MAX_CLASSES)?;
    check_classes(classes as u64)?;
    let total = r.count("bytes of a head", usize::MAX)?;
    let text_bytes = r.count("text of labels in bytes", MAX_TEXT_BYTES)?;
    if bytes.len() < total {
        return Err(Error::Truncated { what: WHAT, needs: total, has: bytes.len() });
    }
    let fingerprint = Fingerprint(r.array()?);
    let crc = check_crc(bytes)?;

    let bias = r.bytes(classes * 4)?.as_chunks().0;
    finite("bias", floats(bias))?;
    // Both factors are at most 2^16, but a 32-bit usize ends at 2^32.
    let all = classes.checked_mul(embedding.dim).ok_or(Error::Truncated {
        what: WHAT,
        needs: usize::MAX,
        has: bytes.len(),
    })?;
    let weights = if flags & FLAG_F32 == 0 {
        let scales = r.bytes(classes * 4)?.as_chunks().0;
        check_scales(floats(scales))?;
        RawWeights::Int8 { scales, rows: r.bytes(all)? }
    } else {
        let rows = r.bytes(all.saturating_mul(4))?.as_chunks().0;
        finite("weights", floats(rows))?;
        RawWeights::F32(rows)
    };
    r.pad_to(4)?;
    let labels = Labels::read(&mut r, classes, text_bytes)?;
    r.pad_to(4)?;
    r.u32()?; // the CRC, checked above
    r.end()?;
    let kind = match kind {
        0 => Kind::Softmax,
        1 => Kind::Sigmoid,
        2 => Kind::Regression,
        3 => Kind::Prototype,
        _ => return Err(unknown("kind of head", kind, 3)),
    };
    Ok(HeadView { bytes, kind, unit: flags & FLAG_UNIT != 0, fingerprint, embedding, bias, weights, labels, crc })
}

fn check_crc(bytes: &[u8]) -> Result<u32> {
    let (covered, stored) =
        bytes.split_last_chunk().ok_or(Error::Truncated { what: WHAT, needs: 4, has: bytes.len() })?;
    let stored = u32::from_le_bytes(*stored);
    let computed = crc32(covered);
    if stored == computed { Ok(stored) } else { Err(Error::Crc { what: WHAT, stored, computed }) }
}

/// Twelve bytes: kind, zero point, two zeros, dim, scale. f16 has zero point 0 and scale 1.
pub(crate) fn write_embedding(w: &mut Writer<'_>, spec: EmbeddingSpec) -> Result<()> {
    let (kind, q) = match spec.kind {
        EmbeddingKind::Int8(q) => (0, q),
        EmbeddingKind::F16 => (1, QuantParams { scale: 1.0, zero_point: 0 }),
    };
    w.bytes(&[kind, q.zero_point.cast_unsigned(), 0, 0])?;
    w.count("embedding dimension", spec.dim, EmbeddingSpec::MAX_DIM)?;
    w.f32(q.scale)
}

/// Reads what [`write_embedding`] writes.
pub(crate) fn read_embedding(r: &mut Reader<'_>) -> Result<EmbeddingSpec> {
    let [kind, zero_point, zero_a, zero_b] = r.array()?;
    let dim = r.count("embedding dimension", EmbeddingSpec::MAX_DIM)?;
    let q = QuantParams { scale: r.f32()?, zero_point: zero_point.cast_signed() };
    let kind = match kind {
        0 => EmbeddingKind::Int8(q),
        1 if q.scale == f16::ONE.to_f32() && q.zero_point == 0 => EmbeddingKind::F16,
        1 => return Err(Error::Malformed { what: "embedding", why: "f16 has scale 1 and zero point 0" }),
        _ => return Err(unknown("kind of embedding", kind, 1)),
    };
    if [zero_a, zero_b] != [0, 0] {
        return Err(Error::Malformed { what: "embedding", why: "reserved bytes are not zero" });
    }
    EmbeddingSpec { dim, kind }.check()
}

fn check_classes(classes: u64) -> Result<()> {
    if (1..=MAX_CLASSES as u64).contains(&classes) {
        return Ok(());
    }
    Err(Error::Bounds { what: "classes", value: classes, min: 1, max: MAX_CLASSES as u64 })
}

fn expect(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Shape { what, expected, got }) }
}

fn floats<'a>(bytes: &'a [[u8; 4]]) -> impl Iterator<Item = f32> + 'a {
    bytes.iter().map(|b| f32::from_le_bytes(*b))
}

fn finite(what: &'static str, mut values: impl Iterator<Item = f32>) -> Result<()> {
    match values.position(|v| !v.is_finite()) {
        Some(index) => Err(Error::NonFinite { what, index }),
        None => Ok(()),
    }
}

fn check_scales(mut scales: impl Iterator<Item = f32>) -> Result<()> {
    match scales.position(|v| !v.is_finite() || v < 0.0) {
        Some(_) => Err(Error::Malformed { what: WHAT, why: "a scale of weights is negative or not finite" }),
        None => Ok(()),
    }
}

fn unknown(what: &'static str, value: u8, max: u64) -> Error {
    Error::Bounds { what, value: u64::from(value), min: 0, max }
}

#[cfg(all(test, feature = "alloc"))]
mod tests;
