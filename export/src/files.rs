//! Files that are complete or absent.

use std::path::Path;

use crate::{Error, Result};

/// A temporary file in `folder` that gets the usual permissions, as the umask leaves them.
pub(crate) fn staged_file(folder: &Path) -> Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder).map_err(Error::io(folder))
}

/// Whether both paths lead to the same file or folder that is there.
#[must_use]
pub fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
