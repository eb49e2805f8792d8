//! One tensor of a plan.

use core::ops::Range;

use super::WHAT;
use super::format::{ALIGN, DType, IN_OUTPUT, MAX_BYTES, MAX_DIM, TENSOR_BYTES};
use crate::bytes::Fields;
use crate::error::{Error, Result};
use crate::quant::QuantParams;

/// Shape, element type and place of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Height, width, channels; channels fastest. What has fewer axes has ones in front.
    pub shape: [usize; 3],
    /// Scale and zero point of an int8 tensor.
    pub quant: QuantParams,
    /// Where it begins in the arena, in bytes, a multiple of 16; `None`: it is the caller's output buffer.
    pub offset: Option<usize>,
}

impl Tensor {
    /// No elements; stands where there is no tensor.
    pub const EMPTY: Self =
        Self { dtype: DType::Int8, shape: [0; 3], quant: QuantParams { scale: 1.0, zero_point: 0 }, offset: Some(0) };

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        let [h, w, c] = self.shape;
        // `decode` bounds the product of a plan's tensors.
        h.wrapping_mul(w).wrapping_mul(c)
    }

    /// Number of bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.elements().wrapping_mul(self.dtype.bytes())
    }

    /// Height.
    #[must_use]
    pub fn height(&self) -> usize {
        self.shape[0]
    }

    /// Width.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape[1]
    }

    /// Channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.shape[2]
    }

    /// Bytes of the arena that it takes; empty where it lies in the caller's output.
    #[must_use]
    #[inline(never)]
    pub fn range(&self) -> Range<usize> {
        self.offset.map_or(0..0, |offset| offset..offset.saturating_add(self.bytes()))
    }

    /// The bytes that a tensor takes, of a record that was decoded before; the caller's output lies behind every arena.
    pub(super) fn place(record: &[u8; TENSOR_BYTES]) -> Range<usize> {
        let tensor = Self::read(record);
        let start = tensor.offset.unwrap_or(MAX_BYTES);
        start..start.saturating_add(tensor.bytes())
    }

    /// What a record says, unchecked.
    #[inline(never)]
    pub(super) fn read(record: &[u8; TENSOR_BYTES]) -> Self {
        let f = Fields(record);
        let dtype = match f.u8(0) {
            0 => DType::Int8,
            1 => DType::F16,
            _ => DType::F32,
        };
        let quant = QuantParams { scale: f32::from_bits(f.u32(4)), zero_point: f.i8(2) };
        let offset = f.u32(20);
        Self {
            dtype,
            shape: [f.u32(8) as usize, f.u32(12) as usize, f.u32(16) as usize],
            quant,
            offset: if offset == IN_OUTPUT { None } else { Some(offset as usize) },
        }
    }

    /// What a record says, where that can be.
    #[inline(never)]
    pub(super) fn decode(record: &[u8; TENSOR_BYTES]) -> Result<Self> {
        let f = Fields(record);
        DType::decode(f.u8(0))?;
        let tensor = Self::read(record);
        let Self { dtype, shape, quant, offset } = tensor;
        if cfg!(not(feature = "f16")) && dtype == DType::F16 {
            return Err(Error::Malformed { what: WHAT, why: "a tensor in f16, which this build does not run" });
        }
        if f.u8(1) != 0 || f.u8(3) != 0 || f.u32(24) != 0 || f.u32(28) != 0 {
            return Err(Error::Malformed { what: WHAT, why: "reserved bytes are not zero" });
        }
        for size in shape {
            if size > MAX_DIM {
                let (value, max) = (size as u64, MAX_DIM as u64);
                return Err(Error::Bounds { what: "size of a tensor", value, min: 0, max });
            }
        }
        let [h, w, c] = shape;
        let bytes = h.checked_mul(w).and_then(|n| n.checked_mul(c)).and_then(|n| n.checked_mul(dtype.bytes()));
        if bytes.is_none_or(|bytes| bytes == 0 || bytes > MAX_BYTES) {
            return Err(Error::Malformed { what: WHAT, why: "a tensor of no elements, or of too many" });
        }
        let is_plain = quant.scale.to_bits() == 1f32.to_bits() && quant.zero_point == 0;
        if dtype == DType::Int8 {
            quant.check()?;
        } else if !is_plain {
            return Err(Error::Malformed { what: WHAT, why: "a float tensor with a scale" });
        }
        if offset.is_some_and(|offset| !offset.is_multiple_of(ALIGN)) || (dtype == DType::F32) != offset.is_none() {
            return Err(Error::Malformed { what: WHAT, why: "a tensor lies where none may" });
        }
        Ok(tensor)
    }

    #[cfg(feature = "alloc")]
    pub(super) fn encode(&self) -> [u8; TENSOR_BYTES] {
        let mut record = [0; TENSOR_BYTES];
        let [a, _, z, _, rest @ ..] = &mut record;
        *a = match self.dtype {
            DType::Int8 => 0,
            DType::F16 => 1,
            DType::F32 => 2,
        };
        *z = self.quant.zero_point.cast_unsigned();
        let [h, w, c] = self.shape.map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        let offset = self.offset.map_or(IN_OUTPUT, |offset| u32::try_from(offset).unwrap_or(IN_OUTPUT));
        let words = [self.quant.scale.to_bits(), h, w, c, offset];
        for (bytes, word) in rest.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        record
    }
}
