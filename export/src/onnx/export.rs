//! [`Graph`] → messages of the target opset.

use std::collections::HashSet;

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto;

use super::WriteOptions;
use super::opset::{self, Target};
use super::wire;
use crate::graph::op::{Attribute, Padding, Window};
use crate::graph::{DType, Dim, Graph, Node, Op, Tensor, ValueId};
use crate::{Error, Result};

/// The whole model, all data inside.
pub(super) fn export(graph: &Graph, options: &WriteOptions) -> Result<wire::Model> {
    let dtypes = dtypes(graph);
    let target = opset::choose(graph, &dtypes, options.opset)?;
    let mut writer = Writer::new(graph, dtypes, target.opset)?;
    for node in &graph.nodes {
        writer.node(node)?;
    }
    let inputs = graph.inputs.iter().map(|&id| writer.info(id)).collect::<Result<_>>()?;
    let mut outputs = Vec::with_capacity(graph.outputs.len());
    for &id in &graph.outputs {
        writer.require(id, "the graph's outputs")?;
        outputs.push(writer.info(id)?);
    }
    let name = if graph.name.is_empty() { "graph" } else { &graph.name };
    let Target { opset, domains } = target;
    let imports = std::iter::once((String::new(), opset)).chain(domains);
    Ok(wire::Model {
        // Each opset came with a version of the format; a reader of the one reads the other.
        ir_version: options.ir_version.max(match opset {
            ..19 => 0,
            19 | 20 => 9,
            _ => 10,
        }),
        opset_import: imports.map(|(domain, version)| pb::OperatorSetIdProto { domain, version }).collect(),
        producer_name: options.producer.clone(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(wire::Graph {
            name: name.to_owned(),
            node: writer.nodes,
            initializer: writer.initializers,
            input: inputs,
            output: outputs,
        }),
    })
}

/// Element types as far as they follow from what is known, without a full inference.
fn dtypes(graph: &Graph) -> Vec<Option<DType>> {
    let known = |v: &crate::graph::Value| v.constant.as_ref().map(Tensor::dtype).or(v.dtype);
    let mut dtypes: Vec<_> = graph.values.iter().map(known).collect();
    for node in &graph.nodes {
        let input = |i: usize| node.inputs.get(i).copied().flatten().and_then(|id| dtypes[id.0]);
        let dtype = match &node.op {
            Op::Other { .. } => None,
            Op::Cast { to } => Some(*to),
            Op::Shape { .. } => Some(DType::I64),
            Op::Equal => Some(DType::Bool),
            Op::ConstantOfShape { value } => Some(value.dtype()),
            Op::QuantizeLinear { .. } => Some(input(2).unwrap_or(DType::U8)),
            Op::DequantizeLinear { .. } | Op::Where => input(1),
            _ => input(0),
        };
        for output in &node.outputs {
            dtypes[output.0] = dtypes[output.0].or(dtype);
        }
    }
    dtypes
}

struct Writer<'a> {
    graph: &'a Graph,
    opset: i64,
    dtypes: Vec<Option<DType>>,
    names: HashSet<String>,
    /// Values that exist at this point: inputs, written constants, outputs of written nodes.
    defined: Vec<bool>,
    nodes: Vec<wire::Node>,
    initializers: Vec<pb::TensorProto>,
}

