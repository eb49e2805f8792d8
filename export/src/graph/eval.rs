//! Reference evaluation in f32: runs any supported graph on the host.
//!
//! [`Evaluator`] checks a graph once and runs it many times, from many threads; a hook sees every node's outputs and may
//! replace them. [`node`] evaluates one node from given inputs. f16 tensors are widened, computed in f32 and rounded back.
//!
//! ```
//! use hone_export::graph::{Dim, Graph, Node, Op, Tensor, Value, DType, eval::Evaluator};
//! let mut graph = Graph { opset: 13, ..Graph::default() };
//! let shape = Some(vec![Dim::Symbol("N".into()), Dim::Fixed(2)]);
//! let x = graph.add_value(Value { name: "x".into(), dtype: Some(DType::F32), shape, constant: None });
//! let y = graph.add_value(Value { name: "y".into(), ..Value::default() });
//! graph.nodes.push(Node { name: "relu".into(), op: Op::Relu, inputs: vec![Some(x)], outputs: vec![y] });
//! (graph.inputs, graph.outputs) = (vec![x], vec![y]);
//!
//! let evaluator = Evaluator::new(&graph)?;
//! let out = evaluator.run(&[Tensor::from_f32(&[1, 2], vec![-1.0, 2.0]).unwrap()])?;
//! assert_eq!(out[0].as_f32().unwrap().as_slice().unwrap(), [0.0, 2.0]);
//! # Ok::<(), hone_export::Error>(())
//! ```

mod conv;
mod dense;
mod dispatch;
mod elementwise;
mod norm;
mod pool;
mod quant;
mod resize;
mod shape;

use std::borrow::Cow;

use super::{Graph, Node, Tensor, ValueId};
use crate::{Error, Result};

pub use conv::im2col;
pub(crate) use dispatch::check;
pub(crate) use resize::target as resize_target;
pub(crate) use shape::{normalize_axis, shape_range, slice_axis, split_sizes};

/// Largest tensor that evaluation makes, in elements (64 MiB of f32; 64 channels of 512 x 512): a small file must not cost gigabytes.
pub(crate) const MAX_ELEMENTS: usize = 1 << 24;

/// Why a node cannot be evaluated; the caller adds the node's name.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Not implemented: operator, mode or type.
    Unsupported(String),
    /// The inputs contradict the operator.
    Invalid(String),
}

pub(crate) type Outcome<T> = Result<T, Fault>;

impl Fault {
    fn invalid<T>(why: impl Into<String>) -> Outcome<T> {
        Err(Self::Invalid(why.into()))
    }

    fn unsupported<T>(why: impl Into<String>) -> Outcome<T> {
        Err(Self::Unsupported(why.into()))
    }

    /// The crate's error, naming the node.
    pub(crate) fn at(self, graph: &Graph, node: &Node) -> Error {
        match self {
            Self::Unsupported(why) => Error::Unsupported { node: node.name.clone(), op: node.op.name(), why },
            Self::Invalid(why) => Error::InvalidModel {
                model: graph.name.clone(),
                why: format!("node '{}' ({}): {why}", node.name, node.op.name()),
            },
        }
    }
}

impl From<ndarray::ShapeError> for Fault {
    fn from(e: ndarray::ShapeError) -> Self {
        Self::Invalid(e.to_string())
    }
}

/// Number of elements of a shape, when it is within [`MAX_ELEMENTS`].
pub(crate) fn elements(shape: &[usize]) -> Outcome<usize> {
    // Zero-sized axes do not excuse absurd ones: the product is taken over the others.
    let mut product = 1usize;
    for &n in shape.iter().filter(|&&n| n > 0) {
        product = product.saturating_mul(n);
    }
    if product > MAX_ELEMENTS {
        return Fault::invalid(format!("a tensor of shape {shape:?} exceeds the limit of {MAX_ELEMENTS} elements"));
    }
    Ok(if shape.contains(&0) { 0 } else { product })
}

/// One input of a node: absent, borrowed, or given away (so that it may be changed in place).
pub(crate) type Arg<'a> = Option<Cow<'a, Tensor>>;

/// Evaluates one node. `inputs` are in the node's order, `None` where the node has none.
///
/// # Errors
/// [`Error::Unsupported`] names what is not implemented, [`Error::InvalidModel`] what does not fit.
pub fn node(node: &Node, graph: &Graph, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
    let args = inputs.iter().map(|t| t.map(Cow::Borrowed)).collect();
    dispatch::apply(node, graph.opset, args).map_err(|fault| fault.at(graph, node))
}

/// A graph that was checked and can be run; `run` takes `&self`, so rows of data may run in parallel.
#[derive(Debug)]
pub struct Evaluator<'g> {
    graph: &'g Graph,
    /// For every node, the values that no later node reads.
    dead_after: Vec<Vec<ValueId>>,
}

