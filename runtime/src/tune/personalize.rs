//! The whole step: shots, canaries and the head in use go in; a new head and the gate's decision come out.

use super::gate::{Decision, Evidence, FORGET_LIMIT, LeftOut, decide};
use super::loo::UNJUDGED;
use super::prior::Prior;
use super::softmax::{self, Fit, Source, predict};
use super::workspace::workspace_len;
use crate::error::{Error, Result};
use crate::head::HeadView;
use crate::quant::EmbeddingSpec;
use crate::tensor::Rows;

/// Share of the forget limit that new classes may use up. Canaries are rows that the bundle's head gets right: what becomes of them is the
/// least that becomes of others.
const TAKEN: f32 = 0.5;

/// Stands for "no such class in the other head".
pub const NO_CLASS: u16 = u16::MAX;

/// Embedding rows with the class of each in the new head.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// Rows as the bundle stores embeddings.
    pub rows: Rows<'a>,
    /// One class a row; for canaries [`NO_CLASS`] leaves one out.
    pub classes: &'a [u16],
}

/// The head in use.
#[derive(Debug, Clone, Copy)]
pub struct OldHead<'a> {
    /// The head.
    pub head: HeadView<'a>,
    /// For each class of the new head its index in this one, or [`NO_CLASS`].
    pub class_of: &'a [u16],
    /// For each shot what was stored when this head was made; may be shorter: the rest is new to it.
    pub shots: &'a [LeftOut],
    /// The same for each canary; empty for a head that was not made from them.
    pub canaries: &'a [LeftOut],
}

/// What goes in.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// How a row is stored.
    pub spec: EmbeddingSpec,
    /// Number of classes C of the new head.
    pub classes: usize,
    /// The owner's shots, all of them, old and new.
    pub shots: Labelled<'a>,
    /// The bundle's canaries.
    pub canaries: Option<Labelled<'a>>,
    /// The head in use, if there is one.
    pub old: Option<OldHead<'a>>,
    /// The bundle's own head, if there is one: what is started from where canaries are replayed.
    pub prior: Option<Prior<'a>>,
}

/// How to tune.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// L2 strength λ > 0; `None`: chosen by leave-one-out.
    pub l2: Option<f32>,
    /// Relative accuracy of the objective at which to stop.
    pub tolerance: f32,
    /// How much all canaries together weigh against the owner's shots; without a prior never more than shot for shot. 0: canaries only
    /// judge, and classes without shots of the owner's are refused.
    pub replay_weight: f32,
    /// Largest share of canaries that may be lost, 0..=1.
    pub forget_limit: f32,
    /// Whether classes of the head in use that have neither shots nor replayed canaries may leave when shots come. Without replay they
    /// may in any case.
    pub drop_classes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            l2: None,
            tolerance: softmax::TOLERANCE,
            replay_weight: 1.0,
            forget_limit: FORGET_LIMIT,
            drop_classes: false,
        }
    }
}

/// The caller's memory to work in; nothing of it needs to be kept.
#[derive(Debug)]
pub struct Memory<'a> {
    /// At least [`Memory::values_len`] numbers.
    pub values: &'a mut [f32],
    /// At least [`Memory::indices_len`] numbers.
    pub indices: &'a mut [u16],
}

impl Memory<'_> {
    /// Numbers in `values` for so many shots, canaries, dimensions and classes.
    #[must_use]
    pub const fn values_len(shots: usize, canaries: usize, dim: usize, classes: usize) -> usize {
        // The two sides of the solver need different amounts; with fewer replayed canaries it may take the other one.
        let (all, own) = (workspace_len(shots + canaries, dim, classes), workspace_len(shots, dim, classes));
        let most = if shots < dim && dim < shots + canaries { workspace_len(dim, dim, classes) } else { 0 };
        let all = if all > own { all } else { own };
        if all > most { all } else { most }
    }

    /// Numbers in `indices` for so many shots and canaries.
    #[must_use]
    pub const fn indices_len(shots: usize, canaries: usize) -> usize {
        2 * (shots + canaries) + canaries
    }
}

/// Where the new head goes.
#[derive(Debug)]
pub struct Output<'a> {
    /// C×D weights, row-major: scores are w·u/‖u‖ + bias, u the embedding without its zero point.
    pub weights: &'a mut [f32],
    /// C biases.
    pub bias: &'a mut [f32],
    /// For each shot what to store for the next tuning, if the head is accepted.
    pub shots: &'a mut [LeftOut],
    /// The same for each canary.
    pub canaries: &'a mut [LeftOut],
}

