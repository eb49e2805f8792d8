//! NumPy's `.npz`: a zip archive of `.npy` members, stored or deflated. One member is unpacked, in a stream, into an
//! unnamed temporary file after its declared size was checked; memory does not depend on its size.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::idx::{check_unpacked, copy};
use super::npy::ArrayFile;
use crate::error::{Error, Result};

/// Opens the first member among `names` (without `.npy`); `None` when the archive has none of them.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] for what is no zip archive or a member that is cut short or no array;
/// [`Error::TooLarge`] for a member beyond [`super::idx::MAX_UNPACKED_BYTES`].
pub fn member(path: &Path, names: &[&str]) -> Result<Option<ArrayFile>> {
    let mut archive = archive(path)?;
    for name in names {
        if let Some(index) = archive.index_for_name(&format!("{name}.npy")) {
            return unpack(&mut archive, index, path).map(Some);
        }
    }
    Ok(None)
}

/// Opens the first member that is an array.
///
/// # Errors
/// As [`member`]; [`Error::Data`] when there is none.
pub fn first(path: &Path) -> Result<ArrayFile> {
    let mut archive = archive(path)?;
    let index =
        (0..archive.len()).find(|i| matches!(archive.name_for_index(*i), Some(Ok(name)) if name.ends_with(".npy")));
    match index {
        Some(index) => unpack(&mut archive, index, path),
        None => Err(Error::data(path, "no member of the archive is a .npy array")),
    }
}

fn archive(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    let file = super::open_plain(path)?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| failed(path, &e))
}

fn unpack(archive: &mut ZipArchive<BufReader<File>>, index: usize, path: &Path) -> Result<ArrayFile> {
    let member = archive.by_index(index).map_err(|e| failed(path, &e))?;
    let shown = path.join(String::from_utf8_lossy(member.name_raw()).escape_debug().to_string());
    let declared = member.size();
    check_unpacked(&shown, declared, member.compressed_size())?;
    let mut unpacked = tempfile::tempfile().map_err(Error::io(std::env::temp_dir()))?;
    let copied = copy(&mut member.take(declared.saturating_add(1)), &mut unpacked, &shown)?;
    if copied != declared {
        return Err(Error::malformed(
            &shown,
            format!("the archive declares {declared} bytes, unpacking gave {copied} or more"),
        ));
    }
    ArrayFile::from_file(unpacked, &shown)
}

fn failed(path: &Path, error: &ZipError) -> Error {
    Error::malformed(path, format!("not a readable .npz archive: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::data::{Values, npy};

    fn example(method: zip::CompressionMethod) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let member = folder.path().join("x.npy");
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, values) in [("y", vec![7_i32, 8]), ("x", vec![1, 2])] {
            npy::write(&member, &[2], &values).unwrap();
            zip.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(&std::fs::read(&member).unwrap()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn with<T>(bytes: &[u8], then: impl FnOnce(&Path) -> T) -> T {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        then(file.path())
    }

    #[test]
    fn members_are_found_by_name_stored_or_deflated() {
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            with(&example(method), |path| {
                let mut x = member(path, &["data", "x"]).unwrap().unwrap();
                assert_eq!(x.all().unwrap(), Values::I32(vec![1, 2]));
                assert!(member(path, &["z"]).unwrap().is_none());
                assert_eq!(first(path).unwrap().all().unwrap(), Values::I32(vec![7, 8]));
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn mutated_archives_never_panic(edits in proptest::collection::vec((0..1000_usize, any::<u8>()), 1..4), cut in 0..1000_usize, truncate: bool) {
            let mut bytes = example(zip::CompressionMethod::Deflated);
            let length = bytes.len();
            for (at, value) in edits {
                bytes[at % length] = value;
            }
            if truncate { bytes.truncate(cut % length); }
            with(&bytes, |path| {
                if let Ok(Some(mut x)) = member(path, &["x"]) {
                    prop_assert!(x.row(0).is_ok());
                }
                Ok(())
            })?;
        }
    }
}
