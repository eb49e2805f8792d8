//! Where the backbone ends and the head begins.
//!
//! A cut is legal where one tensor alone stands between the model's inputs and its outputs. [`cuts`] lists them all;
//! [`choose`] takes the input of the last dense layer, or the tensor that the user names, and gives both halves.
//! Graphs are expected as [`crate::graph::simplify`] leaves them.

mod advice;
mod head;

use crate::graph::{
    Dim, Graph, Node, Op, Tensor, Value, ValueId,
    cost::{self, Cost},
    fold, infer, text,
};
use crate::{Error, Result};

pub use head::{Activation, HeadKind, LinearHead};

/// A tensor at which the model can be cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// Name of the tensor.
    pub tensor: String,
    /// The tensor, in the graph that was analysed.
    pub value: ValueId,
    /// Its shape, batch first.
    pub shape: Vec<Dim>,
    /// Numbers of the embedding made from it; also its bytes as int8.
    pub width: usize,
    /// Whether positions are averaged to make the embedding: the spatial axes, or the tokens of a text (those that the mask has).
    pub pooled: bool,
    /// Whether it is the model's own output: the whole model is the backbone then.
    pub is_output: bool,
    /// Cost up to the cut, for one row.
    pub backbone: Cost,
    /// Cost after it.
    pub head: Cost,
}

/// A model in two halves.
#[derive(Debug, Clone)]
pub struct Split {
    /// Where it was cut.
    pub cut: Cut,
    /// From the model's inputs to the embedding [N, width].
    pub backbone: Graph,
    /// From the embedding [N, width] to the model's outputs: after the backbone it computes what the model computes.
    /// `None` where the embedding is an average that the model itself does not take there.
    pub head_graph: Option<Graph>,
    /// The head as one linear layer, when it is one.
    pub head: Option<LinearHead>,
    /// Why `head` is none.
    pub not_linear: Option<String>,
}

/// Every legal cut, from input to output.
#[must_use]
pub fn cuts(graph: &Graph) -> Vec<Cut> {
    let costs = cost::nodes(graph);
    let total = costs.iter().copied().fold(Cost::default(), |a, b| a + b);
    let mut before = Cost::default();
    let mut out = Vec::new();
    let alone = separators(graph);
    let tokens = text::tokens(graph);
    for (i, node) in graph.nodes.iter().enumerate() {
        before += costs[i];
        let Some(id) = alone[i] else { continue };
        let value = graph.value(id);
        let Some((width, pooled)) = value.shape.as_deref().and_then(|s| embedding_of(graph, s, tokens)) else {
            continue;
        };
        if !node.outputs.contains(&id) || value.dtype != Some(crate::graph::DType::F32) {
            continue;
        }
        out.push(Cut {
            tensor: value.name.clone(),
            value: id,
            shape: value.shape.clone().unwrap_or_default(),
            width,
            pooled,
            is_output: graph.outputs.contains(&id),
            backbone: before,
            head: Cost {
                operations: total.operations - before.operations,
                macs: total.macs - before.macs,
                parameter_bytes: total.parameter_bytes - before.parameter_bytes,
                activation_bytes: total.activation_bytes - before.activation_bytes,
            },
        });
    }
    out
}

/// For every node, the value that is the only one alive after it: computed from the inputs and still needed.
fn separators(graph: &Graph) -> Vec<Option<ValueId>> {
    let mut dynamic = vec![false; graph.values.len()];
    let mut last_read: Vec<Option<usize>> = vec![None; graph.values.len()];
    for id in &graph.inputs {
        dynamic[id.0] = true;
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        let fed = node.inputs.iter().flatten().any(|id| dynamic[id.0]);
        for id in node.inputs.iter().flatten() {
            last_read[id.0] = Some(i);
        }
        for id in &node.outputs {
            dynamic[id.0] = fed;
        }
    }
    // A graph output stays alive to the end.
    for id in &graph.outputs {
        last_read[id.0] = Some(usize::MAX);
    }
    let mut alive = vec![false; graph.values.len()];
    // Their number, and the sum of their ids, which is the id when there is one.
    let (mut count, mut sum) = (0usize, 0usize);
    for id in &graph.inputs {
        if last_read[id.0].is_some() && !std::mem::replace(&mut alive[id.0], true) {
            (count, sum) = (count + 1, sum + id.0);
        }
    }
    let mut out = Vec::with_capacity(graph.nodes.len());
    for (i, node) in graph.nodes.iter().enumerate() {
        for id in &node.outputs {
            if dynamic[id.0] && last_read[id.0].is_some() && !std::mem::replace(&mut alive[id.0], true) {
                (count, sum) = (count + 1, sum + id.0);
            }
        }
        for id in node.inputs.iter().flatten() {
            if last_read[id.0] == Some(i) && std::mem::replace(&mut alive[id.0], false) {
                (count, sum) = (count - 1, sum - id.0);
            }
        }
        out.push((count == 1).then_some(ValueId(sum)));
    }
    out
}

