//! Leave-one-out in closed form, to choose the L2 strength and to judge the new head.
//!
//! The companion is ridge regression on one-hot targets over the same centred shots: for a linear smoother with diagonal
//! hᵢ the left-out residual is eᵢ/(1 − hᵢ) (the PRESS identity, Allen 1974), so that one factorization gives the answers
//! of N refits, and the tridiagonal form of `space` gives the factorizations of all strengths. Leaving a shot out also takes it
//! from its class's prior; that share is given back, since a shot to be judged in use takes nothing from the prior. Shots whose class has no
//! other shot cannot be judged and do not count.

use super::linalg::sum;
use super::prior::{self, Prior};
use super::space::{Side, Space};
use super::tridiagonal;
use super::workspace::Buffers;

/// Strengths that are tried, weakest first.
pub const GRID: [f32; 8] = [0.003_906_25, 0.007_812_5, 0.015_625, 0.031_25, 0.062_5, 0.125, 0.25, 0.5];
/// Strengths that are tried where there is a prior to stay with. Stronger ones would leave it to the biases of new classes to be found.
pub const PRIOR_GRID: [f32; 8] = [0.001_953_125, 0.003_906_25, 0.007_812_5, 0.015_625, 0.031_25, 0.062_5, 0.125, 0.25];
/// Strength where leave-one-out has nothing to say (one shot a class).
pub const DEFAULT_L2: f32 = 0.125;
/// The same where there is a prior.
const DEFAULT_PRIOR_L2: f32 = 0.031_25;
/// Mean curvature p·(1 − p) of the softmax that relates its strength to the companion's.
const COMPANION_CURVATURE: f32 = 0.2;
/// The answer for a shot that cannot be judged.
pub const UNJUDGED: u16 = u16::MAX;

/// The chosen strength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// λ.
    pub l2: f32,
    /// Share of right answers among the shots that can be judged; `None` when there is none.
    pub accuracy: Option<f32>,
}

/// Who is judged: left-out answers are given for every shot that has another of its class; the strength is chosen, and the
/// accuracy counted, by the owner's shots alone (by all, where the owner has none).
pub struct Judged<'a> {
    /// Class of each shot.
    pub labels: &'a [u16],
    /// How many of them, from the first on, are the owner's.
    pub own: usize,
    /// Number of classes C.
    pub classes: usize,
    /// The head that is started from; its scores of every shot are in `image`.
    pub prior: Option<Prior<'a>>,
}

impl Judged<'_> {
    fn own(&self) -> usize {
        if self.own == 0 { self.labels.len() } else { self.own }
    }

    /// How many shots a class needs so that something of it is left when one is left out: of a class that the prior knows, one.
    fn needed(&self, class: u16) -> f32 {
        if self.prior.is_some_and(|prior| prior.class(usize::from(class)).is_some()) { 1.0 } else { 2.0 }
    }
}

/// Chooses from `strengths` by the mean squared left-out error, the stronger of two equal ones; writes each shot's left-out answer.
///
/// Leaves each class's share of the weights in `bias_product`, and the derivatives by those priors, pulled back, in `residual`: where
/// `newton` starts.
///
/// With fewer than two classes of two own shots there is nothing to choose by: [`DEFAULT_L2`], or the only strength given. With a prior one
/// class is enough, and of those that it knows one shot; otherwise a default of its own.
pub fn choose(
    space: &Space<'_>,
    judged: &Judged<'_>,
    strengths: &[f32],
    b: &mut Buffers<'_>,
    answers: &mut [u16],
) -> Choice {
    answers.fill(UNJUDGED);
    let total = sum(space.weights);
    count(space, judged, total, b);
    baseline(space, judged, total, b);
    targets(space, judged, b);
    let eligible = (0..).zip(b.bias_step.iter()).filter(|(class, count)| **count >= judged.needed(*class)).count();
    let (enough, default, companion) = match judged.prior {
        Some(_) => (1, DEFAULT_PRIOR_L2, curvature(space, judged, total, b)),
        None => (2, DEFAULT_L2, COMPANION_CURVATURE),
    };
    let single = [if let [only] = strengths { *only } else { default }];
    let strengths = if eligible < enough { &single } else { strengths };
    let mut best: Option<(f32, f32)> = None;
    for &l2 in strengths {
        left_out_errors(space, judged, l2 / companion, total, b);
        let error = squared_error(judged, space.weights, b);
        if best.is_none_or(|(least, _)| error <= least) {
            best = Some((error, l2));
            record_answers(space, judged, b, answers);
        }
    }
    let accuracy = if eligible >= enough { accuracy(judged, answers) } else { None };
    Choice { l2: best.map_or(default, |(_, l2)| l2), accuracy }
}

/// Share of right answers among the owner's shots that are judged.
pub fn accuracy(judged: &Judged<'_>, answers: &[u16]) -> Option<f32> {
    let scored = answers.iter().zip(judged.labels).take(judged.own()).filter(|(answer, _)| **answer != UNJUDGED);
    let (right, scored) =
        scored.fold((0u32, 0u32), |(right, scored), (answer, label)| (right + u32::from(answer == label), scored + 1));
    (scored > 0).then(|| right as f32 / scored as f32)
}

