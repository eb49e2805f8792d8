//! x86-64: AVX2, AVX-VNNI, AVX-512-VNNI. Every int8 kernel gives the bits of [`generic`].
//!
//! A tier can be had only where the processor has what its kernels need, which is what their `unsafe` blocks rely on. Beyond that every
//! kernel checks the sizes that its pointers rely on itself: a safe caller can hand it any [`crate::plan::Op`] and any memory.
#![allow(unsafe_code, reason = "vector instructions")]

mod bands;
mod conv;
mod depthwise;
mod elementwise;
mod input;
mod pack;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod peak;
mod pool;
mod product;
mod simd;

use super::{Kernel, Tier, generic};
use crate::plan::Code;
use product::{Avx2, Isa};

const fn conv<I: Isa>() -> Kernel {
    Kernel {
        code: Code::Conv,
        packed_bytes: pack::packed_bytes::<I>,
        pack: pack::pack::<I>,
        workspace_bytes: conv::workspace_bytes::<I>,
        run: conv::conv::<I>,
    }
}

const fn dense<I: Isa>() -> Kernel {
    Kernel {
        code: Code::Dense,
        workspace_bytes: conv::dense_workspace_bytes::<I>,
        run: conv::dense::<I>,
        ..conv::<I>()
    }
}

const fn dense_float<I: Isa>() -> Kernel {
    Kernel { code: Code::DenseFloat, run: conv::dense_float::<I>, ..dense::<I>() }
}

static AVX2: Tier = Tier {
    name: "avx2",
    kernels: &[
        &conv::<Avx2>(),
        &depthwise::DEPTHWISE,
        &dense::<Avx2>(),
        &elementwise::ADD,
        &elementwise::MUL,
        &pool::MAX_POOL,
        &pool::AVERAGE_POOL,
        &generic::TABLE,
        &generic::SOFTMAX,
        &generic::PAD,
        &generic::TRANSPOSE,
        &generic::RESIZE,
        &generic::CONCAT,
        &dense_float::<Avx2>(),
        &generic::SOFTMAX_FLOAT,
        &generic::RESHAPE,
        &generic::DEQUANTIZE,
        &pool::MEAN_FLOAT,
    ],
    quantize: input::quantize,
};

/// Where the processor has AVX2.
#[must_use]
pub fn avx2() -> Option<&'static Tier> {
    std::arch::is_x86_feature_detected!("avx2").then_some(&AVX2)
}

/// Every tier, fastest first; `None` where the processor lacks what it needs.
pub(super) fn tiers() -> [(&'static str, Option<&'static Tier>); 1] {
    [(AVX2.name, avx2())]
}
