//! One ONNX model in a session of its own, its input and output bound once.

use std::borrow::ToOwned;
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use ort::environment::Environment;
use ort::ep;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, Session};
use ort::value::{Tensor, TensorElementType, ValueType};

use super::assignment::{self, Partition};
use super::cache::Entry;
use super::environment::environment;
use super::{ExecutionProvider, Found, Settings};
use crate::backbone::Fingerprint;

/// How a model is to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// What runs it.
    pub provider: ExecutionProvider,
    /// Library, threads and so on.
    pub settings: &'a Settings,
    /// What was found on this machine.
    pub found: &'a Found,
    /// Shape of the input, batch included; a batch that the file fixes is taken instead.
    pub input: &'a [usize],
    /// Where what loading worked out is kept between runs of the program ([`Settings::cache`]), for the backbone of this identity.
    pub fingerprint: Option<Fingerprint>,
    /// What the session is to tell about itself.
    pub asks: Asks<'a>,
}

/// What a session tells about itself, beside running. With any of these it is made anew, not from the cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asks<'a> {
    /// For [`OrtModel::partitions`].
    pub partitions: bool,
    /// For [`OrtModel::end_profile`]: the file's path, to which ONNX Runtime adds the time and `.json`.
    pub profile: Option<&'a Path>,
}

impl Asks<'_> {
    fn nothing(&self) -> bool {
        !self.partitions && self.profile.is_none()
    }
}

/// A session with its input and output bound: no copy beside those of the caller's.
#[derive(Debug)]
pub struct OrtModel {
    session: Session,
    binding: IoBinding,
    input: Tensor<f32>,
    elements: usize,
    output: usize,
}

// SAFETY: what ONNX Runtime made may be used on any thread, by one at a time, which `&mut` sees to: `run`, `input` and `end_profile` take it. The
// tensors are ONNX Runtime's own memory; nothing of the caller's backs them.
#[allow(unsafe_code, reason = "the binding leaves it open")]
unsafe impl Send for OrtModel {}
// SAFETY: through `&` only sizes are read, and what the session recorded when it was made.
#[allow(unsafe_code, reason = "the binding leaves it open")]
unsafe impl Sync for OrtModel {}

impl OrtModel {
    /// Loads the bytes of an ONNX file with one input and one output, both f32.
    ///
    /// # Errors
    /// What is missing or refused, in words.
    pub fn load(onnx: &[u8], how: &Load<'_>) -> Result<Self, String> {
        let Some(entry) = cache_entry(how)? else { return Self::open(onnx, how, &Draft::None) };
        if let Some(optimized) = entry.read() {
            match Self::open(&optimized, how, &Draft::Reads) {
                Ok(model) => return Ok(model),
                // Whole, and yet not what this library takes.
                Err(_) => entry.discard(),
            }
        }
        let Some(draft) = entry.draft() else { return Self::open(onnx, how, &Draft::None) };
        if let Ok(model) = Self::open(onnx, how, &Draft::Writes(&draft)) {
            entry.keep(&draft);
            return Ok(model);
        }
        // The folder may be full, or may not be written to: that is no reason not to run.
        drop(std::fs::remove_file(&draft));
        Self::open(onnx, how, &Draft::None)
    }

    fn open(onnx: &[u8], how: &Load<'_>, draft: &Draft<'_>) -> Result<Self, String> {
        let mut builder = draft.apply(builder(how)?, how.provider)?;
        let session = builder.commit_from_memory(onnx).map_err(said)?;
        Self::bind(session, how.input)
    }

