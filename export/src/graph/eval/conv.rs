//! Convolution: im2col and matrix product, without im2col for pointwise, direct for depthwise windows.

use std::ops::Range;

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewMut2, IxDyn, linalg::general_mat_mul, s};

use super::{Fault, Outcome, elements, shape::flat};
use crate::graph::{
    op::Window,
    window::{Geometry, Planar},
};

/// Elements of the column matrix that are made at a time: it stays in the second-level cache.
const BLOCK: usize = 1 << 17;

/// `x` [N,C,…], `w` [M,C/group,…], `bias` [M]; gives [N,M,…].
pub(super) fn conv(
    x: &ArrayD<f32>,
    w: &ArrayD<f32>,
    bias: Option<&ArrayD<f32>>,
    window: &Window,
    group: usize,
) -> Outcome<ArrayD<f32>> {
    let (xs, ws) = (x.shape(), w.shape());
    if xs.len() < 3 || ws.len() != xs.len() || group == 0 {
        return Fault::invalid(format!("data {xs:?} and weights {ws:?} (group {group}) do not fit"));
    }
    let (n, c, m, depth) = (xs[0], xs[1], ws[0], ws[1]);
    if c != depth * group || m % group != 0 || ws[2..] != window.kernel[..] {
        return Fault::invalid(format!(
            "data {xs:?}, weights {ws:?}, group {group} and kernel {:?} do not fit",
            window.kernel
        ));
    }
    if let Some(b) = bias
        && b.shape() != [m]
    {
        return Fault::invalid(format!("bias {:?} for {m} channels", b.shape()));
    }
    let geometry = Geometry::new(window, &xs[2..], false).map_err(Fault::Invalid)?;
    let Some(planar) = geometry.planar() else {
        return Fault::unsupported(format!("{} spatial axes", xs.len() - 2));
    };
    let mut out_shape = vec![n, m];
    out_shape.extend_from_slice(&geometry.output);
    let mut out = vec![0.0f32; elements(&out_shape)?];

    let (x, w) = (flat(x), flat(w));
    let (area_in, area_out) = (geometry.input.iter().product::<usize>(), geometry.positions());
    let taps = geometry.taps();
    if area_out > 0 && m > 0 {
        if let Some(bias) = bias {
            for (plane, &b) in out.chunks_exact_mut(area_out).zip(flat(bias).iter().cycle()) {
                plane.fill(b);
            }
        }
        let (m_group, c_group) = (m / group, depth);
        for (image, y) in (0..n).zip(out.chunks_exact_mut(m * area_out)) {
            let image = &x[image * c * area_in..][..c * area_in];
            for (g, y) in y.chunks_exact_mut(m_group * area_out).enumerate() {
                let image = &image[g * c_group * area_in..][..c_group * area_in];
                let w = &w[g * m_group * c_group * taps..][..m_group * c_group * taps];
                // Many filters on one channel share its columns: a matrix product is faster.
                if c_group == 1 && m_group <= 2 {
                    for (plane, kernel) in y.chunks_exact_mut(area_out).zip(w.chunks_exact(taps)) {
                        depthwise(image, kernel, &planar, plane);
                    }
                } else {
                    let w = ArrayView2::from_shape((m_group, c_group * taps), w)?;
                    let y = ArrayViewMut2::from_shape((m_group, area_out), y)?;
                    if geometry.is_pointwise() {
                        let columns = ArrayView2::from_shape((c_group, area_in), image)?;
                        accumulate(w, columns, y);
                    } else {
                        by_blocks(image, c_group, &planar, w, y);
                    }
                }
            }
        }
    }
    Ok(ArrayD::from_shape_vec(IxDyn(&out_shape), out)?)
}

/// The columns that a convolution multiplies its weights with, for one image (or one group's channels of it):
/// `[channels · taps, positions]`, padding as zeros, of every `step`-th output position (row-major) from `start` on.
///
/// # Errors
/// When `image` is not `channels` times the geometry's input, or the geometry has more than two axes.
pub fn im2col(
    image: &[f32],
    channels: usize,
    geometry: &Geometry,
    (start, step): (usize, usize),
) -> crate::Result<Array2<f32>> {
    let area: usize = geometry.input.iter().product();
    let shape_error = |expected: String| crate::Error::Shape {
        what: "image for im2col".to_owned(),
        expected,
        got: format!("{} elements, {} axes", image.len(), geometry.input.len()),
    };
    let planar = geometry.planar().ok_or_else(|| shape_error("1 or 2 spatial axes".to_owned()))?;
    if image.len() != channels * area {
        return Err(shape_error(format!("{channels} channels of {area} elements")));
    }
    let positions: Vec<usize> = (start..geometry.positions()).step_by(step.max(1)).collect();
    let mut columns = Array2::zeros((channels * geometry.taps(), positions.len()));
    if step == 1 && start == 0 {
        let all = (0..planar.output.0, 0..planar.output.1);
        fill_columns(image, channels, &planar, all, &mut columns.view_mut());
        return Ok(columns);
    }
    let width = planar.output.1;
    for (row, mut columns) in columns.rows_mut().into_iter().enumerate() {
        let (channel, tap) = (row / geometry.taps(), row % geometry.taps());
        let (ky, kx) = (tap / planar.kernel.1, tap % planar.kernel.1);
        let plane = &image[channel * area..][..area];
        let (lo, hi, first) = planar.columns(kx);
        for (out, &at) in columns.iter_mut().zip(&positions) {
            if let Some(y) = planar.line(at / width, ky)
                && (lo..hi).contains(&(at % width))
            {
                *out = plane[y * planar.input.1 + first + (at % width - lo) * planar.strides.1];
            }
        }
    }
    Ok(columns)
}

