//! Installs what the tests need: rustup targets, Python wheels into the target directory.

use std::path::PathBuf;
use std::process::Command;

use crate::step::{self, Result, capture, target};

/// Targets that `hone-runtime` is built for in every test run.
pub const TARGETS: [&str; 3] = ["thumbv6m-none-eabi", "thumbv7em-none-eabihf", "aarch64-unknown-linux-gnu"];

/// Python packages of the tests: the peers that answers are compared with.
const WHEELS: [&str; 3] = ["numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.32.0"];

/// What was found or installed.
pub struct Installed {
    /// The Python interpreter.
    pub python: PathBuf,
    /// The folder with the wheels, for `PYTHONPATH`.
    pub site: PathBuf,
}

/// Installs whatever is missing; quick when nothing is.
pub fn run() -> Result<Installed> {
    rust_targets()?;
    python()
}

fn rust_targets() -> Result {
    let listed = capture(Command::new("rustup").args(["target", "list", "--installed"]));
    let Some(listed) = listed else {
        return Err("rustup is needed to install the bare-metal targets: see https://rustup.rs".into());
    };
    let missing: Vec<&str> = TARGETS.into_iter().filter(|t| !listed.lines().any(|l| l == *t)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    step::run("rustup targets", Command::new("rustup").args(["target", "add"]).args(missing))
}

fn python() -> Result<Installed> {
    let python = ["python3", "python"]
        .into_iter()
        .find(|p| capture(Command::new(p).args(["-c", "import sys; assert sys.version_info >= (3, 10)"])).is_some())
        .ok_or("Python 3.10 or newer with pip is needed for the comparisons with ONNX Runtime")?;
    let site = target().join("python");
    let stamp = site.join("hone-wheels.txt");
    let wanted = WHEELS.join("\n");
    if std::fs::read_to_string(&stamp).ok().as_deref() != Some(wanted.as_str()) {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"]);
        pip.arg(&site).args(WHEELS);
        step::run("Python wheels", &mut pip)?;
        std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    }
    Ok(Installed { python: PathBuf::from(python), site })
}
