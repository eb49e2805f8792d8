//! The one error type of this crate.

/// What can go wrong on a device. Carries no owned text, so that it costs nothing without an allocator.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer or file is shorter than what it declares.
    #[error("{what}: cut short, {needs} bytes needed, {has} there")]
    Truncated {
        /// Which structure.
        what: &'static str,
        /// Bytes needed.
        needs: usize,
        /// Bytes there.
        has: usize,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// Stable identifier, as printed by `--json` and listed in `docs/cli.md`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
        }
    }
}
