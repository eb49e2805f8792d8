//! `cargo xtask test`: the one door. What CI runs, anyone runs.

use crate::aarch64;
use crate::providers;
use crate::setup::{self, TARGETS};
use crate::step::{self, Result, cargo};

/// Every check, cheapest first. `full` adds what is slow but valuable.
pub fn run(full: bool) -> Result {
    let installed = setup::run()?;
    crate::models::run()?;
    step::run("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    no_std_builds()?;
    // The runtime has no heavy dependency: its tests run unoptimised, with overflow checks.
    step::run("runtime tests (debug)", &mut cargo(&["test", "-p", "hone-runtime", "--features", "ort"]))?;
    fuzz_targets()?;
    if installed.emulators {
        same_bits_on_aarch64()?;
        crate::firmware::verify()?;
    }
    crate::bochs::verify()?;
    // Everything that links tract shares the release profile with `cargo run --release`.
    step::run("clippy", &mut cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let device = ["clippy", "--release", "-p", "hone", "--no-default-features", "--", "-D", "warnings"];
    step::run("clippy, device build", &mut cargo(&device))?;
    // Without tract, which another set of features would build anew.
    let ort =
        ["clippy", "--release", "-p", "hone", "--no-default-features", "--features", "ort", "--", "-D", "warnings"];
    step::run("clippy, with ONNX Runtime's providers", &mut cargo(&ort))?;
    step::run("rustdoc", cargo(&["doc", "--release", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    // What `tests/providers.rs` runs bundles on.
    providers::install(&installed.python)?;
    let mut tests = cargo(&["test", "--release", "--workspace"]);
    installed.python.env(&mut tests);
    if full {
        tests.env("HONE_FULL", "1");
    }
    step::run("workspace tests (release)", &mut tests)?;
    crate::size::test(installed.emulators)?;
    crate::same_bits::check(installed.emulators)?;
    println!("\nall checks passed");
    Ok(())
}

/// The runtime's tests on another processor: the same heads, the same stores, and every tier's kernels bit for bit. A Cortex-A53 has
/// NEON alone, `max` everything. In a profile of their own, because the emulator takes unoptimised code many times as long.
fn same_bits_on_aarch64() -> Result {
    let tests = |name: &str, cpu: &str, files: &[&str], filters: &[&str]| {
        let mut tests = cargo(&["test", "--profile", "emulated", "-p", "hone-runtime"]);
        files.iter().for_each(|file| {
            tests.args(["--test", file]);
        });
        aarch64::run_on(&mut tests, cpu).arg("--").args(filters);
        step::run(name, &mut tests)
    };
    let [plain, with_all] = aarch64::CPUS;
    let heads = ["same_bits", "tune_solver", "tune_prior", "store_record", "session"];
    tests("runtime tests on aarch64 (qemu)", plain, &heads, &[])?;
    let kernels = ["kernels", "native_same_bits"];
    tests("kernels on a Cortex-A53 (qemu)", plain, &kernels, &["neon", "every_processor"])?;
    tests("kernels on an aarch64 with everything (qemu)", with_all, &kernels, &["dotprod", "i8mm", "every_processor"])
}

/// The fuzz targets compile. Without libFuzzer itself, which is C++ and not needed until a target is linked: `fuzz/README.md`.
fn fuzz_targets() -> Result {
    let mut check = cargo(&["check", "--locked", "--bins", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"]);
    check.arg(step::target().join("fuzz")).env("CUSTOM_LIBFUZZER_PATH", step::target().join("libfuzzer.a"));
    step::run("fuzz targets", &mut check)
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
