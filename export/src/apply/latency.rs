//! How long a bundle takes for one row, on one thread.

use std::time::Instant;

use hone_runtime::Backbone as _;
use hone_runtime::backbone::provider::Provider;
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::softmax::{Options as SolverOptions, Shots, solve};
use hone_runtime::tune::workspace_len;
use serde::Serialize;

use super::Applied;
use crate::{Error, Result};

/// Runs before the clock counts.
const WARM_UP: usize = 10;

/// One line of `hone bench`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What ran it.
    pub provider: String,
    /// Its kernels: the native engine's tier, or the provider again.
    pub kernel: String,
    /// `int8`, `fp16` or `fp32`.
    pub precision: &'static str,
    /// Threads used.
    pub threads: usize,
    /// Reading nothing but the bytes in memory, in milliseconds.
    pub load_ms: f64,
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Largest resident set of the whole process so far; none where the system does not say.
    pub peak_rss_bytes: Option<u64>,
    /// Share of rows with the same best class as the original (for models without a head to compare: none).
    pub agreement: Option<f64>,
}

/// Times the backbone on a provider with its head (where the bundle has one), row by row; `agreement` is to be filled in by the caller.
///
/// # Errors
/// What the provider says; [`Error::Setting`] for no runs at all.
pub fn bundle(applied: &Applied<'_>, provider: &str, inputs: &[Vec<f32>], runs: usize) -> Result<Line> {
    let start = Instant::now();
    let mut backbone = load(applied, provider)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut row = vec![0; applied.bundle.embedding.row_bytes()];
    let head = applied.bundle.head;
    let [p50_us, p90_us, p99_us] = time(inputs, runs, |input| {
        backbone.embed(input, &mut row)?;
        if let Some(head) = head {
            std::hint::black_box(head.predict(&row)?);
        }
        Ok(())
    })?;
    let (provider, precision) = (backbone.provider().to_owned(), applied.bundle.precision.name());
    let kernel = backbone.kernel().to_owned();
    Ok(Line {
        provider,
        kernel,
        precision,
        threads: 1,
        load_ms,
        p50_us,
        p90_us,
        p99_us,
        peak_rss_bytes: peak_rss_bytes(),
        agreement: None,
    })
}

/// Classes and shots a class of [`tuning`].
pub const TUNED: (usize, usize) = (10, 5);

/// Time of the solver for a head of [`TUNED`] on embeddings of this kind, the L2 strength chosen, in milliseconds: the median of 9. Rows are
/// random about one centre a class; what the solver costs depends on their number and width.
///
/// # Errors
/// What the solver says.
pub fn tuning(embedding: EmbeddingSpec) -> Result<f64> {
    let (classes, shots) = TUNED;
    let labels: Vec<u16> = (0..classes * shots).map(|i| (i % classes) as u16).collect();
    let (centres, noise) = (random_inputs(embedding.dim, classes, 1), random_inputs(embedding.dim, labels.len(), 2));
    let unit = match embedding.kind {
        EmbeddingKind::Int8(quant) => 64.0 * quant.scale,
        EmbeddingKind::F16 => 1.0,
    };
    let mut rows = vec![0; labels.len() * embedding.row_bytes()];
    for ((row, &class), noise) in rows.chunks_exact_mut(embedding.row_bytes()).zip(&labels).zip(&noise) {
        let real = centres[usize::from(class)].iter().zip(noise).map(|(c, n)| (c + 0.5 * n) * unit).collect::<Vec<_>>();
        embedding.quantize_row(&real, row)?;
    }
    let examples = Shots {
        rows: Rows::new(&rows, embedding.row_bytes())?,
        spec: embedding,
        labels: &labels,
        weights: None,
        classes,
    };
    let mut memory = vec![0.0; workspace_len(labels.len(), embedding.dim, classes)];
    let (mut weights, mut bias) = (vec![0.0; classes * embedding.dim], vec![0.0; classes]);
    let mut answers = vec![0; labels.len()];
    let mut times = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        solve(&examples, &SolverOptions::default(), &mut memory, &mut weights, &mut bias, &mut answers)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// The bundle's backbone on the provider of that name.
pub(super) fn load<'b>(applied: &Applied<'b>, provider: &str) -> Result<Provider<'b>> {
    Provider::load(&applied.bundle, provider, &applied.settings).map_err(Error::place(applied.path.display()))
}

/// Seeded inputs of a bundle, uniform within −1..1, for timing where there is no data.
#[must_use]
pub fn random_inputs(elements: usize, rows: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut draws = Draws(seed.wrapping_mul(2).wrapping_add(1));
    let mut next = move || (draws.draw() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
    (0..rows).map(|_| (0..elements).map(|_| next()).collect()).collect()
}

/// Numbers that look random and are the same everywhere: Marsaglia's xorshift64* (2003), from a seed that is not 0.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `n` − 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.draw() >> 32) as usize * n) >> 32
    }
}

/// The largest resident set that this process ever had, where Linux says it.
#[must_use]
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Percentiles 50, 90 and 99 in microseconds.
pub(super) fn time(inputs: &[Vec<f32>], runs: usize, mut work: impl FnMut(&[f32]) -> Result<()>) -> Result<[f64; 3]> {
    if runs == 0 || inputs.is_empty() {
        return Err(Error::Setting { name: "--runs".into(), why: "at least 1 run is needed".into() });
    }
    let mut times = Vec::with_capacity(runs);
    for (run, input) in inputs.iter().cycle().take(WARM_UP + runs).enumerate() {
        let start = Instant::now();
        work(input)?;
        if run >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok([50, 90, 99].map(|p| times[nearest_rank(times.len(), p)]))
}

/// Place of the p-th percentile among `n` sorted values: nearest rank.
pub(crate) fn nearest_rank(n: usize, p: usize) -> usize {
    (n * p).div_ceil(100).clamp(1, n.max(1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!([50, 90, 99].map(|p| nearest_rank(200, p)), [99, 179, 197]);
        assert_eq!([50, 90, 99].map(|p| nearest_rank(1, p)), [0, 0, 0]);
    }

    #[test]
    fn random_inputs_are_seeded_and_within_one() {
        let a = random_inputs(100, 3, 7);
        assert_eq!(a, random_inputs(100, 3, 7));
        assert_ne!(a, random_inputs(100, 3, 8));
        assert!(a.iter().flatten().all(|v| v.abs() <= 1.0));
        let mean = a.iter().flatten().sum::<f32>() / 300.0;
        assert!(mean.abs() < 0.15, "{mean}");
    }
}
