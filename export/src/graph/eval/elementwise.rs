//! Activations and elementwise arithmetic with ONNX (numpy) broadcasting.

use std::borrow::Cow;

use ndarray::{ArrayD, IxDyn, Zip};

use super::{Fault, Outcome, elements, norm::contiguous, shape::flat};
use crate::graph::{Op, Tensor};

/// Whether [`unary`] computes the operator.
pub(super) fn is_unary(op: &Op) -> bool {
    matches!(
        op,
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
    )
}

/// Applies an activation or function of one variable in place. NaN stays NaN.
pub(super) fn unary(op: &Op, x: &mut ArrayD<f32>) -> Outcome<()> {
    let data = contiguous(x)?;
    match *op {
        Op::Relu => each(data, |v| if v < 0.0 { 0.0 } else { v }),
        Op::LeakyRelu { alpha } => each(data, |v| if v < 0.0 { alpha * v } else { v }),
        Op::Clip { min, max } => each(data, |v| {
            let v = if v < min { min } else { v };
            if v > max { max } else { v }
        }),
        Op::Sigmoid => each(data, |v| 1.0 / (1.0 + (-v).exp())),
        Op::Tanh => each(data, f32::tanh),
        Op::Erf => each(data, libm::erff),
        Op::HardSigmoid { alpha, beta } => each(data, |v| (alpha * v + beta).clamp(0.0, 1.0)),
        Op::HardSwish => each(data, |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
        Op::Sqrt => each(data, f32::sqrt),
        Op::Exp => each(data, f32::exp),
        Op::Log => each(data, f32::ln),
        Op::Neg => each(data, |v| -v),
        Op::Abs => each(data, f32::abs),
        Op::Reciprocal => each(data, f32::recip),
        _ => return Fault::unsupported("not a function of one variable"),
    }
    Ok(())
}

fn each(data: &mut [f32], f: impl Fn(f32) -> f32) {
    data.iter_mut().for_each(|v| *v = f(*v));
}

pub(super) fn integer_unary(op: &Op, x: &Tensor) -> Outcome<Tensor> {
    match (op, x) {
        (Op::Neg, Tensor::I64(a)) => Ok(Tensor::I64(a.mapv(i64::wrapping_neg))),
        (Op::Abs, Tensor::I64(a)) => Ok(Tensor::I64(a.mapv(i64::wrapping_abs))),
        (Op::Neg, Tensor::I32(a)) => Ok(Tensor::I32(a.mapv(i32::wrapping_neg))),
        (Op::Abs, Tensor::I32(a)) => Ok(Tensor::I32(a.mapv(i32::wrapping_abs))),
        _ => Fault::unsupported(format!("element type {:?}", x.dtype())),
    }
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast_shape(a: &[usize], b: &[usize]) -> Outcome<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    let mut out = Vec::with_capacity(rank);
    for i in 0..rank {
        out.push(match (at(a, i), at(b, i)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Fault::invalid(format!("shapes {a:?} and {b:?} do not broadcast")),
        });
    }
    Ok(out)
}

/// Add, Sub, Mul, Div, Pow, Max, Min of f32 (in place where `a` is given away and large enough), i64 and i32.
pub(super) fn binary(op: &Op, a: Cow<'_, Tensor>, b: &Tensor) -> Outcome<Tensor> {
    if a.dtype() != b.dtype() {
        return Fault::unsupported(format!("element types {:?} and {:?}", a.dtype(), b.dtype()));
    }
    match (a.as_ref(), b) {
        (Tensor::F32(_), Tensor::F32(b)) => {
            let Tensor::F32(a) = a.into_owned() else { return Fault::invalid("not f32") };
            Ok(Tensor::F32(match op {
                Op::Add => broadcast_f32(a, b, |x, y| x + y)?,
                Op::Sub => broadcast_f32(a, b, |x, y| x - y)?,
                Op::Mul => broadcast_f32(a, b, |x, y| x * y)?,
                Op::Div => broadcast_f32(a, b, |x, y| x / y)?,
                // Squares are exact and fast; they are what models use.
                Op::Pow => broadcast_f32(a, b, |x, y| if y == 2.0 { x * x } else { x.powf(y) })?,
                Op::Max => broadcast_f32(a, b, |x, y| if x < y || y.is_nan() { y } else { x })?,
                Op::Min => broadcast_f32(a, b, |x, y| if x > y || y.is_nan() { y } else { x })?,
                _ => return Fault::unsupported("not an arithmetic operator"),
            }))
        }
        (Tensor::I64(a), Tensor::I64(b)) => {
            let f = integer(op, b.iter().any(|&y| y == 0))?;
            Ok(Tensor::I64(broadcast(a, b, f)?))
        }
        (Tensor::I32(a), Tensor::I32(b)) => {
            let f = integer(op, b.iter().any(|&y| y == 0))?;
            let wide = broadcast(&a.mapv(i64::from), &b.mapv(i64::from), f)?;
            Ok(Tensor::I32(wide.mapv(|v| v as i32)))
        }
        _ => Fault::unsupported(format!("element type {:?}", b.dtype())),
    }
}

fn integer(op: &Op, zero_divisor: bool) -> Outcome<fn(i64, i64) -> i64> {
    Ok(match op {
        Op::Add => i64::wrapping_add,
        Op::Sub => i64::wrapping_sub,
        Op::Mul => i64::wrapping_mul,
        Op::Div if zero_divisor => return Fault::invalid("integer division by zero"),
        Op::Div => i64::wrapping_div,
        Op::Max => Ord::max,
        Op::Min => Ord::min,
        _ => return Fault::unsupported("this operator on integers"),
    })
}

/// f(a, b) with broadcasting; `a` is reused for the result where the shapes allow.
fn broadcast_f32(mut a: ArrayD<f32>, b: &ArrayD<f32>, f: impl Fn(f32, f32) -> f32) -> Outcome<ArrayD<f32>> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    if a.shape() == shape {
        // `b` either equals `a` in shape, or varies over one run of axes in the middle: [outer, middle, inner].
        if let Some(inner) = middle_run(b.shape(), &shape) {
            let b = flat(b);
            let data = contiguous(&mut a)?;
            match (inner, b.len()) {
                (_, 1) => data.iter_mut().for_each(|x| *x = f(*x, b[0])),
                (1, n) => {
                    for row in data.chunks_exact_mut(n) {
                        row.iter_mut().zip(b.iter()).for_each(|(x, y)| *x = f(*x, *y));
                    }
                }
                (inner, _) => {
                    for (plane, &y) in data.chunks_exact_mut(inner).zip(b.iter().cycle()) {
                        plane.iter_mut().for_each(|x| *x = f(*x, y));
                    }
                }
            }
            return Ok(a);
        }
    }
    broadcast(&a, b, f)
}

