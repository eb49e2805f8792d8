//! From what the user names to rows, labels and class names.

use std::io;
use std::path::{Path, PathBuf};

use super::folder::{self, Files};
use super::labels::{self, Labels};
use super::npy::ArrayFile;
use super::select::with_fragment;
use super::table::Table;
use super::text::Texts;
use super::{Options, Reader, idx, npz};
use crate::error::{Error, Result};

pub(super) struct Opened {
    pub reader: Reader,
    /// And the file that they come from.
    pub labels: Option<(Labels, PathBuf)>,
    pub names: Option<Vec<String>>,
}

pub(super) fn open(path: &Path, options: &Options) -> Result<Opened> {
    let is_folder = std::fs::metadata(path).map_err(|why| absent(path, why))?.is_dir();
    let file = match &options.x {
        Some(x) => Some(beside(path, x)),
        None if is_folder => array_in(path)?,
        None => Some(path.to_path_buf()),
    };
    let mut opened = match file {
        Some(file) => open_file(&file, options)?,
        None => open_folder(path, options)?,
    };
    if let Some(labels) = options.labels.as_ref().filter(|_| !matches!(opened.reader, Reader::Files(_))) {
        let (labels, column) = with_fragment(&beside(path, labels));
        opened.labels = Some((labels::read(&labels, column.as_deref())?, labels));
    }
    if let Some(classes) = &options.classes {
        opened.names = Some(labels::read_names(&beside(path, classes))?);
    } else if opened.names.is_none() && opened.labels.is_some() {
        let root = opened.reader.path();
        let folder = if root.is_dir() { Some(root) } else { root.ancestors().skip(1).find(|p| p.is_dir()) };
        let names = folder.map(|f| f.join("labels.txt")).filter(|names| names.is_file());
        opened.names = names.map(|names| labels::read_names(&names)).transpose()?;
    }
    Ok(opened)
}

/// Why nothing is there; a text in the place of a path is met with what to do.
fn absent(path: &Path, why: io::Error) -> Error {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let is_name = !extension.is_empty() && extension.bytes().all(|c| c.is_ascii_alphanumeric());
    let why = match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename if !is_name => {
            io::Error::new(
                why.kind(),
                "no such file or folder; to classify a text, write it to a .txt file, one a line",
            )
        }
        _ => why,
    };
    Error::io(path)(why)
}

/// A path relative to the data's folder where there is such a file, else as it stands.
pub(super) fn beside(data: &Path, path: &Path) -> PathBuf {
    let folder = if data.is_dir() { data } else { data.parent().unwrap_or(Path::new("")) };
    let joined = folder.join(path);
    if with_fragment(&joined).0.exists() { joined } else { path.to_path_buf() }
}

/// The one array file of a folder, if there is one.
fn array_in(folder: &Path) -> Result<Option<PathBuf>> {
    for name in ["x.npy", "x_train.npy", "x.npz", "text.tsv"] {
        if folder.join(name).is_file() {
            return Ok(Some(folder.join(name)));
        }
    }
    let (files, _) = folder::entries(folder)?;
    let images: Vec<&String> =
        files.iter().filter(|name| name.contains("images-idx") || name.contains("images.idx")).collect();
    match images[..] {
        [] => {}
        [one] => return Ok(Some(folder.join(one))),
        [first, ..] => {
            return Err(Error::data(
                folder,
                format!("{} idx files of images: name one of them, as {}", images.len(), folder.join(first).display()),
            ));
        }
    }
    let arrays: Vec<&str> =
        files.iter().map(String::as_str).filter(|n| n.ends_with(".npy") || n.ends_with(".npz")).collect();
    let rows =
        files.iter().any(|name| ["jpg", "jpeg", "png", "bmp", "wav"].iter().any(|e| name.to_lowercase().ends_with(e)));
    if !arrays.is_empty() && !rows {
        let has_folders = !folder::entries(folder)?.1.is_empty();
        if !has_folders {
            return Err(Error::data(
                folder,
                format!("none of its arrays is called x.npy: say which holds the rows ({})", arrays.join(", ")),
            ));
        }
    }
    Ok(None)
}

