//! ONNX Runtime: a bundle's ONNX backbone on one of its execution providers.
//!
//! The library is loaded at run time from where [`Found::search`] finds it. It can be loaded once in a process; two providers that need two libraries
//! (`ort:cpu` and `ort:openvino`) need two processes.

mod assignment;
mod cache;
mod environment;
pub mod library;
mod probe;
pub mod session;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::vec::Vec;

pub use assignment::{AssignedNode, Partition};
pub use library::{Found, Library, Origin, QnnPlugin};
pub use probe::{Probe, probe};
pub use session::{Load, OrtModel};

use super::{Backbone, Fingerprint};
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::quant::EmbeddingSpec;

/// Name of the dimension that backbones leave open.
const BATCH: &str = "N";

/// What runs a session's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecutionProvider {
    /// ONNX Runtime's own kernels.
    Cpu,
    /// Intel's OpenVINO, on the processor.
    OpenVino,
    /// Qualcomm's QNN: the Hexagon NPU, simulated on a desktop.
    Qnn,
    /// XNNPACK.
    Xnnpack,
    /// Apple's Core ML.
    CoreMl,
    /// Android's Neural Networks API.
    Nnapi,
    /// Arm's Compute Library.
    Acl,
    /// Rockchip's NPU.
    Rknpu,
}

impl ExecutionProvider {
    /// All, those that are tested first.
    pub const ALL: [Self; 8] =
        [Self::Cpu, Self::OpenVino, Self::Qnn, Self::Xnnpack, Self::CoreMl, Self::Nnapi, Self::Acl, Self::Rknpu];

    /// As the command line names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "ort:cpu",
            Self::OpenVino => "ort:openvino",
            Self::Qnn => "ort:qnn",
            Self::Xnnpack => "ort:xnnpack",
            Self::CoreMl => "ort:coreml",
            Self::Nnapi => "ort:nnapi",
            Self::Acl => "ort:acl",
            Self::Rknpu => "ort:rknpu",
        }
    }

    /// As ONNX Runtime names it.
    #[must_use]
    pub const fn long_name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::OpenVino => "OpenVINOExecutionProvider",
            Self::Qnn => "QNNExecutionProvider",
            Self::Xnnpack => "XnnpackExecutionProvider",
            Self::CoreMl => "CoreMLExecutionProvider",
            Self::Nnapi => "NnapiExecutionProvider",
            Self::Acl => "ACLExecutionProvider",
            Self::Rknpu => "RknpuExecutionProvider",
        }
    }

    /// The cargo feature that has it.
    #[must_use]
    pub fn feature(self) -> &'static str {
        match self {
            Self::Cpu | Self::OpenVino | Self::Qnn => "ort",
            other => other.name().trim_start_matches("ort:"),
        }
    }

    /// The provider of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// Whether this build has it.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Cpu | Self::OpenVino | Self::Qnn => true,
            Self::Xnnpack => cfg!(feature = "xnnpack"),
            Self::CoreMl => cfg!(feature = "coreml"),
            Self::Nnapi => cfg!(feature = "nnapi"),
            Self::Acl => cfg!(feature = "acl"),
            Self::Rknpu => cfg!(feature = "rknpu"),
        }
    }

    /// Whether the tests run it; the others are compiled only.
    #[must_use]
    pub const fn is_tested(self) -> bool {
        matches!(self, Self::Cpu | Self::OpenVino | Self::Qnn)
    }
}

/// How sessions are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The library, or the folder that has it; otherwise it is looked for.
    pub library: Option<PathBuf>,
    /// Folder where optimized models and compiled graphs are kept for the next load; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// Threads of one session, at least 1.
    pub threads: usize,
    /// Whether 8-bit products must not saturate. Processors with AVX2 and without VNNI have fast kernels that do.
    pub precise: bool,
    /// Whether a node that the provider does not take is an error.
    pub whole: bool,
    /// Whether [`OrtModel::partitions`] is to be answered.
    pub record_assignment: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { library: None, cache: None, threads: 1, precise: saturates(), whole: false, record_assignment: false }
    }
}

