//! What is in a model: facts, operators, what simplification merged, what is not supported, where it can be cut.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::graph::{Graph, ValueId, cost, cost::Limit, eval, show_shape, simplify, text, weights};
use crate::{Error, Result, onnx, split};

/// What `hone inspect` shows.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Name of the graph in the file.
    pub name: String,
    /// What wrote the file.
    pub producer: String,
    /// Opset of the default domain.
    pub opset: i64,
    /// Name and shape of each input.
    pub inputs: Vec<Port>,
    /// Name and shape of each output.
    pub outputs: Vec<Port>,
    /// Sizes of the inputs, beside the batch, that the model leaves open.
    pub open_sizes: Vec<String>,
    /// Bytes of the constants.
    pub parameter_bytes: u64,
    /// Multiply-accumulates for one row.
    pub macs: u64,
    /// How often each operator occurs, as read.
    pub operators: BTreeMap<String, usize>,
    /// Nodes as read and after simplification.
    pub nodes_before: usize,
    /// Nodes after simplification.
    pub nodes_after: usize,
    /// What simplification merged, and how often.
    pub fused: BTreeMap<&'static str, usize>,
    /// Nodes that cannot be computed, and so neither calibrated nor quantized; also for weights that are no numbers.
    pub unsupported: Vec<Unsupported>,
    /// Why `hone export` refuses to evaluate the model without `--max-gmacs`, where it does.
    pub too_costly: Option<String>,
    /// Legal cuts, from input to output.
    pub cuts: Vec<CutLine>,
    /// Why no cut is chosen by itself, when none is.
    pub no_head: Option<String>,
    /// The nodes after simplification.
    pub nodes: Vec<NodeLine>,
}

/// An input or output.
#[derive(Debug, Clone, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its shape, batch first: `[N, 3, 32, 32]`.
    pub shape: String,
}

/// A node that cannot be computed.
#[derive(Debug, Clone, Serialize)]
pub struct Unsupported {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What about it.
    pub why: String,
}

/// A tensor at which the model may be cut.
#[derive(Debug, Clone, Serialize)]
pub struct CutLine {
    /// Its name, for `--cut`.
    pub tensor: String,
    /// Its shape.
    pub shape: String,
    /// Numbers of the embedding; also its bytes as int8.
    pub width: usize,
    /// Whether spatial axes are averaged for it.
    pub pooled: bool,
    /// Multiply-accumulates up to it.
    pub backbone_macs: u64,
    /// Multiply-accumulates after it.
    pub head_macs: u64,
    /// Bytes of the constants up to it, as they are in the model.
    pub backbone_bytes: u64,
    /// Whether export takes it by itself.
    pub automatic: bool,
}

/// A node, in order.
#[derive(Debug, Clone, Serialize)]
pub struct NodeLine {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Shape of its first output.
    pub shape: String,
    /// Multiply-accumulates for one row.
    pub macs: u64,
}

/// Reads and analyses a model.
///
/// # Errors
/// As [`onnx::read`] and [`simplify`]; operators that are not supported and a missing head are not errors but part of the answer.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let mut graph = onnx::read(path)?;
    let mut operators = BTreeMap::new();
    for node in &graph.nodes {
        *operators.entry(node.op.name()).or_default() += 1;
    }
    let mut unsupported: Vec<Unsupported> = weights::non_finite(&graph)
        .into_iter()
        .map(|bad| {
            let node = &graph.nodes[bad.node];
            let why = format!("weight '{}' holds {} at index {}", bad.tensor, bad.value, bad.index);
            Unsupported { node: node.name.clone(), op: node.op.name(), why }
        })
        .collect();
    // What the file has; a text encoder's are one below.
    let (inputs, open_sizes) = (ports(&graph, &graph.inputs), open_sizes(&graph));
    text::merge_inputs(&mut graph, None).map_err(|error| error.in_model(path))?;
    let summary = simplify(&mut graph).map_err(|error| error.in_model(path))?;
    let costs = cost::nodes(&graph);
    let total = cost::total(&graph);
    unsupported.extend(graph.nodes.iter().filter_map(|node| {
        let why = match eval::check(node).err()? {
            eval::Fault::Unsupported(why) | eval::Fault::Invalid(why) => why,
        };
        Some(Unsupported { node: node.name.clone(), op: node.op.name(), why })
    }));
    let too_costly = match Limit::default().check(&graph) {
        Err(error @ Error::TooCostly { .. }) => Some(error.to_string()),
        _ => None,
    };
    let (chosen, no_head) = match split::choose(&graph, None) {
        Ok(split) => (Some(split.cut.tensor), None),
        Err(error) => (None, Some(error.in_model(path).to_string())),
    };
    let cuts = split::cuts(&graph)
        .into_iter()
        .map(|cut| CutLine {
            automatic: Some(&cut.tensor) == chosen.as_ref(),
            shape: show_shape(&cut.shape),
            width: cut.width,
            pooled: cut.pooled,
            backbone_macs: cut.backbone.macs,
            head_macs: cut.head.macs,
            backbone_bytes: cut.backbone.parameter_bytes,
            tensor: cut.tensor,
        })
        .collect();
    let nodes = graph.nodes.iter().zip(&costs).map(|(node, cost)| NodeLine {
        name: node.name.clone(),
        op: node.op.name(),
        shape: node.outputs.first().map_or_else(String::new, |id| shape_of(&graph, id.0)),
        macs: cost.macs,
    });
    Ok(Inspection {
        name: graph.name.clone(),
        producer: graph.producer.clone(),
        opset: graph.opset,
        inputs,
        outputs: ports(&graph, &graph.outputs),
        open_sizes,
        parameter_bytes: total.parameter_bytes,
        macs: total.macs,
        operators,
        nodes_before: summary.nodes_before,
        nodes_after: summary.nodes_after,
        fused: summary.fused,
        unsupported,
        too_costly,
        cuts,
        no_head,
        nodes: nodes.collect(),
    })
}

fn ports(graph: &Graph, ids: &[ValueId]) -> Vec<Port> {
    ids.iter().map(|id| Port { name: graph.value(*id).name.clone(), shape: shape_of(graph, id.0) }).collect()
}

/// Names of the sizes of the inputs, beside the batch, that are not fixed.
fn open_sizes(graph: &Graph) -> Vec<String> {
    let open = |id: &ValueId| {
        let dims = graph.value(*id).shape.as_deref().unwrap_or_default().iter().skip(1);
        dims.filter(|dim| dim.fixed().is_none()).map(|dim| show_shape(std::slice::from_ref(dim))).collect::<Vec<_>>()
    };
    graph.inputs.iter().flat_map(open).map(|size| size.trim_matches(['[', ']']).to_owned()).collect()
}

fn shape_of(graph: &Graph, id: usize) -> String {
    graph.values[id].shape.as_deref().map_or_else(|| "?".to_owned(), show_shape)
}
