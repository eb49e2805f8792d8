//! Runs the program as a user does.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs hone in `folder`.
pub fn hone(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hone")).args(arguments).current_dir(folder).output().unwrap()
}

/// The JSON document of a run that has to succeed.
#[track_caller]
pub fn hone_json(folder: &Path, arguments: &[&str]) -> Value {
    let output = hone(folder, &[arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "hone {arguments:?}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("hone {arguments:?}: {e}\n{text}"))
}
