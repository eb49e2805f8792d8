//! Resize: nearest and linear, axis by axis.

use ndarray::{ArrayD, Axis, IxDyn};

use super::{Fault, Outcome, elements};
use crate::graph::op::Resize;

/// # Errors
/// Names the mode that is not supported.
pub(super) fn check(mode: &Resize) -> Outcome<()> {
    if !matches!(mode.mode.as_str(), "nearest" | "linear") {
        return Fault::unsupported(format!("mode '{}'", mode.mode));
    }
    let coordinates = mode.coordinate_transformation_mode.as_str();
    if !matches!(coordinates, "half_pixel" | "pytorch_half_pixel" | "align_corners" | "asymmetric") {
        return Fault::unsupported(format!("coordinate_transformation_mode '{coordinates}'"));
    }
    let nearest = mode.nearest_mode.as_str();
    if mode.mode == "nearest" && !matches!(nearest, "round_prefer_floor" | "round_prefer_ceil" | "floor" | "ceil") {
        return Fault::unsupported(format!("nearest_mode '{nearest}'"));
    }
    Ok(())
}

/// Output sizes from either `scales` or `sizes`.
pub(crate) fn target(shape: &[usize], scales: Option<&[f32]>, sizes: Option<&[i64]>) -> Outcome<Vec<usize>> {
    let wrong = |n: usize| Fault::Invalid(format!("{n} sizes or scales for {} axes", shape.len()));
    if let Some(sizes) = sizes.filter(|s| !s.is_empty()) {
        if sizes.len() != shape.len() {
            return Err(wrong(sizes.len()));
        }
        let size = |&n: &i64| usize::try_from(n).map_err(|_| Fault::Invalid(format!("a size of {n}")));
        return sizes.iter().map(size).collect();
    }
    let scales = scales.unwrap_or_default();
    if scales.len() != shape.len() || scales.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err(wrong(scales.len()));
    }
    Ok(shape.iter().zip(scales).map(|(&n, &s)| (n as f64 * f64::from(s)).floor() as usize).collect())
}

pub(super) fn resize(
    x: &ArrayD<f32>,
    scales: Option<&ArrayD<f32>>,
    sizes: Option<&[i64]>,
    mode: &Resize,
) -> Outcome<ArrayD<f32>> {
    let scales: Option<Vec<f32>> = scales.map(|s| s.iter().copied().collect());
    let by_sizes = sizes.is_some_and(|s| !s.is_empty());
    let target = target(x.shape(), scales.as_deref(), sizes)?;
    elements(&target)?;
    let mut out = x.clone();
    for (axis, (&from, &to)) in x.shape().iter().zip(&target).enumerate() {
        let scale = match &scales {
            Some(s) if !by_sizes => f64::from(s[axis]),
            _ => to as f64 / from as f64,
        };
        if from == to && (scale - 1.0).abs() < 1e-12 {
            continue;
        }
        if from == 0 {
            return Fault::invalid(format!("axis {axis} has no element"));
        }
        let source = |i: usize| coordinate(i as f64, scale, from, to, &mode.coordinate_transformation_mode);
        let last = (from - 1) as f64;
        out = if mode.mode == "nearest" {
            let at: Vec<usize> =
                (0..to).map(|i| nearest(source(i), &mode.nearest_mode).clamp(0.0, last) as usize).collect();
            out.select(Axis(axis), &at)
        } else {
            let taps: Vec<(usize, f32)> = (0..to)
                .map(|i| {
                    let at = source(i).clamp(0.0, last);
                    let low = at.floor().min((from.max(2) - 2) as f64);
                    (low as usize, (at - low) as f32)
                })
                .collect();
            linear(&out, axis, &taps)
        };
    }
    Ok(out.as_standard_layout().into_owned())
}

fn coordinate(i: f64, scale: f64, from: usize, to: usize, mode: &str) -> f64 {
    match mode {
        "asymmetric" => i / scale,
        "align_corners" if to > 1 => i * (from - 1) as f64 / (to - 1) as f64,
        "align_corners" => 0.0,
        "pytorch_half_pixel" if to <= 1 => 0.0,
        _ => (i + 0.5) / scale - 0.5,
    }
}

fn nearest(at: f64, mode: &str) -> f64 {
    match mode {
        "floor" => at.floor(),
        "ceil" => at.ceil(),
        "round_prefer_ceil" => (at + 0.5).floor(),
        _ => (at - 0.5).ceil(),
    }
}

/// Each output is a mix of the elements at `index` and `index + 1`.
fn linear(x: &ArrayD<f32>, axis: usize, taps: &[(usize, f32)]) -> ArrayD<f32> {
    let mut shape = x.shape().to_vec();
    let size = shape[axis];
    shape[axis] = taps.len();
    let mut out = ArrayD::zeros(IxDyn(&shape));
    for (&(low, weight), mut line) in taps.iter().zip(out.axis_iter_mut(Axis(axis))) {
        let (a, b) = (x.index_axis(Axis(axis), low), x.index_axis(Axis(axis), (low + 1).min(size - 1)));
        ndarray::Zip::from(&mut line).and(a).and(b).for_each(|o, &a, &b| *o = a * (1.0 - weight) + b * weight);
    }
    out
}
