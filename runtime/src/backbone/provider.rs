//! Which provider runs a bundle's backbone: the one that was asked for, or the first that can.

use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

use super::Backbone;
use super::native::NativeBackbone;
#[cfg(feature = "ort")]
use super::ort::{self, ExecutionProvider, OrtBackbone};
#[cfg(feature = "tract")]
use super::tract::TractBackbone;
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::kernels::Tier;
use crate::quant::EmbeddingSpec;

/// Names of the providers that are tried where none is named, the preferred one first. `ort:…` is never tried unasked: which library answers
/// would depend on what else is installed.
pub const PROVIDERS: &[&str] = &[
    "native",
    #[cfg(feature = "tract")]
    "tract",
];

/// Names of all providers that this build has.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let names = PROVIDERS.iter().copied();
    #[cfg(feature = "ort")]
    let names = names.chain(ExecutionProvider::ALL.iter().filter(|p| p.is_built()).map(|p| p.name()));
    names.collect()
}

/// Whether ONNX Runtime's fast 8-bit kernels saturate on this processor, unless a session sets `session.x64quantprecision` to 1: so do
/// those for AVX2 without VNNI.
#[must_use]
pub fn onnxruntime_saturates() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        !(std::is_x86_feature_detected!("avxvnni") || std::is_x86_feature_detected!("avx512vnni"))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// How providers are loaded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Kernels of the native engine.
    pub tier: &'static Tier,
    /// How sessions of ONNX Runtime are made.
    #[cfg(feature = "ort")]
    pub ort: ort::Settings,
}

impl Settings {
    /// One thread, kernels `tier`, the first library that is found.
    #[must_use]
    pub fn new(tier: &'static Tier) -> Self {
        Self {
            tier,
            #[cfg(feature = "ort")]
            ort: ort::Settings::default(),
        }
    }
}

/// A loaded backbone, whatever runs it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Provider<'b> {
    /// Our own engine.
    Native(Box<NativeBackbone<'b>>),
    /// tract.
    #[cfg(feature = "tract")]
    Tract(TractBackbone),
    /// ONNX Runtime.
    #[cfg(feature = "ort")]
    Ort(Box<OrtBackbone>),
}

impl<'b> Provider<'b> {
    /// Loads the bundle's backbone on the provider called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`] for a name that this build does not have, and what the provider says.
    pub fn load(bundle: &Bundle<'b>, name: &str, settings: &Settings) -> Result<Self> {
        match name {
            "native" => NativeBackbone::load(bundle, settings.tier).map(|native| Self::Native(Box::new(native))),
            #[cfg(feature = "tract")]
            "tract" => TractBackbone::load(bundle).map(Self::Tract),
            #[cfg(feature = "ort")]
            _ if let Some(provider) = ExecutionProvider::named(name).filter(|provider| provider.is_built()) => {
                OrtBackbone::load(bundle, provider, &settings.ort).map(|ort| Self::Ort(Box::new(ort)))
            }
            _ => Err(Error::UnknownProvider { name: name.to_string() }),
        }
    }

    /// What computes: the kernels' name for the native engine, the provider's otherwise.
    #[must_use]
    pub fn kernel(&self) -> &str {
        match self {
            Self::Native(native) => native.kernel(),
            #[cfg(any(feature = "tract", feature = "ort"))]
            _ => self.provider(),
        }
    }

    fn backbone(&self) -> &dyn Backbone {
        match self {
            Self::Native(native) => native.as_ref(),
            #[cfg(feature = "tract")]
            Self::Tract(tract) => tract,
            #[cfg(feature = "ort")]
            Self::Ort(ort) => ort.as_ref(),
        }
    }
}

