//! `--original`: the model that a bundle was made from, beside it.

use hone_export::Result;
use hone_export::apply::Applied;
use hone_export::apply::accuracy::{Evaluation, Matching};
use hone_export::apply::original::Original;
use hone_export::data::Source;

use crate::args::Eval;
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
