//! Which opset a graph is written with.

use std::collections::BTreeMap;

use crate::graph::{DType, Graph, Node, Op};
use crate::{Error, Result};

/// Opsets that can be written.
const WRITTEN: std::ops::RangeInclusive<i64> = 13..=21;

/// The opsets that are preferred: what every current runtime reads.
const PREFERRED: std::ops::RangeInclusive<i64> = 13..=18;

/// Operators without a typed form that mean the same in all opsets from 7 (or from where they first appear) to 21.
const STABLE: &[&str] = &[
    "Acos",
    "Acosh",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DepthToSpace",
    "Einsum",
    "Elu",
    "Floor",
    "GatherElements",
    "GatherND",
    "Gelu",
    "GlobalLpPool",
    "Greater",
    "GreaterOrEqual",
    "InstanceNormalization",
    "IsNaN",
    "LRN",
    "Less",
    "LessOrEqual",
    "LpNormalization",
    "Mean",
    "Mish",
    "Mod",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "Round",
    "Selu",
    "Sign",
    "Sin",
    "Sinh",
    "Size",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Tan",
    "ThresholdedRelu",
    "Tile",
    "Trilu",
    "Xor",
];

/// The opset of the default domain, and the other domains with their versions.
pub(super) struct Target {
    pub(super) opset: i64,
    pub(super) domains: BTreeMap<String, i64>,
}

/// The asked opset where every node can be written in it, or the best one.
pub(super) fn choose(graph: &Graph, dtypes: &[Option<DType>], asked: Option<i64>) -> Result<Target> {
    let needs = graph.nodes.iter().map(|node| (least(node, dtypes), node)).max_by_key(|(least, _)| *least);
    let (least, neediest) = needs.map_or((0, None), |(least, node)| (least, Some(node)));
    let bound = graph.nodes.iter().find(|node| is_bound(node));
    let opset = match (asked, bound) {
        (Some(opset), _) if !WRITTEN.contains(&opset) => {
            let why = format!("opset {opset} cannot be written; {} to {} can", WRITTEN.start(), WRITTEN.end());
            return Err(Error::Setting { name: "opset".to_owned(), why });
        }
        (Some(opset), _) => opset,
        (None, Some(_)) if WRITTEN.contains(&graph.opset) => graph.opset,
        (None, _) => graph.opset.clamp(*PREFERRED.start(), *PREFERRED.end()).max(least),
    };
    let refuse = |node: &Node, why: String| Error::Unsupported { node: node.name.clone(), op: node.op.name(), why };
    if let Some(node) = neediest.filter(|_| least > opset) {
        return Err(refuse(node, format!("it needs opset {least}, the model is written with opset {opset}")));
    }
    if let Some(node) = bound.filter(|_| opset != graph.opset) {
        let why = format!("it cannot be carried over from opset {} to opset {opset}", graph.opset);
        return Err(refuse(node, why));
    }
    let mut domains = BTreeMap::new();
    for node in &graph.nodes {
        if let Op::Other { domain, .. } = &node.op
            && !super::is_default_domain(domain)
        {
            // The graph does not keep their versions; these are the ones that ONNX Runtime has.
            let version = if domain == "ai.onnx.ml" { 3 } else { 1 };
            domains.insert(domain.clone(), version);
        }
    }
    Ok(Target { opset, domains })
}

/// Whether a node may only be written with the opset that it was read with.
fn is_bound(node: &Node) -> bool {
    match &node.op {
        Op::Other { domain, op_type, .. } => super::is_default_domain(domain) && !STABLE.contains(&op_type.as_str()),
        _ => false,
    }
}

/// The lowest opset that has what a node uses.
fn least(node: &Node, dtypes: &[Option<DType>]) -> i64 {
    let dtype = |i: usize| node.inputs.get(i).copied().flatten().and_then(|id| dtypes[id.0]);
    match &node.op {
        Op::HardSwish | Op::Reshape { allow_zero: true } => 14,
        Op::Shape { start, end } if *start != 0 || end.is_some() => 15,
        Op::LayerNormalization { .. } => 17,
        Op::QuantizeLinear { .. } | Op::DequantizeLinear { .. } if dtype(1) == Some(DType::F16) => 19,
        Op::AveragePool { window, .. } if window.dilations.iter().any(|&d| d != 1) => 19,
        Op::Resize(resize) if resize.coordinate_transformation_mode == "half_pixel_symmetric" => 19,
        _ => 13,
    }
}
