//! The tract provider: runs ONNX on any desktop, in f32 (quantize and dequantize pairs are computed in float, and so is fp16:
//! tract would emulate it in software, a hundred times slower).
//!
//! [`TractModel`] runs any ONNX file; [`TractBackbone`] runs a bundle's backbone and stores the embedding as its
//! bundle states.

use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::floats::FloatPrecisionTranslator;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::transform::ModelTransform as _;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{DimLike, TractErrorContext, bail, format_err};

use super::Backbone;
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::quant::EmbeddingSpec;

const PROVIDER: &str = "tract";

/// Name and shape of a model's input or output, batch included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the ONNX file.
    pub name: String,
    /// Shape, batch first where the model has one.
    pub shape: Vec<usize>,
}

impl Port {
    /// Number of values.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// An ONNX model, loaded and optimized for one batch size. Inputs and outputs are f32.
#[derive(Debug, Clone)]
pub struct TractModel {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl TractModel {
    /// Loads the bytes of an ONNX file; external data is not followed.
    ///
    /// A first dimension that the file leaves open becomes `batch`.
    ///
    /// # Errors
    /// [`Error::Provider`]: not an ONNX file, an operator that tract lacks, a dimension beyond the batch left open, an
    /// input that is not f32.
    pub fn load(onnx: &[u8], batch: usize) -> Result<Self> {
        guarded("loading", || Self::build(onnx, &|_, open| open.batch(batch)))
    }

    /// As [`TractModel::load`], with the whole shape of each input given, batch included.
    pub fn load_with_shapes(onnx: &[u8], shapes: &[&[usize]]) -> Result<Self> {
        guarded("loading", || {
            Self::build(onnx, &|index, open| {
                let shape = shapes.get(index).ok_or_else(|| format_err!("input {index} was given no shape"))?;
                open.check_against(shape)?;
                Ok(shape.to_vec())
            })
        })
    }

    /// The model's inputs, in its order.
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The model's outputs, in its order.
    #[must_use]
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Runs the model; one row-major slice an input, one vector an output.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of inputs or values, [`Error::NonFinite`] for NaN or infinity in an input.
    pub fn run(&self, inputs: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::Shape { what: "inputs of the model", expected: self.inputs.len(), got: inputs.len() });
        }
        for (values, port) in inputs.iter().zip(&self.inputs) {
            check_input(values, port.elements())?;
        }
        guarded("running", || {
            let mut tensors = TVec::new();
            for (values, port) in inputs.iter().zip(&self.inputs) {
                tensors.push(Tensor::from_shape(&port.shape, values)?.into());
            }
            let outputs = self.plan.run(tensors)?;
            outputs.iter().map(|output| values_of(output)).collect()
        })
    }

    fn build(onnx: &[u8], shape_of: &dyn Fn(usize, OpenShape) -> TractResult<Vec<usize>>) -> TractResult<Self> {
        // Exporters leave value infos and output shapes that contradict a batch made concrete.
        let reader = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let mut model = reader.model_for_read(&mut &*onnx)?;
        let mut inputs = Vec::new();
        for (index, outlet) in model.input_outlets()?.to_vec().into_iter().enumerate() {
            let fact = model.outlet_fact(outlet)?;
            let name = model.node(outlet.node).name.clone();
            let open = OpenShape {
                dims: fact.shape.dims().map(|d| d.concretize().and_then(|d| d.to_usize().ok())).collect(),
                unknown_rank: fact.shape.is_open(),
            };
            match fact.datum_type.concretize() {
                None | Some(DatumType::F32) => {}
                Some(other) => bail!("input '{name}' is {other:?}; only f32 inputs are run"),
            }
            let shape = shape_of(index, open).with_context(|| format!("input '{name}'"))?;
            model.set_input_fact(index, f32::fact(&shape).into())?;
            inputs.push(Port { name, shape });
        }
        let names: Vec<String> = model
            .output_outlets()?
            .iter()
            .map(|outlet| {
                let label = model.outlet_label(*outlet).map(ToString::to_string);
                label.unwrap_or_else(|| model.node(outlet.node).name.clone())
            })
            .collect();
        let mut model = model.into_typed()?;
        widen_halves(&mut model)?;
        let model = model.into_optimized()?;
        let mut outputs = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let fact = model.output_fact(index)?;
            let shape = fact.shape.as_concrete();
            let shape = shape.ok_or_else(|| format_err!("the shape of output '{name}' stays open"))?.to_vec();
            outputs.push(Port { name, shape });
        }
        Ok(Self { plan: model.into_runnable()?, inputs, outputs })
    }
}

