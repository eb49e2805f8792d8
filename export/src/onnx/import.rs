//! Decoded messages → [`Graph`]: names resolved, nodes sorted, every reference checked.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto;

use super::attributes::{Attributes, Label};
use super::external::External;
use super::hints::{self, Hint};
use crate::graph::{DType, Dim, Graph, Node, Op, Tensor, Value, ValueId};
use crate::{Error, Result};

/// Builds the graph of a model that lies at `path`.
pub(super) fn import(model: pb::ModelProto, path: &Path, external: External<'_>) -> Result<Graph> {
    let Some(graph) = model.graph else {
        return Err(Error::malformed(path, "not an ONNX model: it has no graph"));
    };
    let invalid = |why: String| Error::InvalidModel { model: path.display().to_string(), why };
    if let Some(function) = model.functions.first() {
        return Err(Error::Unsupported {
            node: function.name.clone().unwrap_or_default(),
            op: "model-local function".to_owned(),
            why: "functions defined in the model are not supported; inline them first".to_owned(),
        });
    }
    if let Some(sparse) = graph.sparse_initializer.first() {
        return Err(Error::Unsupported {
            node: sparse.values.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
            op: "sparse initializer".to_owned(),
            why: "sparse tensors are not supported".to_owned(),
        });
    }
    let mut versions = model.opset_import.iter().filter(|o| super::is_default_domain(&o.domain)).map(|o| o.version);
    let opset = match (versions.next(), versions.next()) {
        (Some(version), None) => version,
        (None, _) => return Err(invalid("it does not say which opset of the default domain it uses".to_owned())),
        (Some(_), Some(_)) => return Err(invalid("it names two opsets of the default domain".to_owned())),
    };
    if !super::OPSETS.contains(&opset) {
        let (low, high) = (super::OPSETS.start(), super::OPSETS.end());
        return Err(invalid(format!("opset {opset} is not supported; {low} to {high} are")));
    }
    let producer = [model.producer_name.as_str(), model.producer_version.as_str()].join(" ").trim().to_owned();
    let importer = Importer {
        file: path,
        external,
        graph: Graph { name: graph.name.clone(), opset, producer, ..Graph::default() },
        names: HashMap::new(),
        hints: Vec::new(),
        used: Vec::new(),
        aliases: HashMap::new(),
    };
    importer.run(graph)
}

/// A node whose names are resolved, on its way to a typed operator.
pub(super) struct Raw {
    pub(super) label: Label,
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) op_type: String,
    pub(super) inputs: Vec<Option<ValueId>>,
    pub(super) outputs: Vec<ValueId>,
    pub(super) attributes: Attributes,
}

/// The state while nodes are converted one after the other.
pub(super) struct Importer<'a> {
    file: &'a Path,
    external: External<'a>,
    pub(super) graph: Graph,
    names: HashMap<String, ValueId>,
    /// What is known of the shapes, by value.
    pub(super) hints: Vec<Hint>,
    /// Whether a node reads the value or it is a graph output.
    used: Vec<bool>,
    /// Outputs of `Identity` over constants.
    pub(super) aliases: HashMap<ValueId, ValueId>,
}

