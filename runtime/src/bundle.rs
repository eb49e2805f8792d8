//! `NAME.hone`: everything that a device needs in one flat file, read in place from `&[u8]` without an allocator.
//!
//! Specification: `docs/bundle-format.md`. [`Bundle::parse`] checks lengths, CRCs, texts and the sections against each
//! other once; what it hands out cannot be wrong. The writer, [`BundleParts`], needs `alloc` and refuses whatever the
//! reader would refuse.
//!
//! ```
//! # #[cfg(feature = "alloc")] {
//! use hone_runtime::bundle::{Bundle, BundleParts, EmbeddingKind, EmbeddingSpec, Fingerprint, InputSpec, Precision};
//!
//! let parts = BundleParts {
//!     name: "kws",
//!     made_by: "hone 0.1.0",
//!     precision: Precision::Fp16,
//!     input: InputSpec::new("input", &[1, 49, 10])?,
//!     embedding: EmbeddingSpec { dim: 64, kind: EmbeddingKind::F16 },
//!     ..BundleParts::new(b"the ONNX file", Fingerprint([7; 16]))
//! };
//! let bytes = parts.to_bytes()?;
//!
//! let bundle = Bundle::parse(&bytes)?;
//! assert_eq!(bundle.name, "kws");
//! assert_eq!(bundle.input.elements(), 490);
//! assert_eq!(bundle.backbone, b"the ONNX file");
//! # }
//! # Ok::<(), hone_runtime::Error>(())
//! ```

mod container;
pub mod preprocess;
mod reader;
#[cfg(all(test, feature = "alloc"))]
mod tests;
#[cfg(feature = "alloc")]
mod writer;

pub use crate::backbone::Fingerprint;
pub use crate::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
pub use preprocess::Preprocess;
#[cfg(feature = "alloc")]
pub use writer::BundleParts;

use crate::error::{Error, Result};
use crate::head::{HeadView, Labels};
use crate::tensor::Rows;

/// Numbers that the backbone computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Quantized: int8 weights and activations.
    Int8,
    /// Half precision.
    Fp16,
    /// Single precision.
    Fp32,
}

impl Precision {
    /// `int8`, `fp16` or `fp32`, as reports print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Fp16 => "fp16",
            Self::Fp32 => "fp32",
        }
    }
}

/// The model's input: f32, row-major, one row at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec<'a> {
    /// Name of the ONNX input.
    pub name: &'a str,
    shape: heapless::Vec<usize, { InputSpec::MAX_RANK }>,
}

impl<'a> InputSpec<'a> {
    /// Most dimensions, without the batch.
    pub const MAX_RANK: usize = 5;
    /// Most values of one input: 256 Mi.
    pub const MAX_ELEMENTS: usize = 1 << 28;

    /// Refuses dimensions of zero, too many of them, and too many values.
    pub fn new(name: &'a str, shape: &[usize]) -> Result<Self> {
        let bounds =
            |what, value: usize, max: usize| Error::Bounds { what, value: value as u64, min: 1, max: max as u64 };
        let mut elements = 1usize;
        for dim in shape {
            elements = elements.saturating_mul(*dim);
        }
        if elements == 0 || elements > Self::MAX_ELEMENTS {
            return Err(bounds("values of an input", elements, Self::MAX_ELEMENTS));
        }
        let shape = heapless::Vec::from_slice(shape)
            .map_err(|_| bounds("dimensions of an input", shape.len(), Self::MAX_RANK))?;
        Ok(Self { name, shape })
    }

    /// Shape without the batch dimension.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of values of one input.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What calibration saw of the embeddings; tuning centres and scales with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics<'a> {
    /// How many embeddings were seen.
    pub rows: u32,
    /// Mean over the rows of ‖e − m‖², e and m in real units, m the mean row below as stored.
    pub mean_squared_norm: f32,
    /// The mean embedding, stored as an embedding row.
    pub mean: &'a [u8],
}

/// Embeddings of known classes, to notice forgetting before it happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canaries<'a> {
    classes: &'a [[u8; 2]],
    rows: Rows<'a>,
}

impl<'a> Canaries<'a> {
    /// Number of canaries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The embedding rows.
    #[must_use]
    pub fn rows(&self) -> Rows<'a> {
        self.rows
    }

    /// Each class (an index into [`Bundle::labels`]) with its embedding row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (usize, &'a [u8])> + use<'a> {
        self.classes.iter().map(|class| usize::from(u16::from_le_bytes(*class))).zip(self.rows)
    }
}

/// A bundle, borrowed from its bytes.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    /// Name of the model.
    pub name: &'a str,
    /// Program and version that exported it.
    pub made_by: &'a str,
    /// Numbers that the backbone computes with.
    pub precision: Precision,
    /// The backbone, an ONNX file whose only output is the embedding.
    pub backbone: &'a [u8],
    /// The backbone compiled for the native engine ([`crate::plan::Plan`]), which checks it; `None` where it did not lower.
    pub plan: Option<&'a [u8]>,
    /// The backbone's input.
    pub input: InputSpec<'a>,
    /// Shape and storage of the embedding.
    pub embedding: EmbeddingSpec,
    /// Identity of the backbone: what heads are compared with.
    pub fingerprint: Fingerprint,
    /// How a row of data becomes the input.
    pub preprocess: Preprocess,
    /// Tokens of a text, one a line, the number of the line is the id; there with [`Preprocess::Text`] alone.
    pub vocabulary: Option<&'a str>,
    /// What calibration saw.
    pub statistics: Option<Statistics<'a>>,
    /// The head that the model was shipped with.
    pub head: Option<HeadView<'a>>,
    /// Embeddings of known classes.
    pub canaries: Option<Canaries<'a>>,
    /// Export facts for people, JSON; opaque to this crate.
    pub facts: Option<&'a str>,
    labels: Option<Labels<'a>>,
}

impl<'a> Bundle<'a> {
    /// Reads a bundle that fills `bytes` wholly.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        reader::parse(bytes)
    }

    /// Labels of the classes that the shipped model knows: those of its head, or of the labels section.
    #[must_use]
    pub fn labels(&self) -> Option<Labels<'a>> {
        self.head.map(|head| head.labels()).or(self.labels)
    }
}
