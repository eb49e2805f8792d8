//! Per-channel scales and offsets (BatchNormalization, Mul, Div, Add, Sub with constants) into weights and biases.

use super::rewrite::Rewriter;
use crate::graph::{
    Dim, Op, ValueId,
    op::{Padding, Window},
};

/// y = scale · x + shift, per channel or (one element) for all of them.
struct Affine {
    /// What is scaled.
    x: ValueId,
    scale: Vec<f64>,
    shift: Vec<f64>,
    kind: &'static str,
}

impl Affine {
    fn scale(&self, channel: usize) -> f64 {
        self.scale[if self.scale.len() == 1 { 0 } else { channel }]
    }

    fn shift(&self, channel: usize) -> f64 {
        self.shift[if self.shift.len() == 1 { 0 } else { channel }]
    }

    fn fits(&self, channels: usize) -> bool {
        [self.scale.len(), self.shift.len()].iter().all(|&n| n == 1 || n == channels)
    }

    fn is_finite(&self) -> bool {
        self.scale.iter().chain(&self.shift).all(|v| v.is_finite())
    }
}

/// Node `i` read as an affine map along `axis`.
fn affine(r: &mut Rewriter<'_>, i: usize, axis: usize) -> Option<Affine> {
    let op = r.node(i).op.clone();
    let output = r.output(i)?;
    if let Op::BatchNormalization { epsilon } = op {
        let x = r.input(i, 0)?;
        if !(1..=4).all(|k| r.affords_reading(i, k)) {
            return None;
        }
        let [gamma, beta, mean, var] = [1, 2, 3, 4].map(|k| r.floats(i, k).map(|(_, data)| data));
        let (gamma, beta, mean, var) = (gamma?, beta?, mean?, var?);
        let c = gamma.len();
        if axis != 1 || [beta.len(), mean.len(), var.len()].iter().any(|&n| n != c) {
            return None;
        }
        let scale: Vec<f64> =
            gamma.iter().zip(&var).map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(epsilon)).sqrt()).collect();
        let shift = (0..c).map(|k| f64::from(beta[k]) - f64::from(mean[k]) * scale[k]).collect();
        return Some(Affine { x, scale, shift, kind: "BatchNormalization" });
    }
    if !matches!(op, Op::Mul | Op::Div | Op::Add | Op::Sub) {
        return None;
    }
    let (a, b) = (r.input(i, 0)?, r.input(i, 1)?);
    let k = match (r.constant(a), r.constant(b)) {
        (None, Some(_)) => 1,
        (Some(_), None) if matches!(op, Op::Mul | Op::Add) => 0,
        _ => return None,
    };
    let x = if k == 1 { a } else { b };
    let shape = r.floats_shape(i, k)?;
    let rank = r.rank(x)?;
    // The constant must vary over the channel axis alone and not enlarge the result.
    if shape.len() > rank || r.shape(x) != r.shape(output) {
        return None;
    }
    let lead = rank - shape.len();
    if shape.iter().enumerate().any(|(k, &n)| n != 1 && k + lead != axis) || !r.affords_reading(i, k) {
        return None;
    }
    let data: Vec<f64> = r.floats(i, k)?.1.into_iter().map(f64::from).collect();
    let (scale, shift, kind) = match op {
        Op::Mul => (data, vec![0.0], "Mul"),
        Op::Div => (data.iter().map(|v| 1.0 / v).collect(), vec![0.0], "Div"),
        Op::Add => (vec![1.0], data, "Add"),
        _ => (vec![1.0], data.iter().map(|v| -v).collect(), "Sub"),
    };
    Some(Affine { x, scale, shift, kind })
}

