//! New classes are held back until known ones keep their canaries.
//!
//! What a base head knows is far more than its canaries show, and a new class takes from it wherever it is not seen to. After the fit
//! with a prior, every example is asked again as if it had been left out: to first order, leaving out example i moves its scores by
//! ℓᵢ/(1 − c·ℓᵢ)·(Pᵢ − Yᵢ), with the mean curvature c and ℓᵢ = wᵢ·xᵢᵀ·(c·H + λ·I)⁻¹·xᵢ (approximate leave-one-out: Rahnama Rad and Maleki
//! 2020; here with the Hessian that the preconditioner has). As in [`super::loo`] a class's prior loses nothing by it. Then the biases
//! of all new classes are lowered by the least that leaves the known ones the share of canaries that is asked for.

use super::linalg::exp;
use super::loo::{Judged, UNJUDGED};
use super::newton::{self, Problem};
use super::prior::Prior;
use super::workspace::Buffers;

/// Lowers the biases of the new classes and writes the left-out answers of all that can be judged; `lose` is the share of replayed
/// examples that may go to new classes.
pub fn hold_back(
    problem: &Problem<'_>,
    prior: &Prior<'_>,
    judged: &Judged<'_>,
    lose: f32,
    total: f32,
    b: &mut Buffers<'_>,
    answers: &mut [u16],
) {
    leave_out(problem, total, b);
    let (space, own) = (&problem.space, judged.own);
    let mut may_be_lost = (lose * judged.labels.len().saturating_sub(own) as f32) as usize;
    // By how much a new class beats the right one, where the right one is the best of those known; 0 where nothing is at stake.
    let leads = &mut *b.per_shot;
    leads.fill(0.0);
    for (i, (lead, &label)) in leads.iter_mut().zip(judged.labels).enumerate().skip(own) {
        let scores = || b.work.iter().skip(i).step_by(space.width).copied().enumerate();
        let best = |known: bool| {
            let among = scores().filter(|(class, _)| prior.class(*class).is_some() == known);
            among.fold((None, f32::NEG_INFINITY), |best, (c, z)| if z > best.1 { (Some(c), z) } else { best })
        };
        let (answer, score) = best(true);
        if answer == Some(usize::from(label)) {
            *lead = best(false).1 - score;
        } else {
            may_be_lost = may_be_lost.saturating_sub(1);
        }
    }
    let shift = loop {
        let (at, lead) = largest(leads);
        if lead <= 0.0 || may_be_lost == 0 {
            // A little more, lest rounding gives the row to the new class all the same.
            break lead.max(0.0) * (1.0 + 1e-4);
        }
        may_be_lost -= 1;
        if let Some(lead) = leads.get_mut(at) {
            *lead = 0.0;
        }
    };
    for (class, bias) in b.bias.iter_mut().enumerate() {
        if prior.class(class).is_none() {
            *bias -= shift;
        }
    }
    for (i, answer) in answers.iter_mut().enumerate().filter(|(_, answer)| **answer != UNJUDGED) {
        let mut best = (f32::NEG_INFINITY, 0u16);
        for (&z, class) in b.work.iter().skip(i).step_by(space.width).zip(0u16..) {
            let z = if prior.class(usize::from(class)).is_none() { z - shift } else { z };
            if z > best.0 {
                best = (z, class);
            }
        }
        *answer = best.1;
    }
    probabilities(judged, prior, shift, space.width, b);
}

/// What every left-out example's own class has of the probability, into `per_shot`.
fn probabilities(judged: &Judged<'_>, prior: &Prior<'_>, shift: f32, width: usize, b: &mut Buffers<'_>) {
    for (i, (out, &label)) in b.per_shot.iter_mut().zip(judged.labels).enumerate() {
        let score = |(class, z): (usize, &f32)| if prior.class(class).is_none() { *z - shift } else { *z };
        let scores = || b.work.iter().skip(i).step_by(width).enumerate().map(score);
        let largest = scores().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores().map(|z| exp(z - largest)).sum();
        *out = exp(scores().nth(usize::from(label)).unwrap_or(largest) - largest) / sum;
    }
}

/// Classes that an error is spread over at most: of many classes each is confused with a few.
const CONFUSED_WITH: f32 = 12.0;

fn largest(values: &[f32]) -> (usize, f32) {
    let values = values.iter().copied().enumerate();
    values.fold((0, f32::NEG_INFINITY), |best, (i, v)| if v > best.1 { (i, v) } else { best })
}

/// The scores that every example has when it is left out, into `work`.
fn leave_out(problem: &Problem<'_>, total: f32, b: &mut Buffers<'_>) {
    let space = &problem.space;
    let others = problem.classes as f32 - 1.0;
    let curvature = newton::mean_curvature(problem, total, b) * (others / others.min(CONFUSED_WITH));
    space.t.factor(curvature, problem.l2, b.lower, b.inverse);
    space.leverages(b.lower, b.inverse, b.per_shot);
    for leverage in b.per_shot.iter_mut() {
        *leverage /= (1.0 - curvature * *leverage).max(1e-3);
    }
    let scores = b.image.chunks_exact(space.width).zip(b.probability.chunks_exact(space.width));
    for ((out, (z, p)), &bias) in b.work.chunks_exact_mut(space.width).zip(scores).zip(b.bias.iter()) {
        for (((out, &z), &p), &step) in out.iter_mut().zip(z).zip(p).zip(b.per_shot.iter()) {
            *out = z + bias + step * p;
        }
    }
    let steps = &*b.per_shot;
    space.add_to_own(problem.labels, b.work, |i| steps.get(i).map_or(0.0, |step| -step));
}
