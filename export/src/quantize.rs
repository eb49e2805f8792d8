//! Post-training quantization: int8 QDQ with fitted weights, and fp16.
//!
//! The order of work: the float network is walked once to measure the range of every channel; channels are equalized
//! (`equalize`); every value that is stored quantized gets a scale, or shares one; then layer by layer, in topological order, the weights are
//! fitted to the inputs that the already quantized prefix gives (`fit`), rounded with error feedback, and the bias corrected. The order must be sequential: fitting
//! all layers against one state of the network overcorrects and diverges. Intermediate tensors are spooled to disk, so that memory does not grow
//! with the number of rows.

mod emit;
mod equalize;
mod evaluate;
mod fit;
pub mod fp16;
mod linear;
mod network;
pub mod preset;
mod ranges;
mod sequential;
mod smooth;
mod spool;

use std::path::Path;

use crate::calibrate::RangeMethod;
use crate::graph::{Graph, Tensor, ValueId};
use crate::{Error, Result};

pub use emit::ActivationType;
pub use preset::Preset;
pub use sequential::LayerReport;

/// Calibration rows as the model's input, each `[1, …]`, float32.
pub trait Rows {
    /// Number of rows.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Row `index`.
    ///
    /// # Errors
    /// Whatever reading or preprocessing it meets.
    fn row(&mut self, index: usize) -> Result<Tensor>;
}

/// Rows that are in memory.
impl Rows for &[Tensor] {
    fn len(&self) -> usize {
        <[Tensor]>::len(self)
    }

    fn row(&mut self, index: usize) -> Result<Tensor> {
        Ok(self[index].clone())
    }
}

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Fitted to the quantized inputs, rounded with error feedback.
    Compensated,
    /// To the nearest step; the bias is corrected all the same.
    Nearest,
}

/// Numbers that the backbone computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 8-bit integers.
    Int8,
    /// Half precision.
    Fp16,
}

impl Precision {
    /// `int8` or `fp16`, as in file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Fp16 => "fp16",
        }
    }
}

/// What has a weight scale of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightScales {
    /// Every output channel.
    PerChannel,
    /// Every output channel of a convolution; a dense layer has one scale.
    ConvPerChannel,
    /// Every layer has one scale.
    PerTensor,
}

impl WeightScales {
    /// As the command line names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PerChannel => "per-channel",
            Self::ConvPerChannel => "conv-per-channel",
            Self::PerTensor => "per-tensor",
        }
    }

    /// Whether a layer has one scale for all its outputs.
    const fn is_shared(self, is_convolution: bool) -> bool {
        match self {
            Self::PerChannel => false,
            Self::ConvPerChannel => !is_convolution,
            Self::PerTensor => true,
        }
    }
}

/// How the model's outputs leave the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// The last layer gives floats, and what follows it (a softmax) computes in float.
    Float,
    /// Quantized as everything else, behind a last DequantizeLinear.
    Quantized,
}

impl Scores {
    /// As the command line names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Quantized => "quantized",
        }
    }
}

/// Settings of [`int8`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How activation ranges are chosen.
    pub ranges: RangeMethod,
    /// How weights are rounded.
    pub rounding: Rounding,
    /// Whether channels are equalized.
    pub equalize: bool,
    /// Type of activations in the ONNX file.
    pub activations: ActivationType,
    /// Whether weights keep to 7 bits: then no kernel that adds two products in 16 bits saturates, as ONNX Runtime's do on processors
    /// with AVX2 and without VNNI.
    pub reduce_range: bool,
    /// What has a weight scale of its own.
    pub weights: WeightScales,
    /// How the model's outputs leave the file.
    pub scores: Scores,
    /// Whether scales keep to what TFLite's 8-bit specification and NNAPI prescribe: an average pool's output has its input's step, softmax and
    /// sigmoid have steps of 1/256 from 0, tanh of 1/128 around 0.
    pub prescribed_steps: bool,
}

impl Options {
    /// Largest magnitude of a stored weight.
    pub(super) const fn weight_max(&self) -> f64 {
        if self.reduce_range { 63.0 } else { 127.0 }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ranges: RangeMethod::MinMax,
            rounding: Rounding::Compensated,
            equalize: true,
            activations: ActivationType::Uint8,
            reduce_range: false,
            weights: WeightScales::PerChannel,
            scores: Scores::Float,
            prescribed_steps: false,
        }
    }
}

/// Affine quantization of a tensor to uint8: real = scale · (q − zero_point).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Real value of one step.
    pub scale: f32,
    /// The integer that stands for 0.0, 0..=255. As int8 it is 128 less.
    pub zero_point: u8,
}

impl Step {
    /// Covers `low..=high`, which is widened to hold 0.
    #[must_use]
    pub fn covering(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        if !scale.is_normal() || scale < 1e-30 {
            return Self { scale: 1.0, zero_point: 0 };
        }
        Self { scale, zero_point: (-low / scale).round().clamp(0.0, 255.0) as u8 }
    }

    /// Nearest step, as ONNX `QuantizeLinear` rounds: half to even, saturating.
    #[must_use]
    pub fn quantize(self, v: f32) -> u8 {
        ((v / self.scale).round_ties_even() + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }

    /// The real value of a step.
    #[must_use]
    pub fn dequantize(self, q: u8) -> f32 {
        self.scale * (f32::from(q) - f32::from(self.zero_point))
    }
}

/// What [`int8`] gives.
#[derive(Debug)]
pub struct Quantized {
    /// The QDQ graph with all outputs of the input graph.
    pub graph: Graph,
    /// One entry a step, in order.
    pub layers: Vec<LayerReport>,
    /// How the embedding is stored.
    pub embedding: Step,
}

/// Quantizes a simplified float graph. `embedding` must be one of its outputs; it is stored quantized whatever reads it.
///
/// `scratch` is a folder on a disk with room for the largest tensors of all rows (temporary, unnamed files).
/// `progress` is called with (layers done, layers in all).
///
/// # Errors
/// [`Error::Unsupported`] for operators that cannot be evaluated or weights that are no constants, [`Error::NonFinite`] when a
/// calibration row leads to NaN or infinity, and what `rows` gives.
pub fn int8(
    graph: &Graph,
    embedding: ValueId,
    rows: &mut dyn Rows,
    options: &Options,
    scratch: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Quantized> {
    if rows.is_empty() {
        return Err(Error::Setting { name: "calibration rows".into(), why: "at least one is needed".into() });
    }
    let mut network = network::Network::new(graph, embedding, options)?;
    let walk = sequential::Walk::new(&network, rows, scratch)?;
    let is_transformer = network::is_transformer(graph);
    if is_transformer && options.equalize {
        network = network::Network::new(&smooth::smooth(graph, &network, &walk)?, embedding, options)?;
    }
    let mut channels = walk.channel_ranges(&network)?;
    let factors = if options.equalize && !is_transformer {
        equalize::equalize(&mut network, &mut channels)
    } else {
        vec![Vec::new(); network.graph.values.len()]
    };
    let measured = walk.value_ranges(&network, &channels, &factors, options.ranges)?;
    let steps = ranges::steps(&network, &measured, options.prescribed_steps);
    let (layers, rounded) = walk.fit(&network, &steps, &factors, options, progress)?;
    let graph = emit::qdq(&network, &steps, &rounded, &factors, options)?;
    let embedding = steps[embedding.0].ok_or_else(|| Error::InvalidModel {
        model: network.graph.name.clone(),
        why: "the embedding has no range".into(),
    })?;
    Ok(Quantized { graph, layers, embedding })
}
