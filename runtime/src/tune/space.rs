//! The two sides on which one solver works: coefficients of the shots (N ≤ D) or of the dimensions (N > D).
//!
//! An unknown has C rows of [`Space::size`] values; its image, the class scores of the shots without bias, has C
//! rows of N. On the shots' side gradients are functional (in the space of the images), so that a gradient costs no
//! product with the Gram matrix.

use super::linalg::{axpy, cholesky, cholesky_solve, dot, multiply};

/// Shots as the solver sees them: centred, scaled to a mean squared norm of 1.
pub enum Space<'a> {
    /// `gram` is N×N: unknowns are coefficients of the shots.
    Shots {
        /// Centred Gram matrix.
        gram: &'a [f32],
        /// N.
        n: usize,
        /// Square roots of the shots' weights.
        roots: &'a [f32],
    },
    /// `features` is N×D: unknowns are weights.
    Dimensions {
        /// Centred rows.
        features: &'a [f32],
        /// N.
        n: usize,
        /// D.
        dim: usize,
    },
}

impl Space<'_> {
    /// Number of shots N.
    pub fn shots(&self) -> usize {
        match *self {
            Self::Shots { n, .. } | Self::Dimensions { n, .. } => n,
        }
    }

    /// Values of an unknown per class: N or D.
    pub fn size(&self) -> usize {
        match *self {
            Self::Shots { n, .. } => n,
            Self::Dimensions { dim, .. } => dim,
        }
    }

    /// Scores of the shots: C rows of N.
    pub fn image(&self, unknown: &[f32], out: &mut [f32]) {
        match *self {
            Self::Shots { gram, n, .. } => multiply(gram, n, unknown, out),
            Self::Dimensions { features, n, dim } => {
                for (w, out) in unknown.chunks_exact(dim).zip(out.chunks_exact_mut(n)) {
                    for (out, x) in out.iter_mut().zip(features.chunks_exact(dim)) {
                        *out = dot(x, w);
                    }
                }
            }
        }
    }

    /// From per-shot derivatives (C rows of N) to the gradient (C rows of [`Space::size`]).
    pub fn pull(&self, derivatives: &[f32], out: &mut [f32]) {
        match *self {
            Self::Shots { .. } => out.copy_from_slice(derivatives),
            Self::Dimensions { features, n, dim } => {
                for (t, out) in derivatives.chunks_exact(n).zip(out.chunks_exact_mut(dim)) {
                    out.fill(0.0);
                    for (&t, x) in t.iter().zip(features.chunks_exact(dim)) {
                        axpy(t, x, out);
                    }
                }
            }
        }
    }

    /// Inner product of a gradient-like and an unknown-like quantity; `image` is the latter's image.
    pub fn inner(&self, gradient: &[f32], unknown: &[f32], image: &[f32]) -> f32 {
        match self {
            Self::Shots { .. } => dot(gradient, image),
            Self::Dimensions { .. } => dot(gradient, unknown),
        }
    }

    /// Factor of `curvature`·H + `ridge`·I, where H is the Gram matrix with rows and columns times √w, or Σ wᵢ·xᵢxᵢᵀ over
    /// the dimensions.
    pub fn factor(&self, weights: &[f32], curvature: f32, ridge: f32, out: &mut [f32]) {
        let size = self.size();
        match *self {
            Self::Shots { gram, n, roots } => {
                for ((out, row), &root) in out.chunks_exact_mut(n).zip(gram.chunks_exact(n)).zip(roots) {
                    for ((out, &g), &r) in out.iter_mut().zip(row).zip(roots) {
                        *out = curvature * (root * r) * g;
                    }
                }
            }
            Self::Dimensions { features, dim, .. } => {
                out.fill(0.0);
                for (x, &w) in features.chunks_exact(dim).zip(weights) {
                    for (i, (row, &xi)) in out.chunks_exact_mut(dim).zip(x).enumerate() {
                        // Only the lower triangle is read by the factorization.
                        let (Some(row), Some(x)) = (row.get_mut(..=i), x.get(..=i)) else { continue };
                        axpy(curvature * w * xi, x, row);
                    }
                }
            }
        }
        for i in 0..size {
            if let Some(diagonal) = out.get_mut(i * size + i) {
                *diagonal += ridge;
            }
        }
        cholesky(out, size, ridge * 1e-3);
    }

    /// Solves with what [`Space::factor`] made: a gradient-like quantity becomes an unknown-like one, in place.
    pub fn solve(&self, factor: &[f32], values: &mut [f32]) {
        match *self {
            Self::Shots { n, roots, .. } => {
                for values in values.chunks_exact_mut(n) {
                    values.iter_mut().zip(roots).for_each(|(v, &root)| *v /= root);
                }
                cholesky_solve(factor, n, values);
                for values in values.chunks_exact_mut(n) {
                    values.iter_mut().zip(roots).for_each(|(v, &root)| *v *= root);
                }
            }
            Self::Dimensions { dim, .. } => cholesky_solve(factor, dim, values),
        }
    }
}
