//! Operators that move values or compute with shapes.

use std::borrow::Cow;

use half::f16;
use ndarray::{ArrayD, Axis, IxDyn, Slice, SliceInfoElem};

use super::{Fault, Outcome, elements, elementwise::broadcast_shape};
use crate::graph::{DType, Tensor};

/// Runs the same generic code on the array inside a tensor, whatever its element type, and wraps the result again.
macro_rules! map_tensor {
    ($tensor:expr, $array:ident => $body:expr) => {
        match $tensor {
            Tensor::F32($array) => Tensor::F32($body),
            Tensor::F16($array) => Tensor::F16($body),
            Tensor::F64($array) => Tensor::F64($body),
            Tensor::I64($array) => Tensor::I64($body),
            Tensor::I32($array) => Tensor::I32($body),
            Tensor::I8($array) => Tensor::I8($body),
            Tensor::U8($array) => Tensor::U8($body),
            Tensor::Bool($array) => Tensor::Bool($body),
        }
    };
}

/// The elements in row-major order; copied only when they are not stored so.
pub(super) fn flat<T: Copy>(a: &ArrayD<T>) -> Cow<'_, [T]> {
    match a.as_slice() {
        Some(data) => Cow::Borrowed(data),
        None => Cow::Owned(a.iter().copied().collect()),
    }
}

/// Integers of an i64 or i32 tensor, in row-major order.
pub(crate) fn integers(t: &Tensor) -> Outcome<Vec<i64>> {
    match t {
        Tensor::I64(a) => Ok(a.iter().copied().collect()),
        Tensor::I32(a) => Ok(a.iter().map(|&v| v.into()).collect()),
        other => Fault::invalid(format!("integers are expected, got {:?}", other.dtype())),
    }
}

/// An axis counted from the front; `-1` is the last one.
pub(crate) fn normalize_axis(axis: i64, rank: usize) -> Outcome<usize> {
    let shifted = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    match usize::try_from(shifted) {
        Ok(i) if i < rank => Ok(i),
        _ => Fault::invalid(format!("axis {axis} of a tensor with {rank} axes")),
    }
}

/// Resolves `0` (copy the axis) and `-1` (what remains) of a Reshape.
pub(super) fn reshape_target(shape: &[usize], target: &[i64], allow_zero: bool) -> Outcome<Vec<usize>> {
    let fault = || Fault::Invalid(format!("{shape:?} cannot take the shape {target:?}"));
    let total = elements(shape)?;
    let mut out = Vec::with_capacity(target.len());
    let mut open = None;
    for (i, &n) in target.iter().enumerate() {
        out.push(match n {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 if !allow_zero => *shape.get(i).ok_or_else(fault)?,
            n => usize::try_from(n).map_err(|_| fault())?,
        });
    }
    let known = elements(&out)?;
    if let Some(i) = open {
        if known == 0 || total % known != 0 {
            return Err(fault());
        }
        out[i] = total / known;
    } else if known != total {
        return Err(fault());
    }
    Ok(out)
}

pub(super) fn flatten_target(shape: &[usize], axis: i64) -> Outcome<Vec<usize>> {
    // Flatten alone allows axis = rank.
    let axis = if axis == shape.len() as i64 { shape.len() } else { normalize_axis(axis, shape.len().max(1))? };
    Ok(vec![shape[..axis].iter().product(), shape[axis..].iter().product()])
}

pub(super) fn squeeze_target(shape: &[usize], axes: &[i64]) -> Outcome<Vec<usize>> {
    if axes.is_empty() {
        return Ok(shape.iter().copied().filter(|&n| n != 1).collect());
    }
    let mut drop = vec![false; shape.len()];
    for &axis in axes {
        let axis = normalize_axis(axis, shape.len())?;
        if shape[axis] != 1 {
            return Fault::invalid(format!("axis {axis} of {shape:?} is not 1"));
        }
        drop[axis] = true;
    }
    Ok(shape.iter().zip(drop).filter(|(_, drop)| !drop).map(|(&n, _)| n).collect())
}

