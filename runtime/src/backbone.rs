//! The frozen part of the model: input → embedding.

#[cfg(feature = "std")]
pub mod native;
#[cfg(feature = "ort")]
pub mod ort;
#[cfg(feature = "std")]
pub mod provider;
#[cfg(feature = "tract")]
pub mod tract;

use core::fmt;

use crate::error::{Error, Result};
use crate::quant::EmbeddingSpec;

/// Identity of a backbone: the first 16 bytes of SHA-256 over the bundle's backbone section.
///
/// Made at export; a device only compares. Printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Runs the backbone on one input at a time.
pub trait Backbone {
    /// Name of the provider, as reports print it: `tract`, `native`, `ort:cpu`, …
    fn provider(&self) -> &str;

    /// Shape of one input, without the batch dimension.
    fn input_shape(&self) -> &[usize];

    /// Shape and storage of the embedding.
    fn embedding(&self) -> EmbeddingSpec;

    /// Embeds `input` (row-major, the product of [`Backbone::input_shape`] values) into `row`
    /// ([`EmbeddingSpec::row_bytes`] bytes). Refuses wrong sizes, NaN and infinity.
    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()>;

    /// Embeds inputs that lie one after the other into rows that do, at least one, in one go where the provider can.
    ///
    /// # Errors
    /// As [`Backbone::embed`]; [`Error::Shape`] where the sizes are no multiples of one input and one row, or of different numbers.
    fn embed_batch(&mut self, inputs: &[f32], rows: &mut [u8]) -> Result<()> {
        count(self, inputs, rows)?;
        let (elements, row_bytes) = (self.input_shape().iter().product(), self.embedding().row_bytes());
        let mut pairs = inputs.chunks_exact(elements).zip(rows.chunks_exact_mut(row_bytes));
        pairs.try_for_each(|(input, row)| self.embed(input, row))
    }
}

/// How many inputs, and rows for them, these are.
fn count(backbone: &(impl Backbone + ?Sized), inputs: &[f32], rows: &[u8]) -> Result<usize> {
    let elements: usize = backbone.input_shape().iter().product();
    let row_bytes = backbone.embedding().row_bytes();
    let count = (inputs.len() / elements.max(1)).max(1);
    if inputs.len() != count * elements {
        return Err(Error::Shape {
            what: "values of the model's input",
            expected: count * elements,
            got: inputs.len(),
        });
    }
    if rows.len() != count * row_bytes {
        return Err(Error::Shape { what: "bytes of embedding rows", expected: count * row_bytes, got: rows.len() });
    }
    Ok(count)
}

/// Refuses NaN and infinity; `first` is the index of the first of these values in the input.
#[cfg(any(feature = "tract", feature = "ort"))]
fn check_finite(values: &[f32], first: usize) -> Result<()> {
    if crate::kernels::finite::all_finite(values) {
        return Ok(());
    }
    let index = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
    Err(Error::NonFinite { what: "input", index: first + index })
}
