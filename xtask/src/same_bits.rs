//! `cargo xtask same-bits`: real models, exported, give the same bits operator by operator on every processor.
//!
//! The portable kernels of this machine say what is wanted; then the same plans and inputs run with every tier of this machine, on two
//! emulated aarch64 processors, and in the firmware of every board.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hone_runtime::bundle::Bundle;

use crate::firmware::{self, Case};
use crate::step::{self, Result, at, cargo, release, root, target};
use crate::{aarch64, setup};

/// A model outside this repository: its file's name, calibration data, preparation, rows.
struct Shared {
    name: &'static str,
    model: &'static str,
    calib: &'static str,
    prep: &'static str,
    rows: &'static str,
}

/// MLPerf Tiny's four.
const SHARED: [Shared; 4] = [
    Shared {
        name: "kws",
        model: "dscnn_kws12",
        calib: "data/kws01/x_int8.npy",
        prep: "tensor:scale=0.5847029,offset=-48.53034",
        rows: "48",
    },
    Shared { name: "ic", model: "resnet8_cifar10", calib: "data/cifar10", prep: "tensor:perm=2:0:1", rows: "32" },
    Shared {
        name: "vww",
        model: "mobilenetv1_025_vww",
        calib: "data/vww_coco",
        prep: "tensor:perm=2:0:1,scale=1/255",
        rows: "32",
    },
    Shared {
        name: "ad",
        model: "autoencoder_toycar",
        calib: "models/sample_io/autoencoder_toycar.in.npy",
        prep: "none",
        rows: "4",
    },
];

/// Builds what exports, then [`check`].
///
/// # Errors
/// Says what cannot be built, and what differs.
pub fn run() -> Result {
    let emulators = setup::emulators()?;
    step::build_release()?;
    check(emulators)
}

/// Exports the models with the release build, programs and examples, and compares.
///
/// # Errors
/// Says what cannot be exported, and which operator of which model differs on which processor.
pub fn check(emulators: bool) -> Result {
    let folder = target().join("same-bits");
    step::fresh_folder(&folder)?;
    let plans = folder.join("plans");
    step::fresh_folder(&plans)?;
    let mut cases = Vec::new();
    let mut quickstart = Command::new(release("hone"));
    quickstart.args(["quickstart", "--quiet", "--out", "glyphs"]).current_dir(&folder).stdout(Stdio::null());
    step::run("the built-in model", &mut quickstart)?;
    cases.push(whole(&folder, "glyphs")?);
    if let Some(shared) = shared()? {
        for model in &SHARED {
            export(&folder, &shared, model)?;
            cases.push(whole(&folder, model.name)?);
        }
    }
    write(&plans, &cases)?;

    let given_plans = |name: &str, profile: &str, cpu: Option<&str>| {
        let mut tests = cargo(&["test", "--profile", profile, "-p", "hone-runtime", "--test", "native_same_bits"]);
        if let Some(cpu) = cpu {
            aarch64::run_on(&mut tests, cpu);
        }
        tests.args(["--", "given_plans", "--nocapture"]).env("HONE_SAME_BITS", &plans);
        step::run(name, &mut tests)
    };
    given_plans("real models, this machine", "dev", None)?;
    if !emulators {
        println!("skipped: real models on other processors, whose emulators are missing");
        return Ok(());
    }
    for cpu in aarch64::CPUS {
        given_plans(&format!("real models, aarch64, {cpu} (qemu)"), "emulated", Some(cpu))?;
    }
    let bundle = folder.join("glyphs").join("glyphs.hone");
    let bundle = std::fs::read(&bundle).map_err(at(&bundle))?;
    let bundle = Bundle::parse(&bundle).map_err(|e| format!("glyphs.hone: {e}"))?;
    let (Some(plan), Some(head)) = (bundle.plan, bundle.head) else {
        return Err("glyphs.hone has no plan, or no head".into());
    };
    firmware::same_bits(&cases, &Case::new("glyphs.hone", plan.to_vec())?, head.as_bytes())
}

/// The folder of models and data outside this repository, if it is there; it has to be with `CI=true`.
fn shared() -> Result<Option<PathBuf>> {
    let path = std::env::var_os("HONE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    if path.join("models").is_dir() {
        return Ok(Some(path));
    }
    let why = format!("{} is absent; set HONE_SHARED to the shared models and data directory", path.display());
    if step::ci() {
        return Err(why);
    }
    println!("skipped: MLPerf Tiny's models: {why}");
    Ok(None)
}

fn export(folder: &Path, shared: &Path, model: &Shared) -> Result {
    let mut export = Command::new(release("hone"));
    export.arg("export").arg(shared.join("models/mlperf_tiny").join(format!("{}.onnx", model.model)));
    export.arg("--calib").arg(shared.join(model.calib)).args(["--calib-rows", model.rows, "--prep", model.prep]);
    export.args(["--quiet", "--out", model.name]).current_dir(folder).stdout(Stdio::null());
    step::run(&format!("export {}", model.name), &mut export)
}

/// The plan of a whole exported model, with its scores.
fn whole(folder: &Path, name: &str) -> Result<Case> {
    let plan = folder.join("plans").join(format!("{name}.plan"));
    let mut lower = Command::new(release("examples/lower"));
    lower.arg(folder.join(name).join("model.int8.onnx")).arg(&plan).stdout(Stdio::null());
    step::run(&format!("lower {name}"), &mut lower)?;
    Case::read(&plan)
}

/// What `native_same_bits` reads: each plan, its input, and the checksum of every operator's result.
fn write(folder: &Path, cases: &[Case]) -> Result {
    for case in cases {
        let lines: Vec<String> = case.checksums()?.iter().map(|crc| format!("{crc:08x}\n")).collect();
        for (extension, bytes) in [("input", case.input.as_slice()), ("crc", lines.concat().as_bytes())] {
            let path = folder.join(format!("{}.{extension}", case.name));
            std::fs::write(&path, bytes).map_err(at(&path))?;
        }
    }
    Ok(())
}
