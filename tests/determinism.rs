//! The same input gives the same bytes: exporting, and tuning.
#![cfg(feature = "export")]

#[path = "common/program.rs"]
mod program;

use std::path::Path;

use program::hone_json;
use serde_json::Value;

/// Copies the built-in model and data to where the runs happen.
fn data(folder: &Path) {
    for file in hone_models::QUICKSTART {
        std::fs::write(folder.join(file.name), file.bytes).unwrap();
    }
}

fn export(folder: &Path, out: &str) -> Value {
    let line = "export glyphs.onnx --calib glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt \
                --model-classes glyphs-labels.txt --prep tensor:scale=1/16 --name glyphs --out";
    hone_json(folder, &line.split_whitespace().chain([out]).collect::<Vec<_>>())
}

#[test]
fn exporting_twice_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let (first, second) = (export(folder.path(), "one"), export(folder.path(), "two"));
    assert_eq!(first["sqnr_db"], second["sqnr_db"]);
    for file in ["backbone.int8.onnx", "head.onnx", "model.int8.onnx", "glyphs.hone"] {
        let read = |out: &str| std::fs::read(folder.path().join(out).join(file)).unwrap();
        assert!(read("one") == read("two"), "{file} differs");
    }
}

#[test]
fn tuning_twice_gives_the_same_head() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    export(folder.path(), "out");
    let tune = |store: &str, rows: &str| {
        let line = "tune out/glyphs.hone --shots digits-x.npy --labels digits-y.npy --classes digits-labels.txt \
                    --only-taught --store";
        hone_json(folder.path(), &line.split_whitespace().chain([store, "--rows", rows]).collect::<Vec<_>>())
    };
    let (first, second) = (tune("one", "digits-k5.npy#1"), tune("two", "digits-k5.npy#1"));
    assert_eq!(first["head_crc"], second["head_crc"]);
    assert_eq!((&first["l2"], &first["loo_accuracy"]), (&second["l2"], &second["loo_accuracy"]));
    // Other shots, another head: the checksum is of what was learnt.
    assert_ne!(tune("three", "digits-k5.npy#2")["head_crc"], first["head_crc"]);
}
