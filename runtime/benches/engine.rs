//! Time of the native engine, batch 1, one thread, with every tier that the processor has: whole models, and matrix products.
//!
//! Models are `engine/plans.rs`'s, which have the layers of real ones and random weights; `HONE_PLANS=a.plan:b.plan` adds plans of one's own
//! (`cargo run --release -p hone-export --example lower -- model.int8.onnx a.plan`). `HONE_KERNEL` leaves one tier.
//! `cargo xtask peers engine` compares with LiteRT and ONNX Runtime in one run; `examples/time_plan.rs` gives every layer's share of the peak.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "criterion's macros; a bench may stop")]

#[path = "engine/plans.rs"]
mod plans;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hone_runtime::engine::Prepared;
use hone_runtime::kernels::{self, Tier};
use hone_runtime::plan::Plan;

/// The built-in model first, then MLPerf Tiny's and a large one.
const MODELS: [&str; 6] = ["glyphs", "kws", "ic", "vww", "ad", "mobilenet_v2"];
/// M, K, N.
const PRODUCTS: [&str; 5] = ["256,256,256", "784,576,64", "512,1024,1024", "1,1280,10", "32,1280,10"];

fn tiers() -> Vec<&'static Tier> {
    match std::env::var_os(kernels::select::VARIABLE) {
        Some(_) => vec![kernels::best().unwrap()],
        None => kernels::available().into_iter().map(|name| kernels::named(name).unwrap()).collect(),
    }
}

/// One line a plan and tier, in multiply-accumulates a second.
fn time(c: &mut Criterion, group: &str, plans: &[(String, Vec<u8>)]) {
    let mut group = c.benchmark_group(group);
    group.sample_size(20);
    for (name, bytes) in plans {
        let plan = Plan::parse(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        group.throughput(Throughput::Elements(plan.ops().map(|op| op.macs()).sum()));
        for tier in tiers() {
            let mut prepared = Prepared::new(plan, tier).unwrap();
            group.bench_function(BenchmarkId::new(name, tier.name), |bench| bench.iter(|| prepared.run()));
        }
    }
}

fn synthetic(names: &[&str], prefix: &str) -> Vec<(String, Vec<u8>)> {
    names.iter().map(|name| ((*name).to_owned(), plans::model(&format!("{prefix}{name}")).unwrap())).collect()
}

fn models(c: &mut Criterion) {
    let mut plans = synthetic(&MODELS, "");
    for path in std::env::var_os("HONE_PLANS").iter().flat_map(std::env::split_paths) {
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        plans.push((path.display().to_string(), bytes));
    }
    time(c, "models", &plans);
}

fn products(c: &mut Criterion) {
    time(c, "products", &synthetic(&PRODUCTS, "product:"));
}

criterion_group!(benches, models, products);
criterion_main!(benches);
