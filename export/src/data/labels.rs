//! Labels of rows and names of classes, from whatever holds them.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::npy::ArrayFile;
use super::{idx, npz};
use crate::error::{Error, Result};

/// Most classes of a source; a label beyond is taken for a mistake.
pub const MAX_CLASSES: usize = 65_536;
/// Longest line of a text file of names.
const MAX_LINE_BYTES: u64 = 4096;
/// Columns that hold a label when nothing else is said, in this order.
pub(super) const LABEL_COLUMNS: [&str; 5] = ["label", "class", "class_index", "target", "y"];

/// Labels as they are written, before they are matched with class names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Labels {
    Numbers(Vec<i64>),
    Names(Names),
}

/// A text a row, each different one kept once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// In the order in which they came.
    different: Vec<String>,
    /// Index into `different` of each row.
    rows: Vec<u32>,
}

/// Makes labels of the texts of rows that come one after the other.
#[derive(Debug, Default)]
pub(super) struct Collector {
    known: HashMap<String, u32>,
    rows: Vec<u32>,
}

impl Collector {
    pub fn push(&mut self, text: &str) {
        let code = match self.known.get(text) {
            Some(code) => *code,
            None => {
                let code = self.known.len() as u32;
                self.known.insert(text.to_owned(), code);
                code
            }
        };
        self.rows.push(code);
    }

    /// Number of different texts.
    pub fn different(&self) -> usize {
        self.known.len()
    }

    /// Texts that are all whole numbers are numbers.
    pub fn finish(self) -> Labels {
        let mut different = vec![String::new(); self.known.len()];
        self.known.into_iter().for_each(|(text, code)| different[code as usize] = text);
        match different.iter().map(|text| text.parse()).collect::<std::result::Result<Vec<i64>, _>>() {
            Ok(numbers) => Labels::Numbers(self.rows.iter().map(|code| numbers[*code as usize]).collect()),
            Err(_) => Labels::Names(Names { different, rows: self.rows }),
        }
    }
}

/// Rows of a csv file that names files.
#[derive(Debug)]
pub(super) struct List {
    pub files: Vec<String>,
    pub labels: Option<Labels>,
}

/// Reads one label a row from `.npy`, `.npz`, idx(.gz), `.csv` (`column` or one that is called `label`) or lines of text.
pub(super) fn read(path: &Path, column: Option<&str>) -> Result<Labels> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if name.ends_with(".npy") {
        from_array(ArrayFile::open(path)?, path)
    } else if name.ends_with(".npz") {
        match npz::member(path, &["y", "labels", "label"])? {
            Some(member) => from_array(member, path),
            None => Err(Error::data(path, "the archive has no member y, labels or label")),
        }
    } else if is_idx(&name) {
        from_array(idx::open(path)?, path)
    } else if name.ends_with(".csv") {
        let (records, header) = records(path)?;
        let width = records.first().map_or(0, csv::StringRecord::len);
        let at = match label_column(path, header.as_ref(), width, column)? {
            Some(at) => at,
            None if width == 1 => 0,
            None if width == 2 => 1,
            None => return Err(which_column(path, header.as_ref())),
        };
        Ok(from_texts(records.iter().map(|r| r.get(at).unwrap_or_default().trim())))
    } else {
        Ok(from_texts(lines(path)?))
    }
}

/// Labels from an array with one whole number a row.
pub(super) fn from_array(mut array: ArrayFile, path: &Path) -> Result<Labels> {
    if array.row_shape().iter().any(|d| *d != 1) {
        return Err(Error::Shape {
            what: path.display().to_string(),
            expected: "one label a row".into(),
            got: format!("{:?}", array.shape()),
        });
    }
    let numbers = array.all()?.to_i64();
    numbers
        .map(Labels::Numbers)
        .ok_or_else(|| Error::data(path, format!("labels must be whole numbers, the array holds {}", array.element())))
}

