//! Folders of pictures or wav files: a sub-folder for each class, or all in one place.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::labels::MAX_CLASSES;
use super::{Clip, Picture, RawRow};
use crate::error::{Error, Result};

const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "bmp"];

/// Files of one kind beneath one folder.
#[derive(Debug)]
pub(super) struct Files {
    pub root: PathBuf,
    /// What errors name: the folder, or the one file that was asked for.
    pub place: PathBuf,
    /// Relative to `root`, with `/`.
    pub names: Vec<String>,
    pub sound: bool,
}

/// What a folder holds.
pub(super) struct Listed {
    pub files: Files,
    /// Label of each file and the names of the sub-folders, in byte order.
    pub classes: Option<(Vec<i64>, Vec<String>)>,
}

impl Files {
    /// Files that a list names. Each must be there, beneath `root`, and of the same kind as the others.
    pub fn from_list(root: &Path, names: Vec<String>, list: &Path) -> Result<Self> {
        for (row, name) in names.iter().enumerate() {
            let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
            if !plain || name.is_empty() {
                return Err(Error::data(list, format!("row {row}: '{name}' is not a path beneath {}", root.display())));
            }
            if !root.join(name).is_file() {
                return Err(Error::data(
                    list,
                    format!("row {row}: {} is not there or is no file", root.join(name).display()),
                ));
            }
        }
        let sound = one_kind(&names, root)?
            .ok_or_else(|| Error::data(list, "names no picture (jpg, png, bmp) and no wav file"))?;
        Ok(Self { root: root.to_path_buf(), place: root.to_path_buf(), names, sound })
    }

    pub fn row(&self, index: usize) -> Result<(String, RawRow)> {
        let name = self.names[index].clone();
        let path = self.root.join(&name);
        let values = if self.sound { RawRow::Audio(Clip::open(&path)?) } else { RawRow::Image(Picture::open(&path)?) };
        Ok((name, values))
    }
}

/// Lists a folder. Only one level of sub-folders is looked at, so links that lead in circles do no harm.
pub(super) fn list(root: &Path) -> Result<Listed> {
    let (files, folders) = entries(root)?;
    let texts = files.iter().find(|name| is_text(name) && *name != "labels.txt").cloned();
    let here: Vec<String> = files.into_iter().filter(|name| kind(name).is_some()).collect();
    if let Some(file) = here.first()
        && let Some(folder) = with_files(root, &folders)?
    {
        let why = format!(
            "both '{file}' and the sub-folder '{folder}' have rows: put every file into a sub-folder of its class, or name a folder without sub-folders"
        );
        return Err(Error::data(root, why));
    }
    if !here.is_empty() {
        let sound = one_kind(&here, root)?.unwrap_or(false);
        let files = Files { root: root.to_path_buf(), place: root.to_path_buf(), names: here, sound };
        return Ok(Listed { files, classes: None });
    }
    if folders.is_empty() {
        let hint = texts.map(|file| format!("; a file of texts is named itself: {}", root.join(file).display()));
        return Err(Error::data(
            root,
            format!(
                "no rows: neither x.npy, text.tsv, idx files, pictures (jpg, png, bmp), wav files nor sub-folders of them{}",
                hint.unwrap_or_default()
            ),
        ));
    }
    if folders.len() > MAX_CLASSES {
        return Err(Error::data(
            root,
            format!("{} sub-folders, at most {MAX_CLASSES} classes are supported", folders.len()),
        ));
    }
    let (mut names, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in folders.iter().enumerate() {
        let (files, deeper) = entries(&root.join(class))?;
        let before = names.len();
        let has_texts = files.iter().any(|name| is_text(name));
        names.extend(files.into_iter().filter(|name| kind(name).is_some()).map(|name| format!("{class}/{name}")));
        if names.len() == before {
            let hint = match deeper.first() {
                Some(_) => format!("; its sub-folders may be the classes: try {}", root.join(class).display()),
                None if has_texts => {
                    "; texts of all classes go into one .tsv file, a line each, with columns called label and text"
                        .into()
                }
                None => String::new(),
            };
            return Err(Error::data(
                root.join(class),
                format!("no pictures (jpg, png, bmp) and no wav files in this class{hint}"),
            ));
        }
        labels.resize(names.len(), label as i64);
    }
    let sound = one_kind(&names, root)?.unwrap_or(false);
    let files = Files { root: root.to_path_buf(), place: root.to_path_buf(), names, sound };
    Ok(Listed { files, classes: Some((labels, folders)) })
}

/// The first of `folders` that has pictures or sounds.
fn with_files<'a>(root: &Path, folders: &'a [String]) -> Result<Option<&'a str>> {
    for folder in folders {
        if entries(&root.join(folder))?.0.iter().any(|name| kind(name).is_some()) {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

/// Names of files and of folders in byte order; hidden ones are passed over.
pub(super) fn entries(folder: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let path = entry.path();
        let name =
            entry.file_name().into_string().map_err(|_| Error::data(&path, "the name is not UTF-8: rename it"))?;
        if name.starts_with('.') {
            continue;
        }
        let kind = fs::metadata(&path).map_err(Error::io(&path))?; // follows links
        if kind.is_dir() {
            folders.push(name);
        } else if kind.is_file() {
            files.push(name);
        }
    }
    files.sort_unstable();
    folders.sort_unstable();
    Ok((files, folders))
}

/// Whether a file is sound (`true`) or a picture, by its name; `None` for others.
fn kind(name: &str) -> Option<bool> {
    let extension = Path::new(name).extension()?.to_str()?.to_lowercase();
    if extension == "wav" { Some(true) } else { PICTURES.contains(&extension.as_str()).then_some(false) }
}

/// Whether a file may hold texts, by its name.
fn is_text(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("txt") || e.eq_ignore_ascii_case("tsv"))
}

fn one_kind(names: &[String], root: &Path) -> Result<Option<bool>> {
    let sound = names.iter().filter(|name| kind(name) == Some(true)).count();
    let pictures = names.iter().filter(|name| kind(name) == Some(false)).count();
    match (sound, pictures) {
        (0, 0) => Ok(None),
        _ if sound == names.len() => Ok(Some(true)),
        _ if pictures == names.len() => Ok(Some(false)),
        _ => Err(Error::data(
            root,
            format!(
                "{pictures} pictures, {sound} wav files and {} others: one kind is needed",
                names.len() - sound - pictures
            ),
        )),
    }
}