/// Computes in f32 what the file computes in f16: weights keep the values that it stores, activations are not rounded in between. A cast
/// to f16 and straight back stays: it is there to round.
fn widen_halves(model: &mut TypedModel) -> TractResult<()> {
    let is_half = |node: &TypedNode| node.outputs.iter().any(|o| o.fact.datum_type == DatumType::F16);
    let casts_to = |node: &TypedNode, to: DatumType| node.op_as::<Cast>().is_some_and(|cast| cast.to == to);
    let rounds = |node: &&TypedNode| {
        let mut readers = node.outputs.iter().flat_map(|o| &o.successors).map(|inlet| model.node(inlet.node));
        casts_to(node, DatumType::F16) && readers.all(|reader| casts_to(reader, DatumType::F32))
    };
    if !model.nodes().iter().any(is_half) {
        return Ok(());
    }
    let rounding: Vec<usize> = model.nodes().iter().filter(rounds).map(|node| node.id).collect();
    let computes = move |node: &TypedNode| !rounding.contains(&node.id);
    FloatPrecisionTranslator::with_filter(DatumType::F16, DatumType::F32, computes).transform(model)
}

/// An input's shape as the file declares it; `None` is a dimension left open.
struct OpenShape {
    dims: Vec<Option<usize>>,
    unknown_rank: bool,
}

impl OpenShape {
    fn batch(self, batch: usize) -> TractResult<Vec<usize>> {
        if self.unknown_rank {
            bail!("the file does not state its shape");
        }
        self.dims
            .iter()
            .enumerate()
            .map(|(axis, dim)| match (dim, axis) {
                (Some(dim), _) => Ok(*dim),
                (None, 0) => Ok(batch),
                (None, _) => bail!("dimension {axis} is left open in the file"),
            })
            .collect()
    }

    fn check_against(&self, shape: &[usize]) -> TractResult<()> {
        let fits = |(declared, given): (&Option<usize>, &usize)| declared.is_none_or(|declared| declared == *given);
        let rank_fits = self.unknown_rank || self.dims.len() == shape.len();
        if !(rank_fits && self.dims.iter().zip(shape).all(fits)) {
            bail!("shape {shape:?} does not fit the file's {:?}", self.dims);
        }
        Ok(())
    }
}

/// A bundle's backbone, run by tract.
#[derive(Debug, Clone)]
pub struct TractBackbone {
    model: TractModel,
    input_shape: Vec<usize>,
    embedding: EmbeddingSpec,
}

impl TractBackbone {
    /// Loads the bundle's backbone for one input at a time, and checks it against what the bundle states.
    pub fn load(bundle: &Bundle<'_>) -> Result<Self> {
        Self::from_onnx(bundle.backbone, bundle.input.shape(), bundle.embedding)
    }

    /// Loads a backbone from its parts: the ONNX bytes, the input shape without the batch, the embedding to give.
    pub fn from_onnx(onnx: &[u8], input_shape: &[usize], embedding: EmbeddingSpec) -> Result<Self> {
        let embedding = embedding.check()?;
        let mut shape = Vec::from([1]);
        shape.extend(input_shape);
        let model = TractModel::load_with_shapes(onnx, &[&shape])?;
        let [output] = model.outputs() else {
            return Err(Error::Shape { what: "outputs of the backbone", expected: 1, got: model.outputs().len() });
        };
        if output.elements() != embedding.dim {
            return Err(Error::Shape {
                what: "values of the backbone's output",
                expected: embedding.dim,
                got: output.elements(),
            });
        }
        Ok(Self { model, input_shape: input_shape.to_vec(), embedding })
    }
}

impl Backbone for TractBackbone {
    fn provider(&self) -> &str {
        PROVIDER
    }

    fn input_shape(&self) -> &[usize] {
        &self.input_shape
    }

    fn embedding(&self) -> EmbeddingSpec {
        self.embedding
    }

    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> {
        let outputs = self.model.run(&[input])?;
        let real = outputs.first().map(Vec::as_slice).unwrap_or_default();
        self.embedding.quantize_row(real, row)
    }
}

fn check_input(values: &[f32], expected: usize) -> Result<()> {
    if values.len() != expected {
        return Err(Error::Shape { what: "values of the model's input", expected, got: values.len() });
    }
    super::check_finite(values, 0)
}

fn values_of(output: &Tensor) -> TractResult<Vec<f32>> {
    Ok(output.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// Turns tract's errors into ours. A file is untrusted and tract is large: should it panic on one, that is an error too.
fn guarded<T>(doing: &str, work: impl FnOnce() -> TractResult<T>) -> Result<T> {
    let why = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        // The alternate form prints the chain of causes on one line.
        Ok(Err(error)) => format!("{doing} failed: {error:#}"),
        Err(_) => format!("{doing} failed: tract panicked"),
    };
    Err(Error::Provider { provider: PROVIDER, why })
}

#[cfg(test)]
mod tests;
