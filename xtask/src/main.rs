//! What a developer of hone runs: `cargo xtask test`, `setup`, `peers`, `providers`, `firmware`, `size`, `bochs`, `same-bits`, `models`.

mod aarch64;
mod bochs;
mod firmware;
mod models;
mod peers;
mod providers;
mod same_bits;
mod setup;
mod size;
mod step;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--full]   install what the tests need, then run every check; --full adds the slow ones
  setup           only install what the tests need
  peers [SCRIPT [ARGUMENT...]]
                  run the side-by-side comparisons with other tools (benches/peers), or one of them:
                  engine, half, kshot, models, products, quantized, tune
  providers       download the libraries of ONNX Runtime's providers into target/providers
  firmware build | run BOARD PLAN [INPUT [HEAD]] | bench [FOLDER] | test
                  the firmware of firmware-host/firmware: its size, one plan on one board, the table of instructions
  size [test]     the command line as a device gets it, for this machine and for aarch64: its sizes, and a firmware's;
                  or that it computes what the full program computes; fails where a program is larger than allowed
  bochs           the kernels of AVX-512-VNNI on an emulated processor
  same-bits       export real models and compare what they give on every processor, operator by operator
  models          check the committed models and data against their checksums";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test"] => test::run(false),
        ["test", "--full"] => test::run(true),
        ["setup"] => setup::run().map(|_| ()),
        ["peers", rest @ ..] => peers::run(rest),
        ["size", rest @ ..] => size::run(rest),
        ["bochs"] => bochs::verify(),
        ["providers"] => providers::run(),
        ["same-bits"] => same_bits::run(),
        ["models"] => models::run(),
        ["firmware", rest @ ..] => firmware::run(rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nxtask: {why}");
            ExitCode::FAILURE
        }
    }
}
