//! Kernels for microcontrollers: weights are used where they lie in flash, and the arena is all the memory that they want.
//!
//! Everything around the inner loops is Rust and the same for all; the inner loops come in three forms, of which build.rs chooses one for
//! the processor that is built for: with the DSP extension (Cortex-M4, M7, M33 and others that are built with it), whose `smlad` makes
//! two products at once; for Thumb-2 without it (Cortex-M3, M33 without DSP); and in Rust, for Cortex-M0 and for the tests.
//! What they cannot take (tensors at odd addresses, accumulators that are to be shifted left) the generic kernels compute.
#![allow(unsafe_code)]

#[cfg(feature = "f16")]
use super::generic::half;
use super::{Tier, generic};

mod conv;
mod dense;
mod depthwise;
mod elementwise;
mod instructions;
mod layer;
mod micro;
mod patches;
mod pool;

pub use conv::CONV;
pub use dense::{DENSE, DENSE_FLOAT};
pub use depthwise::DEPTHWISE;
pub use elementwise::ADD;
pub use pool::{AVERAGE_POOL, MAX_POOL, MEAN_FLOAT};

/// Every operator, for microcontrollers.
pub static TIER: Tier = Tier {
    name: micro::NAME,
    kernels: kernels![
        half; &CONV, &DEPTHWISE, &DENSE, &ADD, &generic::MUL, &MAX_POOL, &AVERAGE_POOL, &generic::TABLE, &DENSE_FLOAT, &MEAN_FLOAT
    ],
    quantize: generic::quantize,
    halve: generic::halve,
};
