//! Bad models and bad files by the command line: exit code 1, an error that names the file and the cause, nothing written.
#![cfg(feature = "export")]

#[path = "common/lab.rs"]
mod lab;

use std::path::{Path, PathBuf};

use hone_export::data::npy;
use hone_export::graph::{Graph, Op, Tensor, simplify};
use hone_export::onnx;
use lab::Lab;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// A lab with `glyphs.onnx`, and `calib.npy` whose rows are its input.
fn lab() -> Lab {
    let lab = Lab::new();
    std::fs::copy(models().join("glyphs.onnx"), lab.path("glyphs.onnx")).unwrap();
    npy::write(lab.path("calib.npy"), &[4, 1, 8, 8], &[0.25_f32; 256]).unwrap();
    lab
}

/// The built-in model with a change, as a file.
fn changed(lab: &Lab, name: &str, change: impl FnOnce(&mut Graph)) {
    let mut graph = onnx::read(&models().join("glyphs.onnx")).unwrap();
    change(&mut graph);
    onnx::write(&graph, &lab.path(name), &onnx::WriteOptions::default()).unwrap();
}

/// Exporting must fail and write nothing.
#[track_caller]
fn refused(lab: &Lab, line: &str, code: &str, words: &[&str]) {
    lab.run(&format!("export {line} --out out")).fails(code, words);
    assert!(!lab.path("out").exists(), "export {line}");
}

#[test]
fn models_that_cannot_be_exported() {
    let lab = lab();
    changed(&lab, "strange.onnx", |graph| {
        let relu = graph.nodes.iter_mut().find(|node| node.op.name() == "Relu").unwrap();
        relu.name = "the_strange_one".into();
        relu.op = Op::Other { domain: String::new(), op_type: "Mystery".into(), attributes: Vec::new() };
    });
    refused(&lab, "strange.onnx --calib calib.npy", "unsupported", &["the_strange_one", "Mystery"]);

    // A picture of activations is no row of scores.
    changed(&lab, "headless.onnx", |graph| {
        simplify(graph).unwrap();
        let relu = graph.nodes.iter().rfind(|node| matches!(node.op, Op::Relu)).unwrap();
        graph.outputs = vec![relu.outputs[0]];
    });
    refused(&lab, "headless.onnx --calib calib.npy", "no-head", &["headless.onnx", "no trainable last layer"]);
    refused(&lab, "glyphs.onnx --calib calib.npy --cut nowhere", "illegal-cut", &["'nowhere'"]);

    for (name, value, word) in [("nan.onnx", f32::NAN, "NaN"), ("inf.onnx", f32::INFINITY, "inf")] {
        changed(&lab, name, |graph| {
            let conv = graph.nodes.iter().find(|node| matches!(node.op, Op::Conv { .. })).unwrap();
            let weights = conv.inputs[1].unwrap();
            let Some(Tensor::F32(array)) = &mut graph.value_mut(weights).constant else { panic!("weights") };
            *array.iter_mut().nth(3).unwrap() = value;
        });
        refused(&lab, &format!("{name} --calib calib.npy"), "non-finite", &[name, word, "index 3"]);
    }
    // So bad a quantization that the answers change: the layers are named.
    let ranges = "--ranges percentile --percentile 50 --rounding nearest --min-agreement 1 --prep tensor:scale=1/16";
    let data = models().join("glyphs-calib.npy");
    let line = format!("glyphs.onnx --calib {} {ranges}", data.display());
    refused(&lab, &line, "collapsed", &["layers at fault", "(Conv,"]);
}

