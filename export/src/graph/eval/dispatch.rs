//! From an operator to the function that computes it; element types are settled here.

use std::borrow::Cow;

use half::f16;
use ndarray::ArrayD;

use super::{Arg, Fault, Outcome, conv, dense, elementwise as ew, norm, pool, quant, resize, shape};
use crate::graph::{DType, Node, Op, Tensor, op::Padding};

/// Whether [`apply`] knows the operator with these attributes.
///
/// # Errors
/// Says what is not supported.
pub(crate) fn check(node: &Node) -> Outcome<()> {
    match &node.op {
        Op::Other { .. } => Fault::unsupported("operator not supported"),
        Op::Conv { window, .. } | Op::MaxPool { window, .. } | Op::AveragePool { window, .. }
            if window.kernel.len() > 2 =>
        {
            Fault::unsupported(format!("{} spatial axes; 1 and 2 are supported", window.kernel.len()))
        }
        Op::AveragePool { window, .. }
            if window.dilations.iter().any(|&d| d != 1) && matches!(window.padding, Padding::Explicit(_)) =>
        {
            Fault::unsupported("dilated average pooling")
        }
        Op::PadMode { mode, .. } if !matches!(mode.as_str(), "reflect" | "edge") => {
            Fault::unsupported(format!("pad mode '{mode}'"))
        }
        Op::Resize(mode) => resize::check(mode),
        _ => Ok(()),
    }
}

/// Takes arguments out by position, with errors that say which is missing.
struct Args<'a>(Vec<Arg<'a>>);

impl<'a> Args<'a> {
    fn take(&mut self, index: usize) -> Outcome<Cow<'a, Tensor>> {
        match self.0.get_mut(index).and_then(Option::take) {
            Some(tensor) => Ok(tensor),
            None => Fault::invalid(format!("input {index} is missing")),
        }
    }

    fn get(&self, index: usize) -> Outcome<&Tensor> {
        match self.0.get(index) {
            Some(Some(tensor)) => Ok(tensor),
            _ => Fault::invalid(format!("input {index} is missing")),
        }
    }

    fn optional(&self, index: usize) -> Option<&Tensor> {
        self.0.get(index).and_then(Option::as_deref)
    }

    fn f32(&self, index: usize) -> Outcome<&ArrayD<f32>> {
        as_f32(self.get(index)?, index)
    }

    fn optional_f32(&self, index: usize) -> Outcome<Option<&ArrayD<f32>>> {
        self.optional(index).map(|t| as_f32(t, index)).transpose()
    }

    fn take_f32(&mut self, index: usize) -> Outcome<ArrayD<f32>> {
        match self.take(index)?.into_owned() {
            Tensor::F32(a) => Ok(a),
            other => Fault::unsupported(format!("input {index} has type {:?}; f32 is supported", other.dtype())),
        }
    }

    fn i64s(&self, index: usize) -> Outcome<Vec<i64>> {
        shape::integers(self.get(index)?)
    }

    fn optional_i64s(&self, index: usize) -> Outcome<Option<Vec<i64>>> {
        self.optional(index).map(shape::integers).transpose()
    }
}

fn as_f32(tensor: &Tensor, index: usize) -> Outcome<&ArrayD<f32>> {
    match tensor.as_f32() {
        Some(a) => Ok(a),
        None => Fault::unsupported(format!("input {index} has type {:?}; f32 is supported", tensor.dtype())),
    }
}

/// Whether an operator only moves values, whatever their type.
fn moves_values(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape { .. }
            | Op::Flatten { .. }
            | Op::Transpose { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Concat { .. }
            | Op::Slice
            | Op::Gather { .. }
            | Op::Split { .. }
            | Op::Expand
            | Op::Pad { .. }
            | Op::PadMode { .. }
            | Op::Shape { .. }
            | Op::Cast { .. }
            | Op::ConstantOfShape { .. }
            | Op::Identity
            | Op::Where
            | Op::Equal
            | Op::QuantizeLinear { .. }
            | Op::DequantizeLinear { .. }
    )
}

