//! `hone bench --preflight`: whether providers take the whole backbone.

use std::path::Path;
use std::process::ExitCode;

use hone_export::Error;
use hone_export::apply::Applied;
use hone_export::bench::preflight::{Preflight, Verdict, check};
use hone_export::report::Table;
use serde::Serialize;

use super::worker::Launcher;
use crate::ui::{Outcome, Ui, bytes};

#[derive(Serialize)]
struct Document {
    passed: bool,
    preflight: Vec<Preflight>,
}

pub fn run(applied: &Applied<'_>, providers: &[String], launcher: &Launcher<'_>, folder: &Path, ui: &Ui) -> Outcome {
    let mut preflight = Vec::new();
    for (number, provider) in providers.iter().enumerate() {
        let cache = folder.join(format!("cache-{number}"));
        std::fs::create_dir_all(&cache).map_err(Error::io(&cache))?;
        let start = || launcher.bundle_with_cache(provider, Some(&cache));
        let found = ui.track(provider, |progress| {
            progress(0, 1);
            check(provider, long_name(provider), &applied.bundle, &start, &cache)
        });
        preflight.push(found);
    }
    ui.table(&table(&preflight));
    for found in &preflight {
        if !found.fallback.is_empty() {
            ui.table(&fallback(found));
        }
        if let Some(why) = &found.why {
            let what = if found.verdict == Verdict::Failed { " does not load" } else { "" };
            ui.say(format!("{}{what}: {why}", found.provider));
        }
    }
    let passed = preflight.iter().all(|found| found.verdict == Verdict::Whole);
    ui.document(&Document { passed, preflight });
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As ONNX Runtime calls it; none for providers that are not its own.
fn long_name(provider: &str) -> Option<&'static str> {
    #[cfg(feature = "ort")]
    return hone_runtime::backbone::ort::ExecutionProvider::named(provider).map(|ep| ep.long_name());
    #[cfg(not(feature = "ort"))]
    {
        let _ = provider;
        None
    }
}

fn table(preflight: &[Preflight]) -> Table {
    let columns = [
        "provider",
        "takes",
        "nodes",
        "multiply-accumulates",
        "partitions",
        "first load ms",
        "warm load ms",
        "cache, bytes",
    ];
    let mut table = Table::new("Preflight", &columns);
    let dash = || "–".to_owned();
    for found in preflight {
        let ms = |ms: Option<f64>| ms.map_or_else(dash, |ms| format!("{ms:.1}"));
        table.row([
            found.provider.clone(),
            found.verdict.name().to_owned(),
            format!("{} of {}", found.nodes_taken, found.nodes),
            found.mac_share.map_or_else(dash, |share| format!("{:.1} %", share * 100.0)),
            found.partitions.to_string(),
            ms(found.first_load_ms),
            ms(found.warm_load_ms),
            found.cache_bytes.map_or_else(dash, bytes),
        ]);
    }
    table.note = "Nodes are counted as ONNX Runtime had them when it divided the graph; those of the native engine are its plan's. \
                  The warm load uses the session cache that the first one filled (--session-cache DIR keeps one)."
        .into();
    table
}

fn fallback(found: &Preflight) -> Table {
    let title = format!("What {} leaves", found.provider);
    let mut table = Table::new(&title, &["node", "operator", "output", "multiply-accumulates", "runs on", "why"]);
    for node in &found.fallback {
        table.row([
            node.node.clone(),
            node.op.clone(),
            node.output.clone().unwrap_or_else(|| "–".into()),
            bytes(node.macs),
            node.runs_on.clone(),
            node.why.clone(),
        ]);
    }
    table
}
