//! Models that others trained, from the shared models and data directory: each is understood, cut where its README says, and
//! quantized without losing its answers.
#![cfg(feature = "export")]

#[path = "common/program.rs"]
mod program;
#[path = "common/shared.rs"]
mod shared;

use hone_export::onnx;
use hone_runtime::Bundle;
use program::hone_json;
use shared::shared;

/// One export: the model, calibration data and further arguments below the shared directory's `models` and `data`.
struct Case {
    model: &'static str,
    calib: &'static str,
    labels: Option<&'static str>,
    prep: &'static str,
    cut: Option<&'static str>,
    rows: usize,
    /// Of the embedding, as the models' README says.
    width: u64,
    classes: Option<usize>,
}

const MFCC: &str = "tensor:scale=0.5847029,offset=-48.53034";
const IMU: &str = "tensor:perm=1:0,axis=1,scale=1/8:1/8:1/8:1/4000:1/4000:1/4000,offset=0.5:0.5:0.5:0.5:0.5:0.5";

const DSCNN: Case = Case {
    model: "mlperf_tiny/dscnn_kws12",
    calib: "data/kws01/x_int8.npy",
    labels: Some("y.npy"),
    prep: MFCC,
    cut: None,
    rows: 48,
    width: 64,
    classes: Some(12),
};
const RESNET: Case = Case {
    model: "mlperf_tiny/resnet8_cifar10",
    calib: "data/cifar10",
    labels: None,
    prep: "tensor:perm=2:0:1",
    cut: None,
    rows: 32,
    width: 64,
    classes: Some(10),
};
const VWW: Case = Case {
    model: "mlperf_tiny/mobilenetv1_025_vww",
    calib: "data/vww_coco",
    labels: None,
    prep: "tensor:perm=2:0:1,scale=1/255",
    cut: None,
    rows: 32,
    width: 256,
    classes: Some(2),
};
const AUTOENCODER: Case = Case {
    model: "mlperf_tiny/autoencoder_toycar",
    calib: "models/sample_io/autoencoder_toycar.in.npy",
    labels: None,
    prep: "none",
    cut: None,
    rows: 4,
    width: 128,
    classes: None,
};
const WAND: Case = Case {
    model: "imu/wand_conv1d",
    calib: "data/wand_imu/x_train.npy",
    labels: Some("y_train.npy"),
    prep: IMU,
    cut: None,
    rows: 50,
    width: 208,
    classes: Some(5),
};
const MNIST: Case = Case {
    model: "mnist/mnist_cntk",
    calib: "data/mnist/t10k-images-idx3-ubyte.gz",
    labels: None,
    prep: "none",
    cut: None,
    rows: 32,
    width: 256,
    classes: Some(10),
};
const WAKE_WORD: Case = Case {
    model: "openwakeword/embedding_model",
    calib: "data/fsdd_digits/oww_mel.npy",
    labels: Some("digit.npy"),
    prep: "none",
    cut: Some("conv2d_19"),
    rows: 16,
    width: 96,
    classes: None,
};

/// Inspects and exports the model (`suffix` tells folded from `_bn` files) and checks what came out.
fn check(case: &Case, suffix: &str) {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = shared.join(format!("models/{}{suffix}.onnx", case.model)).to_string_lossy().into_owned();
    let inspected = hone_json(folder.path(), &["inspect", &model]);
    assert_eq!(inspected["unsupported"].as_array().map(Vec::len), Some(0), "{inspected}");
    let cuts = inspected["cuts"].as_array().unwrap();
    let cut = cuts.iter().find(|c| match case.cut {
        Some(name) => c["tensor"] == name,
        None => c["automatic"] == true,
    });
    assert_eq!(cut.and_then(|c| c["width"].as_u64()), Some(case.width), "{model}: {cut:?}");

    let calib = shared.join(case.calib).to_string_lossy().into_owned();
    let rows = case.rows.to_string();
    let mut line = vec!["export", &model, "--calib", &calib, "--prep", case.prep, "--calib-rows", &rows];
    line.extend(["--out", "out", "--name", "it"]);
    for (option, value) in [("--labels", case.labels), ("--cut", case.cut)] {
        line.extend(value.into_iter().flat_map(|value| [option, value]));
    }
    let exported = hone_json(folder.path(), &line);
    assert_eq!(exported["embedding_dim"].as_u64(), Some(case.width), "{exported}");
    let (agreement, cosine) = (exported["agreement"].as_f64(), exported["cosine"].as_f64().unwrap());
    println!("{}{suffix}: agreement {agreement:?}, cosine {cosine:.5}, {} dB", case.model, exported["sqnr_db"]);
    // Agreement is a figure of classifiers alone.
    assert_eq!(agreement.is_some(), case.classes.is_some(), "{exported}");
    assert!(agreement.is_none_or(|a| a >= 0.95) && cosine >= 0.99, "{exported}");
    assert!(exported["bytes_after"].as_u64().unwrap() < exported["bytes_before"].as_u64().unwrap(), "{exported}");

    // The files load again, and the bundle has what the model had.
    let out = folder.path().join("out");
    for file in ["backbone.int8.onnx", "model.int8.onnx"] {
        let graph = onnx::read(&out.join(file)).unwrap();
        assert!(!graph.nodes.is_empty(), "{file}");
    }
    let bytes = std::fs::read(out.join("it.hone")).unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(bundle.embedding.dim as u64, case.width);
    if let Some(classes) = case.classes {
        assert_eq!(bundle.head.unwrap().classes(), classes);
        assert!(out.join("head.onnx").is_file());
        // One plain model again: joined without error, whichever provider's integers the bundle is run with.
        let whole = hone_json(folder.path(), &["head", "export-onnx", "out/it.hone", "--out", "whole.onnx"]);
        let (joined, provider) = (whole["largest_difference"].as_f64(), whole["provider_difference"].as_f64());
        println!("{}{suffix}: joined within {joined:?}, from {} {provider:?}", case.model, whole["provider"]);
        assert!(joined.unwrap() < 1e-5 && provider.unwrap() < 0.1, "{whole}");
    }
    let bench = hone_json(folder.path(), &["bench", "out/it.hone", "--runs", "3"]);
    assert!(bench["rows"][0]["p50_us"].as_f64().unwrap() > 0.0, "{bench}");
}

#[test]
fn keyword_spotting() {
    check(&DSCNN, "");
    check(&DSCNN, "_bn");
}

#[test]
fn image_classification() {
    check(&RESNET, "");
    check(&RESNET, "_bn");
}

#[test]
fn visual_wake_words() {
    check(&VWW, "");
    check(&VWW, "_bn");
}

#[test]
fn anomaly_detection() {
    check(&AUTOENCODER, "");
    check(&AUTOENCODER, "_bn");
}

#[test]
fn gestures_by_one_dimensional_convolutions_with_a_fixed_batch() {
    check(&WAND, "");
}

#[test]
fn handwriting_in_opset_7() {
    check(&MNIST, "");
}

#[test]
fn a_speech_embedding_without_a_head() {
    check(&WAKE_WORD, "");
}