/// What came out, beside the head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The solver's account.
    pub fit: Fit,
    /// Whether to use the new head, and why.
    pub decision: Decision,
    /// What the decision was made from.
    pub evidence: Evidence,
    /// Share of canaries that the old head gets right (left out, where it was tuned with them).
    pub canary_before: Option<f32>,
    /// Share of canaries that the new head gets right (left out, where it was tuned with them).
    pub canary_after: Option<f32>,
    /// Leave-one-out accuracy of the new head on the owner's shots; `None` with one shot a class.
    pub loo_accuracy: Option<f32>,
    /// Accuracy of the old head on the shots that both heads can be judged by.
    pub loo_old: Option<f32>,
}

/// Tunes, and decides whether the new head is to be used. Allocates nothing; the same input gives the same bits on every target.
///
/// All shots are fitted together with the canaries of the new head's classes, so that classes without shots of the owner's stay.
/// Each canary weighs shots per class / canaries per class, without a prior 1 at most, times `replay_weight`.
///
/// Where canaries are replayed and there is a prior, the new head is the prior's plus what the examples ask for; its classes need no
/// examples then. New classes are held back so that the known ones lose at most half of the forget limit to them, by left-out
/// canaries.
///
/// # Errors
/// [`Error::ZeroShots`] without shots, unless a class was removed; [`Error::OneClass`]; [`Error::EmptyClass`] for a class that has
/// neither shots nor replayed canaries nor a row of the prior; [`Error::UnknownClass`] for a class index beyond the head; [`Error::Shape`] and
/// [`Error::Buffer`] for sizes that do not fit; [`Error::Bounds`] and [`Error::NonFinite`] for options and rows that are out of range.
pub fn tune(input: &Input<'_>, options: &Options, memory: Memory<'_>, out: Output<'_>) -> Result<Outcome> {
    let Output { weights, bias, shots: shot_states, canaries: canary_states } = out;
    check(input, options)?;
    let (n, m) = (input.shots.classes.len(), input.canaries.map_or(0, |c| c.classes.len()));
    for (what, expected, got) in
        [("states of the shots", n, shot_states.len()), ("states of the canaries", m, canary_states.len())]
    {
        if expected != got {
            return Err(Error::Shape { what, expected, got });
        }
    }
    let needs = Memory::indices_len(n, m);
    let short = Error::Buffer { what: "tuning indices (u16)", needs, has: memory.indices.len() };
    let (order, rest) = memory.indices.split_at_mut_checked(m).ok_or(short.clone())?;
    let (labels, rest) = rest.split_at_mut_checked(n + m).ok_or(short.clone())?;
    let (answers, _) = rest.split_at_mut_checked(n + m).ok_or(short)?;

    // The owner's shots, then the canaries that are replayed.
    for (label, &class) in labels.iter_mut().zip(input.shots.classes) {
        *label = class;
    }
    let mut replayed = 0;
    if options.replay_weight > 0.0 {
        for (row, class) in canaries_in(input) {
            if let (Some(at), Some(label)) = (order.get_mut(replayed), labels.get_mut(n + replayed)) {
                (*at, *label) = (row as u16, class);
                replayed += 1;
            }
        }
    }
    let order = order.get(..replayed).unwrap_or_default();
    let labels = labels.get(..n + replayed).unwrap_or_default();
    let answers = answers.get_mut(..n + replayed).unwrap_or_default();
    let prior = input.prior.filter(|prior| replayed > 0 && prior.is_usable());
    let balance = replay_weight(labels, n, input.classes);
    // With a prior a known class is worth as much as a taught one, however few canaries it has.
    let balance = if prior.is_some() { balance } else { balance.min(1.0) };
    let replay_weight = (balance * options.replay_weight).clamp(1e-6, 1e6);

    let source = Source { spec: input.spec, own: input.shots.rows, replay: input.canaries.map(|c| c.rows), order };
    let lose = options.forget_limit * TAKEN;
    let examples = softmax::Examples { source, labels, own: n, classes: input.classes, prior, lose };
    let solver = softmax::Options { l2: options.l2, tolerance: options.tolerance };
    softmax::check_problem(&examples, &solver, weights, bias, answers)?;
    let weight_of = |i| if i < n { 1.0 } else { replay_weight };
    let fit = softmax::solve_examples(&examples, &solver, weight_of, memory.values, weights, bias, answers)?;

    for (state, (&answer, &label)) in shot_states.iter_mut().zip(answers.iter().zip(labels)) {
        *state = state_of(answer, label);
    }
    canary_states.fill(LeftOut::New);
    for (&row, (&answer, &label)) in order.iter().zip(answers.iter().zip(labels).skip(n)) {
        if let Some(state) = canary_states.get_mut(usize::from(row)) {
            *state = state_of(answer, label);
        }
    }
    let mut evidence = weigh(input, weights, bias, shot_states, canary_states)?;
    if prior.is_some() {
        (evidence.surer, evidence.less_sure) = compare_probabilities(input, memory.values)?;
    }
    if !options.drop_classes && options.replay_weight > 0.0 && evidence.shots_added > 0 {
        evidence.classes_dropped = evidence.classes_removed;
    }
    Ok(Outcome {
        fit,
        decision: decide(&evidence, options.forget_limit),
        evidence,
        canary_before: evidence.canary_before(),
        canary_after: evidence.canary_after(),
        loo_accuracy: fit.loo_accuracy,
        loo_old: (evidence.has_old && evidence.judged > 0).then(|| evidence.old_right as f32 / evidence.judged as f32),
    })
}

