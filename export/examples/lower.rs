//! A quantized ONNX file as a plan for the native engine: `lower MODEL.int8.onnx MODEL.plan`. Prints its operators.
//!
//! `hone export` writes `model.int8.onnx` (the whole model) and `backbone.int8.onnx`; files of ONNX Runtime's quantizer (QDQ) work too.

use std::path::Path;
use std::process::ExitCode;

use hone_export::{Error, Result, lower, onnx};

fn run(model: &Path, out: &Path) -> Result<()> {
    let graph = onnx::read(model)?;
    let lowered = lower::int8(&graph)?;
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
        eprintln!("usage: lower MODEL.int8.onnx MODEL.plan");
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
