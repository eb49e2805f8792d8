//! Activations: one form each.

use super::rewrite::Rewriter;
use crate::graph::{Op, ValueId};

/// The single number of a constant that does not change the other operand's shape.
fn scalar(r: &Rewriter<'_>, i: usize, k: usize) -> Option<f32> {
    let other = r.input(i, 1 - k)?;
    let shape = r.floats_shape(i, k)?;
    if shape.iter().any(|&n| n != 1) || shape.len() > r.rank(other)? {
        return None;
    }
    r.floats(i, k)?.1.first().copied()
}

/// The variable operand and the constant of a binary operator.
fn with_scalar(r: &Rewriter<'_>, i: usize, commutes: bool) -> Option<(ValueId, f32)> {
    if r.node(i).inputs.len() != 2 {
        return None;
    }
    if let Some(v) = scalar(r, i, 1) {
        return Some((r.input(i, 0)?, v));
    }
    let v = scalar(r, i, 0).filter(|_| commutes)?;
    Some((r.input(i, 1)?, v))
}

/// `clamp` as an operator: Relu where it is one.
fn clip(min: f32, max: f32) -> Op {
    if min == 0.0 && max == f32::INFINITY { Op::Relu } else { Op::Clip { min, max } }
}

/// The bounds of an operator that clamps.
fn bounds(op: &Op) -> Option<(f32, f32)> {
    match *op {
        Op::Relu => Some((0.0, f32::INFINITY)),
        Op::Clip { min, max } if min <= max => Some((min, max)),
        _ => None,
    }
}

/// Max and Min with a number become Clip, Clip from zero becomes Relu.
pub(super) fn canonical(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    match r.node(i).op {
        Op::Clip { min, max } if min == 0.0 && max == f32::INFINITY => {
            r.graph.nodes[i].op = Op::Relu;
            Some("Clip to Relu")
        }
        Op::Max => {
            let (x, v) = with_scalar(r, i, true).filter(|(_, v)| !v.is_nan())?;
            r.replace(i, clip(v, f32::INFINITY), vec![Some(x)]);
            Some("Max to Relu or Clip")
        }
        Op::Min => {
            let (x, v) = with_scalar(r, i, true).filter(|(_, v)| !v.is_nan())?;
            r.replace(i, clip(f32::NEG_INFINITY, v), vec![Some(x)]);
            Some("Min to Clip")
        }
        _ => None,
    }
}

/// Patterns of several nodes.
pub(super) fn combine(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    clamps(r, i).or_else(|| leaky(r, i)).or_else(|| hard_sigmoid(r, i)).or_else(|| hard_swish(r, i))
}

/// Two clamps in a row are one.
fn clamps(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    let (min, max) = bounds(&r.node(i).op)?;
    let x = r.input(i, 0)?;
    let p = r.maker(x)?;
    let (first_min, first_max) = bounds(&r.node(p).op)?;
    if r.only_reader(x)? != i {
        return None;
    }
    let op = clip(first_min.clamp(min, max), first_max.clamp(min, max));
    r.graph.nodes[p].op = op;
    r.absorb_later(p, i);
    Some("two clamps into one")
}

/// max(x, alpha · x) with 0 ≤ alpha ≤ 1 is LeakyRelu.
fn leaky(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    if r.node(i).op != Op::Max || r.node(i).inputs.len() != 2 {
        return None;
    }
    let (a, b) = (r.input(i, 0)?, r.input(i, 1)?);
    for (x, scaled) in [(a, b), (b, a)] {
        let Some(p) = r.maker(scaled).filter(|&p| r.node(p).op == Op::Mul) else { continue };
        let Some((of, alpha)) = with_scalar(r, p, true) else { continue };
        if of == x && (0.0..=1.0).contains(&alpha) && r.only_reader(scaled) == Some(i) {
            r.replace(i, Op::LeakyRelu { alpha }, vec![Some(x)]);
            return Some("Max(x, alpha x) to LeakyRelu");
        }
    }
    None
}

/// clip(x + b, 0, c) / c is HardSigmoid with alpha 1/c and beta b/c.
fn hard_sigmoid(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    let (x, factor) = match r.node(i).op {
        Op::Div => with_scalar(r, i, false).map(|(x, v)| (x, 1.0 / f64::from(v)))?,
        Op::Mul => with_scalar(r, i, true).map(|(x, v)| (x, f64::from(v)))?,
        _ => return None,
    };
    let clamp = r.maker(x)?;
    let Op::Clip { min, max } = r.node(clamp).op else { return None };
    if min != 0.0 || (f64::from(max) * factor - 1.0).abs() > 1e-6 || r.only_reader(x)? != i {
        return None;
    }
    let sum = r.input(clamp, 0)?;
    let add = r.maker(sum).filter(|&p| r.node(p).op == Op::Add)?;
    let (of, shift) = with_scalar(r, add, true)?;
    if r.only_reader(sum)? != clamp {
        return None;
    }
    let op = Op::HardSigmoid { alpha: factor as f32, beta: (f64::from(shift) * factor) as f32 };
    r.replace(i, op, vec![Some(of)]);
    Some("clip(x + b) / c to HardSigmoid")
}

/// x · hard sigmoid(x) with the constants 1/6 and 1/2 is HardSwish (an operator since opset 14).
fn hard_swish(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    if r.graph.opset < 14 || r.node(i).op != Op::Mul || r.node(i).inputs.len() != 2 {
        return None;
    }
    let (a, b) = (r.input(i, 0)?, r.input(i, 1)?);
    for (x, gate) in [(a, b), (b, a)] {
        let Some(p) = r.maker(gate) else { continue };
        let Op::HardSigmoid { alpha, beta } = r.node(p).op else { continue };
        let exact = (alpha - 1.0 / 6.0).abs() < 1e-6 && (beta - 0.5).abs() < 1e-6;
        if exact && r.input(p, 0) == Some(x) && r.only_reader(gate) == Some(i) {
            r.replace(i, Op::HardSwish, vec![Some(x)]);
            return Some("x * HardSigmoid(x) to HardSwish");
        }
    }
    None
}
