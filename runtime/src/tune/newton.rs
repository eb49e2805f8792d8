//! Softmax regression with L2, by inexact Newton steps.
//!
//! Minimises Σᵢ wᵢ·CE(softmax(zᵢ + b), yᵢ) + (λ/2)·‖W‖² over the unknown of a [`Space`] and the unpenalised bias b.
//! Each Newton system is solved by conjugate gradients (truncated as in Dembo, Eisenstat and Steihaug 1982) with one
//! Cholesky factor as preconditioner: the Hessian with a mean curvature in place of each shot's. From zero this preconditioner
//! is exact, so that the first step is a ridge solution.

use super::linalg::{axpy, dot, sum, xpay};
use super::space::Space;
use super::workspace::Buffers;

const MAX_STEPS: usize = 40;
const MAX_INNER: usize = 30;
/// The factor is made anew when the mean curvature has left this range of the one it was made with.
const CURVATURE_RANGE: core::ops::Range<f32> = 0.7..1.4;

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
    /// Weight of each shot, positive.
    pub weights: &'a [f32],
    /// Number of classes C.
    pub classes: usize,
    /// λ.
    pub l2: f32,
    /// Relative accuracy of the objective at which to stop.
    pub tolerance: f32,
}

/// Solves from zero; the unknown is left in `buffers.unknown`, the bias in `buffers.bias`.
pub fn solve(problem: &Problem<'_>, buffers: &mut Buffers<'_>) -> Solved {
    let Problem { space, weights, classes, l2, tolerance, .. } = problem;
    let (l2, n) = (*l2, space.shots());
    let total = sum(weights);
    buffers.unknown.fill(0.0);
    buffers.image.fill(0.0);
    buffers.bias.fill(0.0);
    let mut objective = evaluate(problem, 0.0, buffers);
    let mut factored_at = 0.0f32;
    for steps in 0..MAX_STEPS {
        // Derivatives of the loss by the scores, w·(P − Y), then the gradient.
        let mut spread = 0.0f32;
        for (c, (p, q)) in buffers.probability.chunks_exact(n).zip(buffers.work.chunks_exact_mut(n)).enumerate() {
            for (((q, &p), &w), &y) in q.iter_mut().zip(p).zip(*weights).zip(problem.labels) {
                *q = w * (p - if usize::from(y) == c { 1.0 } else { 0.0 });
                spread += w * p * p;
            }
        }
        for (r, q) in buffers.bias_residual.iter_mut().zip(buffers.work.chunks_exact(n)) {
            *r = -sum(q);
        }
        space.pull(buffers.work, buffers.residual);
        for (r, &a) in buffers.residual.iter_mut().zip(buffers.unknown.iter()) {
            *r = -(*r + l2 * a);
        }
        let curvature = ((1.0 - spread / total) / (*classes as f32 - 1.0)).max(1e-6);
        if !CURVATURE_RANGE.contains(&(curvature / factored_at)) {
            space.factor(weights, curvature, l2, buffers.factor);
            factored_at = curvature;
        }
        let mut rz = precondition(space, factored_at * total, buffers);
        let rz0 = rz;
        if rz0.is_nan() || rz0 <= 2.0 * tolerance * objective.max(1e-10) {
            return Solved { objective, steps, converged: !rz0.is_nan() };
        }
        conjugate_gradients(problem, buffers, &mut rz, rz0, objective, factored_at * total);
        // Backtracking: the step is accepted where the objective does not grow beyond rounding.
        let mut t = 1.0f32;
        let before = objective;
        loop {
            objective = evaluate(problem, t, buffers);
            if objective <= before * (1.0 + 1e-6) || t < 1e-3 {
                break;
            }
            t *= 0.5;
        }
        if objective.is_nan() || objective > before * (1.0 + 1e-6) {
            // No descent is left at this precision: stay where we were.
            let objective = evaluate(problem, 0.0, buffers);
            return Solved { objective, steps, converged: false };
        }
        axpy(t, buffers.step, buffers.unknown);
        axpy(t, buffers.step_image, buffers.image);
        axpy(t, buffers.bias_step, buffers.bias);
    }
    Solved { objective, steps: MAX_STEPS, converged: false }
}

/// Preconditioned residual into `correction` and its image; returns the inner product with the residual.
fn precondition(space: &Space<'_>, bias_curvature: f32, b: &mut Buffers<'_>) -> f32 {
    b.correction.copy_from_slice(b.residual);
    space.solve(b.factor, b.correction);
    space.image(b.correction, b.correction_image);
    for (u, &r) in b.bias_correction.iter_mut().zip(b.bias_residual.iter()) {
        *u = r / bias_curvature;
    }
    space.inner(b.residual, b.correction, b.correction_image) + dot(b.bias_residual, b.bias_correction)
}

