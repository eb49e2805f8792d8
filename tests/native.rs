//! The native engine is what runs a bundle, on whatever kernels, and says so where it cannot.
#![cfg(feature = "export")]

#[path = "common/lab.rs"]
mod lab;
#[path = "common/program.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod program;

use std::path::Path;
use std::process::Command;

use lab::Lab;
use program::hone_json;
use serde_json::Value;

/// The built-in model, exported where the runs happen.
fn exported() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in hone_models::QUICKSTART {
        std::fs::write(folder.path().join(file.name), file.bytes).unwrap();
    }
    let line = "export glyphs.onnx --calib glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt \
                --model-classes glyphs-labels.txt --prep tensor:scale=1/16 --out out";
    let report = hone_json(folder.path(), &line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(report["native"]["refused"], Value::Null);
    assert!(report["native"]["arena_bytes"].as_u64().unwrap() < 16_384, "{}", report["native"]);
    folder
}

fn tuned(folder: &Path, kernel: &str, provider: &str) -> Value {
    let line = format!(
        "--json tune out/out.hone --shots digits-x.npy --labels digits-y.npy --classes digits-labels.txt --only-taught \
         --rows digits-k5.npy#1 --provider {provider} --store home-{kernel}-{provider}"
    );
    let mut hone = Command::new(env!("CARGO_BIN_EXE_hone"));
    let output = hone.args(line.split_whitespace()).current_dir(folder).env("HONE_KERNEL", kernel).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// In half precision: the plan runs, and embeds as tract does but for the last place.
#[test]
fn half_precision_runs_natively() {
    let folder = exported();
    let run = |line: &str| hone_json(folder.path(), &line.split_whitespace().collect::<Vec<_>>());
    let report =
        run("export glyphs.onnx --calib glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt \
                      --model-classes glyphs-labels.txt --prep tensor:scale=1/16 --precision fp16 --out half");
    assert_eq!(report["native"]["refused"], Value::Null);
    let weights = std::fs::metadata(folder.path().join("glyphs.onnx")).unwrap().len() / 2;
    assert!(report["native"]["plan_bytes"].as_u64().unwrap() < weights + 8192, "{}", report["native"]);
    let tuned = |provider: &str| {
        run(&format!(
            "tune half/half.hone --shots digits-x.npy --labels digits-y.npy --classes digits-labels.txt --only-taught \
             --rows digits-k5.npy#1 --provider {provider} --store half-{provider}"
        ))
    };
    let (native, tract) = (tuned("native"), tuned("tract"));
    let apart = native["loo_accuracy"].as_f64().unwrap() - tract["loo_accuracy"].as_f64().unwrap();
    assert!(apart.abs() <= 0.02, "{native} {tract}");
    let eval = |provider: &str| {
        let store = format!("--store half-{provider} --provider {provider}");
        run(&format!(
            "eval half/half.hone {store} --data digits-x.npy --labels digits-y.npy --classes digits-labels.txt"
        ))
    };
    let [native, tract] = ["native", "tract"].map(|provider| eval(provider)["top1"].as_f64().unwrap());
    assert!((native - tract).abs() <= 0.005, "{native} {tract}");
}

#[test]
fn every_kernel_learns_the_same_head() {
    let folder = exported();
    let reference = tuned(folder.path(), "generic", "native");
    for kernel in hone_runtime::kernels::available().into_iter().filter(|kernel| *kernel != "generic") {
        assert_eq!(tuned(folder.path(), kernel, "native")["head_crc"], reference["head_crc"], "{kernel}");
    }
}

#[test]
fn providers_answer_alike() {
    let folder = exported();
    let line = "bench out/out.hone --provider native,tract --runs 20 --original glyphs.onnx --data digits-x.npy --labels digits-y.npy \
                --classes digits-labels.txt";
    let report = hone_json(folder.path(), &line.split_whitespace().collect::<Vec<_>>());
    let rows = report["rows"].as_array().unwrap();
    let of =
        |provider: &str| rows.iter().find(|row| row["provider"] == provider && row["precision"] == "int8").unwrap();
    assert_eq!(of("native")["kernel"], report["kernel"]);
    for provider in ["native", "tract"] {
        let agreement = of(provider)["agreement"].as_f64().unwrap();
        assert!(agreement >= 0.98, "{provider}: {agreement}");
    }
    // The heads of both answer for the other's embeddings as well: they differ by single steps.
    let (native, tract) = (tuned(folder.path(), "generic", "native"), tuned(folder.path(), "generic", "tract"));
    let apart = native["loo_accuracy"].as_f64().unwrap() - tract["loo_accuracy"].as_f64().unwrap();
    assert!(apart.abs() <= 0.04, "{native} {tract}");
}

#[test]
fn a_bundle_without_a_plan_runs_on_tract_and_says_so() {
    let lab = Lab::new();
    let run = lab.run("predict glyphs.hone test/x.npy");
    assert_eq!(run.code(), 0, "{}", run.text());
    assert!(run.text().contains("native: the bundle has no plan"), "{}", run.text());
    lab.run("predict glyphs.hone test/x.npy --provider native").fails("missing-section", &["glyphs.hone", "plan"]);
}

#[test]
fn unknown_names_are_refused_with_what_there_is() {
    let lab = Lab::new();
    lab.run("predict glyphs.hone test/x.npy --provider cloud").fails("unknown-provider", &["cloud", "native", "tract"]);
    let mut hone = Command::new(env!("CARGO_BIN_EXE_hone"));
    hone.args(["predict", "glyphs.hone", "test/x.npy"]).current_dir(lab.path("")).env("HONE_KERNEL", "abacus");
    let output = hone.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("[unknown-kernel]") && text.contains("abacus") && text.contains("generic"), "{text}");
}