impl<'a> Writer<'a> {
    fn new(graph: &'a Graph, dtypes: Vec<Option<DType>>, opset: i64) -> Result<Self> {
        let mut names = HashSet::with_capacity(graph.values.len());
        for value in &graph.values {
            if value.name.is_empty() || !names.insert(value.name.clone()) {
                return Err(invalid(graph, format!("value name '{}' is empty or used twice", value.name)));
            }
        }
        let mut defined = vec![false; graph.values.len()];
        graph.inputs.iter().for_each(|id| defined[id.0] = true);
        Ok(Self { graph, opset, dtypes, names, defined, nodes: Vec::new(), initializers: Vec::new() })
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &id in &node.inputs {
            inputs.push(match id {
                None => String::new(),
                Some(id) => {
                    self.require(id, &format!("node '{}'", node.name))?;
                    self.graph.value(id).name.clone()
                }
            });
        }
        for &id in &node.outputs {
            if std::mem::replace(&mut self.defined[id.0], true) {
                let why = format!("node '{}' produces '{}' again", node.name, self.graph.value(id).name);
                return Err(invalid(self.graph, why));
            }
        }
        let mut form = Form { inputs, attributes: Vec::new() };
        self.form(node, &mut form)?;
        while form.inputs.last().is_some_and(String::is_empty) {
            form.inputs.pop();
        }
        let (domain, op_type) = match &node.op {
            Op::Other { domain, op_type, .. } => (domain.clone(), op_type.clone()),
            typed => (String::new(), typed.name()),
        };
        self.nodes.push(wire::Node {
            input: form.inputs,
            output: node.outputs.iter().map(|&id| self.graph.value(id).name.clone()).collect(),
            name: node.name.clone(),
            op_type,
            domain,
            attribute: form.attributes,
        });
        Ok(())
    }

    /// What the target opset keeps as attributes and what as inputs.
    fn form(&mut self, node: &Node, form: &mut Form) -> Result<()> {
        match &node.op {
            Op::Conv { window, group } => {
                form.window(window, true);
                form.int("group", *group as i64);
            }
            Op::MaxPool { window, ceil } => {
                form.window(window, true);
                form.int("ceil_mode", i64::from(*ceil));
            }
            Op::AveragePool { window, ceil, count_include_pad } => {
                // The attribute exists from opset 19 on, which `opset::choose` has seen to.
                form.window(window, window.dilations.iter().any(|&d| d != 1));
                form.int("ceil_mode", i64::from(*ceil));
                form.int("count_include_pad", i64::from(*count_include_pad));
            }
            Op::Gemm { alpha, beta, trans_a, trans_b } => {
                form.float("alpha", *alpha);
                form.float("beta", *beta);
                form.int("transA", i64::from(*trans_a));
                form.int("transB", i64::from(*trans_b));
            }
            Op::BatchNormalization { epsilon } => form.float("epsilon", *epsilon),
            Op::LayerNormalization { axis, epsilon } => {
                form.int("axis", *axis);
                form.float("epsilon", *epsilon);
            }
            Op::LeakyRelu { alpha } => form.float("alpha", *alpha),
            Op::HardSigmoid { alpha, beta } => {
                form.float("alpha", *alpha);
                form.float("beta", *beta);
            }
            Op::Clip { min, max } => {
                let min = if *min == f32::NEG_INFINITY { String::new() } else { self.number(node, "min", *min)? };
                let max = if *max == f32::INFINITY { String::new() } else { self.number(node, "max", *max)? };
                form.inputs.extend([min, max]);
            }
            Op::ReduceMean { axes, keepdims } | Op::ReduceMax { axes, keepdims } if self.opset < 18 => {
                if !axes.is_empty() {
                    form.ints("axes", axes.clone());
                }
                form.int("keepdims", i64::from(*keepdims));
            }
            Op::ReduceMean { axes, keepdims } | Op::ReduceMax { axes, keepdims } | Op::ReduceSum { axes, keepdims } => {
                if !axes.is_empty() {
                    form.inputs.push(self.integers(node, "axes", axes.clone()));
                }
                form.int("keepdims", i64::from(*keepdims));
            }
            Op::Reshape { allow_zero } => {
                if *allow_zero {
                    form.int("allowzero", 1);
                }
            }
            Op::Transpose { perm } => form.sizes("perm", perm),
            Op::Squeeze { axes } | Op::Unsqueeze { axes } => {
                if !axes.is_empty() {
                    form.inputs.push(self.integers(node, "axes", axes.clone()));
                }
            }
            Op::Softmax { axis } | Op::Flatten { axis } | Op::Concat { axis } | Op::Gather { axis } => {
                form.int("axis", *axis);
            }
            Op::Split { axis, sizes } => {
                form.int("axis", *axis);
                if !sizes.is_empty() {
                    form.inputs.push(self.integers(node, "split", sizes.iter().map(|&n| n as i64).collect()));
                } else if self.opset >= 18 {
                    form.int("num_outputs", node.outputs.len() as i64);
                }
            }
            Op::Pad { amounts, value } => {
                form.string("mode", "constant");
                form.inputs.push(self.integers(node, "pads", amounts.iter().map(|&n| n as i64).collect()));
                if *value != 0.0 {
                    form.inputs.push(self.number(node, "value", *value)?);
                }
            }
            Op::PadMode { amounts, mode } => {
                form.string("mode", mode);
                form.inputs.push(self.integers(node, "pads", amounts.iter().map(|&n| n as i64).collect()));
            }
            Op::Resize(resize) => {
                form.string("mode", &resize.mode);
                form.string("coordinate_transformation_mode", &resize.coordinate_transformation_mode);
                form.string("nearest_mode", &resize.nearest_mode);
            }
            Op::Shape { start, end } => {
                if *start != 0 {
                    form.int("start", *start);
                }
                if let Some(end) = end {
                    form.int("end", *end);
                }
            }
            Op::Cast { to } => form.int("to", super::data_type(*to) as i64),
            Op::ConstantOfShape { value } => form.push("value", &Attribute::Tensor(value.clone())),
            Op::QuantizeLinear { axis } | Op::DequantizeLinear { axis } => {
                if *axis != 1 {
                    form.int("axis", *axis);
                }
            }
            Op::Other { attributes, .. } => attributes.iter().for_each(|(name, value)| form.push(name, value)),
            Op::MatMul
            | Op::Relu
            | Op::PRelu
            | Op::Sigmoid
            | Op::Tanh
            | Op::Erf
            | Op::HardSwish
            | Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Div
            | Op::Pow
            | Op::Max
            | Op::Min
            | Op::Sqrt
            | Op::Exp
            | Op::Log
            | Op::Neg
            | Op::Abs
            | Op::Reciprocal
            | Op::GlobalAveragePool
            | Op::GlobalMaxPool
            | Op::Slice
            | Op::Expand
            | Op::Range
            | Op::Where
            | Op::Equal
            | Op::Identity => {}
        }
        Ok(())
    }

