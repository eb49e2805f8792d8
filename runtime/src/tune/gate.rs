//! The acceptance gate: whether a tuned head replaces the one in use, and why.
//!
//! [`decide`] is a pure function of counts. What it compares are answers to shots that neither head learned from: left-out
//! answers of the new head, and of the old one the left-out answers that were stored when it was made (or plain answers
//! to shots that came later). Ties keep the old head.
//!
//! ```
//! use hone_runtime::tune::gate::{Evidence, decide};
//!
//! let shots = Evidence { judged: 50, old_right: 20, new_right: 27, gained: 9, lost: 2, largest_class: 5, ..Evidence::default() };
//! let decision = decide(&Evidence { has_old: true, shots_added: 50, ..shots }, 0.1);
//! assert!(decision.accepted);
//! assert_eq!(decision.reason.to_string(), "better: +9 -2 of 50 shots (leave-one-out 0.40 -> 0.54)");
//! ```

use core::fmt;

/// Largest share of canaries that may be lost, unless the caller says otherwise.
pub const FORGET_LIMIT: f32 = 0.10;

/// What is known of one shot or canary with respect to a head: stored beside it, so that the next tuning can compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum LeftOut {
    /// The head was not tuned with it: its plain answer is a fair one.
    #[default]
    New = 0,
    /// The head was tuned with it, and is wrong about it when it is left out.
    Wrong = 1,
    /// The head was tuned with it, and is right about it when it is left out.
    Right = 2,
    /// The head was tuned with it, and leaving it out says nothing (the only one of its class).
    Unjudged = 3,
}

impl LeftOut {
    /// The state whose `as u8` is `code`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::New, Self::Wrong, Self::Right, Self::Unjudged].get(usize::from(code)).copied()
    }
}

/// Counts over the owner's shots and the canaries; see [`super::tune`], which fills it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Whether there is a head to replace.
    pub has_old: bool,
    /// Shots that the old head was not tuned with.
    pub shots_added: usize,
    /// Classes of the new head that the old one does not know.
    pub classes_added: usize,
    /// Classes of the old head that the new one does not know.
    pub classes_removed: usize,
    /// Of those, classes that nobody asked to remove: they have neither shots nor canaries to learn from any more.
    pub classes_dropped: usize,
    /// Shots with a fair answer of both heads. A class that the old head does not know counts as a wrong answer of it.
    pub judged: usize,
    /// Of those, right by the old head.
    pub old_right: usize,
    /// Of those, right by the new head.
    pub new_right: usize,
    /// Of those, right by the new head only.
    pub gained: usize,
    /// Of those, right by the old head only.
    pub lost: usize,
    /// Of those, in the class that has most of them.
    pub largest_class: usize,
    /// Of those, of classes that the old head knows.
    pub known: usize,
    /// Of the known ones, in the class that has most of them.
    pub largest_known: usize,
    /// Of the known ones, right by the new head only.
    pub known_gained: usize,
    /// Of the known ones, right by the old head only.
    pub known_lost: usize,
    /// Shots new to the old head of a class that it knows, to whose class the new head gives more when they are left out.
    pub surer: usize,
    /// The same, less.
    pub less_sure: usize,
    /// Canaries of classes in both heads, with a fair answer of both.
    pub canaries: usize,
    /// Of those, right by the old head.
    pub canaries_before: usize,
    /// Of those, right by the new head.
    pub canaries_after: usize,
}

impl Evidence {
    /// Share of canaries that the old head gets right, 0..=1.
    #[must_use]
    pub fn canary_before(&self) -> Option<f32> {
        share(self.canaries_before, self.canaries)
    }

    /// Share of canaries that the new head gets right, 0..=1.
    #[must_use]
    pub fn canary_after(&self) -> Option<f32> {
        share(self.canaries_after, self.canaries)
    }
}

/// The gate's answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Whether the new head is to be used.
    pub accepted: bool,
    /// Why.
    pub reason: Reason,
}

