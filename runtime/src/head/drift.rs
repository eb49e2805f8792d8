//! A head on another provider than the one that it was tuned on.
//!
//! Providers round differently: the same input gives embeddings that are a few steps apart. What is the same for all inputs of that, the
//! difference of the means, moves every logit by a constant, which the biases can take back. What differs from input to input stays,
//! and is measured by how many answers change.

use core::fmt;

#[allow(unused_imports, reason = "Vec")]
use crate::prelude::*;

use super::{HeadView, Kind};
use crate::error::{Error, Result};
use crate::tensor::Rows;

/// Smallest share of answers that must stay the same for a head to be used on another provider, unless the caller says otherwise.
pub const AGREEMENT_LIMIT: f32 = 0.95;

/// How the answers of a head differ between the provider that it was tuned on and another one, on the same inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Inputs that both embedded.
    pub rows: usize,
    /// Share of inputs with the same best class, the head as it is.
    pub agreement: f32,
    /// The same re-centred, each input by what the others say: its own difference would flatter it.
    pub recentred: f32,
    /// By how much re-centring moves a logit at most.
    pub largest_shift: f32,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f32| share * 100.0;
        write!(
            f,
            "{:.1} % of {} answers stay the same, {:.1} % re-centred",
            percent(self.agreement),
            self.rows,
            percent(self.recentred)
        )
    }
}