/// Reads a csv file with a column of file names (`file`, `path` or `filename`, else the first) and maybe labels.
pub(super) fn read_list(path: &Path, column: Option<&str>) -> Result<List> {
    let (records, header) = records(path)?;
    let width = records.first().map_or(0, csv::StringRecord::len);
    let file = header.as_ref().and_then(|h| find(h, &["file", "path", "filename"])).unwrap_or(0);
    let label = match label_column(path, header.as_ref(), width, column)? {
        Some(at) => Some(at),
        None if width == 2 => Some(1 - file.min(1)),
        None if width == 1 => None,
        None => return Err(which_column(path, header.as_ref())),
    };
    let cell = |record: &csv::StringRecord, at: usize| record.get(at).unwrap_or_default().trim().to_owned();
    let files: Vec<String> = records.iter().map(|r| cell(r, file)).collect();
    let labels = label.map(|at| from_texts(records.iter().map(|r| cell(r, at))));
    Ok(List { files, labels })
}

/// Whether the first line of a csv file names a column of files.
pub(super) fn is_list(path: &Path) -> bool {
    let mut line = String::new();
    let Ok(file) = super::open_plain(path) else { return false };
    let read = BufReader::new(file.take(MAX_LINE_BYTES)).read_line(&mut line);
    read.is_ok() && line.split(',').any(|c| matches!(c.trim().trim_matches('"'), "file" | "path" | "filename"))
}

/// One class name a line; empty lines at the end are dropped.
pub(super) fn read_names(path: &Path) -> Result<Vec<String>> {
    let mut names = lines(path)?;
    while names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    if names.is_empty() || names.len() > MAX_CLASSES {
        return Err(Error::data(path, format!("{} class names, 1 to {MAX_CLASSES} are expected", names.len())));
    }
    let mut seen = BTreeSet::new();
    for (line, name) in names.iter().enumerate() {
        if name.is_empty() || !seen.insert(name) {
            return Err(Error::data(path, format!("line {}: class name '{name}' is empty or repeated", line + 1)));
        }
    }
    Ok(names)
}

/// Matches labels with class names. Without names they are the numbers up to the largest, or the texts in byte order.
pub(super) fn resolve(
    labels: Labels,
    names: Option<Vec<String>>,
    offset: i64,
    path: &Path,
) -> Result<(Vec<usize>, Vec<String>)> {
    let labels = match labels {
        Labels::Numbers(numbers) => numbers,
        Labels::Names(Names { different, rows }) => {
            let names = names.unwrap_or_else(|| {
                let mut names = different.clone();
                names.sort_unstable();
                names
            });
            let known: HashMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
            let classes: Vec<Option<usize>> = different.iter().map(|text| known.get(text.as_str()).copied()).collect();
            let numbers = rows.iter().enumerate().map(|(row, code)| {
                classes[*code as usize].ok_or_else(|| {
                    let text = &different[*code as usize];
                    Error::data(path, format!("row {row}: '{text}' is not among the classes {}", shown(&names)))
                })
            });
            return Ok((numbers.collect::<Result<_>>()?, names));
        }
    };
    let limit = names.as_ref().map_or(MAX_CLASSES, Vec::len);
    let mut numbers = Vec::with_capacity(labels.len());
    for (row, label) in labels.iter().enumerate() {
        match label.checked_add(offset).and_then(|l| usize::try_from(l).ok()).filter(|l| *l < limit) {
            Some(label) => numbers.push(label),
            None => {
                let plus = if offset == 0 { String::new() } else { format!(" with offset {offset}") };
                return Err(Error::data(
                    path,
                    format!("row {row}: label {label}{plus} is out of range, there are {limit} classes"),
                ));
            }
        }
    }
    let names =
        names.unwrap_or_else(|| (0..=numbers.iter().copied().max().unwrap_or(0)).map(|n| n.to_string()).collect());
    Ok((numbers, names))
}

pub(super) fn is_idx(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.ends_with("-ubyte") || name.ends_with(".idx") || name.contains("-idx")
}

