//! External data: weights in a plain file directly beneath the model's folder, and nowhere else.
//!
//! A model is untrusted, and the place of its weights is a string in it. Only a bare file name is accepted, and it
//! must name a regular file: no path, no symbolic link, no hard link (which would reach a file outside the folder just
//! as well), no device. The range is checked against the file's length before anything is allocated.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tract_onnx::pb;

use crate::{Error, Result};

/// A file may be read this often over: models that share weights refer to one range several times.
const SHARING_LIMIT: u64 = 4;

/// The folder of a file; the current one for a bare name.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads external data of one model.
pub(super) struct External<'a> {
    model: &'a Path,
    /// Whether the model has a folder of its own at all.
    has_folder: bool,
    /// Open files by location, with their length and the bytes read so far.
    files: HashMap<String, (File, u64, u64)>,
}

impl<'a> External<'a> {
    /// For the model at that path.
    pub(super) fn new(model: &'a Path) -> Self {
        Self { model, has_folder: true, files: HashMap::new() }
    }

    /// For a model inside another file.
    pub(super) fn none(model: &'a Path) -> Self {
        Self { has_folder: false, ..Self::new(model) }
    }

    /// The bytes of a tensor that must be `expected` bytes long.
    pub(super) fn read(
        &mut self,
        tensor: &str,
        entries: &[pb::StringStringEntryProto],
        expected: u64,
    ) -> Result<Vec<u8>> {
        let entry = |key: &str| entries.iter().rev().find(|e| e.key == key).map(|e| e.value.as_str());
        let location = entry("location").unwrap_or_default().to_owned();
        let refuse = |why: String| Error::UnsafePath {
            path: self.model.to_path_buf(),
            tensor: tensor.to_owned(),
            location: location.clone(),
            why,
        };
        if !self.has_folder {
            return Err(refuse("a model inside another file has its data inside, too".to_owned()));
        }
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => {
                let why = || refuse(format!("{key} '{text}' is no number of bytes from 0 to 2^63 - 1"));
                let number = text.parse::<u64>().map_err(|_| why())?;
                if i64::try_from(number).is_err() { Err(why()) } else { Ok(Some(number)) }
            }
        };
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        if length.is_some_and(|length| length != expected) {
            let why = format!("its length is {} bytes, the dimensions need {expected}", length.unwrap_or(0));
            return Err(refuse(why));
        }
        if expected > super::FILE_LIMIT_BYTES {
            return Err(super::too_large(self.model, &format!("tensor '{tensor}'"), expected, super::FILE_LIMIT_BYTES));
        }
        if !self.files.contains_key(&location) {
            let (file, len) = open(self.model, &location).map_err(&refuse)?;
            self.files.insert(location.clone(), (file, len, 0));
        }
        let Some((file, len, used)) = self.files.get_mut(&location) else {
            return Err(refuse("cannot be opened".to_owned()));
        };
        // Without a length the data reaches to the end of the file.
        let available = len.checked_sub(offset);
        let fits = match length {
            Some(length) => available.is_some_and(|a| length <= a),
            None => available == Some(expected),
        };
        if !fits {
            return Err(refuse(format!("offset {offset} and {expected} bytes do not fit the file's {len} bytes")));
        }
        *used += expected;
        if *used > len.saturating_mul(SHARING_LIMIT) {
            let limit = len.saturating_mul(SHARING_LIMIT);
            return Err(super::too_large(self.model, &format!("external data from '{location}'"), *used, limit));
        }
        let path = folder_of(self.model).join(&location);
        let mut bytes = vec![0; usize::try_from(expected).map_err(|_| refuse("too long for this machine".to_owned()))?];
        file.seek(SeekFrom::Start(offset)).map_err(Error::io(&path))?;
        file.read_exact(&mut bytes).map_err(Error::io(&path))?;
        Ok(bytes)
    }
}

/// Opens a plain file directly beneath the model's folder; the error says why not.
fn open(model: &Path, location: &str) -> std::result::Result<(File, u64), String> {
    let mut parts = Path::new(location).components();
    let bare = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    // The other system's separators and drives are refused everywhere, so that a model means the same everywhere.
    if !bare || location.contains(['/', '\\', ':', '\0']) {
        return Err("it must be the name of a file in the model's own folder".to_owned());
    }
    let folder = folder_of(model).canonicalize().map_err(|e| format!("the model's folder: {e}"))?;
    let path: PathBuf = folder.join(location);
    let before = path.symlink_metadata().map_err(|e| e.to_string())?;
    check(&before)?;
    let file = File::open(&path).map_err(|e| e.to_string())?;
    let after = file.metadata().map_err(|e| e.to_string())?;
    check(&after)?;
    if !same_file(&before, &after) {
        return Err("it was exchanged while it was opened".to_owned());
    }
    Ok((file, after.len()))
}

fn check(meta: &Metadata) -> std::result::Result<(), String> {
    if meta.file_type().is_symlink() {
        return Err("it is a symbolic link".to_owned());
    }
    if !meta.is_file() {
        return Err("it is no regular file".to_owned());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if meta.nlink() > 1 {
            return Err("it is a hard link (the file has another name elsewhere; copy it)".to_owned());
        }
    }
    Ok(())
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    a.len() == b.len() && a.modified().ok() == b.modified().ok()
}