#[test]
fn what_does_not_fit_the_model() {
    let lab = lab();
    npy::write(lab.path("wide.npy"), &[4, 1, 8, 9], &[0.25_f32; 288]).unwrap();
    refused(&lab, "glyphs.onnx --calib wide.npy", "shape", &["wide.npy#", "[1, 8, 9]"]);
    npy::write(lab.path("holes.npy"), &[2, 1, 8, 8], &[f32::NAN; 128]).unwrap();
    refused(&lab, "glyphs.onnx --calib holes.npy", "non-finite", &["holes.npy", "row 0", "NaN"]);
    std::fs::create_dir(lab.path("empty")).unwrap();
    refused(&lab, "glyphs.onnx --calib empty", "data", &["empty", "no rows"]);
    refused(&lab, "glyphs.onnx --calib nowhere", "io", &["nowhere"]);
    refused(&lab, "glyphs.onnx --calib calib.npy --calib-rows 0", "setting", &["--calib-rows"]);
    refused(&lab, "glyphs.onnx --calib calib.npy --prep picture", "preprocess-text", &["picture"]);
    refused(&lab, "glyphs.onnx --calib calib.npy --prep image:size=9x9,channels=gray", "shape", &["[1, 9, 9]"]);
    refused(&lab, "glyphs.onnx --calib calib.npy --model-classes calib.npy", "io", &["calib.npy"]);
    for name in ["../escape", ".hidden", "a/b"] {
        refused(&lab, &format!("glyphs.onnx --calib calib.npy --name {name}"), "setting", &["--name"]);
    }
    // Pictures and sound say nothing of how they become numbers; the error shows what to state.
    std::fs::create_dir(lab.path("pictures")).unwrap();
    std::fs::write(lab.path("pictures/a.png"), "not looked at").unwrap();
    let words = ["pictures", "--prep image:size=8x8,channels=gray"];
    refused(&lab, "glyphs.onnx --calib pictures", "setting", &words);
}

#[test]
fn existing_output_is_replaced_only_when_forced() {
    let lab = lab();
    let line = "export glyphs.onnx --calib calib.npy --min-agreement 0 --out out";
    lab.run(&format!("{line} --json")).json();
    let before = std::fs::read(lab.path("out/out.hone")).unwrap();
    lab.run(line).fails("exists", &["out"]);
    assert_eq!(std::fs::read(lab.path("out/out.hone")).unwrap(), before);
    lab.run(&format!("{line} --force --json")).json();
}

/// Seeded noise: a linear congruential generator (Knuth's MMIX constants).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn noise_and_cut_files_in_the_place_of_models_and_data() {
    let lab = lab();
    let sound = std::fs::read(lab.path("glyphs.onnx")).unwrap();
    let cases =
        [("empty.onnx", Vec::new()), ("noise.onnx", noise(4000)), ("cut.onnx", sound[..sound.len() / 2].to_vec())];
    for (name, bytes) in cases {
        std::fs::write(lab.path(name), bytes).unwrap();
        lab.run(&format!("inspect {name}")).fails("malformed", &[name]);
        refused(&lab, &format!("{name} --calib calib.npy"), "malformed", &[name]);
    }
    lab.run("inspect out").fails("io", &["out"]);
    lab.run("inspect shots").fails("malformed", &["shots"]);
    let array = std::fs::read(lab.path("calib.npy")).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = vec![("cut.npy".into(), array[..array.len() - 1].to_vec())];
    for ending in ["npy", "npz", "csv", "png", "jpg", "bmp", "wav", "idx3-ubyte", "idx3-ubyte.gz"] {
        files.push((format!("noise.{ending}"), noise(3000)));
        files.push((format!("empty.{ending}"), Vec::new()));
    }
    for (name, bytes) in files {
        std::fs::write(lab.path(&name), bytes).unwrap();
        for line in [
            format!("predict glyphs.hone {name}"),
            format!("eval glyphs.hone --data {name}"),
            format!("tune glyphs.hone --shots {name} --store home"),
            format!("export glyphs.onnx --calib {name} --out out"),
        ] {
            let run = lab.run(&line);
            let text = run.text();
            assert_eq!(run.code(), 1, "hone {line}\n{text}");
            assert!(text.contains(&name) && !text.contains("panicked"), "hone {line}\n{text}");
        }
        assert!(!lab.path("home").exists() && !lab.path("out").exists(), "{name}");
    }
}