/// The number of elements of `shape` after the run of axes that `b` varies over, when these are adjacent.
fn middle_run(b: &[usize], shape: &[usize]) -> Option<usize> {
    let lead = shape.len() - b.len();
    let varying: Vec<usize> = (0..b.len()).filter(|&i| b[i] != 1).map(|i| i + lead).collect();
    if shape.contains(&0) {
        return None;
    }
    let (Some(&first), Some(&last)) = (varying.first(), varying.last()) else { return Some(1) };
    // Axes of size one in the result may lie between; others that `b` does not vary over may not.
    let adjacent = (first..=last).all(|i| shape[i] == b[i - lead]);
    adjacent.then(|| shape[last + 1..].iter().product())
}

fn broadcast<T: Copy, U>(a: &ArrayD<T>, b: &ArrayD<T>, f: impl Fn(T, T) -> U) -> Outcome<ArrayD<U>> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    elements(&shape)?;
    let dim = IxDyn(&shape);
    match (a.broadcast(dim.clone()), b.broadcast(dim)) {
        (Some(a), Some(b)) => Ok(Zip::from(a).and(b).map_collect(|&x, &y| f(x, y))),
        _ => Fault::invalid(format!("shapes {:?} and {:?} do not broadcast", a.shape(), b.shape())),
    }
}

/// x where x ≥ 0, else slope · x; the slope broadcasts.
pub(super) fn prelu(x: &ArrayD<f32>, slope: &ArrayD<f32>) -> Outcome<ArrayD<f32>> {
    let out = broadcast_f32(x.clone(), slope, |v, s| if v < 0.0 { s * v } else { v })?;
    if out.shape() == x.shape() { Ok(out) } else { Fault::invalid("the slope is larger than the data") }
}

pub(super) fn equal(a: &Tensor, b: &Tensor) -> Outcome<Tensor> {
    Ok(Tensor::Bool(match (a, b) {
        (Tensor::F32(a), Tensor::F32(b)) => broadcast(a, b, |x, y| x == y)?,
        (Tensor::I64(a), Tensor::I64(b)) => broadcast(a, b, |x, y| x == y)?,
        (Tensor::I32(a), Tensor::I32(b)) => broadcast(a, b, |x, y| x == y)?,
        (Tensor::Bool(a), Tensor::Bool(b)) => broadcast(a, b, |x, y| x == y)?,
        _ => return Fault::unsupported(format!("element types {:?} and {:?}", a.dtype(), b.dtype())),
    }))
}

/// Where: `a` where the condition holds, else `b`.
pub(super) fn select(condition: &Tensor, a: &Tensor, b: &Tensor) -> Outcome<Tensor> {
    let Tensor::Bool(condition) = condition else {
        return Fault::invalid(format!("the condition has type {:?}", condition.dtype()));
    };
    Ok(match (a, b) {
        (Tensor::F32(a), Tensor::F32(b)) => Tensor::F32(choose(condition, a, b)?),
        (Tensor::F16(a), Tensor::F16(b)) => Tensor::F16(choose(condition, a, b)?),
        (Tensor::I64(a), Tensor::I64(b)) => Tensor::I64(choose(condition, a, b)?),
        (Tensor::I32(a), Tensor::I32(b)) => Tensor::I32(choose(condition, a, b)?),
        _ => return Fault::unsupported(format!("element types {:?} and {:?}", a.dtype(), b.dtype())),
    })
}

fn choose<T: Copy>(condition: &ArrayD<bool>, a: &ArrayD<T>, b: &ArrayD<T>) -> Outcome<ArrayD<T>> {
    let shape = broadcast_shape(condition.shape(), &broadcast_shape(a.shape(), b.shape())?)?;
    elements(&shape)?;
    let dim = IxDyn(&shape);
    match (condition.broadcast(dim.clone()), a.broadcast(dim.clone()), b.broadcast(dim)) {
        (Some(c), Some(a), Some(b)) => Ok(Zip::from(c).and(a).and(b).map_collect(|&c, &x, &y| if c { x } else { y })),
        _ => Fault::invalid("shapes do not broadcast"),
    }
}
