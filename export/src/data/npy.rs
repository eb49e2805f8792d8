//! NumPy's `.npy`: one array in one file. Rows (entries along the first axis) are read where they lie, so memory does
//! not depend on how many there are.
//!
//! Format: numpy.lib.format, versions 1.0 to 3.0. Numbers of 1 to 8 bytes, either byte order, C and Fortran order.
//! Pickled objects are refused.
//!
//! ```
//! use hone_export::data::npy;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("x.npy");
//! npy::write(&path, &[2, 3], &[0_f32, 1.0, 2.0, 3.0, 4.0, 5.0])?;
//! let mut array = npy::ArrayFile::open(&path)?;
//! assert_eq!(array.shape(), [2, 3]);
//! assert_eq!(array.row(1)?.to_f32(), [3.0, 4.0, 5.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::values::{ElementType, Values};
use crate::error::{Error, Result};

mod header;

use header::Header;

/// Most bytes that one row may have; a row is held in memory.
pub const MAX_ROW_BYTES: u64 = 1 << 30;

/// A Fortran-order array is read in runs of about this length.
const FORTRAN_RUN_BYTES: usize = 1 << 20;

/// An open `.npy` file (or an array unpacked from an archive).
#[derive(Debug)]
pub struct ArrayFile {
    path: PathBuf,
    file: File,
    header: Header,
}

impl ArrayFile {
    /// Reads the header and checks it against the length of the file; no element is read yet.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] when the file is no array, is cut short or holds another element type.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_file(super::open_plain(path)?, path)
    }

    /// As [`ArrayFile::open`] on an open file; `path` only names it in errors.
    pub(crate) fn from_file(mut file: File, path: &Path) -> Result<Self> {
        let length = file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
        let header = Header::read(&mut file, path)?;
        let expected = header.data_start + header.data_bytes;
        if length < expected {
            return Err(Error::malformed(
                path,
                format!(
                    "cut short: shape {:?} of {} needs {expected} bytes, the file has {length}",
                    header.shape, header.element
                ),
            ));
        }
        Ok(Self { path: path.to_path_buf(), file, header })
    }

    /// An array of another format whose elements lie big endian and in C order from `data_start` to the end of
    /// `shape`; the caller has checked that the file is that long and that no axis is empty.
    pub(crate) fn from_parts(
        file: File,
        path: &Path,
        element: ElementType,
        shape: Vec<usize>,
        data_start: u64,
    ) -> Self {
        let data_bytes = shape.iter().map(|d| *d as u64).product::<u64>() * element.size_bytes() as u64;
        let header = Header { element, big_endian: true, fortran: false, shape, data_start, data_bytes };
        Self { path: path.to_path_buf(), file, header }
    }

    /// The file, as named in errors.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sizes of all axes, the rows first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.header.shape
    }

    /// Type of the elements.
    #[must_use]
    pub fn element(&self) -> ElementType {
        self.header.element
    }

    /// Number of rows: the size of the first axis; 1 for a single number.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.header.shape.first().copied().unwrap_or(1)
    }

    /// Sizes of the axes after the first.
    #[must_use]
    pub fn row_shape(&self) -> &[usize] {
        self.header.shape.get(1..).unwrap_or(&[])
    }

    /// Reads row `index`, in C order.
    ///
    /// # Errors
    /// [`Error::Data`] beyond the last row, [`Error::TooLarge`] for a row beyond [`MAX_ROW_BYTES`], [`Error::Io`].
    pub fn row(&mut self, index: usize) -> Result<Values> {
        let rows = self.rows();
        if index >= rows {
            return Err(Error::data(&self.path, format!("row {index} asked for, the array has {rows} rows")));
        }
        let row_bytes = self.header.data_bytes / rows as u64;
        if row_bytes > MAX_ROW_BYTES {
            return Err(Error::TooLarge {
                path: self.path.clone(),
                what: "one row".into(),
                needs: format!("{row_bytes} bytes"),
                limit: format!("{MAX_ROW_BYTES} bytes"),
            });
        }
        let bytes = if self.header.fortran && self.header.shape.len() > 1 {
            self.row_fortran(index, row_bytes as usize)?
        } else {
            let mut bytes = vec![0; row_bytes as usize];
            self.read_at(index as u64 * row_bytes, &mut bytes)?;
            bytes
        };
        Ok(Values::from_bytes(self.header.element, self.header.big_endian, &bytes))
    }

    /// Reads the whole array as one run of numbers in C order; for labels and row numbers.
    ///
    /// # Errors
    /// As [`ArrayFile::row`].
    pub fn all(&mut self) -> Result<Values> {
        if self.header.data_bytes > MAX_ROW_BYTES {
            return Err(Error::TooLarge {
                path: self.path.clone(),
                what: "the array".into(),
                needs: format!("{} bytes", self.header.data_bytes),
                limit: format!("{MAX_ROW_BYTES} bytes"),
            });
        }
        if !self.header.fortran || self.header.shape.len() < 2 {
            let mut bytes = vec![0; self.header.data_bytes as usize];
            self.read_at(0, &mut bytes)?;
            return Ok(Values::from_bytes(self.header.element, self.header.big_endian, &bytes));
        }
        let row_bytes = (self.header.data_bytes / self.rows() as u64) as usize;
        let mut bytes = Vec::with_capacity(self.header.data_bytes as usize);
        for row in 0..self.rows() {
            bytes.extend(self.row_fortran(row, row_bytes)?);
        }
        Ok(Values::from_bytes(self.header.element, self.header.big_endian, &bytes))
    }

    /// In Fortran order the elements of a row lie `rows` elements apart, the first axis of the row fastest.
    fn row_fortran(&mut self, index: usize, row_bytes: usize) -> Result<Vec<u8>> {
        let size = self.header.element.size_bytes();
        let group_bytes = self.rows() * size; // one element of every row
        let count = row_bytes / size;
        let mut stored = vec![0; row_bytes];
        if group_bytes > FORTRAN_RUN_BYTES {
            for (k, element) in stored.chunks_exact_mut(size).enumerate() {
                self.read_at((k * group_bytes + index * size) as u64, element)?;
            }
        } else {
            let run = (FORTRAN_RUN_BYTES / group_bytes).min(count);
            let mut buffer = vec![0; run * group_bytes];
            for (run_index, elements) in stored.chunks_mut(run * size).enumerate() {
                let groups = &mut buffer[..elements.len() / size * group_bytes];
                self.read_at((run_index * run * group_bytes) as u64, groups)?;
                for (element, group) in elements.chunks_exact_mut(size).zip(groups.chunks_exact(group_bytes)) {
                    element.copy_from_slice(&group[index * size..][..size]);
                }
            }
        }
        // From the first axis fastest to the last axis fastest.
        let shape = self.row_shape();
        let mut out = vec![0; row_bytes];
        for (k, element) in stored.chunks_exact(size).enumerate() {
            let (mut rest, mut to, mut stride) = (k, 0, count);
            for dim in shape {
                stride /= dim;
                to += rest % dim * stride;
                rest /= dim;
            }
            out[to * size..][..size].copy_from_slice(element);
        }
        Ok(out)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(self.header.data_start + offset))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(Error::io(&self.path))
    }
}

