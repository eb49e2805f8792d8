//! The header of a `.npy` file: magic, version, and a Python dictionary with type, order and shape.

use std::io::Read;
use std::path::Path;

use crate::data::values::ElementType;
use crate::error::{Error, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// numpy itself refuses headers beyond 10 000 bytes.
const MAX_HEADER_BYTES: usize = 65_536;
const MAX_AXES: usize = 32;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub element: ElementType,
    pub big_endian: bool,
    pub fortran: bool,
    pub shape: Vec<usize>,
    pub data_start: u64,
    pub data_bytes: u64,
}

impl Header {
    pub fn read(file: &mut impl Read, path: &Path) -> Result<Self> {
        let bad = |why: String| Error::malformed(path, why);
        let mut read = |n: usize| -> Result<Vec<u8>> {
            let mut bytes = vec![0; n];
            match file.read_exact(&mut bytes) {
                Ok(()) => Ok(bytes),
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Err(bad("cut short inside the header of a .npy file".into()))
                }
                Err(e) => Err(Error::io(path)(e)),
            }
        };
        let start = read(8)?;
        if &start[..6] != MAGIC {
            return Err(bad("not a .npy file: it does not begin with \\x93NUMPY".into()));
        }
        let (length_bytes, length) = match start[6] {
            1 => (2, read(2)?.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b))),
            2 | 3 => (4, read(4)?.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b))),
            version => return Err(bad(format!("version {version} of the .npy format is not known (1 to 3 are)"))),
        };
        if length > MAX_HEADER_BYTES {
            return Err(bad(format!("a header of {length} bytes, the limit is {MAX_HEADER_BYTES}")));
        }
        let text = read(length)?;
        let text = std::str::from_utf8(&text).map_err(|_| bad("the header is not text".into()))?;
        let (descr, fortran, shape) = parse(text).map_err(|why| bad(format!("header: {why}")))?;
        let (element, big_endian) = element(&descr).map_err(bad)?;
        let data_bytes = shape
            .iter()
            .try_fold(element.size_bytes() as u64, |n, d| n.checked_mul(*d as u64))
            .filter(|n| *n <= i64::MAX as u64 / 2)
            .ok_or_else(|| bad(format!("shape {shape:?} is larger than any file")))?;
        if data_bytes == 0 {
            return Err(bad(format!("the array is empty (shape {shape:?})")));
        }
        Ok(Self { element, big_endian, fortran, shape, data_start: (8 + length_bytes + length) as u64, data_bytes })
    }
}

/// `<f4`, `|u1`, `>i2`, …: element type, and whether big endian.
fn element(descr: &str) -> Result<(ElementType, bool), String> {
    let (order, kind) = match descr.strip_prefix(['<', '>', '|', '=']) {
        Some(kind) => (descr.as_bytes()[0], kind),
        None => (b'=', descr),
    };
    let element = match kind {
        "u1" | "b1" => ElementType::U8,
        "i1" => ElementType::I8,
        "u2" => ElementType::U16,
        "i2" => ElementType::I16,
        "u4" => ElementType::U32,
        "i4" => ElementType::I32,
        "i8" => ElementType::I64,
        "f2" => ElementType::F16,
        "f4" => ElementType::F32,
        "f8" => ElementType::F64,
        "O" => return Err("holds Python objects (pickle), which are never loaded; save numbers instead".into()),
        other => {
            return Err(format!(
                "element type '{other}' is not supported (u1 i1 u2 i2 u4 i4 i8 f2 f4 f8 are): convert with .astype('float32')"
            ));
        }
    };
    Ok((element, order == b'>'))
}

pub(super) fn encode(descr: &str, shape: &[usize]) -> Vec<u8> {
    let mut dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    if shape.len() > 1 {
        dims.truncate(dims.len() - 2);
    }
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    // The elements begin at a multiple of 64 bytes; the header ends with a newline.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 11;
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// Parses the dictionary: exactly the keys `descr`, `fortran_order`, `shape`, in any order.
fn parse(text: &str) -> Result<(String, bool, Vec<usize>), String> {
    let mut rest = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or("not a dictionary")?.trim();
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = string(rest)?;
        let value = after.trim_start().strip_prefix(':').ok_or("a key without a value")?.trim_start();
        rest = match key {
            "descr" => {
                if value.starts_with('[') {
                    return Err("a table of named fields; save one plain array".into());
                }
                let (value, after) = string(value)?;
                descr = Some(value.to_owned());
                after
            }
            "fortran_order" => {
                if let Some(after) = value.strip_prefix("True") {
                    fortran = Some(true);
                    after
                } else {
                    fortran = Some(false);
                    value.strip_prefix("False").ok_or("fortran_order is neither True nor False")?
                }
            }
            "shape" => {
                let (dims, after) =
                    value.strip_prefix('(').and_then(|t| t.split_once(')')).ok_or("shape is no tuple")?;
                shape = Some(tuple(dims)?);
                after
            }
            other => return Err(format!("unknown key '{}'", other.escape_debug())),
        }
        .trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.is_empty() => rest,
            None => return Err("values are not separated by commas".into()),
        };
    }
    Ok((descr.ok_or("no 'descr'")?, fortran.ok_or("no 'fortran_order'")?, shape.ok_or("no 'shape'")?))
}

fn string(text: &str) -> Result<(&str, &str), String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or("a string was expected")?;
    text[1..].split_once(quote).ok_or_else(|| "a string without an end".into())
}

fn tuple(dims: &str) -> Result<Vec<usize>, String> {
    let mut shape = Vec::new();
    for dim in dims.split(',').map(str::trim).filter(|d| !d.is_empty()) {
        if shape.len() == MAX_AXES {
            return Err(format!("more than {MAX_AXES} axes"));
        }
        // Python 2 wrote long numbers with an L.
        let digits = dim.strip_suffix('L').unwrap_or(dim);
        shape.push(digits.parse().map_err(|_| format!("'{}' is not a size", dim.escape_debug()))?);
    }
    Ok(shape)
}