/// Whether ONNX Runtime's fast 8-bit kernels saturate on this processor.
fn saturates() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        !(std::is_x86_feature_detected!("avxvnni") || std::is_x86_feature_detected!("avx512vnni"))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Everything that a session of a backbone is made of.
struct Recipe {
    onnx: Vec<u8>,
    provider: ExecutionProvider,
    settings: Settings,
    found: Found,
    /// Batch included.
    shape: Vec<usize>,
    fingerprint: Fingerprint,
}

impl Recipe {
    fn session(&self) -> Result<OrtModel> {
        let how = Load {
            provider: self.provider,
            settings: &self.settings,
            found: &self.found,
            input: &self.shape,
            profile: None,
            fingerprint: Some(self.fingerprint),
        };
        OrtModel::load(&self.onnx, &how).map_err(|why| Error::Provider { provider: self.provider.name(), why })
    }
}

/// A bundle's backbone in a session of ONNX Runtime.
///
/// A clone makes a session of its own when it first runs: sessions are not shared between threads.
pub struct OrtBackbone {
    recipe: Arc<Recipe>,
    model: Option<OrtModel>,
    input_shape: Vec<usize>,
    embedding: EmbeddingSpec,
}

impl OrtBackbone {
    /// Loads the bundle's backbone for one input at a time, and checks it against what the bundle states.
    ///
    /// # Errors
    /// [`Error::Provider`]: no library, a library that cannot be loaded, a model that the provider refuses; [`Error::Shape`].
    pub fn load(bundle: &Bundle<'_>, provider: ExecutionProvider, settings: &Settings) -> Result<Self> {
        let found = Found::search(settings.library.as_deref());
        let embedding = bundle.embedding.check()?;
        let input_shape = bundle.input.shape().to_vec();
        let mut shape = Vec::from([1]);
        shape.extend(&input_shape);
        let fingerprint = bundle.fingerprint;
        let recipe =
            Recipe { fingerprint, onnx: bundle.backbone.to_vec(), provider, settings: settings.clone(), found, shape };
        let model = recipe.session()?;
        if model.output_elements() != embedding.dim {
            return Err(Error::Shape {
                what: "values of the backbone's output",
                expected: embedding.dim,
                got: model.output_elements(),
            });
        }
        Ok(Self { recipe: Arc::new(recipe), model: Some(model), input_shape, embedding })
    }

    /// The session, made now where this is a clone that has not run yet.
    ///
    /// # Errors
    /// As [`OrtBackbone::load`].
    pub fn model(&mut self) -> Result<&mut OrtModel> {
        if self.model.is_none() {
            self.model = Some(self.recipe.session()?);
        }
        self.model.as_mut().ok_or(Error::Missing { what: "session" })
    }

    /// What runs it.
    #[must_use]
    pub fn execution_provider(&self) -> ExecutionProvider {
        self.recipe.provider
    }
}

impl Clone for OrtBackbone {
    fn clone(&self) -> Self {
        Self {
            recipe: Arc::clone(&self.recipe),
            model: None,
            input_shape: self.input_shape.clone(),
            embedding: self.embedding,
        }
    }
}

impl fmt::Debug for OrtBackbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrtBackbone").field("provider", &self.recipe.provider).finish_non_exhaustive()
    }
}

impl Backbone for OrtBackbone {
    fn provider(&self) -> &str {
        self.recipe.provider.name()
    }

    fn input_shape(&self) -> &[usize] {
        &self.input_shape
    }

    fn embedding(&self) -> EmbeddingSpec {
        self.embedding
    }

    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> {
        let (provider, embedding) = (self.recipe.provider.name(), self.embedding);
        let model = self.model()?;
        if input.len() != model.input_elements() {
            return Err(Error::Shape {
                what: "values of the model's input",
                expected: model.input_elements(),
                got: input.len(),
            });
        }
        super::check_finite(input)?;
        model.input().copy_from_slice(input);
        model.run(|real| embedding.quantize_row(real, row)).map_err(|why| Error::Provider { provider, why })?
    }
}
