//! A quantized ONNX file as a plan for the native engine: `lower MODEL.int8.onnx MODEL.plan`. Prints its operators.
//!
//! `hone export` writes `model.int8.onnx` (the whole model) and `backbone.int8.onnx`; files of ONNX Runtime's quantizer (QDQ) work too.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use hone_export::{Error, Result, lower, onnx};

/// Compiles a quantized ONNX file for the native engine.
#[derive(Debug, Parser)]
struct Args {
    /// Quantized ONNX file (QDQ)
    model: PathBuf,
    /// Plan to write
    plan: PathBuf,
}

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
    let args = Args::parse();
    match run(&args.model, &args.plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
