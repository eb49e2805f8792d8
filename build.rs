//! Link-time choices of the program for devices.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/device.ld");
    let is = |key: &str, value: &str| env::var(key).as_deref() == Ok(value);
    // The profile `device` is the one that optimizes for size, and ends at a panic: nothing walks its stack. The standard library brings tables
    // for that all the same, a tenth of the program.
    if is("OPT_LEVEL", "z") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        let script = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("src/device.ld");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
}
