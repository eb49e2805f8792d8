//! Installs what the tests need: rustup targets, Debian packages when root, Python wheels into the target directory.

use std::path::PathBuf;
use std::process::Command;

use crate::step::{self, Result, capture, target};

/// Targets that `hone-runtime` is built for in every test run.
pub const TARGETS: [&str; 5] = [
    "thumbv6m-none-eabi",
    "thumbv7m-none-eabi",
    "thumbv7em-none-eabihf",
    "thumbv8m.main-none-eabihf",
    "aarch64-unknown-linux-gnu",
];

/// ONNX Runtime, as the tests' Python has it and as `ort:cpu` loads it.
pub const ONNX_RUNTIME: &str = "onnxruntime==1.32.0";

/// Python packages of the tests: the peers that answers are compared with.
const WHEELS: [&str; 3] = ["numpy==2.4.6", "onnx==1.23.2", ONNX_RUNTIME];

/// What the comparisons with other tools need beside these.
const PEERS: [&str; 4] = ["ai-edge-litert==2.3.0", "pillow==13.0.0", "scikit-learn==1.9.1", "threadpoolctl==3.8.0"];

/// Debian packages of the tests on other processors, each with a command that shows that it is there.
const DEBIAN: [(&str, &str); 3] = [
    ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
    ("qemu-user", "qemu-aarch64"),
    ("qemu-system-arm", "qemu-system-arm"),
];

/// What was found or installed.
pub struct Installed {
    /// What runs scripts.
    pub python: Python,
    /// Whether programs for aarch64 and for microcontrollers can be linked and run.
    pub emulators: bool,
}

/// Python and its wheels.
pub struct Python {
    /// The interpreter.
    pub program: PathBuf,
    /// The folder with the wheels, for `PYTHONPATH`.
    pub site: PathBuf,
}

impl Python {
    /// Tells a command where they are.
    pub fn env<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("HONE_PYTHON", &self.program).env("PYTHONPATH", &self.site)
    }
}

/// Installs whatever is missing; quick when nothing is.
pub fn run() -> Result<Installed> {
    let emulators = emulators()?;
    Ok(Installed { python: python()?, emulators })
}

/// Installs what other processors need; whether programs for them can be linked and run.
pub fn emulators() -> Result<bool> {
    rust_targets()?;
    debian()
}

/// Whether the Debian packages are there, after installing what can be.
fn debian() -> Result<bool> {
    let mut missing: Vec<&str> = DEBIAN
        .into_iter()
        .filter(|(_, command)| capture(Command::new(command).arg("--version")).is_none())
        .map(|(package, _)| package)
        .collect();
    if missing.is_empty() {
        return Ok(true);
    }
    // Recommended by the cross compiler, and needed to link and to run: the C library of the other processor.
    missing.push("libc6-dev-arm64-cross");
    if install(&missing)? {
        return Ok(true);
    }
    let list = missing.join(" ");
    if step::ci() {
        return Err(format!("the tests on other processors need {list}: install them, or run as root on Debian"));
    }
    println!("\nnotice: the tests on other processors are left out; they need: apt-get install {list}");
    Ok(false)
}

/// Installs Debian packages; false where that cannot be tried, for want of `apt-get` or of being root.
///
/// # Errors
/// Says which command of `apt-get` failed.
pub fn install(packages: &[&str]) -> Result<bool> {
    let root = capture(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    if !root || capture(Command::new("apt-get").arg("--version")).is_none() {
        return Ok(false);
    }
    step::run("Debian package lists", Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-qq", "--no-install-recommends"]);
    step::run("Debian packages", install.args(packages))?;
    Ok(true)
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

/// The wheels of `cargo xtask peers`, beside those of the tests.
pub fn peers(python: &Python) -> Result {
    wheels(python, "peers", &PEERS)
}

/// Finds the interpreter, and installs the wheels of the tests where they are missing.
pub fn python() -> Result<Python> {
    let program = ["python3", "python"]
        .into_iter()
        .find(|p| capture(Command::new(p).args(["-c", "import sys; assert sys.version_info >= (3, 11)"])).is_some())
        .ok_or("Python 3.11 or newer with pip is needed for the comparisons with ONNX Runtime")?;
    let python = Python { program: program.into(), site: target().join("python") };
    wheels(&python, "wheels", &WHEELS)?;
    Ok(python)
}

/// Installs `packages`, unless the stamp `name` says that they are there.
fn wheels(python: &Python, name: &str, packages: &[&str]) -> Result {
    let stamp = python.site.join(format!("hone-{name}.txt"));
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).ok().as_deref() == Some(wanted.as_str()) {
        return Ok(());
    }
    let mut pip = Command::new(&python.program);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"]);
    step::run("Python wheels", pip.arg(&python.site).args(packages))?;
    std::fs::write(&stamp, wanted).map_err(step::at(&stamp))
}
