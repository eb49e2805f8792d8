//! QuantizeLinear and DequantizeLinear, per tensor and per axis.

use ndarray::ArrayD;

use super::{Fault, Outcome, shape::flat, shape::normalize_axis};
use crate::graph::Tensor;

/// How scales lie over the data: `channels` of them, each for runs of `inner` elements.
struct Layout {
    channels: usize,
    inner: usize,
}

impl Layout {
    fn new(shape: &[usize], scale: &ArrayD<f32>, axis: i64) -> Outcome<Self> {
        if scale.len() == 1 {
            return Ok(Self { channels: 1, inner: 1 });
        }
        let axis = normalize_axis(axis, shape.len())?;
        if scale.ndim() != 1 || shape.get(axis) != Some(&scale.len()) {
            return Fault::unsupported(format!("scale {:?} on axis {axis} of {shape:?}", scale.shape()));
        }
        Ok(Self { channels: scale.len(), inner: shape[axis + 1..].iter().product::<usize>().max(1) })
    }

    fn channel(&self, index: usize) -> usize {
        index / self.inner % self.channels
    }
}

/// Zero points widened to i32, as many as there are scales.
fn zero_points(zero: Option<&Tensor>, scales: usize) -> Outcome<Vec<i32>> {
    let points: Vec<i32> = match zero {
        None => return Ok(vec![0; scales]),
        Some(Tensor::U8(a)) => a.iter().map(|&v| v.into()).collect(),
        Some(Tensor::I8(a)) => a.iter().map(|&v| v.into()).collect(),
        Some(Tensor::I32(a)) => a.iter().copied().collect(),
        Some(other) => return Fault::unsupported(format!("zero points of type {:?}", other.dtype())),
    };
    if points.len() == scales {
        Ok(points)
    } else {
        Fault::invalid(format!("{} zero points for {scales} scales", points.len()))
    }
}

/// saturate(round half to even (x / scale) + zero point), in the zero point's type (u8 when there is none).
pub(super) fn quantize(x: &ArrayD<f32>, scale: &ArrayD<f32>, zero: Option<&Tensor>, axis: i64) -> Outcome<Tensor> {
    let layout = Layout::new(x.shape(), scale, axis)?;
    let zeros = zero_points(zero, scale.len())?;
    let (data, scale) = (flat(x), flat(scale));
    let step = |(i, &v): (usize, &f32)| {
        let c = layout.channel(i);
        // NaN becomes 0 in the cast.
        ((v / scale[c]).round_ties_even() as i64).saturating_add(zeros[c].into())
    };
    let shape = x.raw_dim();
    Ok(match zero {
        Some(Tensor::I8(_)) => {
            let q = data.iter().enumerate().map(|v| step(v).clamp(-128, 127) as i8).collect();
            Tensor::I8(ArrayD::from_shape_vec(shape, q)?)
        }
        None | Some(Tensor::U8(_)) => {
            let q = data.iter().enumerate().map(|v| step(v).clamp(0, 255) as u8).collect();
            Tensor::U8(ArrayD::from_shape_vec(shape, q)?)
        }
        Some(other) => return Fault::unsupported(format!("quantization to {:?}", other.dtype())),
    })
}

/// (x − zero point) · scale.
pub(super) fn dequantize(x: &Tensor, scale: &ArrayD<f32>, zero: Option<&Tensor>, axis: i64) -> Outcome<ArrayD<f32>> {
    let layout = Layout::new(x.shape(), scale, axis)?;
    let zeros = zero_points(zero, scale.len())?;
    let scale = flat(scale);
    let widened: Vec<i32> = match x {
        Tensor::U8(a) => a.iter().map(|&v| v.into()).collect(),
        Tensor::I8(a) => a.iter().map(|&v| v.into()).collect(),
        Tensor::I32(a) => a.iter().copied().collect(),
        other => return Fault::unsupported(format!("dequantization of {:?}", other.dtype())),
    };
    let real = |(i, &q): (usize, &i32)| {
        let c = layout.channel(i);
        q.wrapping_sub(zeros[c]) as f32 * scale[c]
    };
    let data = widened.iter().enumerate().map(real).collect();
    Ok(ArrayD::from_shape_vec(x.shape(), data)?)
}
