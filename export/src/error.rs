//! The one error type of this crate. Every variant has a stable [`Error::code`] and names the file and the cause.

use std::path::{Path, PathBuf};

/// What can go wrong between an ONNX file and a bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file exists and would have to be overwritten.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A file is not what its name or place says: cut short, corrupt, of another format.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        why: String,
    },
    /// A file refers to something outside its own folder.
    #[error("{}: external data of tensor '{tensor}' at '{location}' refused: {why}", path.display())]
    UnsafePath {
        /// The model file.
        path: PathBuf,
        /// The tensor that refers to it.
        tensor: String,
        /// The path as written in the model.
        location: String,
        /// Why it is refused.
        why: String,
    },
    /// A file asks for more than the stated bound.
    #[error("{}: {what} needs {needs}, the limit is {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large.
        what: String,
        /// What it asks for (with its unit).
        needs: String,
        /// The bound (with its unit).
        limit: String,
    },
    /// Evaluating one row of the model would cost too much.
    #[error("one row costs {needs} {unit}, the limit is {limit}; most of it in node '{node}' ({op})")]
    TooCostly {
        /// The node that costs most.
        node: String,
        /// Its operator.
        op: String,
        /// What the whole model asks for.
        needs: u64,
        /// The bound.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// The model uses something that is not supported; nothing is silently approximated.
    #[error("node '{node}' ({op}): {why}")]
    Unsupported {
        /// Name of the node, or of its first output where it has none.
        node: String,
        /// Operator, with its domain where it is not the default one.
        op: String,
        /// What exactly is not supported.
        why: String,
    },
    /// The model is readable but contradicts itself (shapes, missing values, cycles).
    #[error("model '{model}': {why}")]
    InvalidModel {
        /// The model's file name or graph name.
        model: String,
        /// What contradicts what.
        why: String,
    },
    /// There is no layer whose output can be replaced by a trainable head.
    #[error("model '{model}' has no trainable last layer: {why}")]
    NoHead {
        /// The model's file name or graph name.
        model: String,
        /// What was looked for and what was found.
        why: String,
    },
    /// `--cut` names a tensor at which the model cannot be split.
    #[error("'{tensor}' is no legal cut: {why}")]
    IllegalCut {
        /// The tensor that was named.
        tensor: String,
        /// Why not, and which cuts are legal.
        why: String,
    },
    /// Calibration or evaluation data cannot be used.
    #[error("{}: {why}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what came.
        why: String,
    },
    /// Labels of the data and classes of the head do not match.
    #[error("{}: {why}", path.display())]
    Label {
        /// The data.
        path: PathBuf,
        /// Which label, and what the head knows.
        why: String,
    },
    /// Data does not fit the model's input.
    #[error("{what}: expected shape {expected}, got {got}")]
    Shape {
        /// Which tensor or file.
        what: String,
        /// The shape asked for.
        expected: String,
        /// The shape that came.
        got: String,
    },
    /// NaN or infinity where a finite number is needed.
    #[error("{what} holds {value} at index {index}")]
    NonFinite {
        /// Which tensor or file.
        what: String,
        /// `NaN`, `inf` or `-inf`.
        value: f32,
        /// Flat index, row-major.
        index: usize,
    },
    /// A setting is out of its range.
    #[error("{name}: {why}")]
    Setting {
        /// Name of the setting, as the user writes it.
        name: String,
        /// What is allowed and what came.
        why: String,
    },
    /// The quantized model no longer agrees with the original; it was not written.
    #[error("the {precision} model collapsed: {why}; layers at fault: {}", layers.join(", "))]
    Collapsed {
        /// `int8` or `fp16`.
        precision: String,
        /// The figures against their limits.
        why: String,
        /// Worst layers first.
        layers: Vec<String>,
    },
    /// A process that runs a provider failed.
    #[error("{0}")]
    Worker(String),
    /// The runtime refused (bundle, head, provider).
    #[error(transparent)]
    Runtime(#[from] hone_runtime::Error),
    /// The runtime refused something that came from a known place.
    #[error("{place}: {cause}")]
    In {
        /// The file or folder, or several in words.
        place: String,
        /// What is wrong with it.
        cause: hone_runtime::Error,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Stable identifier, as printed by `--json` and listed in `docs/cli.md`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Exists(_) => "exists",
            Self::Malformed { .. } => "malformed",
            Self::UnsafePath { .. } => "unsafe-path",
            Self::TooLarge { .. } => "too-large",
            Self::TooCostly { .. } => "too-costly",
            Self::Unsupported { .. } => "unsupported",
            Self::InvalidModel { .. } => "invalid-model",
            Self::NoHead { .. } => "no-head",
            Self::IllegalCut { .. } => "illegal-cut",
            Self::Data { .. } => "data",
            Self::Label { .. } => "label",
            Self::Shape { .. } => "shape",
            Self::NonFinite { .. } => "non-finite",
            Self::Setting { .. } => "setting",
            Self::Collapsed { .. } => "collapsed",
            Self::Worker(_) => "provider",
            Self::Runtime(e) | Self::In { cause: e, .. } => e.code(),
        }
    }

    /// Wraps a system error with the path it happened at.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// Adds to an error of the runtime's where it comes from.
    pub fn place(place: impl std::fmt::Display) -> impl FnOnce(hone_runtime::Error) -> Self {
        let place = place.to_string();
        move |cause| Self::In { place, cause }
    }

    /// Says which file it is about where the model's name for itself stands, which any file may bear.
    #[must_use]
    pub fn in_model(self, file: &Path) -> Self {
        let file = file.display().to_string();
        match self {
            Self::InvalidModel { why, .. } => Self::InvalidModel { model: file, why },
            Self::NoHead { why, .. } => Self::NoHead { model: file, why },
            Self::NonFinite { what, value, index } => Self::NonFinite { what: format!("{file}: {what}"), value, index },
            Self::Unsupported { node, op, why } => Self::Unsupported { node, op, why: format!("{why} ({file})") },
            Self::IllegalCut { tensor, why } => Self::IllegalCut { tensor, why: format!("{why} ({file})") },
            Self::TooCostly { node, op, needs, limit, unit } => {
                Self::TooCostly { node, op: format!("{op}, {file}"), needs, limit, unit }
            }
            other => other,
        }
    }

    /// A process that runs a provider, and failed.
    pub fn worker(why: impl Into<String>) -> Self {
        Self::Worker(why.into())
    }

    /// A file that is not what it should be.
    pub fn malformed(path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self::Malformed { path: path.as_ref().to_path_buf(), why: why.into() }
    }

    /// Data that cannot be used.
    pub fn data(path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_path_buf(), why: why.into() }
    }
}