/// Why a head is accepted or refused; `Display` gives the sentence.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Accepted: only classes were removed, as asked.
    ClassesRemoved,
    /// Refused: classes would leave that nobody asked to remove.
    DropsClasses {
        /// How many.
        classes: usize,
    },
    /// Refused: too many canaries are lost.
    Forgets {
        /// Share of canaries right before, 0..=1.
        before: f32,
        /// Share right after.
        after: f32,
        /// Largest loss allowed.
        limit: f32,
    },
    /// Accepted: there was no head.
    FirstHead {
        /// Left-out accuracy; `None`: no class has two shots.
        accuracy: Option<f32>,
        /// Shots that it was measured on.
        shots: usize,
    },
    /// Accepted: shots or classes came, and there are too few to measure with.
    TooFewShots {
        /// Share of canaries right before and after.
        canaries: Option<(f32, f32)>,
    },
    /// Refused: nothing came, and there is nothing to measure with.
    NothingNew,
    /// Refused: left-out answers are no better than guessing the largest class.
    Guessing {
        /// Left-out accuracy.
        accuracy: f32,
        /// Shots that it was measured on.
        shots: usize,
    },
    /// Refused: classes came, and those known before suffer.
    LosesKnown {
        /// Shots of known classes that only the new head gets right.
        gained: usize,
        /// Shots of known classes that only the old head gets right.
        lost: usize,
        /// Shots of known classes.
        shots: usize,
        /// Largest loss allowed.
        limit: f32,
    },
    /// Accepted: more shots are gained than lost.
    Better {
        /// Shots that only the new head gets right.
        gained: usize,
        /// Shots that only the old head gets right.
        lost: usize,
        /// Shots compared.
        shots: usize,
        /// Accuracy of the old head on them.
        before: f32,
        /// Accuracy of the new head on them.
        after: f32,
    },
    /// Accepted: as many shots are gained as lost, and of the new ones clearly more have become surer than less sure.
    Surer {
        /// Shots whose class has become likelier.
        surer: usize,
        /// Shots whose class has become less likely.
        less_sure: usize,
        /// Shots compared.
        shots: usize,
    },
    /// Refused: as many shots are gained as lost.
    NoDifference {
        /// Shots compared.
        shots: usize,
    },
    /// Refused: more shots are lost than gained.
    Worse {
        /// Shots that only the new head gets right.
        gained: usize,
        /// Shots that only the old head gets right.
        lost: usize,
        /// Shots compared.
        shots: usize,
    },
}

impl Reason {
    /// Stable identifier for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClassesRemoved => "classes-removed",
            Self::DropsClasses { .. } => "drops-classes",
            Self::Forgets { .. } => "forgets",
            Self::FirstHead { .. } => "first-head",
            Self::TooFewShots { .. } => "too-few-shots",
            Self::NothingNew => "nothing-new",
            Self::Guessing { .. } => "guessing",
            Self::LosesKnown { .. } => "loses-known",
            Self::Better { .. } => "better",
            Self::Surer { .. } => "surer",
            Self::NoDifference { .. } => "no-difference",
            Self::Worse { .. } => "worse",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ClassesRemoved => f.write_str("classes removed"),
            Self::DropsClasses { classes } => {
                write!(f, "drops classes: {classes} of the head in use have neither shots nor canaries")
            }
            Self::Forgets { before, after, limit } => {
                write!(f, "forgets: canaries {before:.2} -> {after:.2}, limit {limit:.2}")
            }
            Self::FirstHead { accuracy: Some(accuracy), shots } => {
                write!(f, "first head, leave-one-out {accuracy:.2} on {shots} shots")
            }
            Self::FirstHead { accuracy: None, .. } => f.write_str("first head, one shot per class: not measured"),
            Self::TooFewShots { canaries } => {
                f.write_str("too few shots to measure (1 per class)")?;
                canaries.map_or(Ok(()), |(before, after)| write!(f, ", canaries {before:.2} -> {after:.2}"))
            }
            Self::NothingNew => f.write_str("nothing new: no shots or classes since the head in use"),
            Self::Guessing { accuracy, shots } => {
                write!(f, "no better than guessing ({accuracy:.2} on {shots} shots): are the labels right?")
            }
            Self::LosesKnown { gained, lost, shots, limit } => {
                write!(f, "loses known classes: +{gained} -{lost} of {shots} shots, limit {limit:.2}")
            }
            Self::Better { gained, lost, shots, before, after } => {
                write!(f, "better: +{gained} -{lost} of {shots} shots (leave-one-out {before:.2} -> {after:.2})")
            }
            Self::Surer { surer, less_sure, shots } => {
                write!(f, "surer: the same answers to {shots} shots, {surer} of them surer and {less_sure} less sure")
            }
            Self::NoDifference { shots } => {
                write!(f, "no difference on {shots} shots")
            }
            Self::Worse { gained, lost, shots } => write!(f, "worse: +{gained} -{lost} of {shots} shots"),
        }
    }
}

