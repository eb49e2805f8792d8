//! A disk in memory that loses power or space where a test says so, and then keeps as little as a real one may.
//!
//! Appended bytes are safe after `sync` of their file, names after `sync_names`. A power cut leaves of everything else
//! what an [`Aftermath`] picks: nothing, all of it, torn or wrong bytes, and names in any combination.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use hone_runtime::store::volume::{FileInfo, Volume};

/// What goes wrong, counted over the operations that change the volume.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// The power fails in operation `at`; an append gets `bytes` bytes written first.
    Cut {
        at: usize,
        bytes: usize,
    },
    /// Operation `at` alone fails; an append gets `bytes` bytes written first.
    Once {
        at: usize,
        bytes: usize,
        kind: ErrorKind,
    },
    /// From operation `at` on nothing can be created or written; removing and renaming works.
    Full {
        at: usize,
    },
    /// From operation `at` on nothing works.
    Dead {
        at: usize,
    },
}

/// One operation that changed the volume, or tried to; how many bytes it meant to append.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub name: &'static str,
    pub bytes: usize,
}

/// What a power cut leaves of bytes that were not synced.
#[derive(Debug, Clone, Copy)]
pub enum Bytes {
    Lost,
    Kept,
    /// The length got through, the content is zero.
    Zeros,
    /// The length got through, the content is what the medium held before.
    Noise(u8),
    /// Of blocks of 16 bytes, those at even or odd places got through, the others are zero.
    Blocks {
        odd: bool,
    },
}

/// What a power cut leaves.
#[derive(Debug, Clone, Copy)]
pub struct Aftermath {
    pub bytes: Bytes,
    /// Bit i: the i-th unsynced change of a name got through.
    pub names: u32,
}

#[derive(Debug, Clone, Default)]
struct File {
    safe: usize,
    content: Vec<u8>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(String, usize),
    Drop(String),
}

#[derive(Debug, Clone, Default)]
struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    unsynced: Vec<NameChange>,
    steps: Vec<Step>,
    fault: Option<Fault>,
    powerless: bool,
    locked: bool,
}

/// A handle; clones show the same disk.
#[derive(Debug, Clone, Default)]
pub struct Medium(Rc<RefCell<Disk>>);

/// Unlocks when dropped.
pub struct Lock(Medium);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.0.borrow_mut().locked = false;
    }
}

impl Medium {
    /// An independent copy of everything.
    pub fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// Arms a fault and forgets the steps so far.
    pub fn arm(&self, fault: Fault) {
        let mut disk = self.0.borrow_mut();
        disk.steps.clear();
        disk.fault = Some(fault);
    }

    /// Operations that changed the volume, or tried to, since the last [`Medium::arm`].
    pub fn steps(&self) -> Vec<Step> {
        self.0.borrow().steps.clone()
    }

    /// Number of changes of names that a power cut may or may not let through.
    pub fn unsynced_names(&self) -> usize {
        self.0.borrow().unsynced.len()
    }

    /// The disk after a power cut and a restart.
    pub fn restart(&self, aftermath: Aftermath) -> Self {
        let old = self.0.borrow();
        let mut names = old.safe_names.clone();
        for (i, change) in old.unsynced.iter().enumerate() {
            if aftermath.names >> i & 1 == 1 {
                apply(&mut names, change);
            }
        }
        let files = old.files.iter().map(|file| survive(file, aftermath.bytes)).collect();
        Self(Rc::new(RefCell::new(Disk { files, safe_names: names.clone(), names, ..Disk::default() })))
    }

