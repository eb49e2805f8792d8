//! The two sides on which one solver works, in a basis where the ridge problem is tridiagonal.
//!
//! With the shots' rows x̃ᵢ = √wᵢ·xᵢ, the matrix H = X̃·X̃ᵀ (N×N, on the shots' side) or X̃ᵀ·X̃ (D×D, where there are more
//! shots than dimensions) is Q·T·Qᵀ. An unknown v is expressed in the columns of Q: the weights are X̃ᵀ·Q·v on the shots' side and Q·v on
//! the dimensions' side. What differs is the inner product, T or the identity; in either case the scores of the shots follow from
//! one matrix, Qᵀ or Qᵀ·X̃ᵀ, and the ridge solution for the gradient g is (T + λ·I)⁻¹·g.
//! Gradients are functional on the shots' side (taken with respect to the inner product), so that they cost no product with T.
//!
//! Adding the same to the scores of all classes changes no probability: gradients, and so unknowns, sum to zero over the classes, and the
//! last class's row follows from the others.

use super::linalg::{axpy, columns_times, dot, dot3, rows_times};
use super::tridiagonal::{self, Tridiagonal};

/// Which matrix was reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// N ≤ D: the Gram matrix.
    Shots,
    /// N > D: the second moments.
    Dimensions,
}

/// Shots as the solver sees them: centred, scaled to a mean squared norm of 1, in the basis Q.
pub struct Space<'a> {
    /// Which side.
    pub side: Side,
    /// m rows of `width`, a column for each shot, zeros beyond the N-th: Qᵀ or Qᵀ·X̃ᵀ.
    pub basis: &'a [f32],
    /// N, padded.
    pub width: usize,
    /// m = min(N, D), padded.
    pub size: usize,
    /// T.
    pub t: Tridiagonal<'a>,
    /// Weights of the shots, padded with zeros.
    pub weights: &'a [f32],
    /// Their square roots.
    pub roots: &'a [f32],
    /// The inverses of these.
    pub inverse_roots: &'a [f32],
}

impl Space<'_> {
    /// Scores of the shots without bias: C rows of N from C unknowns. `scratch` has the unknowns' size.
    pub fn image(&self, unknown: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        match self.side {
            Side::Shots => {
                self.t.multiply(unknown, self.size, scratch);
                self.combine(scratch, out);
            }
            Side::Dimensions => self.combine(unknown, out),
        }
    }

    /// Weighted sums of the basis for every shot, divided by √w: C rows of N from C rows of m.
    pub fn combine(&self, coefficients: &[f32], out: &mut [f32]) {
        let but_last = coefficients.len().saturating_sub(self.size);
        columns_times(self.basis, self.width, coefficients.get(..but_last).unwrap_or_default(), self.size, out);
        for out in out.chunks_exact_mut(self.width) {
            for (out, &inverse) in out.iter_mut().zip(self.inverse_roots) {
                *out *= inverse;
            }
        }
        last_from_others(out, self.width);
    }

    /// From derivatives by the shots' scores, divided by √w (C rows of N), to the gradient (C rows of m).
    pub fn pull(&self, derivatives: &[f32], out: &mut [f32]) {
        let but_last = derivatives.len().saturating_sub(self.width);
        rows_times(self.basis, self.width, derivatives.get(..but_last).unwrap_or_default(), out, self.size);
        last_from_others(out, self.size);
    }

    /// √w·(Y − P) of every shot, Y being 1 for its own class and 0 elsewhere, from probabilities P (C rows of N).
    pub fn residuals(&self, labels: &[u16], probability: &[f32], out: &mut [f32]) {
        for (out, p) in out.chunks_exact_mut(self.width).zip(probability.chunks_exact(self.width)) {
            for ((out, &p), &root) in out.iter_mut().zip(p).zip(self.roots) {
                *out = -root * p;
            }
        }
        self.add_to_own(labels, out, |i| self.roots.get(i).copied().unwrap_or_default());
    }

    /// Adds a value to the score that each shot has for its own class.
    pub fn add_to_own(&self, labels: &[u16], scores: &mut [f32], value: impl Fn(usize) -> f32) {
        for (i, &label) in labels.iter().enumerate() {
            if let Some(score) = scores.get_mut(usize::from(label) * self.width + i) {
                *score += value(i);
            }
        }
    }

    /// Mean of p·(1 − p) over shots and classes, as the curvature that all classes share; `total`: the sum of the weights.
    pub fn mean_curvature(&self, probability: &[f32], classes: usize, total: f32) -> f32 {
        let mut spread = 0.0;
        for p in probability.chunks_exact(self.width) {
            spread += dot3(self.weights, p, p);
        }
        (1.0 - spread / total) / (classes as f32 - 1.0)
    }

    /// Inner product of two unknowns, or of a gradient and an unknown.
    pub fn inner(&self, a: &[f32], b: &[f32]) -> f32 {
        match self.side {
            Side::Shots => self.t.inner(a, b, self.size),
            Side::Dimensions => dot(a, b),
        }
    }

    /// xᵢᵀ·(T + ridge·I)⁻¹·xᵢ of every shot's column of the basis, from a factor of that matrix.
    pub fn leverages(&self, lower: &[f32], inverse: &[f32], out: &mut [f32]) {
        tridiagonal::column_norms(self.basis, self.width, lower, inverse, out);
    }
}

/// The last row of `rows` (of `width` values) such that all sum to zero.
fn last_from_others(rows: &mut [f32], width: usize) {
    let Some((others, last)) = rows.len().checked_sub(width).and_then(|at| rows.split_at_mut_checked(at)) else {
        return;
    };
    last.fill(0.0);
    for row in others.chunks_exact(width) {
        axpy(-1.0, row, last);
    }
}
