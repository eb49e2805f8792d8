//! The same shots give the same head, byte for byte, on every target: the checksums below are of records made on x86-64,
//! and `cargo xtask test` runs this file on aarch64 as well.

use hone_runtime::Fingerprint;
use hone_runtime::head::{HeadParts, HeadView, Kind, Weights};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams, symmetric_row};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::{Input, Labelled, LeftOut, Memory, Options, Outcome, Output, tune};

/// One tuning: sizes, and the seed of its data.
struct Case {
    dim: usize,
    classes: usize,
    shots: usize,
    canaries: usize,
    seed: u32,
}

/// Embeddings of overlapping classes from a linear congruential sequence, rows then classes.
fn draw(case: &Case, n: usize, seed: u32) -> (Vec<u8>, Vec<u16>) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let labels: Vec<u16> = (0..n).map(|i| (i % case.classes) as u16).collect();
    let mut rows = Vec::with_capacity(n * case.dim);
    for &label in &labels {
        for d in 0..case.dim {
            let own = if (d * 7 + 3) % case.classes == usize::from(label) { 30 } else { 0 };
            rows.push((next() / 2 + own) as u8 ^ 0x80);
        }
    }
    (rows, labels)
}

/// Tunes a case; gives the outcome, the checksum of the head in f32 and of the head in int8.
fn run(case: &Case) -> (Outcome, u32, u32) {
    let Case { dim, classes, shots: n, canaries: m, seed } = *case;
    let spec = EmbeddingSpec { dim, kind: EmbeddingKind::Int8(QuantParams { scale: 0.02, zero_point: -128 }) };
    let (shot_rows, shot_classes) = draw(case, n, seed);
    let (canary_rows, canary_classes) = draw(case, m, seed ^ 0xa5a5_a5a5);
    let labelled = |rows, classes| Labelled { rows: Rows::new(rows, dim).unwrap(), classes };
    let input = Input {
        spec,
        classes,
        shots: labelled(&shot_rows[..], &shot_classes[..]),
        canaries: (m > 0).then(|| labelled(&canary_rows[..], &canary_classes[..])),
        old: None,
        prior: None,
    };
    let mut values = vec![f32::NAN; Memory::values_len(n, m, dim, classes)];
    let mut indices = vec![0; Memory::indices_len(n, m)];
    let (mut w, mut b) = (vec![0.0; classes * dim], vec![0.0; classes]);
    let (mut shot_states, mut canary_states) = (vec![LeftOut::New; n], vec![LeftOut::New; m]);
    let memory = Memory { values: &mut values, indices: &mut indices };
    let out = Output { weights: &mut w, bias: &mut b, shots: &mut shot_states, canaries: &mut canary_states };
    let outcome = tune(&input, &Options::default(), memory, out).unwrap();

    let (mut scales, mut steps) = (vec![0.0; classes], vec![0; classes * dim]);
    for ((row, steps), scale) in w.chunks(dim).zip(steps.chunks_mut(dim)).zip(&mut scales) {
        *scale = symmetric_row(row, steps).unwrap();
    }
    let labels: Vec<String> = (0..classes).map(|c| c.to_string()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let crc = |weights| {
        let parts = HeadParts {
            kind: Kind::Softmax,
            unit: true,
            fingerprint: Fingerprint([1; 16]),
            embedding: spec,
            labels: &labels,
            bias: &b,
            weights,
        };
        HeadView::parse(&parts.to_bytes().unwrap()).unwrap().crc()
    };
    (outcome, crc(Weights::F32(&w)), crc(Weights::Int8 { scales: &scales, rows: &steps }))
}

#[test]
fn every_target_learns_the_same_head() {
    // Fewer shots than dimensions, more shots than dimensions, odd sizes, canaries, two classes, one shot a class.
    let cases = [
        (Case { dim: 96, classes: 10, shots: 50, canaries: 0, seed: 1 }, GOLDEN[0]),
        (Case { dim: 64, classes: 12, shots: 240, canaries: 0, seed: 2 }, GOLDEN[1]),
        (Case { dim: 33, classes: 3, shots: 31, canaries: 17, seed: 3 }, GOLDEN[2]),
        (Case { dim: 384, classes: 2, shots: 20, canaries: 40, seed: 4 }, GOLDEN[3]),
        (Case { dim: 1280, classes: 5, shots: 5, canaries: 0, seed: 5 }, GOLDEN[4]),
        (Case { dim: 17, classes: 4, shots: 203, canaries: 20, seed: 6 }, GOLDEN[5]),
    ];
    let found: Vec<(u32, u32)> = cases
        .iter()
        .map(|(case, _)| {
            let (outcome, real, int8) = run(case);
            println!("{} x {}: l2 {}, {real:#010x}, {int8:#010x}", case.shots, case.dim, outcome.fit.l2);
            (real, int8)
        })
        .collect();
    let wanted: Vec<(u32, u32)> = cases.iter().map(|&(_, golden)| golden).collect();
    assert_eq!(found, wanted, "found {found:#010x?}");
}

/// Checksums (f32 weights, int8 weights) of the heads above. A change of the solver's arithmetic changes them: put in what
/// x86-64 finds, and let the other targets confirm it.
const GOLDEN: [(u32, u32); 6] = [
    (0xee06_26e0, 0xddab_e468),
    (0x5916_8800, 0xe7d4_bcbe),
    (0x0df6_2347, 0x09d0_0d9a),
    (0xfc3f_1dd2, 0xd0cc_d85d),
    (0x93bc_156b, 0x6ebe_2303),
    (0xe5ae_f049, 0x134a_e9b9),
];
