//! Chooses the board: `HONE_BOARD` names a file of `boards/`, which says where memory and devices are.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=HONE_BOARD");
    println!("cargo::rerun-if-changed=boards");
    let board = env::var("HONE_BOARD").unwrap_or_else(|_| "mps2_an386".into());
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("boards");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let rust = folder.join(format!("{board}.rs"));
    if !rust.is_file() {
        println!("cargo::error=there is no board {board}: {} does not exist", rust.display());
        return;
    }
    let module = format!("#[path = {:?}]\npub mod board;\n", rust.display().to_string());
    let memory = fs::read(folder.join(format!("{board}.x")));
    let written = memory.and_then(|memory| fs::write(out.join("memory.x"), memory));
    if let Err(why) = written.and_then(|()| fs::write(out.join("board.rs"), module)) {
        println!("cargo::error=board {board}: {why}");
    }
    // Where `link.x` of cortex-m-rt finds `memory.x`.
    println!("cargo::rustc-link-search={}", out.display());
}
