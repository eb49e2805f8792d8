//! Scale and zero point, how an embedding is stored, and fixed-point requantization.
//!
//! ```
//! use hone_runtime::quant::{QuantParams, Requant};
//!
//! let q = QuantParams { scale: 0.5, zero_point: 3 };
//! assert_eq!(q.quantize(-1.25), 1); // -2.5 rounds to even: -2, plus 3
//! assert_eq!(q.dequantize(1), -1.0);
//!
//! let half = Requant::from_factor(0.5).unwrap();
//! assert_eq!(half.apply(5), 3); // 2.5 rounds half up
//! assert_eq!(half.apply(-5), -2);
//! ```

use crate::error::{Error, Result};
use half::f16;

/// Affine int8 quantization of one tensor: real = `scale` · (q − `zero_point`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantParams {
    /// Real value of one step; positive, finite and normal.
    pub scale: f32,
    /// The integer that stands for 0.0.
    pub zero_point: i8,
}

impl QuantParams {
    /// Refuses a scale that is not positive, finite and normal.
    pub fn check(self) -> Result<Self> {
        if self.scale.is_normal() && self.scale > 0.0 {
            Ok(self)
        } else {
            Err(Error::Malformed { what: "quantization", why: "the scale is not a positive normal number" })
        }
    }

    /// Nearest step, as ONNX `QuantizeLinear` defines it: `saturate(round_half_even(real / scale) + zero_point)`.
    /// NaN gives the zero point; callers that must refuse it check before.
    #[must_use]
    pub fn quantize(self, real: f32) -> i8 {
        let steps = libm::rintf(real / self.scale);
        // The sum of two integers below 2^24 is exact in f32, and beyond that saturation decides anyway;
        // `as` saturates and turns NaN into 0.
        if steps.is_nan() {
            return self.zero_point;
        }
        (steps + f32::from(self.zero_point)) as i8
    }

    /// `scale` · (q − `zero_point`).
    #[must_use]
    pub fn dequantize(self, q: i8) -> f32 {
        self.scale * f32::from(i16::from(q) - i16::from(self.zero_point))
    }
}

/// How one value of an embedding is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EmbeddingKind {
    /// One signed byte a value.
    Int8(QuantParams),
    /// IEEE 754 half precision, little endian.
    F16,
}

/// Shape and storage of an embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingSpec {
    /// Number of values D, 1..=[`EmbeddingSpec::MAX_DIM`].
    pub dim: usize,
    /// How each value is stored.
    pub kind: EmbeddingKind,
}

impl EmbeddingSpec {
    /// Largest D. Up to here 255 · 128 · D stays below 2^31, so that int32 accumulators cannot overflow.
    pub const MAX_DIM: usize = 65_536;

    /// Refuses a dimension or scale out of range.
    pub fn check(self) -> Result<Self> {
        if self.dim == 0 || self.dim > Self::MAX_DIM {
            return Err(Error::Bounds {
                what: "embedding dimension",
                value: self.dim as u64,
                min: 1,
                max: Self::MAX_DIM as u64,
            });
        }
        if let EmbeddingKind::Int8(q) = self.kind {
            q.check()?;
        }
        Ok(self)
    }

    /// Bytes of one stored row: D for int8, 2·D for f16.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        match self.kind {
            EmbeddingKind::Int8(_) => self.dim,
            EmbeddingKind::F16 => self.dim.saturating_mul(2),
        }
    }

    /// Stores the real values `real[D]` as one row. Refuses NaN, infinity, and values that half precision cannot hold (beyond ±65504).
    pub fn quantize_row(&self, real: &[f32], row: &mut [u8]) -> Result<()> {
        self.check_row(row)?;
        if real.len() != self.dim {
            return Err(Error::Shape { what: "values of an embedding", expected: self.dim, got: real.len() });
        }
        if let Some(index) = real.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite { what: "embedding", index });
        }
        match self.kind {
            EmbeddingKind::Int8(q) => {
                for (byte, &v) in row.iter_mut().zip(real) {
                    *byte = q.quantize(v).cast_unsigned();
                }
            }
            EmbeddingKind::F16 => {
                let largest = f16::MAX.to_f32_const();
                if let Some(index) = real.iter().position(|v| v.abs() > largest) {
                    return Err(Error::NonFinite { what: "embedding, beyond the range of half precision", index });
                }
                for (bytes, &v) in row.chunks_exact_mut(2).zip(real) {
                    bytes.copy_from_slice(&f16::from_f32(v).to_le_bytes());
                }
            }
        }
        Ok(())
    }

    /// The real values of a stored row, into `real[D]`.
    pub fn dequantize_row(&self, row: &[u8], real: &mut [f32]) -> Result<()> {
        self.check_row(row)?;
        if real.len() != self.dim {
            return Err(Error::Buffer { what: "values of an embedding", needs: self.dim, has: real.len() });
        }
        match self.kind {
            EmbeddingKind::Int8(q) => {
                for (v, byte) in real.iter_mut().zip(row) {
                    *v = q.dequantize(byte.cast_signed());
                }
            }
            EmbeddingKind::F16 => {
                for (v, bytes) in real.iter_mut().zip(row.as_chunks::<2>().0) {
                    *v = f16::from_le_bytes(*bytes).to_f32();
                }
            }
        }
        Ok(())
    }

    fn check_row(&self, row: &[u8]) -> Result<()> {
        if row.len() == self.row_bytes() {
            Ok(())
        } else {
            Err(Error::Shape { what: "bytes of an embedding row", expected: self.row_bytes(), got: row.len() })
        }
    }
}

