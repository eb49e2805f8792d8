//! The model that a bundle was made from, in float, on the provider that a line names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "ort")]
use hone_runtime::backbone::ort::{Asks, ExecutionProvider, Found, Load, OrtModel, Settings as OrtSettings};
use hone_runtime::backbone::provider::Settings;

use crate::apply::Applied;
use crate::apply::original::Original;
use crate::{Error, Result};

/// It, loaded.
pub(super) enum FloatModel {
    /// On tract.
    Tract(Arc<Original>),
    /// In a session of ONNX Runtime.
    #[cfg(feature = "ort")]
    Ort(Box<Session>),
}

/// A session, and what another one is made of.
#[cfg(feature = "ort")]
pub(super) struct Session {
    model: OrtModel,
    recipe: Arc<Recipe>,
}

#[cfg(feature = "ort")]
struct Recipe {
    path: PathBuf,
    onnx: Vec<u8>,
    provider: ExecutionProvider,
    settings: OrtSettings,
    found: Found,
    /// With the batch, 1.
    shape: Vec<usize>,
}

#[cfg(feature = "ort")]
impl Recipe {
    fn session(self: &Arc<Self>) -> Result<Session> {
        let how = Load {
            provider: self.provider,
            settings: &self.settings,
            found: &self.found,
            input: &self.shape,
            fingerprint: None,
            asks: Asks::default(),
        };
        let mut model = OrtModel::load(&self.onnx, &how).map_err(|why| self.failed(why))?;
        let (expected, got) = (self.shape.iter().product::<usize>(), model.input().len());
        if expected != got {
            let what = format!("values of the input of {}", self.path.display());
            return Err(Error::Shape { what, expected: expected.to_string(), got: got.to_string() });
        }
        Ok(Session { model, recipe: Arc::clone(self) })
    }

    fn failed(&self, why: String) -> Error {
        Error::worker(format!("{} on {}: {why}", self.path.display(), self.provider.name()))
    }
}

impl FloatModel {
    /// Loads it on `provider`, which is tract or one of ONNX Runtime's; and the milliseconds that this took, from the file.
    ///
    /// # Errors
    /// As [`Original::open`]; [`Error::Worker`] for what ONNX Runtime says, or another provider.
    pub fn load(path: &Path, provider: &str, settings: &Settings, applied: &Applied<'_>) -> Result<(Self, f64)> {
        if provider == "tract" {
            let original = Original::open(path, applied)?;
            let load_ms = original.load_ms;
            return Ok((Self::Tract(Arc::new(original)), load_ms));
        }
        #[cfg(feature = "ort")]
        if let Some(provider) = ExecutionProvider::named(provider) {
            let start = Instant::now();
            let mut shape = vec![1];
            shape.extend(applied.bundle.input.shape());
            let recipe = Recipe {
                path: path.to_path_buf(),
                onnx: Original::prepare(path, applied)?,
                provider,
                settings: settings.ort.clone(),
                found: Found::search(settings.ort.library.as_deref()),
                shape,
            };
            let session = Arc::new(recipe).session()?;
            return Ok((Self::Ort(Box::new(session)), start.elapsed().as_secs_f64() * 1e3));
        }
        let _ = settings;
        Err(Error::worker(format!("{provider} runs no model but a bundle's: tract and ONNX Runtime's providers do")))
    }

    /// The same for another thread.
    ///
    /// # Errors
    /// As [`FloatModel::load`].
    pub fn another(&self) -> Result<Self> {
        match self {
            Self::Tract(model) => Ok(Self::Tract(Arc::clone(model))),
            #[cfg(feature = "ort")]
            Self::Ort(session) => session.recipe.session().map(|session| Self::Ort(Box::new(session))),
        }
    }

    /// The model's first output for one input.
    ///
    /// # Errors
    /// What the provider says.
    pub fn scores(&mut self, input: &[f32]) -> Result<Vec<f32>> {
        match self {
            Self::Tract(model) => model.scores(input),
            #[cfg(feature = "ort")]
            Self::Ort(session) => {
                session.model.input().copy_from_slice(input);
                session.model.run(<[f32]>::to_vec).map_err(|why| session.recipe.failed(why))
            }
        }
    }
}
