//! `cargo xtask models`: the committed models and data are what their checksums say.

use sha2::{Digest, Sha256};

use crate::step::{Result, at, root};

/// Checks every line of `models/checksums.sha256` (the format of `sha256sum`).
pub fn run() -> Result {
    let folder = root().join("models");
    let list = folder.join("checksums.sha256");
    let text = std::fs::read_to_string(&list).map_err(at(&list))?;
    let mut checked = 0;
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let (wanted, name) =
            line.split_once("  ").ok_or_else(|| format!("{}: not a checksum line: {line}", list.display()))?;
        let path = folder.join(name.trim());
        let bytes = std::fs::read(&path).map_err(at(&path))?;
        let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        if found != wanted {
            return Err(format!("{}: checksum {found}, {} says {wanted}", path.display(), list.display()));
        }
        checked += 1;
    }
    println!("models: {checked} files match their checksums");
    Ok(())
}
