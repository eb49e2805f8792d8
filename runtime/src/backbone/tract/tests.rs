use std::path::PathBuf;
use std::{env, eprintln, fs, println};

use half::f16;

use super::*;
use crate::backbone::Fingerprint;
use crate::bundle::{BundleParts, InputSpec};
use crate::quant::{EmbeddingKind, QuantParams};

/// The shared models and data directory. Absent: a notice, or a failure under CI.
fn shared() -> Option<PathBuf> {
    let root = env::var_os("HONE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    if root.join("models").is_dir() {
        return Some(root);
    }
    assert!(env::var("CI").as_deref() != Ok("true"), "shared models are missing at {}", root.display());
    eprintln!("skipped: no shared models at {}", root.display());
    None
}

/// Shape and values of a little-endian f32 `.npy` file, version 1, C order.
fn npy(path: &std::path::Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = std::str::from_utf8(&bytes[10..10 + header]).unwrap();
    assert!(text.contains("'<f4'") && text.contains("'fortran_order': False"), "{text}");
    let shape = text.split_once('(').unwrap().1.split_once(')').unwrap().0;
    let shape = shape.split(',').filter_map(|dim| dim.trim().parse().ok()).collect();
    let values = bytes[10 + header..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (shape, values)
}

#[test]
fn parity_with_onnx_runtime() {
    let Some(root) = shared() else { return };
    for (model, name, tolerance) in [
        ("mlperf_tiny/dscnn_kws12.onnx", "dscnn_kws12", 1e-4),
        ("mlperf_tiny/resnet8_cifar10.onnx", "resnet8_cifar10", 1e-4),
        ("imu/wand_conv1d.onnx", "wand_conv1d", 1e-4),
        ("mnist/mnist_cntk.onnx", "mnist_cntk", 5e-3), // logits of thousands
    ] {
        let onnx = fs::read(root.join("models").join(model)).unwrap();
        let model = TractModel::load(&onnx, 1).unwrap();
        let (shape, inputs) = npy(&root.join(format!("models/sample_io/{name}.in.npy")));
        let (_, expected) = npy(&root.join(format!("models/sample_io/{name}.out.npy")));
        let n = shape[0];
        let mut worst = 0.0f32;
        for (input, expected) in inputs.chunks(inputs.len() / n).zip(expected.chunks(expected.len() / n)) {
            let outputs = model.run(&[input]).unwrap();
            assert_eq!(outputs[0].len(), expected.len());
            for (got, expected) in outputs[0].iter().zip(expected) {
                worst = worst.max((got - expected).abs());
            }
        }
        println!("{name}: {n} rows, largest difference {worst:e}");
        assert!(worst <= tolerance, "{name}: {worst}");
    }
}

/// The whole DS-CNN as a "backbone" of 12 values: rows are stored as the bundle states, and bad input is refused.
#[test]
fn embeds_and_refuses() {
    let Some(root) = shared() else { return };
    let onnx = fs::read(root.join("models/mlperf_tiny/dscnn_kws12.onnx")).unwrap();
    let (_, inputs) = npy(&root.join("models/sample_io/dscnn_kws12.in.npy"));
    let (_, expected) = npy(&root.join("models/sample_io/dscnn_kws12.out.npy"));
    let q = QuantParams { scale: 1.0 / 255.0, zero_point: -128 };
    let int8 = EmbeddingSpec { dim: 12, kind: EmbeddingKind::Int8(q) };
    let mut backbone = TractBackbone::from_onnx(&onnx, &[1, 49, 10], int8).unwrap();
    let mut row = [0; 12];
    backbone.embed(&inputs[..490], &mut row).unwrap();
    for (got, expected) in row.iter().zip(&expected) {
        let expected = (expected * 255.0).round_ties_even() - 128.0;
        assert!((f32::from(got.cast_signed()) - expected).abs() <= 1.0);
    }
    let half = EmbeddingSpec { dim: 12, kind: EmbeddingKind::F16 };
    let mut halves = [0; 24];
    TractBackbone::from_onnx(&onnx, &[1, 49, 10], half).unwrap().embed(&inputs[..490], &mut halves).unwrap();
    for (got, expected) in halves.as_chunks().0.iter().zip(&expected) {
        assert!((f16::from_le_bytes(*got).to_f32() - expected).abs() <= 1e-3);
    }

    let mut bad = inputs[..490].to_vec();
    bad[17] = f32::NAN;
    assert_eq!(backbone.embed(&bad, &mut row).unwrap_err(), Error::NonFinite { what: "input", index: 17 });
    assert_eq!(backbone.embed(&inputs[..489], &mut row).unwrap_err().code(), "shape");
    assert_eq!(backbone.embed(&inputs[..490], &mut row[..11]).unwrap_err().code(), "shape");
    let wrong = EmbeddingSpec { dim: 64, kind: EmbeddingKind::F16 };
    assert_eq!(TractBackbone::from_onnx(&onnx, &[1, 49, 10], wrong).unwrap_err().code(), "shape");
    assert_eq!(TractBackbone::from_onnx(&onnx, &[1, 10, 49], half).unwrap_err().code(), "provider");
}

/// A real backbone, through a bundle: each stored value is the step nearest to ONNX Runtime's answer, give or take one
/// where that lies on the edge between two.
#[test]
fn runs_the_backbone_of_a_bundle() {
    let Some(root) = shared() else { return };
    let onnx = fs::read(root.join("models/openwakeword/embedding_model.onnx")).unwrap();
    let (shape, inputs) = npy(&root.join("models/sample_io/oww_embedding.in.npy"));
    let (_, expected) = npy(&root.join("models/sample_io/oww_embedding.out.npy"));
    let (low, high) = expected.iter().fold((0.0f32, 0.0f32), |(l, h), v| (l.min(*v), h.max(*v)));
    let scale = (high - low) / 255.0;
    let q = QuantParams { scale, zero_point: (-128.0 - low / scale).round_ties_even() as i8 };
    let parts = BundleParts {
        input: InputSpec::new("input_1", &[76, 32, 1]).unwrap(),
        embedding: EmbeddingSpec { dim: 96, kind: EmbeddingKind::Int8(q) },
        ..BundleParts::new(&onnx, Fingerprint([3; 16]))
    };
    let file = parts.to_bytes().unwrap();
    let bundle = Bundle::parse(&file).unwrap();
    let mut backbone = TractBackbone::load(&bundle).unwrap();
    assert_eq!((backbone.provider(), backbone.input_shape()), ("tract", &[76, 32, 1][..]));
    let mut row = [0; 96];
    let mut off_by_one = 0;
    for (input, expected) in inputs.chunks(inputs.len() / shape[0]).zip(expected.chunks(96)) {
        backbone.embed(input, &mut row).unwrap();
        for (got, expected) in row.iter().zip(expected) {
            let difference = (i16::from(got.cast_signed()) - i16::from(q.quantize(*expected))).abs();
            assert!(difference <= 1);
            off_by_one += difference;
        }
    }
    println!("{} rows, {off_by_one} of {} values one step off", shape[0], 96 * shape[0]);
    assert!(usize::from(off_by_one.unsigned_abs()) <= shape[0]);
}

#[test]
fn what_is_not_onnx_is_refused() {
    for bytes in [&b""[..], b"not a model", &[0xff; 300], &[8, 7, 18, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert_eq!(TractModel::load(bytes, 1).unwrap_err().code(), "provider");
    }
}
