//! Borrowed views of flat bytes.
//!
//! ```
//! use hone_runtime::tensor::Rows;
//!
//! let rows = Rows::new(&[1, 2, 3, 4, 5, 6], 3)?;
//! assert_eq!(rows.len(), 2);
//! assert_eq!(rows.get(1), Some(&[4, 5, 6][..]));
//! # Ok::<(), hone_runtime::Error>(())
//! ```

use crate::error::{Error, Result};

/// N rows of `row_bytes` bytes each, one after the other: embeddings of shots, canaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
}

impl<'a> Rows<'a> {
    /// Refuses rows of no bytes, and bytes that are not a whole number of rows.
    pub fn new(bytes: &'a [u8], row_bytes: usize) -> Result<Self> {
        if row_bytes == 0 {
            return Err(Error::Malformed { what: "rows", why: "a row has no bytes" });
        }
        if !bytes.len().is_multiple_of(row_bytes) {
            return Err(Error::Shape {
                what: "bytes of whole rows",
                expected: bytes.len().next_multiple_of(row_bytes),
                got: bytes.len(),
            });
        }
        Ok(Self { bytes, row_bytes })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// All rows, flat.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Row `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let start = index.checked_mul(self.row_bytes)?;
        self.bytes.get(start..start.checked_add(self.row_bytes)?)
    }

    /// The rows in order.
    pub fn iter(&self) -> core::slice::ChunksExact<'a, u8> {
        self.bytes.chunks_exact(self.row_bytes)
    }
}

impl<'a> IntoIterator for Rows<'a> {
    type Item = &'a [u8];
    type IntoIter = core::slice::ChunksExact<'a, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.bytes.chunks_exact(self.row_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_rows_only() {
        assert_eq!(Rows::new(&[0; 7], 3).unwrap_err().code(), "shape");
        assert_eq!(Rows::new(&[0; 7], 0).unwrap_err().code(), "malformed");
        assert!(Rows::new(&[], 3).unwrap().is_empty());
    }

    #[test]
    fn access_is_checked() {
        let rows = Rows::new(&[1, 2, 3, 4], 2).unwrap();
        assert_eq!(rows.get(2), None);
        assert_eq!(rows.get(usize::MAX), None);
        assert!(rows.into_iter().eq([&[1, 2][..], &[3, 4]]));
    }
}
