//! From measured ranges to one step per value, shared where values share one.

use super::Step;
use super::network::{Bounds, Network, keeps_values};
use crate::graph::{Op, ValueId};

/// (low, high) of every value; `None` where nothing was measured.
pub(super) type Measured = Vec<Option<(f32, f32)>>;

/// A step for every value that is stored quantized. With `prescribed`, softmax, sigmoid and tanh have the steps of [`prescribed_step`].
pub(super) fn steps(network: &Network, measured: &Measured, prescribed: bool) -> Vec<Option<Step>> {
    let values = network.graph.values.len();
    // Per shared class: the union of what its makers give; what only moves values does not count.
    let mut union: Vec<Option<(f32, f32)>> = vec![None; values];
    for v in 0..values {
        if !network.stored[v] || moves_values(network, v) {
            continue;
        }
        let Some((low, high)) = measured[v] else { continue };
        let low = low.max(needed_below(network, v));
        let class = &mut union[network.share[v]];
        *class = Some(class.map_or((low, high), |(a, b)| (a.min(low), b.max(high))));
    }
    (0..values)
        .map(|v| {
            let (low, high) = network.stored[v].then(|| union[network.share[v]].or(measured[v]))??;
            let fixed = if prescribed { prescribed_for(network, v) } else { None };
            Some(fixed.unwrap_or_else(|| Step::covering(low, high)))
        })
        .collect()
}

/// The step that is prescribed for all values that share one with `v`; `None` where there is none, or not for all of them.
fn prescribed_for(network: &Network, v: usize) -> Option<Step> {
    let members = (0..network.share.len()).filter(|&u| network.stored[u] && network.share[u] == network.share[v]);
    let mut made = members.filter(|&u| !moves_values(network, u));
    let step = |u: usize| prescribed_step(&network.steps[network.maker[u]?].node.op);
    let first = step(made.next()?)?;
    made.all(|u| step(u) == Some(first)).then_some(first)
}

/// Steps of the operators whose results lie in known bounds: (1/256, −128) for softmax and sigmoid, (1/128, 0) for tanh, as int8
/// (TensorFlow Lite 8-bit quantization specification).
fn prescribed_step(op: &Op) -> Option<Step> {
    match op {
        Op::Softmax { .. } | Op::Sigmoid => Some(Step { scale: 1.0 / 256.0, zero_point: 0 }),
        Op::Tanh => Some(Step { scale: 1.0 / 128.0, zero_point: 128 }),
        _ => None,
    }
}

fn moves_values(network: &Network, v: usize) -> bool {
    network.maker[v].is_some_and(|m| {
        let step = &network.steps[m];
        let reads_stored = step.node.inputs.first().copied().flatten().is_some_and(|x| network.stored[x.0]);
        reads_stored
            && (keeps_values(&step.node.op) || matches!(step.node.op, Op::Concat { .. } | Op::LeakyRelu { .. }))
    })
}

/// Below this a value makes no difference: its only reader is a leaky ReLU whose answer is cut off at a floor.
fn needed_below(network: &Network, v: usize) -> f32 {
    if let [reader] = network.readers[v][..]
        && let Op::LeakyRelu { alpha } = network.steps[reader].node.op
        && alpha > 0.0
        && !network.graph.outputs.contains(&ValueId(v))
    {
        return network.steps[reader].bounds.low / alpha;
    }
    f32::NEG_INFINITY
}

/// The part of an absorbed activation that the output's range does not do by saturating, and that must stay as a node.
pub(super) fn left_over(bounds: Bounds, step: Option<Step>, factors: &[f32]) -> Bounds {
    let Some(step) = step else { return bounds };
    let tolerance = 0.51 * step.scale;
    let (low, high) = (step.dequantize(0), step.dequantize(255));
    let plain = factors.iter().all(|&f| f == 1.0);
    Bounds {
        low: if bounds.low > low + tolerance { bounds.low } else { f32::NEG_INFINITY },
        // Equalized channels have caps of their own; only the least is done by saturation, the others lie beyond what was seen.
        high: if plain && bounds.high < high - tolerance { bounds.high } else { f32::INFINITY },
    }
}
