//! Output files: names are ours, nothing is overwritten unasked, every file is complete or absent.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::Request;
use super::assemble::Files;
use crate::files::{is_same, staged_file};
use crate::{Error, Result};

/// The paths of an export, checked before the work begins.
pub(super) struct Plan {
    out: PathBuf,
    backbone: PathBuf,
    head: PathBuf,
    model: PathBuf,
    bundle: PathBuf,
}

/// Decides the names and refuses to overwrite.
pub(super) fn plan(request: &Request, name: &str) -> Result<Plan> {
    let precision = request.precision.name();
    let out = &request.out;
    let plan = Plan {
        out: out.clone(),
        backbone: out.join(format!("backbone.{precision}.onnx")),
        head: out.join("head.onnx"),
        model: out.join(format!("model.{precision}.onnx")),
        bundle: out.join(format!("{name}.hone")),
    };
    if out.exists() && !out.is_dir() {
        return Err(Error::Io { path: out.clone(), source: std::io::ErrorKind::NotADirectory.into() });
    }
    // A folder cannot be replaced by a file: found now, not after the first files got their names.
    let files = [&plan.backbone, &plan.head, &plan.model, &plan.bundle];
    if let Some(path) = files.into_iter().find(|path| path.is_dir()) {
        return Err(Error::Io { path: path.clone(), source: std::io::ErrorKind::IsADirectory.into() });
    }
    let mut inputs = [&request.model, &request.calibration].into_iter().chain(&request.vocabulary);
    if let Some(input) = inputs.find(|input| files.into_iter().any(|file| is_same(file, input))) {
        let why = format!("{} is read by this export and would be overwritten; name another folder", input.display());
        return Err(Error::Setting { name: "--out".into(), why });
    }
    let taken = files.into_iter().find(|path| path.exists());
    match taken {
        Some(path) if !request.force => Err(Error::Exists(path.clone())),
        _ => Ok(plan),
    }
}

/// The nearest existing folder at or above the output: the same disk, most likely, with room for what is to come.
pub(super) fn scratch_folder(out: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(out).map_err(Error::io(out))?;
    let existing = absolute.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
    Ok(existing.to_path_buf())
}

impl Plan {
    /// Writes all files; each is complete under its name, the bundle last.
    pub fn write(&self, files: &Files) -> Result<Vec<PathBuf>> {
        let made = MadeFolders::make(&self.out)?;
        let mut list: Vec<(&PathBuf, &[u8])> = vec![(&self.backbone, &files.backbone), (&self.model, &files.model)];
        if let Some(head) = &files.head {
            list.push((&self.head, head));
        }
        list.push((&self.bundle, &files.bundle));
        // All are on the disk before the first one gets its name.
        let mut staged = Vec::new();
        for (path, bytes) in &list {
            let mut file = staged_file(&self.out)?;
            file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(Error::io(path))?;
            staged.push(file);
        }
        for ((path, _), file) in list.iter().zip(staged) {
            file.persist(path).map_err(|e| Error::Io { path: path.to_path_buf(), source: e.error })?;
        }
        if files.head.is_none() && self.head.exists() {
            // A head of an earlier export would not belong to this backbone.
            std::fs::remove_file(&self.head).map_err(Error::io(&self.head))?;
        }
        made.keep();
        Ok(list.into_iter().map(|(path, _)| path.clone()).collect())
    }
}

/// Folders made for an export, taken away again unless it succeeds.
struct MadeFolders(Vec<PathBuf>);

impl MadeFolders {
    /// Makes the folder at `path` and those above it.
    fn make(path: &Path) -> Result<Self> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<PathBuf> = path.ancestors().take_while(is_missing).map(Path::to_path_buf).collect();
        let made = Self(missing);
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        Ok(made)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        // Best effort; a folder that somebody put something into meanwhile stays.
        for path in &self.0 {
            let _ = std::fs::remove_dir(path);
        }
    }
}
