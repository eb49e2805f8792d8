//! The idx format of the MNIST files, plain or gzip: a big endian header, then the elements in C order.
//!
//! Format: <http://yann.lecun.com/exdb/mnist/>, "the IDX file format". A gzip file is unpacked once into an unnamed
//! temporary file, after its declared size was checked, so that rows can be read in any order.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::npy::ArrayFile;
use super::values::ElementType;
use crate::error::{Error, Result};

/// Most bytes that a compressed array may unpack to.
pub const MAX_UNPACKED_BYTES: u64 = 8 << 30;

/// Deflate cannot shrink by more than this factor, so a header that promises more is false.
const MAX_RATIO: u64 = 1040;

/// Opens an idx file; `.gz` is seen by its content.
///
/// # Errors
/// [`Error::Io`], [`Error::Malformed`] for another format or a file cut short, [`Error::TooLarge`] beyond
/// [`MAX_UNPACKED_BYTES`].
pub fn open(path: &Path) -> Result<ArrayFile> {
    let mut file = super::open_plain(path)?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut magic = [0; 2];
    let n = file.read(&mut magic).map_err(Error::io(path))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
    if n == 2 && magic == [0x1f, 0x8b] {
        let mut decoder = MultiGzDecoder::new(BufReader::new(file));
        let header = read_header(&mut decoder, path)?;
        let expected = header.data_bytes;
        check_unpacked(path, expected, length)?;
        let mut unpacked = tempfile::tempfile().map_err(Error::io(std::env::temp_dir()))?;
        let copied = copy(&mut decoder.take(expected), &mut unpacked, path)?;
        if copied < expected {
            return Err(cut_short(path, &header.shape, expected, copied));
        }
        return Ok(ArrayFile::from_parts(unpacked, path, header.element, header.shape, 0));
    }
    let header = read_header(&mut file, path)?;
    let start = header.bytes;
    if length - start.min(length) < header.data_bytes {
        return Err(cut_short(path, &header.shape, header.data_bytes, length - start.min(length)));
    }
    Ok(ArrayFile::from_parts(file, path, header.element, header.shape, start))
}

/// Refuses a declared size that the packed bytes cannot give, or that is beyond [`MAX_UNPACKED_BYTES`].
pub(super) fn check_unpacked(path: &Path, declared: u64, packed: u64) -> Result<()> {
    if declared > MAX_UNPACKED_BYTES {
        return Err(Error::TooLarge {
            path: path.to_path_buf(),
            what: "the unpacked array".into(),
            needs: format!("{declared} bytes"),
            limit: format!("{MAX_UNPACKED_BYTES} bytes"),
        });
    }
    if declared / MAX_RATIO > packed {
        return Err(Error::malformed(
            path,
            format!("declares {declared} bytes, which {packed} packed bytes cannot hold"),
        ));
    }
    Ok(())
}

/// Copies with the two kinds of failure kept apart: bad input names `path`, a full disk names the temporary folder.
pub(super) fn copy(from: &mut impl Read, to: &mut File, path: &Path) -> Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::malformed(path, format!("cannot be unpacked: {e}"))),
        };
        to.write_all(&buffer[..n]).map_err(Error::io(std::env::temp_dir()))?;
        total += n as u64;
    }
}

struct Header {
    element: ElementType,
    shape: Vec<usize>,
    bytes: u64,
    data_bytes: u64,
}

fn read_header(file: &mut impl Read, path: &Path) -> Result<Header> {
    let mut read = |bytes: &mut [u8]| {
        file.read_exact(bytes).map_err(|e| Error::malformed(path, format!("cut short inside the idx header ({e})")))
    };
    let mut magic = [0; 4];
    read(&mut magic)?;
    let [0, 0, kind, axes] = magic else {
        return Err(Error::malformed(path, "not an idx file: it does not begin with two zero bytes"));
    };
    let element = match kind {
        0x08 => ElementType::U8,
        0x09 => ElementType::I8,
        0x0b => ElementType::I16,
        0x0c => ElementType::I32,
        0x0d => ElementType::F32,
        0x0e => ElementType::F64,
        _ => return Err(Error::malformed(path, format!("idx element type {kind:#04x} is not known"))),
    };
    if axes == 0 || axes > 8 {
        return Err(Error::malformed(path, format!("an idx file with {axes} axes (1 to 8 are supported)")));
    }
    let mut shape = Vec::new();
    let mut data_bytes = element.size_bytes() as u64;
    for _ in 0..axes {
        let mut dim = [0; 4];
        read(&mut dim)?;
        let dim = u32::from_be_bytes(dim);
        data_bytes = data_bytes
            .checked_mul(u64::from(dim))
            .filter(|n| *n < 1 << 62)
            .ok_or_else(|| Error::malformed(path, "its shape is larger than any file"))?;
        shape.push(dim as usize);
    }
    if data_bytes == 0 {
        return Err(Error::malformed(path, format!("the array is empty (shape {shape:?})")));
    }
    Ok(Header { element, shape, bytes: 4 + 4 * u64::from(axes), data_bytes })
}

fn cut_short(path: &Path, shape: &[usize], expected: u64, got: u64) -> Error {
    Error::malformed(
        path,
        format!("cut short: shape {shape:?} needs {expected} bytes after the header, there are {got}"),
    )
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::data::Values;

    fn example() -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend(0..24);
        bytes
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn open_bytes(bytes: &[u8]) -> Result<ArrayFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        open(file.path())
    }

    #[test]
    fn plain_and_packed_files_give_the_same_rows() {
        for bytes in [example(), gz(&example())] {
            let mut array = open_bytes(&bytes).unwrap();
            assert_eq!(array.shape(), [4, 2, 3]);
            assert_eq!(array.row(2).unwrap(), Values::U8((12..18).collect()));
        }
        let mut wide = open_bytes(&[0, 0, 0x0b, 1, 0, 0, 0, 1, 0xff, 0xfe]).unwrap();
        assert_eq!(wide.row(0).unwrap(), Values::I16(vec![-2]));
    }

    #[test]
    fn false_sizes_are_refused_before_anything_is_unpacked() {
        let mut bomb = vec![0, 0, 8, 3];
        bomb.extend([0xff; 12]);
        let error = |bytes: &[u8]| open_bytes(bytes).unwrap_err().to_string();
        assert!(error(&bomb).contains("larger than any file"));
        bomb[4..16].copy_from_slice(&[0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 0, 1]);
        assert!(error(&bomb).contains("cut short"));
        assert!(error(&gz(&bomb)).contains("cannot hold"));
        bomb[12..16].copy_from_slice(&[0, 0, 0, 9]);
        assert!(error(&gz(&bomb)).contains("limit is"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn mutated_bytes_never_panic(at in 0..40_usize, value: u8, cut in 1..=40_usize, packed: bool) {
            let mut bytes = example();
            if packed { bytes = gz(&bytes); }
            let at = at.min(bytes.len() - 1);
            bytes[at] = value;
            bytes.truncate(cut.max(at));
            if let Ok(mut array) = open_bytes(&bytes) {
                prop_assert!(array.row(array.rows() - 1).is_ok());
            }
        }
    }
}