/// Evaluates one node.
pub(crate) fn apply(node: &Node, opset: i64, inputs: Vec<Arg<'_>>) -> Outcome<Vec<Tensor>> {
    check(node)?;
    let has_f16 = inputs.iter().flatten().any(|t| t.dtype() == DType::F16);
    if !has_f16 || moves_values(&node.op) {
        return compute(node, opset, Args(inputs));
    }
    let widen = |arg: Arg<'_>| {
        arg.map(|t| match t.as_ref() {
            Tensor::F16(a) => Cow::Owned(Tensor::F32(a.mapv(f16::to_f32))),
            _ => Cow::Owned(t.into_owned()),
        })
    };
    let outputs = compute(node, opset, Args(inputs.into_iter().map(widen).collect()))?;
    let narrow = |t: Tensor| match t {
        Tensor::F32(a) => Tensor::F16(a.mapv(f16::from_f32)),
        other => other,
    };
    Ok(outputs.into_iter().map(narrow).collect())
}

fn compute(node: &Node, opset: i64, mut args: Args<'_>) -> Outcome<Vec<Tensor>> {
    let one = |a: ArrayD<f32>| Ok(vec![Tensor::F32(a)]);
    match &node.op {
        Op::Conv { window, group } => {
            one(conv::conv(args.f32(0)?, args.f32(1)?, args.optional_f32(2)?, window, *group)?)
        }
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            let c = args.optional_f32(2)?;
            one(dense::gemm(args.f32(0)?, args.f32(1)?, c, (*alpha, *beta), (*trans_a, *trans_b))?)
        }
        Op::MatMul => one(dense::matmul(args.f32(0)?, args.f32(1)?)?),
        Op::BatchNormalization { epsilon } => {
            let x = args.take_f32(0)?;
            one(norm::batch(x, [args.f32(1)?, args.f32(2)?, args.f32(3)?, args.f32(4)?], *epsilon)?)
        }
        Op::LayerNormalization { axis, epsilon } => {
            let x = args.take_f32(0)?;
            one(norm::layer(x, args.f32(1)?, args.optional_f32(2)?, *axis, *epsilon)?)
        }
        Op::Softmax { axis } => one(norm::softmax(args.take_f32(0)?, *axis, opset < 13)?),
        Op::PRelu => one(ew::prelu(args.f32(0)?, args.f32(1)?)?),
        Op::Neg | Op::Abs if args.get(0)?.dtype() != DType::F32 => Ok(vec![ew::integer_unary(&node.op, args.get(0)?)?]),
        op if ew::is_unary(op) => {
            let mut x = args.take_f32(0)?;
            ew::unary(op, &mut x)?;
            one(x)
        }
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pow => {
            let a = args.take(0)?;
            Ok(vec![ew::binary(&node.op, a, args.get(1)?)?])
        }
        Op::Max | Op::Min => {
            let mut out = args.take(0)?;
            for i in 1..args.0.len() {
                out = Cow::Owned(ew::binary(&node.op, out, args.get(i)?)?);
            }
            Ok(vec![out.into_owned()])
        }
        Op::MaxPool { window, ceil } => one(pool::max(args.f32(0)?, window, *ceil)?),
        Op::AveragePool { window, ceil, count_include_pad } => {
            one(pool::average(args.f32(0)?, window, *ceil, *count_include_pad)?)
        }
        Op::GlobalAveragePool => one(pool::global(args.f32(0)?, pool::mean)?),
        Op::GlobalMaxPool => one(pool::global(args.f32(0)?, pool::maximum)?),
        Op::ReduceMean { axes, keepdims } => one(pool::reduce(args.f32(0)?, axes, *keepdims, pool::mean)?),
        Op::ReduceSum { axes, keepdims } => match args.get(0)? {
            Tensor::I64(a) => Ok(vec![Tensor::I64(pool::reduce(a, axes, *keepdims, |v| v.iter().sum())?)]),
            _ => one(pool::reduce(args.f32(0)?, axes, *keepdims, pool::sum)?),
        },
        Op::ReduceMax { axes, keepdims } => one(pool::reduce(args.f32(0)?, axes, *keepdims, pool::maximum)?),
        Op::Range => Ok(vec![shape::range(args.get(0)?, args.get(1)?, args.get(2)?)?]),
        Op::Resize(mode) => {
            let sizes = args.optional_i64s(3)?;
            one(resize::resize(args.f32(0)?, args.optional_f32(2)?, sizes.as_deref(), mode)?)
        }
        Op::QuantizeLinear { axis } => Ok(vec![quant::quantize(args.f32(0)?, args.f32(1)?, args.optional(2), *axis)?]),
        Op::DequantizeLinear { axis } => one(quant::dequantize(args.get(0)?, args.f32(1)?, args.optional(2), *axis)?),
        Op::Equal => Ok(vec![ew::equal(args.get(0)?, args.get(1)?)?]),
        Op::Where => Ok(vec![ew::select(args.get(0)?, args.get(1)?, args.get(2)?)?]),
        _ => move_values(&node.op, args, node.outputs.len()),
    }
}

