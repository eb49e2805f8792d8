//! The built-in model, exported where the runs happen.

use std::path::Path;

use serde_json::Value;

use crate::program::hone_json;

/// The quickstart's files, and the bundle `out/out.hone` with its plan; beside it, what the export reported.
pub fn exported() -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    for file in hone_models::QUICKSTART {
        std::fs::write(folder.path().join(file.name), file.bytes).unwrap();
    }
    let line = "export glyphs.onnx --calib glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt \
                --model-classes glyphs-labels.txt --prep tensor:scale=1/16 --out out";
    let report = run(folder.path(), line);
    (folder, report)
}

/// The JSON document of a command line that has to succeed.
#[track_caller]
pub fn run(folder: &Path, line: &str) -> Value {
    hone_json(folder, &line.split_whitespace().collect::<Vec<_>>())
}
