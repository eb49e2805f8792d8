//! Whether a provider really runs the backbone, and what it leaves to ONNX Runtime's own kernels.

use hone_runtime::Bundle;
use serde::{Deserialize, Serialize};

use super::protocol::Request;
use super::run::{Launch, Worker};
use crate::Result;

/// A connected part of the graph that one execution provider runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// As ONNX Runtime names it: `CPUExecutionProvider`, …
    pub provider: String,
    /// Its nodes.
    pub nodes: Vec<PartNode>,
}

/// What ONNX Runtime calls its own kernels.
const OWN: &str = "CPUExecutionProvider";

/// A node of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartNode {
    /// Name; may be empty.
    pub name: String,
    /// Operator.
    pub op: String,
}

/// How much of the backbone a provider takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of it.
    Whole,
    /// Some nodes run elsewhere.
    Partial,
    /// Everything runs elsewhere.
    None,
    /// It does not load.
    Failed,
}

impl Verdict {
    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::None => "none",
            Self::Failed => "failed",
        }
    }
}

/// What was found for one provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preflight {
    /// As `--provider` names it.
    pub provider: String,
    /// How much of the backbone it takes.
    pub verdict: Verdict,
    /// Nodes that it takes, and all nodes, as the graph had them when it was divided.
    pub nodes_taken: usize,
    /// All nodes.
    pub nodes: usize,
    /// Share of the multiply-accumulates that it takes; none where they are not known.
    pub mac_share: Option<f64>,
    /// Connected parts of the graph that it runs: each costs a copy there and back on a device. ONNX Runtime's own kernels count as one.
    pub partitions: usize,
    /// Milliseconds of a load without anything kept from before.
    pub first_load_ms: Option<f64>,
    /// Milliseconds of a load from the session cache that the first one filled.
    pub warm_load_ms: Option<f64>,
    /// Bytes that the session cache then has.
    pub cache_bytes: Option<u64>,
    /// Nodes that run elsewhere.
    pub fallback: Vec<Fallback>,
    /// Why it does not load, or not a second time.
    pub why: Option<String>,
}

/// A node that the provider left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    /// Name.
    pub node: String,
    /// Operator.
    pub op: String,
    /// Element type and shape of its output, where they are known: `f32 [1, 10]`.
    pub output: Option<String>,
    /// Multiply-accumulates for one row.
    pub macs: u64,
    /// Who runs it.
    pub runs_on: String,
    /// What the provider's log says about it, or what can be told without.
    pub why: String,
}

/// What is known of a node of the backbone, by its name.
#[derive(Debug, Clone, Default)]
pub struct Known {
    macs: u64,
    output: Option<String>,
    has_float_output: bool,
}

/// The backbone's nodes by name; none where this build cannot read them.
#[must_use]
pub fn known(bundle: &Bundle<'_>) -> std::collections::HashMap<String, Known> {
    #[cfg(feature = "onnx")]
    {
        use crate::graph::{DType, cost, infer, show_shape};
        let read = || -> Result<_> {
            let mut graph = crate::onnx::read_bytes(bundle.backbone, std::path::Path::new(bundle.name))?;
            infer::with_batch(&mut graph, 1)?;
            Ok(graph)
        };
        let Ok(graph) = read() else { return Default::default() };
        let costs = cost::nodes(&graph);
        let nodes = graph.nodes.iter().zip(costs).map(|(node, cost)| {
            let output = node.outputs.first().map(|&id| graph.value(id));
            let text = output.and_then(|value| {
                Some(format!("{:?} {}", value.dtype?, show_shape(value.shape.as_ref()?)).to_lowercase())
            });
            let has_float_output = output.is_some_and(|value| value.dtype == Some(DType::F32));
            (node.name.clone(), Known { macs: cost.macs, output: text, has_float_output })
        });
        let known: std::collections::HashMap<String, Known> = nodes.collect();
        // Names that several nodes share say nothing.
        if known.len() == graph.nodes.len() { known } else { Default::default() }
    }
    #[cfg(not(feature = "onnx"))]
    {
        let _ = bundle;
        Default::default()
    }
}

