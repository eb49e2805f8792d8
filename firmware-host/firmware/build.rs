//! Chooses the board: `HONE_BOARD` names a file of `boards/`, which says where memory and devices are.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

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
    // A copy: a checkout elsewhere may share the target folder, and must not find paths of this one there.
    let copied = copy(&folder, &out.join("boards"))
        .and_then(|()| fs::copy(folder.join(format!("{board}.x")), out.join("memory.x")))
        .and_then(|_| fs::write(out.join("board.rs"), format!("#[path = \"boards/{board}.rs\"]\npub mod board;\n")));
    if let Err(why) = copied {
        println!("cargo::error=board {board}: {why}");
    }
    // Where `link.x` of cortex-m-rt finds `memory.x`.
    println!("cargo::rustc-link-search={}", out.display());
}

/// The files of a folder.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