pub(super) fn unsqueeze_target(shape: &[usize], axes: &[i64]) -> Outcome<Vec<usize>> {
    let rank = shape.len() + axes.len();
    let mut new = vec![false; rank];
    for &axis in axes {
        let axis = normalize_axis(axis, rank)?;
        if std::mem::replace(&mut new[axis], true) {
            return Fault::invalid(format!("axis {axis} is given twice"));
        }
    }
    let mut old = shape.iter();
    Ok(new.iter().map(|&new| if new { 1 } else { old.next().copied().unwrap_or(1) }).collect())
}

/// The same elements, in row-major order, under another shape.
pub(super) fn reshape(t: Cow<'_, Tensor>, target: &[usize]) -> Outcome<Tensor> {
    let dim = IxDyn(target);
    Ok(map_tensor!(t.into_owned(), a => {
        let a = if a.is_standard_layout() { a } else { a.as_standard_layout().into_owned() };
        a.into_shape_with_order(dim)?
    }))
}

/// `perm` empty reverses the axes.
pub(super) fn transpose(t: &Tensor, perm: &[usize]) -> Outcome<Tensor> {
    let rank = t.shape().len();
    let perm: Vec<usize> = if perm.is_empty() { (0..rank).rev().collect() } else { perm.to_vec() };
    let mut seen = vec![false; rank];
    for &p in &perm {
        match seen.get_mut(p) {
            Some(seen) if !*seen => *seen = true,
            _ => return Fault::invalid(format!("permutation {perm:?} of {rank} axes")),
        }
    }
    if perm.len() != rank {
        return Fault::invalid(format!("permutation {perm:?} of {rank} axes"));
    }
    Ok(map_tensor!(t, a => a.view().permuted_axes(IxDyn(&perm)).as_standard_layout().into_owned()))
}

pub(super) fn concat(parts: &[&Tensor], axis: i64) -> Outcome<Tensor> {
    let Some(first) = parts.first() else { return Fault::invalid("nothing to concatenate") };
    let axis = normalize_axis(axis, first.shape().len())?;
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    for part in parts {
        let same = |(i, (a, b)): (usize, (&usize, &usize))| i == axis || a == b;
        let fits = part.shape().len() == shape.len() && part.shape().iter().zip(&shape).enumerate().all(same);
        if !fits || part.dtype() != first.dtype() {
            return Fault::invalid(format!("{:?} does not fit {:?} along axis {axis}", part.shape(), first.shape()));
        }
        shape[axis] = shape[axis].saturating_add(part.shape()[axis]);
    }
    elements(&shape)?;
    macro_rules! join {
        ($variant:ident) => {{
            let views: Vec<_> =
                parts.iter().filter_map(|t| if let Tensor::$variant(a) = t { Some(a.view()) } else { None }).collect();
            Tensor::$variant(ndarray::concatenate(Axis(axis), &views)?.as_standard_layout().into_owned())
        }};
    }
    Ok(match first.dtype() {
        DType::F32 => join!(F32),
        DType::F16 => join!(F16),
        DType::F64 => join!(F64),
        DType::I64 => join!(I64),
        DType::I32 => join!(I32),
        DType::I8 => join!(I8),
        DType::U8 => join!(U8),
        DType::Bool => join!(Bool),
    })
}

/// One axis of a Slice, clamped to the data: first element, number of elements, step.
pub(crate) fn slice_axis(size: usize, start: i64, end: i64, step: i64) -> Outcome<(usize, usize, i64)> {
    let n = size as i64;
    let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (start, end) = (wrap(start), wrap(end));
    let (start, count) = match step {
        0 => return Fault::invalid("a slice with step 0"),
        1.. => {
            let (start, end) = (start.clamp(0, n), end.clamp(0, n));
            (start, (end - start).max(0).cast_unsigned().div_ceil(step.unsigned_abs()))
        }
        ..=-1 => {
            let (start, end) = (start.clamp(-1, n - 1), end.clamp(-1, n - 1));
            (start, (start - end).max(0).cast_unsigned().div_ceil(step.unsigned_abs()))
        }
    };
    Ok((start.max(0) as usize, count as usize, step))
}

