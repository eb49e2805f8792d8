//! Tuning and using a head on a microcontroller: no operating system, no allocator, every buffer of constant size.
//!
//! On a desktop it runs and prints what it learned: `cargo run -p hone-runtime --example no_std_head`. For a Cortex-M4:
//! `cargo build -p hone-runtime --example no_std_head --no-default-features --target thumbv7em-none-eabihf`.
#![cfg_attr(target_os = "none", no_std, no_main)]

use hone_runtime::head::{HeadParts, HeadView, Kind, Weights};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams, symmetric_row};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::{Input, Labelled, LeftOut, Memory, Options, Output, tune};
use hone_runtime::{Fingerprint, Prediction, Result};

/// Sizes that this product is made for.
const DIM: usize = 8;
const MAX_SHOTS: usize = 8;
const LABELS: [&str; 2] = ["knock", "clap"];
const CLASSES: usize = LABELS.len();
const VALUES: usize = Memory::values_len(MAX_SHOTS, 0, DIM, CLASSES);
const INDICES: usize = Memory::indices_len(MAX_SHOTS, 0);

/// What a bundle says about its backbone; here the embeddings below stand for what the backbone would give.
const BACKBONE: Fingerprint = Fingerprint(*b"example backbone");
const EMBEDDING: EmbeddingSpec =
    EmbeddingSpec { dim: DIM, kind: EmbeddingKind::Int8(QuantParams { scale: 0.05, zero_point: 0 }) };
const SHOTS: [(u16, [u8; DIM]); 6] = [
    (0, [90, 80, 10, 5, 0, 0, 3, 9]),
    (0, [70, 95, 0, 9, 4, 0, 0, 2]),
    (0, [85, 60, 15, 0, 0, 6, 1, 0]),
    (1, [10, 5, 88, 70, 0, 4, 0, 0]),
    (1, [0, 12, 75, 92, 3, 0, 5, 1]),
    (1, [6, 0, 60, 81, 0, 0, 0, 8]),
];
const HEARD: [u8; DIM] = [8, 3, 90, 77, 1, 0, 2, 4];

/// Learns from the shots, writes the head record as a store would keep it, reads it back and asks it.
fn learn(record: &mut [u8]) -> Result<(Prediction, bool, u32)> {
    let mut rows = heapless::Vec::<u8, { MAX_SHOTS * DIM }>::new();
    let mut labels = heapless::Vec::<u16, MAX_SHOTS>::new();
    for (class, row) in &SHOTS {
        // A shot beyond the capacity is not taken; a product would tell its owner.
        if rows.extend_from_slice(row).is_ok() {
            labels.push(*class).ok();
        }
    }
    let shots = Labelled { rows: Rows::new(&rows, DIM)?, classes: &labels };
    let input = Input { spec: EMBEDDING, classes: CLASSES, shots, canaries: None, old: None, prior: None };
    let (mut values, mut indices) = ([0.0; VALUES], [0; INDICES]);
    let (mut weights, mut bias) = ([0.0; CLASSES * DIM], [0.0; CLASSES]);
    // What a store keeps beside the head, so that the next tuning can tell better from worse.
    let mut states = [LeftOut::New; SHOTS.len()];
    let memory = Memory { values: &mut values, indices: &mut indices };
    let out = Output { weights: &mut weights, bias: &mut bias, shots: &mut states, canaries: &mut [] };
    let outcome = tune(&input, &Options::default(), memory, out)?;

    let (mut scales, mut steps) = ([0.0; CLASSES], [0; CLASSES * DIM]);
    let classes = weights.chunks_exact(DIM).zip(steps.chunks_exact_mut(DIM)).zip(&mut scales);
    for ((weights, steps), scale) in classes {
        *scale = symmetric_row(weights, steps)?;
    }
    let parts = HeadParts {
        kind: Kind::Softmax,
        unit: true, // the solver compares directions
        fingerprint: BACKBONE,
        embedding: EMBEDDING,
        labels: &LABELS,
        bias: &bias,
        weights: Weights::Int8 { scales: &scales, rows: &steps },
    };
    let len = parts.encode(record)?;
    let head = HeadView::parse(record.get(..len).unwrap_or_default())?;
    head.check_backbone(BACKBONE)?;
    Ok((head.predict(&HEARD)?, outcome.decision.accepted, head.crc()))
}

#[cfg(not(target_os = "none"))]
fn main() -> Result<()> {
    let (answer, accepted, crc) = learn(&mut [0; 256])?;
    let label = LABELS.get(answer.class).copied().unwrap_or_default();
    println!("{label} with probability {:.3}; head {crc:08x}", answer.score);
    assert!(accepted && label == "clap");
    Ok(())
}

/// A board's start-up code would call this; the attribute keeps it in the program without one.
#[cfg(target_os = "none")]
#[used]
static ENTRY: fn() -> u32 = || {
    let mut record = [0; 256];
    learn(&mut record).map_or(0, |(.., crc)| crc)
};

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
