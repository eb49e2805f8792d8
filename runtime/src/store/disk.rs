//! The store on a file system: one file per generation, in one folder.
//!
//! A commit writes a temporary file, syncs it, reads it back, adds the commit word, syncs again, renames it to its own
//! name and syncs the folder; so a generation's name only ever leads to whole, checked bytes. Damaged files are
//! reported, skipped and left where they are, until a commit that keeps nothing but itself. Nothing but a commit ever writes.

use core::fmt;
use core::num::NonZeroUsize;
use std::io;
use std::path::Path;

#[allow(unused_imports, reason = "String, Vec, ToString, format!")]
use crate::prelude::*;

use super::record::COMMIT_WORD;
use super::volume::{Folder, Volume};
use super::{Action, Draft, Entry, Generation, Record};
use crate::Fingerprint;
use crate::error::{Error, Result};

/// Generations kept unless [`Store::with_keep`] says otherwise.
pub const DEFAULT_KEEP: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Largest record that is read or written: bounds what a hostile folder can cost.
pub const MAX_RECORD_BYTES: u64 = 256 << 20;

const PREFIX: &str = "gen-";
const SUFFIX: &str = ".hgen";
const TEMPORARY_SUFFIX: &str = ".hgen.tmp";

/// Something about the store that its owner should know and that did not stop it from working.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub cause: Error,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; left as it is and not used", self.path, self.cause)
    }
}

/// The generations of one device's head. Opening and reading change nothing on the volume.
#[derive(Debug)]
pub struct Store<V = Folder> {
    volume: V,
    backbone: Fingerprint,
    keep: NonZeroUsize,
    /// Valid generations, oldest first.
    history: Vec<Entry>,
    active: Option<Generation>,
    warnings: Vec<Warning>,
    /// Names of damaged generations.
    damaged: Vec<String>,
    /// Highest number that any file has, valid or not; the next commit's is one more.
    newest: u32,
}

impl Store {
    /// Opens the store in the folder `path`. A missing folder is an empty store, made at the first commit.
    ///
    /// Every generation is checked; the highest valid one is active. Refuses a store whose generations were made for
    /// another backbone than `backbone`, one with a generation that cannot be read, and one that has generations and none that is
    /// whole: a cut in power leaves neither.
    pub fn open(path: impl AsRef<Path>, backbone: Fingerprint) -> Result<Self> {
        Store::open_on(Folder::new(path.as_ref()), backbone)
    }
}

impl<V: Volume> Store<V> {
    /// Opens a store on any volume.
    pub fn open_on(volume: V, backbone: Fingerprint) -> Result<Self> {
        let mut store = Self {
            volume,
            backbone,
            keep: DEFAULT_KEEP,
            history: Vec::new(),
            active: None,
            warnings: Vec::new(),
            damaged: Vec::new(),
            newest: 0,
        };
        for (number, name, plain) in store.generation_files()? {
            store.newest = number;
            match store.load(number, &name, plain) {
                Ok((entry, generation)) => {
                    store.history.push(entry);
                    store.active = Some(generation);
                }
                // What cannot be read now may be whole: going on without it would answer with another head, or bury it.
                Err(error @ (Error::FingerprintMismatch { .. } | Error::File { .. })) => return Err(error),
                Err(cause) => {
                    store.warn(&name, cause);
                    if plain {
                        store.damaged.push(name);
                    }
                }
            }
        }
        match store.warnings.first() {
            Some(warning) if store.active.is_none() => {
                Err(Error::StoreDamaged { path: warning.path.clone(), cause: warning.cause.to_string() })
            }
            _ => Ok(store),
        }
    }

    /// The same store, keeping the newest `keep` generations instead of [`DEFAULT_KEEP`]; older ones go at the next commit.
    #[must_use]
    pub fn with_keep(mut self, keep: NonZeroUsize) -> Self {
        self.keep = keep;
        self
    }

    /// The generation in use; `None`: the bundle's own head is.
    #[must_use]
    pub fn active(&self) -> Option<&Generation> {
        self.active.as_ref()
    }

    /// Every valid generation, oldest first; the last one is active.
    #[must_use]
    pub fn history(&self) -> &[Entry] {
        &self.history
    }

