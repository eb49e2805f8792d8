//! The one ONNX Runtime of a process.

use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::ExecutionProvider;
use super::library::QnnPlugin;

/// What the process has loaded. ONNX Runtime can be loaded once: a second library of another version in the same process would answer with
/// the first one's functions.
struct Loaded {
    path: PathBuf,
    environment: Environment,
    plugins: Vec<PathBuf>,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The environment of the library at `path`, with a plugin registered where one is given.
///
/// # Errors
/// The library cannot be loaded (missing, for another processor, too old), or the process has another one.
pub(super) fn environment(path: &Path, qnn: Option<&QnnPlugin>) -> Result<Environment, String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = match &mut *loaded {
        Some(loaded) => loaded,
        none => none.insert(Loaded { path: path.to_path_buf(), environment: load(path)?, plugins: Vec::new() }),
    };
    if loaded.path != path {
        return Err(format!(
            "this process has loaded {} already, and ONNX Runtime can be loaded once; run {} in a command of its own",
            loaded.path.display(),
            path.display()
        ));
    }
    if let Some(qnn) = qnn
        && !loaded.plugins.contains(&qnn.plugin)
    {
        loaded
            .environment
            .register_ep_library(ExecutionProvider::Qnn.long_name(), &qnn.plugin)
            .map_err(|error| format!("{}: {error}", qnn.plugin.display()))?;
        loaded.plugins.push(qnn.plugin.clone());
    }
    Ok(loaded.environment.clone())
}

fn load(path: &Path) -> Result<Environment, String> {
    let build = || -> Result<Environment, String> {
        let builder = ort::init_from(path).map_err(|error| error.to_string())?;
        let environment = builder
            .with_name("hone")
            .with_telemetry(false)
            .build()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        environment.set_log_level(LogLevel::Error);
        Ok(environment)
    };
    // A file that only looks like ONNX Runtime may break what the binding takes for granted.
    catch_unwind(AssertUnwindSafe(build))
        .unwrap_or_else(|_| Err(format!("{} is not a library of ONNX Runtime", path.display())))
}
