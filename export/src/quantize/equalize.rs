//! Channel equalization: channels that use a small part of their tensor's range are widened, at the cost of nothing in float.
//!
//! A channel's factor multiplies the rows of the weights that make it and divides the columns that read it. Where a ReLU6 is absorbed
//! the reference is capped at 6 times the factor, so that the function stays the same. After Nagel et al., "Data-free quantization
//! through weight equalization and bias correction" (2019), with ranges measured on data instead of taken from the weights.

use super::network::{Network, root};
use crate::graph::{Op, ValueId};

/// Largest factor.
const CAP: f32 = 64.0;
/// Shares of the possible widening that are used: (in general, where every reader is depthwise). The readers' weights lose what the
/// activations gain, but a depthwise reader has a scale for each channel.
const EXPONENTS: (f32, f32) = (0.5, 0.7);
/// The same where no unbounded ReLU takes part: such networks lose more by clipping unseen rows than they gain.
const EXPONENTS_BOUNDED: (f32, f32) = (0.25, 0.5);

/// Ranges that the calibration rows suggest, after absorbed activations.
#[derive(Debug, Clone, Default)]
pub(super) struct ChannelRanges {
    /// Per value: (lowest, highest) per channel (axis 1); one entry where there is no such axis.
    pub values: Vec<Vec<(f32, f32)>>,
    /// Per value: (lowest, highest) over all channels, before equalization.
    pub whole: Vec<Option<(f32, f32)>>,
}

/// Factors per value and channel; empty where a value keeps its channels.
pub(super) type Factors = Vec<Vec<f32>>;

/// Chooses the factors, applies them to the weights and to the measured ranges, and returns them.
pub(super) fn equalize(network: &mut Network, ranges: &mut ChannelRanges) -> Factors {
    let factors = choose(network, ranges);
    for step in &mut network.steps {
        let Some(weighted) = &mut step.weighted else { continue };
        let made = &factors[step.node.outputs[0].0];
        for ((mut row, bias), &f) in weighted.matrix.rows_mut().into_iter().zip(&mut weighted.bias).zip(made) {
            row *= f;
            *bias *= f;
        }
        let read = match step.node.inputs[0] {
            Some(x) => &factors[x.0],
            None => continue,
        };
        if read.is_empty() {
            continue;
        }
        let taps: usize = weighted.window.as_ref().map_or(1, |w| w.kernel.iter().product());
        let (outputs, depth) = (weighted.matrix.nrows(), weighted.matrix.ncols() / taps);
        let per_group = outputs / weighted.groups;
        for (o, mut row) in weighted.matrix.rows_mut().into_iter().enumerate() {
            for (k, w) in row.iter_mut().enumerate() {
                *w /= read[o / per_group * depth + k / taps];
            }
        }
    }
    for (value, channels) in ranges.values.iter_mut().enumerate() {
        for (range, &f) in channels.iter_mut().zip(&factors[value]) {
            *range = (range.0 * f, range.1 * f);
        }
    }
    factors
}