    pub fn names(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    /// Puts a file there, safely.
    pub fn plant(&self, name: &str, content: &[u8]) {
        let mut disk = self.0.borrow_mut();
        let index = disk.files.len();
        disk.files.push(File { safe: content.len(), content: content.to_vec() });
        disk.names.insert(name.into(), index);
        disk.safe_names.insert(name.into(), index);
    }

    /// Notes a step; says how many of `bytes` may be done and how the step fails after that, if it does.
    fn step(&self, name: &'static str, bytes: usize) -> (usize, io::Result<()>) {
        let mut disk = self.0.borrow_mut();
        let now = disk.steps.len();
        disk.steps.push(Step { name, bytes });
        let gone = || Err(io::Error::other("no power"));
        if disk.powerless {
            return (0, gone());
        }
        match disk.fault.unwrap_or(Fault::None) {
            Fault::Cut { at, bytes: done } if at == now => {
                disk.powerless = true;
                (done.min(bytes), gone())
            }
            Fault::Once { at, bytes: done, kind } if at == now => (done.min(bytes), Err(kind.into())),
            Fault::Full { at } if now >= at && matches!(name, "create" | "append" | "sync") => {
                (bytes / 2, Err(ErrorKind::StorageFull.into()))
            }
            Fault::Dead { at } if now >= at => (0, Err(ErrorKind::PermissionDenied.into())),
            _ => (bytes, Ok(())),
        }
    }

    fn change(&self, changes: &[NameChange]) {
        let mut disk = self.0.borrow_mut();
        for change in changes {
            apply(&mut disk.names, change);
            disk.unsynced.push(change.clone());
        }
    }

    fn index(&self, name: &str) -> io::Result<usize> {
        self.0.borrow().names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Add(name, index) => names.insert(name.clone(), *index),
        NameChange::Drop(name) => names.remove(name),
    };
}

fn survive(file: &File, bytes: Bytes) -> File {
    let (safe, rest) = file.content.split_at(file.safe);
    let mut content = safe.to_vec();
    let blocks = rest.iter().enumerate();
    match bytes {
        Bytes::Lost => {}
        Bytes::Kept => content.extend_from_slice(rest),
        Bytes::Zeros => content.resize(file.content.len(), 0),
        Bytes::Noise(seed) => content.extend(blocks.map(|(i, _)| (i as u8).wrapping_mul(151) ^ seed)),
        Bytes::Blocks { odd } => {
            content.extend(blocks.map(|(i, byte)| if (i / 16 % 2 == 1) == odd { *byte } else { 0 }));
        }
    }
    File { safe: content.len(), content }
}

impl Volume for Medium {
    type Lock = Lock;

    fn place(&self) -> String {
        "medium".into()
    }

    fn list(&self) -> io::Result<Vec<FileInfo>> {
        let disk = self.0.borrow();
        let info = |(name, index): (&String, &usize)| FileInfo {
            name: name.clone(),
            bytes: disk.files[*index].content.len() as u64,
            plain: true,
        };
        Ok(disk.names.iter().map(info).collect())
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        if self.0.borrow().powerless {
            return Err(io::Error::other("no power"));
        }
        let content = self.0.borrow().files[self.index(name)?].content.clone();
        if content.len() as u64 > limit { Err(ErrorKind::FileTooLarge.into()) } else { Ok(content) }
    }

    fn lock(&mut self) -> io::Result<Option<Lock>> {
        let mut disk = self.0.borrow_mut();
        Ok((!core::mem::replace(&mut disk.locked, true)).then(|| Lock(self.clone())))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.step("create", 0).1?;
        if self.index(name).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let index = self.0.borrow().files.len();
        self.0.borrow_mut().files.push(File::default());
        self.change(&[NameChange::Add(name.into(), index)]);
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (done, result) = self.step("append", bytes.len());
        let index = self.index(name)?;
        self.0.borrow_mut().files[index].content.extend_from_slice(&bytes[..done]);
        result
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.step("sync", 0).1?;
        let index = self.index(name)?;
        let file = &mut self.0.borrow_mut().files[index];
        file.safe = file.content.len();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step("rename", 0).1?;
        let index = self.index(from)?;
        // Two changes, so that an aftermath may even tear a renaming apart.
        self.change(&[NameChange::Add(to.into(), index), NameChange::Drop(from.into())]);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.step("remove", 0).1?;
        self.index(name)?;
        self.change(&[NameChange::Drop(name.into())]);
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.step("sync_names", 0).1?;
        let mut disk = self.0.borrow_mut();
        disk.safe_names = disk.names.clone();
        disk.unsynced.clear();
        Ok(())
    }
}