impl Importer<'_> {
    fn run(mut self, proto: pb::GraphProto) -> Result<Graph> {
        for tensor in proto.initializer {
            let name = tensor.name.clone();
            let tensor = super::tensor::from_proto(tensor, &mut self.external, self.file)?;
            let id = self.define(&name, "initializer")?;
            self.set_constant(id, tensor);
        }
        for info in &proto.input {
            // Before IR 4 every initializer was listed as an input, too.
            if self.names.get(&info.name).is_some_and(|id| self.graph.value(*id).constant.is_some()) {
                continue;
            }
            let (dtype, shape) = self.tensor_type(info)?;
            let id = self.define(&info.name, "input")?;
            self.hints[id.0] = shape.as_ref().map(|dims| dims.iter().map(Dim::fixed).collect());
            let value = self.graph.value_mut(id);
            (value.dtype, value.shape) = (Some(dtype), shape);
            self.graph.inputs.push(id);
        }
        // (output ids per node; absent outputs are None)
        let mut outputs = Vec::with_capacity(proto.node.len());
        for node in &proto.node {
            let mut ids = Vec::with_capacity(node.output.len());
            for name in &node.output {
                ids.push(if name.is_empty() { None } else { Some(self.define(name, "output of a node")?) });
            }
            if ids.iter().all(Option::is_none) {
                let why = format!("node '{}' ({}) has no output", node.name, node.op_type);
                return Err(self.invalid(why));
            }
            outputs.push(ids);
        }
        self.used = vec![false; self.graph.values.len()];
        for info in &proto.output {
            let Some(&id) = self.names.get(&info.name) else {
                return Err(self.invalid(format!("nothing produces its output '{}'", info.name)));
            };
            let (dtype, shape) = self.tensor_type(info)?;
            let value = self.graph.value_mut(id);
            value.dtype.get_or_insert(dtype);
            if value.shape.is_none() {
                value.shape = shape;
            }
            self.used[id.0] = true;
            if self.graph.outputs.contains(&id) {
                return Err(self.invalid(format!("output '{}' is listed twice", info.name)));
            }
            self.graph.outputs.push(id);
        }
        if self.graph.outputs.is_empty() {
            return Err(self.invalid("it has no output".to_owned()));
        }
        let order = self.sort(&proto.node, &outputs)?;
        let mut nodes: Vec<Option<(pb::NodeProto, Vec<Option<ValueId>>)>> =
            proto.node.into_iter().zip(outputs).map(Some).collect();
        for index in order {
            if let Some((node, outputs)) = nodes[index].take() {
                self.node(node, outputs)?;
            }
        }
        Ok(self.graph)
    }

    /// Topological order; the given one where it is already sorted.
    fn sort(&mut self, nodes: &[pb::NodeProto], outputs: &[Vec<Option<ValueId>>]) -> Result<Vec<usize>> {
        let mut producer = vec![None; self.graph.values.len()];
        for (index, ids) in outputs.iter().enumerate() {
            ids.iter().flatten().for_each(|id| producer[id.0] = Some(index));
        }
        let mut waiting_for = vec![0usize; nodes.len()];
        let mut readers = vec![Vec::new(); nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            for name in node.input.iter().filter(|n| !n.is_empty()) {
                let Some(id) = self.names.get(name) else {
                    let label = label(node);
                    return Err(self.invalid(format!("node '{}' reads '{name}', which nothing produces", label.node)));
                };
                self.used[id.0] = true;
                if let Some(from) = producer[id.0] {
                    readers[from].push(index);
                    waiting_for[index] += 1;
                }
            }
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..nodes.len()).filter(|&i| waiting_for[i] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(nodes.len());
        while let Some(Reverse(index)) = ready.pop() {
            order.push(index);
            for &reader in &readers[index] {
                waiting_for[reader] -= 1;
                if waiting_for[reader] == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
        match waiting_for.iter().position(|&n| n > 0) {
            None => Ok(order),
            Some(index) => {
                Err(self.invalid(format!("node '{}' depends on its own output (cycle)", label(&nodes[index]).node)))
            }
        }
    }

    fn node(&mut self, proto: pb::NodeProto, outputs: Vec<Option<ValueId>>) -> Result<()> {
        let label = label(&proto);
        let attributes = Attributes::new(&label, proto.attribute, &mut self.external, self.file)?;
        let mut inputs: Vec<_> =
            proto.input.iter().map(|n| if n.is_empty() { None } else { self.names.get(n).copied() }).collect();
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        let last = outputs.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
        // An absent output in the middle keeps its place under a name that nothing reads.
        let outputs = outputs[..last]
            .iter()
            .map(|id| id.map_or_else(|| self.fresh_value(&format!("{}_unused", label.node)), |id| id))
            .collect();
        let domain = if super::is_default_domain(&proto.domain) { String::new() } else { proto.domain };
        let name = label.node.clone();
        self.convert(Raw { label, name, domain, op_type: proto.op_type, inputs, outputs, attributes })
    }

    /// Adds a node.
    pub(super) fn push(&mut self, name: String, op: Op, inputs: Vec<Option<ValueId>>, outputs: Vec<ValueId>) {
        if let [output] = outputs[..] {
            self.hints[output.0] = hints::output(&op, &inputs, self);
        }
        self.graph.nodes.push(Node { name, op, inputs, outputs });
    }

    /// The constant behind a value, also through `Identity`.
    pub(super) fn constant(&self, id: ValueId) -> Option<&Tensor> {
        let id = self.aliases.get(&id).copied().unwrap_or(id);
        self.graph.value(id).constant.as_ref()
    }

    /// Makes an existing value a constant.
    pub(super) fn set_constant(&mut self, id: ValueId, tensor: Tensor) {
        self.hints[id.0] = Some(tensor.shape().iter().map(|&n| Some(n)).collect());
        let value = self.graph.value_mut(id);
        value.dtype = Some(tensor.dtype());
        value.shape = Some(tensor.shape().iter().map(|&n| Dim::Fixed(n)).collect());
        value.constant = Some(tensor);
    }

    /// A new constant, named after what it is for.
    pub(super) fn fresh_constant(&mut self, base: &str, tensor: Tensor) -> ValueId {
        let id = self.fresh_value(base);
        self.set_constant(id, tensor);
        id
    }

    /// A new value whose name is not in use.
    pub(super) fn fresh_value(&mut self, base: &str) -> ValueId {
        let mut name = base.to_owned();
        let mut n = 1;
        while self.names.contains_key(&name) {
            name = format!("{base}_{n}");
            n += 1;
        }
        let id = ValueId(self.graph.values.len());
        self.names.insert(name.clone(), id);
        self.add(name);
        id
    }

    /// Whether anything reads a value.
    pub(super) fn is_used(&self, id: ValueId) -> bool {
        self.used.get(id.0).copied().unwrap_or(false)
    }

    /// A value that the model names; a name can be given once.
    fn define(&mut self, name: &str, what: &str) -> Result<ValueId> {
        if name.is_empty() {
            return Err(self.invalid(format!("an {what} has no name")));
        }
        let id = ValueId(self.graph.values.len());
        match self.names.entry(name.to_owned()) {
            Entry::Occupied(_) => return Err(self.invalid(format!("'{name}' is defined twice, again as {what}"))),
            Entry::Vacant(entry) => entry.insert(id),
        };
        self.add(name.to_owned());
        Ok(id)
    }

    fn add(&mut self, name: String) {
        self.graph.values.push(Value { name, ..Value::default() });
        self.hints.push(None);
    }

    fn invalid(&self, why: String) -> Error {
        Error::InvalidModel { model: self.file.display().to_string(), why }
    }

    /// Type and shape of an input or output of the graph.
    fn tensor_type(&self, info: &pb::ValueInfoProto) -> Result<(DType, Option<Vec<Dim>>)> {
        let unsupported =
            |why: String| Error::Unsupported { node: info.name.clone(), op: "graph input or output".to_owned(), why };
        let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Err(unsupported("it is not declared as a tensor".to_owned()));
        };
        let dtype = super::dtype_of(tensor.elem_type)
            .map_err(|ty| unsupported(format!("element type {ty} is not supported")))?;
        let Some(shape) = &tensor.shape else { return Ok((dtype, None)) };
        let dims = shape.dim.iter().map(|dim| match &dim.value {
            None => Ok(Dim::Symbol(String::new())),
            Some(dimension::Value::DimParam(name)) => Ok(Dim::Symbol(name.clone())),
            // Some older exporters write -1 for a dimension that they do not know.
            Some(dimension::Value::DimValue(-1)) => Ok(Dim::Symbol(String::new())),
            Some(dimension::Value::DimValue(n)) => match i32::try_from(*n) {
                Ok(n @ 0..) => Ok(Dim::Fixed(n as usize)),
                _ => Err(self.invalid(format!("'{}' has a dimension of {n}", info.name))),
            },
        });
        Ok((dtype, Some(dims.collect::<Result<_>>()?)))
    }
}

/// What errors call a node: its name, or its first output where it has none.
fn label(node: &pb::NodeProto) -> Label {
    let name = std::iter::once(&node.name).chain(&node.output).find(|n| !n.is_empty());
    Label { node: name.cloned().unwrap_or_default(), op: super::qualified(&node.domain, &node.op_type) }
}
