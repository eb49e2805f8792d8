//! Teaching and tuning from labelled rows: what `hone tune` does.

use std::time::Instant;

use hone_runtime::backbone::provider::Provider;
use hone_runtime::head::HeadView;
use hone_runtime::tune::{Options, Outcome, Reason};
use hone_runtime::{Error as Cause, Session};
use serde::Serialize;

use super::{Applied, Embedded};
use crate::{Error, Result};

/// What to do beside tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode {
    /// Drop the shots of earlier generations first.
    pub fresh: bool,
    /// Commit nothing.
    pub dry_run: bool,
}

/// What came of it; `--json` of `hone tune`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuned {
    /// Whether the new head passed the acceptance gate.
    pub accepted: bool,
    /// Why, or why not.
    pub reason: String,
    /// Stable word for the reason.
    pub reason_code: &'static str,
    /// The generation that was committed; none: the store is as it was.
    pub generation: Option<u32>,
    /// The solver.
    pub method: &'static str,
    /// L2 strength.
    pub l2: f32,
    /// Leave-one-out accuracy of the new head on the shots; none with one shot a class.
    pub loo_accuracy: Option<f32>,
    /// Share of canaries right before.
    pub canary_before: Option<f32>,
    /// Share of canaries right after.
    pub canary_after: Option<f32>,
    /// CRC32 of the head in force afterwards, eight hexadecimal digits; none: there is no head.
    pub head_crc: Option<String>,
    /// Time for solving, leave-one-out and the gate, in milliseconds.
    pub solve_ms: f64,
    /// Time for embedding the shots given, in milliseconds.
    pub embed_ms: f64,
    /// Shots that the head was tuned on, old ones included.
    pub shots: usize,
    /// Of those, new in this run.
    pub shots_added: usize,
    /// Shots given that the store held already.
    pub shots_known: usize,
    /// Classes of the shots.
    pub classes: usize,
    /// Classes of the head in use that a new head would drop unasked, and that it was refused for: they have neither shots nor canaries.
    pub classes_dropped: Vec<String>,
    /// Whether nothing was to be committed.
    pub dry_run: bool,
}

/// Teaches `shots` to the session, tunes, and commits what the gate accepts.
///
/// A shot that the session holds already (same label, same embedding) is not added again, so that running twice is running
/// once. A refused head leaves the store as it was, except where the reason says that the shots are kept for next time.
///
/// # Errors
/// [`Error::Data`] without labels; [`Cause::ZeroShots`], [`Cause::OneClass`] and whatever tuning and the store say.
pub fn tune(
    applied: &Applied<'_>,
    session: &mut Session<'_, Provider<'_>>,
    shots: &Embedded,
    options: &Options,
    mode: Mode,
) -> Result<Tuned> {
    let labels = shots.labels()?;
    if mode.fresh {
        session.drop_shots();
    }
    let known: Vec<(String, Vec<u8>)> =
        session.shots().map(|shot| (shot.label.to_owned(), shot.row.to_vec())).collect();
    let mut added = 0;
    for (at, &class) in labels.iter().enumerate() {
        let (label, row) = (shots.classes[class].as_str(), shots.row(at));
        if !known.iter().any(|(l, r)| l == label && r == row) {
            session.teach_row(label, row).map_err(Error::place(&shots.ids[at]))?;
            added += 1;
        }
    }
    let start = Instant::now();
    let outcome = session.tune(options).map_err(|error| match error {
        Cause::OneClass | Cause::ZeroShots => Error::place(shots.path.display())(error),
        Cause::EmptyClass { .. } => Error::place(applied.path.display())(error),
        other => Error::Runtime(other),
    })?;
    let solve_ms = start.elapsed().as_secs_f64() * 1e3;
    let keep = outcome.decision.accepted || matches!(outcome.decision.reason, Reason::NoDifference { .. });
    let generation = if keep && !mode.dry_run { session.commit()? } else { None };
    let crc = session.head().map(|head: HeadView<'_>| format!("{:08x}", head.crc())).ok();
    let dropped = matches!(outcome.decision.reason, Reason::DropsClasses { .. });
    let classes_dropped = if dropped { without_examples(applied, session)? } else { Vec::new() };
    Ok(report(
        &outcome,
        session,
        crc,
        generation,
        classes_dropped,
        Counts { solve_ms, added, known: labels.len() - added, shots, mode },
    ))
}

/// Classes of the head in use that have neither shots nor canaries.
fn without_examples(applied: &Applied<'_>, session: &Session<'_, Provider<'_>>) -> Result<Vec<String>> {
    let own = applied.bundle.labels();
    let has_canary = |label: &str| {
        let mut canaries = applied.bundle.canaries.iter().flat_map(|canaries| canaries.iter());
        canaries.any(|(class, _)| own.and_then(|own| own.get(class)) == Some(label))
    };
    let has_shot = |label: &str| session.shots().any(|shot| shot.label == label);
    let head = session.head()?;
    Ok(head.labels().iter().filter(|label| !has_shot(label) && !has_canary(label)).map(str::to_owned).collect())
}

struct Counts<'a> {
    solve_ms: f64,
    added: usize,
    known: usize,
    shots: &'a Embedded,
    mode: Mode,
}

fn report(
    outcome: &Outcome,
    session: &Session<'_, Provider<'_>>,
    head_crc: Option<String>,
    generation: Option<u32>,
    classes_dropped: Vec<String>,
    counts: Counts<'_>,
) -> Tuned {
    let mut labels: Vec<&str> = session.shots().map(|shot| shot.label).collect();
    let shots = labels.len();
    labels.sort_unstable();
    labels.dedup();
    Tuned {
        accepted: outcome.decision.accepted,
        reason: outcome.decision.reason.to_string(),
        reason_code: outcome.decision.reason.code(),
        generation,
        method: method(1),
        l2: outcome.fit.l2,
        loo_accuracy: outcome.loo_accuracy,
        canary_before: outcome.canary_before,
        canary_after: outcome.canary_after,
        head_crc,
        solve_ms: counts.solve_ms,
        embed_ms: counts.shots.embed_ms_total,
        shots,
        shots_added: counts.added,
        shots_known: counts.known,
        classes: labels.len(),
        classes_dropped,
        dry_run: counts.mode.dry_run,
    }
}

/// Name of a solver by the code that a generation keeps.
#[must_use]
pub fn method(code: u16) -> &'static str {
    match code {
        0 => "none",
        1 => "softmax-l2",
        _ => "unknown",
    }
}
