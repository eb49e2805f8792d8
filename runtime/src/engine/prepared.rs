//! An engine with its memory: operators decoded, weights repacked, the arena at hand.

use crate::prelude::*;

use super::{Engine, PACK_ALIGN};
use crate::error::{Error, Result};
use crate::kernels::{Kernel, Memory, Tier};
use crate::plan::format::MAX_BYTES;
use crate::plan::format::MAX_WORK;
use crate::plan::{Op, Plan};

/// Bytes that begin at a multiple of 64.
#[derive(Debug)]
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        // The copy may lie elsewhere in relation to the alignment.
        let mut copy = Self::zeroed(self.len);
        copy.get_mut().copy_from_slice(self.get());
        copy
    }
}

impl Aligned {
    fn new(len: usize) -> Result<Self> {
        // Repacked weights and workspace keep to the arena's bound, too.
        if len > MAX_BYTES {
            let (value, max) = (len as u64, MAX_BYTES as u64);
            return Err(Error::Bounds { what: "bytes of memory that a plan asks for", value, min: 0, max });
        }
        Ok(Self::zeroed(len))
    }

    fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + PACK_ALIGN];
        let start = bytes.as_ptr().align_offset(PACK_ALIGN).min(PACK_ALIGN);
        Self { bytes, start, len }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.len).unwrap_or_default()
    }

    fn get_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
struct Step<'p> {
    op: Op<'p>,
    kernel: &'static Kernel,
    packed: core::ops::Range<usize>,
}

/// A plan ready to run: everything is allocated here, nothing later.
///
/// Cloning gives another one for another thread, without repacking.
#[derive(Debug, Clone)]
pub struct Prepared<'p> {
    engine: Engine<'p>,
    steps: Vec<Step<'p>>,
    packed: Aligned,
    workspace: Aligned,
    arena: Aligned,
    output: Vec<f32>,
}

impl<'p> Prepared<'p> {
    /// Decodes, repacks, allocates.
    ///
    /// # Errors
    /// [`Error::NoKernel`]; [`Error::Bounds`] for a plan whose kernels want more than 1 GiB of one kind of memory, or whose windows reach further than
    /// [`MAX_WORK`] values: no real model does.
    pub fn new(plan: Plan<'p>, tier: &'static Tier) -> Result<Self> {
        let engine = Engine::new(plan, tier)?;
        let reach = engine.kernels().fold(0u64, |sum, (op, _)| sum.saturating_add(op.reach()));
        if reach > MAX_WORK {
            return Err(Error::Bounds {
                what: "values that a plan's windows reach",
                value: reach,
                min: 0,
                max: MAX_WORK,
            });
        }
        let mut packed = Aligned::new(engine.packed_bytes())?;
        engine.pack(packed.get_mut())?;
        let mut offset = 0;
        let steps = engine.kernels().map(|(op, kernel)| {
            let start = offset;
            let bytes = (kernel.packed_bytes)(&op);
            offset += bytes.next_multiple_of(PACK_ALIGN);
            Step { op, kernel, packed: start..start + bytes }
        });
        Ok(Self {
            steps: steps.collect(),
            packed,
            workspace: Aligned::new(engine.workspace_bytes())?,
            arena: Aligned::new(plan.arena_bytes())?,
            output: vec![0.0; engine.float_outputs()],
            engine,
        })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine<'p> {
        &self.engine
    }

    /// Bytes allocated: arena, repacked weights, workspace.
    #[must_use]
    pub fn memory_bytes(&self) -> [usize; 3] {
        [self.arena.len, self.packed.len, self.workspace.len]
    }

    /// Quantizes the model's input.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`].
    pub fn set_input(&mut self, input: &[f32]) -> Result<()> {
        self.engine.set_input(input, self.arena.get_mut())
    }

    /// Fills the input tensor with what is quantized already, `[height, width, channels]`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn set_input_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let input = self.engine.input(self.arena.get_mut())?;
        if input.len() != bytes.len() {
            return Err(Error::Shape { what: "bytes of the input tensor", expected: input.len(), got: bytes.len() });
        }
        input.copy_from_slice(bytes);
        Ok(())
    }

    /// Runs the plan on what the input holds.
    pub fn run(&mut self) {
        for index in 0..self.steps.len() {
            self.run_op(index);
        }
    }

    /// Runs operator `index` alone, for profiles and for comparisons layer by layer.
    pub fn run_op(&mut self, index: usize) {
        if let Some(step) = self.steps.get(index) {
            let packed = self.packed.get().get(step.packed.clone()).unwrap_or_default();
            let (workspace, arena) = (self.workspace.get_mut(), self.arena.get_mut());
            (step.kernel.run)(&step.op, &mut Memory { arena, packed, workspace, output: &mut self.output });
        }
    }

    /// The output tensor's bytes; empty where the output is float.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.engine.output(self.arena.get())
    }

    /// Float results; empty where the output is a tensor.
    #[must_use]
    pub fn float_output(&self) -> &[f32] {
        &self.output
    }

    /// The bytes of the arena, for comparisons layer by layer.
    pub fn arena(&mut self) -> &mut [u8] {
        self.arena.get_mut()
    }
}
