//! The quickstart's folder: complete under its name, or not there at all.
//!
//! Everything is written to a hidden folder beside it, which gets the name when the last file is in it. Whatever ends the run
//! early, an error or a full disk, leaves what was there before.

use std::fs;
use std::path::{Path, PathBuf};

use hone_export::Error;
use hone_models as models;
use tempfile::TempDir;

/// What is in the folder.
const MADE: [&str; 7] =
    ["data", "home", super::BUNDLE, super::REPORT, "backbone.int8.onnx", "head.onnx", "model.int8.onnx"];
/// What is in its store: the generation that the quickstart commits, and the lock.
const STORED: [&str; 2] = ["gen-00000001.hgen", "store.lock"];

pub struct Staging {
    /// Holds `new`, and for a moment `old`; gone with its content when dropped.
    hidden: TempDir,
    out: PathBuf,
    replaces: bool,
}

impl Staging {
    /// Refuses to replace a folder, unless an earlier quickstart made it and `force` allows it.
    pub fn begin(out: &Path, force: bool) -> Result<Self, Error> {
        let replaces = fs::symlink_metadata(out).is_ok();
        // Only a folder that an earlier run made is ever replaced.
        if replaces && !out.join("data").join(models::GLYPHS_MODEL.name).is_file() {
            let why = format!(
                "{} exists already and is not a quickstart's folder, so it is never replaced; name a new one",
                out.display()
            );
            return Err(Error::Setting { name: "--out".into(), why });
        }
        if replaces && !force {
            return Err(Error::Exists(out.to_path_buf()));
        }
        if replaces && let Some(own) = not_ours(out)? {
            let why = format!(
                "{} is not of a quickstart's making, so its folder is not replaced; move it away",
                own.display()
            );
            return Err(Error::Setting { name: "--out".into(), why });
        }
        let absolute = std::path::absolute(out).map_err(Error::io(out))?;
        let beside = absolute.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
        let hidden = tempfile::Builder::new().prefix(".hone-quickstart-").tempdir_in(beside).map_err(Error::io(out))?;
        let staging = Self { hidden, out: out.to_path_buf(), replaces };
        fs::create_dir(staging.path()).map_err(Error::io(out))?;
        Ok(staging)
    }

    /// Where to write.
    pub fn path(&self) -> PathBuf {
        self.hidden.path().join("new")
    }

    /// Gives the folder its name.
    pub fn finish(self) -> Result<(), Error> {
        let old = self.hidden.path().join("old");
        if self.replaces {
            fs::rename(&self.out, &old).map_err(Error::io(&self.out))?;
        } else if let Some(parent) = self.out.parent() {
            fs::create_dir_all(parent).map_err(Error::io(parent))?;
        }
        let renamed = fs::rename(self.path(), &self.out);
        if renamed.is_err() && self.replaces && fs::rename(&old, &self.out).is_err() {
            // The earlier folder could not even be put back: it stays in the hidden one.
            let _ = self.hidden.keep();
        }
        renamed.map_err(Error::io(&self.out))
    }

    /// The error with the names that its files would have had.
    pub fn explain(&self, error: Error) -> Error {
        let named = |path: &Path| path.strip_prefix(self.path()).map_or(path.to_path_buf(), |rest| self.out.join(rest));
        match error {
            Error::Io { path, source } => Error::Io { path: named(&path), source },
            Error::Runtime(hone_runtime::Error::File { path, doing, why }) => {
                let path = named(Path::new(&path)).display().to_string();
                Error::Runtime(hone_runtime::Error::File { path, doing, why })
            }
            other => other,
        }
    }
}

/// Something in a quickstart's folder that came later: the owner's file, or a generation that was tuned since.
fn not_ours(out: &Path) -> Result<Option<PathBuf>, Error> {
    let data: Vec<&str> = models::QUICKSTART.iter().map(|file| file.name).collect();
    for (folder, made) in [(out.to_path_buf(), &MADE[..]), (out.join("data"), &data), (out.join("home"), &STORED)] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(&folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(Error::io(&folder))?;
            if !made.contains(&entry.file_name().to_string_lossy().as_ref()) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}
