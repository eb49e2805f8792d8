//! `cargo xtask size`: the command line as a device gets it, without tract and without ONNX, and what it computes there.

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::setup;
use crate::step::{self, Result, cargo, target};

/// Largest stripped size, in bytes.
const LIMIT_BYTES: u64 = 2_000_000;
/// The processor of most devices that run a full system.
const AARCH64: &str = "aarch64-unknown-linux-gnu";
/// One without dot products and one with everything.
const CPUS: [&str; 2] = ["cortex-a53", "max"];

/// The device's program for one kind of machine.
struct Built {
    machine: String,
    program: PathBuf,
    bytes: u64,
}

/// Builds the device's programs and prints their sizes, and that of a firmware; or tests them.
///
/// # Errors
/// Says which program is larger than allowed, and what the test says.
pub fn run(words: &[&str]) -> Result {
    let emulators = setup::emulators()?;
    match words {
        [] => sizes(emulators),
        ["test"] => {
            step::run("the full program", &mut cargo(&["build", "--release", "-p", "hone"]))?;
            test(emulators)
        }
        _ => Err("usage: cargo xtask size [test]".into()),
    }
}

fn sizes(emulators: bool) -> Result {
    let built = build_all(emulators)?;
    let keywords = crate::firmware::keywords_size()?;
    table(&built);
    println!("\nfirmware with one model, a keyword spotter:\n{keywords}");
    Ok(())
}

/// For this machine and, where they can be linked, for aarch64.
fn build_all(emulators: bool) -> Result<Vec<Built>> {
    let mut built = vec![build(None)?];
    if emulators {
        built.push(build(Some(AARCH64))?);
    }
    Ok(built)
}

fn build(triple: Option<&str>) -> Result<Built> {
    let mut build = cargo(&["build", "-p", "hone", "--profile", "device", "--no-default-features"]);
    build.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    let mut folder = target();
    if let Some(triple) = triple {
        build.args(["--target", triple]);
        folder.push(triple);
    }
    let machine = triple.map_or_else(|| format!("{} (this machine)", std::env::consts::ARCH), str::to_owned);
    step::run(&format!("device build, {machine}"), &mut build)?;
    let program = folder.join("device").join(format!("hone{EXE_SUFFIX}"));
    let bytes = std::fs::metadata(&program).map_err(|e| format!("{}: {e}", program.display()))?.len();
    Ok(Built { machine, program, bytes })
}

fn table(built: &[Built]) {
    println!("\n{:28} {:>10} {:>10}", "hone for a device, stripped", "bytes", "limit");
    for Built { machine, bytes, .. } in built {
        let verdict = if *bytes < LIMIT_BYTES { "met" } else { "missed" };
        println!("{machine:28} {bytes:>10} {LIMIT_BYTES:>10}  {verdict}");
    }
}

/// The device's programs say what they lack, and compute what the full program computes on this machine: the same
/// head from the same shots, byte for byte, and the same answers. aarch64 is emulated. Needs the full program's release build.
///
/// # Errors
/// Says what differs.
pub fn test(emulators: bool) -> Result {
    let built = build_all(emulators)?;
    table(&built);
    let folder = target().join("device-test");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let full = target().join("release").join(format!("hone{EXE_SUFFIX}"));
    let mut quickstart = Command::new(&full);
    quickstart.args(["quickstart", "--quiet", "--out", "made"]).current_dir(&folder).stdout(Stdio::null());
    step::run("a bundle for the devices", &mut quickstart)?;

    let expected = tune_and_predict(&folder, "full", &[], &full)?;
    for Built { machine, program, .. } in &built {
        let runs: Vec<(String, Vec<&str>)> = if machine == AARCH64 {
            let emulator = |cpu| vec!["qemu-aarch64", "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu"];
            CPUS.iter().map(|&cpu| (format!("{machine}, {cpu}"), emulator(cpu))).collect()
        } else {
            vec![(machine.clone(), Vec::new())]
        };
        for (number, (name, emulator)) in runs.iter().enumerate() {
            lacks_export(emulator, program)?;
            let got = tune_and_predict(&folder, &format!("{}-{number}", &machine[..3]), emulator, program)?;
            if got.head_crc != expected.head_crc {
                return Err(format!("{name}: head {}, the full program's is {}", got.head_crc, expected.head_crc));
            }
            if got.answers != expected.answers {
                return Err(format!("{name}: other answers than the full program's (see {})", folder.display()));
            }
            println!("{name}: head {} and all answers as from the full program", got.head_crc);
        }
    }
    Ok(())
}

/// What is compared.
struct Outcome {
    head_crc: String,
    answers: String,
}

/// Teaches five digits of each class, then classifies all of them.
fn tune_and_predict(folder: &Path, store: &str, emulator: &[&str], program: &Path) -> Result<Outcome> {
    let run = |words: &str| -> Result<String> {
        let mut command = command(emulator, program);
        command.arg("--json").args(words.split(' ')).args(["--store", store]).current_dir(folder);
        let output = output(&mut command)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{command:?} failed\n{}{}", text(&output.stdout), text(&output.stderr)))
        }
    };
    let tuned =
        run("tune made/glyphs.hone --only-taught --shots made/data/digits-x.npy --labels made/data/digits-y.npy \
                     --classes made/data/digits-labels.txt --rows made/data/digits-k5.npy#1")?;
    let head_crc = tuned.split("\"head_crc\": \"").nth(1).and_then(|rest| rest.split('"').next());
    let head_crc = head_crc.ok_or_else(|| format!("no head_crc in\n{tuned}"))?.to_owned();
    Ok(Outcome { head_crc, answers: run("predict made/glyphs.hone made/data/digits-x.npy")? })
}

/// A command that makes bundles is refused as bad usage, with the reason.
fn lacks_export(emulator: &[&str], program: &Path) -> Result {
    let output = output(command(emulator, program).args(["export", "model.onnx", "--calib", "x", "--out", "y"]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) && said.contains("not in this build") {
        Ok(())
    } else {
        Err(format!("{}: `export` should be refused as not in this build, not: {said}", program.display()))
    }
}

fn command(emulator: &[&str], program: &Path) -> Command {
    match emulator {
        [] => Command::new(program),
        [emulator, arguments @ ..] => {
            let mut command = Command::new(emulator);
            command.args(arguments).arg(program);
            command
        }
    }
}

fn output(command: &mut Command) -> Result<Output> {
    command.output().map_err(|e| format!("{command:?} could not be started: {e}"))
}