    /// Damaged or unreadable files found at opening, and old generations that could not be removed since.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Whether the next commit will leave nothing but itself: it keeps one generation, and there is something to remove.
    #[must_use]
    pub fn prunes_others(&self) -> bool {
        self.keep.get() == 1 && (self.history.len() > 1 || !self.damaged.is_empty())
    }

    /// The volume that it is on.
    #[must_use]
    pub fn volume(&self) -> &V {
        &self.volume
    }

    /// The backbone whose heads this store keeps.
    #[must_use]
    pub fn backbone(&self) -> Fingerprint {
        self.backbone
    }

    /// Reads and checks one generation of the history.
    pub fn read(&self, number: u32) -> Result<Generation> {
        if !self.history.iter().any(|entry| entry.number == number) {
            return Err(self.unknown(number));
        }
        match &self.active {
            Some(active) if active.number == number => Ok(active.clone()),
            _ => self.load(number, &file_name(number), true).map(|(_, generation)| generation),
        }
    }

    /// Stores `draft` as a new generation and makes it the active one; returns its number.
    ///
    /// After an error the generation that was active still is, here and on the volume. Then drops what [`Self::with_keep`]
    /// does not keep.
    pub fn commit(&mut self, draft: &Draft<'_>) -> Result<u32> {
        let (number, bytes) = self.prepare(draft)?;
        let locked = self.volume.lock();
        let Some(_lock) = self.explain("lock it for writing", None, locked)? else {
            return Err(Error::StoreBusy { path: self.volume.place() });
        };
        let found = self.generation_files()?.last().map_or(0, |(number, ..)| *number);
        if found != self.newest {
            return Err(Error::StoreChanged { path: self.volume.place(), found });
        }
        self.write(number, &bytes)?;

        let record = Record::parse(&bytes)?;
        self.newest = number;
        self.history.push(Entry::new(&record, bytes.len()));
        self.active = Some(Generation::from(&record));
        self.prune();
        Ok(number)
    }

    /// Commits a new generation with the content of generation `to`, its head and its shots. `time` as in [`Draft`].
    pub fn rollback(&mut self, to: u32, time: Option<u64>) -> Result<u32> {
        let old = self.read(to)?;
        old.with_draft(Action::RolledBack { to }, time, |draft| self.commit(draft))
    }

    /// The generation's file names in order of their numbers.
    fn generation_files(&self) -> Result<Vec<(u32, String, bool)>> {
        let listed = self.explain("read the folder", None, self.volume.list())?;
        let mut files: Vec<_> = listed
            .into_iter()
            .filter_map(|file| Some((number_in(&file.name, SUFFIX)?, file.name, file.plain)))
            .collect();
        files.sort_unstable();
        Ok(files)
    }

    fn load(&self, number: u32, name: &str, plain: bool) -> Result<(Entry, Generation)> {
        if !plain {
            return Err(Error::Malformed { what: "generation", why: "not a plain file" });
        }
        let bytes = self.explain("read", Some(name), self.volume.read(name, MAX_RECORD_BYTES))?;
        let record = Record::parse(&bytes)?;
        if record.number != number {
            return Err(Error::Malformed { what: "generation", why: "its number is not that of its file's name" });
        }
        if record.backbone != self.backbone {
            return Err(Error::FingerprintMismatch { head: record.backbone, backbone: self.backbone });
        }
        Ok((Entry::new(&record, bytes.len()), Generation::from(&record)))
    }

    /// The record of `draft` under the next number.
    fn prepare(&self, draft: &Draft<'_>) -> Result<(u32, Vec<u8>)> {
        let parent = self.active.as_ref().map_or(0, |active| active.number);
        let exhausted =
            Error::Bounds { what: "number of a generation", value: 1 << 32, min: 1, max: u64::from(u32::MAX) };
        let number = self.newest.checked_add(1).ok_or(exhausted)?;
        let len = draft.record_bytes()?;
        if len as u64 > MAX_RECORD_BYTES {
            return Err(Error::Bounds {
                what: "bytes of a generation",
                value: len as u64,
                min: 0,
                max: MAX_RECORD_BYTES,
            });
        }
        let mut bytes = vec![0; len];
        draft.emit(number, parent, self.backbone, &mut bytes)?;
        Ok((number, bytes))
    }

