//! Leave-one-out in closed form, to choose the L2 strength and to judge the new head.
//!
//! The companion is ridge regression on one-hot targets over the same centred shots: for a linear smoother with diagonal
//! hᵢ the left-out residual is eᵢ/(1 − hᵢ) (the PRESS identity, Allen 1974), so that one factorization per strength gives the answers
//! of N refits. Leaving a shot out also takes it from its class's prior; that share is given back, since a shot to be judged in
//! use takes nothing from the prior. Shots whose class has no other shot cannot be judged and do not count.

use super::linalg::{dot, invert_lower, sum};
use super::space::Space;
use super::workspace::Buffers;

/// Strengths that are tried, weakest first.
pub const GRID: [f32; 8] = [0.003_906_25, 0.007_812_5, 0.015_625, 0.031_25, 0.062_5, 0.125, 0.25, 0.5];
/// Strength where leave-one-out has nothing to say (one shot a class).
pub const DEFAULT_L2: f32 = 0.125;
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
    /// Weight of each shot, positive.
    pub weights: &'a [f32],
    /// Number of classes C.
    pub classes: usize,
}

impl Judged<'_> {
    fn own(&self) -> usize {
        if self.own == 0 { self.labels.len() } else { self.own }
    }
}

/// Chooses from `strengths` by the mean squared left-out error, the stronger of two equal ones; writes each shot's left-out answer.
///
/// With fewer than two classes of two own shots there is nothing to choose by: [`DEFAULT_L2`], or the only strength given.
pub fn choose(
    space: &Space<'_>,
    judged: &Judged<'_>,
    strengths: &[f32],
    b: &mut Buffers<'_>,
    answers: &mut [u16],
) -> Choice {
    answers.fill(UNJUDGED);
    count(judged, b);
    let eligible = b.bias_step.iter().filter(|&&count| count >= 2.0).count();
    let single = [if let [only] = strengths { *only } else { DEFAULT_L2 }];
    let strengths = if eligible < 2 { &single } else { strengths };
    let mut best: Option<(f32, f32)> = None;
    for &l2 in strengths {
        left_out_scores(space, judged, l2 / COMPANION_CURVATURE, b);
        let error = squared_error(judged, b);
        if best.is_none_or(|(least, _)| error <= least) {
            best = Some((error, l2));
            record_answers(judged, b, answers);
        }
    }
    let own = judged.own();
    let scored = answers.iter().zip(judged.labels).take(own).filter(|(answer, _)| **answer != UNJUDGED);
    let (right, scored) =
        scored.fold((0u32, 0u32), |(right, scored), (answer, label)| (right + u32::from(answer == label), scored + 1));
    Choice {
        l2: best.map_or(DEFAULT_L2, |(_, l2)| l2),
        accuracy: (eligible >= 2 && scored > 0).then(|| right as f32 / scored as f32),
    }
}

/// Per class, in buffers that the solver overwrites later: weight's share (`bias_product`), shots (`bias_residual`), own shots
/// (`bias_step`).
fn count(judged: &Judged<'_>, b: &mut Buffers<'_>) {
    b.bias_product.fill(0.0);
    b.bias_residual.fill(0.0);
    b.bias_step.fill(0.0);
    for (i, (&label, &weight)) in judged.labels.iter().zip(judged.weights).enumerate() {
        let class = usize::from(label);
        let own = if i < judged.own() { 1.0 } else { 0.0 };
        for (counts, add) in [(&mut *b.bias_product, weight), (&mut *b.bias_residual, 1.0), (&mut *b.bias_step, own)] {
            if let Some(count) = counts.get_mut(class) {
                *count += add;
            }
        }
    }
    let total = sum(judged.weights);
    b.bias_product.iter_mut().for_each(|share| *share /= total);
}

