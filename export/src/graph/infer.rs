//! Element types and shapes of every value, with symbolic sizes (the batch) carried through.
//!
//! Shape arithmetic that models do on the batch size (`Shape → Gather → Concat → Reshape`) is followed symbolically, so that
//! such a Reshape still has a known result. Sizes that cannot be named stay symbols of their own.
//!
//! ```
//! # use hone_export::graph::{Dim, Graph, Node, Op, Value, DType, infer, show_shape};
//! # let mut graph = Graph { opset: 13, ..Graph::default() };
//! # let shape = Some(vec![Dim::Symbol("N".into()), Dim::Fixed(8), Dim::Fixed(2)]);
//! # let x = graph.add_value(Value { name: "x".into(), dtype: Some(DType::F32), shape, constant: None });
//! # let y = graph.add_value(Value { name: "y".into(), ..Value::default() });
//! # graph.nodes.push(Node { name: "f".into(), op: Op::Flatten { axis: 1 }, inputs: vec![Some(x)], outputs: vec![y] });
//! # (graph.inputs, graph.outputs) = (vec![x], vec![y]);
//! infer::infer(&mut graph)?; // x [N, 8, 2] → Flatten → y
//! assert_eq!(show_shape(graph.value(y).shape.as_ref().unwrap()), "[N, 16]");
//! infer::with_batch(&mut graph, 4)?;
//! assert_eq!(show_shape(graph.value(y).shape.as_ref().unwrap()), "[4, 16]");
//! # Ok::<(), hone_export::Error>(())
//! ```

mod dims;
mod shapes;

use super::{DType, Dim, Graph, Op, Tensor, ValueId, eval};
use crate::Result;

/// One number of a small integer tensor that is followed through shape arithmetic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Known.
    Int(i64),
    /// The size of a symbolic dimension.
    Symbol(String),
}

impl Item {
    fn from_dim(dim: &Dim) -> Self {
        match dim {
            Dim::Fixed(n) => Self::Int(*n as i64),
            Dim::Symbol(s) => Self::Symbol(s.clone()),
        }
    }
}

/// Integer tensors longer than this are no shapes.
const LONGEST_SHAPE: usize = 64;

/// What is known about a value while inferring.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fact {
    pub dtype: Option<DType>,
    pub shape: Option<Vec<Dim>>,
    /// The numbers themselves, for scalars and vectors of integers.
    pub items: Option<Vec<Item>>,
}

impl Fact {
    fn of_constant(tensor: &Tensor) -> Self {
        let shape = tensor.shape().iter().map(|&n| Dim::Fixed(n)).collect();
        let items = match tensor {
            Tensor::I64(a) if a.ndim() <= 1 && a.len() <= LONGEST_SHAPE => {
                Some(a.iter().map(|&v| Item::Int(v)).collect())
            }
            Tensor::I32(a) if a.ndim() <= 1 && a.len() <= LONGEST_SHAPE => {
                Some(a.iter().map(|&v| Item::Int(v.into())).collect())
            }
            _ => None,
        };
        Self { dtype: Some(tensor.dtype()), shape: Some(shape), items }
    }
}

/// Infers element type and shape of every value of the graph, in place.
///
/// A value whose shape cannot be derived keeps what the model declares for it. Unnamed sizes of inputs get names:
/// `N` for the batch, else input and axis.
///
/// # Errors
/// [`crate::Error::InvalidModel`] where shapes contradict each other or a tensor is absurdly large, naming the node.
pub fn infer(graph: &mut Graph) -> Result<()> {
    analyze(graph).map(drop)
}

/// As [`infer`]; gives the facts of every value.
pub(crate) fn analyze(graph: &mut Graph) -> Result<Vec<Fact>> {
    name_input_dims(graph);
    let mut facts: Vec<Fact> = Vec::with_capacity(graph.values.len());
    facts.resize(graph.values.len(), Fact::default());
    for (fact, value) in facts.iter_mut().zip(&graph.values) {
        if let Some(tensor) = &value.constant {
            *fact = Fact::of_constant(tensor);
        }
    }
    for id in &graph.inputs {
        let value = graph.value(*id);
        facts[id.0] = Fact { dtype: value.dtype, shape: value.shape.clone(), items: None };
    }
    for node in &graph.nodes {
        let inputs: Vec<Option<&Fact>> = node.inputs.iter().map(|id| id.map(|id| &facts[id.0])).collect();
        let constants: Vec<Option<&Tensor>> = node.inputs.iter().map(|id| graph.constant(*id)).collect();
        let inferred = shapes::infer_node(node, &inputs, &constants).map_err(|fault| fault.at(graph, node))?;
        for (i, id) in node.outputs.iter().enumerate() {
            let declared = graph.value(*id);
            let mut fact = inferred.get(i).cloned().unwrap_or_default();
            fact.dtype = fact.dtype.or(declared.dtype);
            if fact.shape.is_none() {
                fact.shape.clone_from(&declared.shape);
            }
            if let Some(shape) = &fact.shape {
                let known: Vec<usize> = shape.iter().filter_map(Dim::fixed).collect();
                eval::elements(&known).map_err(|fault| fault.at(graph, node))?;
            }
            facts[id.0] = fact;
        }
    }
    for (fact, value) in facts.iter().zip(&mut graph.values) {
        if fact.dtype.is_some() {
            value.dtype = fact.dtype;
        }
        if fact.shape.is_some() {
            value.shape.clone_from(&fact.shape);
        }
    }
    Ok(facts)
}

