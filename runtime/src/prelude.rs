//! The one place that imports `no-std-compat`: what `std`'s prelude would give, as far as this build has it.
//!
//! Without features this is `core`'s prelude; with `alloc` it adds `Box`, `String`, `Vec`, `ToOwned`, `ToString`
//! and the macros `format!` and `vec!`. The crate behind it is no longer maintained, so everything else names
//! `core::` and `alloc::` itself, and replacing this file removes the dependency.

#[allow(unused_imports, reason = "without alloc nothing beyond core's own prelude is left to import")]
pub(crate) use no_std_compat::prelude::v1::*;