fn conjugate_gradients(
    problem: &Problem<'_>,
    b: &mut Buffers<'_>,
    rz: &mut f32,
    rz0: f32,
    objective: f32,
    curvature: f32,
) {
    let space = &problem.space;
    let n = space.shots();
    let root = libm::sqrtf(rz0 / objective.max(1e-10)).min(0.25);
    let enough = (root * root * rz0).max(0.1 * problem.tolerance * objective);
    b.step.fill(0.0);
    b.step_image.fill(0.0);
    b.bias_step.fill(0.0);
    b.direction.copy_from_slice(b.correction);
    b.direction_image.copy_from_slice(b.correction_image);
    b.bias_direction.copy_from_slice(b.bias_correction);
    for _ in 0..MAX_INNER {
        curvature_along(problem, b);
        for (h, q) in b.bias_product.iter_mut().zip(b.work.chunks_exact(n)) {
            *h = sum(q);
        }
        space.pull(b.work, b.product);
        axpy(problem.l2, b.direction, b.product);
        let along = space.inner(b.product, b.direction, b.direction_image) + dot(b.bias_product, b.bias_direction);
        if along.is_nan() || along <= 0.0 {
            return;
        }
        let alpha = *rz / along;
        axpy(alpha, b.direction, b.step);
        axpy(alpha, b.direction_image, b.step_image);
        axpy(alpha, b.bias_direction, b.bias_step);
        axpy(-alpha, b.product, b.residual);
        axpy(-alpha, b.bias_product, b.bias_residual);
        let next = precondition(space, curvature, b);
        if next.is_nan() || next < enough {
            return;
        }
        let beta = next / *rz;
        xpay(b.correction, beta, b.direction);
        xpay(b.correction_image, beta, b.direction_image);
        xpay(b.bias_correction, beta, b.bias_direction);
        *rz = next;
    }
}

/// The loss's Hessian along the direction, per shot, into `work`: w·(P∘q − P·Σ P∘q) with q = image + bias.
fn curvature_along(problem: &Problem<'_>, b: &mut Buffers<'_>) {
    let n = problem.space.shots();
    b.per_shot.fill(0.0);
    let classes = b.probability.chunks_exact(n).zip(b.direction_image.chunks_exact(n));
    for (((p, d), q), &bias) in classes.zip(b.work.chunks_exact_mut(n)).zip(b.bias_direction.iter()) {
        for (((q, &p), &d), s) in q.iter_mut().zip(p).zip(d).zip(b.per_shot.iter_mut()) {
            *q = p * (d + bias);
            *s += *q;
        }
    }
    for (p, q) in b.probability.chunks_exact(n).zip(b.work.chunks_exact_mut(n)) {
        for (((q, &p), &s), &w) in q.iter_mut().zip(p).zip(b.per_shot.iter()).zip(problem.weights) {
            *q = w * (*q - p * s);
        }
    }
}

/// Objective at unknown + t·step; leaves the probabilities there in `probability`.
fn evaluate(problem: &Problem<'_>, t: f32, b: &mut Buffers<'_>) -> f32 {
    let n = problem.space.shots();
    let (largest, total) = (&mut *b.per_shot, &mut *b.per_shot_sum);
    largest.fill(f32::NEG_INFINITY);
    total.fill(0.0);
    let rows = b.image.chunks_exact(n).zip(b.step_image.chunks_exact(n));
    let biases = b.bias.iter().zip(b.bias_step.iter());
    for (((v, dv), (&bias, &dbias)), z) in rows.zip(biases).zip(b.probability.chunks_exact_mut(n)) {
        let bias = if t == 0.0 { bias } else { bias + t * dbias };
        for (((z, &v), &dv), largest) in z.iter_mut().zip(v).zip(dv).zip(largest.iter_mut()) {
            *z = if t == 0.0 { v + bias } else { v + t * dv + bias };
            *largest = largest.max(*z);
        }
    }
    // The loss is Σ w·(ln Σ exp(z − max) − (z_y − max)).
    let mut loss = 0.0f64;
    for (c, z) in b.probability.chunks_exact_mut(n).enumerate() {
        for ((((z, &largest), total), &y), &w) in
            z.iter_mut().zip(largest.iter()).zip(total.iter_mut()).zip(problem.labels).zip(problem.weights)
        {
            let shifted = *z - largest;
            if usize::from(y) == c {
                loss -= f64::from(w * shifted);
            }
            *z = libm::expf(shifted);
            *total += *z;
        }
    }
    for (&total, &w) in total.iter().zip(problem.weights) {
        loss += f64::from(w * libm::logf(total));
    }
    for p in b.probability.chunks_exact_mut(n) {
        for (p, &total) in p.iter_mut().zip(total.iter()) {
            *p /= total;
        }
    }
    let space = &problem.space;
    let mut norm = space.inner(b.unknown, b.unknown, b.image);
    if t != 0.0 {
        let cross = space.inner(b.unknown, b.step, b.step_image);
        norm += t * (2.0 * cross + t * space.inner(b.step, b.step, b.step_image));
    }
    (loss + 0.5 * f64::from(problem.l2) * f64::from(norm)) as f32
}
