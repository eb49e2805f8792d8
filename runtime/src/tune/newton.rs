//! Softmax regression with L2, by inexact Newton steps.
//!
//! Minimises Σᵢ wᵢ·CE(softmax(zᵢ + b), yᵢ) + (λ/2)·‖W‖² over the unknown of a [`Space`] and the unpenalised bias b. With a prior
//! ([`super::prior`]) its scores are added to the zᵢ, and W and b are what is added to its rows.
//! Each Newton system is solved by conjugate gradients (truncated as in Dembo, Eisenstat and Steihaug 1982), with the
//! Hessian that has a mean curvature in place of each shot's as preconditioner: tridiagonal in the basis of the space, whatever the
//! curvature. It starts from the classes' priors and one such step, which is a ridge solution.

use super::linalg::{axpy, dot, exp, sum, xpay};
use super::prior::Prior;
use super::space::Space;
use super::tridiagonal;
use super::workspace::Buffers;

const MAX_STEPS: usize = 40;
const MAX_INNER: usize = 30;

/// How the solver ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Solved {
    /// Objective at the end.
    pub objective: f32,
    /// Newton steps.
    pub steps: usize,
    /// Whether the Newton decrement fell below the tolerance.
    pub converged: bool,
}

/// What is minimised.
pub struct Problem<'a> {
    /// The shots.
    pub space: Space<'a>,
    /// Class of each shot.
    pub labels: &'a [u16],
    /// Number of classes C.
    pub classes: usize,
    /// λ.
    pub l2: f32,
    /// The head whose scores each shot starts from; the biases of its classes are penalised too.
    pub prior: Option<Prior<'a>>,
    /// Relative accuracy of the objective at which to stop.
    pub tolerance: f32,
}

impl Problem<'_> {
    /// What the bias of a class is penalised with: λ where the prior knows the class, like one more weight.
    fn bias_ridge(&self, class: usize) -> f32 {
        if self.prior.is_some_and(|prior| prior.class(class).is_some()) { self.l2 } else { 0.0 }
    }
}

/// Solves from what [`super::loo::choose`] left: where to start in `bias` and `image`, and the gradient there in `residual`, negative. The
/// unknown is left in `buffers.unknown`, the bias in `buffers.bias`; with a prior both are what is added to its own.
pub fn solve(problem: &Problem<'_>, b: &mut Buffers<'_>) -> Solved {
    let Problem { space, l2, tolerance, .. } = problem;
    let (l2, total) = (*l2, sum(space.weights));
    for values in [&mut *b.unknown, &mut *b.step_image, &mut *b.bias_step] {
        values.fill(0.0);
    }
    let mut objective = evaluate(problem, 0.0, b);
    space.t.factor(mean_curvature(problem, total, b), l2, b.lower, b.inverse);
    b.step.copy_from_slice(b.residual);
    tridiagonal::solve(b.lower, b.inverse, b.step, space.size);
    space.image(b.step, b.correction, b.step_image);
    for steps in 0..MAX_STEPS {
        // The first step may find no descent: the ridge solution is not a Newton step where classes are not balanced.
        if !advance(problem, &mut objective, b) && steps > 0 {
            return Solved { objective, steps, converged: false };
        }
        gradient(problem, b);
        let curvature = mean_curvature(problem, total, b);
        space.t.factor(curvature, l2, b.lower, b.inverse);
        let rz = precondition(problem, curvature * total, b);
        if rz.is_nan() || rz <= 2.0 * tolerance * objective.max(1e-10) {
            return Solved { objective, steps: steps + 1, converged: !rz.is_nan() };
        }
        conjugate_gradients(problem, b, rz, objective, curvature * total);
    }
    Solved { objective, steps: MAX_STEPS, converged: false }
}

/// The curvature of the probabilities at hand.
pub fn mean_curvature(problem: &Problem<'_>, total: f32, b: &Buffers<'_>) -> f32 {
    problem.space.mean_curvature(b.probability, problem.classes, total).max(1e-6)
}

