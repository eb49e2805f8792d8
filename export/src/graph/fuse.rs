//! Rewrites that leave a graph smaller and its outputs the same: BatchNormalization, scales and biases into the weights
//! beside them, padding into windows, activations and poolings into one form each, transposes that cancel.
//!
//! Canonical forms that later stages rely on: Gemm with a constant matrix has it as `[outputs, inputs]` (`trans_b`), alpha =
//! beta = 1 and a bias `[outputs]`; a clamp at zero is `Relu`, other clamps with constant bounds are `Clip`; global pooling is
//! `GlobalAveragePool`; what only merges all axes after the batch is `Flatten { axis: 1 }`.

mod activation;
mod affine;
mod layout;
mod rewrite;
mod window;

use std::collections::BTreeMap;

use super::{Graph, fold, infer};
use crate::Result;
use rewrite::Rewriter;

/// Passes are repeated until nothing changes, at most this often.
const MAX_ROUNDS: usize = 8;

/// What [`simplify`] did, for people to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Nodes as read.
    pub nodes_before: usize,
    /// Nodes that are left.
    pub nodes_after: usize,
    /// How often each rewrite was applied, e.g. `BatchNormalization into Conv` → 14.
    pub fused: BTreeMap<&'static str, usize>,
    /// Constant folding and clean-up.
    pub folded: fold::Folded,
}

/// The standard sequence: infer, fold, fuse, infer.
///
/// # Errors
/// [`crate::Error::InvalidModel`] when shapes contradict each other or a tensor is absurdly large.
pub fn simplify(graph: &mut Graph) -> Result<Summary> {
    let mut summary = Summary { nodes_before: graph.nodes.len(), ..Summary::default() };
    let mut budget = fold::Budget::of(graph);
    for _ in 0..MAX_ROUNDS {
        let folded = fold::fold_within(graph, &mut budget)?;
        summary.folded.constants += folded.constants;
        summary.folded.identities += folded.identities;
        summary.folded.dead += folded.dead;
        infer::infer(graph)?;
        let fused = fuse(graph, &mut budget);
        if fused.is_empty() {
            break;
        }
        for (what, n) in fused {
            *summary.fused.entry(what).or_default() += n;
        }
    }
    fold::remove_dead(graph);
    infer::infer(graph)?;
    summary.nodes_after = graph.nodes.len();
    Ok(summary)
}

/// One round of all rewrites; shapes must have been inferred. Gives how often each was applied.
fn fuse(graph: &mut Graph, budget: &mut fold::Budget) -> BTreeMap<&'static str, usize> {
    let mut applied = BTreeMap::new();
    for pass in [
        activation::canonical as fn(&mut Rewriter<'_>, usize) -> Option<&'static str>,
        activation::combine,
        layout::canonical,
        affine::dense,
        affine::into_producer,
        affine::into_consumer,
        affine::lone_batch_normalization,
        window::pad_into_window,
        window::global_pooling,
        layout::transposes,
    ] {
        let mut rewriter = Rewriter::new(graph, budget);
        for i in 0..rewriter.graph.nodes.len() {
            if rewriter.is_removed(i) {
                continue;
            }
            if let Some(what) = pass(&mut rewriter, i) {
                *applied.entry(what).or_default() += 1;
            }
        }
        rewriter.finish();
    }
    applied
}

#[cfg(test)]
mod tests;
