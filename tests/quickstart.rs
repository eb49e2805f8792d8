//! One command on a fresh machine shows the whole promise: files, a head that got better, a page that needs nothing else.
#![cfg(feature = "export")]

#[path = "common/program.rs"]
mod program;

use std::path::Path;

use hone_runtime::Bundle;
use program::{hone, hone_json};
use serde_json::Value;

#[test]
fn quickstart_writes_everything_and_the_head_gets_better() {
    let folder = tempfile::tempdir().unwrap();
    let done = hone_json(folder.path(), &["quickstart", "--out", "out"]);
    let out = folder.path().join("out");

    let accuracy = |precision: &str, head: &str| {
        let rows = done["accuracy"].as_array().unwrap();
        let row = rows.iter().find(|r| r["precision"] == precision && r["head"] == head);
        row.and_then(|r| r["top1"].as_f64()).unwrap_or_else(|| panic!("no {precision}, {head} in {done}"))
    };
    let (fp32, before, after) =
        (accuracy("fp32", "as shipped"), accuracy("int8", "as shipped"), accuracy("int8", "tuned, 5 shots"));
    // Over all of the model's classes, letters included, on handwriting that neither calibration nor tuning saw.
    assert!(before > 0.5 && before >= fp32 - 0.01, "fp32 {fp32}, int8 {before}");
    assert!(after > before, "before {before}, after {after}");
    let tuned = &done["tuned"];
    assert_eq!((tuned["accepted"].as_bool(), tuned["generation"].as_u64()), (Some(true), Some(1)), "{tuned}");
    assert_eq!((tuned["shots"].as_u64(), tuned["classes"].as_u64()), (Some(50), Some(10)), "{tuned}");
    let k_shot: Vec<f64> = done["k_shot"].as_array().unwrap().iter().map(|k| k["mean"].as_f64().unwrap()).collect();
    assert!(k_shot.len() == 3 && k_shot.is_sorted(), "1, 5 and 20 shots: {k_shot:?}");
    for row in done["bench"].as_array().unwrap() {
        assert!(row["p50_us"].as_f64().unwrap() > 0.0, "{row}");
    }

    for file in ["backbone.int8.onnx", "head.onnx", "model.int8.onnx", "report.html"] {
        assert!(std::fs::metadata(out.join(file)).unwrap().len() > 1000, "{file}");
    }
    let bytes = std::fs::read(out.join("glyphs.hone")).unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    assert!(bundle.head.is_some());
    page_needs_nothing_else(&out.join("report.html"));

    // What the run says is what the files give.
    let eval = hone_json(
        folder.path(),
        &[
            "eval",
            "out/glyphs.hone",
            "--store",
            "out/home",
            "--data",
            "out/data/digits-x.npy",
            "--labels",
            "digits-y.npy",
            "--classes",
            "digits-labels.txt",
            "--rows",
            "out/data/digits-test.npy",
        ],
    );
    assert_eq!(eval["top1"].as_f64(), Some(after));
    let history = hone_json(folder.path(), &["head", "history", "out/glyphs.hone", "--store", "out/home"]);
    assert_eq!((history["active"].as_u64(), &history["generations"][0]["head_crc"]), (Some(1), &tuned["head_crc"]));
}

fn page_needs_nothing_else(path: &Path) {
    let page = std::fs::read_to_string(path).unwrap();
    for foreign in ["http", "<script", "<link", "<iframe", "src=", "url(", "@import"] {
        assert!(!page.contains(foreign), "the page has {foreign}");
    }
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.matches("<svg").count() >= 4, "accuracy by shots, two confusion matrices, layers");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(!page.contains("NaN"), "a figure is missing");
}

#[test]
fn an_earlier_quickstart_is_replaced_only_when_forced() {
    let folder = tempfile::tempdir().unwrap();
    hone_json(folder.path(), &["quickstart", "--out", "out"]);
    let store = folder.path().join("out/home/gen-00000001.hgen");
    let before = std::fs::read(&store).unwrap();
    let again = hone(folder.path(), &["quickstart", "--out", "out", "--json"]);
    assert_eq!(again.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(error["error"]["code"], "exists", "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("out"), "{error}");
    assert_eq!(std::fs::read(&store).unwrap(), before, "nothing was touched");
    hone_json(folder.path(), &["quickstart", "--out", "out", "--force"]);

    // A folder of the user's own is never replaced, forced or not.
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    std::fs::write(folder.path().join("mine/photo.jpg"), "precious").unwrap();
    let refused = hone(folder.path(), &["quickstart", "--out", "mine", "--force", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(std::fs::read(folder.path().join("mine/photo.jpg")).unwrap(), b"precious");
}
