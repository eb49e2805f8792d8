//! Optimized models on disk, so that the second load of a bundle skips what the first one did.
//!
//! An entry is one file: magic, CRC-32 and length of what follows, then an ONNX file that ONNX Runtime wrote. It appears by a rename, whole or
//! not at all; what does not check is made anew. Its name says what it was made for: the backbone's fingerprint, provider, library and
//! settings, and the processor, since optimized graphs hold layouts for one.

use std::format;
use std::fs;
use std::path::{Path, PathBuf};
use std::string::String;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

use super::{ExecutionProvider, Settings};
use crate::backbone::Fingerprint;
use crate::bytes::crc32;

const MAGIC: [u8; 8] = *b"\x89HOC\r\n\x1a\n";
const HEADER: usize = 16;
/// Larger entries are not read.
const MAX_BYTES: u64 = 1 << 31;

/// One place in a folder of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    path: PathBuf,
}

impl Entry {
    /// The entry of a backbone on a provider.
    pub fn new(
        folder: &Path,
        backbone: Fingerprint,
        provider: ExecutionProvider,
        library: &Path,
        settings: &Settings,
    ) -> Self {
        let made_for = format!(
            "{}|{}|{}|{}|{}",
            library.display(),
            fs::metadata(library).map_or(0, |meta| meta.len()),
            settings.precise,
            processor(),
            env!("CARGO_PKG_VERSION"),
        );
        let provider = provider.name().replace(':', "-");
        let path = folder.join(format!("{backbone}-{provider}-{:08x}.hone-cache", crc32(made_for.as_bytes())));
        Self { path }
    }

    /// The model; `None` where there is none, or none that is whole.
    pub fn read(&self) -> Option<Vec<u8>> {
        if fs::metadata(&self.path).ok()?.len() > MAX_BYTES {
            return None;
        }
        let mut bytes = fs::read(&self.path).ok()?;
        let header = bytes.get(..HEADER)?;
        let crc = u32::from_le_bytes(header.get(8..12)?.try_into().ok()?);
        let len = u32::from_le_bytes(header.get(12..16)?.try_into().ok()?);
        let body = bytes.get(HEADER..)?;
        let whole = header.starts_with(&MAGIC) && body.len() as u64 == u64::from(len) && crc32(body) == crc;
        whole.then(|| bytes.split_off(HEADER))
    }

    /// Where ONNX Runtime is to write the model that [`Entry::keep`] takes. The folder is made.
    pub fn draft(&self) -> Option<PathBuf> {
        fs::create_dir_all(self.path.parent()?).ok()?;
        // Sessions are made on several threads, and in several processes.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Some(self.path.with_extension(format!("{}-{number}.onnx", std::process::id())))
    }

    /// Takes in what was written to the draft. A cache that cannot be written is no failure: the next load does the work again.
    pub fn keep(&self, draft: &Path) {
        let _ = self.try_keep(draft);
        let _ = fs::remove_file(draft);
    }

    fn try_keep(&self, draft: &Path) -> std::io::Result<()> {
        let body = fs::read(draft)?;
        let len = u32::try_from(body.len()).map_err(std::io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend(MAGIC);
        bytes.extend(crc32(&body).to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(body);
        fs::write(draft, bytes)?;
        fs::rename(draft, &self.path)
    }

    /// Removes what was read and did not load.
    pub fn discard(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What optimized graphs depend on.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let [avx2, avx512, vnni, vnni512] = [
            std::is_x86_feature_detected!("avx2"),
            std::is_x86_feature_detected!("avx512bw"),
            std::is_x86_feature_detected!("avxvnni"),
            std::is_x86_feature_detected!("avx512vnni"),
        ];
        format!("x86-64 {avx2} {avx512} {vnni} {vnni512}")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_what_is_damaged_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("lib");
        fs::write(&library, b"library").unwrap();
        let entry = |backbone, settings: &Settings| {
            Entry::new(
                &folder.path().join("cache"),
                Fingerprint([backbone; 16]),
                ExecutionProvider::Cpu,
                &library,
                settings,
            )
        };
        let settings = Settings::default();
        let first = entry(1, &settings);
        assert_eq!(first.read(), None);
        let draft = first.draft().unwrap();
        fs::write(&draft, b"model").unwrap();
        first.keep(&draft);
        assert!(!draft.exists());
        assert_eq!(first.read().as_deref(), Some(&b"model"[..]));
        assert_eq!(entry(2, &settings).read(), None, "of another backbone");
        assert_eq!(entry(1, &Settings { precise: !settings.precise, ..settings.clone() }).read(), None);
        let whole = fs::read(&first.path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&first.path, &flipped).unwrap();
            assert_eq!(first.read(), None, "byte {at}");
            fs::write(&first.path, &whole[..at]).unwrap();
            assert_eq!(first.read(), None, "cut at {at}");
        }
        fs::write(&library, b"another library").unwrap();
        fs::write(&first.path, &whole).unwrap();
        assert_eq!(entry(1, &settings).read(), None, "of another library");
    }
}
