//! A bench as a page.

use std::path::Path;

use hone_export::Result;
use hone_export::bench::run::Line;
use hone_export::report::{Bars, Block, Lines, Page, Series};

use super::{Document, tables};
use crate::ui::bytes;

pub fn write(document: &Document, path: &Path) -> Result<()> {
    page(document).write(path)
}

fn page(document: &Document) -> Page {
    let name = |line: &Line| format!("{} {}", line.provider, line.precision);
    let fastest = document.rows.iter().min_by(|a, b| a.p50_us.total_cmp(&b.p50_us));
    let mut blocks = vec![Block::Figures(
        fastest
            .map(|line| {
                vec![
                    (format!("{:.1} µs", line.p50_us), format!("median of one row, {}", name(line))),
                    (format!("{:.1} µs", line.p90_us), "90th percentile (single stream)".to_owned()),
                    (bytes(document.bundle.bytes), "bytes of the bundle".to_owned()),
                    (format!("{:.2} ms", document.tune_ms), "tuning 10 classes from 5 shots each".to_owned()),
                ]
            })
            .unwrap_or_default(),
    )];
    blocks.push(Block::Heading("Latency".into()));
    blocks.push(Block::Table(tables::latency_table(document)));
    let bars = |title: &str, unit: &str, of: &dyn Fn(&Line) -> Option<f64>| {
        let rows: Vec<(String, f64)> = document.rows.iter().filter_map(|line| Some((name(line), of(line)?))).collect();
        (!rows.is_empty()).then(|| Block::Bars(Bars { title: title.into(), unit: unit.into(), rows }))
    };
    blocks.extend(bars("Median time of one row", "µs", &|line| Some(line.p50_us)));
    let rounds = document.rows.iter().flat_map(|line| line.rounds_us.iter().map(Vec::len)).max().unwrap_or(0);
    if rounds > 1 {
        blocks.push(Block::Text(
            "The same rounds, relative to each provider's median: a slope or a step says that the machine changed while it measured; \
             rounds of all providers took turns."
                .into(),
        ));
        let is_alone = |line: &Line| document.rows.iter().filter(|other| other.provider == line.provider).count() == 1;
        let series = document.rows.iter().map(|line| Series {
            name: if is_alone(line) { line.provider.clone() } else { name(line) },
            points: line.rounds_us.first().map_or_else(Vec::new, |rounds| {
                rounds.iter().enumerate().map(|(at, us)| (at, us / line.p50_us.max(1e-9), 0.0)).collect()
            }),
        });
        blocks.push(Block::Lines(Lines {
            title: "Rounds".into(),
            x_name: "round".into(),
            y_name: "time over the median".into(),
            x_labels: (1..=rounds).map(|n| n.to_string()).collect(),
            series: series.collect(),
            y_range: None,
        }));
    }
    let doubts = document.rows.iter().filter(|line| !line.doubts.is_empty());
    blocks.extend(
        doubts.map(|line| Block::Text(format!("Not to be trusted: {}: {}.", name(line), line.doubts.join("; ")))),
    );
    blocks.push(Block::Heading("Throughput, memory, agreement".into()));
    blocks.push(Block::Table(tables::rest_table(document)));
    blocks.extend(bars("Throughput, all threads", "rows/s", &|line| {
        line.throughput.iter().map(|t| t.rows_per_s).reduce(f64::max)
    }));
    blocks.extend(bars("Peak memory of a process", "MB", &|line| line.peak_rss_bytes.map(|b| b as f64 / 1e6)));
    if let Some(cross) = &document.cross {
        blocks.push(Block::Heading("Heads across providers".into()));
        blocks.push(Block::Table(tables::cross_table(cross)));
    }
    if document.profiles.is_some() {
        blocks.push(Block::Heading("Operators".into()));
        blocks.extend(tables::profiles(document).into_iter().map(Block::Table));
    }
    if document.changes.is_some() {
        blocks.push(Block::Heading("Against the earlier bench".into()));
        blocks.push(Block::Table(tables::changes_table(document)));
    }
    if !document.failed.is_empty() {
        blocks.push(Block::Heading("Did not run".into()));
        blocks.extend(document.failed.iter().map(|f| Block::Text(format!("{}: {}", f.provider, f.why))));
    }
    let subtitle =
        format!("{} · {} · hone {}", document.bundle.path.display(), document.machine.cpu, document.machine.hone);
    Page { title: "hone bench".into(), subtitle, blocks }
}
