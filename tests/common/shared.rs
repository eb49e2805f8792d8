//! Where the models and data are that are kept outside this repository.

use std::path::{Path, PathBuf};

/// The directory, or `None` where it is absent (a failure in CI).
pub fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let path = std::env::var_os("HONE_SHARED").map_or_else(beside, PathBuf::from);
    if path.join("models").is_dir() {
        return Some(path.canonicalize().unwrap());
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is absent; set HONE_SHARED", path.display());
    println!("skipped: {} is absent; set HONE_SHARED to the shared models and data directory", path.display());
    None
}