impl Backbone for Provider<'_> {
    fn provider(&self) -> &str {
        self.backbone().provider()
    }

    fn input_shape(&self) -> &[usize] {
        self.backbone().input_shape()
    }

    fn embedding(&self) -> EmbeddingSpec {
        self.backbone().embedding()
    }

    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> {
        match self {
            Self::Native(native) => native.embed(input, row),
            #[cfg(feature = "tract")]
            Self::Tract(tract) => tract.embed(input, row),
            #[cfg(feature = "ort")]
            Self::Ort(ort) => ort.embed(input, row),
        }
    }

    fn embed_batch(&mut self, inputs: &[f32], rows: &mut [u8]) -> Result<()> {
        match self {
            Self::Native(native) => native.embed_batch(inputs, rows),
            #[cfg(feature = "tract")]
            Self::Tract(tract) => tract.embed_batch(inputs, rows),
            #[cfg(feature = "ort")]
            Self::Ort(ort) => ort.embed_batch(inputs, rows),
        }
    }
}

/// Providers in the order of preference: the first that loads runs, the next takes over where it fails, and every change is noted.
#[derive(Debug, Clone)]
pub struct Chain<'b> {
    bundle: Bundle<'b>,
    settings: Settings,
    current: Provider<'b>,
    /// What is left to fall back on.
    rest: Vec<String>,
    /// Shared with clones: they are the same chain on other threads.
    notices: Arc<Mutex<Vec<String>>>,
}

impl<'b> Chain<'b> {
    /// Loads the bundle's backbone on the first of `names` that can run it; [`PROVIDERS`] where that is empty.
    ///
    /// # Errors
    /// What the last of them says, when none can; [`Error::UnknownProvider`] at once for a name that this build does not have.
    pub fn load(bundle: &Bundle<'b>, wanted: &[String], settings: &Settings) -> Result<Self> {
        let all = names();
        if let Some(name) = wanted.iter().find(|name| !all.contains(&name.as_str())) {
            return Err(Error::UnknownProvider { name: name.clone() });
        }
        let mut order: Vec<String> = wanted.to_vec();
        if order.is_empty() {
            order.extend(PROVIDERS.iter().map(ToString::to_string));
        }
        let (current, rest, notice) = first(bundle, &order, settings, None)?;
        let notices = Arc::new(Mutex::new(notice.into_iter().collect()));
        Ok(Self { bundle: bundle.clone(), settings: settings.clone(), current, rest, notices })
    }

    /// What runs now.
    #[must_use]
    pub fn current(&self) -> &Provider<'b> {
        &self.current
    }

    /// Every time that a provider was not used, or failed, and why: since the last call, on this chain and its clones.
    pub fn take_notices(&self) -> Vec<String> {
        core::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The first of `order` that loads, the ones behind it, and a notice where that was not the first.
fn first<'b>(
    bundle: &Bundle<'b>,
    order: &[String],
    settings: &Settings,
    failed: Option<String>,
) -> Result<(Provider<'b>, Vec<String>, Option<String>)> {
    let mut why = failed;
    let mut last = Error::Missing { what: "provider in this build" };
    for (at, name) in order.iter().enumerate() {
        match Provider::load(bundle, name, settings) {
            Ok(provider) => {
                let rest = order.get(at + 1..).unwrap_or_default().to_vec();
                let notice = why.map(|why| format!("the backbone runs on {name}: {why}"));
                return Ok((provider, rest, notice));
            }
            Err(error) => {
                let this = format!("{name} cannot ({error})");
                why = Some(why.map_or_else(|| this.clone(), |why| format!("{why}; {this}")));
                last = error;
            }
        }
    }
    Err(last)
}

impl Backbone for Chain<'_> {
    fn provider(&self) -> &str {
        self.current.provider()
    }

    fn input_shape(&self) -> &[usize] {
        self.current.input_shape()
    }

    fn embedding(&self) -> EmbeddingSpec {
        self.current.embedding()
    }

    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> {
        loop {
            match self.current.embed(input, row) {
                // The provider's own failure, not the input's.
                Err(Error::Provider { provider, why }) if !self.rest.is_empty() => {
                    let failed = format!("{provider} failed ({why})");
                    let (current, rest, notice) = first(&self.bundle, &self.rest, &self.settings, Some(failed))?;
                    (self.current, self.rest) = (current, rest);
                    let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
                    // Clones on other threads meet the same failure.
                    if let Some(notice) = notice.filter(|notice| !notices.contains(notice)) {
                        notices.push(notice);
                    }
                }
                done => return done,
            }
        }
    }
}
