//! `cargo xtask size`: the command line as a device gets it, without tract and without ONNX.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::setup::{self, Installed};
use crate::step::{self, Result, capture, cargo, target};

/// Largest stripped size, in bytes.
const LIMIT_BYTES: u64 = 2_000_000;
/// Processor of most devices that run a full system.
const AARCH64: &str = "aarch64-unknown-linux-gnu";

/// Builds for this machine and for aarch64 and prints the sizes.
///
/// # Errors
/// Says which program is larger than allowed.
pub fn run() -> Result {
    let installed = setup::run()?;
    let mut programs = vec![("this machine", build(None)?)];
    if installed.aarch64 {
        programs.push((AARCH64, build(Some(AARCH64))?));
    }
    println!("\nhone for a device, stripped (at most {LIMIT_BYTES} bytes):");
    for (name, program) in programs {
        println!("{:>12} bytes  {name}", check(&program)?);
    }
    Ok(())
}

/// Builds the device's program.
fn build(triple: Option<&str>) -> Result<PathBuf> {
    let mut build = cargo(&["build", "-p", "hone", "--profile", "device", "--no-default-features"]);
    build.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    let mut folder = target();
    if let Some(triple) = triple {
        build.args(["--target", triple]);
        folder.push(triple);
    }
    step::run(&format!("device build, {}", triple.unwrap_or("this machine")), &mut build)?;
    Ok(folder.join("device").join("hone"))
}

/// The size in bytes.
fn check(program: &Path) -> Result<u64> {
    let size = std::fs::metadata(program).map_err(|e| format!("{}: {e}", program.display()))?.len();
    if size > LIMIT_BYTES {
        return Err(format!("{} has {size} bytes, {LIMIT_BYTES} are allowed", program.display()));
    }
    Ok(size)
}

/// The device's program for aarch64 tunes and predicts in the emulator, and gives what the desktop's program gives on this machine:
/// the same head, byte for byte, and the same answers.
///
/// # Errors
/// Says what differs.
pub fn test_on_aarch64(installed: &Installed) -> Result {
    if !installed.aarch64 {
        return Ok(());
    }
    let device = build(Some(AARCH64))?;
    check(&device)?;
    let folder = target().join("device-test");
    // What an earlier run left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let desktop = target().join("release").join("hone");
    let quickstart = ["quickstart", "--quiet", "--out", "made"];
    step::run("a bundle for the device", Command::new(&desktop).args(quickstart).current_dir(&folder))?;
    for cpu in ["cortex-a53", "max"] {
        let emulated = |store: &str, words: &[&str]| {
            let mut qemu = Command::new("qemu-aarch64");
            qemu.args(["-cpu", cpu, "-L", "/usr/aarch64-linux-gnu"]).arg(&device);
            answers(&mut qemu, &folder, store, words)
        };
        let here = |store: &str, words: &[&str]| answers(&mut Command::new(&desktop), &folder, store, words);
        let data = "made/data/digits-x.npy";
        let tune =
            ["tune", "made/glyphs.hone", "--only-taught", "--shots", data, "--rows", "made/data/digits-k5.npy#1"];
        let labels = ["--labels", "made/data/digits-y.npy", "--classes", "made/data/digits-labels.txt"];
        let tune = [&tune[..], &labels].concat();
        let (there, own) = (emulated(cpu, &tune)?, here(&format!("here-{cpu}"), &tune)?);
        if head(&there).is_none() || head(&there) != head(&own) {
            return Err(format!("{cpu}: the head is {:?}, on this machine {:?}", head(&there), head(&own)));
        }
        let predict = ["predict", "made/glyphs.hone", data];
        if emulated(cpu, &predict)? != here(&format!("here-{cpu}"), &predict)? {
            return Err(format!("{cpu}: other answers than on this machine"));
        }
        println!("{cpu}: the same head ({}) and the same answers as here", head(&own).unwrap_or_default());
    }
    Ok(())
}

/// Standard output of a command as JSON.
fn answers(program: &mut Command, folder: &Path, store: &str, words: &[&str]) -> Result<String> {
    let command = program.arg("--json").args(words).args(["--store", store]).current_dir(folder);
    capture(command).ok_or_else(|| format!("{command:?} failed"))
}

/// The head's checksum in what `tune` printed.
fn head(json: &str) -> Option<&str> {
    json.split("\"head_crc\":").nth(1)?.split('"').nth(1)
}