/// Element types that [`write()`] can write.
pub trait Element: Copy {
    /// The type's name in the header, little endian.
    const DESCR: &'static str;
    /// Appends the little endian bytes.
    fn put(self, bytes: &mut Vec<u8>);
}

macro_rules! element {
    ($($type:ty => $descr:literal),*) => {$(
        impl Element for $type {
            const DESCR: &'static str = $descr;
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
element!(f32 => "<f4", u8 => "|u1", i8 => "|i1", i32 => "<i4", i64 => "<i8", f64 => "<f8");

/// Writes an array in C order, version 1.0, little endian; an existing file is replaced.
///
/// # Errors
/// [`Error::Shape`] when `values` has not as many elements as `shape` says, [`Error::Io`].
pub fn write<T: Element>(path: impl AsRef<Path>, shape: &[usize], values: &[T]) -> Result<()> {
    let path = path.as_ref();
    let count = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
    if count != Some(values.len()) {
        return Err(Error::Shape {
            what: path.display().to_string(),
            expected: format!("{shape:?}"),
            got: format!("{} numbers", values.len()),
        });
    }
    let mut bytes = header::encode(T::DESCR, shape);
    for value in values {
        value.put(&mut bytes);
    }
    File::create(path).and_then(|mut file| file.write_all(&bytes)).map_err(Error::io(path))
}

#[cfg(test)]
mod tests;