/// MatMul with a constant matrix, and Gemm, in canonical form.
pub(super) fn dense(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    match r.node(i).op {
        Op::MatMul => {
            let x = r.input(i, 0)?;
            let [k, n] = matrix(r, i)?;
            if r.rank(x)? != 2 || !r.affords(i, 1) {
                return None;
            }
            let (_, w) = r.floats(i, 1)?;
            let b = r.input(i, 1)?;
            r.replace(i, Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, vec![Some(x), Some(b)]);
            r.set_floats(i, 1, &[n, k], transposed(&w, k, n), "transposed");
            Some("MatMul to Gemm")
        }
        Op::Gemm { alpha, beta, trans_a: false, trans_b } => {
            let [rows, columns] = matrix(r, i)?;
            let n = if trans_b { rows } else { columns };
            let bias_shape = match r.input(i, 2) {
                None => None,
                Some(_) => Some(r.floats_shape(i, 2)?.to_vec()),
            };
            let is_canonical = bias_shape.as_ref().is_none_or(|shape| *shape == [n]);
            if alpha == 1.0 && beta == 1.0 && trans_b && is_canonical {
                return None;
            }
            let fits = |shape: &Vec<usize>| *shape == [n] || *shape == [1, n] || shape.iter().product::<usize>() == 1;
            if !bias_shape.as_ref().is_none_or(fits) || !r.affords(i, 1) {
                return None;
            }
            if bias_shape.is_some() {
                let (_, data) = r.floats(i, 2)?;
                let data: Vec<f32> = (0..n).map(|c| beta * data[if data.len() == 1 { 0 } else { c }]).collect();
                r.set_floats(i, 2, &[n], data, "scaled");
            }
            if alpha != 1.0 || !trans_b {
                let (_, w) = r.floats(i, 1)?;
                let scaled: Vec<f32> = w.iter().map(|v| alpha * v).collect();
                let w = if trans_b { scaled } else { transposed(&scaled, rows, columns) };
                let shape = if trans_b { [rows, columns] } else { [columns, rows] };
                r.set_floats(i, 1, &shape, w, "transposed");
            }
            r.graph.nodes[i].op = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
            Some("Gemm to canonical form")
        }
        _ => None,
    }
}

/// Sizes of the constant matrix that node `i` multiplies with.
fn matrix(r: &Rewriter<'_>, i: usize) -> Option<[usize; 2]> {
    r.floats_shape(i, 1)?.try_into().ok()
}

fn transposed(w: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|at| w[at % rows * columns + at / rows]).collect()
}

/// An affine map into the Conv, Gemm or MatMul before it.
pub(super) fn into_producer(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    if !matches!(r.node(i).op, Op::BatchNormalization { .. } | Op::Mul | Op::Div | Op::Add | Op::Sub) {
        return None;
    }
    let input = [0, 1].into_iter().filter_map(|k| r.input(i, k)).find(|&id| r.maker(id).is_some())?;
    let p = r.maker(input)?;
    if r.only_reader(input)? != i {
        return None;
    }
    let rank = r.rank(input)?;
    if !matches!(r.node(p).op, Op::Conv { .. } | Op::Gemm { .. } | Op::MatMul) {
        return None;
    }
    let is_conv = matches!(r.node(p).op, Op::Conv { .. });
    let map = affine(r, i, if is_conv { 1 } else { rank.checked_sub(1)? })?;
    if map.x != input || !map.is_finite() || !r.affords(p, 1) {
        return None;
    }
    let (shape, w) = r.floats(p, 1)?;
    match r.node(p).op {
        Op::Conv { .. } | Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true } => {
            let channels = *shape.first()?;
            let bias = match r.input(p, 2) {
                None => vec![0.0; channels],
                Some(_) => r.floats(p, 2)?.1,
            };
            if !map.fits(channels) || bias.len() != channels || channels == 0 {
                return None;
            }
            let bias = (0..channels).map(|c| (f64::from(bias[c]) * map.scale(c) + map.shift(c)) as f32).collect();
            if map.scale.iter().any(|&s| s != 1.0) {
                let per_channel = w.len() / channels;
                let w =
                    w.iter().enumerate().map(|(at, &v)| (f64::from(v) * map.scale(at / per_channel)) as f32).collect();
                r.set_floats(p, 1, &shape, w, "fused");
            }
            r.set_floats(p, 2, &[channels], bias, "bias");
        }
        // A MatMul has no bias to take a shift.
        Op::MatMul if map.shift.iter().all(|&s| s == 0.0) && shape.len() == 2 => {
            let channels = shape[1];
            if !map.fits(channels) {
                return None;
            }
            let w = w.iter().enumerate().map(|(at, &v)| (f64::from(v) * map.scale(at % channels)) as f32).collect();
            r.set_floats(p, 1, &shape, w, "fused");
        }
        _ => return None,
    }
    r.absorb_later(p, i);
    Some(match (map.kind, is_conv) {
        ("BatchNormalization", true) => "BatchNormalization into Conv",
        ("BatchNormalization", false) => "BatchNormalization into Gemm",
        ("Add" | "Sub", true) => "bias into Conv",
        ("Add" | "Sub", false) => "bias into Gemm",
        (_, true) => "scale into Conv",
        (_, false) => "scale into Gemm",
    })
}

