//! The caller's memory, carved into what the solver needs. Nothing is allocated.

use super::linalg::padded;
use crate::error::{Error, Result};

/// Number of f32 values of workspace that tuning `shots` shots of dimension `dim` to `classes` classes needs.
#[must_use]
pub const fn workspace_len(shots: usize, dim: usize, classes: usize) -> usize {
    let size = if shots <= dim { shots } else { dim };
    let (n, m) = (padded(shots), padded(size));
    // The basis; where there are more shots than dimensions, reflectors beside it.
    let reflectors = if shots <= dim { 0 } else { size * m };
    size * n + reflectors + classes * (5 * m + 5 * n + 6) + 7 * n + 2 * size + 2 * m + dim
}

/// Everything that the solver writes to. "C×m" buffers have C rows of m = min(N, D) values, "C×N" buffers C rows of N, all padded to whole
/// blocks; every value is 0 at first.
pub struct Buffers<'a> {
    /// C×m.
    pub unknown: &'a mut [f32],
    /// C×m.
    pub residual: &'a mut [f32],
    /// C×m.
    pub correction: &'a mut [f32],
    /// C×m.
    pub step: &'a mut [f32],
    /// C×m.
    pub direction: &'a mut [f32],
    /// C×N.
    pub image: &'a mut [f32],
    /// C×N.
    pub probability: &'a mut [f32],
    /// C×N.
    pub work: &'a mut [f32],
    /// C×N.
    pub step_image: &'a mut [f32],
    /// C×N.
    pub direction_image: &'a mut [f32],
    /// C.
    pub bias: &'a mut [f32],
    /// C.
    pub bias_residual: &'a mut [f32],
    /// C.
    pub bias_correction: &'a mut [f32],
    /// C.
    pub bias_step: &'a mut [f32],
    /// C.
    pub bias_direction: &'a mut [f32],
    /// C.
    pub bias_product: &'a mut [f32],
    /// N.
    pub per_shot: &'a mut [f32],
    /// N.
    pub per_shot_sum: &'a mut [f32],
    /// N: 1/‖u‖ of each shot, 0 for a shot of zeros.
    pub inverse_norm: &'a mut [f32],
    /// N: weighted mean of each row of the Gram matrix.
    pub row_mean: &'a mut [f32],
    /// N: weights of the shots.
    pub weights: &'a mut [f32],
    /// N: square roots of the weights.
    pub roots: &'a mut [f32],
    /// N: inverses of these.
    pub inverse_roots: &'a mut [f32],
    /// m, not padded: diagonal of T.
    pub diagonal: &'a mut [f32],
    /// m, not padded: what stands beside it.
    pub off: &'a mut [f32],
    /// m: the factor of T, or a reflector.
    pub lower: &'a mut [f32],
    /// m: the factor's inverse diagonal, or a product.
    pub inverse: &'a mut [f32],
    /// D: mean of the normalised shots.
    pub mean: &'a mut [f32],
}

/// The matrices: what becomes the basis (min(N, D) rows of N), what becomes the reflectors (min(N, D) squared, empty where N ≤ D); and
/// everything else.
pub type Carved<'a> = (&'a mut [f32], &'a mut [f32], Buffers<'a>);

/// Carves; fails where `memory` is too small.
pub fn carve(memory: &mut [f32], shots: usize, dim: usize, classes: usize) -> Result<Carved<'_>> {
    let needs = workspace_len(shots, dim, classes);
    let has = memory.len();
    let short = Error::Buffer { what: "tuning workspace (f32 values)", needs, has };
    let mut rest = memory.get_mut(..needs).ok_or(short.clone())?;
    rest.fill(0.0);
    let mut take = |len: usize| -> Result<&mut [f32]> {
        let memory = core::mem::take(&mut rest);
        let (head, tail) = memory.split_at_mut_checked(len).ok_or(short.clone())?;
        rest = tail;
        Ok(head)
    };
    let size = shots.min(dim);
    let (n, m) = (padded(shots), padded(size));
    let basis = take(size * n)?;
    let reflectors = take(if shots <= dim { 0 } else { size * m })?;
    let (unknown, scores) = (classes * m, classes * n);
    let buffers = Buffers {
        unknown: take(unknown)?,
        residual: take(unknown)?,
        correction: take(unknown)?,
        step: take(unknown)?,
        direction: take(unknown)?,
        image: take(scores)?,
        probability: take(scores)?,
        work: take(scores)?,
        step_image: take(scores)?,
        direction_image: take(scores)?,
        bias: take(classes)?,
        bias_residual: take(classes)?,
        bias_correction: take(classes)?,
        bias_step: take(classes)?,
        bias_direction: take(classes)?,
        bias_product: take(classes)?,
        per_shot: take(n)?,
        per_shot_sum: take(n)?,
        inverse_norm: take(n)?,
        row_mean: take(n)?,
        weights: take(n)?,
        roots: take(n)?,
        inverse_roots: take(n)?,
        diagonal: take(size)?,
        off: take(size)?,
        lower: take(m)?,
        inverse: take(m)?,
        mean: take(dim)?,
    };
    Ok((basis, reflectors, buffers))
}
