//! The one error type of this crate. Every variant has a stable [`Error::code`].
//!
//! ```
//! let error = hone_runtime::HeadView::parse(b"HNHD").unwrap_err();
//! assert_eq!(error.code(), "truncated");
//! ```

#[allow(unused_imports, reason = "String, where there is an allocator")]
use crate::prelude::*;

use crate::backbone::Fingerprint;

/// What can go wrong on a device. Without the feature `alloc` it carries no owned text, only numbers and names.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or record is shorter than what it declares.
    #[error("{what}: cut short, {needs} bytes needed, {has} there")]
    Truncated {
        /// Which structure.
        what: &'static str,
        /// Bytes needed.
        needs: usize,
        /// Bytes there.
        has: usize,
    },
    /// A file or record does not begin with its format's magic.
    #[error("{what}: not one of ours, it begins with {found:02x?}")]
    BadMagic {
        /// Which structure.
        what: &'static str,
        /// The first bytes found.
        found: [u8; 4],
    },
    /// A format version that this build does not read.
    #[error("{what}: format version {found}, this build reads {supported}; update hone or export again")]
    Version {
        /// Which structure.
        what: &'static str,
        /// Version found.
        found: u16,
        /// Version that this build reads.
        supported: u16,
    },
    /// A checksum does not match: the bytes were damaged.
    #[error("{what}: damaged, its CRC32 is {computed:08x} instead of {stored:08x}")]
    Crc {
        /// Which structure.
        what: &'static str,
        /// As stored.
        stored: u32,
        /// As computed over the bytes.
        computed: u32,
    },
    /// A number is outside what the format or this build allows.
    #[error("{what}: {value} is outside {min}..={max}")]
    Bounds {
        /// Which number.
        what: &'static str,
        /// The number.
        value: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// A structure contradicts itself or its format.
    #[error("{what}: {why}")]
    Malformed {
        /// Which structure.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A bundle lacks a section that is needed.
    #[error("the bundle has no {what}")]
    Missing {
        /// Which section.
        what: &'static str,
    },
    /// A bundle has a mandatory section that this build does not know.
    #[error("the bundle needs section kind {kind}, which this build does not know; update hone")]
    UnknownSection {
        /// The section's kind.
        kind: u16,
    },
    /// A buffer of the caller's is too small.
    #[error("{what}: the buffer holds {has}, {needs} needed")]
    Buffer {
        /// What it is for.
        what: &'static str,
        /// Elements or bytes needed.
        needs: usize,
        /// Elements or bytes there.
        has: usize,
    },
    /// A head was made for another backbone.
    #[error("the head was made for backbone {head}, this one is {backbone}; tune again on this backbone")]
    FingerprintMismatch {
        /// The backbone that the head names.
        head: Fingerprint,
        /// The backbone at hand.
        backbone: Fingerprint,
    },
    /// A head answers otherwise on another provider than the one that it was tuned on.
    #[cfg(feature = "alloc")]
    #[error("the head does not hold on {provider}: {drift}, at least {:.1} % are needed; tune on {provider}", limit * 100.0)]
    Drift {
        /// The provider that it was to answer for.
        provider: String,
        /// What was measured.
        drift: crate::head::drift::Drift,
        /// Smallest share of answers that must stay the same.
        limit: f32,
    },
    /// A count of values does not fit.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// Which sizes.
        what: &'static str,
        /// Size expected.
        expected: usize,
        /// Size that came.
        got: usize,
    },
    /// A class index beyond the head's classes.
    #[error("class {class}: there are {classes} classes")]
    UnknownClass {
        /// The index.
        class: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// A label that the head or bundle does not know.
    #[cfg(feature = "alloc")]
    #[error("label '{label}' is not one of the {classes} classes")]
    UnknownLabel {
        /// The label.
        label: String,
        /// How many classes there are.
        classes: usize,
    },
    /// NaN or infinity where a finite number is needed.
    #[error("{what}: the value at index {index} is not finite")]
    NonFinite {
        /// Which values.
        what: &'static str,
        /// Flat index, row-major.
        index: usize,
    },
    /// A classifier cannot be tuned from shots of one class.
    #[error("all shots are of one class; add shots of at least one other class")]
    OneClass,
    /// A class of the head has neither shots nor canaries.
    #[error("class {class} has no shots; add shots of it or remove the class")]
    EmptyClass {
        /// Index of the class.
        class: usize,
    },
    /// There is nothing to learn from.
    #[error("there are no shots")]
    ZeroShots,
    /// The text form of a preprocessing record cannot be understood.
    #[cfg(feature = "alloc")]
    #[error("preprocessing '{text}': {why}")]
    PreprocessText {
        /// The part of the text at fault.
        text: String,
        /// What was expected.
        why: &'static str,
    },
    /// A tier of kernels lacks an operator of a plan.
    #[error("operator {index} of the plan is {op}, for which the kernels '{tier}' have none")]
    NoKernel {
        /// Place of the operator in the plan.
        index: usize,
        /// Name of its code.
        op: &'static str,
        /// Name of the tier.
        tier: &'static str,
    },
    /// A provider that this build does not have.
    #[cfg(feature = "std")]
    #[error("provider '{name}' is not in this build, which has: {}", crate::backbone::provider::names().join(", "))]
    UnknownProvider {
        /// The name asked for.
        name: String,
    },
    /// There is no tier of kernels of that name, or this processor cannot run it.
    #[cfg(feature = "std")]
    #[error("kernels '{name}': {why} them; there are: {available}")]
    UnknownKernel {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        why: &'static str,
        /// Names of the tiers that this processor can run.
        available: String,
    },
    /// A provider could not load or run the backbone.
    #[cfg(feature = "alloc")]
    #[error("provider {provider}: {why}")]
    Provider {
        /// Name of the provider.
        provider: &'static str,
        /// What it said.
        why: String,
    },
    /// A file or folder could not be read or written.
    #[cfg(feature = "std")]
    #[error("{path}: cannot {doing}: {why}")]
    File {
        /// The file or folder.
        path: String,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        why: String,
    },
    /// Another process is committing to the same store.
    #[cfg(feature = "std")]
    #[error("{path}: another process is writing to this store; try again when it has finished")]
    StoreBusy {
        /// The store's folder.
        path: String,
    },
    /// A store has generations, and none of them is whole. A cut in power does not do that.
    #[cfg(feature = "std")]
    #[error("{path}: {cause}; no generation of this store is whole")]
    StoreDamaged {
        /// The oldest file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Another process committed since the store was opened.
    #[cfg(feature = "std")]
    #[error("{path}: generation {found} was committed by someone else since the store was opened; open it again")]
    StoreChanged {
        /// The store's folder.
        path: String,
        /// The newest generation there now.
        found: u32,
    },
    /// A generation that the store does not hold.
    #[error("generation {generation} is not in the store, which holds {oldest} to {newest}")]
    UnknownGeneration {
        /// The generation asked for.
        generation: u32,
        /// Oldest generation held; 0: none.
        oldest: u32,
        /// Newest generation held; 0: none.
        newest: u32,
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
            Self::BadMagic { .. } => "bad-magic",
            Self::Version { .. } => "version",
            Self::Crc { .. } => "crc",
            Self::Bounds { .. } => "bounds",
            Self::Malformed { .. } => "malformed",
            Self::Missing { .. } => "missing-section",
            Self::UnknownSection { .. } => "unknown-section",
            Self::Buffer { .. } => "buffer",
            Self::FingerprintMismatch { .. } => "fingerprint-mismatch",
            #[cfg(feature = "alloc")]
            Self::Drift { .. } => "drift",
            Self::Shape { .. } => "shape",
            Self::UnknownClass { .. } => "unknown-class",
            #[cfg(feature = "alloc")]
            Self::UnknownLabel { .. } => "unknown-label",
            Self::NonFinite { .. } => "non-finite",
            Self::OneClass => "one-class",
            Self::EmptyClass { .. } => "empty-class",
            Self::ZeroShots => "zero-shots",
            #[cfg(feature = "alloc")]
            Self::PreprocessText { .. } => "preprocess-text",
            Self::NoKernel { .. } => "no-kernel",
            #[cfg(feature = "std")]
            Self::UnknownProvider { .. } => "unknown-provider",
            #[cfg(feature = "std")]
            Self::UnknownKernel { .. } => "unknown-kernel",
            #[cfg(feature = "alloc")]
            Self::Provider { .. } => "provider",
            #[cfg(feature = "std")]
            Self::File { .. } => "file",
            #[cfg(feature = "std")]
            Self::StoreBusy { .. } => "store-busy",
            #[cfg(feature = "std")]
            Self::StoreDamaged { .. } => "store-damaged",
            #[cfg(feature = "std")]
            Self::StoreChanged { .. } => "store-changed",
            Self::UnknownGeneration { .. } => "unknown-generation",
        }
    }
}
