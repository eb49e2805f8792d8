//! Times the default solver on synthetic embeddings; prints one JSON object a shape. Used by `benches/peers/tune.py`.
//!
//! `time_tune [REPEATS] [DIM CLASSES SHOTS] [given|chosen]`: the L2 strength given, chosen by leave-one-out, or one after the other.

use std::hint::black_box;
use std::time::Instant;

use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::softmax::{Options, Shots, solve};
use hone_runtime::tune::workspace_len;

const SHAPES: [[usize; 3]; 5] = [[1280, 10, 5], [1280, 10, 20], [64, 12, 20], [384, 2, 50], [96, 10, 5]];
/// About scikit-learn's C = 1 on features of mean square 1.
const GIVEN_L2: f32 = 0.001;

fn main() -> hone_runtime::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let repeats = numbers.first().copied().unwrap_or(100).max(1);
    let mut ways = vec![("given", Some(GIVEN_L2)), ("chosen", None)];
    if let Some(word) = words.iter().find(|word| word.parse::<usize>().is_err()) {
        ways.retain(|(name, _)| name == word);
    }
    match numbers.get(1..) {
        Some(&[dim, classes, shots]) => time([dim, classes, shots], &ways, repeats),
        _ => SHAPES.iter().try_for_each(|&shape| time(shape, &ways, repeats)),
    }
}

fn time([dim, classes, shots]: [usize; 3], ways: &[(&str, Option<f32>)], repeats: usize) -> hone_runtime::Result<()> {
    let (rows, labels) = draw(dim, classes, shots);
    let n = labels.len();
    let spec = EmbeddingSpec { dim, kind: EmbeddingKind::Int8(QuantParams { scale: 0.02, zero_point: -128 }) };
    let shots_in = Shots { rows: Rows::new(&rows, dim)?, spec, labels: &labels, weights: None, classes };
    let mut memory = vec![0.0; workspace_len(n, dim, classes)];
    let (mut w, mut b, mut answers) = (vec![0.0; classes * dim], vec![0.0; classes], vec![0; n]);
    print!("{{\"dim\": {dim}, \"classes\": {classes}, \"shots\": {shots}");
    for &(name, l2) in ways {
        let mut times = Vec::new();
        let mut steps = 0;
        for _ in 0..repeats {
            let start = Instant::now();
            let fit =
                solve(&shots_in, &Options { l2, ..Options::default() }, &mut memory, &mut w, &mut b, &mut answers)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            steps = black_box(fit).steps;
        }
        times.sort_by(f64::total_cmp);
        let (median, least) = (times.get(repeats / 2).copied(), times.first().copied());
        print!(
            ", \"{name}_l2_ms\": {:.4}, \"{name}_l2_least_ms\": {:.4}, \"{name}_l2_steps\": {steps}",
            median.unwrap_or_default(),
            least.unwrap_or_default()
        );
    }
    println!("}}");
    Ok(())
}

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