/// Judges what a provider took. `wanted` is ONNX Runtime's name of it, `log` what the provider's library said while it was asked.
#[must_use]
pub fn judge(
    provider: &str,
    wanted: &str,
    parts: &[Part],
    known: &std::collections::HashMap<String, Known>,
    log: &str,
) -> Preflight {
    let is_own = |part: &&Part| part.provider == wanted;
    let count = |parts: &mut dyn Iterator<Item = &Part>| parts.map(|part| part.nodes.len()).sum::<usize>();
    let (taken, all) = (count(&mut parts.iter().filter(is_own)), count(&mut parts.iter()));
    let macs_of = |node: &PartNode| known.get(&node.name).map_or(0, |known| known.macs);
    let left = || parts.iter().filter(|part| !is_own(part)).flat_map(|part| part.nodes.iter().map(move |n| (part, n)));
    let total: u64 = known.values().map(|known| known.macs).sum();
    let left_macs: u64 = left().map(|(_, node)| macs_of(node)).sum();
    let fallback = left()
        .map(|(part, node)| {
            let about = known.get(&node.name).cloned().unwrap_or_default();
            Fallback {
                why: reason(node, &about, wanted, log),
                node: node.name.clone(),
                op: node.op.clone(),
                output: about.output,
                macs: about.macs,
                runs_on: part.provider.clone(),
            }
        })
        .collect();
    Preflight {
        provider: provider.to_owned(),
        verdict: match taken {
            0 => Verdict::None,
            _ if taken == all => Verdict::Whole,
            _ => Verdict::Partial,
        },
        nodes_taken: taken,
        nodes: all,
        mac_share: match taken {
            0 => Some(0.0),
            _ => (total > 0).then(|| 1.0 - left_macs as f64 / total as f64),
        },
        partitions: match parts.iter().filter(is_own).count() {
            // It lists its own kernels' nodes one by one.
            several if wanted == OWN => several.min(1),
            several => several,
        },
        first_load_ms: None,
        warm_load_ms: None,
        cache_bytes: None,
        fallback,
        why: None,
    }
}

/// What the log says of the node, or what is known of nodes like it.
fn reason(node: &PartNode, about: &Known, wanted: &str, log: &str) -> String {
    let complains = |record: &&str| {
        let record = record.to_ascii_lowercase();
        ["not support", "unsupported", "fail", "invalid", "reject", "cannot"].iter().any(|word| record.contains(word))
    };
    if let Some(record) = records(log).filter(|record| has_word(record, &node.name)).find(complains) {
        // QNN lists the nodes that it takes or leaves together, and then why; elsewhere the text stands behind time, thread and source file.
        let said = record.split_once("REASON :").or_else(|| record.rsplit_once("] ")).map_or(record, |(_, said)| said);
        return said.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if wanted == "QNNExecutionProvider" && about.has_float_output {
        return "its output is float: the NPU takes what is quantized on both sides".to_owned();
    }
    format!("{wanted} did not take it, and its log does not say why")
}

/// What was logged at a time: lines that are set in or empty belong to the one in front.
fn records(log: &str) -> impl Iterator<Item = &str> {
    let mut rest = log;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut starts = rest.match_indices('\n').map(|(at, _)| at + 1);
        let end = starts.find(|&at| !rest[at..].starts_with(['\t', ' ', '\n'])).unwrap_or(rest.len());
        let record;
        (record, rest) = rest.split_at(end);
        Some(record)
    })
}

/// Whether the name stands there by itself, not as a part of another one.
fn has_word(text: &str, name: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_/.:".contains(c));
    !name.is_empty()
        && text.match_indices(name).any(|(at, _)| {
            let after = text[at + name.len()..].chars().next().filter(|c| !".:".contains(*c));
            !is_part(text[..at].chars().next_back()) && !is_part(after)
        })
}

/// Runs the preflight of one provider: a process that loads it for the first time, with a session cache in `cache` that is empty for it, says
/// who gets which nodes, and another that loads it from that cache. `start` makes such a process; `wanted` is ONNX Runtime's name of the
/// provider, `None` for the ones that always run the whole backbone.
#[must_use]
pub fn check(
    provider: &str,
    wanted: Option<&str>,
    bundle: &Bundle<'_>,
    start: &dyn Fn() -> Launch,
    cache: &std::path::Path,
) -> Preflight {
    try_check(provider, wanted, bundle, start, cache).unwrap_or_else(|error| failed(provider, error.to_string()))
}

