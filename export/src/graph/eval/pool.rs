//! Pooling and reductions.

use ndarray::{ArrayD, IxDyn};

use super::{Fault, Outcome, elements, shape::flat, shape::normalize_axis};
use crate::graph::{
    op::Window,
    window::{Geometry, Planar},
};

/// Sum in eight lanes: the compiler vectorises it, and the error grows more slowly than with one.
pub(super) fn sum(v: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let chunks = v.chunks_exact(8);
    let tail: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    lanes.iter().sum::<f32>() + tail
}

pub(super) fn mean(v: &[f32]) -> f32 {
    sum(v) / v.len() as f32
}

/// The largest element; NaN when there is one.
pub(super) fn maximum(v: &[f32]) -> f32 {
    v.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a || b.is_nan() { b } else { a })
}

/// [N,C,…] → [N,C,1,…].
pub(super) fn global(x: &ArrayD<f32>, f: impl Fn(&[f32]) -> f32) -> Outcome<ArrayD<f32>> {
    if x.ndim() < 3 {
        return Fault::invalid(format!("spatial axes are expected, got shape {:?}", x.shape()));
    }
    let axes: Vec<i64> = (2..x.ndim() as i64).collect();
    reduce(x, &axes, true, f)
}

/// Reduces over `axes` (all when empty), each group of elements gathered in row-major order.
pub(super) fn reduce<T: Copy, F: Fn(&[T]) -> T>(
    x: &ArrayD<T>,
    axes: &[i64],
    keepdims: bool,
    f: F,
) -> Outcome<ArrayD<T>> {
    let rank = x.ndim();
    let mut reduced = vec![axes.is_empty(); rank];
    for &axis in axes {
        reduced[normalize_axis(axis, rank)?] = true;
    }
    let kept: Vec<usize> = (0..rank).filter(|&i| !reduced[i]).collect();
    let gone: Vec<usize> = (0..rank).filter(|&i| reduced[i]).collect();
    let width: usize = gone.iter().map(|&i| x.shape()[i]).product();
    if width == 0 {
        return Fault::invalid(format!("reduction over no element of {:?}", x.shape()));
    }
    let order: Vec<usize> = kept.iter().chain(&gone).copied().collect();
    let ordered = x.view().permuted_axes(IxDyn(&order));
    let ordered = ordered.as_standard_layout();
    let Some(data) = ordered.as_slice() else { return Fault::invalid("data is not contiguous") };
    let out: Vec<T> = data.chunks_exact(width).map(f).collect();
    let size = |i: usize| if reduced[i] { 1 } else { x.shape()[i] };
    let shape: Vec<usize> = (0..rank).filter(|&i| keepdims || !reduced[i]).map(size).collect();
    Ok(ArrayD::from_shape_vec(IxDyn(&shape), out)?)
}

/// Maximum over windows; padding never wins.
pub(super) fn max(x: &ArrayD<f32>, window: &Window, ceil: bool) -> Outcome<ArrayD<f32>> {
    windows(x, window, ceil, |plane, p, _, out| {
        out.fill(f32::NEG_INFINITY);
        for_each_tap(plane, p, out, |o, i| {
            if i > *o || i.is_nan() {
                *o = i;
            }
        });
    })
}

/// Mean over windows; padding counts as zeros where `count_include_pad`, else not at all.
pub(super) fn average(x: &ArrayD<f32>, window: &Window, ceil: bool, count_include_pad: bool) -> Outcome<ArrayD<f32>> {
    windows(x, window, ceil, |plane, p, geometry, out| {
        out.fill(0.0);
        for_each_tap(plane, p, out, |o, i| *o += i);
        let end = match geometry.end[..] {
            [x] => (0, x),
            [y, x, ..] => (y, x),
            [] => (0, 0),
        };
        // Elements of a window that count, along one axis: inside the data, or inside data and padding.
        let count = |at: usize, kernel: usize, begin: usize, size: usize, end: usize| {
            let (lo, hi) = if count_include_pad { (0, begin + size + end) } else { (begin, begin + size) };
            (at + kernel).min(hi).saturating_sub(at.max(lo))
        };
        for (oy, row) in out.chunks_exact_mut(p.output.1).enumerate() {
            let ny = count(oy * p.strides.0, p.kernel.0, p.begin.0, p.input.0, end.0);
            for (ox, v) in row.iter_mut().enumerate() {
                let nx = count(ox * p.strides.1, p.kernel.1, p.begin.1, p.input.1, end.1);
                *v /= (ny * nx) as f32;
            }
        }
    })
}

fn for_each_tap(plane: &[f32], p: &Planar, out: &mut [f32], mut f: impl FnMut(&mut f32, f32)) {
    for (oy, row) in out.chunks_exact_mut(p.output.1).enumerate() {
        for ky in 0..p.kernel.0 {
            let Some(y) = p.line(oy, ky) else { continue };
            let line = &plane[y * p.input.1..][..p.input.1];
            for kx in 0..p.kernel.1 {
                let (lo, hi, first) = p.columns(kx);
                for (o, i) in row[lo..hi].iter_mut().zip(line[first..].iter().step_by(p.strides.1)) {
                    f(o, *i);
                }
            }
        }
    }
}

fn windows(
    x: &ArrayD<f32>,
    window: &Window,
    ceil: bool,
    f: impl Fn(&[f32], &Planar, &Geometry, &mut [f32]),
) -> Outcome<ArrayD<f32>> {
    let shape = x.shape();
    if shape.len() < 3 {
        return Fault::invalid(format!("spatial axes are expected, got shape {shape:?}"));
    }
    let geometry = Geometry::new(window, &shape[2..], ceil).map_err(Fault::Invalid)?;
    let Some(planar) = geometry.planar() else {
        return Fault::unsupported(format!("{} spatial axes", shape.len() - 2));
    };
    let mut out_shape = shape[..2].to_vec();
    out_shape.extend_from_slice(&geometry.output);
    let mut out = vec![0.0; elements(&out_shape)?];
    let area: usize = geometry.input.iter().product();
    if area > 0 && geometry.positions() > 0 {
        let x = flat(x);
        for (plane, out) in x.chunks_exact(area).zip(out.chunks_exact_mut(geometry.positions())) {
            f(plane, &planar, &geometry, out);
        }
    }
    Ok(ArrayD::from_shape_vec(IxDyn(&out_shape), out)?)
}
