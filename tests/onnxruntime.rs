//! The files that hone writes give the same answers in ONNX Runtime. Python is `HONE_PYTHON` or `python3`; without its
//! `onnxruntime` the tests are skipped, except where CI=true.
#![cfg(feature = "export")]

#[path = "common/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use hone_export::data::npy;
use hone_export::graph::{Tensor, eval::Evaluator};
use hone_export::onnx;
use hone_runtime::backbone::tract::TractModel;
use program::hone_json;

/// Python with ONNX Runtime, or `None` where there is none (a failure in CI).
fn python() -> Option<String> {
    let python = std::env::var("HONE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import numpy, onnxruntime"]).output();
    if found.is_ok_and(|o| o.status.success()) {
        return Some(python);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{python} cannot import onnxruntime");
    println!("skipped: {python} cannot import onnxruntime; `cargo xtask test` installs it");
    None
}

/// Scores of a model by ONNX Runtime: one line a row.
fn scores(python: &str, folder: &Path, model: &str, rows: &str) -> Vec<Vec<f32>> {
    scores_with(python, folder, model, rows, None)
}

/// As [`scores`]; with `default`, whatever ONNX Runtime does on this processor unless told otherwise.
fn scores_with(python: &str, folder: &Path, model: &str, rows: &str, settings: Option<&str>) -> Vec<Vec<f32>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run_onnxruntime.py");
    let out = folder.join("scores.npy");
    let arguments = [script.as_path(), Path::new(model), Path::new(rows), &out];
    let run = Command::new(python).args(arguments).args(settings).current_dir(folder).output().unwrap();
    assert!(run.status.success(), "{model}: {}", String::from_utf8_lossy(&run.stderr));
    let mut scores = npy::ArrayFile::open(out).unwrap();
    (0..scores.shape()[0]).map(|row| scores.row(row).unwrap().to_f32()).collect()
}

fn best(scores: &[f32]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a))).unwrap()
}

/// Images of the package (0..=16) as the model's input, f32 [n, 1, 8, 8] of 0..=1, written to `name`.
fn inputs(folder: &Path, source: &str, rows: Option<&[i64]>, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(source);
    let mut images = npy::ArrayFile::open(path).unwrap();
    let all: Vec<i64> = (0..images.shape()[0] as i64).collect();
    let rows = rows.unwrap_or(&all);
    let x: Vec<f32> = rows
        .iter()
        .flat_map(|&row| images.row(usize::try_from(row).unwrap()).unwrap().to_f32())
        .map(|ink| ink / 16.0)
        .collect();
    npy::write(folder.join(name), &[rows.len(), 1, 8, 8], &x).unwrap();
}

#[test]
fn the_quantized_model_answers_as_the_original_does() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    hone_json(folder.path(), &["quickstart", "--out", "out"]);
    // Glyphs of fonts that neither training nor calibration saw.
    inputs(folder.path(), "glyphs-eval.npy", None, "glyphs.npy");
    let original = scores(&python, folder.path(), "out/data/glyphs.onnx", "glyphs.npy");
    let quantized = scores(&python, folder.path(), "out/model.int8.onnx", "glyphs.npy");
    let same = original.iter().zip(&quantized).filter(|(a, b)| best(a) == best(b)).count();
    println!("same answer on {same} of {} glyphs", original.len());
    assert!(same * 100 >= original.len() * 98, "same answer on {same} of {} glyphs", original.len());
}

#[test]
fn seven_bit_weights_need_no_settings() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    hone_json(folder.path(), &["quickstart", "--out", "out"]);
    let words = "export out/data/glyphs.onnx --calib out/data/glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt --prep tensor:scale=1/16 --limit 60 --reduce-range --out seven";
    let exported = hone_json(folder.path(), &words.split(' ').collect::<Vec<_>>());
    assert_eq!(exported["calibration_rows"], 60, "{exported}");
    let weights = onnx::read(&folder.path().join("seven/model.int8.onnx")).unwrap();
    let largest = weights.values.iter().filter_map(|value| match &value.constant {
        Some(Tensor::I8(codes)) => codes.iter().map(|code| code.unsigned_abs()).max(),
        _ => None,
    });
    assert_eq!(largest.max(), Some(63));
    inputs(folder.path(), "glyphs-eval.npy", None, "glyphs.npy");
    let original = scores(&python, folder.path(), "out/data/glyphs.onnx", "glyphs.npy");
    let quantized = scores_with(&python, folder.path(), "seven/model.int8.onnx", "glyphs.npy", Some("default"));
    let same = original.iter().zip(&quantized).filter(|(a, b)| best(a) == best(b)).count();
    assert!(same * 100 >= original.len() * 97, "same answer on {same} of {} glyphs", original.len());
}

