//! The quantized network as an ONNX graph: QuantizeLinear and DequantizeLinear where runtimes fuse them.
//!
//! Activations have one Q → DQ pair a value, with scalar scale and zero point (a one-element vector keeps ONNX Runtime's addition from fusing).
//! Weights are int8 initializers with one scale a row (or one in all), biases int32 with scale = input scale × weight scale. An absorbed activation has no
//! node where its bounds are those of the output's range, which saturates there. The last dense layer gives float scores.

use ndarray::{Array1, ArrayD, Dimension as _, IxDyn};

use super::equalize::Factors;
use super::fit::Rounded;
use super::network::{Network, Step as NetStep};
use super::ranges::left_over;
use super::{Options, Step};
use crate::graph::{DType, Graph, Node, Op, Tensor, Value, ValueId};
use crate::{Error, Result};

/// Integer type of activations in the file. The steps are the same; int8 zero points are 128 less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationType {
    /// 0..=255: what ONNX Runtime's x86-64 kernels are fastest on.
    Uint8,
    /// −128..=127.
    Int8,
}

impl ActivationType {
    /// As the command line names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uint8 => "uint8",
            Self::Int8 => "int8",
        }
    }
}

/// The QDQ graph with the network's inputs and outputs.
pub(super) fn qdq(
    network: &Network,
    steps: &[Option<Step>],
    rounded: &[Option<Rounded>],
    factors: &Factors,
    options: &Options,
) -> Result<Graph> {
    let source = &network.graph;
    let out = Graph {
        name: source.name.clone(),
        opset: source.opset.max(13),
        producer: source.producer.clone(),
        ..Graph::default()
    };
    let mut emitter = Emitter {
        network,
        steps,
        factors,
        activations: options.activations,
        options,
        out,
        plain: vec![None; source.values.len()],
        read: vec![None; source.values.len()],
    };
    for &input in &source.inputs {
        let id = emitter.copy_value(input, None);
        emitter.out.inputs.push(id);
        emitter.plain[input.0] = Some(id);
        emitter.requantize(input);
    }
    for (step, rounded) in network.steps.iter().zip(rounded) {
        emitter.step(step, rounded.as_ref())?;
    }
    for &output in &source.outputs {
        // A stored output leaves through its DequantizeLinear, under its own name.
        let id = emitter.read[output.0].or(emitter.plain[output.0]).ok_or_else(|| Error::InvalidModel {
            model: source.name.clone(),
            why: format!("nothing makes output '{}'", source.value(output).name),
        })?;
        emitter.out.outputs.push(id);
    }
    Ok(emitter.out)
}

struct Emitter<'a> {
    network: &'a Network,
    steps: &'a [Option<Step>],
    factors: &'a Factors,
    options: &'a Options,
    activations: ActivationType,
    out: Graph,
    /// For every value of the source: the emitted value before quantization.
    plain: Vec<Option<ValueId>>,
    /// For every stored value: the output of its DequantizeLinear.
    read: Vec<Option<ValueId>>,
}