pub(super) fn slice(
    t: &Tensor,
    starts: &[i64],
    ends: &[i64],
    axes: Option<&[i64]>,
    steps: Option<&[i64]>,
) -> Outcome<Tensor> {
    let rank = t.shape().len();
    let default: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = axes.unwrap_or(&default);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.is_some_and(|s| s.len() != starts.len()) {
        return Fault::invalid("starts, ends, axes and steps differ in length");
    }
    let mut info = vec![SliceInfoElem::Slice { start: 0, end: None, step: 1 }; rank];
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalize_axis(axis, rank)?;
        let (first, count, step) = slice_axis(t.shape()[axis], starts[i], ends[i], steps.map_or(1, |s| s[i]))?;
        let reach = count.saturating_sub(1) as i64 * step.abs().min(i64::from(i32::MAX));
        // ndarray takes a range and walks it backwards for a negative step.
        let (lo, hi) = match (count, step > 0) {
            (0, _) => (0, 0),
            (_, true) => (first as i64, first as i64 + reach + 1),
            (_, false) => (first as i64 - reach, first as i64 + 1),
        };
        let step = step.clamp(-i64::from(i32::MAX), i64::from(i32::MAX));
        info[axis] = SliceInfoElem::Slice { start: lo as isize, end: Some(hi as isize), step: step as isize };
    }
    Ok(map_tensor!(t, a => a.slice(info.as_slice()).as_standard_layout().into_owned()))
}

pub(super) fn gather(t: &Tensor, indices: &Tensor, axis: i64) -> Outcome<Tensor> {
    let axis = normalize_axis(axis, t.shape().len())?;
    let size = t.shape()[axis];
    let mut at = Vec::with_capacity(indices.len());
    for i in integers(indices)? {
        match usize::try_from(if i < 0 { i.saturating_add(size as i64) } else { i }) {
            Ok(i) if i < size => at.push(i),
            _ => return Fault::invalid(format!("index {i} of an axis of size {size}")),
        }
    }
    let mut shape = t.shape()[..axis].to_vec();
    shape.extend_from_slice(indices.shape());
    shape.extend_from_slice(&t.shape()[axis + 1..]);
    elements(&shape)?;
    reshape(Cow::Owned(map_tensor!(t, a => a.select(Axis(axis), &at).as_standard_layout().into_owned())), &shape)
}

/// Parts of the given sizes along an axis; equal parts (the last may be smaller) when no sizes are given.
pub(super) fn split(t: &Tensor, axis: i64, sizes: &[usize], outputs: usize) -> Outcome<Vec<Tensor>> {
    let axis = normalize_axis(axis, t.shape().len())?;
    let sizes = split_sizes(t.shape()[axis], sizes, outputs)?;
    let mut at = 0;
    let part = |&size: &usize| {
        let range = Slice::from(at..at + size);
        at += size;
        map_tensor!(t, a => a.slice_axis(Axis(axis), range).as_standard_layout().into_owned())
    };
    Ok(sizes.iter().map(part).collect())
}

pub(crate) fn split_sizes(size: usize, sizes: &[usize], outputs: usize) -> Outcome<Vec<usize>> {
    if sizes.is_empty() && outputs > 0 {
        let step = size.div_ceil(outputs);
        return Ok((0..outputs).map(|i| step.min(size.saturating_sub(i * step))).collect());
    }
    let total = sizes.iter().fold(0usize, |a, &n| a.saturating_add(n));
    if total != size || sizes.len() != outputs {
        return Fault::invalid(format!("{sizes:?} do not split an axis of size {size} into {outputs}"));
    }
    Ok(sizes.to_vec())
}

pub(super) fn expand(t: &Tensor, target: &[i64]) -> Outcome<Tensor> {
    let target = sizes(target)?;
    let shape = broadcast_shape(t.shape(), &target)?;
    elements(&shape)?;
    let dim = IxDyn(&shape);
    Ok(map_tensor!(t, a => match a.broadcast(dim) {
        Some(a) => a.as_standard_layout().into_owned(),
        None => return Fault::invalid(format!("{:?} does not expand to {target:?}", t.shape())),
    }))
}

fn sizes(target: &[i64]) -> Outcome<Vec<usize>> {
    let size = |&n: &i64| usize::try_from(n).map_err(|_| Fault::Invalid(format!("a size of {n}")));
    target.iter().map(size).collect()
}

