//! Graph → plan: what the native engine runs.
//!
//! A quantized ONNX graph (QuantizeLinear and DequantizeLinear around every operator, as [`crate::quantize`] writes it and ONNX Runtime's
//! quantizer too) becomes integer operators: layouts are chosen, weights blocked, factors turned into fixed-point multipliers, and every
//! tensor gets its place in one arena.
//!
//! A graph in half precision (as [`crate::quantize::fp16`] writes it) becomes f16 operators alike, with biases and activations merged.
//!
//! What cannot be lowered is refused by node and operator; nothing is approximated.

mod constant;
mod curve;
mod draft;
mod half;
mod layers;
mod memory;
mod moves;
mod walk;

use hone_runtime::plan::{Plan, Window};

use crate::graph::{Graph, Node, ValueId, fold, infer};
use crate::{Error, Result};

/// A plan, and how its tensors are called in the graph.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The plan's bytes.
    pub plan: Vec<u8>,
    /// One entry an operator of the plan, in order.
    pub layers: Vec<Layer>,
}

/// What an operator of a plan is in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The value that it makes: the output of the QuantizeLinear behind it, or of the node itself where that only moves values.
    /// `None` for an operator that only prepares another's input, and for float scores.
    pub value: Option<String>,
    /// The value's axes, without the batch, from the slowest to the fastest in memory.
    pub order: Vec<usize>,
    /// The operators that make its inputs; `None`: the model's input.
    pub inputs: Vec<Option<usize>>,
}

impl Lowered {
    /// The plan, read back.
    ///
    /// # Errors
    /// None: the writer has had the reader accept it.
    pub fn read(&self) -> Result<Plan<'_>> {
        Ok(Plan::parse(&self.plan)?)
    }
}

/// Lowers a quantized graph of one input and one output, for one row of data at a time.
///
/// # Errors
/// [`Error::Unsupported`] for what the native engine does not compute, naming the node; [`Error::InvalidModel`].
pub fn int8(graph: &Graph) -> Result<Lowered> {
    let mut graph = graph.clone();
    fold::remove_dead(&mut graph);
    infer::with_batch(&mut graph, 1)?;
    let draft = walk::run(&graph)?;
    memory::place(draft)
}

/// What a plan in f16 gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfOutput {
    /// The tensor as it is: an embedding.
    F16,
    /// f32 in the caller's buffer: scores.
    F32,
}

/// Lowers a graph in half precision of one input and one output, both cast from and to f32, for one row of data at a time.
///
/// # Errors
/// [`Error::Unsupported`] for what the native engine does not compute, naming the node; [`Error::InvalidModel`].
pub fn fp16(graph: &Graph, gives: HalfOutput) -> Result<Lowered> {
    let mut graph = graph.clone();
    fold::remove_dead(&mut graph);
    infer::with_batch(&mut graph, 1)?;
    memory::place(half::run(&graph, gives)?)
}

/// A window of one pixel.
const POINT: Window = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0, 0] };

/// A refusal that names the node.
fn unsupported(node: &Node, why: impl Into<String>) -> Error {
    Error::Unsupported { node: node.name.clone(), op: node.op.name(), why: why.into() }
}

/// A refusal of the model as a whole.
fn invalid(graph: &Graph, why: impl Into<String>) -> Error {
    Error::InvalidModel { model: graph.name.clone(), why: why.into() }
}

/// The axis of a node's attribute without the batch; an error for the batch itself.
fn own_axis(node: &Node, axis: i64, rank: usize) -> Result<usize> {
    let axis = if axis < 0 { axis + rank as i64 + 1 } else { axis } - 1;
    usize::try_from(axis).ok().filter(|axis| *axis < rank).ok_or_else(|| unsupported(node, "it works along the batch"))
}

/// Axes in an order, with one of them last.
fn with_last(order: &[usize], axis: usize) -> Vec<usize> {
    order.iter().copied().filter(|&other| other != axis).chain([axis]).collect()
}

/// The shape of a value without its batch.
fn dims(graph: &Graph, id: ValueId) -> Result<Vec<usize>> {
    let value = graph.value(id);
    let bad = |why: &str| invalid(graph, format!("value '{}' {why}", value.name));
    let shape = value.shape.as_ref().ok_or_else(|| bad("has no known shape"))?;
    let sizes: Option<Vec<usize>> = shape.iter().map(crate::graph::Dim::fixed).collect();
    let sizes = sizes.ok_or_else(|| bad("has a size that stays open"))?;
    match sizes.split_first() {
        Some((1, rest)) => Ok(rest.to_vec()),
        _ => Err(bad("has no batch of one in front")),
    }
}
