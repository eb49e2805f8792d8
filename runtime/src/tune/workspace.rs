//! The caller's memory, carved into what the solver needs. Nothing is allocated.

use crate::error::{Error, Result};

/// Number of f32 values of workspace that tuning `shots` shots of dimension `dim` to `classes` classes needs.
#[must_use]
pub const fn workspace_len(shots: usize, dim: usize, classes: usize) -> usize {
    let size = if shots <= dim { shots } else { dim };
    // Gram matrix or features, one square matrix, buffers per class, per shot and for biases.
    let table = if shots <= dim { shots * shots } else { shots * dim };
    table + size * size + classes * (6 * size + 6 * shots + 6) + 6 * shots + size + dim
}

/// Everything that [`super::newton`] and [`super::loo`] write to. "C×m" buffers have C rows of N (shots' side) or D.
pub struct Buffers<'a> {
    /// m×m: Cholesky factor.
    pub factor: &'a mut [f32],
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
    /// C×m.
    pub product: &'a mut [f32],
    /// C×N.
    pub image: &'a mut [f32],
    /// C×N.
    pub probability: &'a mut [f32],
    /// C×N.
    pub work: &'a mut [f32],
    /// C×N.
    pub correction_image: &'a mut [f32],
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
    /// m.
    pub scratch: &'a mut [f32],
    /// D: mean of the normalised shots.
    pub mean: &'a mut [f32],
}

/// The matrix of the shots (N×N or N×D), and everything else.
pub fn carve(memory: &mut [f32], shots: usize, dim: usize, classes: usize) -> Result<(&mut [f32], Buffers<'_>)> {
    let needs = workspace_len(shots, dim, classes);
    let has = memory.len();
    let mut rest = memory;
    let mut take = |len: usize| -> Result<&mut [f32]> {
        let memory = core::mem::take(&mut rest);
        let (head, tail) = memory.split_at_mut_checked(len).ok_or(Error::Buffer {
            what: "tuning workspace (f32 values)",
            needs,
            has,
        })?;
        rest = tail;
        Ok(head)
    };
    let size = shots.min(dim);
    let table = take(shots * size)?;
    let (unknown, scores) = (classes * size, classes * shots);
    let buffers = Buffers {
        factor: take(size * size)?,
        unknown: take(unknown)?,
        residual: take(unknown)?,
        correction: take(unknown)?,
        step: take(unknown)?,
        direction: take(unknown)?,
        product: take(unknown)?,
        image: take(scores)?,
        probability: take(scores)?,
        work: take(scores)?,
        correction_image: take(scores)?,
        step_image: take(scores)?,
        direction_image: take(scores)?,
        bias: take(classes)?,
        bias_residual: take(classes)?,
        bias_correction: take(classes)?,
        bias_step: take(classes)?,
        bias_direction: take(classes)?,
        bias_product: take(classes)?,
        per_shot: take(shots)?,
        per_shot_sum: take(shots)?,
        inverse_norm: take(shots)?,
        row_mean: take(shots)?,
        weights: take(shots)?,
        roots: take(shots)?,
        scratch: take(size)?,
        mean: take(dim)?,
    };
    Ok((table, buffers))
}
