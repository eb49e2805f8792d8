//! The native provider on a plan in half precision: what it embeds is f16, and what is no embedding is refused.

use half::f16;
use hone_runtime::backbone::native::NativeBackbone;
use hone_runtime::kernels;
use hone_runtime::plan::writer::{padded_floats, panels};
use hone_runtime::plan::{Code, DType, OpParts, Plan, PlanParts, Tensor};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec};
use hone_runtime::{Backbone, QuantParams};

/// y = [x₀ + x₁, x₀ − x₁ + 1/2].
fn plan() -> Vec<u8> {
    let tensor = |channels, offset| {
        let quant = QuantParams { scale: 1.0, zero_point: 0 };
        Tensor { dtype: DType::F16, shape: [1, 1, channels], quant, offset: Some(offset) }
    };
    let mut op = OpParts::new(Code::Dense16, "sums", &[0], 1).bounded(f32::NEG_INFINITY, f32::INFINITY);
    op.weights = panels(&[1.0, 1.0, 1.0, -1.0].map(f16::from_f32), 2, 2);
    op.bias = padded_floats(&[0.0, 0.5]);
    let parts = PlanParts {
        arena_bytes: 32,
        tensors: vec![tensor(2, 0), tensor(2, 16)],
        input: 0,
        output: 1,
        channels_first: false,
        ops: vec![op],
        names: true,
    };
    parts.to_bytes().expect("a plan")
}

#[test]
fn embeds_in_f16() {
    let bytes = plan();
    let spec = EmbeddingSpec { dim: 2, kind: EmbeddingKind::F16 };
    for tier in kernels::available() {
        let tier = kernels::named(tier).unwrap();
        let mut native = NativeBackbone::from_plan(Plan::parse(&bytes).unwrap(), tier, &[2], spec).unwrap();
        let mut row = [0; 4];
        native.embed(&[3.0, 1.25], &mut row).unwrap();
        let mut real = [0.0; 2];
        spec.dequantize_row(&row, &mut real).unwrap();
        assert_eq!(real, [4.25, 2.25], "{}", tier.name);
        assert_eq!(native.embed(&[65_504.0, 65_504.0], &mut row).unwrap_err().code(), "non-finite", "{}", tier.name);
        assert_eq!(native.embed(&[f32::NAN, 0.0], &mut row).unwrap_err().code(), "non-finite");
    }
}

#[test]
fn another_embedding_is_refused() {
    let bytes = plan();
    let int8 = EmbeddingKind::Int8(QuantParams { scale: 1.0, zero_point: 0 });
    for spec in [EmbeddingSpec { dim: 2, kind: int8 }, EmbeddingSpec { dim: 3, kind: EmbeddingKind::F16 }] {
        let plan = Plan::parse(&bytes).unwrap();
        let error = NativeBackbone::from_plan(plan, &kernels::generic::TIER, &[2], spec).unwrap_err();
        assert_eq!(error.code(), "malformed");
    }
}
