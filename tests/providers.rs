//! ONNX Runtime's execution providers run bundles, and whatever is missing or breaks is said. Needs the libraries that `cargo xtask providers`
//! unpacks; where a provider's are absent its tests are skipped, except where CI=true.
#![cfg(all(feature = "export", feature = "ort"))]

#[path = "common/exported.rs"]
mod exported;
#[path = "common/program.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod program;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use exported::{exported, run};
use hone_export::graph::Op;
use hone_export::onnx;
use program::hone_json;
use serde_json::Value;

const TESTED: [&str; 3] = ["ort:cpu", "ort:openvino", "ort:qnn"];

/// The providers of [`TESTED`] that this machine has.
fn ready() -> &'static [String] {
    static READY: OnceLock<Vec<String>> = OnceLock::new();
    READY.get_or_init(|| {
        let listed = hone_json(Path::new("."), &["providers"]);
        let lines = listed["providers"].as_array().unwrap();
        let mut ready = Vec::new();
        for name in TESTED {
            let line = lines.iter().find(|line| line["provider"] == name).unwrap();
            if line["state"] == "ready" {
                ready.push(name.to_owned());
            } else {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: {}", line["why"]);
                println!("skipped: {name}: {}", line["why"]);
            }
        }
        ready
    })
}

fn output(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hone")).args(line.split_whitespace()).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Best classes of the handwriting's first rows.
fn answers(folder: &Path, provider: &str) -> Vec<String> {
    let predicted = run(folder, &format!("predict out/out.hone digits-x.npy --top 1 --provider {provider}"));
    let rows = predicted["rows"].as_array().unwrap();
    rows.iter().map(|row| row["top"][0]["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_provider_answers_as_the_native_engine_does() {
    let folder = exported().0;
    let native = answers(folder.path(), "native");
    for provider in ready() {
        let theirs = answers(folder.path(), provider);
        let same = native.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        println!("{provider}: the same answer on {same} of {}", native.len());
        // Single steps apart, on pictures unlike what the model was trained on.
        assert!(same * 1000 >= native.len() * 985, "{provider}: {same} of {}", native.len());
    }
}

#[test]
fn a_head_is_tuned_on_any_provider_and_used_on_another() {
    let folder = exported().0;
    let words = "--labels digits-y.npy --classes digits-labels.txt";
    for provider in ready() {
        let store = provider.replace(':', "-");
        let tuned = run(
            folder.path(),
            &format!(
                "tune out/out.hone --shots digits-x.npy {words} --rows digits-k5.npy#1 --only-taught \
                 --provider {provider} --store {store}"
            ),
        );
        assert_eq!(tuned["accepted"], true);
        let top1 = |on: &str| {
            let line = format!(
                "eval out/out.hone --data digits-x.npy {words} --rows digits-test.npy --store {store} --provider {on}"
            );
            run(folder.path(), &line)["top1"].as_f64().unwrap()
        };
        let (here, native) = (top1(provider), top1("native"));
        let elsewhere = output(
            folder.path(),
            &format!("predict out/out.hone digits-x.npy --store {store} --provider native --top 1"),
        );
        let warned = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
        assert!(warned.contains(&format!("tuned on {provider}")) && warned.contains("hone head move"), "{warned}");
        assert!(here > 0.95 && (here - native).abs() < 0.01, "{provider}: {here}, native: {native}");
        // It is moved to the native engine, as a generation of its own.
        let move_to = format!(
            "head move out/out.hone --store {store} --from {provider} --provider native --data digits-x.npy --limit 50"
        );
        let moved = run(folder.path(), &move_to);
        assert_eq!((&moved["generation"], &moved["rows"]), (&2.into(), &50.into()), "{moved}");
        assert!(
            moved["recentred"].as_f64().unwrap() >= 0.96 && moved["largest_shift"].as_f64().unwrap() < 0.5,
            "{moved}"
        );
        assert!((top1("native") - native).abs() < 0.01, "{provider}: {native}, then {}", top1("native"));
        let history = run(folder.path(), &format!("head history out/out.hone --store {store}"));
        assert_eq!(history["generations"][1]["why"], "moved to native");
    }
}

#[test]
fn the_next_provider_takes_over_and_that_is_said() {
    let folder = exported().0;
    std::fs::write(folder.path().join("libonnxruntime.so"), "no library").unwrap();
    let line = "predict out/out.hone digits-x.npy --ort-lib libonnxruntime.so --provider ort:cpu,native --json";
    let fell_back = output(folder.path(), line);
    assert_eq!(fell_back.status.code(), Some(0), "{}", said(&fell_back));
    let notice = String::from_utf8_lossy(&fell_back.stderr).into_owned();
    assert!(
        notice.contains("runs on native") && notice.contains("ort:cpu") && notice.contains("libonnxruntime.so"),
        "{notice}"
    );
    // Alone, it is an error that names the file.
    let alone =
        output(folder.path(), "predict out/out.hone digits-x.npy --ort-lib libonnxruntime.so --provider ort:cpu");
    assert_eq!(alone.status.code(), Some(1));
    assert!(said(&alone).contains("[provider]") && said(&alone).contains("libonnxruntime.so"), "{}", said(&alone));
    assert!(!said(&alone).contains("panicked"), "{}", said(&alone));
    let absent = output(folder.path(), "predict out/out.hone digits-x.npy --ort-lib nowhere.so --provider ort:cpu");
    assert!(said(&absent).contains("--ort-lib names nowhere.so"), "{}", said(&absent));
    // A library, but of something else.
    if let Some(other) =
        ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6"].iter().find(|p| Path::new(p).exists())
    {
        let line = format!("predict out/out.hone digits-x.npy --ort-lib {other} --provider ort:cpu");
        let foreign = output(folder.path(), &line);
        assert_eq!(foreign.status.code(), Some(1), "{}", said(&foreign));
        assert!(said(&foreign).contains("OrtGetApiBase"), "{}", said(&foreign));
    }
    let unknown = output(folder.path(), "predict out/out.hone digits-x.npy --provider native,ort:gpu");
    assert!(said(&unknown).contains("[unknown-provider]") && said(&unknown).contains("ort:qnn"), "{}", said(&unknown));
}

#[test]
fn a_damaged_session_cache_is_made_anew() {
    let folder = exported().0;
    for provider in ready().iter().filter(|name| *name != "ort:openvino") {
        let cache = folder.path().join("cache");
        let line = format!("predict out/out.hone digits-x.npy --top 1 --provider {provider} --session-cache cache");
        let first = run(folder.path(), &line);
        let entries: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [entry] = &entries[..] else { panic!("{provider}: {entries:?}") };
        let whole = std::fs::read(entry).unwrap();
        assert_eq!(run(folder.path(), &line), first, "{provider}, from the cache");
        assert_eq!(std::fs::read(entry).unwrap(), whole, "{provider}: a hit writes nothing");
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(entry, &damaged).unwrap();
        assert_eq!(run(folder.path(), &line), first, "{provider}, with a damaged cache");
        assert_ne!(std::fs::read(entry).unwrap(), damaged, "{provider}: it was made anew");
        std::fs::remove_dir_all(&cache).unwrap();
    }
}

#[test]
fn providers_take_the_whole_backbone_and_are_benched_side_by_side() {
    let folder = exported().0;
    let ready = ready();
    if ready.is_empty() {
        return;
    }
    let list = ready.join(",");
    let found = run(folder.path(), &format!("bench out/out.hone --provider native,{list} --preflight"));
    assert_eq!(found["passed"], true, "{found}");
    for found in found["preflight"].as_array().unwrap() {
        assert_eq!((&found["verdict"], &found["mac_share"]), (&"whole".into(), &1.0.into()), "{found}");
        assert!(found["nodes"].as_u64().unwrap() >= 12 && found["fallback"].as_array().unwrap().is_empty(), "{found}");
        let is_kept = ["ort:cpu", "ort:qnn"].iter().any(|name| found["provider"] == *name);
        assert!(!is_kept || found["warm_load_ms"].as_f64().unwrap() > 0.0, "{found}");
    }
    let line = format!(
        "bench out/out.hone --provider native,{list} --data digits-x.npy --labels digits-y.npy --classes digits-labels.txt --limit 200 \
         --cross 5 --runs 20 --seconds 1 --profile --batch 1,2"
    );
    let report = run(folder.path(), &line);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), ready.len() + 1, "{report}");
    for row in rows {
        assert!(row["cosine"].as_f64().unwrap() > 0.995 && row["agreement"].as_f64().unwrap() >= 0.97, "{row}");
        assert_eq!(row["library_bytes"].as_u64().unwrap() > 1_000_000, row["provider"] != "native", "{row}");
    }
    // Whoever embeds the shots, the heads hold everywhere.
    let cross = &report["cross"];
    assert_eq!((&cross["test_rows"], cross["pairs"].as_array().unwrap().len()), (&150.into(), rows.len().pow(2)));
    let own = cross["pairs"][0]["accuracy"].as_f64().unwrap();
    for pair in cross["pairs"].as_array().unwrap() {
        let [as_it_is, recentred] = ["accuracy", "recentred"].map(|key| pair[key].as_f64().unwrap());
        assert!(pair["holds"] == true && (as_it_is - own).abs() < 0.04 && (recentred - own).abs() < 0.04, "{pair}");
    }
    for profile in report["profiles"].as_array().unwrap() {
        let ops = profile["ops"].as_array().unwrap();
        assert!(!ops.is_empty() && ops.iter().all(|op| op["us"].as_f64().unwrap() >= 0.0), "{profile}");
    }
}

/// Files of the preset `qnn` take one row at a time: they run whole on the NPU, and rows that come together go one after the other.
#[test]
fn the_npu_takes_the_whole_of_its_preset() {
    let folder = exported().0;
    let words = "glyphs.onnx --calib glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt \
                 --model-classes glyphs-labels.txt --prep tensor:scale=1/16 --preset qnn --out npu";
    run(folder.path(), &format!("export {words}"));
    for provider in ready().iter().filter(|name| *name != "ort:openvino") {
        let flight = run(folder.path(), &format!("bench npu/npu.hone --provider {provider} --preflight"));
        assert_eq!(flight["preflight"][0]["verdict"], "whole", "{provider}: {flight}");
        let line = format!(
            "bench npu/npu.hone --provider {provider} --data digits-x.npy --limit 50 --original glyphs.onnx --batch 1,3 \
             --threads 1 --seconds 0.5"
        );
        let timed = run(folder.path(), &line);
        assert_eq!(timed["failed"].as_array().map(Vec::len), Some(0), "{provider}: {timed}");
        // The original in float runs where the bundle does, but for the NPU.
        let float = timed["rows"].as_array().unwrap().iter().find(|row| row["precision"] == "fp32").unwrap();
        assert_eq!(float["provider"], if provider == "ort:cpu" { "ort:cpu" } else { "tract" }, "{timed}");
    }
}

/// An error function between two layers is in none of the NPU's words: what stands around it runs elsewhere, and the log's reason is told.
#[test]
fn what_the_npu_leaves_is_told_with_its_reason() {
    if !ready().iter().any(|name| name == "ort:qnn") {
        return;
    }
    let folder = exported().0;
    let mut graph = onnx::read(&folder.path().join("glyphs.onnx")).unwrap();
    let middle = graph.nodes.iter().rposition(|node| node.op == Op::Relu).unwrap();
    graph.nodes[middle].op = Op::Erf;
    let name = graph.nodes[middle].name.clone();
    onnx::write(&graph, &folder.path().join("erf.onnx"), &onnx::WriteOptions::default()).unwrap();
    let words = "erf.onnx --calib glyphs-calib.npy --prep tensor:scale=1/16 --preset qnn --out erf";
    run(folder.path(), &format!("export {words}"));
    let output = output(folder.path(), "bench erf/erf.hone --provider ort:qnn --preflight --json");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = &document["preflight"][0];
    assert_eq!((&document["passed"], &found["verdict"]), (&false.into(), &"partial".into()), "{found}");
    // The error function's own quantization is left with it.
    let left = found["fallback"].as_array().unwrap();
    let erf = left.iter().find(|left| left["op"] == "Erf").unwrap_or_else(|| panic!("{found}"));
    assert!(erf["node"].as_str().unwrap().contains(&name) && erf["runs_on"] == "CPUExecutionProvider", "{erf}");
    assert!(erf["output"].as_str().unwrap().starts_with("f32 [1, "), "{erf}");
    for left in left {
        assert!(left["why"].as_str().unwrap().contains("`Erf` are not supported by QNN"), "{left}");
    }
    assert_eq!(left.len(), 3, "{found}");
    // What it leaves is computed all the same.
    let line = "bench erf/erf.hone --provider ort:qnn --data digits-x.npy --limit 20 --original erf.onnx --seconds 0.5 --scenario single-stream";
    let timed = run(folder.path(), line);
    assert!(timed["rows"][0]["agreement"].as_f64().unwrap() > 0.9, "{timed}");
}
