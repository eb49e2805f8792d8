//! `hone bench`: latency, load time, memory, agreement.

use std::process::ExitCode;

use hone_export::apply::latency::{self, Line};
use hone_export::apply::{Applied, BundleFile};
use hone_export::report::Table;
use hone_runtime::{Backbone as _, kernels};
use serde::Serialize;

use crate::args::Bench;
use crate::ui::{Outcome, Ui, bytes, share};

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
    let applied = Applied::open_on(&file, &[], args.library.settings()?)?;
    let providers =
        if args.provider.is_empty() { vec![applied.backbone.provider().to_owned()] } else { args.provider.clone() };
    if args.provider.is_empty() {
        ui.notices(&applied);
    }
    let inputs = match &args.data {
        None => latency::random_inputs(applied.bundle.input.elements(), 16, 1),
        Some(path) => {
            let mut options = args.options.clone();
            options.limit = Some(options.limit.unwrap_or(ROWS));
            applied.inputs(&mut options.open(path)?)?
        }
    };
    let times = |provider: &String| latency::bundle(&applied, provider, &inputs, args.runs);
    let rows = providers.iter().map(times).collect::<Result<Vec<Line>, _>>()?;
    #[cfg(feature = "export")]
    let rows = super::original::time(args, &applied, &inputs, rows)?;
    let columns = [
        "provider",
        "kernel",
        "precision",
        "threads",
        "load ms",
        "p50 µs",
        "p90 µs",
        "p99 µs",
        "peak memory, bytes",
        "agreement",
    ];
    let mut table = Table::new("Latency of one row", &columns);
    for line in &rows {
        table.row([
            line.provider.clone(),
            line.kernel.clone(),
            line.precision.to_owned(),
            line.threads.to_string(),
            format!("{:.1}", line.load_ms),
            format!("{:.1}", line.p50_us),
            format!("{:.1}", line.p90_us),
            format!("{:.1}", line.p99_us),
            line.peak_rss_bytes.map_or_else(|| "–".into(), bytes),
            line.agreement.map_or_else(|| "–".into(), share),
        ]);
    }
    table.note = "Peak memory is that of the whole process so far.".into();
    if rows.iter().any(|line| line.provider == "tract") {
        table.note += " tract computes int8 models in float.";
    }
    let tune_ms = latency::tuning(applied.bundle.embedding)?;
    let (classes, shots) = latency::TUNED;
    table.note += &format!(
        "\nTuning a head of {classes} classes from {shots} shots of each: {tune_ms:.2} ms, beside embedding the shots."
    );
    ui.table(&table);
    ui.document(&Document { kernel: kernels::best()?.name, rows, tune_ms });
    Ok(ExitCode::SUCCESS)
}
