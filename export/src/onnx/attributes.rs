//! The attributes of one node: taken one by one, so that what is left over can be refused by name.

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::external::External;
use crate::graph::Tensor;
use crate::graph::op::Attribute;
use crate::{Error, Result};

/// Who an error is about.
#[derive(Debug, Clone)]
pub(super) struct Label {
    /// Name of the node, or of its first output.
    pub(super) node: String,
    /// Operator with its domain.
    pub(super) op: String,
}

impl Label {
    /// Refuses the node.
    pub(super) fn unsupported(&self, why: impl Into<String>) -> Error {
        Error::Unsupported { node: self.node.clone(), op: self.op.clone(), why: why.into() }
    }
}

/// Attributes that no operator has taken yet.
pub(super) struct Attributes {
    label: Label,
    left: Vec<(String, Attribute)>,
}

impl Attributes {
    /// Converts the attributes of a node.
    pub(super) fn new(
        label: &Label,
        protos: Vec<pb::AttributeProto>,
        external: &mut External,
        file: &std::path::Path,
    ) -> Result<Self> {
        let mut left: Vec<(String, Attribute)> = Vec::with_capacity(protos.len());
        let mut names = std::collections::HashSet::new();
        for proto in protos {
            let name = proto.name.clone();
            if !names.insert(name.clone()) {
                return Err(Error::malformed(file, format!("node '{}' has attribute '{name}' twice", label.node)));
            }
            left.push((name, convert(label, proto, external, file)?));
        }
        Ok(Self { label: label.clone(), left })
    }

    fn take(&mut self, name: &str) -> Option<Attribute> {
        let at = self.left.iter().position(|(n, _)| n == name)?;
        Some(self.left.remove(at).1)
    }

    fn wrong(&self, name: &str, expected: &str, got: &Attribute) -> Error {
        self.label.unsupported(format!("attribute '{name}' must be {expected}, it is {got:?}"))
    }

    /// An integer, where present.
    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>> {
        match self.take(name) {
            None => Ok(None),
            Some(Attribute::Int(i)) => Ok(Some(i)),
            Some(other) => Err(self.wrong(name, "an integer", &other)),
        }
    }

    /// An integer used as a truth value.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    /// A float.
    pub(super) fn float(&mut self, name: &str, default: f32) -> Result<f32> {
        match self.take(name) {
            None => Ok(default),
            Some(Attribute::Float(f)) => Ok(f),
            Some(other) => Err(self.wrong(name, "a float", &other)),
        }
    }

    /// A string.
    pub(super) fn string(&mut self, name: &str, default: &str) -> Result<String> {
        match self.take(name) {
            None => Ok(default.to_owned()),
            Some(Attribute::String(s)) => {
                String::from_utf8(s).map_err(|_| self.label.unsupported(format!("attribute '{name}' is not UTF-8")))
            }
            Some(other) => Err(self.wrong(name, "a string", &other)),
        }
    }

    /// Integers, where present.
    pub(super) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Attribute::Ints(v)) => Ok(Some(v)),
            Some(other) => Err(self.wrong(name, "integers", &other)),
        }
    }

    /// Floats, where present.
    pub(super) fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Attribute::Floats(v)) => Ok(Some(v)),
            Some(other) => Err(self.wrong(name, "floats", &other)),
        }
    }

    /// Integers that are sizes.
    pub(super) fn sizes(&mut self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(ints) = self.ints(name)? else { return Ok(None) };
        let sizes = ints.iter().map(|&i| usize::try_from(i)).collect::<Result<Vec<_>, _>>();
        sizes.map(Some).map_err(|_| self.label.unsupported(format!("attribute '{name}' is negative: {ints:?}")))
    }

    /// A tensor, where present.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<Tensor>> {
        match self.take(name) {
            None => Ok(None),
            Some(Attribute::Tensor(t)) => Ok(Some(t)),
            Some(other) => Err(self.wrong(name, "a tensor", &other)),
        }
    }

    /// Refuses any value but the one that changes nothing.
    pub(super) fn only_int(&mut self, name: &str, neutral: i64) -> Result<()> {
        match self.int(name)? {
            Some(i) if i != neutral => {
                Err(self.label.unsupported(format!("attribute '{name}' = {i}, only {neutral} is supported")))
            }
            _ => Ok(()),
        }
    }

    /// Everything that is left, as it came.
    pub(super) fn rest(self) -> Vec<(String, Attribute)> {
        self.left
    }

    /// Refuses what no one has taken.
    pub(super) fn finish(self) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(self.label.unsupported(format!("attribute '{name}' is not supported"))),
        }
    }
}

fn convert(
    label: &Label,
    proto: pb::AttributeProto,
    external: &mut External,
    file: &std::path::Path,
) -> Result<Attribute> {
    let name = proto.name;
    if !proto.ref_attr_name.is_empty() {
        return Err(label.unsupported(format!("attribute '{name}' refers to a function's attribute")));
    }
    // The first files of the format had no type field: what is set decides then.
    let ty = match AttributeType::try_from(proto.r#type) {
        Ok(AttributeType::Undefined) if proto.t.is_some() => AttributeType::Tensor,
        Ok(AttributeType::Undefined) if !proto.ints.is_empty() => AttributeType::Ints,
        Ok(AttributeType::Undefined) if !proto.floats.is_empty() => AttributeType::Floats,
        Ok(AttributeType::Undefined) if !proto.strings.is_empty() => AttributeType::Strings,
        Ok(AttributeType::Undefined) if !proto.s.is_empty() => AttributeType::String,
        Ok(ty) => ty,
        Err(_) => return Err(label.unsupported(format!("attribute '{name}' has unknown type {}", proto.r#type))),
    };
    Ok(match ty {
        AttributeType::Float => Attribute::Float(proto.f),
        AttributeType::Int => Attribute::Int(proto.i),
        AttributeType::String => Attribute::String(proto.s),
        AttributeType::Floats => Attribute::Floats(proto.floats),
        AttributeType::Ints => Attribute::Ints(proto.ints),
        AttributeType::Strings => Attribute::Strings(proto.strings),
        AttributeType::Tensor => {
            let mut tensor = proto.t.ok_or_else(|| label.unsupported(format!("attribute '{name}' has no tensor")))?;
            if tensor.name.is_empty() {
                tensor.name = format!("{}.{name}", label.node);
            }
            Attribute::Tensor(super::tensor::from_proto(tensor, external, file)?)
        }
        AttributeType::Graph | AttributeType::Graphs => {
            return Err(label.unsupported(format!("attribute '{name}' holds a subgraph; subgraphs are not supported")));
        }
        AttributeType::SparseTensor | AttributeType::SparseTensors => {
            return Err(label.unsupported(format!("attribute '{name}' is a sparse tensor; these are not supported")));
        }
        other => {
            return Err(
                label.unsupported(format!("attribute '{name}' of type {} is not supported", other.as_str_name()))
            );
        }
    })
}