impl<'g> Evaluator<'g> {
    /// Checks that every operator is supported and every input is there before it is read.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names the first node that cannot be evaluated; [`Error::InvalidModel`] a missing value.
    pub fn new(graph: &'g Graph) -> Result<Self> {
        let mut ready: Vec<bool> = graph.values.iter().map(|v| v.constant.is_some()).collect();
        for id in &graph.inputs {
            ready[id.0] = true;
        }
        let mut last_use: Vec<Option<usize>> = vec![None; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            check(node).map_err(|fault| fault.at(graph, node))?;
            for id in node.inputs.iter().flatten() {
                if !ready[id.0] {
                    let name = &graph.value(*id).name;
                    return Err(Fault::Invalid(format!("input '{name}' is made by no earlier node")).at(graph, node));
                }
                last_use[id.0] = Some(i);
            }
            for id in &node.outputs {
                ready[id.0] = true;
                last_use[id.0] = Some(i);
            }
        }
        for id in &graph.outputs {
            if !ready[id.0] {
                let why = format!("output '{}' is made by no node", graph.value(*id).name);
                return Err(Error::InvalidModel { model: graph.name.clone(), why });
            }
            last_use[id.0] = None;
        }
        let mut dead_after = vec![Vec::new(); graph.nodes.len()];
        for (id, last) in last_use.iter().enumerate() {
            if let Some(node) = *last {
                dead_after[node].push(ValueId(id));
            }
        }
        Ok(Self { graph, dead_after })
    }

    /// The graph that runs.
    #[must_use]
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// Runs the graph on `inputs` (in the order of [`Graph::inputs`]); gives [`Graph::outputs`] in order.
    ///
    /// # Errors
    /// [`Error::Shape`] when an input does not fit, [`Error::InvalidModel`] when shapes inside the model do not.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_with(inputs, &mut |_, _| Ok(()))
    }

    /// As [`Self::run`]; `hook` gets each node's index and outputs as soon as they are made, and may change them.
    ///
    /// # Errors
    /// As [`Self::run`], and the hook's own errors.
    pub fn run_with(
        &self,
        inputs: &[Tensor],
        hook: &mut dyn FnMut(usize, &mut [Tensor]) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let graph = self.graph;
        self.check_inputs(inputs)?;
        let mut env: Vec<Option<Cow<'_, Tensor>>> = vec![None; graph.values.len()];
        for (id, tensor) in graph.inputs.iter().zip(inputs) {
            env[id.0] = Some(Cow::Borrowed(tensor));
        }
        for (i, node) in graph.nodes.iter().enumerate() {
            let mut outputs = {
                let mut args: Vec<Arg<'_>> = Vec::with_capacity(node.inputs.len());
                // The first input, where most operators work in place, is given away when nobody reads it later.
                let given = match node.inputs.first() {
                    Some(Some(id))
                        if self.dead_after[i].contains(id) && node.inputs[1..].iter().all(|x| x != &Some(*id)) =>
                    {
                        env[id.0].take()
                    }
                    _ => None,
                };
                let mut given = given;
                for (k, id) in node.inputs.iter().enumerate() {
                    args.push(match id {
                        _ if k == 0 && given.is_some() => given.take(),
                        None => None,
                        Some(id) => match (&graph.value(*id).constant, &env[id.0]) {
                            (_, Some(tensor)) => Some(Cow::Borrowed(tensor.as_ref())),
                            (Some(tensor), None) => Some(Cow::Borrowed(tensor)),
                            (None, None) => None,
                        },
                    });
                }
                dispatch::apply(node, graph.opset, args).map_err(|fault| fault.at(graph, node))?
            };
            hook(i, &mut outputs)?;
            for (id, tensor) in node.outputs.iter().zip(outputs) {
                env[id.0] = Some(Cow::Owned(tensor));
            }
            for id in &self.dead_after[i] {
                env[id.0] = None;
            }
        }
        let collect = |id: &ValueId| -> Result<Tensor> {
            let value = graph.value(*id);
            let found = env[id.0].as_deref().or(value.constant.as_ref());
            found.cloned().ok_or_else(|| Error::InvalidModel {
                model: graph.name.clone(),
                why: format!("output '{}' was not computed", value.name),
            })
        };
        graph.outputs.iter().map(collect).collect()
    }

    fn check_inputs(&self, inputs: &[Tensor]) -> Result<()> {
        let graph = self.graph;
        if inputs.len() != graph.inputs.len() {
            return Err(Error::Shape {
                what: format!("inputs of model '{}'", graph.name),
                expected: format!("{} tensors", graph.inputs.len()),
                got: format!("{} tensors", inputs.len()),
            });
        }
        for (id, tensor) in graph.inputs.iter().zip(inputs) {
            let value = graph.value(*id);
            let shape_fits = value.shape.as_ref().is_none_or(|shape| {
                shape.len() == tensor.shape().len()
                    && shape.iter().zip(tensor.shape()).all(|(d, &n)| d.fixed().is_none_or(|d| d == n))
            });
            let dtype_fits = value.dtype.is_none_or(|d| d == tensor.dtype());
            if !(shape_fits && dtype_fits) {
                let shape = value.shape.as_deref().map_or_else(|| "any shape".to_owned(), super::show_shape);
                return Err(Error::Shape {
                    what: format!("input '{}'", value.name),
                    expected: value.dtype.map_or_else(|| shape.clone(), |d| format!("{d:?} {shape}")),
                    got: format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
