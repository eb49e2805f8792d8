//! `--original`: the model that a bundle was made from, beside it.

use hone_export::Result;
use hone_export::apply::Applied;
use hone_export::apply::accuracy::{Evaluation, Matching};
use hone_export::apply::latency::Line;
use hone_export::apply::original::Original;
use hone_export::data::Source;
use hone_runtime::head::Kind;

use crate::args::{Bench, Eval};
use crate::ui::Ui;

/// The original's accuracy, where `hone eval` was given one.
pub fn evaluate(
    args: &Eval,
    applied: &Applied<'_>,
    source: &mut Source,
    matching: Matching,
    ui: &Ui,
) -> Result<Option<Evaluation>> {
    let Some(path) = &args.original else { return Ok(None) };
    let original = Original::open(path, applied)?;
    ui.track("original", |p| original.evaluate(applied, source, matching, false, p)).map(Some)
}

/// Where `hone bench` was given one: the original's own line, and how often each of the `rows` agrees with it.
pub fn time(args: &Bench, applied: &Applied<'_>, inputs: &[Vec<f32>], mut rows: Vec<Line>) -> Result<Vec<Line>> {
    let Some(path) = &args.original else { return Ok(rows) };
    let original = Original::open(path, applied)?;
    // Random inputs have no class to agree on, nor have values.
    let classifies = applied.bundle.head.is_none_or(|head| head.kind() != Kind::Regression);
    if args.data.is_some() && classifies {
        for row in &mut rows {
            row.agreement = original.agreement(applied, &row.provider, inputs)?;
        }
    }
    rows.push(original.latency(inputs, args.runs)?);
    Ok(rows)
}