fn open_file(path: &Path, options: &Options) -> Result<Opened> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let array = |array: ArrayFile| Reader::Array(array);
    if name.ends_with(".npy") {
        let reader = array(ArrayFile::open(path)?);
        return Ok(Opened { reader, labels: sibling(path, "x", "y", options)?, names: None });
    }
    if name.ends_with(".npz") {
        let (x, labels) = match npz::member(path, &["x", "data", "images"])? {
            Some(x) => {
                let named = options.labels.is_some();
                let y = if named { None } else { npz::member(path, &["y", "labels", "label"])? };
                let labels = y.map(|y| labels::from_array(y, path)).transpose()?;
                (x, labels.map(|labels| (labels, path.to_path_buf())))
            }
            None => (npz::first(path)?, None),
        };
        return Ok(Opened { reader: array(x), labels, names: None });
    }
    if labels::is_idx(&name) {
        let reader = array(idx::open(path)?);
        return Ok(Opened { reader, labels: sibling(path, "images-idx3", "labels-idx1", options)?, names: None });
    }
    if name.ends_with(".csv") {
        if labels::is_list(path) {
            return from_list(path.parent().unwrap_or(Path::new("")), path, None);
        }
        let (table, labels) = Table::open(path, options.label_column.as_deref())?;
        return Ok(Opened {
            reader: Reader::Table(table),
            labels: labels.map(|l| (l, path.to_path_buf())),
            names: None,
        });
    }
    if name.ends_with(".tsv") || name.ends_with(".txt") {
        let (texts, labels) = Texts::open(path, options.label_column.as_deref())?;
        return Ok(Opened {
            reader: Reader::Texts(texts),
            labels: labels.map(|l| (l, path.to_path_buf())),
            names: None,
        });
    }
    if let Some(reader) = single(path)? {
        return Ok(Opened { reader, labels: None, names: None });
    }
    Err(Error::data(
        path,
        "not a kind of data that is supported: .npy, .npz, idx, idx.gz, .csv, .tsv, .txt, a picture (jpg, png, bmp), .wav, or a folder",
    ))
}

/// A picture or wav file alone is a source of one row.
fn single(path: &Path) -> Result<Option<Reader>> {
    let lower = path.to_string_lossy().to_lowercase();
    if !["jpg", "jpeg", "png", "bmp", "wav"].iter().any(|e| lower.ends_with(&format!(".{e}"))) {
        return Ok(None);
    }
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| Error::data(path, "the name is not UTF-8: rename it"))?;
    let root = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = Files::from_list(root, vec![name.to_owned()], path)?;
    Ok(Some(Reader::Files(Files { place: path.to_path_buf(), ..files })))
}

fn open_folder(path: &Path, options: &Options) -> Result<Opened> {
    if let Some(labels) = &options.labels {
        let (list, column) = with_fragment(&beside(path, labels));
        if list.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
            return from_list(path, &list, column.as_deref());
        }
        let listed = folder::list(path)?;
        let labels = Some((labels::read(&list, column.as_deref())?, list));
        return Ok(Opened { reader: Reader::Files(listed.files), labels, names: None });
    }
    let list = path.join("list.csv");
    if list.is_file() {
        return from_list(path, &list, None);
    }
    let listed = folder::list(path)?;
    let (labels, names) = match listed.classes {
        Some((labels, names)) => (Some((Labels::Numbers(labels), path.to_path_buf())), Some(names)),
        None => (None, None),
    };
    if labels.is_some() && options.label_offset != 0 {
        return Err(Error::Setting {
            name: "--label-offset".into(),
            why: "sub-folders are named, not numbered".into(),
        });
    }
    Ok(Opened { reader: Reader::Files(listed.files), labels, names })
}

fn from_list(root: &Path, list: &Path, column: Option<&str>) -> Result<Opened> {
    let rows = labels::read_list(list, column)?;
    let files = Files::from_list(root, rows.files, list)?;
    Ok(Opened { reader: Reader::Files(files), labels: rows.labels.map(|l| (l, list.to_path_buf())), names: None })
}

/// Labels in the file whose name has `to` where the rows' file has `from`, if it is there.
fn sibling(path: &Path, from: &str, to: &str, options: &Options) -> Result<Option<(Labels, PathBuf)>> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let other = match name.split_once(from) {
        Some(("", rest)) if from == "x" => format!("{to}{rest}"),
        Some((start, rest)) if from != "x" => format!("{start}{to}{rest}"),
        _ => return Ok(None),
    };
    let other = path.with_file_name(other);
    if options.labels.is_some() || !other.is_file() {
        return Ok(None);
    }
    Ok(Some((labels::read(&other, None)?, other)))
}
