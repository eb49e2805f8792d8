//! Programs for aarch64: linked with Debian's cross compiler, run in QEMU's user mode.

use std::process::Command;

/// The processor of most devices that run a full system.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";
/// One with NEON alone, without dot products, and one with everything.
pub const CPUS: [&str; 2] = ["cortex-a53", "max"];

/// The words in front of a program that is to run on `cpu`.
pub fn emulator(cpu: &str) -> [&str; 5] {
    ["qemu-aarch64", "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu"]
}

/// Has a cargo command build for aarch64. To be called before a `--` among its words.
pub fn linked(command: &mut Command) -> &mut Command {
    command.args(["--target", TARGET]).env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
}

/// As [`linked`], and runs what is built, tests as a rule, on `cpu`.
pub fn run_on<'a>(command: &'a mut Command, cpu: &str) -> &'a mut Command {
    linked(command).env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", emulator(cpu).join(" "))
}