impl Emitter<'_> {
    fn copy_value(&mut self, id: ValueId, suffix: Option<&str>) -> ValueId {
        let mut value = self.network.graph.value(id).clone();
        value.constant = None;
        if let Some(suffix) = suffix {
            value.name.push_str(suffix);
        }
        self.out.add_value(value)
    }

    fn is_output(&self, id: ValueId) -> bool {
        self.network.graph.outputs.contains(&id)
    }

    fn step(&mut self, step: &NetStep, rounded: Option<&Rounded>) -> Result<()> {
        if let (Op::MatMul, Some(rounded)) = (&step.node.op, rounded) {
            return self.product(step, rounded);
        }
        let mut node = step.node.clone();
        node.inputs = match (&step.weighted, rounded) {
            (Some(_), Some(rounded)) => self.layer_inputs(step, rounded)?,
            _ => step
                .node
                .inputs
                .iter()
                .map(|id| id.map(|id| self.operand_beside(id)).transpose())
                .collect::<Result<_>>()?,
        };
        if step.weighted.as_ref().is_some_and(|w| w.window.is_none()) {
            node.op = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        }
        let mut outputs = Vec::new();
        for &id in &step.node.outputs {
            // The name of a model output belongs to what leaves the graph: the DequantizeLinear where there is one.
            let suffix = (self.steps[id.0].is_some() && self.is_output(id)).then_some("_float");
            outputs.push(self.copy_value(id, suffix));
        }
        let rest = left_over(step.bounds, self.steps[step.node.outputs[0].0], &self.factors[step.node.outputs[0].0]);
        let activation = match (rest.low.is_finite(), rest.high.is_finite()) {
            (false, false) => None,
            (true, false) if rest.low == 0.0 => Some(Op::Relu),
            _ => Some(Op::Clip { min: rest.low.max(f32::MIN), max: rest.high.min(f32::MAX) }),
        };
        if let Some(op) = activation {
            let final_output = outputs[0];
            let mut before = self.out.value(final_output).clone();
            before.name.push_str("_before");
            let before = self.out.add_value(before);
            node.outputs = std::iter::once(before).chain(outputs[1..].iter().copied()).collect();
            let name = format!("{}_activation", node.name);
            self.out.nodes.push(node);
            self.out.nodes.push(Node { name, op, inputs: vec![Some(before)], outputs: vec![final_output] });
        } else {
            node.outputs.clone_from(&outputs);
            self.out.nodes.push(node);
        }
        for (&id, &emitted) in step.node.outputs.iter().zip(&outputs) {
            self.plain[id.0] = Some(emitted);
            self.requantize(id);
        }
        Ok(())
    }

    /// A matrix product of more than one row, in float between dequantized operands, and its bias as a sum behind it: what runtimes make one
    /// integer product of.
    fn product(&mut self, step: &NetStep, rounded: &Rounded) -> Result<()> {
        let bad = |why: String| Error::InvalidModel {
            model: self.network.graph.name.clone(),
            why: format!("node '{}': {why}", step.node.name),
        };
        let input = step.node.inputs[0].ok_or_else(|| bad("no input".into()))?;
        let matrix = rounded.weights.t().as_standard_layout().into_owned().into_dyn();
        let bias = Array1::from(rounded.bias.clone()).into_dyn();
        let (name, outputs, y) = (&step.node.name, rounded.scales.len(), step.node.outputs[0]);
        let x = self.operand(input)?;
        let shape = self.scales_shape(false, outputs);
        let w = self.constant(&format!("{name}_weights"), Tensor::I8(matrix), &rounded.scales, &shape, 1);
        let b = self.out.add_constant(&format!("{name}_bias"), Tensor::F32(bias));
        let suffix = (self.steps[y.0].is_some() && self.is_output(y)).then_some("_float");
        let product = self.copy_value(y, Some("_product"));
        let sum = self.copy_value(y, suffix);
        self.push(name, Op::MatMul, vec![x, w], product);
        let rest = left_over(step.bounds, self.steps[y.0], &[]);
        let bounded = (rest.low.is_finite() || rest.high.is_finite()).then(|| self.copy_value(y, Some("_before")));
        self.push(&format!("{name}_add"), Op::Add, vec![product, b], bounded.unwrap_or(sum));
        if let Some(before) = bounded {
            let op = Op::Clip { min: rest.low.max(f32::MIN), max: rest.high.min(f32::MAX) };
            self.push(&format!("{name}_activation"), op, vec![before], sum);
        }
        self.plain[y.0] = Some(sum);
        self.requantize(y);
        Ok(())
    }

    /// What a reader of `id` gets that is no weighted layer.
    fn operand_beside(&mut self, id: ValueId) -> Result<ValueId> {
        match self.plain[id.0] {
            Some(plain) if self.network.float_beside[id.0] => Ok(plain),
            _ => self.operand(id),
        }
    }

    /// What a reader of `id` gets: dequantized where it is stored, the constant or plain value elsewhere.
    fn operand(&mut self, id: ValueId) -> Result<ValueId> {
        if let Some(emitted) = self.read[id.0].or(self.plain[id.0]) {
            return Ok(emitted);
        }
        let value = self.network.graph.value(id);
        let name = value.name.clone();
        let constant = value.constant.clone().ok_or_else(|| Error::InvalidModel {
            model: self.network.graph.name.clone(),
            why: format!("nothing makes value '{name}'"),
        })?;
        let emitted = match (&constant, self.network.stored[id.0]) {
            (Tensor::F32(data), true) => {
                let (low, high) = data.iter().fold((0.0f32, 0.0f32), |(a, b), &v| (a.min(v), b.max(v)));
                let step = Step::covering(low, high);
                let codes = data.mapv(|v| step.quantize(v));
                let codes = match self.activations {
                    ActivationType::Uint8 => Tensor::U8(codes),
                    ActivationType::Int8 => Tensor::I8(codes.mapv(to_int8)),
                };
                let shape = value.shape.clone();
                let codes = self.out.add_constant(&format!("{name}_codes"), codes);
                let (scale, zero_point) = self.step_constants(&name, step);
                let read = self.out.add_value(Value {
                    name: format!("{name}_read"),
                    dtype: Some(DType::F32),
                    shape,
                    constant: None,
                });
                self.push(
                    &format!("{name}_dequantize"),
                    Op::DequantizeLinear { axis: 1 },
                    vec![codes, scale, zero_point],
                    read,
                );
                read
            }
            _ => self.out.add_constant(&name, constant),
        };
        self.plain[id.0] = Some(emitted);
        Ok(emitted)
    }

    fn layer_inputs(&mut self, step: &NetStep, rounded: &Rounded) -> Result<Vec<Option<ValueId>>> {
        let bad = |why: &str| Error::InvalidModel {
            model: self.network.graph.name.clone(),
            why: format!("node '{}': {why}", step.node.name),
        };
        let input = step.node.inputs[0].ok_or_else(|| bad("no input"))?;
        let unit = self.steps[input.0].ok_or_else(|| bad("its input has no range"))?.scale;
        let shape = &step.weighted.as_ref().ok_or_else(|| bad("no weights"))?.shape;
        let weights = ArrayD::from_shape_vec(IxDyn(shape), rounded.weights.iter().copied().collect())
            .map_err(|e| bad(&e.to_string()))?;
        let x = self.operand(input)?;
        let name = &step.node.name;
        let outputs = rounded.scales.len();
        let bias_scales: Vec<f32> = rounded.scales.iter().map(|s| s * unit).collect();
        let codes: Vec<i32> =
            rounded
                .bias
                .iter()
                .zip(&bias_scales)
                .map(|(&b, &s)| {
                    if s > 0.0 { (b / s).round_ties_even().clamp(-2_147_483_520.0, 2_147_483_520.0) as i32 } else { 0 }
                })
                .collect();
        let codes = Tensor::I32(Array1::from(codes).into_dyn());
        let is_convolution = step.weighted.as_ref().is_some_and(|w| w.window.is_some());
        let shape = self.scales_shape(is_convolution, outputs);
        let w = self.constant(&format!("{name}_weights"), Tensor::I8(weights), &rounded.scales, &shape, 0);
        let b = self.constant(&format!("{name}_bias"), codes, &bias_scales, &shape, 0);
        Ok(vec![Some(x), Some(w), Some(b)])
    }

    /// Shape of a layer's weight scales. Runtimes know a scale of the whole tensor by its having no axis.
    fn scales_shape(&self, is_convolution: bool, outputs: usize) -> Vec<usize> {
        if self.options.weights.is_shared(is_convolution) { vec![] } else { vec![outputs] }
    }

    /// An initializer around 0 with one scale for each index of `axis`, or with one in all where `shape` is empty, and its DequantizeLinear.
    fn constant(&mut self, name: &str, codes: Tensor, scales: &[f32], shape: &[usize], axis: i64) -> ValueId {
        let zero_points = match codes {
            Tensor::I8(_) => Tensor::I8(zeros(shape)),
            _ => Tensor::I32(zeros(shape)),
        };
        let scales = ArrayD::from_shape_fn(IxDyn(shape), |index| scales[index.slice().first().copied().unwrap_or(0)]);
        let dims = codes.shape().iter().map(|&n| crate::graph::Dim::Fixed(n)).collect();
        let codes = self.out.add_constant(&format!("{name}_codes"), codes);
        let scale = self.out.add_constant(&format!("{name}_scale"), Tensor::F32(scales));
        let zero_point = self.out.add_constant(&format!("{name}_zero_point"), zero_points);
        let read = Value { name: name.to_owned(), dtype: Some(DType::F32), shape: Some(dims), constant: None };
        let read = self.out.add_value(read);
        self.push(&format!("{name}_dequantize"), Op::DequantizeLinear { axis }, vec![codes, scale, zero_point], read);
        read
    }

    /// Scale and zero point as scalars.
    fn step_constants(&mut self, name: &str, step: Step) -> (ValueId, ValueId) {
        let scalar = |v: f32| Tensor::F32(ArrayD::from_elem(IxDyn(&[]), v));
        let zero_point = match self.activations {
            ActivationType::Uint8 => Tensor::U8(ArrayD::from_elem(IxDyn(&[]), step.zero_point)),
            ActivationType::Int8 => Tensor::I8(ArrayD::from_elem(IxDyn(&[]), to_int8(step.zero_point))),
        };
        let scale = self.out.add_constant(&format!("{name}_scale"), scalar(step.scale));
        (scale, self.out.add_constant(&format!("{name}_zero_point"), zero_point))
    }

    /// Q → DQ behind a stored value.
    fn requantize(&mut self, id: ValueId) {
        let (Some(step), Some(plain)) = (self.steps[id.0], self.plain[id.0]) else { return };
        let value = self.network.graph.value(id);
        let (name, shape) = (value.name.clone(), value.shape.clone());
        let dtype = match self.activations {
            ActivationType::Uint8 => DType::U8,
            ActivationType::Int8 => DType::I8,
        };
        let (scale, zero_point) = self.step_constants(&name, step);
        let codes = Value { name: format!("{name}_codes"), dtype: Some(dtype), shape: shape.clone(), constant: None };
        let codes = self.out.add_value(codes);
        let is_output = self.is_output(id) && !self.network.graph.inputs.contains(&id);
        let read_name = if is_output { name.clone() } else { format!("{name}_read") };
        let read = self.out.add_value(Value { name: read_name, dtype: Some(DType::F32), shape, constant: None });
        self.push(&format!("{name}_quantize"), Op::QuantizeLinear { axis: 1 }, vec![plain, scale, zero_point], codes);
        self.push(
            &format!("{name}_dequantize"),
            Op::DequantizeLinear { axis: 1 },
            vec![codes, scale, zero_point],
            read,
        );
        self.read[id.0] = Some(read);
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<ValueId>, output: ValueId) {
        self.out.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs: inputs.into_iter().map(Some).collect(),
            outputs: vec![output],
        });
    }
}

fn to_int8(code: u8) -> i8 {
    (i16::from(code) - 128) as i8
}

fn zeros<T: Clone + Default>(shape: &[usize]) -> ArrayD<T> {
    ArrayD::from_elem(IxDyn(shape), T::default())
}