impl HeadView<'_> {
    /// The record of this head for another provider: each class's bias moved by the mean difference of its logits, from
    /// embeddings of the same inputs on the provider that it was tuned on (`there`) and on the other one (`here`).
    ///
    /// # Errors
    /// [`Error::ZeroShots`] without rows, [`Error::OneClass`] where all rows get the same answer, [`Error::Malformed`] for a regression head, [`Error::Shape`] for different numbers of rows or rows of another backbone,
    /// [`Error::NonFinite`] for f16 rows that are.
    pub fn recentred(&self, there: Rows<'_>, here: Rows<'_>) -> Result<(Vec<u8>, Drift)> {
        if there.is_empty() {
            return Err(Error::ZeroShots);
        }
        if self.kind() == Kind::Regression {
            return Err(Error::Malformed { what: "head", why: "its outputs are values, not classes" });
        }
        if there.len() != here.len() {
            return Err(Error::Shape { what: "rows of the other provider", expected: there.len(), got: here.len() });
        }
        let classes = self.classes();
        let (mut before, mut after) = (vec![0.0; classes], vec![0.0; classes]);
        let mut shifts = vec![0.0f64; classes];
        for (there, here) in there.iter().zip(here.iter()) {
            self.logits(there, &mut before)?;
            self.logits(here, &mut after)?;
            for (shift, (before, after)) in shifts.iter_mut().zip(before.iter().zip(&after)) {
                *shift += f64::from(*after) - f64::from(*before);
            }
        }
        let count = there.len();
        let whole: Vec<f64> = shifts.iter().map(|shift| shift / count as f64).collect();
        let bias: Vec<f32> = whole
            .iter()
            .enumerate()
            .map(|(class, shift)| (f64::from(self.bias(class).unwrap_or_default()) - shift) as f32)
            .collect();
        let all: Vec<usize> = (0..classes).collect();
        let record = self.rebuilt(&all, &bias)?;
        let (mut same, mut same_moved, mut first, mut several) = (0, 0, None, false);
        for (there, here) in there.iter().zip(here.iter()) {
            self.logits(there, &mut before)?;
            self.logits(here, &mut after)?;
            let expected = self.answer(&before);
            same += usize::from(self.answer(&after) == expected);
            // Moved by what the other rows say: its own difference would flatter it.
            for ((after, before), shift) in after.iter_mut().zip(&before).zip(&shifts) {
                let own = f64::from(*after) - f64::from(*before);
                *after -= ((shift - own) / (count - 1).max(1) as f64) as f32;
            }
            same_moved += usize::from(self.answer(&after) == expected);
            several |= *first.get_or_insert_with(|| expected.clone()) != expected;
        }
        // Of one class alone every answer could stay the same, and the others be lost.
        if !several && classes > 1 {
            return Err(Error::OneClass);
        }
        let share = |same: usize| (same as f64 / count as f64) as f32;
        let largest_shift = whole.iter().map(|shift| shift.abs() as f32).fold(0.0, f32::max);
        let drift = Drift { rows: count, agreement: share(same), recentred: share(same_moved), largest_shift };
        Ok((record, drift))
    }

    /// The classes that logits stand for: the first best one, or for labels that do not exclude each other all that are more likely than not.
    fn answer(&self, logits: &[f32]) -> Vec<usize> {
        if self.kind() == Kind::Sigmoid {
            return logits.iter().enumerate().filter(|(_, logit)| **logit > 0.0).map(|(class, _)| class).collect();
        }
        let best = logits
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (class, &logit)| if logit > best.1 { (class, logit) } else { best });
        vec![best.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::Fingerprint;
    use crate::head::{HeadParts, Weights};
    use crate::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};

    fn head() -> Vec<u8> {
        let quant = QuantParams { scale: 0.1, zero_point: 0 };
        let parts = HeadParts {
            kind: Kind::Softmax,
            unit: false,
            fingerprint: Fingerprint([7; 16]),
            embedding: EmbeddingSpec { dim: 2, kind: EmbeddingKind::Int8(quant) },
            labels: &["left", "right"],
            bias: &[0.5, 0.0],
            weights: Weights::Int8 { scales: &[0.1, 0.1], rows: &[10, 0, 0, 10] },
        };
        parts.to_bytes().unwrap()
    }

    /// Rows left and right of the line between the classes, and the same with every value of the second dimension `shift` steps higher.
    fn rows(shift: u8) -> Vec<u8> {
        (0..20u8).flat_map(|i| if i % 2 == 0 { [20, 22 + shift] } else { [20, 28 + shift] }).collect()
    }

    #[test]
    fn a_constant_difference_is_taken_back() {
        let record = head();
        let head = HeadView::parse(&record).unwrap();
        let (there, here) = (rows(0), rows(4));
        let (moved, drift) = head.recentred(Rows::new(&there, 2).unwrap(), Rows::new(&here, 2).unwrap()).unwrap();
        // Half of them cross the line by the shift alone.
        assert_eq!((drift.rows, drift.agreement, drift.recentred), (20, 0.5, 1.0));
        assert!((drift.largest_shift - 0.4).abs() < 1e-6, "{drift:?}");
        let moved = HeadView::parse(&moved).unwrap();
        assert!((moved.bias(1).unwrap() + 0.4).abs() < 1e-6 && moved.bias(0) == head.bias(0));
        assert_eq!(moved.weight_row(0), head.weight_row(0));
        // The same rows move nothing, to the byte.
        let (same, drift) = head.recentred(Rows::new(&there, 2).unwrap(), Rows::new(&there, 2).unwrap()).unwrap();
        assert_eq!((same, drift.agreement, drift.largest_shift), (record.clone(), 1.0, 0.0));
    }

    #[test]
    fn other_answers_are_counted_and_bad_rows_refused() {
        let record = head();
        let head = HeadView::parse(&record).unwrap();
        let there = rows(0);
        let mut here = there.clone();
        here.rotate_left(2);
        let (_, drift) = head.recentred(Rows::new(&there, 2).unwrap(), Rows::new(&here, 2).unwrap()).unwrap();
        assert_eq!((drift.agreement, drift.recentred), (0.0, 0.0), "every answer is another");
        let short = Rows::new(&here[..4], 2).unwrap();
        assert_eq!(head.recentred(Rows::new(&there, 2).unwrap(), short).unwrap_err().code(), "shape");
        let none = Rows::new(&[], 2).unwrap();
        assert_eq!(head.recentred(none, none).unwrap_err().code(), "zero-shots");
        let alike = Rows::new(&there[..2], 2).unwrap();
        assert_eq!(head.recentred(alike, alike).unwrap_err().code(), "one-class");
        let wide = Rows::new(&there, 4).unwrap();
        assert_eq!(head.recentred(wide, wide).unwrap_err().code(), "shape");
    }
}