/// Width of the embedding that a tensor of this shape gives, and whether positions are averaged for it; `tokens` of a text encoder.
fn embedding_of(graph: &Graph, shape: &[Dim], tokens: Option<usize>) -> Option<(usize, bool)> {
    let batch = graph.value(*graph.inputs.first()?).shape.as_ref()?.first()?;
    let [first, rest @ ..] = shape else { return None };
    if first != batch {
        return None;
    }
    let rest: Vec<usize> = rest.iter().map(Dim::fixed).collect::<Option<_>>()?;
    let width: usize = rest.iter().product();
    if rest.is_empty() || width == 0 {
        return None;
    }
    // At most one axis of size other than one: the tensor is a vector.
    if rest.iter().filter(|&&n| n != 1).count() <= 1 {
        return Some((width, false));
    }
    if let Some(tokens) = tokens {
        // One vector a token; everything else, as attention, has no positions to average.
        return (rest.len() == 2 && rest[0] == tokens).then(|| (rest[1], true));
    }
    (2..=3).contains(&rest.len()).then(|| (rest[0], true))
}

/// Cuts the model: at the input of its last dense layer, or at the tensor that is named.
///
/// # Errors
/// [`Error::NoHead`] when there is no such layer, [`Error::IllegalCut`] when the named tensor does not exist (naming the nearest
/// ones) or does not separate input from output (naming the tensors of a path around it).
pub fn choose(graph: &Graph, cut: Option<&str>) -> Result<Split> {
    let all = cuts(graph);
    let cut = match cut {
        Some(name) => named(graph, &all, name)?,
        None => automatic(graph, &all)?,
    };
    let (head, not_linear) = match head::linear(graph, &cut) {
        Ok(head) => (Some(head), None),
        Err(why) => (None, Some(why)),
    };
    let backbone = backbone(graph, &cut)?;
    let head_graph = match &head {
        Some(head) if head::is_plain(graph) => Some(head.to_graph(graph, &backbone)?),
        _ if cut.pooled => None,
        _ => Some(after(graph, &cut, &backbone)?),
    };
    Ok(Split { cut, backbone, head_graph, head, not_linear })
}

fn named(graph: &Graph, cuts: &[Cut], name: &str) -> Result<Cut> {
    if let Some(cut) = cuts.iter().find(|c| c.tensor == name) {
        return Ok(cut.clone());
    }
    Err(Error::IllegalCut { tensor: name.to_owned(), why: advice::why_not(graph, cuts, name) })
}

fn automatic(graph: &Graph, cuts: &[Cut]) -> Result<Cut> {
    let no_head = |why: String| Error::NoHead { model: graph.name.clone(), why };
    let (layer, input) = head::last_dense_layer(graph).map_err(|why| {
        let option = cuts.last().map_or_else(String::new, |c| {
            let what = if c.is_output { "the model's own output" } else { "the last legal one" };
            format!("; `--cut {}` ({what}, {} numbers) makes an embedding without a head", c.tensor, c.width)
        });
        no_head(why + &option)
    })?;
    cuts.iter().find(|c| c.value == input).cloned().ok_or_else(|| {
        let name = &graph.value(input).name;
        no_head(format!(
            "the input '{name}' of its last layer '{layer}' is no legal cut: {}",
            advice::why_not(graph, cuts, name)
        ))
    })
}

/// The half before the cut, its output brought to [N, width].
fn backbone(graph: &Graph, cut: &Cut) -> Result<Graph> {
    let mut out = graph.clone();
    out.outputs = vec![cut.value];
    fold::remove_dead(&mut out);
    let end = embedding(&mut out, cut);
    out.outputs = vec![end];
    infer::infer(&mut out)?;
    Ok(out)
}

/// Appends what makes the embedding [N, width] of the tensor at the cut.
pub(crate) fn embedding(graph: &mut Graph, cut: &Cut) -> ValueId {
    let mut end = cut.value;
    if cut.pooled {
        if let Some(mean) = text::mean(graph, end) {
            return mean;
        }
        end = append(graph, end, "embedding_pooled", Op::GlobalAveragePool);
    }
    if cut.shape.len() != 2 {
        end = append(graph, end, "embedding", Op::Flatten { axis: 1 });
    }
    end
}

fn append(graph: &mut Graph, input: ValueId, name: &str, op: Op) -> ValueId {
    let dtype = graph.value(input).dtype;
    let id = graph.add_value(Value { name: name.to_owned(), dtype, ..Value::default() });
    let name = graph.value(id).name.clone();
    graph.nodes.push(Node { name, op, inputs: vec![Some(input)], outputs: vec![id] });
    id
}

/// The half after the cut, from the embedding.
fn after(graph: &Graph, cut: &Cut, backbone: &Graph) -> Result<Graph> {
    let mut out = graph.clone();
    out.name = format!("{}_head", graph.name);
    out.inputs = vec![cut.value];
    fold::remove_dead(&mut out);
    if cut.shape.len() != 2 {
        let embedding = backbone.outputs.first().map(|id| backbone.value(*id).clone()).unwrap_or_default();
        let name = if out.find(&embedding.name).is_some() { "embedding".to_owned() } else { embedding.name.clone() };
        let id = out.add_value(Value { name, ..embedding });
        let target = std::iter::once(-1).chain(cut.shape[1..].iter().map(|d| d.fixed().unwrap_or(1) as i64)).collect();
        let shape = out.add_constant("embedding_shape", Tensor::from_i64(target));
        out.inputs = vec![id];
        let node = Node {
            name: "embedding_reshape".to_owned(),
            op: Op::Reshape { allow_zero: false },
            inputs: vec![Some(id), Some(shape)],
            outputs: vec![cut.value],
        };
        out.nodes.insert(0, node);
    }
    infer::infer(&mut out)?;
    Ok(out)
}
