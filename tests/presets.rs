//! `--preset`: every preset's files are what it says, are taken by ONNX Runtime, and answer as the original does; options win over presets.
#![cfg(feature = "export")]

#[path = "common/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use hone_export::data::npy;
use hone_export::graph::{DType, Dim, Graph, Node, Op, Tensor, Value as GraphValue, ValueId};
use hone_export::onnx;
use hone_export::quantize::Preset;
use program::{hone, hone_json};
use serde_json::Value;

const WORDS: &str = "--calib glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt --prep tensor:scale=1/16 --name m";

/// The built-in model and data, and the model with a softmax at its end.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in hone_models::QUICKSTART {
        std::fs::write(folder.path().join(file.name), file.bytes).unwrap();
    }
    let mut graph = onnx::read(&folder.path().join("glyphs.onnx")).unwrap();
    let scores = graph.outputs[0];
    let value = GraphValue { name: "probabilities".into(), constant: None, ..graph.value(scores).clone() };
    let out = graph.add_value(value);
    let softmax =
        Node { name: "softmax".into(), op: Op::Softmax { axis: -1 }, inputs: vec![Some(scores)], outputs: vec![out] };
    graph.nodes.push(softmax);
    graph.outputs = vec![out];
    onnx::write(&graph, &folder.path().join("softmax.onnx"), &onnx::WriteOptions::default()).unwrap();
    folder
}

fn export(folder: &Path, model: &str, line: &str) -> Value {
    let words = format!("export {model} {WORDS} {line}");
    hone_json(folder, &words.split_whitespace().collect::<Vec<_>>())
}

fn maker(graph: &Graph, id: ValueId) -> Option<&Node> {
    graph.producers()[id.0].map(|i| &graph.nodes[i])
}

/// Number of scales of the weights of every layer of a kind, and the types of all activations.
fn seen(graph: &Graph) -> (Vec<(String, usize)>, Vec<DType>) {
    let (mut scales, mut types) = (Vec::new(), Vec::new());
    for node in &graph.nodes {
        if matches!(node.op, Op::Conv { .. } | Op::Gemm { .. }) {
            let read = maker(graph, node.inputs[1].unwrap()).expect("weights behind a DequantizeLinear");
            assert!(matches!(graph.constant(read.inputs[0]), Some(Tensor::I8(_))), "{}", node.name);
            let scale = graph.constant(read.inputs[1]).unwrap();
            scales.push((node.op.name(), scale.shape().iter().product()));
        }
        if matches!(node.op, Op::QuantizeLinear { .. }) {
            types.push(graph.constant(node.inputs[2]).unwrap().dtype());
        }
    }
    (scales, types)
}

#[test]
fn the_files_are_what_the_preset_says() {
    let folder = folder();
    for preset in Preset::ALL {
        let (name, settings) = (preset.name(), preset.settings());
        let told = export(folder.path(), "softmax.onnx", &format!("--preset {name} --out {name}"));
        println!("{name}: {} dB, agreement {}", told["sqnr_db"], told["agreement"]);
        assert_eq!(told["preset"]["name"], name);
        assert_eq!(told["preset"]["overridden"].as_array().map(Vec::len), Some(0));
        let changes = serde_json::to_value(preset.changes()).unwrap();
        assert_eq!(told["preset"]["changes"], changes);
        let precision = settings.precision.name();
        assert_eq!(told["precision"], precision);
        assert!(told["agreement"].as_f64().unwrap() >= 0.97, "{name}: {told}");
        // The plan keeps running, whatever the file is for.
        assert!(told["native"]["refused"].is_null(), "{name}: {}", told["native"]);

        let bytes = std::fs::read(folder.path().join(name).join("m.hone")).unwrap();
        let bundle = hone_runtime::bundle::Bundle::parse(&bytes).unwrap();
        let facts: Value = serde_json::from_str(bundle.facts.unwrap()).unwrap();
        assert_eq!(facts["preset"], name);

        let graph = onnx::read(&folder.path().join(name).join(format!("model.{precision}.onnx"))).unwrap();
        let first = graph.value(graph.inputs[0]).shape.as_ref().unwrap()[0].clone();
        assert_eq!(first == Dim::Fixed(1), settings.fixed_batch, "{name}: {first:?}");
        if precision == "fp16" {
            continue;
        }
        let (scales, types) = seen(&graph);
        let wanted = if settings.activations.name() == "int8" { DType::I8 } else { DType::U8 };
        assert!(!types.is_empty() && types.iter().all(|t| *t == wanted), "{name}: {types:?}");
        for (op, count) in scales {
            let one = op == "Gemm" && settings.weights.name() != "per-channel";
            assert_eq!(count == 1, one, "{name}: {op} has {count} scales");
        }
        let last = maker(&graph, graph.outputs[0]).unwrap();
        if settings.scores.name() == "float" {
            assert!(matches!(last.op, Op::Softmax { .. }), "{name}: {last:?}");
        } else {
            assert!(matches!(last.op, Op::DequantizeLinear { .. }), "{name}: {last:?}");
            let scale = graph.constant(last.inputs[1]).and_then(Tensor::as_f32).and_then(|s| s.iter().next().copied());
            assert_eq!(scale == Some(1.0 / 256.0), settings.prescribed_steps, "{name}: {scale:?}");
            // Nothing computes between floats.
            let floats = graph.nodes.iter().filter(|node| matches!(node.op, Op::Gemm { .. } | Op::Softmax { .. }));
            for node in floats {
                let is_read =
                    |id: ValueId| maker(&graph, id).is_some_and(|m| matches!(m.op, Op::DequantizeLinear { .. }));
                assert!(is_read(node.inputs[0].unwrap()), "{name}: {}", node.name);
            }
        }
    }
}