    fn bind(session: Session, shape: &[usize]) -> Result<Self, String> {
        let [input] = session.inputs() else {
            return Err(format!("the model has {} inputs, not one", session.inputs().len()));
        };
        let [output] = session.outputs() else {
            return Err(format!("the model has {} outputs, not one", session.outputs().len()));
        };
        for port in [input, output] {
            if port.dtype().tensor_type() != Some(TensorElementType::Float32) {
                return Err(format!("'{}' is {}, not a tensor of f32", port.name(), port.dtype()));
            }
        }
        let (input_name, output_name) = (input.name().to_owned(), output.name().to_owned());
        let mut given: Vec<i64> = shape.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
        // A file may fix how many inputs it takes at a time.
        if let (ValueType::Tensor { shape, .. }, Some(batch)) = (input.dtype(), given.first_mut())
            && let Some(&fixed) = shape.first()
            && fixed > 0
        {
            *batch = fixed;
        }
        let elements = given.iter().map(|&d| usize::try_from(d).unwrap_or(0)).product();
        let output_shape = match output.dtype() {
            ValueType::Tensor { shape, .. } => known(shape, given.first().copied().unwrap_or(1)),
            _ => None,
        };
        let output_shape = output_shape.ok_or_else(|| format!("the shape of output '{output_name}' stays open"))?;
        let output = output_shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).product();
        let input = Tensor::<f32>::new(session.allocator(), given).map_err(said)?;
        let result = Tensor::<f32>::new(session.allocator(), output_shape).map_err(said)?;
        let mut binding = session.create_binding().map_err(said)?;
        binding.bind_input(input_name, &input).map_err(said)?;
        binding.bind_output(output_name, result).map_err(said)?;
        Ok(Self { session, binding, input, elements, output })
    }

    /// Number of values that [`OrtModel::input`] has.
    #[must_use]
    pub fn input_elements(&self) -> usize {
        self.elements
    }

    /// Number of values that [`OrtModel::run`] gives.
    #[must_use]
    pub fn output_elements(&self) -> usize {
        self.output
    }

    /// The bound input, row-major: to be written before [`OrtModel::run`], without a copy.
    pub fn input(&mut self) -> &mut [f32] {
        self.input.extract_tensor_mut().1
    }

    /// Runs the model on what [`OrtModel::input`] holds; `take` gets the output.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn run<T>(&mut self, take: impl FnOnce(&[f32]) -> T) -> Result<T, String> {
        let outputs = self.session.run_binding(&self.binding).map_err(said)?;
        let output = outputs.values().next().ok_or("the session gave no output")?;
        let (_, values) = output.try_extract_tensor::<f32>().map_err(said)?;
        Ok(take(values))
    }

    /// Which nodes each execution provider has taken, where the session was [asked](Asks::partitions) to record it.
    ///
    /// # Errors
    /// The library is older than 1.24, or nothing was recorded.
    pub fn partitions(&self) -> Result<Vec<Partition>, String> {
        assignment::of(&self.session)
    }

    /// Ends the profile that the session was [asked](Asks::profile) for; the path of its file.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn end_profile(&mut self) -> Result<String, String> {
        self.session.end_profiling().map_err(said)
    }
}

/// What a session does with the optimized model.
enum Draft<'a> {
    /// Nothing.
    None,
    /// Is made from one.
    Reads,
    /// Writes it to that file.
    Writes(&'a Path),
}

impl Draft<'_> {
    fn apply(&self, builder: SessionBuilder, provider: ExecutionProvider) -> Result<SessionBuilder, String> {
        let is_qnn = provider == ExecutionProvider::Qnn;
        match self {
            Self::None => Ok(builder),
            Self::Reads if is_qnn => Ok(builder),
            Self::Reads => builder.with_optimization_level(GraphOptimizationLevel::Disable).map_err(said_builder),
            Self::Writes(path) if is_qnn => {
                // The context binary: the graph as it was compiled for the NPU, inside one ONNX file.
                let file = path.display().to_string();
                let mut builder = builder;
                for (key, value) in [
                    ("ep.context_enable", "1"),
                    ("ep.context_embed_mode", "1"),
                    ("ep.context_file_path", file.as_str()),
                ] {
                    builder = builder.with_config_entry(key, value).map_err(said_builder)?;
                }
                Ok(builder)
            }
            Self::Writes(path) => builder.with_optimized_model_path(path).map_err(said_builder),
        }
    }
}

/// Where the optimized model is kept; `None` where it is not. Providers that compile parts of a graph cannot write them as ONNX, except
/// for QNN, which has a form for it; OpenVINO keeps its own in the same folder.
fn cache_entry(how: &Load<'_>) -> Result<Option<Entry>, String> {
    let is_kept = matches!(how.provider, ExecutionProvider::Cpu | ExecutionProvider::Qnn);
    let is_kept = is_kept && how.asks.nothing();
    let Some((folder, fingerprint)) = how.settings.cache.as_deref().zip(how.fingerprint).filter(|_| is_kept) else {
        return Ok(None);
    };
    let library = how.found.library(how.provider)?;
    Ok(Some(Entry::new(folder, fingerprint, how.provider, &library.path, how.settings)))
}

/// The shape with `batch` in the place of a first dimension that is open; `None` where another one is.
fn known(shape: &[i64], batch: i64) -> Option<Vec<i64>> {
    let (&first, rest) = shape.split_first()?;
    let first = if first > 0 { first } else { batch };
    rest.iter().all(|&d| d > 0).then(|| core::iter::once(first).chain(rest.iter().copied()).collect())
}

