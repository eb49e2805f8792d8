//! Time to a tuned head on cached int8 embeddings, one thread, portable code: with the L2 strength given, and chosen by leave-one-out.
//!
//! `benches/peers/tune.py` compares the same shapes with scikit-learn in one run.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may stop")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::softmax::{Options, Shots, solve};
use hone_runtime::tune::workspace_len;

const SHAPES: [[usize; 3]; 5] = [[1280, 10, 5], [1280, 10, 20], [64, 12, 20], [384, 2, 50], [96, 10, 5]];

/// C random class means; max(0, mean · 0.35 + 0.9 · normal), as int8 with zero point −128.
fn draw(dim: usize, classes: usize, shots: usize) -> (Vec<u8>, Vec<u16>) {
    let mut state = 1u64;
    let mut normal = || -> f64 {
        // The sum of 12 uniform numbers has variance 1.
        (0..12)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f64 / f64::from(1 << 24) - 0.5
            })
            .sum()
    };
    let means: Vec<f64> = (0..classes * dim).map(|_| normal()).collect();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for (class, mean) in means.chunks(dim).enumerate() {
        for _ in 0..shots {
            labels.push(class as u16);
            rows.extend(mean.iter().map(|m| {
                let value = (m * 0.35 + 0.9 * normal()).max(0.0);
                ((value / 4.5 * 255.0).round().min(255.0) - 128.0) as i8 as u8
            }));
        }
    }
    (rows, labels)
}

fn tune(c: &mut Criterion) {
    for (group, l2) in [("l2 given", Some(0.001)), ("l2 chosen", None)] {
        let mut group = c.benchmark_group(group);
        group.sample_size(30);
        for [dim, classes, per_class] in SHAPES {
            let (rows, labels) = draw(dim, classes, per_class);
            let spec = EmbeddingSpec { dim, kind: EmbeddingKind::Int8(QuantParams { scale: 0.02, zero_point: -128 }) };
            let rows = Rows::new(&rows, dim).unwrap();
            let shots = Shots { rows, spec, labels: &labels, weights: None, classes };
            let options = Options { l2, ..Options::default() };
            let mut memory = vec![0.0; workspace_len(labels.len(), dim, classes)];
            let (mut w, mut b, mut answers) = (vec![0.0; classes * dim], vec![0.0; classes], vec![0; labels.len()]);
            group.bench_function(BenchmarkId::from_parameter(format!("D{dim} C{classes} k{per_class}")), |bench| {
                bench.iter(|| {
                    black_box(solve(black_box(&shots), &options, &mut memory, &mut w, &mut b, &mut answers).unwrap())
                });
            });
        }
    }
}

criterion_group!(benches, tune);
criterion_main!(benches);
