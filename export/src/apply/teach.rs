//! Teaching and tuning from labelled rows: what `hone tune` does.

use std::collections::HashSet;
use std::time::Instant;

use hone_runtime::backbone::provider::Chain;
use hone_runtime::head::HeadView;
use hone_runtime::tune::{Options, Outcome, Reason};
use hone_runtime::{Error as Cause, Session};
use serde::Serialize;

use super::accuracy::{check_classifies, unnamed_notice};
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
    /// Shots given that were given before in the same run.
    pub shots_repeated: usize,
    /// Classes of the shots.
    pub classes: usize,
    /// Classes of the head in use that a new head would drop unasked, and that it was refused for: they have neither shots nor canaries.
    pub classes_dropped: Vec<String>,
    /// What the owner should know beside the decision.
    pub notices: Vec<String>,
    /// Whether nothing was to be committed.
    pub dry_run: bool,
}

/// Teaches `shots` to the session, tunes, and commits what the gate accepts.
///
/// A shot that the session holds already (same label, same embedding) is not added again, so that running twice is running
/// once; nor is one that is given twice. A refused head leaves the store as it was, except that new shots which make no difference yet
/// are kept beside the old ones ([`Mode::fresh`] would lose those: then nothing is kept).
///
/// # Errors
/// [`Error::Data`] without labels, and for a bundle whose head gives values instead of classes; [`Cause::ZeroShots`], [`Cause::OneClass`] and whatever tuning and the store say.
pub fn tune(
    applied: &Applied<'_>,
    session: &mut Session<'_, Chain<'_>>,
    shots: &Embedded,
    options: &Options,
    mode: Mode,
) -> Result<Tuned> {
    let labels = shots.labels()?;
    if let Some(head) = &applied.bundle.head {
        check_classifies(head, &shots.path)?;
    }
    let before =
        session.head().map(|head| head.labels().iter().map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default();
    if mode.fresh {
        session.drop_shots();
    }
    let known: Vec<(String, Vec<u8>)> =
        session.shots().map(|shot| (shot.label.to_owned(), shot.row.to_vec())).collect();
    let known: HashSet<(&str, &[u8])> = known.iter().map(|(label, row)| (label.as_str(), row.as_slice())).collect();
    let mut given = HashSet::new();
    let mut counts = Counts { known: 0, repeated: 0, added: 0, solve_ms: 0.0, shots, mode };
    for (at, &class) in labels.iter().enumerate() {
        let (label, row) = (shots.classes[class].as_str(), shots.row(at));
        if !given.insert((label, row)) {
            counts.repeated += 1;
        } else if known.contains(&(label, row)) {
            counts.known += 1;
        } else {
            session.teach_row(label, row).map_err(Error::place(&shots.ids[at]))?;
            counts.added += 1;
        }
    }
    let start = Instant::now();
    let outcome = session.tune(options).map_err(|error| match error {
        Cause::OneClass | Cause::ZeroShots => Error::place(shots.path.display())(error),
        Cause::EmptyClass { .. } => Error::place(applied.path.display())(error),
        other => Error::Runtime(other),
    })?;
    counts.solve_ms = start.elapsed().as_secs_f64() * 1e3;
    // Where the old shots were dropped first, keeping the new ones alone would lose them for a head that is not to be used.
    let no_difference = matches!(outcome.decision.reason, Reason::NoDifference { .. });
    let keep = outcome.decision.accepted || (no_difference && !mode.fresh);
    let generation = if keep && !mode.dry_run { session.commit()? } else { None };
    let crc = session.head().map(|head: HeadView<'_>| format!("{:08x}", head.crc())).ok();
    let dropped = matches!(outcome.decision.reason, Reason::DropsClasses { .. });
    let classes_dropped = if dropped { session.dropped().to_vec() } else { Vec::new() };
    let notices = notices(applied, &before, shots, options);
    Ok(Tuned { notices, classes_dropped, ..report(&outcome, session, crc, generation, counts) })
}

/// What cannot be judged, and labels that may be mistaken.
fn notices(applied: &Applied<'_>, before: &[String], shots: &Embedded, options: &Options) -> Vec<String> {
    let Some(own) = applied.bundle.head else { return Vec::new() };
    // Names that the data knows and has no row of teach nothing.
    let has_row = |class: &usize| shots.labels.iter().flatten().any(|label| label == class);
    let taught: Vec<&str> =
        (0..shots.classes.len()).filter(has_row).map(|class| shots.classes[class].as_str()).collect();
    let mut out = Vec::from_iter(unnamed_notice(&own, &taught));
    if options.replay_weight > 0.0 {
        let with_canary = classes_with_canaries(applied);
        let known = before.iter().filter(|label| own.labels().position(label).is_some());
        let unjudged = known.clone().filter(|label| !with_canary.contains(label.as_str())).count();
        let all = known.count();
        if all > 0 && unjudged == all {
            out.push(format!(
                "the bundle has no canaries of the {all} classes of its own head: what a new head forgets cannot be judged, and classes that \
                 are not taught leave it; export with calibration data that is labelled, and --model-classes"
            ));
        } else if unjudged > 0 {
            out.push(format!(
                "{unjudged} of the {all} classes of the bundle's own head have no canaries: they stay as they are, but whether they are \
                 forgotten cannot be judged"
            ));
        }
    }
    out
}

/// Labels of the bundle's own head that have canaries.
fn classes_with_canaries<'a>(applied: &'a Applied<'_>) -> HashSet<&'a str> {
    let labels = applied.bundle.labels();
    let canaries = applied.bundle.canaries.iter().flat_map(|canaries| canaries.iter());
    canaries.filter_map(|(class, _)| labels.and_then(|labels| labels.get(class))).collect()
}

struct Counts<'a> {
    solve_ms: f64,
    added: usize,
    known: usize,
    repeated: usize,
    shots: &'a Embedded,
    mode: Mode,
}

fn report(
    outcome: &Outcome,
    session: &Session<'_, Chain<'_>>,
    head_crc: Option<String>,
    generation: Option<u32>,
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
        shots_repeated: counts.repeated,
        classes: labels.len(),
        classes_dropped: Vec::new(),
        notices: Vec::new(),
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
