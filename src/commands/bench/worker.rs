//! The process of one provider, which `hone bench` starts.

use std::io::stdin;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use hone_export::apply::BundleFile;
use hone_export::bench::run::Launch;
use hone_export::bench::worker::{Model, serve};
use hone_export::{Error, Result};

use crate::args::{BenchWorker, Library};
use crate::ui::{Outcome, Ui};

/// Answers until standard input ends.
pub fn run(args: &BenchWorker, ui: &Ui) -> Outcome {
    let file = BundleFile::read(&args.bundle)?;
    #[cfg(feature = "export")]
    let model = args.original.as_deref().map_or(Model::Bundle, Model::Original);
    #[cfg(not(feature = "export"))]
    let model = Model::Bundle;
    let settings = args.library.settings()?;
    serve(&file, &args.provider, model, &settings, &args.inputs, stdin().lock(), |line| ui.line(line))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts such a process.
pub struct Launcher<'a> {
    program: PathBuf,
    bundle: &'a Path,
    library: &'a Library,
    inputs: &'a Path,
    patience: Duration,
}

impl<'a> Launcher<'a> {
    pub fn new(bundle: &'a Path, library: &'a Library, inputs: &'a Path, patience: Duration) -> Result<Self> {
        let program =
            std::env::current_exe().map_err(|e| Error::worker(format!("the program's own path is unknown: {e}")))?;
        Ok(Self { program, bundle, library, inputs, patience })
    }

    /// For the bundle on a provider.
    pub fn bundle(&self, provider: &str) -> Launch {
        #[cfg(feature = "ort")]
        return self.bundle_with_cache(provider, self.library.session_cache.as_deref());
        #[cfg(not(feature = "ort"))]
        self.bundle_with_cache(provider, None)
    }

    /// With a session cache of its own.
    pub fn bundle_with_cache(&self, provider: &str, cache: Option<&Path>) -> Launch {
        self.launch(self.command(provider, cache))
    }

    fn launch(&self, mut command: Command) -> Launch {
        command.arg("--").arg(self.bundle);
        Launch { command, patience: self.patience }
    }

    /// Without the bundle.
    fn command(&self, provider: &str, cache: Option<&Path>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["bench-worker", "--provider", provider, "--inputs"]).arg(self.inputs);
        #[cfg(feature = "ort")]
        {
            if let Some(library) = &self.library.library.ort_lib {
                command.arg("--ort-lib").arg(library);
            }
            if let Some(cache) = cache {
                command.arg("--session-cache").arg(cache);
            }
        }
        #[cfg(not(feature = "ort"))]
        let _ = cache;
        command
    }

    /// For the model that it was made from.
    #[cfg(feature = "export")]
    pub fn original(&self, provider: &str, model: &Path) -> Launch {
        let mut command = self.command(provider, None);
        command.arg("--original").arg(model);
        self.launch(command)
    }
}
