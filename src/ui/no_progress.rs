//! In the place of `progress` in the build for devices: nothing is shown.

/// Shows nothing.
pub struct Progress;

impl Progress {
    pub fn new(_shown: bool) -> Self {
        Self
    }

    pub fn at(&mut self, _what: &str, _done: usize, _of: usize) {}
}