/// Channels as slots of one union-find: a slot is made by a weighted step and moves through pools, concatenations and additions.
fn choose(network: &Network, ranges: &ChannelRanges) -> Factors {
    let values = network.graph.values.len();
    let mut slots: Vec<Vec<usize>> = vec![Vec::new(); values];
    let mut parents: Vec<usize> = Vec::new();
    for step in &network.steps {
        let out = step.node.outputs[0];
        let input = |i: usize| step.node.inputs.get(i).copied().flatten();
        slots[out.0] = match (&step.node.op, &step.weighted) {
            (Op::Conv { .. }, Some(weighted)) => {
                let start = parents.len();
                parents.extend(start..start + weighted.matrix.nrows());
                (start..parents.len()).collect()
            }
            (Op::MaxPool { .. }, _) => input(0).map(|x| slots[x.0].clone()).unwrap_or_default(),
            (Op::Concat { axis: 1 }, _) => {
                let parts: Vec<&Vec<usize>> = step.node.inputs.iter().flatten().map(|x| &slots[x.0]).collect();
                // A part without channels of its own (the model's input, say) blocks the others.
                if parts.iter().any(|p| p.is_empty()) {
                    Vec::new()
                } else {
                    parts.into_iter().flatten().copied().collect()
                }
            }
            (Op::Add, _) => match (input(0), input(1)) {
                (Some(a), Some(b)) if !slots[a.0].is_empty() && slots[a.0].len() == slots[b.0].len() => {
                    for (&a, &b) in slots[a.0].iter().zip(&slots[b.0]) {
                        let (a, b) = (root(&parents, a), root(&parents, b));
                        parents[b] = a;
                    }
                    slots[a.0].clone()
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
    }
    let blocked = blocked_slots(network, &slots, &parents);
    // Room of each slot: by how much every member may grow before it exceeds its tensor's largest channel.
    let mut room = vec![f32::INFINITY; parents.len()];
    let mut depthwise = vec![true; parents.len()];
    let mut unbounded = vec![false; parents.len()];
    for (value, value_slots) in slots.iter().enumerate() {
        let channels = &ranges.values[value];
        if value_slots.is_empty() || channels.len() != value_slots.len() {
            continue;
        }
        let magnitudes: Vec<f32> = channels.iter().map(|r| r.0.abs().max(r.1.abs())).collect();
        let top = magnitudes.iter().fold(0.0f32, |a, &b| a.max(b));
        let has_relu = network.maker[value].is_some_and(|m| {
            let bounds = network.steps[m].bounds;
            bounds.low == 0.0 && bounds.high.is_infinite()
        });
        let only_depthwise = network.readers[value].iter().all(|&r| match &network.steps[r].weighted {
            Some(w) => w.groups > 1,
            None => true,
        });
        for (&slot, &m) in value_slots.iter().zip(&magnitudes) {
            let slot = root(&parents, slot);
            room[slot] = room[slot].min(if m <= 1e-6 * top { 1.0 } else { top / m });
            depthwise[slot] &= only_depthwise;
            unbounded[slot] |= has_relu;
        }
    }
    let factor = |slot: usize| {
        let slot = root(&parents, slot);
        if blocked[slot] || !room[slot].is_finite() {
            return 1.0;
        }
        let (general, narrow) = if unbounded[slot] { EXPONENTS } else { EXPONENTS_BOUNDED };
        let exponent = if depthwise[slot] { narrow } else { general };
        room[slot].max(1.0).powf(exponent).min(CAP)
    };
    slots.iter().map(|s| s.iter().map(|&slot| factor(slot)).collect()).collect()
}

/// Slots that must keep their size: read by anything that is not linear in them, or by the outside.
fn blocked_slots(network: &Network, slots: &[Vec<usize>], parents: &[usize]) -> Vec<bool> {
    let mut blocked = vec![false; parents.len()];
    let mut block = |value: ValueId| {
        for &slot in &slots[value.0] {
            blocked[root(parents, slot)] = true;
        }
    };
    for step in &network.steps {
        let out = step.node.outputs[0];
        let is_scalable = step.bounds.low == f32::NEG_INFINITY || step.bounds.low == 0.0;
        if !is_scalable || (step.bounds.low == f32::NEG_INFINITY && step.bounds.high.is_finite()) {
            block(out);
        }
        // A capped tensor that shares its scale cannot do every channel's cap by saturation.
        if step.bounds.high.is_finite()
            && network.share.iter().enumerate().any(|(v, &r)| {
                r == network.share[out.0]
                    && v != out.0
                    && network.maker[v].is_some_and(|m| network.steps[m].weighted.is_some())
            })
        {
            block(out);
        }
        let passes = match (&step.node.op, &step.weighted) {
            (Op::Conv { group, .. }, Some(w)) => *group == 1 || w.shape[1] == 1,
            (Op::MaxPool { .. } | Op::Concat { axis: 1 } | Op::Add, _) => !slots[out.0].is_empty(),
            _ => false,
        };
        if !passes {
            step.node.inputs.iter().flatten().for_each(|id| block(*id));
        }
    }
    network.graph.outputs.iter().for_each(|id| block(*id));
    blocked
}
