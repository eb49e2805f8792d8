//! Running one external command as a named step.

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Outcome of a step; the text says which command failed.
pub type Result<T = ()> = std::result::Result<T, String>;

/// The workspace root.
pub fn root() -> PathBuf {
    // Asked at run time: with a build cache that several checkouts share, the built-in value may be another checkout's.
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo builds, and where everything that is installed for the tests goes.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A program of the release build: `hone`, `examples/lower`.
pub fn release(name: &str) -> PathBuf {
    target().join("release").join(format!("{name}{EXE_SUFFIX}"))
}

/// Whether `CI=true`: what cannot be checked is an error there, not a notice.
pub fn ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// What an error of a file's says, for `map_err`: its path in front.
pub fn at(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// Makes a folder that has nothing in it, whatever was there before.
pub fn fresh_folder(path: &Path) -> Result {
    if path.exists() {
        std::fs::remove_dir_all(path).map_err(at(path))?;
    }
    std::fs::create_dir_all(path).map_err(at(path))
}

/// Builds everything that checks run as a program of its own, with the features that the workspace's tests are built with: other features
/// would build tract anew.
pub fn build_release() -> Result {
    let programs = ["build", "--release", "--workspace", "--bins", "--example", "lower", "--example", "time_plan"];
    run("release build", &mut cargo(&programs))
}

/// A cargo command in the workspace root.
pub fn cargo(args: &[&str]) -> Command {
    let mut c = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.args(args).current_dir(root());
    c
}

/// Runs a command, prints its name and its time, and fails with its name.
pub fn run(name: &str, command: &mut Command) -> Result {
    println!("\n== {name}");
    let start = Instant::now();
    let status = command.status().map_err(|e| format!("{name}: {command:?} could not be started: {e}"))?;
    println!("-- {name}: {:.1} s", start.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("{name} failed ({status}): {command:?}")) }
}

/// Runs a command quietly; its standard output, or `None` when it fails or is not there.
pub fn capture(command: &mut Command) -> Option<String> {
    let out = command.stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}
