//! Which provider runs a bundle's backbone: the one that was asked for, or the first that can.

use std::boxed::Box;
use std::string::{String, ToString};

use super::Backbone;
use super::native::NativeBackbone;
#[cfg(feature = "tract")]
use super::tract::TractBackbone;
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::kernels::Tier;
use crate::quant::EmbeddingSpec;

/// Names of the providers that this build has, the preferred one first.
pub const PROVIDERS: &[&str] = &[
    "native",
    #[cfg(feature = "tract")]
    "tract",
];

/// A loaded backbone, whatever runs it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Provider<'b> {
    /// Our own engine.
    Native(Box<NativeBackbone<'b>>),
    /// tract.
    #[cfg(feature = "tract")]
    Tract(TractBackbone),
}

impl<'b> Provider<'b> {
    /// Loads the bundle's backbone on the provider called `name`, the native engine with the kernels `tier`.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`] for a name that this build does not have, and what the provider says.
    pub fn load(bundle: &Bundle<'b>, name: &str, tier: &'static Tier) -> Result<Self> {
        match name {
            "native" => NativeBackbone::load(bundle, tier).map(|native| Self::Native(Box::new(native))),
            #[cfg(feature = "tract")]
            "tract" => TractBackbone::load(bundle).map(Self::Tract),
            _ => Err(Error::UnknownProvider { name: name.to_string() }),
        }
    }

    /// Loads the bundle's backbone on the first of this build's providers that can run it; where that is not the first, also why.
    ///
    /// # Errors
    /// What the last provider says, when none can.
    pub fn first(bundle: &Bundle<'b>, tier: &'static Tier) -> Result<(Self, Option<String>)> {
        let mut why: Option<String> = None;
        let mut last = Error::Missing { what: "provider in this build" };
        for name in PROVIDERS {
            match Self::load(bundle, name, tier) {
                Ok(provider) => return Ok((provider, why)),
                Err(error) => {
                    let failed = std::format!("{name}: {error}");
                    why = Some(why.map_or_else(|| failed.clone(), |why| std::format!("{why}; {failed}")));
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// What computes: the kernels' name for the native engine, the provider's otherwise.
    #[must_use]
    pub fn kernel(&self) -> &str {
        match self {
            Self::Native(native) => native.kernel(),
            #[cfg(feature = "tract")]
            Self::Tract(tract) => tract.provider(),
        }
    }
}

impl Backbone for Provider<'_> {
    fn provider(&self) -> &str {
        match self {
            Self::Native(native) => native.provider(),
            #[cfg(feature = "tract")]
            Self::Tract(tract) => tract.provider(),
        }
    }

    fn input_shape(&self) -> &[usize] {
        match self {
            Self::Native(native) => native.input_shape(),
            #[cfg(feature = "tract")]
            Self::Tract(tract) => tract.input_shape(),
        }
    }

    fn embedding(&self) -> EmbeddingSpec {
        match self {
            Self::Native(native) => native.embedding(),
            #[cfg(feature = "tract")]
            Self::Tract(tract) => tract.embedding(),
        }
    }

    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> {
        match self {
            Self::Native(native) => native.embed(input, row),
            #[cfg(feature = "tract")]
            Self::Tract(tract) => tract.embed(input, row),
        }
    }
}