pub(super) fn constant_of_shape(shape: &[i64], value: &Tensor) -> Outcome<Tensor> {
    let shape = sizes(shape)?;
    elements(&shape)?;
    if value.len() != 1 {
        return Fault::invalid(format!("the value has {} elements", value.len()));
    }
    let dim = IxDyn(&shape);
    Ok(map_tensor!(value, a => match a.first() {
        Some(&v) => ArrayD::from_elem(dim, v),
        None => return Fault::invalid("the value has no element"),
    }))
}

/// Padded sizes of a Pad.
pub(super) fn padded(shape: &[usize], amounts: &[usize]) -> Outcome<Vec<usize>> {
    if amounts.len() != 2 * shape.len() {
        return Fault::invalid(format!("{} padding amounts for {} axes", amounts.len(), shape.len()));
    }
    let (begin, end) = amounts.split_at(shape.len());
    Ok(shape.iter().zip(begin).zip(end).map(|((&n, &b), &e)| n.saturating_add(b).saturating_add(e)).collect())
}

pub(super) fn pad(t: &Tensor, amounts: &[usize], value: f32) -> Outcome<Tensor> {
    let shape = padded(t.shape(), amounts)?;
    elements(&shape)?;
    let fill = cast(&Tensor::F32(ArrayD::from_elem(IxDyn(&[]), value)), t.dtype());
    macro_rules! fill {
        ($variant:ident, $a:expr) => {{
            let Tensor::$variant(fill) = fill else { return Fault::invalid("padding value of another type") };
            let Some(&value) = fill.first() else { return Fault::invalid("no padding value") };
            let mut out = ArrayD::from_elem(IxDyn(&shape), value);
            let mut inside = out.view_mut();
            for (axis, &n) in t.shape().iter().enumerate() {
                inside.slice_axis_inplace(Axis(axis), Slice::from(amounts[axis]..amounts[axis] + n));
            }
            inside.assign($a);
            Tensor::$variant(out)
        }};
    }
    Ok(match t {
        Tensor::F32(a) => fill!(F32, a),
        Tensor::F16(a) => fill!(F16, a),
        Tensor::F64(a) => fill!(F64, a),
        Tensor::I64(a) => fill!(I64, a),
        Tensor::I32(a) => fill!(I32, a),
        Tensor::I8(a) => fill!(I8, a),
        Tensor::U8(a) => fill!(U8, a),
        Tensor::Bool(a) => fill!(Bool, a),
    })
}

/// Padding that repeats the border (`edge`) or mirrors the data about it (`reflect`).
pub(super) fn pad_mode(t: &Tensor, amounts: &[usize], mode: &str) -> Outcome<Tensor> {
    let shape = padded(t.shape(), amounts)?;
    elements(&shape)?;
    let mut out = t.clone();
    for (axis, &n) in t.shape().iter().enumerate() {
        let (begin, end) = (amounts[axis], amounts[axis + shape.len()]);
        if begin == 0 && end == 0 {
            continue;
        }
        if n == 0 || (mode == "reflect" && (begin >= n || end >= n)) {
            return Fault::invalid(format!("padding {begin}, {end} of axis {axis} with {n} elements"));
        }
        let index = |i: usize| match (i.checked_sub(begin), mode) {
            (Some(i), _) if i < n => i,
            (Some(i), "reflect") => 2 * (n - 1) - i,
            (Some(_), _) => n - 1,
            (None, "reflect") => begin - i,
            (None, _) => 0,
        };
        let at: Vec<usize> = (0..shape[axis]).map(index).collect();
        out = map_tensor!(&out, a => a.select(Axis(axis), &at).as_standard_layout().into_owned());
    }
    Ok(out)
}

pub(super) fn shape_of(shape: &[usize], start: i64, end: Option<i64>) -> Tensor {
    let range = shape_range(shape.len(), start, end);
    Tensor::from_i64(shape[range].iter().map(|&n| n as i64).collect())
}

