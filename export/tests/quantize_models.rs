//! What quantization reaches on real models, against the best peers' published figures. Needs the shared models and data.

use std::path::{Path, PathBuf};

use hone_export::data::Options;
use hone_export::graph::cost::Limit;
use hone_export::pipeline::{self, Outcome, Precision, Preset, Request};
use hone_export::quantize::{self, Rounding};

/// The folder with models and data; absent, the test says so and passes, except on CI.
fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("HONE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is absent", folder.display());
    println!("skipped: {} is absent", folder.display());
    None
}

struct Case {
    model: &'static str,
    data: &'static str,
    labels: Option<&'static str>,
    preprocess: &'static str,
}

const KEYWORDS: Case = Case {
    model: "mlperf_tiny/dscnn_kws12.onnx",
    data: "kws01/x_int8.npy",
    labels: Some("y.npy"),
    preprocess: "tensor:scale=0.5847029,offset=-48.53034",
};
const PICTURES: Case = Case {
    model: "mlperf_tiny/resnet8_cifar10.onnx",
    data: "cifar10/x.npy",
    labels: Some("y.npy"),
    preprocess: "image:size=32x32,resize=none,norm=raw",
};

fn export(shared: &Path, case: &Case, precision: Precision, rounding: Rounding) -> Outcome {
    let out = tempfile::tempdir().expect("a temporary folder");
    pipeline::run(
        &Request {
            model: shared.join("models").join(case.model),
            calibration: shared.join("data").join(case.data),
            data: Options { labels: case.labels.map(PathBuf::from), ..Options::default() },
            preprocess: case.preprocess.parse().expect("a preprocessing record"),
            vocabulary: None,
            out: out.path().join("out"),
            name: None,
            cut: None,
            preset: Preset::Generic,
            precision,
            fixed_batch: false,
            quantize: quantize::Options { rounding, ..quantize::Options::default() },
            calibration_rows: 100,
            least_agreement: 0.5,
            model_classes: None,
            limit: Limit::default(),
            force: false,
        },
        &mut |_, _, _| {},
    )
    .expect("the export succeeds")
}

/// SQNR of the scores in dB and top-1 agreement, both on rows that calibration did not see.
fn assert_reaches(outcome: &Outcome, sqnr_db: f64, top1: f64) {
    let agreement = outcome.agreement;
    assert!(agreement.held_out, "{agreement:?}");
    assert!(agreement.sqnr_db >= sqnr_db, "{agreement:?}");
    assert!(agreement.top1 >= Some(top1), "{agreement:?}");
}

#[test]
fn keywords_reach_the_best_peer() {
    let Some(shared) = shared() else { return };
    // NNCF 34.2 dB, .992; here on 256 of the other rows.
    assert_reaches(&export(&shared, &KEYWORDS, Precision::Int8, Rounding::Compensated), 34.2, 0.984);
}

#[test]
fn pictures_reach_the_best_peer() {
    let Some(shared) = shared() else { return };
    // Quark AdaQuant 33.0 dB, .985; here on 256 of the other rows.
    assert_reaches(&export(&shared, &PICTURES, Precision::Int8, Rounding::Compensated), 33.0, 0.98);
}

#[test]
fn error_feedback_beats_rounding_to_nearest() {
    let Some(shared) = shared() else { return };
    let compensated = export(&shared, &PICTURES, Precision::Int8, Rounding::Compensated).agreement;
    let nearest = export(&shared, &PICTURES, Precision::Int8, Rounding::Nearest).agreement;
    assert!(compensated.sqnr_db > nearest.sqnr_db, "{compensated:?} {nearest:?}");
}

#[test]
fn half_precision_is_nearly_exact() {
    let Some(shared) = shared() else { return };
    let outcome = export(&shared, &KEYWORDS, Precision::Fp16, Rounding::Nearest);
    assert!(outcome.agreement.cosine >= 0.9999, "{:?}", outcome.agreement);
    assert!(outcome.bytes_after < outcome.bytes_before * 6 / 10, "{} of {}", outcome.bytes_after, outcome.bytes_before);
}
