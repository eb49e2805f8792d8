//! `hone eval`: accuracy of a bundle, of the original, of the tuned head; k-shot tables.

use std::process::ExitCode;

use hone_export::Result;
use hone_export::apply::accuracy::{
    ClassAccuracy, Evaluation, Matching, check_classifies, evaluate, evaluate_restricted, unnamed_notice,
};
use hone_export::apply::shots::{KShot, k_shot, read_draws};
use hone_export::apply::{Applied, BundleFile, Embedded};
use hone_export::data::Source;
use hone_export::report::Table;
use hone_runtime::HeadView;
use hone_runtime::tune::Options;
use serde::Serialize;

use crate::args::{Eval, MatchLabels};
use crate::ui::{Outcome, Ui, share};

#[derive(Serialize)]
struct Document {
    precision: String,
    top1: Option<f64>,
    n: Option<usize>,
    per_class: Vec<ClassAccuracy>,
    rows: Vec<Line>,
    k_shot: Vec<KShot>,
}

#[derive(Serialize)]
struct Line {
    head: String,
    precision: String,
    generation: Option<u32>,
    top1: Option<f64>,
    /// The best sought among the data's classes alone.
    top1_among_data_classes: Option<f64>,
    n: Option<usize>,
    /// Why there is no figure.
    why_not: Option<String>,
    #[serde(skip)]
    evaluation: Option<Evaluation>,
}

pub fn run(args: &Eval, ui: &Ui) -> Outcome {
    let file = BundleFile::read(&args.bundle)?;
    let applied = Applied::open_on(&file, &args.on.provider, args.on.library.settings()?)?;
    let matching = Matching { contained: args.match_labels == MatchLabels::Contains, known_only: args.known_only };
    let precision = applied.bundle.precision.name();
    let mut source = args.options.open(&args.data)?;
    source.labels()?;
    let tuned = args.store.as_deref().map(|store| applied.head_in_force(Some(store))).transpose()?;
    tuned.iter().flat_map(|head| &head.warnings).for_each(|warning| ui.warn(warning));
    // Without a store and draws, the bundle's own head is what was asked for.
    let own = tuned.is_none() && args.k_shot.is_empty();
    if own {
        applied.head_in_force(None)?;
    }

    if let Some(head) = applied.bundle.head.filter(|_| own || args.has_original()) {
        check_classifies(&head, &args.data)?;
    }
    let mut rows = Vec::new();
    #[cfg(feature = "export")]
    if let Some(e) = super::original::evaluate(args, &applied, &mut source, matching, ui)? {
        rows.push(Line::new("original", "fp32", None, Ok((e, None))));
    }
    let embedded = ui.track("embedding", |p| applied.embed(&mut source, p))?;
    if let Some(head) = &applied.bundle.head {
        let names: Vec<&str> = embedded.classes.iter().map(String::as_str).collect();
        unnamed_notice(head, &names).iter().for_each(|notice| ui.warn(notice));
        let result = both(head, &embedded, matching);
        // What was asked for must succeed; beside it, the reason stands under the table.
        let line = if own { Ok(result?) } else { result };
        rows.push(Line::new("bundle", precision, None, line));
    }
    if let Some(head) = &tuned {
        let result = both(&head.view()?, &embedded, matching)?;
        rows.push(Line::new("tuned", precision, head.generation, Ok(result)));
    }
    let k_shot = k_shots(args, ui, &applied, &embedded)?;
    ui.notices(&applied);
    print(ui, precision, rows, k_shot);
    Ok(ExitCode::SUCCESS)
}

fn both(head: &HeadView<'_>, embedded: &Embedded, matching: Matching) -> Result<(Evaluation, Option<f64>)> {
    let among = evaluate_restricted(head, embedded, matching)?.top1;
    Ok((evaluate(head, embedded, matching)?, Some(among)))
}

fn k_shots(args: &Eval, ui: &Ui, applied: &Applied<'_>, test: &Embedded) -> Result<Vec<KShot>> {
    if args.k_shot.is_empty() {
        return Ok(Vec::new());
    }
    // The draws number the rows of the data as it is, whatever --rows and --limit select for the test.
    let options = hone_export::data::Options { rows: None, limit: None, ..args.options.to_options()? };
    let mut source = Source::open(args.shots.as_deref().unwrap_or(&args.data), &options)?;
    let draws = args.k_shot.iter().map(|path| read_draws(path, source.len())).collect::<Result<Vec<_>>>()?;
    let mut used: Vec<usize> = draws.iter().flatten().flatten().copied().collect();
    used.sort_unstable();
    used.dedup();
    let shots = ui.track("shots", |p| applied.embed_at(&mut source, &used, p))?;
    let place = |draw: &Vec<usize>| draw.iter().filter_map(|row| used.binary_search(row).ok()).collect();
    draws
        .iter()
        .map(|draws| {
            let draws: Vec<Vec<usize>> = draws.iter().map(place).collect();
            k_shot(applied.bundle.embedding, &shots, &draws, test, &Options::default())
        })
        .collect()
}

fn print(ui: &Ui, precision: &str, rows: Vec<Line>, k_shot: Vec<KShot>) {
    let columns = ["head", "precision", "top-1", "among the data's classes", "rows"];
    let mut table = Table::new("Accuracy", &columns);
    for line in &rows {
        let head = line.generation.map_or_else(|| line.head.clone(), |g| format!("{} (generation {g})", line.head));
        let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), share);
        let n = line.n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        table.row([head, line.precision.clone(), figure(line.top1), figure(line.top1_among_data_classes), n]);
    }
    table.note = rows.iter().filter_map(|line| line.why_not.clone()).collect::<Vec<_>>().join("; ");
    if !rows.is_empty() {
        ui.table(&table);
    }
    let main = rows.iter().rev().find_map(|line| line.evaluation.as_ref().filter(|_| line.head != "original"));
    if let Some(e) = main {
        let mut table = Table::new("By class", &["class", "right", "rows", "top-1"]);
        e.per_class.iter().for_each(|c| {
            table.row([c.name.clone(), c.correct.to_string(), c.n.to_string(), share(c.top1)]);
        });
        if e.skipped > 0 {
            table.note = format!("{} rows of classes that the head does not know are left out.", e.skipped);
        }
        ui.table(&table);
    }
    if !k_shot.is_empty() {
        let mut table = Table::new("k shots a class", &["k", "mean", "deviation", "draws", "rows"]);
        for t in &k_shot {
            let k = format!("{:.1}", t.k);
            let k = k.strip_suffix(".0").unwrap_or(&k);
            table.row([k, &share(t.mean), &share(t.sd), &t.seeds.len().to_string(), &t.n.to_string()]);
        }
        ui.table(&table);
    }
    ui.document(&Document {
        precision: precision.to_owned(),
        top1: main.map(|e| e.top1),
        n: main.map(|e| e.n),
        per_class: main.map(|e| e.per_class.clone()).unwrap_or_default(),
        k_shot,
        rows,
    });
}

impl Line {
    fn new(head: &str, precision: &str, generation: Option<u32>, result: Result<(Evaluation, Option<f64>)>) -> Self {
        let (evaluation, among, why_not) = match result {
            Ok((evaluation, among)) => (Some(evaluation), among, None),
            Err(error) => (None, None, Some(format!("{head}: {error}"))),
        };
        Self {
            head: head.to_owned(),
            precision: precision.to_owned(),
            generation,
            top1: evaluation.as_ref().map(|e| e.top1),
            top1_among_data_classes: among,
            n: evaluation.as_ref().map(|e| e.n),
            why_not,
            evaluation,
        }
    }
}