/// Left-out scores of every shot into `work` (C rows of N).
fn left_out_scores(space: &Space<'_>, judged: &Judged<'_>, ridge: f32, b: &mut Buffers<'_>) {
    let (n, size) = (space.shots(), space.size());
    let Judged { labels, weights, .. } = *judged;
    // Centred one-hot targets.
    for ((c, y), &prior) in b.work.chunks_exact_mut(n).enumerate().zip(b.bias_product.iter()) {
        for (y, &label) in y.iter_mut().zip(labels) {
            *y = if usize::from(label) == c { 1.0 } else { 0.0 } - prior;
        }
    }
    space.factor(weights, 1.0, ridge, b.factor);
    match *space {
        Space::Shots { roots, .. } => {
            // Residuals: ridge·M⁻¹(√w∘y)/√w. The solver's own scaling divides first, hence the weight.
            for (alpha, y) in b.unknown.chunks_exact_mut(n).zip(b.work.chunks_exact(n)) {
                for ((alpha, &y), &w) in alpha.iter_mut().zip(y).zip(weights) {
                    *alpha = w * y;
                }
            }
            space.solve(b.factor, b.unknown);
            for (e, alpha) in b.correction_image.chunks_exact_mut(n).zip(b.unknown.chunks_exact(n)) {
                for ((e, &alpha), &w) in e.iter_mut().zip(alpha).zip(weights) {
                    *e = ridge * alpha / w;
                }
            }
            debug_assert_eq!(roots.len(), n);
            invert_lower(b.factor, n, b.scratch);
            // Diagonal of the inverse: column norms of L⁻¹.
            b.per_shot.fill(0.0);
            for (k, row) in b.factor.chunks_exact(n).enumerate() {
                for (d, &x) in b.per_shot.iter_mut().zip(row.get(..=k).unwrap_or_default()) {
                    *d += x * x;
                }
            }
            for d in b.per_shot.iter_mut() {
                *d = 1.0 - ridge * *d;
            }
        }
        Space::Dimensions { features, dim, .. } => {
            for (t, y) in b.probability.chunks_exact_mut(n).zip(b.work.chunks_exact(n)) {
                for ((t, &y), &w) in t.iter_mut().zip(y).zip(weights) {
                    *t = w * y;
                }
            }
            space.pull(b.probability, b.unknown);
            space.solve(b.factor, b.unknown);
            space.image(b.unknown, b.correction_image);
            for (e, &y) in b.correction_image.iter_mut().zip(b.work.iter()) {
                *e = y - *e;
            }
            invert_lower(b.factor, dim, b.scratch);
            for ((h, x), &w) in b.per_shot.iter_mut().zip(features.chunks_exact(dim)).zip(weights) {
                *h = 0.0;
                for (k, row) in b.factor.chunks_exact(size).enumerate() {
                    let z = dot(row.get(..=k).unwrap_or_default(), x);
                    *h += z * z;
                }
                *h *= w;
            }
        }
    }
    // Scores: target − left-out residual, and the prior given back.
    let total = sum(weights);
    for ((h, inverse), &w) in b.per_shot.iter().zip(b.per_shot_sum.iter_mut()).zip(weights) {
        *inverse = 1.0 / (1.0 - *h - w / total).max(1e-6);
    }
    let rows = b.work.chunks_exact_mut(n).zip(b.correction_image.chunks_exact(n)).enumerate();
    for ((c, (z, e)), &prior) in rows.zip(b.bias_product.iter()) {
        for ((((z, &e), &inverse), &label), &w) in
            z.iter_mut().zip(e).zip(b.per_shot_sum.iter()).zip(labels).zip(weights)
        {
            let target = if usize::from(label) == c { 1.0 } else { 0.0 };
            *z = target - e * inverse + (target - prior) * (w / (total - w));
        }
    }
}

/// Over the owner's shots whose class has another.
fn squared_error(judged: &Judged<'_>, b: &Buffers<'_>) -> f32 {
    let mut error = 0.0f32;
    for (c, z) in b.work.chunks_exact(judged.labels.len()).enumerate() {
        for (&z, &label) in z.iter().zip(judged.labels).take(judged.own()) {
            if at_least_two(b.bias_step, label) {
                let target = if usize::from(label) == c { 1.0 } else { 0.0 };
                error += (z - target) * (z - target);
            }
        }
    }
    error
}

fn at_least_two(counts: &[f32], label: u16) -> bool {
    counts.get(usize::from(label)).is_some_and(|&count| count >= 2.0)
}

fn record_answers(judged: &Judged<'_>, b: &Buffers<'_>, answers: &mut [u16]) {
    let n = judged.labels.len();
    for (i, (answer, &label)) in answers.iter_mut().zip(judged.labels).enumerate() {
        // An own shot that is the only own one of its class would be judged by strangers' canaries alone.
        let counts = if i < judged.own() { &*b.bias_step } else { &*b.bias_residual };
        if !at_least_two(counts, label) {
            continue;
        }
        let mut best = (f32::NEG_INFINITY, 0u16);
        for (score, class) in b.work.iter().skip(i).step_by(n).take(judged.classes).zip(0u16..) {
            if *score > best.0 {
                best = (*score, class);
            }
        }
        *answer = best.1;
    }
}
