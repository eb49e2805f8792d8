//! Nodes that become something else than one operator: constants, chains, and older meanings spelled out.

use super::import::{Importer, Raw};
use crate::Result;
use crate::graph::{Op, Tensor};

impl Importer<'_> {
    /// `Constant` leaves no node behind.
    pub(super) fn constant_node(&mut self, mut node: Raw) -> Result<()> {
        let a = &mut node.attributes;
        let floats = |v: Vec<f32>| Tensor::F32(ndarray::Array1::from(v).into_dyn());
        let tensor = if let Some(tensor) = a.tensor("value")? {
            tensor
        } else if let Some(i) = a.int("value_int")? {
            Tensor::I64(ndarray::arr0(i).into_dyn())
        } else if let Some(v) = a.ints("value_ints")? {
            Tensor::from_i64(v)
        } else if let Some(v) = a.floats("value_floats")? {
            floats(v)
        } else {
            let f = a.float("value_float", f32::NAN)?;
            if f.is_nan() {
                return Err(node.label.unsupported("its value is missing or of a kind that is not supported"));
            }
            Tensor::F32(ndarray::arr0(f).into_dyn())
        };
        node.attributes.finish()?;
        if let [output] = node.outputs[..] {
            self.set_constant(output, tensor);
        }
        Ok(())
    }

    /// `Softmax` below opset 13 works on the input flattened to two dimensions at `axis`.
    pub(super) fn old_softmax(&mut self, mut node: Raw) -> Result<()> {
        let axis = node.attributes.int("axis")?.unwrap_or(1);
        node.attributes.finish()?;
        let (Some(&Some(input)), Some(&output)) = (node.inputs.first(), node.outputs.first()) else {
            return Err(node.label.unsupported("an input or output is absent"));
        };
        let shape = self.hints[input.0].clone();
        let rank = shape.as_ref().map(|s| s.len() as i64);
        let axis = match rank {
            _ if axis == -1 => -1,
            None => {
                let why = format!("axis {axis} in opset {} with an input of unknown rank", self.graph.opset);
                return Err(node.label.unsupported(why));
            }
            Some(rank) if axis < -rank || axis >= rank.max(1) => {
                return Err(node.label.unsupported(format!("axis {axis} for an input of rank {rank}")));
            }
            Some(rank) => axis.rem_euclid(rank.max(1)),
        };
        let behind = shape.unwrap_or_default();
        let behind = behind.get(usize::try_from(axis).unwrap_or(usize::MAX).saturating_add(1)..).unwrap_or(&[]);
        if behind.iter().all(|d| *d == Some(1)) {
            // One axis is all there is to normalise over.
            let axis = if behind.is_empty() { -1 } else { axis };
            self.push(node.name, Op::Softmax { axis }, node.inputs, node.outputs);
            return Ok(());
        }
        let base = self.graph.value(output).name.clone();
        let [shape, flat, soft] = ["shape", "flat", "softmax"].map(|part| self.fresh_value(&format!("{base}_{part}")));
        let name = |part: &str| format!("{}_{part}", node.name);
        self.push(name("shape"), Op::Shape { start: 0, end: None }, vec![Some(input)], vec![shape]);
        self.push(name("flatten"), Op::Flatten { axis }, vec![Some(input)], vec![flat]);
        self.push(name("softmax"), Op::Softmax { axis: -1 }, vec![Some(flat)], vec![soft]);
        self.push(node.name, Op::Reshape { allow_zero: false }, vec![Some(soft), Some(shape)], vec![output]);
        Ok(())
    }

    /// `Sum` of any number of inputs is a chain of `Add`.
    pub(super) fn sum(&mut self, node: Raw) -> Result<()> {
        let Raw { label, name, inputs, outputs, attributes, .. } = node;
        attributes.finish()?;
        let Some(inputs) = inputs.into_iter().collect::<Option<Vec<_>>>() else {
            return Err(label.unsupported("an input is absent"));
        };
        let [first, middle @ .., last] = &inputs[..] else {
            self.push(name, Op::Identity, inputs.into_iter().map(Some).collect(), outputs);
            return Ok(());
        };
        let mut sum = *first;
        for (i, term) in middle.iter().enumerate() {
            let partial = self.fresh_value(&format!("{name}_partial"));
            self.push(format!("{name}_{i}"), Op::Add, vec![Some(sum), Some(*term)], vec![partial]);
            sum = partial;
        }
        self.push(name, Op::Add, vec![Some(sum), Some(*last)], outputs);
        Ok(())
    }

    /// `LpNormalization` is x over its norm along one axis. A norm of zero counts as 1e-7 (a number that f16 has, too): zeros stay zeros.
    pub(super) fn lp_normalization(&mut self, node: Raw) -> Result<()> {
        let Raw { label, name, inputs, outputs, mut attributes, .. } = node;
        let axis = attributes.int("axis")?.unwrap_or(-1);
        let p = attributes.int("p")?.unwrap_or(2);
        attributes.finish()?;
        let x = inputs[0];
        let [powers, sum, norm, least] =
            ["powers", "sum", "norm", "divisor"].map(|what| self.fresh_value(&format!("{name}_{what}")));
        match p {
            1 => self.push(format!("{name}_abs"), Op::Abs, vec![x], vec![powers]),
            2 => self.push(format!("{name}_square"), Op::Mul, vec![x, x], vec![powers]),
            _ => return Err(label.unsupported(format!("attribute 'p' = {p} is not 1 or 2"))),
        }
        let reduce = Op::ReduceSum { axes: vec![axis], keepdims: true };
        self.push(format!("{name}_reduce"), reduce, vec![Some(powers)], vec![sum]);
        let norm = if p == 1 {
            sum
        } else {
            self.push(format!("{name}_root"), Op::Sqrt, vec![Some(sum)], vec![norm]);
            norm
        };
        let floor = self.fresh_constant(&format!("{name}_least"), Tensor::F32(ndarray::arr1(&[1e-7]).into_dyn()));
        self.push(format!("{name}_floor"), Op::Max, vec![Some(norm), Some(floor)], vec![least]);
        self.push(name, Op::Div, vec![x, Some(least)], outputs);
        Ok(())
    }

    /// `Clip` with a computed bound is `Min(Max(x, min), max)`, which is how ONNX defines it.
    pub(super) fn clip_by_values(&mut self, node: Raw) -> Result<()> {
        let Raw { name, inputs, outputs, attributes, .. } = node;
        attributes.finish()?;
        let bound = |place: usize| inputs.get(place).copied().flatten();
        match (bound(1), bound(2)) {
            (Some(min), Some(max)) => {
                let raised = self.fresh_value(&format!("{name}_raised"));
                self.push(format!("{name}_min"), Op::Max, vec![inputs[0], Some(min)], vec![raised]);
                self.push(name, Op::Min, vec![Some(raised), Some(max)], outputs);
            }
            (Some(min), None) => self.push(name, Op::Max, vec![inputs[0], Some(min)], outputs),
            (_, max) => self.push(name, Op::Min, vec![inputs[0], max], outputs),
        }
        Ok(())
    }
}