/// The negative gradient into `residual` and `bias_residual`.
fn gradient(problem: &Problem<'_>, b: &mut Buffers<'_>) {
    let space = &problem.space;
    // Derivatives of the loss by the scores, w·(P − Y), divided by √w and negative.
    space.residuals(problem.labels, b.probability, b.work);
    for (r, q) in b.bias_residual.iter_mut().zip(b.work.chunks_exact(space.width)) {
        *r = dot(q, space.roots);
    }
    space.pull(b.work, b.residual);
    axpy(-problem.l2, b.unknown, b.residual);
    for (class, (r, &bias)) in b.bias_residual.iter_mut().zip(b.bias.iter()).enumerate() {
        *r -= problem.bias_ridge(class) * bias;
    }
}

/// Preconditioned residual into `correction`; returns the inner product with the residual.
fn precondition(problem: &Problem<'_>, bias_curvature: f32, b: &mut Buffers<'_>) -> f32 {
    let space = &problem.space;
    b.correction.copy_from_slice(b.residual);
    tridiagonal::solve(b.lower, b.inverse, b.correction, space.size);
    for (class, (u, &r)) in b.bias_correction.iter_mut().zip(b.bias_residual.iter()).enumerate() {
        *u = r / (bias_curvature + problem.bias_ridge(class));
    }
    space.inner(b.residual, b.correction) + dot(b.bias_residual, b.bias_correction)
}

/// The step, its image and the bias's step from the residual, `rz` being its preconditioned norm.
fn conjugate_gradients(problem: &Problem<'_>, b: &mut Buffers<'_>, mut rz: f32, objective: f32, bias_curvature: f32) {
    let space = &problem.space;
    let root = libm::sqrtf(rz / objective.max(1e-10)).min(0.25);
    let enough = (root * root * rz).max(0.1 * problem.tolerance * objective);
    for values in [&mut *b.step, &mut *b.step_image, &mut *b.bias_step] {
        values.fill(0.0);
    }
    b.direction.copy_from_slice(b.correction);
    b.bias_direction.copy_from_slice(b.bias_correction);
    for _ in 0..MAX_INNER {
        space.image(b.direction, b.correction, b.direction_image);
        curvature_along(problem, b);
        // The Hessian's product with the direction, where the correction was.
        space.pull(b.work, b.correction);
        axpy(problem.l2, b.direction, b.correction);
        let along = space.inner(b.correction, b.direction) + dot(b.bias_product, b.bias_direction);
        if along.is_nan() || along <= 0.0 {
            return;
        }
        let alpha = rz / along;
        axpy(alpha, b.direction, b.step);
        axpy(alpha, b.direction_image, b.step_image);
        axpy(alpha, b.bias_direction, b.bias_step);
        axpy(-alpha, b.correction, b.residual);
        axpy(-alpha, b.bias_product, b.bias_residual);
        let next = precondition(problem, bias_curvature, b);
        if next.is_nan() || next < enough {
            return;
        }
        let beta = next / rz;
        xpay(b.correction, beta, b.direction);
        xpay(b.bias_correction, beta, b.bias_direction);
        rz = next;
    }
}

/// The loss's Hessian along the direction, per shot and divided by √w, into `work`: √w·(P∘q − P·Σ P∘q) with q = image + bias; what it
/// is for the bias into `bias_product`.
fn curvature_along(problem: &Problem<'_>, b: &mut Buffers<'_>) {
    let space = &problem.space;
    b.per_shot.fill(0.0);
    let classes = b.probability.chunks_exact(space.width).zip(b.direction_image.chunks_exact(space.width));
    for (((p, d), q), &bias) in classes.zip(b.work.chunks_exact_mut(space.width)).zip(b.bias_direction.iter()) {
        for (((q, &p), &d), s) in q.iter_mut().zip(p).zip(d).zip(b.per_shot.iter_mut()) {
            *q = p * (d + bias);
            *s += *q;
        }
    }
    let classes = b.probability.chunks_exact(space.width).zip(b.work.chunks_exact_mut(space.width));
    for ((p, q), h) in classes.zip(b.bias_product.iter_mut()) {
        for (((q, &p), &s), &root) in q.iter_mut().zip(p).zip(b.per_shot.iter()).zip(space.roots) {
            *q = root * (*q - p * s);
        }
        *h = dot(q, space.roots);
    }
    for (class, (h, &bias)) in b.bias_product.iter_mut().zip(b.bias_direction.iter()).enumerate() {
        *h += problem.bias_ridge(class) * bias;
    }
}