/// The axes that a Shape operator with `start` and `end` gives.
pub(crate) fn shape_range(rank: usize, start: i64, end: Option<i64>) -> std::ops::Range<usize> {
    let r = rank as i64;
    let clamp = |i: i64| (if i < 0 { i.saturating_add(r) } else { i }).clamp(0, r) as usize;
    let (start, end) = (clamp(start), clamp(end.unwrap_or(r)));
    start..end.max(start)
}

pub(super) fn range(start: &Tensor, limit: &Tensor, delta: &Tensor) -> Outcome<Tensor> {
    let one = |t: &Tensor| if t.len() == 1 { Ok(()) } else { Fault::invalid("scalars are expected") };
    one(start)?;
    one(limit)?;
    one(delta)?;
    if let (Tensor::F32(s), Tensor::F32(l), Tensor::F32(d)) = (start, limit, delta) {
        let (s, l, d) = (f64::from(flat(s)[0]), f64::from(flat(l)[0]), f64::from(flat(d)[0]));
        let count = ((l - s) / d).ceil().max(0.0);
        if count.is_nan() {
            return Fault::invalid("a range with step 0 or NaN");
        }
        elements(&[count as usize])?;
        let data = (0..count as usize).map(|i| (s + i as f64 * d) as f32).collect();
        return Ok(Tensor::F32(ndarray::Array1::from_vec(data).into_dyn()));
    }
    let (s, l, d) = (integers(start)?[0], integers(limit)?[0], integers(delta)?[0]);
    if d == 0 {
        return Fault::invalid("a range with step 0");
    }
    let (s, l, d) = (i128::from(s), i128::from(l), i128::from(d));
    let gap = if d > 0 { l - s } else { s - l };
    let count = if gap <= 0 { 0 } else { (gap + d.abs() - 1) / d.abs() };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    elements(&[count])?;
    let data: Vec<i64> = (0..count).map(|i| (s + i as i128 * d) as i64).collect();
    Ok(cast(&Tensor::from_i64(data), start.dtype()))
}

/// Conversion as C does it: truncation towards zero, integers wrap; floats out of range saturate.
pub(super) fn cast(t: &Tensor, to: DType) -> Tensor {
    if t.dtype() == to {
        return t.clone();
    }
    match t {
        Tensor::F32(a) => from_real(&a.mapv(f64::from), to),
        Tensor::F16(a) => from_real(&a.mapv(f64::from), to),
        Tensor::F64(a) => from_real(a, to),
        Tensor::I64(a) => from_integer(a, to),
        Tensor::I32(a) => from_integer(&a.mapv(i64::from), to),
        Tensor::I8(a) => from_integer(&a.mapv(i64::from), to),
        Tensor::U8(a) => from_integer(&a.mapv(i64::from), to),
        Tensor::Bool(a) => from_integer(&a.mapv(i64::from), to),
    }
}

fn from_real(a: &ArrayD<f64>, to: DType) -> Tensor {
    match to {
        DType::F32 => Tensor::F32(a.mapv(|v| v as f32)),
        DType::F16 => Tensor::F16(a.mapv(f16::from_f64)),
        DType::F64 => Tensor::F64(a.clone()),
        DType::I64 => Tensor::I64(a.mapv(|v| v as i64)),
        DType::I32 => Tensor::I32(a.mapv(|v| v as i32)),
        DType::I8 => Tensor::I8(a.mapv(|v| v as i8)),
        DType::U8 => Tensor::U8(a.mapv(|v| v as u8)),
        DType::Bool => Tensor::Bool(a.mapv(|v| v != 0.0)),
    }
}

fn from_integer(a: &ArrayD<i64>, to: DType) -> Tensor {
    match to {
        DType::F32 => Tensor::F32(a.mapv(|v| v as f32)),
        DType::F16 => Tensor::F16(a.mapv(|v| f16::from_f64(v as f64))),
        DType::F64 => Tensor::F64(a.mapv(|v| v as f64)),
        DType::I64 => Tensor::I64(a.clone()),
        DType::I32 => Tensor::I32(a.mapv(|v| v as i32)),
        DType::I8 => Tensor::I8(a.mapv(|v| v as i8)),
        DType::U8 => Tensor::U8(a.mapv(|v| v as u8)),
        DType::Bool => Tensor::Bool(a.mapv(|v| v != 0)),
    }
}
