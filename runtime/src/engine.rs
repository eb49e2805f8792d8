//! The native engine: walks a plan over one caller-owned arena.
//!
//! [`Engine`] needs no allocator: the caller owns the arena, and the memory for repacked weights where a tier wants any (tiers for
//! microcontrollers do not). [`Prepared`] owns all of it, for machines that have an allocator.

#[allow(unused_imports, reason = "Vec, where there is an allocator")]
use crate::prelude::*;

#[cfg(feature = "alloc")]
mod prepared;

#[cfg(feature = "alloc")]
pub use prepared::Prepared;

use crate::error::{Error, Result};
use crate::kernels::{Kernel, Memory, Tier};
use crate::plan::{DType, Op, Plan};

/// Alignment of one operator's repacked data.
const PACK_ALIGN: usize = 64;

/// A plan and the kernels that run it.
#[derive(Debug, Clone, Copy)]
pub struct Engine<'p> {
    plan: Plan<'p>,
    tier: &'static Tier,
    packed_bytes: usize,
    workspace_bytes: usize,
}

impl<'p> Engine<'p> {
    /// Refuses a plan with an operator that `tier` has no kernel for.
    ///
    /// # Errors
    /// [`Error::NoKernel`], which names the operator.
    #[inline(never)]
    pub fn new(plan: Plan<'p>, tier: &'static Tier) -> Result<Self> {
        let (mut packed_bytes, mut workspace_bytes) = (0usize, 0);
        for (index, op) in plan.ops().enumerate() {
            let Some(kernel) = tier.kernel(op.code) else {
                return Err(Error::NoKernel { index, op: op.code.name(), tier: tier.name });
            };
            packed_bytes += (kernel.packed_bytes)(&op).next_multiple_of(PACK_ALIGN);
            workspace_bytes = workspace_bytes.max((kernel.workspace_bytes)(&op));
        }
        Ok(Self { plan, tier, packed_bytes, workspace_bytes })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan<'p> {
        &self.plan
    }

    /// The kernels.
    #[must_use]
    pub fn tier(&self) -> &'static Tier {
        self.tier
    }

    /// Bytes that [`Engine::pack`] wants; 0 where weights are used in place.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// Bytes of workspace that [`Engine::run`] wants beside the arena.
    #[must_use]
    pub fn workspace_bytes(&self) -> usize {
        self.workspace_bytes
    }

    /// Repacks the weights into `packed`, once.
    ///
    /// # Errors
    /// [`Error::Buffer`] when it is smaller than [`Engine::packed_bytes`].
    pub fn pack(&self, packed: &mut [u8]) -> Result<()> {
        check("repacked weights", packed.len(), self.packed_bytes())?;
        let mut rest = packed;
        for (op, kernel) in self.kernels() {
            let bytes = (kernel.packed_bytes)(&op);
            let (own, behind) = rest.split_at_mut_checked(bytes.next_multiple_of(PACK_ALIGN)).unwrap_or_default();
            (kernel.pack)(&op, own.get_mut(..bytes).unwrap_or_default());
            rest = behind;
        }
        Ok(())
    }

    /// Brings the model's input (row-major, as the model takes it) into the arena, as int8 or f16.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of values, [`Error::NonFinite`], [`Error::Buffer`] for an arena that is too small.
    pub fn set_input(&self, input: &[f32], arena: &mut [u8]) -> Result<()> {
        let tensor = self.plan.input();
        if input.len() != tensor.elements() {
            return Err(Error::Shape {
                what: "values of the model's input",
                expected: tensor.elements(),
                got: input.len(),
            });
        }
        // Looks at all of them first, without branches, because a search costs as much as a layer.
        if input.iter().fold(false, |bad, v| bad | !v.is_finite())
            && let Some(index) = input.iter().position(|v| !v.is_finite())
        {
            return Err(Error::NonFinite { what: "input", index });
        }
        check("arena", arena.len(), self.plan.arena_bytes())?;
        let bytes = arena.get_mut(tensor.range()).unwrap_or_default();
        let fill = if tensor.dtype == DType::F16 { self.tier.halve } else { self.tier.quantize };
        fill(input, &tensor, self.plan.channels_first(), bytes);
        Ok(())
    }

    /// The bytes of the input tensor, `[height, width, channels]`, for a caller that has them quantized already.
    ///
    /// # Errors
    /// [`Error::Buffer`] for an arena that is too small.
    pub fn input<'m>(&self, arena: &'m mut [u8]) -> Result<&'m mut [u8]> {
        check("arena", arena.len(), self.plan.arena_bytes())?;
        Ok(arena.get_mut(self.plan.input().range()).unwrap_or_default())
    }

    /// The bytes of the output tensor; empty where the output is float.
    #[must_use]
    pub fn output<'m>(&self, arena: &'m [u8]) -> &'m [u8] {
        arena.get(self.plan.output().range()).unwrap_or_default()
    }

    /// Values that a float output has; 0 where the output is a tensor in the arena.
    #[must_use]
    pub fn float_outputs(&self) -> usize {
        let output = self.plan.output();
        if output.dtype == DType::F32 { output.elements() } else { 0 }
    }

    /// Runs the plan on what the input tensor holds. Allocates nothing; float results go to `output`.
    ///
    /// # Errors
    /// [`Error::Buffer`] when a buffer is smaller than this engine wants; nothing was computed then.
    #[inline(never)]
    pub fn run(&self, arena: &mut [u8], packed: &[u8], workspace: &mut [u8], output: &mut [f32]) -> Result<()> {
        self.run_each(arena, packed, workspace, output, |_, _, _| ())
    }

    /// As [`Engine::run`], and calls `after` with every operator that has run and the arena and float results as it left them, for
    /// profiles and for comparisons operator by operator.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_each(
        &self,
        arena: &mut [u8],
        packed: &[u8],
        workspace: &mut [u8],
        output: &mut [f32],
        mut after: impl FnMut(&Op<'p>, &[u8], &[f32]),
    ) -> Result<()> {
        check("arena", arena.len(), self.plan.arena_bytes())?;
        check("repacked weights", packed.len(), self.packed_bytes())?;
        check("workspace", workspace.len(), self.workspace_bytes())?;
        check("float output", output.len(), self.float_outputs())?;
        // Kernels may fill what they are given.
        let output = output.get_mut(..self.float_outputs()).unwrap_or_default();
        let mut rest = packed;
        for (op, kernel) in self.kernels() {
            let bytes = (kernel.packed_bytes)(&op);
            let (own, behind) = rest.split_at_checked(bytes.next_multiple_of(PACK_ALIGN)).unwrap_or_default();
            rest = behind;
            let mut memory =
                Memory { arena: &mut *arena, packed: own, workspace: &mut *workspace, output: &mut *output };
            (kernel.run)(&op, &mut memory);
            after(&op, arena, output);
        }
        Ok(())
    }

    fn kernels(&self) -> impl Iterator<Item = (Op<'p>, &'static Kernel)> {
        let tier = self.tier;
        // `new` has found a kernel for each.
        self.plan.ops().filter_map(move |op| tier.kernel(op.code).map(|kernel| (op, kernel)))
    }
}

fn check(what: &'static str, has: usize, needs: usize) -> Result<()> {
    if has >= needs { Ok(()) } else { Err(Error::Buffer { what, needs, has }) }
}
