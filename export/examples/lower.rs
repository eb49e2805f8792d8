//! A quantized ONNX file as a plan for the native engine: `lower MODEL.int8.onnx MODEL.plan`. Prints its operators.
//!
//! `hone export` writes `model.int8.onnx` (the whole model) and `backbone.int8.onnx`; files of ONNX Runtime's quantizer (QDQ) work too. A
//! file without quantization becomes a plan in half precision.

use std::path::Path;
use std::process::ExitCode;

use hone_export::graph::{DType, Op, simplify};
use hone_export::lower::HalfOutput;
use hone_export::quantize::fp16;
use hone_export::{Error, Result, lower, onnx};

fn run(model: &Path, out: &Path) -> Result<()> {
    let graph = onnx::read(model)?;
    let is_quantized = graph.nodes.iter().any(|node| matches!(node.op, Op::QuantizeLinear { .. }));
    let is_half = graph.values.iter().any(|value| value.dtype == Some(DType::F16));
    let lowered = match (is_quantized, is_half) {
        (true, _) => lower::int8(&graph)?,
        (false, true) => lower::fp16(&graph, HalfOutput::F32)?,
        (false, false) => {
            let mut graph = graph;
            simplify(&mut graph)?;
            lower::fp16(&fp16::convert(&graph)?, HalfOutput::F32)?
        }
    };
    let plan = lowered.read()?;
    for (index, op) in plan.ops().enumerate() {
        let place = if op.in_place { ", in place" } else { "" };
        println!(
            "{index:3} {:14} {:?} -> {:?}, {} MAC{place}  {}",
            op.code.name(),
            op.input().shape,
            op.output.shape,
            op.macs(),
            plan.name(index)
        );
    }
    println!("plan {} bytes, arena {} bytes", lowered.plan.len(), plan.arena_bytes());
    std::fs::write(out, &lowered.plan).map_err(Error::io(out))
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [model, out] = &args[..] else {
        eprintln!("usage: lower MODEL.onnx MODEL.plan");
        return ExitCode::from(2);
    };
    match run(Path::new(model), Path::new(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
