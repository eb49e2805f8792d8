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
use std::path::{Path, PathBuf};
use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

pub use assignment::{AssignedNode, Partition};
pub use library::{Found, Library, Origin, QnnPlugin};
pub use probe::{Probe, probe};
pub use session::{Asks, Load, OrtModel};

use super::provider::onnxruntime_saturates;
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

    /// Whether it computes on the processor, where float models run as they are; the others are for accelerators.
    #[must_use]
    pub const fn is_for_processors(self) -> bool {
        matches!(self, Self::Cpu | Self::OpenVino | Self::Xnnpack | Self::Acl)
    }

    /// Whether `tests/providers.rs` runs it; the others are compiled only.
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
}

impl Default for Settings {
    fn default() -> Self {
        Self { library: None, cache: None, threads: 1, precise: onnxruntime_saturates() }
    }
}

/// Everything that a session of a backbone is made of.
struct Recipe {
    onnx: Vec<u8>,
    provider: ExecutionProvider,
    settings: Settings,
    found: Found,
    /// Without the batch.
    input_shape: Vec<usize>,
    embedding: EmbeddingSpec,
    fingerprint: Fingerprint,
}

impl Recipe {
    fn new(bundle: &Bundle<'_>, provider: ExecutionProvider, settings: &Settings) -> Result<Self> {
        Ok(Self {
            onnx: bundle.backbone.to_vec(),
            provider,
            settings: settings.clone(),
            found: Found::search(settings.library.as_deref()),
            input_shape: bundle.input.shape().to_vec(),
            embedding: bundle.embedding.check()?,
            fingerprint: bundle.fingerprint,
        })
    }

    /// A session for `batch` inputs at a time, or for the number that the file fixes, checked against what the bundle states.
    fn session(&self, batch: usize, asks: Asks<'_>) -> Result<OrtModel> {
        let mut shape = Vec::from([batch]);
        shape.extend(&self.input_shape);
        let how = Load {
            provider: self.provider,
            settings: &self.settings,
            found: &self.found,
            input: &shape,
            // What is kept is for one input at a time.
            fingerprint: (batch == 1).then_some(self.fingerprint),
            asks,
        };
        let model = OrtModel::load(&self.onnx, &how).map_err(|why| self.failed(why))?;
        let expected = self.rows(&model) * self.embedding.dim;
        if model.output_elements() != expected {
            return Err(Error::Shape {
                what: "values of the backbone's output",
                expected,
                got: model.output_elements(),
            });
        }
        Ok(model)
    }

    /// Inputs that a session takes at a time.
    fn rows(&self, model: &OrtModel) -> usize {
        model.input_elements() / self.input_shape.iter().product::<usize>().max(1)
    }

    fn failed(&self, why: String) -> Error {
        Error::Provider { provider: self.provider.name(), why }
    }
}

/// A bundle's backbone in a session of ONNX Runtime.
///
/// A clone makes a session of its own when it first runs: sessions are not shared between threads.
pub struct OrtBackbone {
    recipe: Arc<Recipe>,
    model: Option<OrtModel>,
    /// For the number of inputs that came together last; it takes fewer at a time where the file fixes that.
    batched: Option<(usize, OrtModel)>,
}

impl OrtBackbone {
    /// Loads the bundle's backbone for one input at a time, and checks it against what the bundle states.
    ///
    /// # Errors
    /// [`Error::Provider`]: no library, a library that cannot be loaded, a model that the provider refuses; [`Error::Shape`].
    pub fn load(bundle: &Bundle<'_>, provider: ExecutionProvider, settings: &Settings) -> Result<Self> {
        let recipe = Recipe::new(bundle, provider, settings)?;
        let model = recipe.session(1, Asks::default())?;
        Ok(Self { recipe: Arc::new(recipe), model: Some(model), batched: None })
    }

    /// Which nodes of the bundle's backbone each execution provider takes when `provider` is asked to run it: what it leaves is ONNX
    /// Runtime's own. Loads the backbone for that, and drops it.
    ///
    /// # Errors
    /// As [`OrtBackbone::load`]; [`Error::Provider`] where the library is older than 1.24.
    pub fn partitions(bundle: &Bundle<'_>, provider: ExecutionProvider, settings: &Settings) -> Result<Vec<Partition>> {
        let recipe = Recipe::new(bundle, provider, settings)?;
        let model = recipe.session(1, Asks { partitions: true, ..Asks::default() })?;
        model.partitions().map_err(|why| recipe.failed(why))
    }

