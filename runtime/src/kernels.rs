//! What the engine runs operators with. [`generic`] is the specification: every other int8 kernel gives the same bits, every other f16
//! kernel the same values within what `docs/plan-format.md` allows.
//!
//! A [`Tier`] is a set of kernels for one kind of processor; holding one proves that the processor has what they need. Kernels get an
//! [`Op`] of a checked plan, so that they need no checks of their own, and the memory to work in.

use core::ops::Range;

use crate::plan::{Code, Op, Tensor};

/// Every kernel of a tier: its own for what multiplies or compares, those of the module `$half` for what is done so in f16, and the
/// portable ones for the rest.
macro_rules! kernels {
    ($half:ident; $($own:expr),* $(,)?) => {
        &[
            $($own,)*
            &$crate::kernels::generic::SOFTMAX,
            &$crate::kernels::generic::PAD,
            &$crate::kernels::generic::TRANSPOSE,
            &$crate::kernels::generic::RESIZE,
            &$crate::kernels::generic::CONCAT,
            &$crate::kernels::generic::SOFTMAX_FLOAT,
            &$crate::kernels::generic::RESHAPE,
            &$crate::kernels::generic::DEQUANTIZE,
            #[cfg(feature = "f16")]
            &$half::CONV,
            #[cfg(feature = "f16")]
            &$half::DEPTHWISE,
            #[cfg(feature = "f16")]
            &$half::DENSE,
            #[cfg(feature = "f16")]
            &$half::ADD,
            #[cfg(feature = "f16")]
            &$half::MUL,
            #[cfg(feature = "f16")]
            &$half::MAX_POOL,
            #[cfg(feature = "f16")]
            &$half::AVERAGE_POOL,
            #[cfg(feature = "f16")]
            &$half::UNARY,
            #[cfg(feature = "f16")]
            &$half::FLOAT,
            #[cfg(feature = "f16")]
            &$crate::kernels::generic::half::SOFTMAX,
            #[cfg(feature = "f16")]
            &$crate::kernels::generic::half::LAYER_NORM,
            #[cfg(feature = "f16")]
            &$crate::kernels::generic::half::MAT_MUL,
        ]
    };
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
pub mod aarch64;
pub mod cortex_m;
#[cfg(any(feature = "tract", feature = "ort"))]
pub(crate) mod finite;
pub mod generic;
#[cfg(all(
    feature = "f16",
    any(
        all(target_arch = "x86_64", feature = "std"),
        all(target_arch = "aarch64", target_feature = "neon", target_endian = "little")
    )
))]
mod half;
#[cfg(feature = "std")]
pub mod select;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod suite;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
pub mod x86_64;

#[cfg(feature = "std")]
pub use select::{available, best, named};

/// The memory of one step. No part is promised to begin at a multiple of anything, and neither is the plan.
#[derive(Debug)]
pub struct Memory<'m> {
    /// Every tensor of the plan, and scratch: at least [`crate::plan::Plan::arena_bytes`].
    pub arena: &'m mut [u8],
    /// The operator's repacked data, [`Kernel::packed_bytes`] long.
    pub packed: &'m [u8],
    /// Bytes to work in, at least [`Kernel::workspace_bytes`], shared by all operators.
    pub workspace: &'m mut [u8],
    /// Where float results go, exactly as many as the plan's output has; empty where that is no float tensor.
    pub output: &'m mut [f32],
}

impl Memory<'_> {
    /// One part of the arena to read and another to write. Empty where they overlap, which a checked plan rules out.
    pub fn pair(&mut self, read: Range<usize>, write: Range<usize>) -> (&[u8], &mut [u8]) {
        match self.arena.get_disjoint_mut([read, write]) {
            Ok([read, write]) => (read, write),
            Err(_) => (&[], &mut []),
        }
    }

    /// As [`Memory::pair`], with the workspace.
    pub fn pair_and_workspace(&mut self, read: Range<usize>, write: Range<usize>) -> (&[u8], &mut [u8], &mut [u8]) {
        match self.arena.get_disjoint_mut([read, write]) {
            Ok([read, write]) => (read, write, self.workspace),
            Err(_) => (&[], &mut [], &mut []),
        }
    }

    /// As [`Memory::pair`], with the scratch of an operator.
    pub fn triple(
        &mut self,
        read: Range<usize>,
        write: Range<usize>,
        scratch: Range<usize>,
    ) -> (&[u8], &mut [u8], &mut [u8]) {
        match self.arena.get_disjoint_mut([read, write, scratch]) {
            Ok([read, write, scratch]) => (read, write, scratch),
            Err(_) => (&[], &mut [], &mut []),
        }
    }
}

/// One operator's implementation.
#[derive(Debug)]
pub struct Kernel {
    /// What it computes.
    pub code: Code,
    /// Bytes of repacked data that it wants for an operator; 0: it reads the plan in place.
    pub packed_bytes: fn(&Op<'_>) -> usize,
    /// Repacks an operator's data into that many bytes.
    pub pack: fn(&Op<'_>, &mut [u8]),
    /// Bytes of workspace that it wants for an operator, beside the plan's scratch.
    pub workspace_bytes: fn(&Op<'_>) -> usize,
    /// Computes.
    pub run: fn(&Op<'_>, &mut Memory<'_>),
}

impl Kernel {
    /// A kernel that works on the plan in place, without workspace.
    #[must_use]
    pub const fn in_place(code: Code, run: fn(&Op<'_>, &mut Memory<'_>)) -> Self {
        Self { code, packed_bytes: |_| 0, pack: |_, _| (), workspace_bytes: |_| 0, run }
    }

    /// A kernel that works on the plan in place, with memory to work in.
    #[must_use]
    pub const fn with_workspace(
        code: Code,
        workspace_bytes: fn(&Op<'_>) -> usize,
        run: fn(&Op<'_>, &mut Memory<'_>),
    ) -> Self {
        Self { workspace_bytes, ..Self::in_place(code, run) }
    }
}

/// From the model's input to its tensor: brings `input` (row-major; `[channels, height, width]` where `channels_first`) into `tensor`'s
/// bytes, as the tier's field says.
pub type QuantizeInput = fn(input: &[f32], tensor: &Tensor, channels_first: bool, bytes: &mut [u8]);

/// The kernels of one kind of processor.
///
/// A product that wants a small program makes a `static` of its own with the kernels that its plan needs; the linker drops the rest.
#[derive(Debug)]
pub struct Tier {
    /// As reports print it and `HONE_KERNEL` names it.
    pub name: &'static str,
    /// At most one a code; what is missing is not supported.
    pub kernels: &'static [&'static Kernel],
    /// Fills an int8 input: every value as [`crate::QuantParams::quantize`] defines it.
    pub quantize: QuantizeInput,
    /// Fills an f16 input: every value rounded to the nearest f16, to even at halves.
    pub halve: QuantizeInput,
}

impl Tier {
    /// The kernel for a code.
    #[must_use]
    pub fn kernel(&self, code: Code) -> Option<&'static Kernel> {
        self.kernels.iter().find(|kernel| kernel.code == code).copied()
    }
}
