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

use crate::error::Result;
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
}

/// Refuses NaN and infinity.
#[cfg(any(feature = "tract", feature = "ort"))]
fn check_finite(values: &[f32]) -> Result<()> {
    // Without an early end the loop runs in vectors.
    let finite = |values: &[f32]| values.iter().fold(true, |all, v| all & v.is_finite());
    if finite(values) {
        return Ok(());
    }
    let index = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
    Err(crate::Error::NonFinite { what: "input", index })
}
