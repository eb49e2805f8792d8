//! Scores of one embedding: exact integer sums for int8 weights, a fixed order of operations for floats.

use half::f16;

use super::{HeadView, Kind, WeightRow};
use crate::error::{Error, Result};
use crate::quant::EmbeddingKind;

/// The best class and how sure the head is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Index of the class with the largest logit; the first of equals.
    pub class: usize,
    /// Its probability for softmax and sigmoid heads; its logit for regression and prototype heads.
    pub score: f32,
}

impl HeadView<'_> {
    /// The C logits of one embedding row, into `logits[C]`.
    ///
    /// Refuses a row or buffer of another size, and reports logits that are not finite (a damaged f16 row, weights
    /// near the end of f32's range).
    pub fn logits(&self, row: &[u8], logits: &mut [f32]) -> Result<()> {
        if logits.len() != self.classes() {
            return Err(Error::Buffer { what: "logits", needs: self.classes(), has: logits.len() });
        }
        let factor = self.factor(row)?;
        for (class, logit) in logits.iter_mut().enumerate() {
            *logit = self.logit(class, row, factor)?;
        }
        Ok(())
    }

    /// The scores of one embedding row, into `scores[C]`: probabilities for softmax and sigmoid heads, else logits.
    pub fn scores(&self, row: &[u8], scores: &mut [f32]) -> Result<()> {
        self.logits(row, scores)?;
        match self.kind {
            Kind::Softmax => softmax(scores),
            Kind::Sigmoid => scores.iter_mut().for_each(|v| *v = sigmoid(*v)),
            Kind::Regression | Kind::Prototype => {}
        }
        Ok(())
    }

    /// Share of the softmax that class `class` has, without a buffer.
    pub(crate) fn share(&self, class: usize, row: &[u8]) -> Result<f32> {
        let factor = self.factor(row)?;
        let own = self.logit(class, row, factor)?;
        let mut sum = 0.0f32;
        for other in 0..self.classes() {
            sum += libm::expf(self.logit(other, row, factor)? - own);
        }
        Ok(1.0 / sum)
    }

    /// The best class of one embedding row, without a buffer.
    pub fn predict(&self, row: &[u8]) -> Result<Prediction> {
        let factor = self.factor(row)?;
        let mut best = Prediction { class: 0, score: self.logit(0, row, factor)? };
        // Sum over the classes so far of exp(logit − best logit).
        let mut sum = 1.0f32;
        for class in 1..self.classes() {
            let logit = self.logit(class, row, factor)?;
            if logit > best.score {
                sum = sum * libm::expf(best.score - logit) + 1.0;
                best = Prediction { class, score: logit };
            } else {
                sum += libm::expf(logit - best.score);
            }
        }
        match self.kind {
            Kind::Softmax => best.score = 1.0 / sum,
            Kind::Sigmoid => best.score = sigmoid(best.score),
            Kind::Regression | Kind::Prototype => {}
        }
        Ok(best)
    }

    /// What a product with the stored steps (int8, zero point subtracted) or values (f16) is multiplied by: the
    /// embedding's scale, or one over the length of the row where only its direction counts.
    fn factor(&self, row: &[u8]) -> Result<f32> {
        let expected = self.embedding.row_bytes();
        if row.len() != expected {
            return Err(Error::Shape { what: "bytes of an embedding row", expected, got: row.len() });
        }
        if !self.unit {
            return Ok(match self.embedding.kind {
                EmbeddingKind::Int8(q) => q.scale,
                EmbeddingKind::F16 => 1.0,
            });
        }
        let squares = match self.embedding.kind {
            EmbeddingKind::Int8(q) => squares_i8(row, q.zero_point) as f32,
            EmbeddingKind::F16 => lane_sum(halves(row).map(|e| e * e)),
        };
        Ok(if squares == 0.0 { 0.0 } else { 1.0 / libm::sqrtf(squares) })
    }

    /// Score of one class, products with the stored steps or values being multiplied by `factor`.
    pub(crate) fn logit(&self, class: usize, row: &[u8], factor: f32) -> Result<f32> {
        let unknown = Error::UnknownClass { class, classes: self.classes() };
        let (Some(bias), Some(weights)) = (self.bias(class), self.weight_row(class)) else {
            return Err(unknown);
        };
        let product = match (self.embedding.kind, weights) {
            (EmbeddingKind::Int8(q), WeightRow::Int8 { scale, row: weights }) => {
                (scale * factor) * dot_i8(weights, row, q.zero_point) as f32
            }
            (EmbeddingKind::Int8(q), WeightRow::F32(weights)) => {
                let zero = i16::from(q.zero_point);
                let steps = row.iter().map(|b| f32::from(i16::from(b.cast_signed()) - zero));
                factor * lane_sum(steps.zip(weights).map(|(e, w)| f32::from_le_bytes(*w) * e))
            }
            (EmbeddingKind::F16, WeightRow::Int8 { scale, row: weights }) => {
                (scale * factor) * lane_sum(halves(row).zip(weights).map(|(e, w)| f32::from(w.cast_signed()) * e))
            }
            (EmbeddingKind::F16, WeightRow::F32(weights)) => {
                factor * lane_sum(halves(row).zip(weights).map(|(e, w)| f32::from_le_bytes(*w) * e))
            }
        };
        let logit = bias + product;
        if logit.is_finite() { Ok(logit) } else { Err(Error::NonFinite { what: "logits", index: class }) }
    }
}

/// Turns logits into probabilities that sum to 1, in place; exp through `libm`, summed from the first to the last.
pub fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f32;
    for value in values.iter_mut() {
        *value = libm::expf(*value - largest);
        sum += *value;
    }
    for value in values {
        *value /= sum;
    }
}

/// The logistic function 1 / (1 + exp(−x)), exp through `libm`.
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

/// Σ w · (q − zero point), exact: 128 · 255 · D stays below 2^31 up to `EmbeddingSpec::MAX_DIM`.
fn dot_i8(weights: &[u8], row: &[u8], zero_point: i8) -> i32 {
    let zero = i32::from(zero_point);
    weights.iter().zip(row).map(|(w, q)| i32::from(w.cast_signed()) * (i32::from(q.cast_signed()) - zero)).sum()
}

/// ‖q − zero point‖², exact: 255² · D fits u64 for every D.
fn squares_i8(row: &[u8], zero_point: i8) -> u64 {
    let zero = i32::from(zero_point);
    row.iter().map(|q| u64::from((i32::from(q.cast_signed()) - zero).unsigned_abs().pow(2))).sum()
}

fn halves(row: &[u8]) -> impl Iterator<Item = f32> + '_ {
    row.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32())
}

/// Sums terms 0, 8, 16, …, terms 1, 9, 17, … and so on apart, then the eight sums as a binary tree: an order that
/// processors can follow eight at a time and that is the same everywhere.
fn lane_sum(terms: impl Iterator<Item = f32>) -> f32 {
    let mut terms = terms.fuse();
    let mut lanes = [0.0f32; 8];
    'all: loop {
        for lane in &mut lanes {
            match terms.next() {
                Some(term) => *lane += term,
                None => break 'all,
            }
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
