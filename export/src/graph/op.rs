//! Typed operators: attributes are parsed once, at reading, with their ONNX defaults filled in.
//!
//! Older opsets are normalised while reading: what was an attribute and later became an input (Clip's bounds,
//! Pad's amounts, Squeeze's axes, Dropout's ratio, …) is held here in one form, and [`crate::onnx`] writes the form of the target opset.

use super::tensor::DType;

/// Padding of a convolution or pooling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Padding {
    /// Amounts: begins of all spatial axes, then ends.
    Explicit(Vec<usize>),
    /// `SAME_UPPER`: output = ceil(input / stride), the odd element at the end.
    SameUpper,
    /// `SAME_LOWER`: the odd element at the beginning.
    SameLower,
}

/// A window that slides over the spatial axes (1-D, 2-D, 3-D).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Size per spatial axis.
    pub kernel: Vec<usize>,
    /// Step per spatial axis.
    pub strides: Vec<usize>,
    /// Dilation per spatial axis.
    pub dilations: Vec<usize>,
    /// Padding.
    pub padding: Padding,
}

/// How a mode of `Resize` maps coordinates and interpolates (as ONNX spells them).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "ONNX attribute names")]
pub struct Resize {
    pub mode: String,
    pub coordinate_transformation_mode: String,
    pub nearest_mode: String,
}

/// An attribute of an operator that is kept as it came.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "ONNX attribute kinds")]
pub enum Attribute {
    Int(i64),
    Float(f32),
    String(Vec<u8>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<Vec<u8>>),
    Tensor(super::Tensor),
}

/// What a node computes. Inputs are in ONNX order of the newest opset (13–21), e.g. `Clip` has none but the
/// data here because its bounds are constants in the variant.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "ONNX operator and attribute names")]
pub enum Op {
    // Layers with weights
    /// Inputs: X `[N,C,…]`, W `[M,C/group,…]`, optional B `[M]`.
    Conv {
        window: Window,
        group: usize,
    },
    /// Inputs: A, B, optional C; Y = alpha·A'·B' + beta·C.
    Gemm {
        alpha: f32,
        beta: f32,
        trans_a: bool,
        trans_b: bool,
    },
    MatMul,
    /// Inputs: X, scale, B, mean, var; inference form.
    BatchNormalization {
        epsilon: f32,
    },
    LayerNormalization {
        axis: i64,
        epsilon: f32,
    },
    // Activations
    Relu,
    LeakyRelu {
        alpha: f32,
    },
    PRelu,
    Clip {
        min: f32,
        max: f32,
    },
    Sigmoid,
    Tanh,
    Erf,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    Softmax {
        axis: i64,
    },
    // Elementwise
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Max,
    Min,
    Sqrt,
    Exp,
    Log,
    Neg,
    Abs,
    Reciprocal,
    // Pooling and reductions
    MaxPool {
        window: Window,
        ceil: bool,
    },
    AveragePool {
        window: Window,
        ceil: bool,
        count_include_pad: bool,
    },
    GlobalAveragePool,
    GlobalMaxPool,
    /// Axes as given (may be negative); empty with `noop` false means all.
    ReduceMean {
        axes: Vec<i64>,
        keepdims: bool,
    },
    ReduceSum {
        axes: Vec<i64>,
        keepdims: bool,
    },
    ReduceMax {
        axes: Vec<i64>,
        keepdims: bool,
    },
    // Shape
    /// `-1` etc. as in ONNX; inputs: data, shape (constant after folding).
    Reshape {
        allow_zero: bool,
    },
    Flatten {
        axis: i64,
    },
    Transpose {
        perm: Vec<usize>,
    },
    Squeeze {
        axes: Vec<i64>,
    },
    Unsqueeze {
        axes: Vec<i64>,
    },
    Concat {
        axis: i64,
    },
    /// Inputs: data, starts, ends, optional axes, optional steps.
    Slice,
    Gather {
        axis: i64,
    },
    Split {
        axis: i64,
        sizes: Vec<usize>,
    },
    Expand,
    /// Constant padding by `value`; begins of all axes, then ends; negative amounts are refused at reading.
    Pad {
        amounts: Vec<usize>,
        value: f32,
    },
    /// Only modes that keep values ("constant", "reflect", "edge") reach here as `Pad` or `PadMode`.
    PadMode {
        amounts: Vec<usize>,
        mode: String,
    },
    Resize(Resize),
    Shape {
        start: i64,
        end: Option<i64>,
    },
    Cast {
        to: DType,
    },
    ConstantOfShape {
        value: super::Tensor,
    },
    Range,
    Where,
    Equal,
    /// Identity, and Dropout in inference.
    Identity,
    // Quantization
    /// Inputs: x, scale, zero point; `axis` matters for per-channel.
    QuantizeLinear {
        axis: i64,
    },
    DequantizeLinear {
        axis: i64,
    },
    /// Anything else, kept so that it can be named in a refusal and written back unchanged.
    Other {
        domain: String,
        op_type: String,
        attributes: Vec<(String, Attribute)>,
    },
}

impl Op {
    /// The ONNX name of the operator, with its domain in front where that is not the default one.
    #[must_use]
    pub fn name(&self) -> String {
        let name = match self {
            Self::Conv { .. } => "Conv",
            Self::Gemm { .. } => "Gemm",
            Self::MatMul => "MatMul",
            Self::BatchNormalization { .. } => "BatchNormalization",
            Self::LayerNormalization { .. } => "LayerNormalization",
            Self::Relu => "Relu",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::PRelu => "PRelu",
            Self::Clip { .. } => "Clip",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Erf => "Erf",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::Softmax { .. } => "Softmax",
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Sqrt => "Sqrt",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Neg => "Neg",
            Self::Abs => "Abs",
            Self::Reciprocal => "Reciprocal",
            Self::MaxPool { .. } => "MaxPool",
            Self::AveragePool { .. } => "AveragePool",
            Self::GlobalAveragePool => "GlobalAveragePool",
            Self::GlobalMaxPool => "GlobalMaxPool",
            Self::ReduceMean { .. } => "ReduceMean",
            Self::ReduceSum { .. } => "ReduceSum",
            Self::ReduceMax { .. } => "ReduceMax",
            Self::Reshape { .. } => "Reshape",
            Self::Flatten { .. } => "Flatten",
            Self::Transpose { .. } => "Transpose",
            Self::Squeeze { .. } => "Squeeze",
            Self::Unsqueeze { .. } => "Unsqueeze",
            Self::Concat { .. } => "Concat",
            Self::Slice => "Slice",
            Self::Gather { .. } => "Gather",
            Self::Split { .. } => "Split",
            Self::Expand => "Expand",
            Self::Pad { .. } | Self::PadMode { .. } => "Pad",
            Self::Resize(_) => "Resize",
            Self::Shape { .. } => "Shape",
            Self::Cast { .. } => "Cast",
            Self::ConstantOfShape { .. } => "ConstantOfShape",
            Self::Range => "Range",
            Self::Where => "Where",
            Self::Equal => "Equal",
            Self::Identity => "Identity",
            Self::QuantizeLinear { .. } => "QuantizeLinear",
            Self::DequantizeLinear { .. } => "DequantizeLinear",
            Self::Other { domain, op_type, .. } if domain.is_empty() => op_type,
            Self::Other { domain, op_type, .. } => return format!("{domain}.{op_type}"),
        };
        name.to_owned()
    }
}
