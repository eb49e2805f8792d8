//! Reshapes and transposes.

use super::rewrite::Rewriter;
use crate::graph::{Dim, Op};

/// Reshape and Squeeze that merge all axes after the batch become Flatten, which keeps any batch.
pub(super) fn canonical(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    if !matches!(r.node(i).op, Op::Reshape { .. } | Op::Squeeze { .. }) {
        return None;
    }
    let x = r.input(i, 0)?;
    let (from, to) = (r.shape(x)?, r.shape(r.output(i)?)?);
    let ([batch, rest @ ..], [same, Dim::Fixed(width)]) = (from, to) else { return None };
    let merged = rest.iter().map(Dim::fixed).try_fold(1usize, |a, n| a.checked_mul(n?))?;
    if batch != same || merged != *width || rest.len() < 2 {
        return None;
    }
    r.replace(i, Op::Flatten { axis: 1 }, vec![Some(x)]);
    Some("Reshape to Flatten")
}

/// Transposes are merged with transposes before them, and moved behind elementwise operators so that they meet.
pub(super) fn transposes(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    merge(r, i).or_else(|| sink_unary(r, i)).or_else(|| sink_binary(r, i)).or_else(|| into_mean(r, i))
}

fn perm_of(r: &Rewriter<'_>, i: usize) -> Option<Vec<usize>> {
    let Op::Transpose { perm } = &r.node(i).op else { return None };
    let rank = r.rank(r.input(i, 0)?)?;
    let perm: Vec<usize> = if perm.is_empty() { (0..rank).rev().collect() } else { perm.clone() };
    (perm.len() == rank && perm.iter().all(|&p| p < rank)).then_some(perm)
}

/// The Transpose that makes input `k` of node `i`, when nobody else reads it.
fn before(r: &Rewriter<'_>, i: usize, k: usize) -> Option<(usize, Vec<usize>)> {
    let x = r.input(i, k)?;
    let p = r.maker(x)?;
    let perm = perm_of(r, p)?;
    (r.only_reader(x)? == i).then_some((p, perm))
}

fn merge(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    let second = perm_of(r, i)?;
    let (p, first) = before(r, i, 0)?;
    let x = r.input(p, 0)?;
    r.graph.nodes[i].op = Op::Transpose { perm: second.iter().map(|&k| first[k]).collect() };
    r.absorb_earlier(p, i, x);
    Some("two Transposes into one")
}

/// f(transpose(x)) = transpose(f(x)).
fn sink_unary(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    let elementwise = matches!(
        r.node(i).op,
        Op::Relu
            | Op::LeakyRelu { .. }
            | Op::Clip { .. }
            | Op::Sigmoid
            | Op::Tanh
            | Op::Erf
            | Op::HardSigmoid { .. }
            | Op::HardSwish
            | Op::Sqrt
            | Op::Exp
            | Op::Log
            | Op::Neg
            | Op::Abs
            | Op::Reciprocal
    );
    if !elementwise {
        return None;
    }
    // Only towards another Transpose: elsewhere nothing is won.
    let next = r.only_reader(r.output(i)?)?;
    perm_of(r, next)?;
    let (p, _) = before(r, i, 0)?;
    swap_ops(r, p, i);
    Some("Transpose behind an activation")
}

/// The two nodes exchange what they compute; the value between them changes its shape to the first one's input.
fn swap_ops(r: &mut Rewriter<'_>, p: usize, i: usize) {
    let op = r.graph.nodes[p].op.clone();
    r.graph.nodes[p].op = std::mem::replace(&mut r.graph.nodes[i].op, op);
    let (a, b) = (r.graph.nodes[p].name.clone(), r.graph.nodes[i].name.clone());
    (r.graph.nodes[p].name, r.graph.nodes[i].name) = (b, a);
    if let (Some(x), Some(between)) = (r.input(p, 0), r.output(p)) {
        let shape = r.graph.value(x).shape.clone();
        r.graph.value_mut(between).shape = shape;
    }
}

/// f(transpose(a), transpose(b)) = transpose(f(a, b)) for the same permutation.
fn sink_binary(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    let binary = matches!(r.node(i).op, Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Max | Op::Min);
    if !binary || r.node(i).inputs.len() != 2 {
        return None;
    }
    let ((p, perm), (q, other)) = (before(r, i, 0)?, before(r, i, 1)?);
    let (a, b) = (r.input(p, 0)?, r.input(q, 0)?);
    if perm != other || p == q || r.rank(a)? != r.rank(b)? {
        return None;
    }
    // The later of the two transposes becomes the operator, and this node the transpose.
    let late = p.max(q);
    let op = r.node(i).op.clone();
    let name = r.node(i).name.clone();
    let between = r.output(late)?;
    let shape = r.shape(a)?.to_vec();
    r.replace(late, op, vec![Some(a), Some(b)]);
    r.graph.nodes[late].name = format!("{name}_inner");
    r.replace(i, Op::Transpose { perm }, vec![Some(between)]);
    // Broadcasting may have enlarged it; inference, which follows, settles the shape.
    r.graph.value_mut(between).shape = Some(shape);
    Some("Transpose behind an elementwise operator")
}

/// A mean that drops axes of transposed data takes them from the original, when the remaining axes keep their order.
fn into_mean(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    let Op::ReduceMean { axes, keepdims: false } = r.node(i).op.clone() else { return None };
    let (p, perm) = before(r, i, 0)?;
    let rank = perm.len();
    let mut reduced = vec![axes.is_empty(); rank];
    for &axis in &axes {
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        *reduced.get_mut(usize::try_from(axis).ok()?)? = true;
    }
    let kept: Vec<usize> = (0..rank).filter(|&k| !reduced[k]).map(|k| perm[k]).collect();
    if !kept.is_sorted() {
        return None;
    }
    let mut axes: Vec<i64> = (0..rank).filter(|&k| reduced[k]).map(|k| perm[k] as i64).collect();
    axes.sort_unstable();
    let x = r.input(p, 0)?;
    r.graph.nodes[i].op = Op::ReduceMean { axes, keepdims: false };
    r.absorb_earlier(p, i, x);
    Some("Transpose into ReduceMean")
}
