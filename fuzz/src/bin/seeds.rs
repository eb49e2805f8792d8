//! Writes small valid files for the fuzzer to begin with: `corpus/plan` and `corpus/bundle`, in the current folder.

use std::path::Path;

use hone_runtime::bundle::{BundleParts, InputSpec, Precision, Preprocess, Statistics};
use hone_runtime::head::{HeadParts, Kind, Weights};
use hone_runtime::kernels::suite::{Group, case, model};
use hone_runtime::quant::EmbeddingKind;
use hone_runtime::{EmbeddingSpec, Fingerprint, QuantParams};

const SPEC: EmbeddingSpec =
    EmbeddingSpec { dim: 3, kind: EmbeddingKind::Int8(QuantParams { scale: 0.5, zero_point: -1 }) };
const BACKBONE: Fingerprint = Fingerprint(*b"0123456789abcdef");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (plans, bundles) = (Path::new("corpus/plan"), Path::new("corpus/bundle"));
    std::fs::create_dir_all(plans)?;
    std::fs::create_dir_all(bundles)?;
    for seed in 0..60 {
        let plan = model(seed).to_bytes()?;
        std::fs::write(bundles.join(format!("model{seed}")), bundle(&plan)?)?;
        std::fs::write(plans.join(format!("model{seed}")), plan)?;
    }
    for group in [Group::Conv, Group::Depthwise, Group::Add, Group::Mul, Group::Pools, Group::Tables, Group::Movement] {
        for index in group.fixed_cases()..group.fixed_cases() + 14 {
            let plan = case(group, index).parts.to_bytes()?;
            std::fs::write(plans.join(format!("{group:?}{index}")), plan)?;
        }
    }
    Ok(())
}

/// A bundle with every section, around a plan.
fn bundle(plan: &[u8]) -> hone_runtime::Result<Vec<u8>> {
    let head = HeadParts {
        kind: Kind::Softmax,
        unit: false,
        fingerprint: BACKBONE,
        embedding: SPEC,
        labels: &["no", "yes"],
        bias: &[0.0, 1.0],
        weights: Weights::F32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    };
    let head = head.to_bytes()?;
    let parts = BundleParts {
        name: "kws",
        made_by: "seeds",
        precision: Precision::Int8,
        plan: Some(plan),
        input: InputSpec::new("input", &[1, 49, 10])?,
        embedding: SPEC,
        preprocess: Preprocess::parse("tensor:perm=1:0,scale=0.5:2,offset=1")?,
        statistics: Some(Statistics { rows: 9, mean_squared_norm: 2.5, mean: &[1, 2, 3] }),
        head: Some(&head),
        canaries: Some((&[1, 0], &[1, 2, 3, 4, 5, 6])),
        facts: Some("{}"),
        ..BundleParts::new(b"stands for an ONNX file", BACKBONE)
    };
    parts.to_bytes()
}
