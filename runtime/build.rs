//! Finds out which instructions an Arm microcontroller has: stable Rust has no cfg for them.
//!
//! `hone_dsp`: the DSP extension of Armv7E-M and Armv8-M (`smlad` and its kin); `hone_thumb2`: Armv7-M and later (`mla`, `ssat`);
//! `hone_v8m`: an Armv8-M target.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

/// Each cfg, with an instruction that the assembler takes where it holds.
const PROBES: [(&str, &str); 2] = [("hone_dsp", "smlad r0, r0, r1, r1"), ("hone_thumb2", "ssat r0, #8, r0")];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-check-cfg=cfg(hone_v8m)");
    if target.starts_with("thumbv8m") {
        println!("cargo::rustc-cfg=hone_v8m");
    }
    for (cfg, instruction) in PROBES {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        if target.starts_with("thumbv") && assembles(&target, cfg, instruction) {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}

/// Whether the assembler takes the instruction, with the flags (`-C target-cpu=…`) of this build.
fn assembles(target: &str, name: &str, instruction: &str) -> bool {
    let (Some(rustc), Some(out)) = (env::var_os("RUSTC"), env::var_os("OUT_DIR")) else { return false };
    let source = Path::new(&out).join(format!("{name}.rs"));
    let program = format!("#![no_std]\ncore::arch::global_asm!(\".thumb\", \"{instruction}\");\n");
    if fs::write(&source, program).is_err() {
        return false;
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let flags = flags.split('\x1f').filter(|flag| !flag.is_empty());
    let mut probe = Command::new(rustc);
    probe.args(["--edition=2024", "--crate-type=lib", "--emit=obj", "--target", target]);
    probe.args(flags).arg("-o").arg(source.with_extension("o")).arg(&source);
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
