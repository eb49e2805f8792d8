//! Time operator by operator.

use serde::{Deserialize, Serialize};

use super::stats::median;
use crate::{Error, Result};

/// One operator of a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpTime {
    /// Name of the node where the provider has one.
    pub name: String,
    /// Operator, as the provider calls it.
    pub op: String,
    /// Shape of the output, where it is known.
    pub shape: Option<Vec<usize>>,
    /// Multiply-accumulates for one row, where they are known.
    pub macs: Option<u64>,
    /// Median time of one run, in microseconds.
    pub us: f64,
}

/// Operators whose work is multiply-accumulates, as ONNX Runtime calls them before and after its fusions.
const PRODUCTS: [&str; 14] = [
    "Conv",
    "QLinearConv",
    "FusedConv",
    "NhwcFusedConv",
    "NhwcConv",
    "Gemm",
    "FusedGemm",
    "QGemm",
    "MatMul",
    "FusedMatMul",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
];

impl OpTime {
    /// Whether its work is multiply-accumulates.
    #[must_use]
    pub fn is_product(&self) -> bool {
        self.macs.map_or_else(|| PRODUCTS.contains(&self.op.as_str()), |macs| macs > 0)
    }
}

/// The kernels' times in ONNX Runtime's profile (trace event format), node by node in the order of their first run; medians over the runs.
///
/// # Errors
/// [`Error::Worker`]: not such a file.
pub fn parse_trace(text: &str) -> Result<Vec<OpTime>> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        cat: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        dur: f64,
        #[serde(default)]
        args: serde_json::Map<String, serde_json::Value>,
    }
    let events: Vec<Event> = serde_json::from_str(text)
        .map_err(|e| Error::worker(format!("ONNX Runtime's profile is not understood: {e}")))?;
    let (mut ops, mut times): (Vec<OpTime>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for event in events.iter().filter(|event| event.cat == "Node") {
        let Some(name) = event.name.strip_suffix("_kernel_time") else { continue };
        if let Some(at) = ops.iter().position(|op| op.name == name) {
            times[at].push(event.dur);
            continue;
        }
        let op = event.args.get("op_name").and_then(|op| op.as_str()).unwrap_or("?").to_owned();
        let shape = event.args.get("output_type_shape").and_then(first_shape);
        ops.push(OpTime { name: name.to_owned(), op, shape, macs: None, us: 0.0 });
        times.push(vec![event.dur]);
    }
    ops.iter_mut().zip(&times).for_each(|(op, times)| op.us = median(times));
    Ok(ops)
}

/// Of `[{"float": [1, 10]}, …]`.
fn first_shape(outputs: &serde_json::Value) -> Option<Vec<usize>> {
    let shape = outputs.as_array()?.first()?.as_object()?.values().next()?.as_array()?;
    shape.iter().map(|d| usize::try_from(d.as_u64()?).ok()).collect()
}

/// A layer on two providers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// What the first calls it.
    pub op: String,
    /// What the second calls it.
    pub other: String,
    /// Multiply-accumulates for one row.
    pub macs: u64,
    /// Microseconds on the first.
    pub us: f64,
    /// Microseconds on the second.
    pub other_us: f64,
}

/// Layers of multiply-accumulates side by side, in their order, and what everything else takes on either; none where their numbers differ: then
/// one of them has fused or split layers.
#[must_use]
pub fn side_by_side(ours: &[OpTime], theirs: &[OpTime]) -> Option<(Vec<Pair>, [f64; 2])> {
    let products = |ops: &[OpTime]| ops.iter().filter(|op| op.is_product()).cloned().collect::<Vec<_>>();
    let rest = |ops: &[OpTime]| ops.iter().filter(|op| !op.is_product()).map(|op| op.us).sum();
    let (a, b) = (products(ours), products(theirs));
    let pair = |(a, b): (&OpTime, &OpTime)| Pair {
        op: a.op.clone(),
        other: format!("{} {}", b.op, b.name),
        macs: a.macs.unwrap_or(0),
        us: a.us,
        other_us: b.us,
    };
    (a.len() == b.len() && !a.is_empty()).then(|| (a.iter().zip(&b).map(pair).collect(), [rest(ours), rest(theirs)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_summed_node_by_node() {
        let event = |name: &str, op: &str, us: u32| {
            format!(
                r#"{{"cat":"Node","name":"{name}_kernel_time","dur":{us},"args":{{"op_name":"{op}","output_type_shape":[{{"uint8":[1,8,4,4]}}]}}}}"#
            )
        };
        let events = [
            r#"{"cat":"Session","name":"model_run","dur":99}"#.to_owned(),
            event("c", "QLinearConv", 10),
            event("q", "QuantizeLinear", 1),
            event("c", "QLinearConv", 14),
            event("q", "QuantizeLinear", 3),
        ];
        let ops = parse_trace(&format!("[{}]", events.join(","))).unwrap();
        let times: Vec<(&str, f64)> = ops.iter().map(|op| (op.name.as_str(), op.us)).collect();
        assert_eq!(times, [("c", 12.0), ("q", 2.0)]);
        assert_eq!(ops[0].shape.as_deref(), Some(&[1, 8, 4, 4][..]));
        assert!(parse_trace("{").is_err());

        let ours = [
            OpTime { name: String::new(), op: "conv".into(), shape: None, macs: Some(90), us: 6.0 },
            OpTime { name: String::new(), op: "add".into(), shape: None, macs: Some(0), us: 1.5 },
        ];
        let (pairs, rest) = side_by_side(&ours, &ops).unwrap();
        assert_eq!((pairs.len(), pairs[0].macs, pairs[0].other_us, rest), (1, 90, 12.0, [1.5, 2.0]));
        assert_eq!(side_by_side(&ours[1..], &ops), None);
    }
}