#[test]
fn the_tuned_model_answers_as_hone_does() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    hone_json(folder.path(), &["quickstart", "--out", "out"]);
    let store = ["out/glyphs.hone", "--store", "out/home"];
    let written = hone_json(folder.path(), &[&["head", "export-onnx"], &store[..], &["--out", "tuned.onnx"]].concat());
    let labels: Vec<&str> = written["labels"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();

    let data = folder.path().join("out/data");
    let integers = |name: &str| npy::ArrayFile::open(data.join(name)).unwrap().all().unwrap().to_i64().unwrap();
    let (rows, digits) = (integers("digits-test.npy"), integers("digits-y.npy"));
    inputs(folder.path(), "digits-x.npy", Some(&rows), "test.npy");
    let theirs = scores(&python, folder.path(), "tuned.onnx", "test.npy");

    // The bundle's preprocessing divides by 16: hone takes the images as they are stored.
    let test: Vec<u8> = {
        let mut images = npy::ArrayFile::open(data.join("digits-x.npy")).unwrap();
        let ink = |&row: &i64| images.row(usize::try_from(row).unwrap()).unwrap().to_f32();
        rows.iter().flat_map(ink).map(|ink| ink as u8).collect()
    };
    npy::write(folder.path().join("images.npy"), &[rows.len(), 8, 8], &test).unwrap();
    let predicted = hone_json(folder.path(), &[&["predict"], &store[..], &["images.npy", "--top", "10"]].concat());
    let ours: Vec<Vec<f32>> = predicted["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let top = row["top"].as_array().unwrap();
            let score = |label: &&str| top.iter().find(|t| t["label"] == **label).unwrap()["score"].as_f64().unwrap();
            labels.iter().map(|label| score(label) as f32).collect()
        })
        .collect();
    assert_eq!((ours.len(), theirs.len()), (rows.len(), rows.len()));

    let mut largest = 0.0_f32;
    let (mut other, mut right) = (0, 0);
    for ((ours, theirs), &row) in ours.iter().zip(&theirs).zip(&rows) {
        let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        largest = largest.max(difference);
        other += usize::from(best(ours) != best(theirs));
        right += usize::from(labels[best(theirs)] == digits[usize::try_from(row).unwrap()].to_string());
    }
    let top1 = right as f64 / rows.len() as f64;
    println!("largest difference {largest}, {other} other answers, top-1 {top1}");
    assert_eq!(other, 0);
    // Of a probability: integer kernels against tract, which computes the same file in float (0.0015 was seen).
    assert!(largest < 1e-2, "largest difference of a score: {largest}");
    let line = "--data out/data/digits-x.npy --labels digits-y.npy --classes digits-labels.txt --rows out/data/digits-test.npy";
    let line: Vec<&str> = line.split_whitespace().collect();
    let eval = hone_json(folder.path(), &[&["eval"], &store[..], &line].concat());
    assert_eq!(eval["top1"].as_f64(), Some(top1));
}

