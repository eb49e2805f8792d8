//! `hone predict`: the head's best classes for files or rows.

use std::process::ExitCode;

use hone_export::Result;
use hone_export::apply::{Applied, BundleFile, Embedded};
use hone_export::report::Table;
use hone_runtime::HeadView;
use serde::Serialize;

use crate::args::Predict;
use crate::ui::{Outcome, Ui};

#[derive(Serialize)]
struct Document {
    generation: Option<u32>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    top: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    label: String,
    score: f32,
}

pub fn run(args: &Predict, ui: &Ui) -> Outcome {
    let file = BundleFile::read(&args.bundle)?;
    let applied = Applied::open_on(&file, &args.on.provider, args.on.library.settings()?)?;
    let in_force = applied.head_in_force(args.store.as_deref())?;
    in_force.warnings.iter().for_each(|warning| ui.warn(warning));
    let head = in_force.view()?;
    let mut rows = Vec::new();
    for path in &args.files {
        let embedded = applied.embed_file(path)?;
        for at in 0..embedded.len() {
            rows.push(answer(&head, &embedded, at, args.top.get())?);
        }
    }
    ui.notices(&applied);
    let mut table = Table::new("Answers", &["row", "label", "score"]);
    for row in &rows {
        for (rank, answer) in row.top.iter().enumerate() {
            let id = if rank == 0 { row.id.clone() } else { String::new() };
            table.row([id, answer.label.clone(), format!("{:.4}", answer.score)]);
        }
    }
    ui.table(&table);
    ui.document(&Document { generation: in_force.generation, rows });
    Ok(ExitCode::SUCCESS)
}

fn answer(head: &HeadView<'_>, embedded: &Embedded, at: usize, top: usize) -> Result<Row> {
    let mut scores = vec![0.0; head.classes()];
    head.scores(embedded.row(at), &mut scores)?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let label = |class: usize| head.label(class).unwrap_or_default().to_owned();
    let top = order.into_iter().take(top).map(|c| Answer { label: label(c), score: scores[c] }).collect();
    Ok(Row { id: embedded.ids[at].clone(), top })
}