/// Whether the new head replaces the old one. `forget_limit`: largest share of canaries that may be lost; [`FORGET_LIMIT`] by
/// default, 1 allows everything.
///
/// Where classes came, every shot has become harder. Then shots of known classes may be lost as well, unless more are than the limit
/// and one standard deviation (of paired answers, McNemar 1947) allow, and all answers are worse beyond the limit when the share that
/// guessing gets right is taken off (as Cohen's kappa does, 1960).
///
/// With one shot a class leave-one-out says nothing: a left-out shot leaves none of its class behind. Such a head
/// is accepted when it does not forget.
#[must_use]
pub fn decide(evidence: &Evidence, forget_limit: f32) -> Decision {
    let e = evidence;
    let accept = |reason| Decision { accepted: true, reason };
    let refuse = |reason| Decision { accepted: false, reason };
    if e.classes_removed > 0 && e.classes_added == 0 && e.shots_added == 0 {
        return accept(Reason::ClassesRemoved);
    }
    if e.classes_dropped > 0 {
        return refuse(Reason::DropsClasses { classes: e.classes_dropped });
    }
    let canaries = e.canary_before().zip(e.canary_after());
    if let Some((before, after)) = canaries
        && e.has_old
        && exceeds(e.canaries_before, e.canaries_after, e.canaries, forget_limit)
    {
        return refuse(Reason::Forgets { before, after, limit: forget_limit });
    }
    let accuracy = share(e.new_right, e.judged);
    if !e.has_old {
        return accept(Reason::FirstHead { accuracy, shots: e.judged });
    }
    let Some((after, before)) = accuracy.zip(share(e.old_right, e.judged)) else {
        return if e.shots_added > 0 || e.classes_added > 0 {
            accept(Reason::TooFewShots { canaries })
        } else {
            refuse(Reason::NothingNew)
        };
    };
    // One standard deviation of the guess's own accuracy above it. With shots of one class only there is nothing to guess.
    let guess = e.largest_class as f32 / e.judged as f32;
    if guess < 1.0 && after <= guess + libm::sqrtf(guess * (1.0 - guess) / e.judged as f32) {
        return refuse(Reason::Guessing { accuracy: after, shots: e.judged });
    }
    if e.classes_added > 0 && loses_known(e, forget_limit) {
        return refuse(Reason::LosesKnown {
            gained: e.known_gained,
            lost: e.known_lost,
            shots: e.known,
            limit: forget_limit,
        });
    }
    let Evidence { judged: shots, gained, lost, .. } = *e;
    match gained.cmp(&lost) {
        core::cmp::Ordering::Greater => accept(Reason::Better { gained, lost, shots, before, after }),
        // One standard deviation of a coin's sum, as everywhere here.
        core::cmp::Ordering::Equal
            if e.surer.saturating_sub(e.less_sure) as f32 > libm::sqrtf((e.surer + e.less_sure) as f32) =>
        {
            accept(Reason::Surer { surer: e.surer, less_sure: e.less_sure, shots })
        }
        core::cmp::Ordering::Equal => refuse(Reason::NoDifference { shots }),
        core::cmp::Ordering::Less => refuse(Reason::Worse { gained, lost, shots }),
    }
}

fn loses_known(e: &Evidence, limit: f32) -> bool {
    let deviation = libm::sqrtf((e.known_lost + e.known_gained) as f32);
    let lost = e.known_lost.saturating_sub(e.known_gained) as f32 - deviation;
    if lost <= limit * e.known as f32 * (1.0 + 1e-6) {
        return false;
    }
    match (
        above_guessing(e.old_right, e.known, e.largest_known),
        above_guessing(e.new_right, e.judged, e.largest_class),
    ) {
        (Some(before), Some(after)) => before - after > limit,
        _ => true,
    }
}

/// Accuracy without what guessing the largest class gets right, 1 at best; `None` where all are of one class.
fn above_guessing(right: usize, of: usize, largest: usize) -> Option<f32> {
    (largest < of).then(|| (right as f32 - largest as f32) / (of - largest) as f32)
}

/// Whether a fall from `before` to `after` of `of` is more than the limit. A loss of exactly the limit is allowed, whatever
/// f32 makes of the limit times the count.
fn exceeds(before: usize, after: usize, of: usize, limit: f32) -> bool {
    before.saturating_sub(after) as f32 > limit * of as f32 * (1.0 + 1e-6)
}

fn share(part: usize, whole: usize) -> Option<f32> {
    (whole > 0).then(|| part as f32 / whole as f32)
}