/// Exports as fp16 and runs the file three ways: in ONNX Runtime, by the evaluator that verification uses (every stored value rounded to
/// f16), and by the tract provider (f16 weights, computed in f32). All three see the same noise against the original, and differ by
/// less than that from each other.
fn half_agrees(python: &str, folder: &Path, model: &str, calib: &[&str], rows: &str) {
    let exported =
        hone_json(folder, &[&["export", model, "--calib"], calib, &["--precision", "fp16", "--out", "half"]].concat());
    let cosine = exported["cosine"].as_f64().unwrap();
    assert!(cosine > 0.9999 && exported["sqnr_db"].as_f64().unwrap() > 40.0, "{exported}");
    let layers = exported["layers"].as_array().unwrap();
    assert!(!layers.is_empty() && layers.iter().all(|l| l["sqnr_db"].as_f64().unwrap() > 30.0), "{layers:?}");

    let whole = folder.join("half/model.fp16.onnx");
    let theirs = scores(python, folder, whole.to_str().unwrap(), rows);
    let original = scores(python, folder, model, rows);
    let graph = onnx::read(&whole).unwrap();
    let evaluator = Evaluator::new(&graph).unwrap();
    let tract = TractModel::load(&std::fs::read(&whole).unwrap(), 1).unwrap();
    let mut data = npy::ArrayFile::open(folder.join(rows)).unwrap();
    let shape: Vec<usize> = std::iter::once(1).chain(data.shape()[1..].iter().copied()).collect();
    let (mut largest, mut scale, mut lost) = ([0.0_f32; 2], 0.0_f32, 0.0_f32);
    for (row, (theirs, original)) in theirs.iter().zip(&original).enumerate() {
        let input = data.row(row).unwrap().to_f32();
        let by_tract = tract.run(&[&input]).unwrap().remove(0);
        let input = Tensor::from_f32(&shape, input).unwrap();
        let ours = evaluator.run(&[input]).unwrap().remove(0);
        let ours: Vec<f32> = ours.as_f32().unwrap().iter().copied().collect();
        let distance = |a: &[f32]| a.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        largest = [largest[0].max(distance(&ours)), largest[1].max(distance(&by_tract))];
        lost = lost.max(distance(original));
        scale = original.iter().fold(scale, |a, v| a.max(v.abs()));
    }
    println!(
        "{model}: evaluator {:.1e}, tract {:.1e}, fp32 {lost:.1e} from ONNX Runtime's answers of up to {scale:.1e}; {} dB, {} s",
        largest[0], largest[1], exported["sqnr_db"], exported["seconds"]
    );
    // f16 has 11 bits: 2⁻¹¹ a rounding, of which a deep network adds up some.
    assert!(largest.iter().all(|d| *d <= scale * 4e-3), "{largest:?} of {scale}");
}

#[test]
fn a_half_precision_file_gives_what_its_verification_computed() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    inputs(folder.path(), "glyphs-calib.npy", None, "calib.npy");
    inputs(folder.path(), "glyphs-eval.npy", None, "glyphs.npy");
    half_agrees(&python, folder.path(), models.join("glyphs.onnx").to_str().unwrap(), &["calib.npy"], "glyphs.npy");
}

/// Depthwise and strided convolutions, ReLU6, one axis, leaky ReLU with a floor, opset 7, dense layers alone.
#[test]
fn half_precision_files_of_models_that_others_trained() {
    let Some(python) = python() else { return };
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("HONE_SHARED").map_or_else(beside, Into::into).join("models");
    if !shared.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is absent; set HONE_SHARED", shared.display());
        println!("skipped: {} is absent; set HONE_SHARED to the shared models and data directory", shared.display());
        return;
    }
    for (model, sample, cut) in [
        ("mlperf_tiny/dscnn_kws12_bn", "dscnn_kws12", None),
        ("mlperf_tiny/resnet8_cifar10", "resnet8_cifar10", None),
        ("mlperf_tiny/autoencoder_toycar", "autoencoder_toycar", None),
        ("imagenet/mobilenet_v1_025_128", "mobilenet_v1_025_128", None),
        ("imagenet/squeezenet1_1", "squeezenet1_1", None),
        ("imu/wand_conv1d", "wand_conv1d", None),
        ("mnist/mnist_cntk", "mnist_cntk", None),
        ("openwakeword/embedding_model", "oww_embedding", Some("conv2d_19")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: String| shared.join(name).to_string_lossy().into_owned();
        let (model, rows) = (path(format!("{model}.onnx")), path(format!("sample_io/{sample}.in.npy")));
        let cut: Vec<&str> = cut.into_iter().flat_map(|cut| ["--cut", cut]).collect();
        half_agrees(&python, folder.path(), &model, &[&[rows.as_str()], &cut[..]].concat(), &rows);
    }
}
