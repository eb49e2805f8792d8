//! Taking a class out of a head.

#[allow(unused_imports, reason = "Vec")]
use crate::prelude::*;

use crate::error::{Error, Result};
use crate::head::{HeadParts, HeadView, MAX_CLASSES, WeightRow, Weights};

/// The record of `head` without the class of this label (all of them, should several share it). Scores of softmax heads
/// are shared among the classes that stay. Refuses to take out the last class.
pub(super) fn without_class(head: &HeadView<'_>, gone: &str) -> Result<Vec<u8>> {
    let stay = || (0..head.classes()).filter(|class| head.label(*class) != Some(gone));
    if stay().next().is_none() {
        return Err(Error::Bounds { what: "classes that would stay", value: 0, min: 1, max: MAX_CLASSES as u64 });
    }
    let labels: Vec<&str> = stay().filter_map(|class| head.label(class)).collect();
    let bias: Vec<f32> = stay().filter_map(|class| head.bias(class)).collect();
    let (mut scales, mut steps, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for row in stay().filter_map(|class| head.weight_row(class)) {
        match row {
            WeightRow::Int8 { scale, row } => {
                scales.push(scale);
                steps.extend(row.iter().map(|byte| byte.cast_signed()));
            }
            WeightRow::F32(row) => weights.extend(row.iter().map(|bytes| f32::from_le_bytes(*bytes))),
        }
    }
    let weights =
        if scales.is_empty() { Weights::F32(&weights) } else { Weights::Int8 { scales: &scales, rows: &steps } };
    let (kind, unit, fingerprint, embedding) = (head.kind(), head.unit(), head.fingerprint(), head.embedding());
    HeadParts { kind, unit, fingerprint, embedding, labels: &labels, bias: &bias, weights }.to_bytes()
}