/// An affine map into the Conv or Gemm after it: exact when no padding (which is zero after the map, not before it) meets a shift.
pub(super) fn into_consumer(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    if !matches!(r.node(i).op, Op::BatchNormalization { .. } | Op::Mul | Op::Div | Op::Add | Op::Sub) {
        return None;
    }
    let output = r.output(i)?;
    let next = r.only_reader(output)?;
    if r.input(next, 0)? != output {
        return None;
    }
    let map = affine(r, i, 1)?;
    // A scale that already has a weight before it belongs there.
    if !map.is_finite() || !matches!(r.node(next).op, Op::Conv { .. } | Op::Gemm { .. }) || !r.affords(next, 1) {
        return None;
    }
    let (shape, w) = r.floats(next, 1)?;
    let unshifted = map.shift.iter().all(|&s| s == 0.0);
    let group = match &r.node(next).op {
        Op::Conv { window, group } if unshifted || is_unpadded(window) => *group,
        Op::Gemm { trans_a: false, trans_b: true, alpha: 1.0, beta: 1.0 } if r.rank(output)? == 2 => 1,
        _ => return None,
    };
    let (m, depth) = (*shape.first()?, *shape.get(1)?);
    let taps: usize = shape[2..].iter().product();
    if group == 0 || m == 0 || m % group != 0 || !map.fits(depth * group) {
        return None;
    }
    let mut bias: Vec<f64> = match r.input(next, 2) {
        None => vec![0.0; m],
        Some(_) => r.floats(next, 2)?.1.into_iter().map(f64::from).collect(),
    };
    if bias.len() != m {
        return None;
    }
    let mut scaled = w.clone();
    for (at, v) in scaled.iter_mut().enumerate() {
        let out = at / (depth * taps);
        let channel = out / (m / group) * depth + at / taps % depth;
        bias[out] += f64::from(*v) * map.shift(channel);
        *v = (f64::from(*v) * map.scale(channel)) as f32;
    }
    r.set_floats(next, 1, &shape, scaled, "fused");
    if !unshifted {
        r.set_floats(next, 2, &[m], bias.into_iter().map(|v| v as f32).collect(), "bias");
    }
    r.absorb_earlier(i, next, map.x);
    Some(match map.kind {
        "BatchNormalization" => "BatchNormalization into the next layer",
        _ => "scale or offset into the next layer",
    })
}

fn is_unpadded(window: &Window) -> bool {
    match &window.padding {
        Padding::Explicit(amounts) => amounts.iter().all(|&n| n == 0),
        Padding::SameUpper | Padding::SameLower => {
            window.kernel.iter().all(|&k| k == 1) && window.strides.iter().all(|&s| s == 1)
        }
    }
}

/// A BatchNormalization that stands alone becomes a depthwise 1x1 Conv.
pub(super) fn lone_batch_normalization(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    if !matches!(r.node(i).op, Op::BatchNormalization { .. }) {
        return None;
    }
    let map = affine(r, i, 1)?;
    let shape = r.shape(map.x)?;
    let spatial = shape.len().checked_sub(2)?;
    let channels = shape[1].fixed()?;
    if !(1..=2).contains(&spatial) || map.scale.len() != channels || !map.is_finite() {
        return None;
    }
    let window = Window {
        kernel: vec![1; spatial],
        strides: vec![1; spatial],
        dilations: vec![1; spatial],
        padding: Padding::Explicit(vec![0; 2 * spatial]),
    };
    let mut weights = vec![channels, 1];
    weights.resize(2 + spatial, 1);
    let name = r.node(i).name.clone();
    let to_f32 = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let (scale, shift) = (to_f32(&map.scale), to_f32(&map.shift));
    r.replace(i, Op::Conv { window, group: channels }, vec![Some(map.x)]);
    r.graph.nodes[i].name = name;
    r.set_floats(i, 1, &weights, scale, "weight");
    r.set_floats(i, 2, &[channels], shift, "bias");
    debug_assert!(matches!(r.shape(map.x), Some([_, Dim::Fixed(_), ..])));
    Some("BatchNormalization to depthwise Conv")
}
