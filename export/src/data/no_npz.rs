//! In the place of `npz` where the feature of that name is off: zip archives are refused.

use std::path::Path;

use super::npy::ArrayFile;
use crate::error::{Error, Result};

/// As `npz::member`.
///
/// # Errors
/// [`Error::Data`], always.
pub fn member(path: &Path, _names: &[&str]) -> Result<Option<ArrayFile>> {
    Err(refused(path))
}

/// As `npz::first`.
///
/// # Errors
/// [`Error::Data`], always.
pub fn first(path: &Path) -> Result<ArrayFile> {
    Err(refused(path))
}

fn refused(path: &Path) -> Error {
    Error::data(path, "this build reads no .npz archives: store the arrays as .npy")
}
