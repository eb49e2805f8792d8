//! Constants of the plan format, version 1; the prose is `docs/plan-format.md`.

use crate::error::{Error, Result};

/// As the bundle's: a byte that is not ASCII, and line ends that a text transfer would damage.
pub const MAGIC: [u8; 8] = *b"\x89HPL\r\n\x1a\n";
/// Format version.
pub const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// The CRC covers everything from here on.
pub const CRC_START: usize = 20;
/// Header flag: the model takes `[channels, height, width]`.
pub const FLAG_CHANNELS_FIRST: u16 = 1;
/// Bytes of a tensor record.
pub const TENSOR_BYTES: usize = 32;
/// Bytes of an operator record.
pub const OP_BYTES: usize = 80;
/// Outputs (channels, for depthwise layers) of a panel of f16 weights, and the multiple that what f16 operators have per channel is
/// rounded up to.
pub const PANEL: usize = 8;
/// Alignment of the data, of every block in it, and of every tensor in the arena.
pub const ALIGN: usize = 16;
/// Stands for "none" where a tensor index is expected.
pub const NONE: u16 = u16::MAX;
/// Largest number of tensors.
pub const MAX_TENSORS: usize = 2048;
/// Largest number of operators.
pub const MAX_OPS: usize = 2048;
/// Largest arena, and largest tensor, in bytes.
pub const MAX_BYTES: usize = 1 << 30;
/// Most work that one run may be, in multiply-accumulates, values that a pooling looks at, or elements written: minutes of a desktop's
/// time, far beyond any model that fits the arena, so that a hostile plan cannot ask for days.
pub const MAX_WORK: u64 = 1 << 38;
/// Largest size along one axis.
pub const MAX_DIM: usize = 1 << 24;
/// Arena offset of a tensor that lies in the caller's output buffer.
pub const IN_OUTPUT: u32 = u32::MAX;
/// Operator flag: the output lies where the first input lay.
pub const FLAG_IN_PLACE: u16 = 1;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// Signed byte with the tensor's scale and zero point.
    Int8,
    /// IEEE 754 half precision.
    F16,
    /// IEEE 754 single precision, in the caller's output buffer only.
    F32,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Int8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    pub(super) fn decode(code: u8) -> Result<Self> {
        match code {
            0 => Ok(Self::Int8),
            1 => Ok(Self::F16),
            2 => Ok(Self::F32),
            other => Err(Error::Bounds { what: "element type", value: u64::from(other), min: 0, max: 2 }),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What an operator computes. int8 operators, and those that only move values, are below 64, f16 operators from there on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name = $code,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub(super) fn decode(code: u16) -> Result<Self> {
                // Not a `match`: see `name`.
                let unknown = Error::Bounds { what: "operator code", value: u64::from(code), min: 1, max: 127 };
                Self::ALL.iter().copied().find(|known| *known as u16 == code).ok_or(unknown)
            }

            /// The name, as in tables.
            #[must_use]
            pub fn name(self) -> &'static str {
                // Not a `match`, which compilers turn into code for each.
                const NAMES: &[&str] = &[$(stringify!($name),)*];
                Self::ALL.iter().zip(NAMES).find(|(code, _)| **code == self).map_or("", |(_, name)| name)
            }
        }
    };
}

codes! {
    /// Convolution, any window, any number of groups.
    Conv = 1,
    /// Convolution with one input channel an output channel.
    Depthwise = 2,
    /// Dense layer: the whole input as one row.
    Dense = 3,
    /// a·ma + b·mb + c, shifted.
    Add = 4,
    /// (a − za)·(b − zb), requantized.
    Mul = 5,
    /// Largest value in a window.
    MaxPool = 6,
    /// Mean of a window, requantized.
    AveragePool = 7,
    /// Any function of one value, as 256 bytes.
    Table = 8,
    /// Softmax over the channels.
    Softmax = 9,
    /// Border of the zero point; of zeros where values are f16.
    Pad = 10,
    /// Permutation of the axes.
    Transpose = 11,
    /// Nearest-neighbour resizing.
    Resize = 12,
    /// Channels of several inputs side by side.
    Concat = 13,
    /// Dense layer whose scores leave as f32.
    DenseFloat = 14,
    /// Softmax over f32 scores, in place.
    SoftmaxFloat = 15,
    /// The same bytes under another shape.
    Reshape = 16,
    /// int8 to f32, into the caller's output.
    Dequantize = 17,
    /// Mean of every channel over the whole map, into the caller's output.
    MeanFloat = 18,
    /// As [`Code::Conv`], f16.
    Conv16 = 65,
    /// As [`Code::Depthwise`], f16.
    Depthwise16 = 66,
    /// As [`Code::Dense`], f16.
    Dense16 = 67,
    /// Sum or difference of two tensors, f16.
    Add16 = 68,
    /// Product of two tensors, element by element, f16.
    Mul16 = 69,
    /// As [`Code::MaxPool`], f16.
    MaxPool16 = 70,
    /// Mean of a window, f16.
    AveragePool16 = 71,
    /// A [`super::Function`] of one value, f16.
    Unary16 = 72,
    /// Softmax over the channels, f16.
    Softmax16 = 73,
    /// Layer normalization over the channels, f16.
    LayerNorm16 = 74,
    /// Matrix product of two tensors, row by row of the height axis, f16.
    MatMul16 = 75,
    /// f16 to f32, into the caller's output.
    Float16 = 76,
}

impl Code {
    /// Whether it computes in f16; what only moves values takes int8 and f16 alike and is none of these.
    #[must_use]
    pub const fn is_f16(self) -> bool {
        self as u16 > 64
    }
}
