//! The native provider: a bundle's plan on our own engine, in integers or in half precision.

use std::borrow::ToOwned;

#[allow(unused_imports, reason = "Vec")]
use crate::prelude::*;

use super::Backbone;
use crate::bundle::Bundle;
use crate::engine::Prepared;
use crate::error::{Error, Result};
use crate::kernels::Tier;
use crate::plan::{DType, Plan};
use crate::quant::{EmbeddingKind, EmbeddingSpec};

/// A bundle's plan, ready to run on one thread.
#[derive(Debug)]
pub struct NativeBackbone<'b> {
    prepared: Prepared<'b>,
    input_shape: Vec<usize>,
    embedding: EmbeddingSpec,
}

impl<'b> NativeBackbone<'b> {
    /// Loads the bundle's plan on the kernels `tier`, and checks it against what the bundle states.
    ///
    /// # Errors
    /// [`Error::Missing`] for a bundle without a plan (its model did not lower), what [`Plan::parse`] says, [`Error::NoKernel`],
    /// [`Error::Malformed`] for a plan of another input or embedding than the bundle's.
    pub fn load(bundle: &Bundle<'b>, tier: &'static Tier) -> Result<Self> {
        let plan = bundle.plan.ok_or(Error::Missing { what: "plan for the native engine" })?;
        Self::from_plan(Plan::parse(plan)?, tier, bundle.input.shape(), bundle.embedding)
    }

    /// Loads a plan from its parts: the input shape without the batch, the embedding to give.
    ///
    /// # Errors
    /// As [`NativeBackbone::load`].
    pub fn from_plan(
        plan: Plan<'b>,
        tier: &'static Tier,
        input_shape: &[usize],
        embedding: EmbeddingSpec,
    ) -> Result<Self> {
        let embedding = embedding.check()?;
        let (input, output) = (plan.input(), plan.output());
        if input.elements() != input_shape.iter().product::<usize>() {
            return Err(Error::Malformed { what: "plan", why: "its input is not the bundle's" });
        }
        let fits = match embedding.kind {
            EmbeddingKind::Int8(quant) => output.dtype == DType::Int8 && output.quant == quant,
            EmbeddingKind::F16 => output.dtype == DType::F16,
        };
        if !fits || output.elements() != embedding.dim {
            return Err(Error::Malformed { what: "plan", why: "its embedding is not the bundle's" });
        }
        Ok(Self { prepared: Prepared::new(plan, tier)?, input_shape: input_shape.to_owned(), embedding })
    }

    /// The engine, for profiles.
    pub fn prepared(&mut self) -> &mut Prepared<'b> {
        &mut self.prepared
    }

    /// Name of the kernels.
    #[must_use]
    pub fn kernel(&self) -> &'static str {
        self.prepared.engine().tier().name
    }
}

impl Clone for NativeBackbone<'_> {
    /// Another engine on the same plan, for another thread.
    fn clone(&self) -> Self {
        Self { prepared: self.prepared.clone(), input_shape: self.input_shape.clone(), embedding: self.embedding }
    }
}

impl Backbone for NativeBackbone<'_> {
    fn provider(&self) -> &str {
        "native"
    }

    fn input_shape(&self) -> &[usize] {
        &self.input_shape
    }

    fn embedding(&self) -> EmbeddingSpec {
        self.embedding
    }

    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> {
        let expected = self.embedding.row_bytes();
        if row.len() != expected {
            return Err(Error::Shape { what: "bytes of an embedding row", expected, got: row.len() });
        }
        self.prepared.set_input(input)?;
        self.prepared.run();
        row.copy_from_slice(self.prepared.output());
        if self.embedding.kind == EmbeddingKind::F16 {
            // An exponent of all ones: a sum left the range of f16.
            let bad = |value: &[u8; 2]| u16::from_le_bytes(*value) & 0x7C00 == 0x7C00;
            if let Some(index) = row.as_chunks().0.iter().position(bad) {
                return Err(Error::NonFinite { what: "embedding", index });
            }
        }
        Ok(())
    }
}
