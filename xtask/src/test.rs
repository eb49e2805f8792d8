//! `cargo xtask test`: the one door. What CI runs, anyone runs.

use std::process::Command;

use crate::setup::{self, Installed, TARGETS};
use crate::step::{self, Result, cargo};

/// Every check, cheapest first. `full` adds what is slow but valuable.
pub fn run(full: bool) -> Result {
    let installed = setup::run()?;
    crate::models::run()?;
    step::run("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    no_std_builds()?;
    // The runtime has no heavy dependency: its tests run unoptimised, with overflow checks.
    step::run("runtime tests (debug)", &mut cargo(&["test", "-p", "hone-runtime"]))?;
    if installed.aarch64 {
        same_bits_on_aarch64()?;
    }
    // Everything that links tract shares the release profile with `cargo run --release`.
    step::run("clippy", &mut cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step::run("rustdoc", cargo(&["doc", "--release", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    let mut tests = cargo(&["test", "--release", "--workspace"]);
    python_env(&mut tests, &installed);
    if full {
        tests.env("HONE_FULL", "1");
    }
    step::run("workspace tests (release)", &mut tests)?;
    println!("\nall checks passed");
    Ok(())
}

/// The runtime's tests of heads and of the store, on another processor: both must give the same bytes.
fn same_bits_on_aarch64() -> Result {
    let target = "aarch64-unknown-linux-gnu";
    let mut tests = cargo(&["test", "-p", "hone-runtime", "--target", target, "--test", "same_bits"]);
    tests.args(["--test", "tune_solver", "--test", "store_record", "--test", "session"]);
    tests.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    tests
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64 -cpu cortex-a53 -L /usr/aarch64-linux-gnu");
    step::run("runtime tests on aarch64 (qemu)", &mut tests)
}

fn no_std_builds() -> Result {
    // The machine's own target, x86-64 in CI, is one of them.
    step::run("no_std build, this machine", &mut cargo(&["build", "-p", "hone-runtime", "--no-default-features"]))?;
    for target in TARGETS {
        let mut features = vec![""];
        // no-std-compat's `alloc` needs compare-and-swap, which thumbv6m lacks.
        if !target.starts_with("thumbv6m") {
            features.push("alloc");
        }
        for f in features {
            step::run(
                &format!("no_std build, {target}, features [{f}]"),
                &mut cargo(&[
                    "build",
                    "-p",
                    "hone-runtime",
                    "--no-default-features",
                    "--features",
                    f,
                    "--target",
                    target,
                ]),
            )?;
        }
    }
    step::run(
        "no_std example, thumbv7em-none-eabihf",
        &mut cargo(&[
            "build",
            "-p",
            "hone-runtime",
            "--no-default-features",
            "--target",
            "thumbv7em-none-eabihf",
            "--example",
            "no_std_head",
        ]),
    )
}

/// Tells the tests where Python and its wheels are.
pub fn python_env(command: &mut Command, installed: &Installed) {
    command.env("HONE_PYTHON", &installed.python).env("PYTHONPATH", &installed.site);
}