fn try_check(
    provider: &str,
    wanted: Option<&str>,
    bundle: &Bundle<'_>,
    start: &dyn Fn() -> Launch,
    cache: &std::path::Path,
) -> Result<Preflight> {
    let (mut worker, ready) = Worker::start(start())?;
    let Some(wanted) = wanted else {
        let count = native_nodes(bundle);
        return Ok(Preflight {
            verdict: Verdict::Whole,
            nodes_taken: count,
            nodes: count,
            mac_share: Some(1.0),
            partitions: 1,
            first_load_ms: Some(ready.load_ms),
            why: None,
            ..failed(provider, String::new())
        });
    };
    let parts: Vec<Part> = worker.ask(&Request::Parts)?;
    let log = worker.said();
    drop(worker);
    let cache_bytes = folder_bytes(cache);
    // What is known stays, whatever becomes of a second load.
    let warm = Worker::start(start());
    let found = judge(provider, wanted, &parts, &known(bundle), &log);
    Ok(Preflight {
        first_load_ms: Some(ready.load_ms),
        why: warm.as_ref().err().map(|error| format!("a second load failed: {error}")),
        warm_load_ms: warm.ok().filter(|_| cache_bytes > 0).map(|(_, warm)| warm.load_ms),
        cache_bytes: (cache_bytes > 0).then_some(cache_bytes),
        ..found
    })
}

/// Operators of the plan, or nodes of the ONNX backbone where there is no plan.
fn native_nodes(bundle: &Bundle<'_>) -> usize {
    let plan = bundle.plan.and_then(|plan| hone_runtime::plan::Plan::parse(plan).ok());
    plan.map_or_else(|| known(bundle).len(), |plan| plan.len())
}

/// Bytes of all files in a folder and those beneath it.
fn folder_bytes(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A provider that does not load.
#[must_use]
pub fn failed(provider: &str, why: String) -> Preflight {
    Preflight {
        provider: provider.to_owned(),
        verdict: Verdict::Failed,
        nodes_taken: 0,
        nodes: 0,
        mac_share: None,
        partitions: 0,
        first_load_ms: None,
        warm_load_ms: None,
        cache_bytes: None,
        fallback: Vec::new(),
        why: Some(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(provider: &str, nodes: &[(&str, &str)]) -> Part {
        let nodes = nodes.iter().map(|&(name, op)| PartNode { name: name.into(), op: op.into() }).collect();
        Part { provider: provider.into(), nodes }
    }

    #[test]
    fn what_is_left_is_named_with_its_share_and_reason() {
        let known = [("conv", 900), ("gemm", 100), ("softmax", 0)].map(|(name, macs)| {
            (name.to_owned(), Known { macs, output: Some("f32 [1, 10]".into()), has_float_output: name == "softmax" })
        });
        let known = known.into_iter().collect();
        let npu = "QNNExecutionProvider";
        let parts =
            [part(npu, &[("conv", "Conv")]), part("CPUExecutionProvider", &[("gemm", "Gemm"), ("softmax", "Softmax")])];
        let log = "2026-01-01 [W:onnxruntime:, qnn.cc:12 Check] Op gemm is not supported: transA\nconv loaded";
        let found = judge("ort:qnn", npu, &parts, &known, log);
        assert_eq!((found.verdict, found.nodes_taken, found.nodes), (Verdict::Partial, 1, 3));
        assert!((found.mac_share.unwrap() - 0.9).abs() < 1e-12);
        assert_eq!(found.fallback[0].why, "Op gemm is not supported: transA");
        assert!(found.fallback[1].why.contains("float"), "{}", found.fallback[1].why);
        assert_eq!(found.fallback[1].runs_on, "CPUExecutionProvider");
        assert_eq!(found.partitions, 1);
        assert_eq!(
            judge("ort:cpu", "CPUExecutionProvider", &[parts[1].clone(), parts[1].clone()], &known, "").partitions,
            1
        );
        // As QNN says it: nodes that belong together, then the reason; `gem` is no `gemm`.
        let log = "12:50 [V:onnxruntime:, a.cc:1 F] Validation FAILED for 2 nodes in OrtNodeUnit (Gemm) :\n\tOperator type: Gemm Node name: gemm \
                   Node index: 1\n\tOperator type: Softmax Node name: softmax Node index: 2\n\tREASON : no such\n\toperator\n\n12:51 [V:onnxruntime:, \
                   a.cc:1 F] invalid gem\n";
        let found = judge("ort:qnn", npu, &parts, &known, log);
        assert_eq!([&found.fallback[0].why, &found.fallback[1].why], ["no such operator"; 2]);
        let log = "12:50 [V:onnxruntime:, a.cc:1 F] cannot take gemm2 nor my_gemm";
        assert!(judge("ort:qnn", npu, &parts, &known, log).fallback[0].why.contains("does not say why"));
        assert_eq!(judge("ort:qnn", npu, &parts[..1], &known, "").verdict, Verdict::Whole);
        assert_eq!(judge("ort:qnn", npu, &parts[1..], &known, "").verdict, Verdict::None);
    }
}