    /// Puts `bytes` under the name of generation `number`, safe from a power cut at any point.
    fn write(&mut self, number: u32, bytes: &[u8]) -> Result<()> {
        let listed = self.volume.list();
        for file in self.explain("read the folder", None, listed)? {
            if number_in(&file.name, TEMPORARY_SUFFIX).is_some() {
                let removed = self.volume.remove(&file.name);
                self.explain("remove the leftover of an unfinished commit", Some(&file.name), removed)?;
            }
        }
        let (temporary, name) = (format!("{PREFIX}{number:08}{TEMPORARY_SUFFIX}"), file_name(number));
        let written = self.write_temporary(&temporary, bytes).and_then(|()| {
            let renamed = self.volume.rename(&temporary, &name);
            self.explain("rename to its own name", Some(&temporary), renamed)
        });
        if let Err(error) = written {
            // Best effort: a leftover is ignored when the store is opened and removed by the next commit.
            let _ = self.volume.remove(&temporary);
            return Err(error);
        }
        let synced = self.volume.sync_names();
        if let Err(error) = self.explain("sync the folder", None, synced) {
            // What may not survive a power cut must not count as committed. Where even this removal fails, the next
            // commit finds a number that it does not expect and says that the store has changed.
            let _ = self.volume.remove(&name);
            return Err(error);
        }
        Ok(())
    }

    fn write_temporary(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let body = bytes.strip_suffix(&COMMIT_WORD).unwrap_or(bytes);
        let created = self.volume.create(name);
        self.explain("create", Some(name), created)?;
        let appended = self.volume.append(name, body);
        self.explain("write", Some(name), appended)?;
        let synced = self.volume.sync(name);
        self.explain("sync", Some(name), synced)?;
        let read_back = self.volume.read(name, MAX_RECORD_BYTES);
        if self.explain("read back", Some(name), read_back)? != body {
            let other = io::Error::new(io::ErrorKind::InvalidData, "other bytes came back than were written");
            return self.explain("trust the medium", Some(name), Err(other));
        }
        let appended = self.volume.append(name, &COMMIT_WORD);
        self.explain("write", Some(name), appended)?;
        let synced = self.volume.sync(name);
        self.explain("sync", Some(name), synced)
    }

    /// Removes the oldest generations beyond what is kept; what cannot be removed becomes a warning, since the commit
    /// before it holds.
    fn prune(&mut self) {
        let surplus = self.history.len().saturating_sub(self.keep.get());
        let surplus: Vec<Entry> = self.history.drain(..surplus).collect();
        for entry in surplus {
            let name = file_name(entry.number);
            let removed = self.volume.remove(&name);
            if let Err(cause) = self.explain("remove an old generation", Some(&name), removed) {
                self.warn(&name, cause);
            }
        }
        // A damaged generation may hold shots that are to be gone; where others are kept, it may still be rescued by hand.
        if self.keep.get() == 1 {
            for name in core::mem::take(&mut self.damaged) {
                let removed = self.volume.remove(&name);
                if let Err(cause) = self.explain("remove a damaged generation", Some(&name), removed) {
                    self.warn(&name, cause);
                }
            }
        }
    }

    fn warn(&mut self, name: &str, cause: Error) {
        self.warnings.push(Warning { path: self.path(Some(name)), cause });
    }

    fn unknown(&self, generation: u32) -> Error {
        let [oldest, newest] =
            [self.history.first(), self.history.last()].map(|end| end.map_or(0, |entry| entry.number));
        Error::UnknownGeneration { generation, oldest, newest }
    }

    fn path(&self, name: Option<&str>) -> String {
        let place = self.volume.place();
        name.map_or_else(|| place.clone(), |name| Path::new(&place).join(name).display().to_string())
    }

    fn explain<T>(&self, doing: &'static str, name: Option<&str>, result: io::Result<T>) -> Result<T> {
        result.map_err(|error| Error::File { path: self.path(name), doing, why: error.to_string() })
    }
}

fn file_name(number: u32) -> String {
    format!("{PREFIX}{number:08}{SUFFIX}")
}

/// The number in a name that [`file_name`] would give, or its temporary twin.
fn number_in(name: &str, suffix: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(suffix)?;
    let number: u32 = digits.parse().ok()?;
    (number > 0 && format!("{number:08}") == digits).then_some(number)
}