/// One text a row.
pub(super) fn from_texts(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Labels {
    let mut labels = Collector::default();
    texts.into_iter().for_each(|text| labels.push(text.as_ref()));
    labels.finish()
}

/// The column that was asked for by name or number, or one that is known to hold labels.
pub(super) fn label_column(
    path: &Path,
    header: Option<&csv::StringRecord>,
    width: usize,
    column: Option<&str>,
) -> Result<Option<usize>> {
    let Some(wanted) = column else {
        return Ok(header.and_then(|h| find(h, &LABEL_COLUMNS)));
    };
    let by_name = header.and_then(|h| find(h, &[wanted]));
    match by_name.or_else(|| wanted.parse().ok().filter(|at| *at < width)) {
        Some(at) => Ok(Some(at)),
        None => Err(Error::data(path, format!("there is no column '{wanted}'; {}", columns(header, width)))),
    }
}

pub(super) fn find(header: &csv::StringRecord, names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| header.iter().position(|cell| cell.trim().eq_ignore_ascii_case(name)))
}

fn columns(header: Option<&csv::StringRecord>, width: usize) -> String {
    match header {
        Some(header) => format!("its columns are {}", header.iter().collect::<Vec<_>>().join(", ")),
        None => format!("it has {width} columns without names, counted from 0"),
    }
}

fn which_column(path: &Path, header: Option<&csv::StringRecord>) -> Error {
    Error::data(
        path,
        format!(
            "no column is called {}; name one as FILE.csv#COLUMN ({})",
            LABEL_COLUMNS.join(" or "),
            columns(header, 0)
        ),
    )
}

/// All records of a csv file; the first is a header when one of its cells is a name that is looked for.
fn records(path: &Path) -> Result<(Vec<csv::StringRecord>, Option<csv::StringRecord>)> {
    let file = super::open_plain(path)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(false).from_reader(BufReader::new(file));
    let mut records: Vec<csv::StringRecord> =
        reader.records().collect::<csv::Result<_>>().map_err(|e| Error::malformed(path, e.to_string()))?;
    if records.is_empty() {
        return Err(Error::data(path, "no rows"));
    }
    let names = LABEL_COLUMNS.iter().chain(&["file", "path", "filename"]);
    let is_header = names.clone().any(|name| find(&records[0], &[name]).is_some());
    let header = is_header.then(|| records.remove(0));
    if records.is_empty() {
        return Err(Error::data(path, "no rows after the header"));
    }
    Ok((records, header))
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let file = super::open_plain(path)?;
    let mut reader = BufReader::new(file);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let n = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(Error::io(path))?;
        if n == 0 {
            return Ok(lines);
        }
        if n as u64 == MAX_LINE_BYTES {
            return Err(Error::malformed(
                path,
                format!("line {} is longer than {MAX_LINE_BYTES} bytes", lines.len() + 1),
            ));
        }
        let text = String::from_utf8(line)
            .map_err(|_| Error::malformed(path, format!("line {} is not UTF-8", lines.len() + 1)))?;
        lines.push(text.trim().to_owned());
    }
}

fn shown(names: &[String]) -> String {
    let more = if names.len() > 12 { format!(", … ({} in all)", names.len()) } else { String::new() };
    names.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_and_stay_in_their_rows() {
        let texts = ["b", "a", "b", "7"];
        let labels = from_texts(texts);
        assert!(matches!(&labels, Labels::Names(names) if names.different.len() == 3));
        let (rows, names) = resolve(labels.clone(), None, 0, Path::new("y")).unwrap();
        assert!(rows.iter().map(|class| names[*class].as_str()).eq(texts));
        assert_eq!(names, ["7", "a", "b"]);
        let named = resolve(labels, Some(vec!["a".into(), "b".into()]), 0, Path::new("y")).unwrap_err().to_string();
        assert!(named.contains("row 3: '7' is not among the classes a, b"), "{named}");
        assert_eq!(from_texts(["2", "-1", "02", "2"]), Labels::Numbers(vec![2, -1, 2, 2]));
    }
}
