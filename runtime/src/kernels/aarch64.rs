//! Kernels for AArch64. int8 results are those of [`super::generic`], bit for bit.
//!
//! | tier | needs | multiplies with |
//! |---|---|---|
//! | `neon` | every AArch64 (Cortex-A53, A57, A72, A73) | `smull`, `smlal` on bytes, `sadalp` |
//! | `dotprod` | Armv8.2 FEAT_DotProd (Cortex-A55, A75 and later) | `sdot` by element |
//! | `i8mm` | Armv8.6 FEAT_I8MM (Cortex-A510, A710 and later) | `smmla`; `sdot` for dense layers |
//!
//! Convolutions read their input where it lies, or from a copy with its border ([`bands`]); nothing is gathered. A tile of output
//! pixels and output channels stays in registers ([`tile`]) over the whole depth. Weights are read from the plan in place, in its
//! blocks of 4 outputs × 4 inputs, which is what `sdot` takes; they are repacked for `smmla`, for depthwise layers, and where
//! a run of inputs is no multiple of 4 bytes.
//!
//! The tiers are private, so that holding one proves that the processor has what it needs.
//!
//! Pad, Transpose, Resize, Concat, Reshape, Softmax and the f32 operators without weights move few bytes: they are the portable ones.
#![allow(
    unsafe_code,
    reason = "vector instructions, and loads and stores of vectors; every block says why it is sound"
)]

mod bands;
mod conv;
mod dense;
mod depthwise;
mod dotprod;
mod elementwise;
mod i8mm;
mod neon;
mod pack;
mod pool;
mod quantize;
mod tile;
mod vector;

#[cfg(feature = "f16")]
use super::half;
use super::{Tier, generic};

/// Every AArch64 can run it.
#[must_use]
pub fn neon() -> &'static Tier {
    &NEON
}

/// Where the processor has FEAT_DotProd; without the standard library, where the program was compiled for it.
#[must_use]
pub fn dotprod() -> Option<&'static Tier> {
    #[cfg(feature = "std")]
    let has = std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(feature = "std"))]
    let has = cfg!(target_feature = "dotprod");
    has.then_some(&DOTPROD)
}

/// Where the processor has FEAT_I8MM beside FEAT_DotProd; without the standard library, where the program was compiled for both.
#[must_use]
pub fn i8mm() -> Option<&'static Tier> {
    #[cfg(feature = "std")]
    let has = std::arch::is_aarch64_feature_detected!("i8mm");
    #[cfg(not(feature = "std"))]
    let has = cfg!(target_feature = "i8mm");
    dotprod().and(has.then_some(&I8MM))
}

/// Every tier, fastest first; `None` where the processor lacks what it needs.
#[must_use]
pub fn tiers() -> [(&'static str, Option<&'static Tier>); 3] {
    [(I8MM.name, i8mm()), (DOTPROD.name, dotprod()), (NEON.name, Some(neon()))]
}

/// A tier from its kernels with weights; the others are the same in all.
macro_rules! tier {
    ($name:ident, $text:literal, $module:ident) => {
        static $name: Tier = Tier {
            name: $text,
            kernels: kernels![
                half;
                &$module::CONV,
                &depthwise::DEPTHWISE,
                &$module::DENSE,
                &elementwise::ADD,
                &elementwise::MUL,
                &pool::MAX_POOL,
                &pool::AVERAGE_POOL,
                &elementwise::TABLE,
                &$module::DENSE_FLOAT,
                &generic::MEAN_FLOAT,
            ],
            quantize: quantize::quantize,
            #[cfg(feature = "f16")]
            halve: half::halve,
            #[cfg(not(feature = "f16"))]
            halve: generic::halve,
        };
    };
}

tier!(NEON, "neon", neon);
tier!(DOTPROD, "dotprod", dotprod);
tier!(I8MM, "i8mm", i8mm);