/// Row and class of every canary whose class the new head has.
fn canaries_in<'a>(input: &Input<'a>) -> impl Iterator<Item = (usize, u16)> + use<'a> {
    let classes = input.canaries.map_or(&[][..], |canaries| canaries.classes);
    classes.iter().copied().enumerate().filter(|(_, class)| *class != NO_CLASS)
}

/// Shots per class / canaries per class, counting classes that have any; 1 without shots.
fn replay_weight(labels: &[u16], own: usize, classes: usize) -> f32 {
    let Some((shots, canaries)) = labels.split_at_checked(own) else { return 1.0 };
    let per_class = |labels: &[u16]| {
        let used = (0..classes).filter(|&c| labels.iter().any(|&label| usize::from(label) == c)).count();
        labels.len() as f32 / used.max(1) as f32
    };
    if shots.is_empty() || canaries.is_empty() { 1.0 } else { per_class(shots) / per_class(canaries) }
}

fn state_of(answer: u16, label: u16) -> LeftOut {
    match answer {
        UNJUDGED => LeftOut::Unjudged,
        answer if answer == label => LeftOut::Right,
        _ => LeftOut::Wrong,
    }
}

fn check(input: &Input<'_>, options: &Options) -> Result<()> {
    let limits = [("replay weight", options.replay_weight), ("forget limit", options.forget_limit)];
    if let Some((what, _)) = limits.into_iter().find(|(_, v)| !v.is_finite() || *v < 0.0) {
        return Err(Error::Malformed { what, why: "it must be a finite number, 0 or more" });
    }
    for (what, labelled) in [("labels of the shots", Some(input.shots)), ("classes of the canaries", input.canaries)] {
        let Some(Labelled { rows, classes }) = labelled else { continue };
        if rows.len() != classes.len() {
            return Err(Error::Shape { what, expected: rows.len(), got: classes.len() });
        }
        if rows.row_bytes() != input.spec.row_bytes() {
            return Err(Error::Shape {
                what: "bytes of an embedding row",
                expected: input.spec.row_bytes(),
                got: rows.row_bytes(),
            });
        }
    }
    let most = usize::from(u16::MAX);
    let canaries = input.canaries.map_or(0, |canaries| canaries.classes.len());
    for (what, value) in [("canaries", canaries), ("classes", input.classes)] {
        if value > most {
            return Err(Error::Bounds { what, value: value as u64, min: 0, max: most as u64 });
        }
    }
    if let Some(prior) = &input.prior {
        let (expected, got) = (input.classes, prior.class_of.len());
        if expected != got {
            return Err(Error::Shape { what: "classes in terms of the bundle's own head", expected, got });
        }
        if prior.head.embedding() != input.spec {
            return Err(Error::Malformed {
                what: "head of the bundle",
                why: "it takes other embeddings than these shots",
            });
        }
        let classes = prior.head.classes();
        if let Some(&class) = prior.class_of.iter().find(|&&c| c != NO_CLASS && usize::from(c) >= classes) {
            return Err(Error::UnknownClass { class: usize::from(class), classes });
        }
    }
    if let Some(old) = &input.old {
        if old.class_of.len() != input.classes {
            let (expected, got) = (input.classes, old.class_of.len());
            return Err(Error::Shape { what: "classes in terms of the old head", expected, got });
        }
        if old.head.embedding() != input.spec {
            return Err(Error::Malformed { what: "head in use", why: "it takes other embeddings than these shots" });
        }
        let classes = old.head.classes();
        if let Some(&class) = old.class_of.iter().find(|&&c| c != NO_CLASS && usize::from(c) >= classes) {
            return Err(Error::UnknownClass { class: usize::from(class), classes });
        }
    }
    if input.shots.classes.is_empty() && removed(input) == 0 {
        return Err(Error::ZeroShots);
    }
    Ok(())
}

/// Classes of the old head that the new one lacks.
fn removed(input: &Input<'_>) -> usize {
    let Some(old) = &input.old else { return 0 };
    (0..old.head.classes()).filter(|&class| !old.class_of.iter().any(|&c| usize::from(c) == class)).count()
}

