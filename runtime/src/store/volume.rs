//! What a [`Store`](super::Store) needs of a file system, so that tests can cut its power; and the real one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

#[allow(unused_imports, reason = "String, Vec, ToString")]
use crate::prelude::*;

/// Name of the file that a writer locks; it stays, empty, and means nothing on its own.
const LOCK_FILE: &str = "store.lock";

/// One name in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Name without the folder.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// A plain file: not a folder, link or device.
    pub plain: bool,
}

/// One flat folder of files. Nothing is safe from a power cut before its `sync`: bytes before [`Volume::sync`] of their
/// file, names before [`Volume::sync_names`].
pub trait Volume {
    /// Held while committing; the lock ends when it is dropped or when its process dies.
    type Lock;

    /// How messages name the folder.
    fn place(&self) -> String;

    /// Every file; none where the folder does not exist. Changes nothing.
    fn list(&self) -> io::Result<Vec<FileInfo>>;

    /// The bytes of a file, refused beyond `limit`. Changes nothing.
    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>>;

    /// Makes the folder where it is missing and locks it; `None` where another writer holds the lock.
    fn lock(&mut self) -> io::Result<Option<Self::Lock>>;

    /// Makes an empty file, which must not exist yet.
    fn create(&mut self, name: &str) -> io::Result<()>;

    /// Adds bytes at the end of a file.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Returns when the file's bytes are on the medium.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file another name, at once or not at all.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file away.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Returns when every creation, renaming and removal so far is on the medium.
    fn sync_names(&mut self) -> io::Result<()>;
}

/// A folder of the host's file system.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder and those above it, each one's name synced in its parent.
    fn make(&self) -> io::Result<()> {
        let missing: Vec<&Path> =
            self.path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                // Another writer may have been faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_folder(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }
}

impl Volume for Folder {
    type Lock = File;

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<FileInfo>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not Unicode is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            // `DirEntry::metadata` does not follow links.
            match entry.metadata() {
                Ok(metadata) => files.push(FileInfo { name, bytes: metadata.len(), plain: metadata.is_file() }),
                // Gone since the folder was read: a writer pruned it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.file(name))?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than a generation may be"));
        }
        Ok(bytes)
    }

    fn lock(&mut self) -> io::Result<Option<File>> {
        self.make()?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.file(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        OpenOptions::new().create_new(true).write(true).open(self.file(name)).map(drop)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).open(self.file(name))?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        // Windows flushes only handles that may write.
        OpenOptions::new().append(true).open(self.file(name))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.file(from), self.file(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.file(name))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        sync_folder(&self.path)
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some network and FUSE file systems have no such operation; their renames are as safe as they can be.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Elsewhere a folder cannot be opened as a file; the file system journals its names itself.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}
