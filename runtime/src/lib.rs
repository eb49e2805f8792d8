//! hone-runtime: runs a quantized backbone, tunes its head on the device, stores what was learned. `no_std`.
//!
//! The modules are the stages of the pipeline, in order; each uses those above it (and a provider is loaded from a [`bundle`]):
//!
//! - [`quant`], [`tensor`]: scale and zero point, fixed-point requantization; borrowed views of rows
//! - [`plan`]: the backbone compiled for the native engine, read in place
//! - [`kernels`]: what computes; `generic` is the specification
//! - [`engine`]: walks a plan over one caller-owned arena
//! - [`backbone`]: input → embedding, by a provider (`tract` behind its feature)
//! - [`head`]: embedding → class scores; one flat record, read in place
//! - [`tune`]: from shots to a head
//! - [`store`]: generations of the head, safe from power cuts, with rollback
//! - [`bundle`]: `NAME.hone`, everything a device needs in one file; reader without alloc, writer with it
//! - [`session`]: load, predict, teach, tune, commit, roll back, in one value (feature `std`)
//!
//! Features: none runs on a Cortex-M0 without an allocator; `alloc` adds owned buffers and the bundle writer;
//! `std` adds files and `std::error`; `tract` adds the desktop provider. Nothing here panics on bad input and
//! nothing reads a byte that it has not checked.
#![no_std]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod bytes;
mod prelude;

pub mod error;
pub mod plan;
pub mod quant;
pub mod tensor;

pub mod kernels;

pub mod engine;

pub mod backbone;
pub mod head;
pub mod tune;

pub mod store;

pub mod bundle;

#[cfg(feature = "std")]
pub mod session;

pub use backbone::{Backbone, Fingerprint};
pub use bundle::Bundle;
pub use error::{Error, Result};
pub use head::{HeadView, Prediction};
pub use quant::{EmbeddingSpec, QuantParams};
#[cfg(feature = "std")]
pub use session::Session;
