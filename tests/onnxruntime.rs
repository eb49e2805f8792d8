//! The files that hone writes give the same answers in ONNX Runtime. Python is `HONE_PYTHON` or `python3`; without its
//! `onnxruntime` the tests are skipped, except where CI=true.

#[path = "common/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use hone_export::data::npy;
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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run_onnxruntime.py");
    let out = folder.join("scores.npy");
    let arguments = [script.as_path(), Path::new(model), Path::new(rows), &out];
    let run = Command::new(python).args(arguments).current_dir(folder).output().unwrap();
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