    /// Makes sure that a value exists where it is read; constants are written when they are first read.
    fn require(&mut self, id: ValueId, reader: &str) -> Result<()> {
        if self.defined[id.0] {
            return Ok(());
        }
        let value = self.graph.value(id);
        let Some(constant) = &value.constant else {
            let why = format!("'{}' is read by {reader} before anything produces it", value.name);
            return Err(invalid(self.graph, why));
        };
        self.initializers.push(super::tensor::to_proto(&value.name, constant));
        self.defined[id.0] = true;
        Ok(())
    }

    /// A new initializer for a number, of the type of the node's first input.
    fn number(&mut self, node: &Node, what: &str, x: f32) -> Result<String> {
        let dtype = node.inputs.first().copied().flatten().and_then(|id| self.dtypes[id.0]).unwrap_or(DType::F32);
        let whole = || {
            let exact = x as i64;
            if exact as f32 == x { Some(exact) } else { None }
        };
        let tensor = match dtype {
            DType::F32 => Some(Tensor::F32(ndarray::arr0(x).into_dyn())),
            DType::F16 => Some(Tensor::F16(ndarray::arr0(half::f16::from_f32(x)).into_dyn())),
            DType::F64 => Some(Tensor::F64(ndarray::arr0(f64::from(x)).into_dyn())),
            DType::I64 => whole().map(|i| Tensor::I64(ndarray::arr0(i).into_dyn())),
            DType::I32 => whole().and_then(|i| i.try_into().ok()).map(|i| Tensor::I32(ndarray::arr0(i).into_dyn())),
            DType::I8 => whole().and_then(|i| i.try_into().ok()).map(|i| Tensor::I8(ndarray::arr0(i).into_dyn())),
            DType::U8 => whole().and_then(|i| i.try_into().ok()).map(|i| Tensor::U8(ndarray::arr0(i).into_dyn())),
            DType::Bool => None,
        };
        match tensor {
            Some(tensor) => Ok(self.initializer(node, what, &tensor)),
            None => Err(Error::Unsupported {
                node: node.name.clone(),
                op: node.op.name(),
                why: format!("its {what} {x} is no {dtype:?}"),
            }),
        }
    }

