//! The small trainable part: embedding → class scores, as one flat record that is read in place.
//!
//! Four kinds share one layout, a linear map from the real embedding e = scale · (q − zero point), or from its direction
//! e / ‖e‖ when the head says so ([`HeadView::unit`]), to one number a class:
//!
//! ```text
//! logit[c] = bias[c] + Σ_d weight[c][d] · e[d]
//! ```
//!
//! The kinds differ in what the logits mean ([`Kind`]) and so in how they were tuned. Centring vectors are folded into the
//! bias. The written specification is in `docs/bundle-format.md`.
//!
//! ```
//! use hone_runtime::head::{HeadParts, HeadView, Kind, Weights};
//! use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
//! use hone_runtime::Fingerprint;
//!
//! let parts = HeadParts {
//!     kind: Kind::Softmax,
//!     unit: false,
//!     fingerprint: Fingerprint([7; 16]),
//!     embedding: EmbeddingSpec { dim: 2, kind: EmbeddingKind::Int8(QuantParams { scale: 0.5, zero_point: 0 }) },
//!     labels: &["off", "on"],
//!     bias: &[0.0, 1.0],
//!     weights: Weights::Int8 { scales: &[0.1, 0.1], rows: &[10, 0, 0, 10] },
//! };
//! let mut record = [0; 256]; // no allocator needed
//! let len = parts.encode(&mut record)?;
//!
//! let head = HeadView::parse(&record[..len])?;
//! let answer = head.predict(&[2, 8])?; // the embedding (1.0, 4.0)
//! assert_eq!(head.label(answer.class), Some("on"));
//! assert!(answer.score > 0.98);
//! # Ok::<(), hone_runtime::Error>(())
//! ```

#[cfg(feature = "alloc")]
pub mod drift;
mod labels;
mod record;
mod scores;

pub use labels::Labels;
pub(crate) use record::read_embedding;
#[cfg(feature = "alloc")]
pub(crate) use record::write_embedding;
pub use record::{HeadParts, Weights};
pub use scores::{Prediction, sigmoid, softmax};

#[allow(unused_imports, reason = "Vec, where there is an allocator")]
use crate::prelude::*;

use crate::backbone::Fingerprint;
use crate::error::{Error, Result};
use crate::quant::EmbeddingSpec;

/// Most classes of a head.
pub const MAX_CLASSES: usize = 65_535;

/// What the logits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Exactly one class: probabilities are the softmax of the logits.
    Softmax,
    /// Any number of classes at once: each probability is the logistic function of its logit.
    Sigmoid,
    /// The logits are the values themselves.
    Regression,
    /// Nearest class mean: weights are the mean μ and bias is −‖μ‖²/2, so that the largest logit is the nearest mean;
    /// the squared distance is ‖e‖² − 2 · logit.
    Prototype,
}

/// A head, borrowed from the bytes of its record. Parsing checks everything once: magic, lengths, CRC, UTF-8, finiteness.
#[derive(Debug, Clone, Copy)]
pub struct HeadView<'a> {
    bytes: &'a [u8],
    kind: Kind,
    unit: bool,
    fingerprint: Fingerprint,
    embedding: EmbeddingSpec,
    bias: &'a [[u8; 4]],
    weights: record::RawWeights<'a>,
    labels: Labels<'a>,
    crc: u32,
}

/// The weights of one class, as stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightRow<'a> {
    /// weight\[d\] = `scale` · `row`\[d\]; each byte is an i8.
    Int8 {
        /// Real value of one step; 0 for a row of zeros.
        scale: f32,
        /// D bytes, two's complement.
        row: &'a [u8],
    },
    /// D little-endian f32.
    F32(&'a [[u8; 4]]),
}

impl<'a> HeadView<'a> {
    /// Reads a record that fills `bytes` wholly.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        record::parse(bytes)
    }

    /// The record itself.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The record's own CRC32: the `head_crc` of reports. Equal heads have equal CRCs on every target.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// What the logits mean.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether an embedding is brought to Euclidean length 1 first (zero stays zero), so that only its direction counts.
    #[must_use]
    pub fn unit(&self) -> bool {
        self.unit
    }

    /// The backbone that this head was made for.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Refuses a backbone other than the one that this head was made for.
    pub fn check_backbone(&self, backbone: Fingerprint) -> Result<()> {
        if self.fingerprint == backbone {
            Ok(())
        } else {
            Err(Error::FingerprintMismatch { head: self.fingerprint, backbone })
        }
    }

    /// Shape and storage of the rows that it takes.
    #[must_use]
    pub fn embedding(&self) -> EmbeddingSpec {
        self.embedding
    }

    /// Number of values D of an embedding.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.embedding.dim
    }

    /// Number of classes C (for [`Kind::Regression`]: of values).
    #[must_use]
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// The labels, in the order of the classes.
    #[must_use]
    pub fn labels(&self) -> Labels<'a> {
        self.labels
    }

    /// Label of class `class`.
    #[must_use]
    pub fn label(&self, class: usize) -> Option<&'a str> {
        self.labels.get(class)
    }

    /// Bias of class `class`, real units.
    #[must_use]
    pub fn bias(&self, class: usize) -> Option<f32> {
        self.bias.get(class).map(|bytes| f32::from_le_bytes(*bytes))
    }

    /// Weights of class `class`, as stored.
    #[must_use]
    pub fn weight_row(&self, class: usize) -> Option<WeightRow<'a>> {
        self.weights.row(class, self.dim())
    }

    /// Real weights of class `class` into `weights[D]`.
    pub fn real_weights(&self, class: usize, weights: &mut [f32]) -> Result<()> {
        if weights.len() != self.dim() {
            return Err(Error::Buffer { what: "weights of a class", needs: self.dim(), has: weights.len() });
        }
        match self.weight_row(class).ok_or(Error::UnknownClass { class, classes: self.classes() })? {
            WeightRow::Int8 { scale, row } => {
                for (weight, q) in weights.iter_mut().zip(row) {
                    *weight = scale * f32::from(q.cast_signed());
                }
            }
            WeightRow::F32(row) => {
                for (weight, bytes) in weights.iter_mut().zip(row) {
                    *weight = f32::from_le_bytes(*bytes);
                }
            }
        }
        Ok(())
    }

    /// The record of a head with these classes of this one, in this order, and a bias for each.
    #[cfg(feature = "alloc")]
    pub(crate) fn rebuilt(&self, classes: &[usize], bias: &[f32]) -> Result<Vec<u8>> {
        let labels: Vec<&str> = classes.iter().filter_map(|class| self.label(*class)).collect();
        let (mut scales, mut steps, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for row in classes.iter().filter_map(|class| self.weight_row(*class)) {
            match row {
                WeightRow::Int8 { scale, row } => {
                    scales.push(scale);
                    steps.extend(row.iter().map(|byte| byte.cast_signed()));
                }
                WeightRow::F32(row) => weights.extend(row.iter().map(|bytes| f32::from_le_bytes(*bytes))),
            }
        }
        let weights =
            if scales.is_empty() { Weights::F32(&weights) } else { Weights::Int8 { scales: &scales, rows: &steps } };
        let (kind, unit, fingerprint, embedding) = (self.kind(), self.unit(), self.fingerprint(), self.embedding());
        HeadParts { kind, unit, fingerprint, embedding, labels: &labels, bias, weights }.to_bytes()
    }
}
