//! hone-runtime: runs a quantized backbone, tunes its head, stores what was learned. `no_std`.
#![no_std]
#[cfg(feature = "std")]
extern crate std as std_crate;

pub mod error;
pub use error::{Error, Result};