    /// Runs the backbone `runs` times on each input and lets ONNX Runtime write its profile of that to a file whose path begins with
    /// `prefix`; gives the path. The profile is JSON in the trace event format.
    ///
    /// # Errors
    /// As [`OrtBackbone::load`] and [`Backbone::embed`].
    pub fn profile(
        bundle: &Bundle<'_>,
        provider: ExecutionProvider,
        settings: &Settings,
        inputs: &[Vec<f32>],
        runs: usize,
        prefix: &Path,
    ) -> Result<PathBuf> {
        let recipe = Recipe::new(bundle, provider, settings)?;
        let model = recipe.session(1, Asks { profile: Some(prefix), ..Asks::default() })?;
        let mut backbone = Self { recipe: Arc::new(recipe), model: Some(model), batched: None };
        let mut row = vec![0; backbone.embedding().row_bytes()];
        for input in inputs.iter().cycle().take(inputs.len() * runs) {
            backbone.embed(input, &mut row)?;
        }
        let file = backbone.model()?.end_profile();
        file.map(PathBuf::from).map_err(|why| backbone.recipe.failed(why))
    }

    /// The session, made now where this is a clone that has not run yet.
    fn model(&mut self) -> Result<&mut OrtModel> {
        match &mut self.model {
            Some(model) => Ok(model),
            none => Ok(none.insert(self.recipe.session(1, Asks::default())?)),
        }
    }

    /// The session for that many inputs at a time.
    fn batched(&mut self, batch: usize) -> Result<&mut OrtModel> {
        if batch == 1 {
            return self.model();
        }
        if self.batched.as_ref().is_none_or(|(size, _)| *size != batch) {
            self.batched = Some((batch, self.recipe.session(batch, Asks::default())?));
        }
        match &mut self.batched {
            Some((_, model)) => Ok(model),
            None => Err(Error::Missing { what: "session" }),
        }
    }
}

impl Clone for OrtBackbone {
    fn clone(&self) -> Self {
        Self { recipe: Arc::clone(&self.recipe), model: None, batched: None }
    }
}

impl fmt::Debug for OrtBackbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrtBackbone").field("provider", &self.recipe.provider).finish_non_exhaustive()
    }
}

/// Values that fit into a processor's first cache, twice.
const BLOCK: usize = 2048;

/// Copies the input, and looks at each block while it is near; refuses it where it is not finite.
fn copy_finite(to: &mut [f32], from: &[f32]) -> Result<()> {
    for (block, (to, from)) in to.chunks_mut(BLOCK).zip(from.chunks(BLOCK)).enumerate() {
        to.copy_from_slice(from);
        super::check_finite(from, block * BLOCK)?;
    }
    Ok(())
}

impl Backbone for OrtBackbone {
    fn provider(&self) -> &str {
        self.recipe.provider.name()
    }

    fn input_shape(&self) -> &[usize] {
        &self.recipe.input_shape
    }

    fn embedding(&self) -> EmbeddingSpec {
        self.recipe.embedding
    }

    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> {
        let expected = self.recipe.input_shape.iter().product();
        if input.len() != expected {
            return Err(Error::Shape { what: "values of the model's input", expected, got: input.len() });
        }
        self.embed_batch(input, row)
    }

    fn embed_batch(&mut self, inputs: &[f32], rows: &mut [u8]) -> Result<()> {
        let recipe = Arc::clone(&self.recipe);
        let count = super::count(self, inputs, rows)?;
        let (dim, row_bytes) = (recipe.embedding.dim, recipe.embedding.row_bytes());
        let model = self.batched(count)?;
        let together = recipe.rows(model);
        if together == 0 || count % together != 0 {
            return Err(Error::Shape {
                what: "inputs that the backbone takes at a time",
                expected: together,
                got: count,
            });
        }
        let parts =
            inputs.chunks_exact(inputs.len() / count * together).zip(rows.chunks_exact_mut(row_bytes * together));
        for (inputs, rows) in parts {
            copy_finite(model.input(), inputs)?;
            let quantized = model.run(|real| {
                let mut pairs = real.chunks_exact(dim).zip(rows.chunks_exact_mut(row_bytes));
                pairs.try_for_each(|(real, row)| recipe.embedding.quantize_row(real, row))
            });
            quantized.map_err(|why| recipe.failed(why))??;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_found_where_it_is() {
        let mut from = vec![1.0; 2 * BLOCK + 337];
        let mut to = vec![0.0; from.len()];
        copy_finite(&mut to, &from).unwrap();
        assert_eq!(to, from);
        for index in [0, 63, 64, BLOCK - 1, BLOCK, 2 * BLOCK, from.len() - 1] {
            from[index] = f32::NAN;
            let found = copy_finite(&mut to, &from);
            assert!(matches!(found, Err(Error::NonFinite { index: at, .. }) if at == index), "{found:?}");
            from[index] = 1.0;
        }
    }
}
