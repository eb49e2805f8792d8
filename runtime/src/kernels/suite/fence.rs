//! Buffers of exactly the size asked for, between pages that nobody may touch.
//!
//! A slice ends where the page behind it begins, or begins where the page before it ends: a vector load that reads beyond either end is
//! a fault, not luck. What lies between the slice and the other page is filled and compared, so that no byte there is written.

#![allow(unsafe_code, reason = "pages without access have no safe interface")]

const MARGIN: u8 = 0xA5;

/// At which end of the slice the forbidden page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The slice begins at a page.
    Before,
    /// The slice ends at a page, so that it may begin at any address.
    Behind,
}

/// A mapping that grows and is used again and again.
#[derive(Debug, Default)]
pub struct Fence {
    pages: Option<Pages>,
    used: core::ops::Range<usize>,
}

impl Fence {
    /// A slice of `len` bytes, each `fill`.
    pub fn get(&mut self, len: usize, side: Side, fill: u8) -> &mut [u8] {
        if self.pages.as_ref().is_none_or(|pages| pages.len < len) {
            // The old mapping goes first.
            self.pages = None;
            self.pages = Some(Pages::new(len.max(1 << 16)));
        }
        let all = self.pages.as_mut().unwrap().bytes();
        self.used = match side {
            Side::Before => 0..len,
            Side::Behind => all.len() - len..all.len(),
        };
        all.fill(MARGIN);
        all[self.used.clone()].fill(fill);
        &mut all[self.used.clone()]
    }

    /// The slice that was got last.
    pub fn used(&mut self) -> &mut [u8] {
        let used = self.used.clone();
        self.pages.as_mut().map_or(&mut [], |pages| &mut pages.bytes()[used])
    }

    /// As [`Fence::get`], for floats, which begin at a multiple of 4 bytes.
    pub fn floats(&mut self, len: usize, side: Side, fill: u8) -> &mut [f32] {
        // SAFETY: any four bytes are a float; the length and both ends are multiples of 4, so that nothing is cut off.
        let (before, floats, behind) = unsafe { self.get(4 * len, side, fill).align_to_mut() };
        assert!(before.is_empty() && behind.is_empty());
        floats
    }

    /// Whether all bytes outside the slice are as they were.
    pub fn is_unharmed(&mut self) -> bool {
        let used = self.used.clone();
        self.pages.as_mut().is_none_or(|pages| {
            let all = pages.bytes();
            all[..used.start].iter().chain(&all[used.end..]).all(|byte| *byte == MARGIN)
        })
    }
}

#[cfg(unix)]
#[derive(Debug)]
struct Pages {
    /// Of the first forbidden page.
    start: *mut libc::c_void,
    page: usize,
    len: usize,
}

#[cfg(unix)]
impl Pages {
    fn new(len: usize) -> Self {
        // SAFETY: no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let len = len.next_multiple_of(page);
        let (none, both) = (libc::PROT_NONE, libc::PROT_READ | libc::PROT_WRITE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
        // SAFETY: a new mapping at an address of the system's choice.
        let start = unsafe { libc::mmap(core::ptr::null_mut(), len + 2 * page, none, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "no memory for {len} bytes between pages");
        let pages = Self { start, page, len };
        // SAFETY: the pages between the first and the last of the mapping that was just made.
        let outcome = unsafe { libc::mprotect(pages.inside(), len, both) };
        assert_eq!(outcome, 0, "pages that cannot be made accessible");
        pages
    }

    fn inside(&self) -> *mut libc::c_void {
        self.start.wrapping_byte_add(self.page)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `len` readable, writable and initialized bytes that `self` alone owns.
        unsafe { core::slice::from_raw_parts_mut(self.inside().cast(), self.len) }
    }
}

#[cfg(unix)]
impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole mapping of `new`, which nobody else refers to.
        unsafe { libc::munmap(self.start, self.len + 2 * self.page) };
    }
}

/// Where there are no pages to forbid, the bytes around a slice are compared all the same.
#[cfg(not(unix))]
#[derive(Debug)]
struct Pages {
    bytes: std::vec::Vec<u8>,
    len: usize,
}

#[cfg(not(unix))]
impl Pages {
    fn new(len: usize) -> Self {
        Self { bytes: std::vec![0; len], len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
