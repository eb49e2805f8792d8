//! One node of any opset → typed operators in one form.
//!
//! Attributes that a typed operator does not know are refused by name, which also covers the forms of opsets below 7
//! (`broadcast`, `consumed_inputs`, …). Inputs that [`Op`] holds as numbers must be constants.

use super::attributes::{Attributes, Label};
use super::import::{Importer, Raw};
use crate::Result;
use crate::graph::op::{Padding, Resize, Window};
use crate::graph::{DType, Op, Tensor, ValueId};

/// Inputs that an operator needs and the most it takes; `None` for operators without a typed form.
fn arity(op_type: &str) -> Option<(usize, usize)> {
    Some(match op_type {
        "Constant" => (0, 0),
        "Relu" | "LeakyRelu" | "Sigmoid" | "Tanh" | "Erf" | "HardSigmoid" | "HardSwish" | "Softmax" | "Sqrt"
        | "Exp" | "Log" | "Neg" | "Abs" | "Reciprocal" | "MaxPool" | "AveragePool" | "GlobalAveragePool"
        | "GlobalMaxPool" | "Flatten" | "Transpose" | "Shape" | "Cast" | "ConstantOfShape" | "Identity" => (1, 1),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "Reshape" | "Squeeze" | "Unsqueeze" | "Split" | "Upsample" => (1, 2),
        "Clip" | "Dropout" => (1, 3),
        "Pad" | "Resize" => (1, 4),
        "Slice" => (1, 5),
        "Max" | "Min" | "Sum" | "Concat" => (1, usize::MAX),
        "MatMul" | "PRelu" | "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Gather" | "Expand" | "Equal" => (2, 2),
        "LpNormalization" => (1, 1),
        "Conv" | "Gemm" | "LayerNormalization" | "QuantizeLinear" | "DequantizeLinear" => (2, 3),
        "Range" | "Where" => (3, 3),
        "BatchNormalization" => (5, 5),
        _ => return None,
    })
}