fn move_values(op: &Op, mut args: Args<'_>, outputs: usize) -> Outcome<Vec<Tensor>> {
    Ok(vec![match op {
        Op::Identity => args.take(0)?.into_owned(),
        Op::Reshape { allow_zero } => {
            let target = args.i64s(1)?;
            let data = args.take(0)?;
            let target = shape::reshape_target(data.shape(), &target, *allow_zero)?;
            shape::reshape(data, &target)?
        }
        Op::Flatten { axis } => {
            let data = args.take(0)?;
            let target = shape::flatten_target(data.shape(), *axis)?;
            shape::reshape(data, &target)?
        }
        Op::Squeeze { axes } => {
            let data = args.take(0)?;
            let target = shape::squeeze_target(data.shape(), axes)?;
            shape::reshape(data, &target)?
        }
        Op::Unsqueeze { axes } => {
            let data = args.take(0)?;
            let target = shape::unsqueeze_target(data.shape(), axes)?;
            shape::reshape(data, &target)?
        }
        Op::Transpose { perm } => shape::transpose(args.get(0)?, perm)?,
        Op::Concat { axis } => {
            let parts: Vec<&Tensor> = (0..args.0.len()).map(|i| args.get(i)).collect::<Outcome<_>>()?;
            shape::concat(&parts, *axis)?
        }
        Op::Slice => {
            let (starts, ends) = (args.i64s(1)?, args.i64s(2)?);
            let (axes, steps) = (args.optional_i64s(3)?, args.optional_i64s(4)?);
            shape::slice(args.get(0)?, &starts, &ends, axes.as_deref(), steps.as_deref())?
        }
        Op::Gather { axis } => shape::gather(args.get(0)?, args.get(1)?, *axis)?,
        Op::Split { axis, sizes } => return shape::split(args.get(0)?, *axis, sizes, outputs),
        Op::Expand => shape::expand(args.get(0)?, &args.i64s(1)?)?,
        Op::Pad { amounts, value } => shape::pad(args.get(0)?, amounts, *value)?,
        Op::PadMode { amounts, mode } => shape::pad_mode(args.get(0)?, amounts, mode)?,
        Op::Shape { start, end } => shape::shape_of(args.get(0)?.shape(), *start, *end),
        Op::Cast { to } => shape::cast(args.get(0)?, *to),
        Op::ConstantOfShape { value } => shape::constant_of_shape(&args.i64s(0)?, value)?,
        _ => return Fault::unsupported("operator not supported"),
    }])
}
