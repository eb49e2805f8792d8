//! A bench on the terminal.

use hone_export::apply::latency;
use hone_export::bench::Machine;
use hone_export::bench::cross::Cross;
use hone_export::bench::profile::side_by_side;
use hone_export::report::Table;
use hone_runtime::head::drift::AGREEMENT_LIMIT;

use super::{Document, Profile};
use crate::ui::{Ui, bytes, share};

pub fn print(document: &Document, ui: &Ui) {
    ui.table(&latency_table(document));
    ui.table(&rest_table(document));
    for line in document.rows.iter().filter(|line| !line.doubts.is_empty()) {
        ui.say(format!("not to be trusted: {} {}: {}", line.provider, line.precision, line.doubts.join("; ")));
    }
}

/// Single stream.
pub fn latency_table(document: &Document) -> Table {
    let columns = [
        "provider",
        "kernel",
        "precision",
        "p50 µs",
        "95 % of p50",
        "p90 µs",
        "p99 µs",
        "max µs",
        "load ms",
        "first µs",
        "A/A",
        "trusted",
    ];
    let mut table = Table::new("Latency of one row, one thread (single stream: p90)", &columns);
    for line in &document.rows {
        let us = |us: f64| format!("{us:.1}");
        table.row([
            line.provider.clone(),
            line.kernel.clone(),
            line.precision.clone(),
            us(line.p50_us),
            line.interval_us.map_or_else(|| "–".into(), |[low, high]| format!("{low:.1} … {high:.1}")),
            us(line.p90_us),
            us(line.p99_us),
            us(line.max_us),
            format!("{:.1}", line.load_ms),
            us(line.first_us),
            line.noise.map_or_else(|| "–".into(), |noise| format!("{:.1} %", noise * 100.0)),
            if line.doubts.is_empty() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let machine = &document.machine;
    let runs: Vec<String> = document.rows.iter().map(|line| line.runs.to_string()).collect();
    table.note = format!(
        "{}, {} processors, kernels {}, governor {}, {}; load {} before. Timed runs: {}, in rounds that take turns; A/A: two processes of the same.",
        machine.cpu,
        machine.processors,
        machine.kernel,
        machine.governor.as_deref().unwrap_or("unknown"),
        machine.os,
        machine.load.map_or_else(|| "unknown".into(), |load| format!("{load:.2}")),
        runs.join(", "),
    );
    if document.rows.iter().any(|line| line.provider == "tract" && line.precision == "int8") {
        table.note += " tract computes int8 models in float.";
    }
    table
}

/// Offline, memory, agreement.
pub fn rest_table(document: &Document) -> Table {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for pair in document.rows.iter().flat_map(|line| line.throughput.iter().map(|t| (t.threads, t.batch))) {
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    let mut columns: Vec<String> = vec!["provider".into(), "precision".into()];
    columns.extend(pairs.iter().map(|(threads, batch)| format!("rows/s {threads}×{batch}")));
    columns.extend(["memory, MB", "libraries, MB", "agreement", "cosine"].map(str::to_owned));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new("Throughput (offline), memory, agreement", &columns);
    let dash = || "–".to_owned();
    for line in &document.rows {
        let mut row = vec![line.provider.clone(), line.precision.clone()];
        row.extend(pairs.iter().map(|&pair| {
            let at = line.throughput.iter().find(|t| (t.threads, t.batch) == pair);
            at.map_or_else(dash, |t| format!("{:.0}", t.rows_per_s))
        }));
        row.push(line.peak_rss_bytes.map_or_else(dash, megabytes));
        row.push(line.library_bytes.map_or_else(dash, megabytes));
        row.push(line.agreement.map_or_else(dash, share));
        row.push(line.cosine.map_or_else(dash, |cosine| format!("{cosine:.5}")));
        table.row(row);
    }
    let (classes, shots) = latency::TUNED;
    table.note = format!(
        "Bundle: {} bytes. rows/s T×B: T threads, B rows at a time. Memory: the peak of a process with the provider alone.",
        bytes(document.bundle.bytes)
    );
    if let Some(reference) = &document.reference {
        table.note += &format!(" Agreement is with {reference}.");
    }
    table.note += &format!(
        "\nTuning a head of {classes} classes from {shots} shots of each: {:.2} ms, beside embedding the shots.",
        document.tune_ms
    );
    table
}

pub fn print_changes(document: &Document, before: &Machine, ui: &Ui) {
    ui.table(&changes_table(document));
    if document.same_machine == Some(false) {
        ui.warn(format!(
            "the earlier bench ran on another machine: {}, {} processors, kernels {}",
            before.cpu, before.processors, before.kernel
        ));
    }
    if document.same_bundle == Some(false) {
        ui.warn("the earlier bench was of another backbone");
    }
    for line in &document.uncompared {
        ui.warn(format!(
            "nothing to compare {line} with: the earlier bench has no such line, or either has fewer than 3 rounds"
        ));
    }
}

pub fn changes_table(document: &Document) -> Table {
    let mut table = Table::new(
        "Against the earlier bench",
        &["provider", "precision", "new / old", "95 %", "noise", "verdict", "trusted"],
    );
    for change in document.changes.iter().flatten() {
        table.row([
            change.provider.clone(),
            change.precision.clone(),
            format!("{:.3}", change.ratio),
            format!("{:.3} … {:.3}", change.interval[0], change.interval[1]),
            format!("{:.1} %", change.noise * 100.0),
            change.verdict.clone(),
            if change.trusted { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.note = "A change counts where its whole interval lies beyond the noise: what two processes of the same differed by (A/A), at least 1 %.".into();
    table
}

/// Operators of each provider, and the native engine's layers beside those of each of ONNX Runtime's providers.
pub fn profiles(document: &Document) -> Vec<Table> {
    let profiles = document.profiles.as_deref().unwrap_or_default();
    let mut tables = Vec::new();
    for profile in profiles {
        let total: f64 = profile.ops.iter().map(|op| op.us).sum();
        let title = format!("Operators of {}: {total:.1} µs", profile.provider);
        let mut table = Table::new(&title, &["operator", "node", "output", "multiply-accumulates", "µs", "share"]);
        for op in &profile.ops {
            table.row([
                op.op.clone(),
                op.name.clone(),
                op.shape.as_ref().map_or_else(|| "–".into(), |shape| format!("{shape:?}")),
                op.macs.map_or_else(|| "–".into(), bytes),
                format!("{:.1}", op.us),
                format!("{:.1} %", 100.0 * op.us / total.max(1e-9)),
            ]);
        }
        table.note = "Each operator is timed by itself, so that the sum need not be the time of a whole run.".into();
        tables.push(table);
    }
    if let Some(ours) = profiles.iter().find(|profile| profile.provider == "native") {
        for other in profiles.iter().filter(|profile| profile.provider != "native") {
            tables.extend(beside(ours, other));
        }
    }
    tables
}

fn beside(ours: &Profile, other: &Profile) -> Option<Table> {
    let (pairs, [rest, other_rest]) = side_by_side(&ours.ops, &other.ops)?;
    let title = format!("Layers of native beside {}", other.provider);
    let columns =
        ["native", other.provider.as_str(), "multiply-accumulates", "native µs", "other µs", "native / other"];
    let mut table = Table::new(&title, &columns);
    let ratio = |a: f64, b: f64| if b > 0.0 { format!("{:.2}", a / b) } else { "–".to_owned() };
    for pair in &pairs {
        table.row([
            pair.op.clone(),
            pair.other.clone(),
            bytes(pair.macs),
            format!("{:.1}", pair.us),
            format!("{:.1}", pair.other_us),
            ratio(pair.us, pair.other_us),
        ]);
    }
    let rest_row = [
        "everything else",
        "everything else",
        "–",
        &format!("{rest:.1}"),
        &format!("{other_rest:.1}"),
        &ratio(rest, other_rest),
    ];
    table.row(rest_row.map(str::to_owned));
    Some(table)
}

/// Heads tuned on one provider (rows) and used on another (columns).
pub fn cross_table(cross: &Cross) -> Table {
    let mut providers: Vec<&str> = Vec::new();
    for pair in &cross.pairs {
        if !providers.contains(&pair.runs_on.as_str()) {
            providers.push(&pair.runs_on);
        }
    }
    let columns: Vec<String> =
        std::iter::once("tuned on".to_owned()).chain(providers.iter().map(|name| format!("on {name}"))).collect();
    let title =
        format!("Accuracy of heads tuned on one provider and used on another, {} shots a class", cross.shots_per_class);
    let mut table = Table::new(&title, &columns.iter().map(String::as_str).collect::<Vec<_>>());
    for tuned_on in &providers {
        let cells = cross.pairs.iter().filter(|pair| pair.tuned_on == *tuned_on).map(|pair| {
            let moved = format!("{} ({} re-centred)", share(pair.accuracy), share(pair.recentred));
            match pair {
                _ if pair.tuned_on == pair.runs_on => share(pair.accuracy),
                _ if pair.holds => moved,
                _ => format!("{moved}, refused"),
            }
        });
        table.row(std::iter::once((*tuned_on).to_owned()).chain(cells));
    }
    table.note = format!(
        "On {} rows. `hone head move` re-centres a head for another provider, and refuses one of which fewer than {:.0} % of the answers stay the same.",
        cross.test_rows,
        AGREEMENT_LIMIT * 100.0
    );
    table
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