fn by_blocks(image: &[f32], channels: usize, p: &Planar, w: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>) {
    let (rows, width) = (w.ncols(), p.output.1);
    let lines = (BLOCK / (rows * width).max(1)).clamp(1, p.output.0);
    // A long line (audio) is cut too: what the columns take does not depend on it.
    let part = if lines > 1 { width } else { (BLOCK / rows.max(1)).clamp(64, width.max(64)).min(width) };
    let mut columns = Array2::zeros((rows, lines * part));
    for at in (0..p.output.0).step_by(lines) {
        let end = (at + lines).min(p.output.0);
        for from in (0..width).step_by(part.max(1)) {
            let to = (from + part).min(width);
            let mut block = columns.slice_mut(s![.., ..(end - at) * (to - from)]);
            fill_columns(image, channels, p, (at..end, from..to), &mut block);
            let last = (end - 1) * width + to;
            accumulate(w, block.view(), y.slice_mut(s![.., at * width + from..last]));
        }
    }
}

/// y += w · columns
fn accumulate(w: ArrayView2<'_, f32>, columns: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>) {
    general_mat_mul(1.0, &w, &columns, 1.0, &mut y);
}

/// Fills the columns of the output positions (y, x) within `lines` × `xs`; every element is written.
fn fill_columns(
    image: &[f32],
    channels: usize,
    p: &Planar,
    (lines, xs): (Range<usize>, Range<usize>),
    columns: &mut ArrayViewMut2<'_, f32>,
) {
    let area = p.input.0 * p.input.1;
    let mut rows = columns.rows_mut().into_iter();
    for channel in 0..channels {
        let plane = &image[channel * area..][..area];
        for ky in 0..p.kernel.0 {
            for kx in 0..p.kernel.1 {
                let Some(mut row) = rows.next() else { return };
                let Some(row) = row.as_slice_mut() else { return };
                let (lo, hi, first) = p.columns(kx);
                let (from, to) = (lo.max(xs.start), hi.min(xs.end));
                for (oy, out) in lines.clone().zip(row.chunks_exact_mut(xs.len())) {
                    let Some(y) = p.line(oy, ky).filter(|_| from < to) else {
                        out.fill(0.0);
                        continue;
                    };
                    let line = &plane[y * p.input.1..][first + (from - lo) * p.strides.1..p.input.1];
                    let (from, to) = (from - xs.start, to - xs.start);
                    out[..from].fill(0.0);
                    out[to..].fill(0.0);
                    if p.strides.1 == 1 {
                        out[from..to].copy_from_slice(&line[..to - from]);
                    } else {
                        for (o, i) in out[from..to].iter_mut().zip(line.iter().step_by(p.strides.1)) {
                            *o = *i;
                        }
                    }
                }
            }
        }
    }
}

/// One channel: out += kernel * plane, tap by tap along whole lines, which the compiler vectorises.
fn depthwise(plane: &[f32], kernel: &[f32], p: &Planar, out: &mut [f32]) {
    let taps: Vec<(usize, usize, usize)> = (0..p.kernel.1).map(|kx| p.columns(kx)).collect();
    for (oy, row) in out.chunks_exact_mut(p.output.1).enumerate() {
        for (ky, weights) in kernel.chunks_exact(p.kernel.1).enumerate() {
            let Some(y) = p.line(oy, ky) else { continue };
            let line = &plane[y * p.input.1..][..p.input.1];
            for (&weight, &(lo, hi, first)) in weights.iter().zip(&taps) {
                if lo == hi {
                    continue;
                }
                let (row, line) = (&mut row[lo..hi], &line[first..]);
                match p.strides.1 {
                    1 => row.iter_mut().zip(line).for_each(|(o, i)| *o += weight * i),
                    2 => row.iter_mut().zip(line.chunks(2)).for_each(|(o, i)| *o += weight * i[0]),
                    stride => row.iter_mut().zip(line.chunks(stride)).for_each(|(o, i)| *o += weight * i[0]),
                }
            }
        }
    }
}