fn weigh(
    input: &Input<'_>,
    weights: &[f32],
    bias: &[f32],
    shot_states: &[LeftOut],
    canary_states: &[LeftOut],
) -> Result<Evidence> {
    let mut e = Evidence { has_old: input.old.is_some(), classes_removed: removed(input), ..Evidence::default() };
    let mut largest: Option<(u16, usize)> = None;
    let mut largest_known = 0;
    let Labelled { rows, classes } = input.shots;
    for (i, ((row, &class), state)) in rows.iter().zip(classes).zip(shot_states).enumerate() {
        let old_state = input.old.map_or(LeftOut::New, |old| old.shots.get(i).copied().unwrap_or_default());
        e.shots_added += usize::from(old_state == LeftOut::New);
        let Some(new_ok) = verdict(*state) else { continue };
        let old = match &input.old {
            None => Some((false, false)),
            Some(old) => old_verdict(old, old_state, class, row)?,
        };
        let Some((known, old_ok)) = old else { continue };
        e.judged += 1;
        e.new_right += usize::from(new_ok);
        e.old_right += usize::from(old_ok);
        e.gained += usize::from(new_ok && !old_ok);
        e.lost += usize::from(old_ok && !new_ok);
        e.known += usize::from(known);
        e.known_gained += usize::from(known && new_ok && !old_ok);
        e.known_lost += usize::from(known && old_ok && !new_ok);
        if largest.is_none_or(|(counted, _)| counted != class) {
            let count = classes.iter().zip(shot_states).filter(|(c, s)| **c == class && verdict(**s).is_some()).count();
            if largest.is_none_or(|(_, most)| count > most) {
                largest = Some((class, count));
            }
            if known {
                largest_known = count.max(largest_known);
            }
        }
    }
    e.largest_class = largest.map_or(0, |(_, count)| count.min(e.judged));
    e.largest_known = largest_known.min(e.known);
    let Some(old) = &input.old else { return Ok(e) };
    e.classes_added = old.class_of.iter().filter(|&&class| class == NO_CLASS).count();
    for (i, class) in canaries_in(input) {
        let Some(row) = input.canaries.and_then(|canaries| canaries.rows.get(i)) else { continue };
        let new_ok = match canary_states.get(i).copied().unwrap_or_default() {
            LeftOut::New => Some(predict(&input.spec, row, weights, bias) == class),
            state => verdict(state),
        };
        let old_state = old.canaries.get(i).copied().unwrap_or_default();
        let (Some(new_ok), Some((true, old_ok))) = (new_ok, old_verdict(old, old_state, class, row)?) else { continue };
        e.canaries += 1;
        e.canaries_before += usize::from(old_ok);
        e.canaries_after += usize::from(new_ok);
    }
    Ok(e)
}

/// How many of the shots that are new to the head in use, of classes that it knows, have become surer and less sure; `left_out` holds the
/// probability of each shot's class when the shot is left out.
fn compare_probabilities(input: &Input<'_>, left_out: &[f32]) -> Result<(usize, usize)> {
    let Some(old) = &input.old else { return Ok((0, 0)) };
    let (mut surer, mut less_sure) = (0, 0);
    for (i, ((row, &class), &after)) in input.shots.rows.iter().zip(input.shots.classes).zip(left_out).enumerate() {
        let its_class = old.class_of.get(usize::from(class)).copied().unwrap_or(NO_CLASS);
        if its_class == NO_CLASS || old.shots.get(i).copied().unwrap_or_default() != LeftOut::New {
            continue;
        }
        let before = old.head.share(usize::from(its_class), row)?;
        surer += usize::from(after > before);
        less_sure += usize::from(after < before);
    }
    Ok((surer, less_sure))
}

fn verdict(state: LeftOut) -> Option<bool> {
    match state {
        LeftOut::Right => Some(true),
        LeftOut::Wrong => Some(false),
        LeftOut::New | LeftOut::Unjudged => None,
    }
}

/// Whether the old head knows the class, and whether it answers rightly; `None` where it has no fair answer.
fn old_verdict(old: &OldHead<'_>, state: LeftOut, class: u16, row: &[u8]) -> Result<Option<(bool, bool)>> {
    let its_class = old.class_of.get(usize::from(class)).copied().unwrap_or(NO_CLASS);
    if its_class == NO_CLASS {
        return Ok(Some((false, false)));
    }
    let ok = match state {
        LeftOut::New => Some(old.head.predict(row)?.class == usize::from(its_class)),
        state => verdict(state),
    };
    Ok(ok.map(|ok| (true, ok)))
}