/// Quantizes one row of weights symmetrically: `weights` ≈ scale · `row`, `row` within −127..=127.
/// Returns the scale; a row of zeros has scale 0. Refuses NaN and infinity.
pub fn symmetric_row(weights: &[f32], row: &mut [i8]) -> Result<f32> {
    if weights.len() != row.len() {
        return Err(Error::Buffer { what: "quantized weights", needs: weights.len(), has: row.len() });
    }
    let mut peak = 0.0f32;
    for (index, w) in weights.iter().enumerate() {
        if !w.is_finite() {
            return Err(Error::NonFinite { what: "weights", index });
        }
        peak = peak.max(libm::fabsf(*w));
    }
    let scale = peak / 127.0;
    // Below the normal range a quotient by `scale` says nothing any more: such a row is zero for every purpose.
    if !scale.is_normal() {
        row.fill(0);
        return Ok(0.0);
    }
    for (q, w) in row.iter_mut().zip(weights) {
        *q = libm::rintf(w / scale).clamp(-127.0, 127.0) as i8;
    }
    Ok(scale)
}

/// Fixed-point factor of a requantization: `multiplier` · 2^(−31 − `shift`).
///
/// The specification for every kernel: one rounding, half up, exact up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requant {
    multiplier: i32,
    shift: i8,
}

impl Requant {
    /// Right shifts beyond this give 0 for every accumulator.
    const MAX_SHIFT: i8 = 31;

    /// The nearest fixed-point number to `factor`, 0 < `factor` < 1 (input scale · weight scale / output scale).
    ///
    /// `multiplier` lies in 2^30..2^31, which keeps the relative error below 2^-31. Factors below 2^-32 are refused:
    /// they would turn every accumulator into zero.
    pub fn from_factor(factor: f64) -> Result<Self> {
        const WHAT: &str = "requantization factor";
        if !(factor > 0.0 && factor < 1.0) {
            return Err(Error::Malformed { what: WHAT, why: "it is not between 0 and 1" });
        }
        let (mantissa, exponent) = libm::frexp(factor); // mantissa in [0.5, 1), exponent <= 0
        let mut multiplier = libm::rint(mantissa * f64::from(1u32 << 31)) as i64;
        let mut shift = -exponent;
        if multiplier == 1 << 31 {
            multiplier >>= 1;
            shift -= 1;
        }
        // A factor that rounds to 1 has shift −1: the largest multiplier below stands in for it.
        if shift < 0 {
            return Ok(Self { multiplier: i32::MAX, shift: 0 });
        }
        match (i32::try_from(multiplier), i8::try_from(shift)) {
            (Ok(multiplier), Ok(shift)) if shift <= Self::MAX_SHIFT => Ok(Self { multiplier, shift }),
            _ => Err(Error::Malformed { what: WHAT, why: "it is below 2^-32" }),
        }
    }

    /// A factor from its stored parts; `multiplier` in 2^30..2^31 and `shift` in 0..=31.
    pub fn from_parts(multiplier: i32, shift: i8) -> Result<Self> {
        if multiplier < 1 << 30 || !(0..=Self::MAX_SHIFT).contains(&shift) {
            return Err(Error::Malformed { what: "requantization factor", why: "its parts are out of range" });
        }
        Ok(Self { multiplier, shift })
    }

    /// Q31 multiplier, 2^30..2^31.
    #[must_use]
    pub fn multiplier(self) -> i32 {
        self.multiplier
    }

    /// Right shift after the multiplication by the Q31 multiplier, 0..=31.
    #[must_use]
    pub fn shift(self) -> i8 {
        self.shift
    }

    /// `saturate(floor(acc · factor + 1/2))`: one rounding, half up (towards +∞), in exact 64-bit arithmetic.
    #[must_use]
    pub fn apply(self, acc: i32) -> i8 {
        self.apply_with_zero_point(acc, 0)
    }

    /// As [`Requant::apply`], with `zero_point` added after rounding and before saturating.
    #[must_use]
    pub fn apply_with_zero_point(self, acc: i32, zero_point: i8) -> i8 {
        // |acc · multiplier| <= 2^31 · (2^31 − 1) < 2^62, and the half is at most 2^61: no overflow in i64.
        let product = i64::from(acc) * i64::from(self.multiplier);
        let total = 31 + u32::from(self.shift.cast_unsigned());
        let rounded = (product + (1i64 << (total - 1))) >> total;
        (rounded + i64::from(zero_point)).clamp(-128, 127) as i8
    }
}

#[cfg(test)]
mod tests;