fn builder(how: &Load<'_>) -> Result<SessionBuilder, String> {
    let library = how.found.library(how.provider)?;
    let qnn = (how.provider == ExecutionProvider::Qnn).then(|| how.found.qnn()).transpose()?;
    let environment = environment(&library.path, qnn)?;
    let settings = how.settings;
    let mut builder = Session::builder(&environment).map_err(said)?;
    builder = builder.with_no_environment_execution_providers().map_err(said_builder)?;
    builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(said_builder)?;
    builder = builder.with_intra_threads(settings.threads.max(1)).map_err(said_builder)?;
    builder = builder.with_inter_threads(1).map_err(said_builder)?;
    builder = builder.with_intra_op_spinning(settings.threads > 1).map_err(said_builder)?;
    // Backbones are written with this name for an open batch; others do not know it, and nothing happens.
    if let Some(&batch) = how.input.first() {
        builder =
            builder.with_dimension_override(super::BATCH, i64::try_from(batch).unwrap_or(1)).map_err(said_builder)?;
    }
    if settings.precise {
        builder = builder.with_precise_qmm().map_err(said_builder)?;
    }
    if how.asks.partitions {
        builder = builder.with_config_entry(assignment::RECORD, "1").map_err(said_builder)?;
        // Providers say in their logs why they leave a node: QNN does at this level alone.
        builder = builder.with_log_level(LogLevel::Verbose).map_err(said_builder)?;
    }
    if let Some(profile) = how.asks.profile {
        builder = builder.with_profiling(profile).map_err(said_builder)?;
    }
    with_provider(builder, &environment, how, qnn)
}

fn with_provider(
    builder: SessionBuilder,
    environment: &Environment,
    how: &Load<'_>,
    qnn: Option<&super::QnnPlugin>,
) -> Result<SessionBuilder, String> {
    let threads = how.settings.threads.max(1);
    let dispatch = match how.provider {
        ExecutionProvider::Cpu => return Ok(builder),
        ExecutionProvider::Qnn => {
            let backend = qnn.map(|qnn| qnn.backend.display().to_string()).unwrap_or_default();
            let name = how.provider.long_name();
            // Otherwise the first quantization and the last dequantization are left to ONNX Runtime's own kernels.
            let options = [
                (format!("{name}.backend_path"), backend),
                (format!("{name}.offload_graph_io_quantization"), "0".to_owned()),
            ];
            let devices: Vec<_> =
                environment.devices().filter(|device| device.ep().is_ok_and(|ep| ep == name)).collect();
            // The plugin offers its processors one by one; one backend runs on one of them.
            let Some(device) = devices.into_iter().next() else {
                return Err("the QNN plugin offers no device".to_owned());
            };
            return builder.with_devices([device], Some(&options)).map_err(said_builder);
        }
        ExecutionProvider::OpenVino => {
            let openvino = ep::OpenVINO::default().with_device_type("CPU").with_num_threads(threads);
            match &how.settings.cache {
                Some(folder) => openvino.with_cache_dir(folder.join("openvino").display().to_string()).build(),
                None => openvino.build(),
            }
        }
        #[cfg(feature = "xnnpack")]
        ExecutionProvider::Xnnpack => {
            let threads = std::num::NonZeroUsize::new(threads).unwrap_or(std::num::NonZeroUsize::MIN);
            ep::XNNPACK::default().with_intra_op_num_threads(threads).build()
        }
        #[cfg(feature = "coreml")]
        // Of its two formats the one that computes in fp16.
        ExecutionProvider::CoreMl => {
            ep::CoreML::default().with_model_format(ep::coreml::ModelFormat::MLProgram).build()
        }
        #[cfg(feature = "nnapi")]
        ExecutionProvider::Nnapi => ep::NNAPI::default().build(),
        #[cfg(feature = "acl")]
        ExecutionProvider::Acl => ep::ACL::default().build(),
        #[cfg(feature = "rknpu")]
        ExecutionProvider::Rknpu => ep::RKNPU::default().build(),
        #[allow(unreachable_patterns, reason = "with all features there is no other")]
        other => {
            return Err(format!("{} is not in this build; build with `--features {}`", other.name(), other.feature()));
        }
    };
    builder.with_execution_providers([dispatch.error_on_failure()]).map_err(said_builder)
}

fn said(error: ort::Error) -> String {
    one_line(&error.to_string())
}

fn said_builder(error: ort::Error<SessionBuilder>) -> String {
    one_line(&error.to_string())
}

/// ONNX Runtime's messages carry line breaks and its source files' paths.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