#[test]
fn what_is_given_wins_over_the_preset_and_is_told() {
    let folder = folder();
    let line = "--preset tflite-mcu --activations uint8 --weights per-tensor --scores float --batch open --out own";
    let told = export(folder.path(), "softmax.onnx", line);
    let settings: Vec<&str> =
        told["preset"]["overridden"].as_array().unwrap().iter().map(|o| o["setting"].as_str().unwrap()).collect();
    assert_eq!(settings, ["batch", "activations", "weights", "scores"]);
    let graph = onnx::read(&folder.path().join("own/model.int8.onnx")).unwrap();
    let (scales, types) = seen(&graph);
    assert!(
        types.iter().all(|t| *t == DType::U8) && scales.iter().all(|(_, count)| *count == 1),
        "{types:?} {scales:?}"
    );
    // One scale a layer costs some, and not much on this model.
    println!("one scale a layer: {} dB, agreement {}", told["sqnr_db"], told["agreement"]);
    assert!(told["agreement"].as_f64().unwrap() >= 0.95, "{told}");
    let words = format!("export softmax.onnx {WORDS} --preset openvino --reduce-range=false --out eight");
    let printed = hone(folder.path(), &words.split_whitespace().collect::<Vec<_>>());
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(text.contains("reduce_range: 8 bits was given and wins over the preset's 7 bits"), "{text}");
    let unknown = hone(folder.path(), &["export", "softmax.onnx", "--calib", "x", "--out", "y", "--preset", "npu"]);
    assert_eq!(unknown.status.code(), Some(2));
}

/// ONNX Runtime takes the files of every preset, and answers as the original does.
#[test]
fn onnx_runtime_answers_as_the_original_does() {
    let python = std::env::var("HONE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import numpy, onnxruntime"]).output();
    if !found.is_ok_and(|o| o.status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{python} cannot import onnxruntime");
        println!("skipped: {python} cannot import onnxruntime; `cargo xtask test` installs it");
        return;
    }
    let folder = folder();
    let mut images =
        npy::ArrayFile::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/glyphs-eval.npy")).unwrap();
    let count = images.shape()[0];
    let x: Vec<f32> = (0..count).flat_map(|row| images.row(row).unwrap().to_f32()).map(|ink| ink / 16.0).collect();
    npy::write(folder.path().join("rows.npy"), &[count, 1, 8, 8], &x).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run_onnxruntime.py");
    let answers = |model: &str| -> Vec<usize> {
        let arguments = [script.to_str().unwrap(), model, "rows.npy", "scores.npy"];
        let run = Command::new(&python).args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(run.status.success(), "{model}: {}", String::from_utf8_lossy(&run.stderr));
        let mut scores = npy::ArrayFile::open(folder.path().join("scores.npy")).unwrap();
        let best = |row: Vec<f32>| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap();
        (0..count).map(|row| best(scores.row(row).unwrap().to_f32())).collect()
    };
    let original = answers("softmax.onnx");
    for preset in Preset::ALL {
        let name = preset.name();
        export(folder.path(), "softmax.onnx", &format!("--preset {name} --out {name}"));
        let quantized = answers(&format!("{name}/model.{}.onnx", preset.settings().precision.name()));
        let same = original.iter().zip(&quantized).filter(|(a, b)| a == b).count();
        println!("{name}: the same answer on {same} of {count}");
        assert!(same * 100 >= count * 97, "{name}: the same answer on {same} of {count}");
    }
}
