//! The native engine is what runs a bundle, on whatever kernels, and says so where it cannot.
#![cfg(feature = "export")]

#[path = "common/exported.rs"]
mod exported;
#[path = "common/lab.rs"]
mod lab;
#[path = "common/program.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod program;

use std::path::Path;
use std::process::Command;

use exported::run;
use hone_export::data::npy;
use hone_export::graph::infer;
use hone_export::graph::op::{Padding, Window};
use hone_export::graph::{DType, Dim, Graph, Node, Op, Tensor, Value as GraphValue};
use hone_export::onnx::{self, WriteOptions};
use lab::Lab;
use serde_json::Value;

/// The built-in model, exported; its plan is small.
fn exported() -> tempfile::TempDir {
    let (folder, report) = exported::exported();
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
    let run = |line: &str| run(folder.path(), line);
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
    let report = run(folder.path(), line);
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
    assert!(run.text().contains("runs on tract: native cannot (the bundle has no plan"), "{}", run.text());
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

/// 3 × 3, then 1 × 1 in two groups, then classes: what ShuffleNet and ResNeXt are made of.
fn grouped() -> Graph {
    let mut graph = Graph { name: "grouped".into(), opset: 17, ..Graph::default() };
    let shape = [Dim::Symbol("N".into()), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
    let x = GraphValue { name: "x".into(), dtype: Some(DType::F32), shape: Some(shape.to_vec()), constant: None };
    let mut last = graph.add_value(x);
    graph.inputs.push(last);
    let mut seed = 7u64;
    let mut noise = |count: usize| -> Vec<f32> {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count).map(|_| next()).collect()
    };
    let mut add = |graph: &mut Graph, op: Op, weights: Option<&[usize]>| {
        let name = format!("{}_{}", op.name(), graph.nodes.len());
        let mut inputs = vec![Some(last)];
        if let Some(shape) = weights {
            let data = Tensor::from_f32(shape, noise(shape.iter().product())).unwrap();
            inputs.push(Some(graph.add_constant(&format!("{name}_w"), data)));
        }
        last = graph.add_value(GraphValue { name: name.clone(), dtype: Some(DType::F32), ..GraphValue::default() });
        graph.nodes.push(Node { name, op, inputs, outputs: vec![last] });
    };
    let window = |kernel: usize, pad: usize| Window {
        kernel: vec![kernel; 2],
        strides: vec![1; 2],
        dilations: vec![1; 2],
        padding: Padding::Explicit(vec![pad; 4]),
    };
    add(&mut graph, Op::Conv { window: window(3, 1), group: 1 }, Some(&[8, 3, 3, 3]));
    add(&mut graph, Op::Relu, None);
    add(&mut graph, Op::Conv { window: window(1, 0), group: 2 }, Some(&[16, 4, 1, 1]));
    add(&mut graph, Op::Relu, None);
    add(&mut graph, Op::GlobalAveragePool, None);
    add(&mut graph, Op::Flatten { axis: 1 }, None);
    add(&mut graph, Op::MatMul, Some(&[16, 4]));
    graph.outputs = vec![last];
    infer::infer(&mut graph).unwrap();
    graph
}

/// A convolution may be pointwise and have groups.
#[test]
fn pointwise_convolutions_in_groups_give_the_same_on_every_kernel() {
    let folder = tempfile::tempdir().unwrap();
    onnx::write(&grouped(), &folder.path().join("g.onnx"), &WriteOptions::default()).unwrap();
    let x: Vec<f32> =
        (0..40 * 192).map(|i| ((i * 7919 % 2003) as f32 / 1001.5 - 1.0) * (1.0 + (i / 192) as f32 / 20.0)).collect();
    npy::write(folder.path().join("x.npy"), &[40, 3, 8, 8], &x).unwrap();
    std::fs::write(folder.path().join("classes.txt"), "a\nb\nc\nd\n").unwrap();
    for precision in ["int8", "fp16"] {
        let line = format!(
            "export g.onnx --calib x.npy --model-classes classes.txt --precision {precision} --out {precision} --min-agreement 0.7"
        );
        let report = run(folder.path(), &line);
        assert_eq!(report["native"]["refused"], Value::Null);
        let scores = |kernel: &str, provider: &str| -> Vec<f64> {
            let line = format!("--json predict {precision}/{precision}.hone x.npy --top 4 --provider {provider}");
            let mut hone = Command::new(env!("CARGO_BIN_EXE_hone"));
            let run = hone
                .args(line.split_whitespace())
                .current_dir(folder.path())
                .env("HONE_KERNEL", kernel)
                .output()
                .unwrap();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            let document: Value = serde_json::from_slice(&run.stdout).unwrap();
            let rows = document["rows"].as_array().unwrap();
            let score = |row: &Value, label: &str| {
                let top = row["top"].as_array().unwrap();
                top.iter().find(|answer| answer["label"] == label).unwrap()["score"].as_f64().unwrap()
            };
            rows.iter().flat_map(|row| ["a", "b", "c", "d"].map(|label| score(row, label))).collect()
        };
        let (portable, tract) = (scores("generic", "native"), scores("generic", "tract"));
        let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart(&portable, &tract) < 0.05, "{precision}: {}", apart(&portable, &tract));
        let spread =
            portable.chunks(4).map(|row| row[0]).fold((1.0f64, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        assert!(spread.1 - spread.0 > 0.02, "the rows are answered alike: {spread:?}");
        for kernel in hone_runtime::kernels::available() {
            let theirs = scores(kernel, "native");
            assert!(precision == "fp16" || theirs == portable, "{kernel}");
            assert!(apart(&theirs, &portable) < 0.01, "{kernel}, {precision}");
        }
    }
}
