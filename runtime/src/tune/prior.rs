//! The bundle's own head as the point from which tuning starts.
//!
//! A base head was trained on far more data than its few canaries. So the new head is W₀ + ΔW: the scores that the base head gives
//! are a fixed offset of each example, ΔW alone is penalised, and, being a sum over the examples again, lies in their span. Classes that
//! the base head does not know start from a row of zeros and a bias that gives them their share of the examples; the biases of those
//! that it knows are penalised like one more weight, so that classes of which there is no example have an optimum too.
//!
//! Base heads are linear in the embedding e, tuned heads in its direction: base rows are multiplied by one length, the mean ‖e‖ of
//! the canaries.

use super::NO_CLASS;
use super::linalg::{dot, exp};
use super::workspace::Buffers;
use crate::error::Result;
use crate::head::{HeadView, Kind, WeightRow};
use crate::quant::EmbeddingKind;

/// The head that tuning starts from.
#[derive(Debug, Clone, Copy)]
pub struct Prior<'a> {
    /// The bundle's own head, a [`Kind::Softmax`] one.
    pub head: HeadView<'a>,
    /// For each class of the new head its index in this one, or [`NO_CLASS`].
    pub class_of: &'a [u16],
}

impl Prior<'_> {
    /// Whether its scores are such that others can be added to them.
    pub(super) fn is_usable(&self) -> bool {
        self.head.kind() == Kind::Softmax && self.class_of.iter().any(|&class| class != NO_CLASS)
    }

    /// Its class for class `class` of the new head.
    pub(super) fn class(&self, class: usize) -> Option<usize> {
        self.class_of.get(class).copied().filter(|&class| class != NO_CLASS).map(usize::from)
    }

    /// What weights on the direction u/‖u‖ are those on e times, `norm` being the mean ‖u‖.
    pub(super) fn scale(&self, norm: f32) -> f32 {
        match self.head.embedding().kind {
            _ if self.head.unit() => 1.0,
            EmbeddingKind::Int8(q) => q.scale * norm,
            EmbeddingKind::F16 => norm,
        }
    }

    /// Its scores of one row, `factor` being [`Prior::scale`] / ‖u‖, into entry `i` of every row of `scores`; 0 for other classes.
    pub(super) fn scores(&self, row: &[u8], factor: f32, i: usize, scores: &mut [f32], width: usize) -> Result<()> {
        for (class, scores) in scores.chunks_exact_mut(width).enumerate() {
            if let (Some(class), Some(score)) = (self.class(class), scores.get_mut(i)) {
                *score = self.head.logit(class, row, factor)?;
            }
        }
        Ok(())
    }

    /// Adds its rows, times `scale`, and its biases.
    pub(super) fn add_to(&self, scale: f32, weights: &mut [f32], bias: &mut [f32]) {
        let dim = self.head.dim();
        for (class, (weights, bias)) in weights.chunks_exact_mut(dim).zip(bias).enumerate() {
            let Some(class) = self.class(class) else { continue };
            *bias += self.head.bias(class).unwrap_or_default();
            match self.head.weight_row(class) {
                Some(WeightRow::Int8 { scale: step, row }) => {
                    let step = step * scale;
                    weights.iter_mut().zip(row).for_each(|(w, q)| *w += step * f32::from(q.cast_signed()));
                }
                Some(WeightRow::F32(row)) => {
                    weights.iter_mut().zip(row).for_each(|(w, v)| *w += scale * f32::from_le_bytes(*v));
                }
                None => {}
            }
        }
    }
}

/// Halvings of the interval that holds the new classes' bias.
const HALVINGS: usize = 40;

/// Biases and probabilities to start from. `image` holds the base head's scores of the `n` examples, `bias_product` each class's share
/// of their weight, which adds to `total`.
pub(super) fn start(prior: &Prior<'_>, n: usize, total: f32, width: usize, weights: &[f32], b: &mut Buffers<'_>) {
    // The logarithm of what the known classes' exponentials add to, per example.
    let (known, largest) = (&mut *b.per_shot, &mut *b.per_shot_sum);
    largest.fill(f32::NEG_INFINITY);
    known.fill(0.0);
    let is_known = |class: usize| prior.class(class).is_some();
    for (class, scores) in b.image.chunks_exact(width).enumerate() {
        if is_known(class) {
            largest.iter_mut().zip(scores).for_each(|(largest, &z)| *largest = if z > *largest { z } else { *largest });
        }
    }
    for (class, scores) in b.image.chunks_exact(width).enumerate() {
        if is_known(class) {
            let scores = scores.iter().zip(largest.iter());
            known.iter_mut().zip(scores).for_each(|(known, (&z, &largest))| *known += exp(z - largest));
        }
    }
    known.iter_mut().zip(largest.iter()).for_each(|(known, &largest)| *known = largest + libm::logf(*known));

    let new: f32 =
        b.bias_product.iter().enumerate().filter(|(class, _)| !is_known(*class)).map(|(_, share)| share).sum();
    let known = known.get(..n).unwrap_or_default();
    let all_new = common_bias(known, weights, new * total);
    for (class, (bias, &share)) in b.bias.iter_mut().zip(b.bias_product.iter()).enumerate() {
        *bias = if is_known(class) { 0.0 } else { all_new + libm::logf(share / new) };
    }
    for (class, (scores, (p, &bias))) in
        b.image.chunks_exact(width).zip(b.probability.chunks_exact_mut(width).zip(b.bias.iter())).enumerate()
    {
        for ((p, &z), &known) in p.iter_mut().zip(scores).zip(known) {
            // ln(exp(known) + exp(new)), unless no class is new.
            let (low, high) = if known < all_new { (known, all_new) } else { (all_new, known) };
            let sum = if new > 0.0 { high + libm::log1pf(exp(low - high)) } else { known };
            let z = if is_known(class) { z } else { bias };
            *p = exp((z - sum).min(0.0));
        }
    }
    // What remains on average is the intercepts'.
    for (class, p) in b.probability.chunks_exact_mut(width).enumerate() {
        let share = b.bias_product.get(class).copied().unwrap_or_default();
        let rest = share - dot(p, weights) / total;
        p.iter_mut().for_each(|p| *p += rest);
    }
}

/// The bias x such that Σ wᵢ·σ(x − knownᵢ) is `wanted`, by bisection.
fn common_bias(known: &[f32], weights: &[f32], wanted: f32) -> f32 {
    let (mut low, mut high) =
        known.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
    (low, high) = (low - 16.0, high + 16.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        let sum: f32 = known.iter().zip(weights).map(|(&known, &w)| w / (1.0 + libm::expf(known - middle))).sum();
        if sum < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}
