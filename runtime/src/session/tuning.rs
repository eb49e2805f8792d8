//! From what a session holds to the inputs of [`tune`](crate::tune), and from its weights to a head record.

#[allow(unused_imports, reason = "Vec, String, vec!")]
use crate::prelude::*;

use super::Candidate;
use super::memory::Memory as Shots;
use crate::bundle::Bundle;
use crate::error::Result;
use crate::head::{HeadParts, HeadView, Kind, Weights};
use crate::quant::symmetric_row;
use crate::store::Measures;
use crate::tensor::Rows;
use crate::tune::{self, Input, Labelled, LeftOut, Memory, NO_CLASS, OldHead, Options, Outcome, Output, Prior};

/// Code of the default solver in [`Measures::method`].
const SOFTMAX: u16 = 1;

/// Tunes on all of `shots` and the bundle's canaries; `old` is the head in use and what it knows of the canaries.
///
/// The new head has the classes of the old one that have a shot or a replayed canary, or that the bundle's own head speaks for where any
/// canary is replayed, in their order; then the shots' new ones. Those of the old one that are left out are the last answer.
pub(super) fn tune(
    bundle: &Bundle<'_>,
    shots: &Shots,
    old: Option<(HeadView<'_>, &[LeftOut])>,
    options: &Options,
) -> Result<(Outcome, Candidate, Vec<String>)> {
    let (spec, canaries) = (bundle.embedding, bundle.canaries);
    let canary_labels: Vec<&str> = canaries.map_or_else(Vec::new, |canaries| {
        let labels = bundle.labels();
        canaries.iter().map(|(class, _)| labels.and_then(|labels| labels.get(class)).unwrap_or_default()).collect()
    });
    let replayed = |label: &str| options.replay_weight > 0.0 && canary_labels.contains(&label);
    // Its rows speak for classes without examples, as long as there are canaries to hold the new ones back.
    let base = bundle.head.filter(|head| head.kind() == Kind::Softmax);
    let replays = old.is_some_and(|(head, _)| head.labels().iter().any(replayed));
    let in_base = |label: &str| replays && base.is_some_and(|base| base.labels().position(label).is_some());
    let taught = |label: &str| shots.labels().iter().any(|known| known == label);

    let mut labels: Vec<&str> = Vec::new();
    let known = old.iter().flat_map(|(head, _)| head.labels().iter());
    for label in known
        .filter(|label| replayed(label) || in_base(label) || taught(label))
        .chain(shots.labels().iter().map(String::as_str))
    {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let known = old.iter().flat_map(|(head, _)| head.labels().iter());
    let dropped = known.filter(|label| !labels.contains(label)).map(String::from).collect();
    let class_in_new = |label: &str| index(labels.iter().position(|known| *known == label));
    let shot_classes: Vec<u16> = shots.shots().map(|shot| class_in_new(shot.label)).collect();
    let shot_states: Vec<LeftOut> = shots.shots().map(|shot| shot.left_out).collect();
    let canary_classes: Vec<u16> = canary_labels.iter().map(|label| class_in_new(label)).collect();
    let class_of: Vec<u16> =
        labels.iter().map(|label| index(old.and_then(|(head, _)| head.labels().position(label)))).collect();
    let base_class_of: Vec<u16> =
        labels.iter().map(|label| index(base.and_then(|base| base.labels().position(label)))).collect();
    let input = Input {
        spec,
        classes: labels.len(),
        shots: Labelled { rows: Rows::new(shots.rows(), spec.row_bytes())?, classes: &shot_classes },
        canaries: canaries.map(|canaries| Labelled { rows: canaries.rows(), classes: &canary_classes }),
        old: old.map(|(head, canaries)| OldHead { head, class_of: &class_of, shots: &shot_states, canaries }),
        prior: base.map(|head| Prior { head, class_of: &base_class_of }),
    };

    let (n, m, dim, classes) = (shot_classes.len(), canary_classes.len(), spec.dim, labels.len());
    let mut values = vec![0.0; Memory::values_len(n, m, dim, classes)];
    let mut indices = vec![0; Memory::indices_len(n, m)];
    let (mut weights, mut bias) = (vec![0.0; classes * dim], vec![0.0; classes]);
    let (mut left_out, mut canaries) = (vec![LeftOut::New; n], vec![LeftOut::New; m]);
    let memory = Memory { values: &mut values, indices: &mut indices };
    let out = Output { weights: &mut weights, bias: &mut bias, shots: &mut left_out, canaries: &mut canaries };
    let outcome = tune::tune(&input, options, memory, out)?;

    let mut steps = vec![0; classes * dim];
    let rows = weights.chunks_exact(dim).zip(steps.chunks_exact_mut(dim));
    let scales: Vec<f32> = rows.map(|(weights, steps)| symmetric_row(weights, steps)).collect::<Result<_>>()?;
    let parts = HeadParts {
        kind: Kind::Softmax,
        unit: true,
        fingerprint: bundle.fingerprint,
        embedding: spec,
        labels: &labels,
        bias: &bias,
        weights: Weights::Int8 { scales: &scales, rows: &steps },
    };
    let measures = Measures {
        method: SOFTMAX,
        l2: Some(outcome.fit.l2),
        loo_accuracy: outcome.loo_accuracy,
        canary_before: outcome.canary_before,
        canary_after: outcome.canary_after,
    };
    Ok((outcome, Candidate { head: parts.to_bytes()?, measures, left_out, canaries }, dropped))
}

/// A class index, or [`NO_CLASS`].
fn index(class: Option<usize>) -> u16 {
    class.and_then(|class| u16::try_from(class).ok()).unwrap_or(NO_CLASS)
}
