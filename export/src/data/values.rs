//! Numbers as they are stored: a run of one element type.

use std::fmt;

use half::f16;

/// Element types that data files may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the types")]
pub enum ElementType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    I64,
    F16,
    F32,
    F64,
}

impl ElementType {
    /// Bytes of one element.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether the type is a whole number.
    #[must_use]
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F16 | Self::F32 | Self::F64)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        })
    }
}

/// A run of numbers in C order.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names are the types")]
pub enum Values {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// One expression for every element type.
macro_rules! each {
    ($values:expr, $run:ident => $expr:expr) => {
        match $values {
            Values::U8($run) => $expr,
            Values::I8($run) => $expr,
            Values::U16($run) => $expr,
            Values::I16($run) => $expr,
            Values::U32($run) => $expr,
            Values::I32($run) => $expr,
            Values::I64($run) => $expr,
            Values::F16($run) => $expr,
            Values::F32($run) => $expr,
            Values::F64($run) => $expr,
        }
    };
}

macro_rules! decode {
    ($type:ty, $bytes:expr, $big:expr) => {
        $bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| if $big { <$type>::from_be_bytes(*b) } else { <$type>::from_le_bytes(*b) })
            .collect()
    };
}

impl Values {
    /// Decodes stored bytes; a rest that is no whole element is ignored.
    pub(crate) fn from_bytes(element: ElementType, big_endian: bool, bytes: &[u8]) -> Self {
        match element {
            ElementType::U8 => Self::U8(bytes.to_vec()),
            ElementType::I8 => Self::I8(bytes.iter().map(|b| b.cast_signed()).collect()),
            ElementType::U16 => Self::U16(decode!(u16, bytes, big_endian)),
            ElementType::I16 => Self::I16(decode!(i16, bytes, big_endian)),
            ElementType::U32 => Self::U32(decode!(u32, bytes, big_endian)),
            ElementType::I32 => Self::I32(decode!(i32, bytes, big_endian)),
            ElementType::I64 => Self::I64(decode!(i64, bytes, big_endian)),
            ElementType::F16 => Self::F16(decode!(f16, bytes, big_endian)),
            ElementType::F32 => Self::F32(decode!(f32, bytes, big_endian)),
            ElementType::F64 => Self::F64(decode!(f64, bytes, big_endian)),
        }
    }

    /// Type of the elements.
    #[must_use]
    pub fn element(&self) -> ElementType {
        match self {
            Self::U8(_) => ElementType::U8,
            Self::I8(_) => ElementType::I8,
            Self::U16(_) => ElementType::U16,
            Self::I16(_) => ElementType::I16,
            Self::U32(_) => ElementType::U32,
            Self::I32(_) => ElementType::I32,
            Self::I64(_) => ElementType::I64,
            Self::F16(_) => ElementType::F16,
            Self::F32(_) => ElementType::F32,
            Self::F64(_) => ElementType::F64,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, run => run.len())
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Converted to f32, rounded to nearest where the type is wider (64-bit numbers may become infinite).
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::U8(run) => run.iter().map(|v| f32::from(*v)).collect(),
            Self::I8(run) => run.iter().map(|v| f32::from(*v)).collect(),
            Self::U16(run) => run.iter().map(|v| f32::from(*v)).collect(),
            Self::I16(run) => run.iter().map(|v| f32::from(*v)).collect(),
            Self::U32(run) => run.iter().map(|v| *v as f32).collect(),
            Self::I32(run) => run.iter().map(|v| *v as f32).collect(),
            Self::I64(run) => run.iter().map(|v| *v as f32).collect(),
            Self::F16(run) => run.iter().map(|v| v.to_f32()).collect(),
            Self::F32(run) => run.clone(),
            Self::F64(run) => run.iter().map(|v| *v as f32).collect(),
        }
    }

    /// Whole numbers as i64; `None` for the floating types.
    #[must_use]
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self {
            Self::U8(run) => Some(run.iter().map(|v| i64::from(*v)).collect()),
            Self::I8(run) => Some(run.iter().map(|v| i64::from(*v)).collect()),
            Self::U16(run) => Some(run.iter().map(|v| i64::from(*v)).collect()),
            Self::I16(run) => Some(run.iter().map(|v| i64::from(*v)).collect()),
            Self::U32(run) => Some(run.iter().map(|v| i64::from(*v)).collect()),
            Self::I32(run) => Some(run.iter().map(|v| i64::from(*v)).collect()),
            Self::I64(run) => Some(run.clone()),
            Self::F16(_) | Self::F32(_) | Self::F64(_) => None,
        }
    }

    /// The first element that is NaN or infinite as f32: its index and value.
    #[must_use]
    pub fn non_finite(&self) -> Option<(usize, f32)> {
        let find = |mut run: Box<dyn Iterator<Item = f32> + '_>| {
            let mut at = 0;
            run.find(|v| {
                at += 1;
                !v.is_finite()
            })
            .map(|v| (at - 1, v))
        };
        match self {
            Self::F16(run) => find(Box::new(run.iter().map(|v| v.to_f32()))),
            Self::F32(run) => find(Box::new(run.iter().copied())),
            Self::F64(run) => find(Box::new(run.iter().map(|v| *v as f32))),
            _ => None,
        }
    }
}