impl Importer<'_> {
    /// Adds what a node means to the graph.
    pub(super) fn convert(&mut self, mut node: Raw) -> Result<()> {
        let arity = if node.domain.is_empty() { arity(&node.op_type) } else { None };
        let Some((least, most)) = arity else {
            let op = Op::Other { domain: node.domain, op_type: node.op_type, attributes: node.attributes.rest() };
            self.push(node.name, op, node.inputs, node.outputs);
            return Ok(());
        };
        let count = node.inputs.len();
        if count < least || count > most || node.inputs.iter().take(least).any(Option::is_none) {
            return Err(node.label.unsupported(format!("it has {count} inputs or an absent one; it needs {least}")));
        }
        if node.op_type == "BatchNormalization" && node.outputs.len() > 1 {
            return Err(node.label.unsupported("it is in its training form (several outputs)"));
        }
        if node.op_type != "Split" {
            if let Some(&extra) = node.outputs[1..].iter().find(|id| self.is_used(**id)) {
                let why =
                    format!("its further output '{}' is used, which is not supported", self.graph.value(extra).name);
                return Err(node.label.unsupported(why));
            }
            node.outputs.truncate(1);
        }
        let op = match node.op_type.as_str() {
            "Constant" => return self.constant_node(node),
            "Softmax" if self.graph.opset < 13 => return self.old_softmax(node),
            "Sum" => return self.sum(node),
            "LpNormalization" => return self.lp_normalization(node),
            "Clip" if node.inputs[1..].iter().flatten().any(|&id| self.constant(id).is_none()) => {
                return self.clip_by_values(node);
            }
            _ => self.typed(&mut node)?,
        };
        let Raw { label, name, mut inputs, outputs, attributes, .. } = node;
        attributes.finish()?;
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        // Where ONNX lets an input be absent in the middle, the typed operators still know it by its place.
        let optional_from = match op {
            Op::Resize(_) | Op::Slice => 1,
            _ => least,
        };
        if inputs.iter().take(optional_from).any(Option::is_none)
            || matches!(op, Op::Concat { .. } | Op::Max | Op::Min) && inputs.contains(&None)
        {
            return Err(label.unsupported("an input is absent"));
        }
        if let (Op::Identity, [Some(from)], [to]) = (&op, &inputs[..], &outputs[..])
            && self.constant(*from).is_some()
        {
            let root = self.aliases.get(from).copied().unwrap_or(*from);
            self.aliases.insert(*to, root);
        }
        self.push(name, op, inputs, outputs);
        Ok(())
    }

    fn typed(&mut self, node: &mut Raw) -> Result<Op> {
        let opset = self.graph.opset;
        let label = node.label.clone();
        let op_type = node.op_type.clone();
        let a = &mut node.attributes;
        Ok(match op_type.as_str() {
            "Conv" => {
                let weights = node.inputs[1].and_then(|id| self.hints[id.0].clone()).unwrap_or_default();
                let kernel = weights.get(2..).and_then(|k| k.iter().copied().collect::<Option<Vec<_>>>());
                let group = a.int("group")?.unwrap_or(1);
                let group = usize::try_from(group).ok().filter(|&g| g > 0);
                let group = group.ok_or_else(|| label.unsupported("attribute 'group' is below 1"))?;
                Op::Conv { window: window(a, &label, kernel)?, group }
            }
            "MaxPool" => {
                // Only the indices output, which is refused, depends on the storage order.
                a.int("storage_order")?;
                Op::MaxPool { ceil: a.flag("ceil_mode", false)?, window: window(a, &label, None)? }
            }
            "AveragePool" => Op::AveragePool {
                ceil: a.flag("ceil_mode", false)?,
                count_include_pad: a.flag("count_include_pad", false)?,
                window: window(a, &label, None)?,
            },
            "Gemm" => Op::Gemm {
                alpha: a.float("alpha", 1.0)?,
                beta: a.float("beta", 1.0)?,
                trans_a: a.flag("transA", false)?,
                trans_b: a.flag("transB", false)?,
            },
            "MatMul" => Op::MatMul,
            "BatchNormalization" => {
                a.only_int("spatial", 1)?;
                a.only_int("training_mode", 0)?;
                a.float("momentum", 0.9)?;
                Op::BatchNormalization { epsilon: a.float("epsilon", 1e-5)? }
            }
            "LayerNormalization" => {
                a.only_int("stash_type", 1)?;
                Op::LayerNormalization { axis: a.int("axis")?.unwrap_or(-1), epsilon: a.float("epsilon", 1e-5)? }
            }
            "Relu" => Op::Relu,
            "LeakyRelu" => Op::LeakyRelu { alpha: a.float("alpha", 0.01)? },
            "PRelu" => Op::PRelu,
            "Clip" if opset < 11 => bounds(&label, a.float("min", f32::MIN)?, a.float("max", f32::MAX)?)?,
            "Clip" => {
                let (min, max) = (self.number(node, 1, "min")?, self.number(node, 2, "max")?);
                node.inputs.truncate(1);
                bounds(&label, min.unwrap_or(f32::MIN), max.unwrap_or(f32::MAX))?
            }
            "Sigmoid" => Op::Sigmoid,
            "Tanh" => Op::Tanh,
            "Erf" => Op::Erf,
            "HardSigmoid" => Op::HardSigmoid { alpha: a.float("alpha", 0.2)?, beta: a.float("beta", 0.5)? },
            "HardSwish" => Op::HardSwish,
            "Softmax" => Op::Softmax { axis: a.int("axis")?.unwrap_or(-1) },
            "Add" => Op::Add,
            "Sub" => Op::Sub,
            "Mul" => Op::Mul,
            "Div" => Op::Div,
            "Pow" => Op::Pow,
            "Max" => Op::Max,
            "Min" => Op::Min,
            "Sqrt" => Op::Sqrt,
            "Exp" => Op::Exp,
            "Log" => Op::Log,
            "Neg" => Op::Neg,
            "Abs" => Op::Abs,
            "Reciprocal" => Op::Reciprocal,
            "GlobalAveragePool" => Op::GlobalAveragePool,
            "GlobalMaxPool" => Op::GlobalMaxPool,
            "ReduceMean" | "ReduceSum" | "ReduceMax" => {
                let keepdims = a.flag("keepdims", true)?;
                let noop = a.flag("noop_with_empty_axes", false)?;
                let axes = self.axes(node)?.unwrap_or_default();
                match op_type.as_str() {
                    _ if axes.is_empty() && noop => Op::Identity,
                    "ReduceMean" => Op::ReduceMean { axes, keepdims },
                    "ReduceSum" => Op::ReduceSum { axes, keepdims },
                    _ => Op::ReduceMax { axes, keepdims },
                }
            }
            "Reshape" => {
                let allow_zero = a.flag("allowzero", false)?;
                if let Some(shape) = a.ints("shape")? {
                    self.ints_as_input(node, 1, "shape", shape);
                }
                if node.inputs.len() != 2 {
                    return Err(label.unsupported("it has no shape"));
                }
                Op::Reshape { allow_zero }
            }
            "Flatten" => Op::Flatten { axis: a.int("axis")?.unwrap_or(1) },
            "Transpose" => {
                let perm = match (a.sizes("perm")?, node.inputs[0].and_then(|id| self.hints[id.0].as_ref())) {
                    (Some(perm), _) => perm,
                    (None, Some(shape)) => (0..shape.len()).rev().collect(),
                    (None, None) => {
                        return Err(label.unsupported("it has no 'perm' and the rank of its input is unknown"));
                    }
                };
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                if !sorted.into_iter().eq(0..perm.len()) {
                    return Err(label.unsupported(format!("attribute 'perm' = {perm:?} is no permutation")));
                }
                Op::Transpose { perm }
            }
            "Squeeze" => Op::Squeeze { axes: self.axes(node)?.unwrap_or_default() },
            "Unsqueeze" => match self.axes(node)? {
                Some(axes) => Op::Unsqueeze { axes },
                None => return Err(label.unsupported("it has no axes")),
            },
            "Concat" => match a.int("axis")? {
                Some(axis) => Op::Concat { axis },
                None => return Err(label.unsupported("attribute 'axis' is missing")),
            },
            "Slice" => {
                let parts = [("starts", a.ints("starts")?), ("ends", a.ints("ends")?), ("axes", a.ints("axes")?)];
                for (place, (name, values)) in parts.into_iter().enumerate() {
                    if let Some(values) = values {
                        self.ints_as_input(node, place + 1, name, values);
                    }
                }
                if node.inputs.len() < 3 || node.inputs[1].is_none() || node.inputs[2].is_none() {
                    return Err(label.unsupported("it has no starts or no ends"));
                }
                Op::Slice
            }
            "Gather" => Op::Gather { axis: a.int("axis")?.unwrap_or(0) },
            "Split" => self.split(node)?,
            "Expand" => Op::Expand,
            "Pad" => self.pad(node)?,
            "Upsample" | "Resize" => self.resize(node)?,
            "Shape" => Op::Shape { start: a.int("start")?.unwrap_or(0), end: a.int("end")? },
            "Cast" => {
                a.int("saturate")?;
                let to = a.int("to")?.ok_or_else(|| label.unsupported("attribute 'to' is missing"))?;
                let to = super::dtype_of(i32::try_from(to).unwrap_or(-1));
                Op::Cast { to: to.map_err(|ty| label.unsupported(format!("element type {ty} is not supported")))? }
            }
            "ConstantOfShape" => {
                let value = a.tensor("value")?.unwrap_or_else(|| Tensor::F32(ndarray::arr1(&[0.0]).into_dyn()));
                if value.len() != 1 {
                    return Err(label.unsupported("attribute 'value' must have one element"));
                }
                Op::ConstantOfShape { value }
            }
            "Range" => Op::Range,
            "Where" => Op::Where,
            "Equal" => Op::Equal,
            "Identity" => Op::Identity,
            "Dropout" => {
                a.float("ratio", 0.5)?;
                a.int("seed")?;
                if let Some(training) = node.inputs.get(2).copied().flatten() {
                    match self.constant(training) {
                        Some(Tensor::Bool(b)) if b.iter().all(|b| !b) => {}
                        _ => return Err(label.unsupported("training mode must be the constant false")),
                    }
                }
                node.inputs.truncate(1);
                Op::Identity
            }
            "QuantizeLinear" | "DequantizeLinear" => {
                let axis = a.int("axis")?.unwrap_or(1);
                a.only_int("block_size", 0)?;
                a.int("saturate")?;
                let zero_point = node.inputs.get(2).copied().flatten().and_then(|id| self.graph.value(id).dtype);
                let declared = a.int("output_dtype")?.unwrap_or(0);
                let own = super::data_type(zero_point.unwrap_or(DType::U8)) as i64;
                if declared != 0 && declared != own {
                    return Err(
                        label.unsupported(format!("attribute 'output_dtype' = {declared} is not its zero point's"))
                    );
                }
                if op_type == "QuantizeLinear" { Op::QuantizeLinear { axis } } else { Op::DequantizeLinear { axis } }
            }
            _ => return Err(label.unsupported("it is not supported")),
        })
    }

    fn split(&mut self, node: &mut Raw) -> Result<Op> {
        let axis = node.attributes.int("axis")?.unwrap_or(0);
        let parts = node.outputs.len();
        if let Some(n) = node.attributes.int("num_outputs")?
            && usize::try_from(n) != Ok(parts)
        {
            return Err(node.label.unsupported(format!("attribute 'num_outputs' = {n}, but it has {parts} outputs")));
        }
        let sizes = match node.attributes.ints("split")? {
            Some(sizes) => sizes,
            None => self.ints(node, 1, "split")?.unwrap_or_default(),
        };
        node.inputs.truncate(1);
        let sizes = sizes.iter().map(|&n| usize::try_from(n)).collect::<Result<Vec<_>, _>>();
        match sizes {
            Ok(sizes) if sizes.is_empty() || sizes.len() == parts => Ok(Op::Split { axis, sizes }),
            _ => Err(node.label.unsupported(format!("its sizes do not fit its {parts} outputs"))),
        }
    }

    fn pad(&mut self, node: &mut Raw) -> Result<Op> {
        let mode = node.attributes.string("mode", "constant")?;
        let (amounts, value) = if self.graph.opset < 11 {
            (node.attributes.ints("pads")?, node.attributes.float("value", 0.0)?)
        } else {
            (self.ints(node, 1, "pads")?, self.number(node, 2, "constant_value")?.unwrap_or(0.0))
        };
        let mut amounts = amounts.ok_or_else(|| node.label.unsupported("it has no pads"))?;
        let rank = node.inputs[0].and_then(|id| self.hints[id.0].as_ref()).map(Vec::len);
        if let Some(axes) = self.ints(node, 3, "axes")? {
            let rank =
                rank.ok_or_else(|| node.label.unsupported("it has axes and the rank of its input is unknown"))?;
            let mut all = vec![0; 2 * rank];
            for (i, &axis) in axes.iter().enumerate() {
                let place = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
                let place = usize::try_from(place).ok().filter(|&p| p < rank);
                match (place, amounts.get(i), amounts.get(i + axes.len())) {
                    (Some(p), Some(&begin), Some(&end)) => (all[p], all[p + rank]) = (begin, end),
                    _ => return Err(node.label.unsupported(format!("axes {axes:?} do not fit pads {amounts:?}"))),
                }
            }
            amounts = all;
        }
        if rank.is_some_and(|rank| amounts.len() != 2 * rank) || amounts.len() % 2 != 0 {
            return Err(node.label.unsupported(format!("{} pads do not fit the rank of its input", amounts.len())));
        }
        let amounts = amounts.iter().map(|&n| i32::try_from(n).ok().and_then(|n| usize::try_from(n).ok()));
        let Some(amounts) = amounts.collect::<Option<Vec<_>>>() else {
            return Err(node.label.unsupported("negative or huge pads are not supported"));
        };
        node.inputs.truncate(1);
        match mode.as_str() {
            "constant" => Ok(Op::Pad { amounts, value }),
            "reflect" | "edge" => Ok(Op::PadMode { amounts, mode }),
            _ => Err(node.label.unsupported(format!("attribute 'mode' = '{mode}' is not supported"))),
        }
    }

    /// `Upsample` (to opset 9) and the first `Resize` (opset 10) are today's `Resize` with fixed modes.
    fn resize(&mut self, node: &mut Raw) -> Result<Op> {
        let a = &mut node.attributes;
        let mode = a.string("mode", "nearest")?;
        if node.op_type == "Upsample" || self.graph.opset < 11 {
            let scales = match a.floats("scales")? {
                Some(scales) => {
                    let base = format!("{}_scales", node.name);
                    Some(self.fresh_constant(&base, Tensor::F32(ndarray::Array1::from(scales).into_dyn())))
                }
                None => node.inputs.get(1).copied().flatten(),
            };
            if scales.is_none() {
                return Err(node.label.unsupported("it has no scales"));
            }
            node.inputs = vec![node.inputs[0], None, scales];
            return Ok(Op::Resize(Resize {
                mode: if mode == "bilinear" { "linear".to_owned() } else { mode },
                coordinate_transformation_mode: "asymmetric".to_owned(),
                nearest_mode: "floor".to_owned(),
            }));
        }
        let coordinate_transformation_mode = a.string("coordinate_transformation_mode", "half_pixel")?;
        let nearest_mode = a.string("nearest_mode", "round_prefer_floor")?;
        a.only_int("antialias", 0)?;
        a.only_int("exclude_outside", 0)?;
        a.float("extrapolation_value", 0.0)?;
        let cubic = a.float("cubic_coeff_a", -0.75)?;
        let policy = a.string("keep_aspect_ratio_policy", "stretch")?;
        if coordinate_transformation_mode == "tf_crop_and_resize" || cubic != -0.75 || policy != "stretch" {
            let why = "only the default crop, cubic coefficient and aspect ratio policy are supported";
            return Err(node.label.unsupported(why));
        }
        // An empty constant is the older way to leave an input out.
        let present = |id: &ValueId| self.constant(*id).is_none_or(|t| !t.is_empty());
        let scales = node.inputs.get(2).copied().flatten().filter(present);
        let sizes = node.inputs.get(3).copied().flatten().filter(present);
        if scales.is_some() == sizes.is_some() {
            return Err(node.label.unsupported("it needs either scales or sizes"));
        }
        node.inputs = vec![node.inputs[0], None, scales, sizes];
        Ok(Op::Resize(Resize { mode, coordinate_transformation_mode, nearest_mode }))
    }

    /// Axes: the attribute of older opsets or the second input, which is taken away.
    fn axes(&mut self, node: &mut Raw) -> Result<Option<Vec<i64>>> {
        let axes = match node.attributes.ints("axes")? {
            Some(axes) => Some(axes),
            None => self.ints(node, 1, "axes")?,
        };
        node.inputs.truncate(1);
        Ok(axes)
    }

    /// Turns an attribute of an older opset into the constant input of today.
    fn ints_as_input(&mut self, node: &mut Raw, place: usize, name: &str, values: Vec<i64>) {
        let id = self.fresh_constant(&format!("{}_{name}", node.name), Tensor::from_i64(values));
        if node.inputs.len() <= place {
            node.inputs.resize(place + 1, None);
        }
        node.inputs[place] = Some(id);
    }

    /// The integers of a constant input, where it is present.
    fn ints(&self, node: &Raw, place: usize, name: &str) -> Result<Option<Vec<i64>>> {
        let Some(id) = node.inputs.get(place).copied().flatten() else { return Ok(None) };
        match self.constant(id) {
            Some(Tensor::I64(a)) => Ok(Some(a.iter().copied().collect())),
            Some(Tensor::I32(a)) => Ok(Some(a.iter().map(|&i| i64::from(i)).collect())),
            Some(_) => Err(node.label.unsupported(format!("input '{name}' does not hold integers"))),
            None => Err(node.label.unsupported(format!("input '{name}' must be a constant"))),
        }
    }

    /// The number of a constant input, where it is present.
    fn number(&self, node: &Raw, place: usize, name: &str) -> Result<Option<f32>> {
        let Some(id) = node.inputs.get(place).copied().flatten() else { return Ok(None) };
        let Some(tensor) = self.constant(id) else {
            return Err(node.label.unsupported(format!("input '{name}' must be a constant")));
        };
        let exact = match tensor {
            Tensor::F32(a) => a.first().copied(),
            Tensor::F16(a) => a.first().map(|x| x.to_f32()),
            Tensor::F64(a) => a.first().map(|&x| x as f32).filter(|&x| a.first() == Some(&f64::from(x))),
            // Integers that f32 holds exactly.
            Tensor::I64(a) => a.first().filter(|x| x.unsigned_abs() <= 1 << 24).map(|&x| x as f32),
            Tensor::I32(a) => a.first().filter(|x| x.unsigned_abs() <= 1 << 24).map(|&x| x as f32),
            Tensor::I8(a) => a.first().map(|&x| f32::from(x)),
            Tensor::U8(a) => a.first().map(|&x| f32::from(x)),
            Tensor::Bool(_) => None,
        };
        match exact {
            Some(x) if tensor.len() == 1 => Ok(Some(x)),
            _ => Err(node.label.unsupported(format!("input '{name}' must be one number that f32 holds exactly"))),
        }
    }
}

