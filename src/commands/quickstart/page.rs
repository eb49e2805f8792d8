//! The quickstart's tables and its page.

use std::path::Path;

use hone_export::apply::accuracy::Confusion;
use hone_export::apply::latency::Line;
use hone_export::apply::shots::KShot;
use hone_export::pipeline::{Outcome as Exported, Request};
use hone_export::report::{Bars, Block, Heatmap, Lines, Page, Series, Table};

use super::{Accuracy, Measured, PREPROCESS};
use crate::commands::export;
use crate::ui::share;

pub fn accuracy(rows: &[Accuracy]) -> Table {
    let mut table = Table::new(
        "Accuracy on handwritten digits",
        &["precision", "head", "top-1, all classes", "top-1, digits only", "rows"],
    );
    for row in rows {
        table.row([
            row.precision.to_owned(),
            row.head.to_owned(),
            share(row.top1),
            share(row.top1_digits_only),
            row.n.to_string(),
        ]);
    }
    table.note = "All classes: the answer is the best of the head's classes, letters included. Digits only: the best of the ten digits.".into();
    table
}

pub fn shots(rows: &[KShot]) -> Table {
    let mut table = Table::new(
        "Accuracy by shots a class (int8 backbone, a head of the ten digits)",
        &["shots a class", "mean", "deviation", "draws", "rows"],
    );
    for row in rows {
        let cells =
            [row.k.round().to_string(), share(row.mean), share(row.sd), row.seeds.len().to_string(), row.n.to_string()];
        table.row(cells);
    }
    table
}

pub fn bench(rows: &[Line]) -> Table {
    let columns = ["provider", "precision", "load ms", "p50 µs", "p90 µs", "p99 µs", "agreement"];
    let mut table = Table::new("Latency of one image, one thread", &columns);
    for line in rows {
        table.row([
            line.provider.clone(),
            line.precision.to_owned(),
            format!("{:.1}", line.load_ms),
            format!("{:.1}", line.p50_us),
            format!("{:.1}", line.p90_us),
            format!("{:.1}", line.p99_us),
            line.agreement.map_or_else(|| "–".into(), share),
        ]);
    }
    table.note = "native is the integer engine that runs on devices too; tract computes int8 models in float.".into();
    table
}

pub fn page(request: &Request, exported: &Exported, m: &Measured, out: &Path) -> Page {
    let [fp32, before, after] = &m.accuracy[..] else { return empty() };
    let mut blocks = vec![
        Block::Text(format!(
            "A small network, pretrained on letters and digits rendered from fonts, is quantized to int8 and taught real handwriting with {} examples. Every number on this page was measured in the run that wrote it.",
            m.tuned.shots
        )),
        Block::Figures(vec![
            (share(before.top1), "before tuning, all classes".into()),
            (share(after.top1), format!("after {} examples", m.tuned.shots)),
            (format!("{:.2} ms", m.tuned.solve_ms), "to tune, examples embedded".into()),
            (format!("{:+.4}", before.top1 - fp32.top1), "int8 against fp32, before tuning".into()),
        ]),
        Block::Heading("Accuracy".into()),
        Block::Table(accuracy(&m.accuracy)),
        Block::Text(format!("What the acceptance gate says of the tuned head: {}.", m.tuned.reason)),
        Block::Lines(Lines {
            title: "Accuracy by shots a class".into(),
            x_name: "shots a class".into(),
            y_name: "top-1".into(),
            x_labels: std::iter::once("0".to_owned()).chain(m.k_shot.iter().map(|k| k.k.round().to_string())).collect(),
            series: vec![
                Series {
                    name: "tuned, digits".into(),
                    points: m.k_shot.iter().enumerate().map(|(i, k)| (i + 1, k.mean, k.sd)).collect(),
                },
                Series { name: "as shipped, all".into(), points: vec![(0, before.top1, 0.0)] },
                Series { name: "as shipped, digits".into(), points: vec![(0, before.top1_digits_only, 0.0)] },
            ],
            y_range: None,
        }),
        Block::Table(shots(&m.k_shot)),
        Block::Heading("Confusion before and after".into()),
        Block::Heatmaps(vec![
            heatmap("As shipped", &m.before.confusion),
            heatmap(&format!("After {} examples", m.tuned.shots), &m.after.confusion),
        ]),
        Block::Heading("Quantization".into()),
    ];
    blocks.extend(export::tables(request, exported).into_iter().map(Block::Table));
    blocks.push(Block::Bars(Bars {
        title: "Signal to quantization noise after each layer (all earlier layers quantized too)".into(),
        unit: "dB".into(),
        rows: exported.layers.iter().map(|l| (format!("{} ({})", l.name, l.op), l.sqnr_db)).collect(),
    }));
    blocks.push(Block::Heading("Latency".into()));
    blocks.push(Block::Bars(Bars {
        title: "Median latency of one image, one thread".into(),
        unit: "µs".into(),
        rows: m.bench.iter().map(|l| (format!("{}, {}", l.provider, l.precision), l.p50_us)).collect(),
    }));
    blocks.push(Block::Table(bench(&m.bench)));
    blocks.push(Block::Heading("The same by hand".into()));
    blocks.push(Block::Commands(commands(out)));
    Page {
        title: "hone quickstart".into(),
        subtitle: format!("Built-in model and handwriting; {:.1} s from model to tuned head", m.seconds),
        blocks,
    }
}

fn empty() -> Page {
    Page { title: "hone quickstart".into(), subtitle: "nothing was measured".into(), blocks: Vec::new() }
}

fn heatmap(title: &str, confusion: &Confusion) -> Heatmap {
    // The last column counts answers that are none of the digits.
    let columns = confusion.classes.iter().cloned().chain(["other".to_owned()]).collect();
    Heatmap {
        title: title.into(),
        rows: confusion.classes.clone(),
        columns,
        axes: "rows: the digit; columns: the answer".into(),
        values: confusion.counts.iter().map(|row| row.iter().map(|&n| n as f64).collect()).collect(),
    }
}

fn commands(out: &Path) -> Vec<String> {
    let data = out.join("data");
    let (data, out) = (data.display(), out.display());
    vec![
        format!("hone inspect {data}/glyphs.onnx"),
        format!(
            "hone export {data}/glyphs.onnx --calib {data}/glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt --model-classes {data}/glyphs-labels.txt --prep {PREPROCESS} --calib-rows 235 --name glyphs --out my-glyphs"
        ),
        format!(
            "hone tune {out}/glyphs.hone --shots {data}/digits-x.npy --labels digits-y.npy --classes digits-labels.txt --rows {data}/digits-k20.npy#0 --store {out}/home --only-taught"
        ),
        format!(
            "hone eval {out}/glyphs.hone --data {data}/digits-x.npy --labels digits-y.npy --classes digits-labels.txt --rows {data}/digits-test.npy --store {out}/home"
        ),
        format!("hone head history {out}/glyphs.hone --store {out}/home"),
        format!("hone head export-onnx {out}/glyphs.hone --store {out}/home --out tuned.onnx"),
    ]
}
