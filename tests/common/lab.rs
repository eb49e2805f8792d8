//! A folder with a bundle of the built-in model and small data, and the program to run on them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hone_export::data::npy;
use hone_export::{graph, onnx, split};
use hone_runtime::Bundle;
use hone_runtime::bundle::{BundleParts, EmbeddingKind, EmbeddingSpec, Fingerprint, InputSpec, Precision};
use hone_runtime::head::{HeadParts, Kind, Weights};
use serde_json::Value;

/// A folder that is gone afterwards.
pub struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    /// With `glyphs.hone` (embedding in f16, the model's own head, no canaries) and the folders `shots` (two digits under names that
    /// the head does not know, four examples each) and `test` (the same digits, other rows, under the head's names).
    pub fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(lab.path("glyphs.hone"), bundle(Fingerprint([1; 16]))).unwrap();
        lab.digits("shots", &[("2", "two"), ("3", "three")], 0..4);
        lab.digits("test", &[("2", "2"), ("3", "3")], 4..24);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a data folder: of each digit, which gets a name, the examples of this range.
    pub fn digits(&self, name: &str, digits: &[(&str, &str)], range: std::ops::Range<usize>) {
        let mut pictures = npy::ArrayFile::open(models().join("digits-x.npy")).unwrap();
        let labels = npy::ArrayFile::open(models().join("digits-y.npy")).unwrap().all().unwrap().to_i64().unwrap();
        let (mut x, mut y) = (Vec::<f32>::new(), Vec::<u8>::new());
        for (class, (digit, _)) in digits.iter().enumerate() {
            let of_digit = (0..labels.len()).filter(|&row| labels[row].to_string() == *digit);
            for row in of_digit.skip(range.start).take(range.len()) {
                x.extend(pictures.row(row).unwrap().to_f32().iter().map(|ink| ink / 16.0));
                y.push(u8::try_from(class).unwrap());
            }
        }
        let names: Vec<&str> = digits.iter().map(|(_, name)| *name).collect();
        self.data(name, &[y.len(), 1, 8, 8], &x, &y, &names);
    }

    /// Writes a data folder.
    pub fn data(&self, name: &str, shape: &[usize], x: &[f32], y: &[u8], classes: &[&str]) {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        npy::write(folder.join("x.npy"), shape, x).unwrap();
        npy::write(folder.join("y.npy"), &[y.len()], y).unwrap();
        std::fs::write(folder.join("labels.txt"), classes.join("\n")).unwrap();
    }

    /// Runs hone in the folder, so that arguments may be plain names.
    pub fn run(&self, line: &str) -> Run {
        self.run_with(Command::new(env!("CARGO_BIN_EXE_hone")), line)
    }

    /// The same by way of another program that takes hone's arguments.
    pub fn run_with(&self, mut program: Command, line: &str) -> Run {
        let output = program.args(line.split_whitespace()).current_dir(self.folder.path()).output().unwrap();
        Run { line: line.to_owned(), output }
    }
}

/// What a run gave.
pub struct Run {
    line: String,
    output: Output,
}

impl Run {
    pub fn code(&self) -> i32 {
        self.output.status.code().unwrap()
    }

    /// Standard output and standard error.
    pub fn text(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        text(&self.output.stdout) + &text(&self.output.stderr)
    }

    /// The JSON document on standard output, whatever the exit code.
    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.output.stdout).unwrap()
    }

    /// The one JSON document of a run that succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.code(), 0, "hone {}\n{}", self.line, self.text());
        serde_json::from_slice(&self.output.stdout).unwrap()
    }

    /// Checks that the run failed with this error code and named these words, and that it did so without a panic.
    #[track_caller]
    pub fn fails(&self, code: &str, words: &[&str]) {
        let text = self.text();
        assert_eq!(self.code(), 1, "hone {}\n{text}", self.line);
        assert!(!text.contains("panicked"), "hone {}\n{text}", self.line);
        assert!(text.contains(&format!("[{code}]")) && text.contains("help: "), "hone {}\n{text}", self.line);
        for word in words {
            assert!(text.contains(word), "hone {}: '{word}' is not in\n{text}", self.line);
        }
    }
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// The built-in model cut at its embedding, not quantized, with its own head.
pub fn bundle(fingerprint: Fingerprint) -> Vec<u8> {
    let mut graph = onnx::read(&models().join("glyphs.onnx")).unwrap();
    graph::simplify(&mut graph).unwrap();
    let halves = split::choose(&graph, None).unwrap();
    let backbone = onnx::encode(&halves.backbone, &onnx::WriteOptions::default()).unwrap();
    let head = halves.head.unwrap();
    let embedding = EmbeddingSpec { dim: halves.cut.width, kind: EmbeddingKind::F16 };
    let names = std::fs::read_to_string(models().join("glyphs-labels.txt")).unwrap();
    let labels: Vec<&str> = names.lines().collect();
    let weights: Vec<f32> = head.weights.iter().copied().collect();
    let record = HeadParts {
        kind: Kind::Softmax,
        unit: false,
        fingerprint,
        embedding,
        labels: &labels,
        bias: &head.bias,
        weights: Weights::F32(&weights),
    };
    let record = record.to_bytes().unwrap();
    let parts = BundleParts {
        name: "glyphs",
        made_by: "tests",
        precision: Precision::Fp32,
        input: InputSpec::new("image", &[1, 8, 8]).unwrap(),
        embedding,
        head: Some(&record),
        ..BundleParts::new(&backbone, fingerprint)
    };
    let bytes = parts.to_bytes().unwrap();
    assert!(Bundle::parse(&bytes).is_ok());
    bytes
}