/// Per class: weight's share (`bias_product`), shots (`bias_residual`), own shots (`bias_step`).
fn count(space: &Space<'_>, judged: &Judged<'_>, total: f32, b: &mut Buffers<'_>) {
    b.bias_product.fill(0.0);
    b.bias_residual.fill(0.0);
    b.bias_step.fill(0.0);
    for (i, (&label, &weight)) in judged.labels.iter().zip(space.weights).enumerate() {
        let class = usize::from(label);
        let own = if i < judged.own() { 1.0 } else { 0.0 };
        for (counts, add) in [(&mut *b.bias_product, weight), (&mut *b.bias_residual, 1.0), (&mut *b.bias_step, own)] {
            if let Some(count) = counts.get_mut(class) {
                *count += add;
            }
        }
    }
    b.bias_product.iter_mut().for_each(|share| *share /= total);
}

/// Mean of p·(1 − p) over shots and classes of what [`baseline`] left: a prior is sure of most rows, and a softmax as sure is far flatter
/// than an even one.
fn curvature(space: &Space<'_>, judged: &Judged<'_>, total: f32, b: &Buffers<'_>) -> f32 {
    space.mean_curvature(b.probability, judged.classes, total).clamp(1e-4, COMPANION_CURVATURE)
}

/// What every shot's probabilities are before any is learned from, into `probability`, and the bias that goes with it.
fn baseline(space: &Space<'_>, judged: &Judged<'_>, total: f32, b: &mut Buffers<'_>) {
    if let Some(prior) = &judged.prior {
        prior::start(prior, judged.labels.len(), total, space.width, space.weights, b);
        return;
    }
    for ((p, bias), &share) in
        b.probability.chunks_exact_mut(space.width).zip(b.bias.iter_mut()).zip(b.bias_product.iter())
    {
        p.fill(share);
        *bias = libm::logf(share);
    }
}

/// The weighted, centred one-hot targets, pulled back into `residual`.
fn targets(space: &Space<'_>, judged: &Judged<'_>, b: &mut Buffers<'_>) {
    space.residuals(judged.labels, b.probability, b.work);
    space.pull(b.work, b.residual);
}

/// Left-out score minus target of every shot into `work` (C rows of N).
fn left_out_errors(space: &Space<'_>, judged: &Judged<'_>, ridge: f32, total: f32, b: &mut Buffers<'_>) {
    space.t.factor(1.0, ridge, b.lower, b.inverse);
    b.correction.copy_from_slice(b.residual);
    tridiagonal::solve(b.lower, b.inverse, b.correction, space.size);
    space.leverages(b.lower, b.inverse, b.per_shot);
    // Fitted score minus target, per shot, and 1 − h.
    let scale = match space.side {
        Side::Shots => {
            // The residual of (H + ridge·I)·α = y is ridge·α: no difference of nearly equal numbers.
            space.combine(b.correction, b.work);
            b.per_shot.iter_mut().for_each(|s| *s *= ridge);
            -ridge
        }
        Side::Dimensions => {
            space.combine(b.correction, b.work);
            b.work.iter_mut().zip(b.probability.iter()).for_each(|(z, &before)| *z += before);
            space.add_to_own(judged.labels, b.work, |_| -1.0);
            b.per_shot.iter_mut().for_each(|h| *h = 1.0 - *h);
            1.0
        }
    };
    // Per shot 1/(1 − h) of the smoother with its intercept, and the weight of the prior that is given back.
    for ((rest, back), &w) in b.per_shot.iter_mut().zip(b.per_shot_sum.iter_mut()).zip(space.weights) {
        *rest = scale / (*rest - w / total).max(1e-6);
        *back = w / (total - w);
    }
    for (z, before) in b.work.chunks_exact_mut(space.width).zip(b.probability.chunks_exact(space.width)) {
        for (((z, &before), &inverse), &back) in
            z.iter_mut().zip(before).zip(b.per_shot.iter()).zip(b.per_shot_sum.iter())
        {
            *z = *z * inverse - before * back;
        }
    }
    let back = &*b.per_shot_sum;
    space.add_to_own(judged.labels, b.work, |i| back.get(i).copied().unwrap_or_default());
}

/// Over the owner's shots whose class has another; with a prior, what is replayed counts by its weight.
fn squared_error(judged: &Judged<'_>, weights: &[f32], b: &mut Buffers<'_>) -> f32 {
    let squares = &mut *b.per_shot;
    squares.fill(0.0);
    for errors in b.work.chunks_exact(squares.len()) {
        for (square, &error) in squares.iter_mut().zip(errors) {
            *square += error * error;
        }
    }
    let own = squares.iter().zip(judged.labels).take(judged.own());
    let own: f32 = own
        .filter(|(_, label)| count_of(b.bias_step, **label) >= judged.needed(**label))
        .map(|(square, _)| square)
        .sum();
    if judged.prior.is_none() {
        return own;
    }
    let replayed = squares.iter().zip(weights).skip(judged.own());
    own + replayed.map(|(square, weight)| weight * square).sum::<f32>()
}

fn count_of(counts: &[f32], label: u16) -> f32 {
    counts.get(usize::from(label)).copied().unwrap_or_default()
}

fn record_answers(space: &Space<'_>, judged: &Judged<'_>, b: &Buffers<'_>, answers: &mut [u16]) {
    for (i, (answer, &label)) in answers.iter_mut().zip(judged.labels).enumerate() {
        // An own shot that is the only own one of its class would be judged by strangers' canaries alone.
        let is_judged = if i < judged.own() {
            count_of(b.bias_step, label) >= 2.0
        } else {
            count_of(b.bias_residual, label) >= judged.needed(label)
        };
        if !is_judged {
            continue;
        }
        let mut best = (f32::NEG_INFINITY, 0u16);
        for (&error, class) in b.work.iter().skip(i).step_by(space.width).take(judged.classes).zip(0u16..) {
            let score = if class == label { error + 1.0 } else { error };
            if score > best.0 {
                best = (score, class);
            }
        }
        *answer = best.1;
    }
}
