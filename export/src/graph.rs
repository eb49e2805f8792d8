//! The model in memory: values, nodes in topological order, typed operators.
//!
//! A [`Graph`] is what [`crate::onnx`] reads into and writes from; every later stage works on it. Constants
//! (initializers) are values that carry a [`Tensor`]. Node inputs that ONNX allows to be absent are `None`.

pub mod cost;
pub mod eval;
pub mod fold;
pub mod fuse;
pub mod infer;
mod names;
pub mod op;
pub mod tensor;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod weights;
pub mod window;

pub use fuse::{Summary, simplify};
pub use names::Names;
pub use op::Op;
pub use tensor::{DType, Tensor};

/// Index of a [`Value`] in [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// One dimension of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known size.
    Fixed(usize),
    /// Named by the model (`N`, `batch`), or unnamed ("").
    Symbol(String),
}

impl Dim {
    /// The size, when it is known.
    #[must_use]
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(*n),
            Self::Symbol(_) => None,
        }
    }
}

/// A shape as users read it: `[N, 3, 32, 32]`.
#[must_use]
pub fn show_shape(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|d| match d {
            Dim::Fixed(n) => n.to_string(),
            // Sizes that are computed from others have formulas for names.
            Dim::Symbol(name) if name.is_empty() || name.contains('(') => "?".to_owned(),
            Dim::Symbol(name) => name.clone(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}

/// A tensor that flows through the graph, or a constant.
#[derive(Debug, Clone, Default)]
pub struct Value {
    /// Unique within the graph.
    pub name: String,
    /// Element type, once known.
    pub dtype: Option<DType>,
    /// Shape, once known: `Some(vec![])` is a scalar.
    pub shape: Option<Vec<Dim>>,
    /// The data, for initializers and folded constants.
    pub constant: Option<Tensor>,
}

/// One operator application.
#[derive(Debug, Clone)]
pub struct Node {
    /// As in the model; the first output's name where the model gives none.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// In ONNX order; `None` for an optional input that is absent.
    pub inputs: Vec<Option<ValueId>>,
    /// In ONNX order.
    pub outputs: Vec<ValueId>,
}

/// A model: nodes in topological order over an arena of values.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Name of the graph in the model.
    pub name: String,
    /// Opset of the default domain, as the operators here are to be read.
    pub opset: i64,
    /// Producer, for `inspect`.
    pub producer: String,
    /// Arena of values; ids are indices and stay valid (passes leave unused values behind).
    pub values: Vec<Value>,
    /// Topological order.
    pub nodes: Vec<Node>,
    /// Real inputs (initializers excluded).
    pub inputs: Vec<ValueId>,
    /// Outputs.
    pub outputs: Vec<ValueId>,
    /// Names that are taken; kept by [`Graph::add_value`] and [`Graph::rename`].
    pub names: Names,
}

impl Graph {
    /// The value behind an id of this graph.
    #[must_use]
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The value behind an id, mutable.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0]
    }

    /// Adds a value; the name is made unique by a suffix where it is taken.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        let mut value = value;
        value.name = self.names.unused(&self.values, value.name);
        self.values.push(value);
        ValueId(self.values.len() - 1)
    }

    /// Gives a value another name, made unique by a suffix where it is taken. The old name becomes free.
    pub fn rename(&mut self, id: ValueId, name: &str) {
        let name = self.names.unused(&self.values, name.to_owned());
        self.names.exchange(&self.values[id.0].name, &name);
        self.values[id.0].name = name;
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.add_value(Value {
            name: name.to_owned(),
            dtype: Some(tensor.dtype()),
            shape: Some(tensor.shape().iter().map(|&n| Dim::Fixed(n)).collect()),
            constant: Some(tensor),
        })
    }

    /// The value of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| v.name == name).map(ValueId)
    }

    /// The constant behind an optional node input, when it is one.
    #[must_use]
    pub fn constant(&self, id: Option<ValueId>) -> Option<&Tensor> {
        id.and_then(|id| self.values[id.0].constant.as_ref())
    }

    /// For every value, the index of the node that makes it.
    #[must_use]
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut out = vec![None; self.values.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for o in &node.outputs {
                out[o.0] = Some(i);
            }
        }
        out
    }

    /// For every value, the indices of the nodes that read it.
    #[must_use]
    pub fn consumers(&self) -> Vec<Vec<usize>> {
        let mut out = vec![Vec::new(); self.values.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for id in node.inputs.iter().flatten() {
                if out[id.0].last() != Some(&i) {
                    out[id.0].push(i);
                }
            }
        }
        out
    }
}
