//! `cargo xtask size`: the command line as a device gets it, without tract and without ONNX, and what it computes there.

use std::env::consts::{ARCH, EXE_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::step::{self, Result, at, cargo, target};
use crate::{aarch64, setup};

/// What is wanted of a stripped program, in bytes.
const BAR_BYTES: u64 = 2_000_000;
/// What is allowed on x86-64, whose tiers take more code: it is [`BAR_BYTES`] and the room that longer paths of dependencies may take.
const X86_64_BYTES: u64 = 2_020_000;

/// The device's program for one kind of machine.
struct Built {
    machine: String,
    program: PathBuf,
    bytes: u64,
    /// Largest allowed size.
    limit_bytes: u64,
}

/// Builds the device's programs and prints their sizes, and that of a firmware; or tests them. Either way their sizes are checked.
///
/// # Errors
/// Says which program is larger than allowed, and what the test says.
pub fn run(words: &[&str]) -> Result {
    let emulators = setup::emulators()?;
    match words {
        [] => sizes(emulators),
        ["test"] => {
            step::build_release()?;
            test(emulators)
        }
        _ => Err("usage: cargo xtask size [test]".into()),
    }
}

fn sizes(emulators: bool) -> Result {
    let built = build_all(emulators)?;
    let keywords = crate::firmware::keywords_size()?;
    println!("\nfirmware with one model, a keyword spotter:\n{keywords}");
    check(&built)
}

/// For this machine and, where they can be linked, for aarch64.
fn build_all(emulators: bool) -> Result<Vec<Built>> {
    let mut built = vec![build(None)?];
    if emulators {
        built.push(build(Some(aarch64::TARGET))?);
    }
    Ok(built)
}

fn build(triple: Option<&str>) -> Result<Built> {
    let mut build = cargo(&["build", "-p", "hone", "--profile", "device", "--no-default-features"]);
    let mut folder = target();
    if let Some(triple) = triple {
        aarch64::linked(&mut build);
        folder.push(triple);
    }
    let machine = triple.map_or_else(|| format!("{ARCH} (this machine)"), str::to_owned);
    let limit_bytes = if machine.starts_with("x86_64") { X86_64_BYTES } else { BAR_BYTES };
    step::run(&format!("device build, {machine}"), &mut build)?;
    let program = folder.join("device").join(format!("hone{EXE_SUFFIX}"));
    let bytes = std::fs::metadata(&program).map_err(at(&program))?.len();
    Ok(Built { machine, program, bytes, limit_bytes })
}

/// Prints the sizes; refuses a program above its limit.
fn check(built: &[Built]) -> Result {
    println!("\n{:28} {:>10} {:>10}", "hone for a device, stripped", "bytes", "limit");
    for Built { machine, bytes, limit_bytes, .. } in built {
        let bar = if *bytes > BAR_BYTES { format!("  misses the bar of {BAR_BYTES}") } else { String::new() };
        println!("{machine:28} {bytes:>10} {limit_bytes:>10}{bar}");
    }
    let above: Vec<String> = built
        .iter()
        .filter(|built| built.bytes > built.limit_bytes)
        .map(|Built { machine, bytes, limit_bytes, .. }| format!("{machine}: {bytes} bytes, at most {limit_bytes}"))
        .collect();
    if above.is_empty() {
        return Ok(());
    }
    Err(format!("the program for devices is larger than allowed: {}", above.join("; ")))
}

/// The device's programs say what they lack, and compute what the full program computes on this machine: the same
/// head from the same shots, byte for byte, and the same answers. aarch64 is emulated. Needs the full program's release build.
///
/// # Errors
/// Says which program is larger than allowed, and what differs.
pub fn test(emulators: bool) -> Result {
    let built = build_all(emulators)?;
    check(&built)?;
    let folder = target().join("device-test");
    step::fresh_folder(&folder)?;
    let full = step::release("hone");
    let mut quickstart = Command::new(&full);
    quickstart.args(["quickstart", "--quiet", "--out", "made"]).current_dir(&folder).stdout(Stdio::null());
    step::run("a bundle for the devices", &mut quickstart)?;

    let expected = tune_and_predict(&folder, "full", &[], &full)?;
    for Built { machine, program, .. } in &built {
        let runs: Vec<(String, Vec<&str>)> = if machine == aarch64::TARGET {
            aarch64::CPUS.map(|cpu| (format!("{machine}, {cpu}"), aarch64::emulator(cpu).to_vec())).into()
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
