//! The example `personalize` on the built-in model and real handwriting: what it prints, and how good its head is.
//!
//! The whole model stands in for a backbone here, its 47 glyph scores for an embedding: no export is needed.
#![cfg(feature = "tract")]

use std::fs;
use std::path::Path;

use hone_runtime::backbone::tract::TractBackbone;
use hone_runtime::bundle::{BundleParts, EmbeddingKind, InputSpec};
use hone_runtime::{Bundle, EmbeddingSpec, Fingerprint, Session};

#[path = "../examples/personalize.rs"]
#[allow(dead_code, reason = "its `main` reads the command line")]
mod example;

fn model(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name)).unwrap()
}

/// The data of a `.npy` file: its header says how long it is.
fn npy(name: &str) -> Vec<u8> {
    let bytes = model(name);
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[10 + header..].to_vec()
}

fn indices(name: &str) -> Vec<usize> {
    npy(name).as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes) as usize).collect()
}

#[test]
fn the_example_learns_handwriting_from_five_shots_a_digit() {
    let home = tempfile::tempdir().unwrap();
    let (images, labels) = (npy("digits-x.npy"), npy("digits-y.npy"));
    let example = |row: &usize| -> example::Labelled {
        let pixels = images[row * 64..][..64].iter().map(|ink| f32::from(*ink) / 16.0).collect();
        (labels[*row].to_string(), pixels)
    };
    let onnx = model("glyphs.onnx");
    let parts = BundleParts {
        name: "glyphs",
        input: InputSpec::new("image", &[1, 8, 8]).unwrap(),
        embedding: EmbeddingSpec { dim: 47, kind: EmbeddingKind::F16 },
        ..BundleParts::new(&onnx, Fingerprint([1; 16]))
    };
    let bytes = parts.to_bytes().unwrap();
    let (bundle, store) = (home.path().join("glyphs.hone"), home.path().join("store"));
    fs::write(&bundle, &bytes).unwrap();

    let shots: Vec<_> = indices("digits-k5.npy")[..50].iter().map(example).collect();
    let test: Vec<_> = indices("digits-test.npy").iter().map(example).collect();
    let answers = example::personalize(&bundle, &store, &shots, &test).unwrap();

    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = Session::open(&bundle, TractBackbone::load(&bundle).unwrap(), &store).unwrap();
    assert_eq!((session.history().len(), session.shots().count()), (1, 50));
    assert_eq!(session.predict(&test[0].1).unwrap().label, answers[0]);
    let right = answers.iter().zip(&test).filter(|(answer, (label, _))| *answer == label).count();
    let accuracy = right as f64 / test.len() as f64;
    println!("accuracy after 5 shots a digit: {accuracy:.3}");
    // models/README.md: 0.967 by the shipped classifier when it knows that only digits occur, 0.976 by its embedding.
    assert!(accuracy > 0.93, "{accuracy}");
}
