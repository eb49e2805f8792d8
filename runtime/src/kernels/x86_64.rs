//! x86-64: AVX2, AVX-VNNI, AVX-512-VNNI. Every int8 kernel gives the bits of [`generic`]; f16 takes F16C and FMA where the processor has
//! them, whatever the tier.
//!
//! A tier can be had only where the processor has what its kernels need, which is what their `unsafe` blocks rely on. Beyond that every
//! kernel checks the sizes that its pointers rely on itself: a safe caller can hand it any [`crate::plan::Op`] and any memory.
#![allow(unsafe_code, reason = "vector instructions")]

mod bands;
mod conv;
mod depthwise;
mod elementwise;
#[cfg(any(feature = "tract", feature = "ort"))]
pub(super) mod finite;
mod input;
mod isa;
mod pack;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod peak;
mod pool;
mod product;
mod simd;
mod winograd;

use super::generic::half as portable;
use super::{Kernel, Tier, generic, half};
use crate::plan::Code;
use isa::{Avx2, Avx2Row, Avx512Vnni, AvxVnni};
use product::Isa;

const fn conv<I: Isa>() -> Kernel {
    Kernel {
        code: Code::Conv,
        packed_bytes: pack::packed_bytes::<I>,
        pack: pack::pack::<I>,
        workspace_bytes: conv::workspace_bytes::<I>,
        run: conv::conv::<I>,
    }
}

/// Where `vpmaddwd` multiplies, Winograd's algorithm saves more products than it costs; four-way products leave nothing to save.
static AVX2_CONV: Kernel = Kernel {
    code: Code::Conv,
    packed_bytes: |op| if winograd::fits(op) { winograd::packed_bytes(op) } else { pack::packed_bytes::<Avx2>(op) },
    pack: |op, to| if winograd::fits(op) { winograd::pack(op, to) } else { pack::pack::<Avx2>(op, to) },
    workspace_bytes: |op| {
        if winograd::fits(op) { winograd::workspace_bytes(op) } else { conv::workspace_bytes::<Avx2>(op) }
    },
    run: |op, memory| if winograd::fits(op) { winograd::run(op, memory) } else { conv::conv::<Avx2>(op, memory) },
};

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

/// Two tiers of one name, with kernels for F16C and FMA and without them: tiers differ in their products.
macro_rules! tier {
    ($name:literal, $conv:expr, $dense:ty) => {
        Pair {
            fast: tier!($name, $conv, $dense, half, half::halve),
            portable: tier!($name, $conv, $dense, portable, generic::halve),
        }
    };
    ($name:literal, $conv:expr, $dense:ty, $half:ident, $halve:path) => {
        Tier {
            name: $name,
            kernels: kernels![
                $half;
                $conv,
                &depthwise::DEPTHWISE,
                &dense::<$dense>(),
                &elementwise::ADD,
                &elementwise::MUL,
                &pool::MAX_POOL,
                &pool::AVERAGE_POOL,
                &generic::TABLE,
                &dense_float::<$dense>(),
                &pool::MEAN_FLOAT,
            ],
            quantize: input::quantize,
            halve: $halve,
        }
    };
}

/// One tier, with kernels for F16C and FMA and without.
struct Pair {
    fast: Tier,
    portable: Tier,
}

impl Pair {
    /// Every processor with AVX2 that is known has F16C and FMA, but a virtual one may not show them.
    fn get(&self) -> &Tier {
        let is_fast = std::arch::is_x86_feature_detected!("f16c") && std::arch::is_x86_feature_detected!("fma");
        if is_fast { &self.fast } else { &self.portable }
    }
}

static AVX2: Pair = tier!("avx2", &AVX2_CONV, Avx2Row);
static AVX_VNNI: Pair = tier!("avxvnni", &conv::<AvxVnni>(), AvxVnni);
static AVX512_VNNI: Pair = tier!("avx512vnni", &conv::<Avx512Vnni>(), Avx512Vnni);

/// Where the processor has AVX2.
#[must_use]
pub fn avx2() -> Option<&'static Tier> {
    std::arch::is_x86_feature_detected!("avx2").then(|| AVX2.get())
}

/// Where the processor has AVX2 and AVX-VNNI.
#[must_use]
pub fn avxvnni() -> Option<&'static Tier> {
    (avx2().is_some() && std::arch::is_x86_feature_detected!("avxvnni")).then(|| AVX_VNNI.get())
}

/// Where the processor has AVX2, and of AVX-512 F, BW, VL and VNNI.
#[must_use]
pub fn avx512vnni() -> Option<&'static Tier> {
    let is_there = avx2().is_some()
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512vnni");
    is_there.then(|| AVX512_VNNI.get())
}

/// The tiers with `vpdpbusd`, in which AVX2 stands for that instruction: everything else of them is tested where it is missing.
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod emulated {
    use super::*;

    static AVX_VNNI: Pair = tier!("avxvnni (emulated)", &conv::<isa::AvxVnniEmulated>(), isa::AvxVnniEmulated);
    static AVX512_VNNI: Pair =
        tier!("avx512vnni (emulated)", &conv::<isa::Avx512VnniEmulated>(), isa::Avx512VnniEmulated);

    /// [`super::avxvnni`] where the processor has AVX2.
    #[must_use]
    pub fn avxvnni() -> Option<&'static Tier> {
        avx2().map(|_| AVX_VNNI.get())
    }

    /// [`super::avx512vnni`] where the processor has AVX2.
    #[must_use]
    pub fn avx512vnni() -> Option<&'static Tier> {
        avx2().map(|_| AVX512_VNNI.get())
    }
}

/// Every tier, fastest first; `None` where the processor lacks what it needs.
pub(super) fn tiers() -> [(&'static str, Option<&'static Tier>); 3] {
    [(AVX512_VNNI.fast.name, avx512vnni()), (AVX_VNNI.fast.name, avxvnni()), (AVX2.fast.name, avx2())]
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::kernels::suite::run_complete;

    /// A processor without F16C runs every operator, and so does one with it.
    #[test]
    fn without_f16c_nothing_is_missing() {
        for pair in [&AVX2, &AVX_VNNI, &AVX512_VNNI] {
            run_complete(Some(&pair.fast));
            run_complete(Some(&pair.portable));
        }
    }
}
