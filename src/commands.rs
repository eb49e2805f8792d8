//! The subcommands: each calls the libraries and prints.

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(not(feature = "bench"))]
#[path = "commands/bench_native.rs"]
pub mod bench;
#[cfg(feature = "bench")]
pub mod doctor;
pub mod eval;
#[cfg(feature = "export")]
pub mod export;
pub mod head;
#[cfg(feature = "export")]
pub mod inspect;
#[cfg(feature = "export")]
mod original;
pub mod predict;
#[cfg(feature = "ort")]
pub mod providers;
#[cfg(feature = "export")]
pub mod quickstart;
pub mod tune;