/// Goes along the step as far as the objective does not grow beyond rounding, halving it where it does. Leaves the probabilities
/// there; where there is no descent at this precision everything stays as it was, and the answer is no.
fn advance(problem: &Problem<'_>, objective: &mut f32, b: &mut Buffers<'_>) -> bool {
    let before = *objective;
    let mut t = 1.0f32;
    loop {
        let after = evaluate(problem, t, b);
        if after <= before * (1.0 + 1e-6) {
            *objective = after;
            break;
        }
        t *= 0.5;
        if t < 5e-4 {
            *objective = evaluate(problem, 0.0, b);
            return false;
        }
    }
    axpy(t, b.step, b.unknown);
    axpy(t, b.step_image, b.image);
    axpy(t, b.bias_step, b.bias);
    true
}

/// Objective at unknown + t·step; leaves the probabilities there in `probability`.
fn evaluate(problem: &Problem<'_>, t: f32, b: &mut Buffers<'_>) -> f32 {
    let space = &problem.space;
    let (largest, total) = (&mut *b.per_shot, &mut *b.per_shot_sum);
    largest.fill(f32::NEG_INFINITY);
    total.fill(0.0);
    let rows = b.image.chunks_exact(space.width).zip(b.step_image.chunks_exact(space.width));
    let biases = b.bias.iter().zip(b.bias_step.iter());
    for (((v, dv), (&bias, &dbias)), z) in rows.zip(biases).zip(b.probability.chunks_exact_mut(space.width)) {
        let bias = bias + t * dbias;
        for (((z, &v), &dv), largest) in z.iter_mut().zip(v).zip(dv).zip(largest.iter_mut()) {
            *z = v + t * dv + bias;
            *largest = if *z > *largest { *z } else { *largest };
        }
    }
    // The loss is Σ w·(ln Σ exp(z − max) − (z_y − max)).
    let mut loss = 0.0f64;
    for (i, ((&y, &largest), &w)) in problem.labels.iter().zip(largest.iter()).zip(space.weights).enumerate() {
        if let Some(z) = b.probability.get(usize::from(y) * space.width + i) {
            loss -= f64::from(w * (z - largest));
        }
    }
    for z in b.probability.chunks_exact_mut(space.width) {
        for ((z, &largest), total) in z.iter_mut().zip(largest.iter()).zip(total.iter_mut()) {
            *z = exp(*z - largest);
            *total += *z;
        }
    }
    for (&total, &w) in total.iter().zip(space.weights).take(problem.labels.len()) {
        loss += f64::from(w * libm::logf(total));
    }
    for p in b.probability.chunks_exact_mut(space.width) {
        for (p, &total) in p.iter_mut().zip(total.iter()) {
            *p /= total;
        }
    }
    let mut norm = space.inner(b.unknown, b.unknown);
    if t != 0.0 {
        norm += t * (2.0 * space.inner(b.unknown, b.step) + t * space.inner(b.step, b.step));
    }
    for (class, (&bias, &dbias)) in b.bias.iter().zip(b.bias_step.iter()).enumerate() {
        let bias = bias + t * dbias;
        loss += 0.5 * f64::from(problem.bias_ridge(class)) * f64::from(bias * bias);
    }
    (loss + 0.5 * f64::from(problem.l2) * f64::from(norm)) as f32
}