/// Bounds at the ends of f32 are no bounds.
fn bounds(label: &Label, min: f32, max: f32) -> Result<Op> {
    if min.is_nan() || max.is_nan() {
        return Err(label.unsupported("a bound is NaN"));
    }
    let min = if min == f32::MIN { f32::NEG_INFINITY } else { min };
    let max = if max == f32::MAX { f32::INFINITY } else { max };
    Ok(Op::Clip { min, max })
}

/// Kernel, strides, dilations and padding; `kernel` stands in for a missing `kernel_shape`.
fn window(a: &mut Attributes, label: &Label, kernel: Option<Vec<usize>>) -> Result<Window> {
    let Some(kernel) = a.sizes("kernel_shape")?.or(kernel) else {
        return Err(label.unsupported("attribute 'kernel_shape' is missing"));
    };
    let axes = kernel.len();
    if !(1..=3).contains(&axes) {
        return Err(label.unsupported(format!("{axes} spatial dimensions; 1 to 3 are supported")));
    }
    let strides = a.sizes("strides")?.unwrap_or_else(|| vec![1; axes]);
    let dilations = a.sizes("dilations")?.unwrap_or_else(|| vec![1; axes]);
    for (name, values) in [("kernel_shape", &kernel), ("strides", &strides), ("dilations", &dilations)] {
        if values.len() != axes || values.iter().any(|&n| n == 0 || i32::try_from(n).is_err()) {
            return Err(label.unsupported(format!("attribute '{name}' = {values:?} for {axes} spatial dimensions")));
        }
    }
    let pads = a.sizes("pads")?;
    let padding = match a.string("auto_pad", "NOTSET")?.as_str() {
        "NOTSET" | "" => Padding::Explicit(pads.unwrap_or_else(|| vec![0; 2 * axes])),
        mode if pads.is_some_and(|p| p.iter().any(|&n| n != 0)) => {
            return Err(label.unsupported(format!("attributes 'auto_pad' = '{mode}' and 'pads' contradict each other")));
        }
        "VALID" => Padding::Explicit(vec![0; 2 * axes]),
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        mode => return Err(label.unsupported(format!("attribute 'auto_pad' = '{mode}' is not supported"))),
    };
    if let Padding::Explicit(pads) = &padding
        && (pads.len() != 2 * axes || pads.iter().any(|&n| i32::try_from(n).is_err()))
    {
        return Err(label.unsupported(format!("attribute 'pads' = {pads:?} for {axes} spatial dimensions")));
    }
    Ok(Window { kernel, strides, dilations, padding })
}
