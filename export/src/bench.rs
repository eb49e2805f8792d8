//! What providers take for a bundle, measured so that the numbers can be trusted.
//!
//! Every provider runs in processes of its own ([`worker`]): ONNX Runtime can be loaded once a process, and memory is then that of one
//! provider. Rounds are interleaved ([`run`]), warm-up is watched rather than assumed, and two processes of the same tell what the
//! machine's noise is.

pub mod agree;
pub mod compare;
pub mod cross;
mod machine;
#[cfg(feature = "onnx")]
mod original;
pub mod preflight;
pub mod profile;
pub mod protocol;
pub mod run;
pub mod stats;
pub mod worker;

pub use machine::Machine;