    fn integers(&mut self, node: &Node, what: &str, values: Vec<i64>) -> String {
        self.initializer(node, what, &Tensor::from_i64(values))
    }

    fn initializer(&mut self, node: &Node, what: &str, tensor: &Tensor) -> String {
        // Output names are unique, so that these mostly are, too.
        let base = node.outputs.first().map_or(&node.name, |&id| &self.graph.value(id).name);
        let mut name = format!("{base}_{what}");
        let mut n = 1;
        while !self.names.insert(name.clone()) {
            name = format!("{base}_{what}_{n}");
            n += 1;
        }
        self.initializers.push(super::tensor::to_proto(&name, tensor));
        name
    }

    fn info(&self, id: ValueId) -> Result<pb::ValueInfoProto> {
        let value = self.graph.value(id);
        let Some(dtype) = self.dtypes[id.0] else {
            return Err(invalid(self.graph, format!("the element type of '{}' is unknown", value.name)));
        };
        let shape = value.shape.as_ref().map(|dims| pb::TensorShapeProto {
            dim: dims
                .iter()
                .map(|dim| Dimension {
                    value: match dim {
                        Dim::Fixed(n) => Some(dimension::Value::DimValue(*n as i64)),
                        Dim::Symbol(name) if name.is_empty() => None,
                        Dim::Symbol(name) => Some(dimension::Value::DimParam(name.clone())),
                    },
                    ..Default::default()
                })
                .collect(),
        });
        let tensor = type_proto::Tensor { elem_type: super::data_type(dtype) as i32, shape };
        let r#type = pb::TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        Ok(pb::ValueInfoProto { name: value.name.clone(), r#type: Some(r#type), ..Default::default() })
    }
}

/// Inputs and attributes of one node as they are written.
struct Form {
    inputs: Vec<String>,
    attributes: Vec<wire::Attribute>,
}

impl Form {
    fn push(&mut self, name: &str, value: &Attribute) {
        let mut proto = wire::Attribute { name: name.to_owned(), ..Default::default() };
        let ty = match value {
            Attribute::Int(i) => {
                proto.i = Some(*i);
                AttributeType::Int
            }
            Attribute::Float(f) => {
                proto.f = Some(*f);
                AttributeType::Float
            }
            Attribute::String(s) => {
                proto.s = Some(s.clone());
                AttributeType::String
            }
            Attribute::Ints(v) => {
                proto.ints.clone_from(v);
                AttributeType::Ints
            }
            Attribute::Floats(v) => {
                proto.floats.clone_from(v);
                AttributeType::Floats
            }
            Attribute::Strings(v) => {
                proto.strings.clone_from(v);
                AttributeType::Strings
            }
            Attribute::Tensor(tensor) => {
                proto.t = Some(super::tensor::to_proto("", tensor));
                AttributeType::Tensor
            }
        };
        proto.r#type = ty as i32;
        self.attributes.push(proto);
    }

    fn int(&mut self, name: &str, i: i64) {
        self.push(name, &Attribute::Int(i));
    }

    fn float(&mut self, name: &str, f: f32) {
        self.push(name, &Attribute::Float(f));
    }

    fn ints(&mut self, name: &str, values: Vec<i64>) {
        self.push(name, &Attribute::Ints(values));
    }

    fn sizes(&mut self, name: &str, values: &[usize]) {
        self.ints(name, values.iter().map(|&n| n as i64).collect());
    }

    fn string(&mut self, name: &str, s: &str) {
        self.push(name, &Attribute::String(s.as_bytes().to_vec()));
    }

    fn window(&mut self, window: &Window, dilations: bool) {
        self.sizes("kernel_shape", &window.kernel);
        self.sizes("strides", &window.strides);
        if dilations {
            self.sizes("dilations", &window.dilations);
        }
        match &window.padding {
            Padding::Explicit(pads) => self.sizes("pads", pads),
            Padding::SameUpper => self.string("auto_pad", "SAME_UPPER"),
            Padding::SameLower => self.string("auto_pad", "SAME_LOWER"),
        }
    }
}

fn invalid(graph: &Graph, why: String) -> Error {
    Error::InvalidModel { model: graph.name.clone(), why }
}