/// Gives every unnamed symbolic size of an input a name, so that equal names mean equal sizes.
fn name_input_dims(graph: &mut Graph) {
    for (i, id) in graph.inputs.clone().into_iter().enumerate() {
        let value = graph.value_mut(id);
        let name = value.name.clone();
        for (axis, dim) in value.shape.iter_mut().flatten().enumerate() {
            if let Dim::Symbol(symbol) = dim
                && symbol.is_empty()
            {
                *symbol = if i == 0 && axis == 0 { "N".to_owned() } else { format!("{name}_d{axis}") };
            }
        }
    }
}

/// Makes the symbolic batch (axis 0 of the inputs) `n` everywhere.
///
/// # Errors
/// [`crate::Error::InvalidModel`] when shapes contradict each other with this batch.
pub fn with_batch(graph: &mut Graph, n: usize) -> Result<()> {
    name_input_dims(graph);
    for id in graph.inputs.clone() {
        if let Some(dim @ Dim::Symbol(_)) = graph.value_mut(id).shape.iter_mut().flatten().next() {
            *dim = Dim::Fixed(n);
        }
    }
    infer(graph)
}

/// The symbol of the batch: axis 0 of the first input, when it is symbolic.
#[must_use]
pub fn batch_symbol(graph: &Graph) -> Option<&str> {
    match graph.value(*graph.inputs.first()?).shape.as_ref()?.first()? {
        Dim::Symbol(s) => Some(s),
        Dim::Fixed(_) => None,
    }
}

/// Makes a model with a fixed batch of one take any batch, when every row can be shown to be computed on its own.
/// Gives whether it did; the graph is unchanged if not.
///
/// # Errors
/// [`crate::Error::InvalidModel`] when the model's shapes contradict each other as it is.
pub fn make_batch_dynamic(graph: &mut Graph) -> Result<bool> {
    infer(graph)?;
    let of_one = |id: &ValueId| graph.value(*id).shape.as_ref().and_then(|s| s.first()) == Some(&Dim::Fixed(1));
    if graph.inputs.is_empty() || !graph.inputs.iter().chain(&graph.outputs).all(of_one) {
        return Ok(false);
    }
    let mut dynamic = graph.clone();
    let batch = Dim::Symbol("N".to_owned());
    for id in graph.inputs.iter().chain(&graph.outputs) {
        if let Some(dim) = dynamic.value_mut(*id).shape.iter_mut().flatten().next() {
            *dim = batch.clone();
        }
    }
    for i in 0..dynamic.nodes.len() {
        if let Op::Reshape { .. } = dynamic.nodes[i].op
            && let Some(target) = dynamic.constant(dynamic.nodes[i].inputs.get(1).copied().flatten())
            && let Some(target) = target.as_i64()
            && target.first() == Some(&1)
        {
            let mut target: Vec<i64> = target.iter().copied().collect();
            // With a -1 elsewhere the batch is copied from the data instead.
            target[0] = if target.contains(&-1) { 0 } else { -1 };
            let name = format!("{}_shape", dynamic.nodes[i].name);
            let id = dynamic.add_constant(&name, Tensor::from_i64(target));
            dynamic.nodes[i].inputs[1] = Some(id);
        }
    }
    let rows_apart = |shape: &[Dim]| {
        let tail = shape.iter().skip(1);
        let batch_free = |d: &Dim| matches!(d, Dim::Fixed(_));
        tail.into_iter().all(batch_free) && shape.first().is_none_or(|d| batch_free(d) || *d == batch)
    };
    if infer(&mut dynamic).is_err() {
        return Ok(false);
    }
    for node in &dynamic.nodes {
        let mixes_rows = match &node.op {
            Op::Softmax { axis } | Op::LayerNormalization { axis, .. } => {
                let rank = dynamic.value(node.outputs[0]).shape.as_ref().map_or(0, Vec::len) as i64;
                *axis == 0 || *axis == -rank
            }
            Op::Other { .. } => true,
            _ => false,
        };
        let apart = |id: &ValueId| dynamic.value(*id).shape.as_deref().is_some_and(rows_apart);
        if mixes_rows || !node.outputs.iter().all(apart) {
            return Ok(false);
        }
    }
    let dynamic_output = |id: &ValueId| dynamic.value(*id).shape.as_ref().and_then(|s| s.first()) == Some(&batch);
    if dynamic.outputs.iter().all(dynamic_output) {
        *graph = dynamic;
        return Ok(true);
    }
    Ok(false)
}
