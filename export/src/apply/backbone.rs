//! What the ONNX file in a bundle may ask for.

use std::path::Path;

use crate::graph::cost::{Cost, Limit};
use crate::graph::{ValueId, infer};
use crate::{Error, Result, onnx};

/// Refuses a backbone that would cost more than its bytes let expect. tract allocates and computes what a model asks for, and one
/// kilobyte can ask for terabytes; our own reader bounds that, and knows every operator that a backbone is written with.
pub fn check(onnx: &[u8], path: &Path) -> Result<Cost> {
    let mut graph = onnx::read_bytes(onnx, path)?;
    infer::with_batch(&mut graph, 1).map_err(|error| error.in_model(path))?;
    for node in &graph.nodes {
        let is_known = |id: &ValueId| graph.value(*id).shape.iter().flatten().all(|dim| dim.fixed().is_some());
        let has_shape = |id: &ValueId| graph.value(*id).shape.is_some() && is_known(id);
        if !node.outputs.iter().all(has_shape) {
            let why = format!("the size of what it gives cannot be told (backbone of {})", path.display());
            return Err(Error::Unsupported { node: node.name.clone(), op: node.op.name(), why });
        }
    }
    Limit::MOST.check(&graph).map_err(|error| error.in_model(path))
}
