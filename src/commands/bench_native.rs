//! `hone bench` of the build for devices: the native engine's latency, load time, memory and tuning time.

use std::process::ExitCode;

use hone_export::apply::latency::{self, Line};
use hone_export::apply::{Applied, BundleFile};
use hone_export::report::Table;
use hone_runtime::{Backbone as _, kernels};
use serde::Serialize;

use crate::args::Bench;
use crate::ui::{Outcome, Ui, bytes};

#[derive(Serialize)]
struct Document {
    kernel: &'static str,
    rows: Vec<Line>,
    /// Milliseconds to solve for a head of ten classes from five shots of each.
    tune_ms: f64,
}

/// Rows of data that are timed in turn.
const ROWS: usize = 256;

pub fn run(args: &Bench, ui: &Ui) -> Outcome {
    let file = BundleFile::read(&args.bundle)?;
    let applied = Applied::open_on(&file, &args.provider, args.library.settings()?)?;
    let provider = applied.backbone.provider().to_owned();
    let inputs = match &args.data {
        None => latency::random_inputs(applied.bundle.input.elements(), 16, 1),
        Some(path) => {
            let mut options = args.options.clone();
            options.limit = Some(options.limit.unwrap_or(ROWS));
            applied.inputs(&mut options.open(path)?)?
        }
    };
    let line = latency::bundle(&applied, &provider, &inputs, args.runs.unwrap_or(200))?;
    let columns = ["provider", "kernel", "precision", "load ms", "p50 µs", "p90 µs", "p99 µs", "peak memory, bytes"];
    let mut table = Table::new("Latency of one row", &columns);
    table.row([
        line.provider.clone(),
        line.kernel.clone(),
        line.precision.to_owned(),
        format!("{:.1}", line.load_ms),
        format!("{:.1}", line.p50_us),
        format!("{:.1}", line.p90_us),
        format!("{:.1}", line.p99_us),
        line.peak_rss_bytes.map_or_else(|| "–".into(), bytes),
    ]);
    let tune_ms = latency::tuning(applied.bundle.embedding)?;
    let (classes, shots) = latency::TUNED;
    table.note = format!(
        "Tuning a head of {classes} classes from {shots} shots of each: {tune_ms:.2} ms, beside embedding the shots."
    );
    ui.table(&table);
    ui.document(&Document { kernel: kernels::best()?.name, rows: vec![line], tune_ms });
    Ok(ExitCode::SUCCESS)
}
