//! Normalisations and softmax.

use ndarray::ArrayD;

use super::{Fault, Outcome, shape::flat, shape::normalize_axis};

/// Channel axis 1: scale · (x − mean) / sqrt(var + epsilon) + bias. `parameters` are scale, bias, mean, var.
pub(super) fn batch(mut x: ArrayD<f32>, parameters: [&ArrayD<f32>; 4], epsilon: f32) -> Outcome<ArrayD<f32>> {
    let channels = x.shape().get(1).copied().unwrap_or(1);
    if x.ndim() < 2 || parameters.iter().any(|p| p.shape() != [channels]) {
        return Fault::invalid(format!("parameters do not fit the {channels} channels of {:?}", x.shape()));
    }
    let [scale, bias, mean, var] = parameters.map(flat);
    let area: usize = x.shape()[2..].iter().product();
    let data = contiguous(&mut x)?;
    if area > 0 {
        for (i, plane) in data.chunks_exact_mut(area).enumerate() {
            let c = i % channels;
            let factor = scale[c] / (var[c] + epsilon).sqrt();
            let offset = bias[c] - mean[c] * factor;
            plane.iter_mut().for_each(|v| *v = *v * factor + offset);
        }
    }
    Ok(x)
}

/// Over the axes from `axis` on: (x − mean) / sqrt(var + epsilon) · scale + bias.
pub(super) fn layer(
    mut x: ArrayD<f32>,
    scale: &ArrayD<f32>,
    bias: Option<&ArrayD<f32>>,
    axis: i64,
    epsilon: f32,
) -> Outcome<ArrayD<f32>> {
    let axis = normalize_axis(axis, x.ndim())?;
    let width: usize = x.shape()[axis..].iter().product();
    if scale.len() != width || bias.is_some_and(|b| b.len() != width) {
        return Fault::invalid(format!("scale {:?} does not fit {:?} from axis {axis}", scale.shape(), x.shape()));
    }
    let (scale, bias) = (flat(scale), bias.map(flat));
    let data = contiguous(&mut x)?;
    if width > 0 {
        for row in data.chunks_exact_mut(width) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
            let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width as f64;
            let inverse = (1.0 / (var + f64::from(epsilon)).sqrt()) as f32;
            for (i, v) in row.iter_mut().enumerate() {
                *v = (*v - mean as f32) * inverse * scale[i] + bias.as_ref().map_or(0.0, |b| b[i]);
            }
        }
    }
    Ok(x)
}

/// Along `axis`; `flattened` is the meaning before opset 13: all axes from `axis` on together.
pub(super) fn softmax(mut x: ArrayD<f32>, axis: i64, flattened: bool) -> Outcome<ArrayD<f32>> {
    let axis = normalize_axis(axis, x.ndim())?;
    let shape = x.shape();
    let (length, inner) = if flattened {
        (shape[axis..].iter().product::<usize>(), 1)
    } else {
        (shape.get(axis).copied().unwrap_or(1), shape.iter().skip(axis + 1).product::<usize>())
    };
    let data = contiguous(&mut x)?;
    if length * inner == 0 {
        return Ok(x);
    }
    for block in data.chunks_exact_mut(length * inner) {
        for i in 0..inner {
            let largest = block.iter().skip(i).step_by(inner).copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for v in block.iter_mut().skip(i).step_by(inner) {
                *v = (*v - largest).exp();
                sum += *v;
            }
            block.iter_mut().skip(i).step_by(inner).for_each(|v| *v /= sum);
        }
    }
    Ok(x)
}

/// The elements in row-major order, for change in place.
pub(super) fn contiguous(x: &mut ArrayD<f32>) -> Outcome<&mut [f32]> {
    if !x.is_standard_layout() {
        *x = x.as_standard_layout().into_owned();
    }
    match x.as_slice_mut() {
        Some(data) => Ok(data),
        None => Fault::invalid("data is not contiguous"),
    }
}
