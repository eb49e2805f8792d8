//! From int32 accumulators to int8: one multiplier a channel, one shift a layer, one rounding.
//!
//! ```
//! use hone_runtime::plan::Requant;
//!
//! let mut multipliers = [0; 2];
//! let requant = Requant::fit(&[0.125, 0.0625], &mut multipliers)?.with_output(3, -128, 127)?;
//! assert_eq!(requant.apply(20, multipliers[0]), 6); // 2.5 rounds half up: 3, plus the zero point 3
//! assert_eq!(requant.apply(-20, multipliers[0]), 1); // -2.5 rounds half up: -2
//! assert_eq!(requant.apply(100, multipliers[1]), 9); // 6.25
//! # Ok::<(), hone_runtime::Error>(())
//! ```

use crate::error::{Error, Result};

const NAME: &str = "requantization";

/// The specification for every int8 kernel:
///
/// q = clamp(floor((satₛ₃₂(acc · 2^`left`) · m + 2^(`shift` − 1)) / 2^`shift`) + `zero_point`, `min`, `max`)
///
/// with m the channel's multiplier, 0 ≤ m < 2^31, and all arithmetic exact: one rounding, half up (towards +∞), as in TFLite's
/// single-rounding variant.
///
/// `shift` is at least 33, so that everything below the high word of the 64-bit product is rounding: adding 2^(shift − 1) +
/// `zero_point` · 2^shift touches the high word alone, and what follows is a 32-bit arithmetic shift. That is one `smmla` and one
/// `ssat` on a Cortex-M4. `left` is 0 unless a factor reaches 1/4, where an accumulator of that many bits saturates the output anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requant {
    shift: u8,
    left: u8,
    /// Zero point of the output.
    pub zero_point: i8,
    /// Least output.
    pub min: i8,
    /// Greatest output.
    pub max: i8,
}

impl Requant {
    /// Least [`Requant::shift`].
    pub const MIN_SHIFT: u8 = 33;
    /// Greatest [`Requant::shift`]: up to here nothing overflows 64 bits.
    pub const MAX_SHIFT: u8 = 54;
    /// Greatest [`Requant::left`].
    pub const MAX_LEFT: u8 = 24;

    /// The shift for a layer, and the nearest multiplier of every channel, for `factors` = input scale · weight scale / output
    /// scale, each at least 0 and below 2^22. The greatest factor gets 31 bits, smaller ones fewer; a factor below 2^-55 becomes 0.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a factor out of range, [`Error::Shape`] when the slices differ in length.
    pub fn fit(factors: &[f64], multipliers: &mut [i32]) -> Result<Self> {
        if factors.len() != multipliers.len() {
            return Err(Error::Shape { what: "multipliers", expected: factors.len(), got: multipliers.len() });
        }
        let bad = Error::Malformed { what: NAME, why: "a factor is not in 0..2^22" };
        let mut greatest = 0f64;
        for factor in factors {
            if !(0.0..f64::from(1u32 << 22)).contains(factor) {
                return Err(bad);
            }
            greatest = greatest.max(*factor);
        }
        // greatest · 2^(31 − exponent) lies in 2^30..2^31; rounding may reach 2^31, which the last line pulls down.
        let (_, exponent) = libm::frexp(greatest);
        let bits = if greatest > 0.0 { 31 - exponent } else { i32::from(Self::MAX_SHIFT) };
        let total = bits.min(i32::from(Self::MAX_SHIFT));
        let left = (i32::from(Self::MIN_SHIFT) - total).max(0);
        let shift = total + left;
        for (multiplier, factor) in multipliers.iter_mut().zip(factors) {
            *multiplier = libm::rint(libm::ldexp(*factor, total)).min(f64::from(i32::MAX)) as i32;
        }
        Self::from_parts(u8::try_from(shift).unwrap_or(0), u8::try_from(left).unwrap_or(u8::MAX))
    }

    /// From what a plan stores.
    ///
    /// # Errors
    /// [`Error::Bounds`] for shifts out of range.
    pub fn from_parts(shift: u8, left: u8) -> Result<Self> {
        let bounds = |what, value: u8, min: u8, max: u8| {
            Err(Error::Bounds { what, value: u64::from(value), min: u64::from(min), max: u64::from(max) })
        };
        if !(Self::MIN_SHIFT..=Self::MAX_SHIFT).contains(&shift) {
            return bounds("shift of a requantization", shift, Self::MIN_SHIFT, Self::MAX_SHIFT);
        }
        if left > Self::MAX_LEFT {
            return bounds("left shift of a requantization", left, 0, Self::MAX_LEFT);
        }
        Ok(Self { shift, left, zero_point: 0, min: i8::MIN, max: i8::MAX })
    }

    /// The same with the output's zero point and bounds.
    ///
    /// # Errors
    /// [`Error::Malformed`] when `min` is above `max`.
    pub fn with_output(self, zero_point: i8, min: i8, max: i8) -> Result<Self> {
        if min > max {
            return Err(Error::Malformed { what: NAME, why: "its least output is above its greatest" });
        }
        Ok(Self { zero_point, min, max, ..self })
    }

    /// Right shift of the 64-bit product, 33..=54.
    #[must_use]
    pub fn shift(self) -> u8 {
        self.shift
    }

    /// Saturating left shift of the accumulator, 0..=24; 0 in nearly every layer.
    #[must_use]
    pub fn left(self) -> u8 {
        self.left
    }

    /// What is added to the high word of the product: the rounding half and the zero point, both in the position of the result.
    #[must_use]
    pub fn high_word(self) -> i32 {
        let after = u32::from(self.shift - 32);
        (1i32 << (after - 1)) + (i32::from(self.zero_point) << after)
    }

    /// The requantized value of one accumulator; `multiplier` in 0..2^31.
    #[must_use]
    pub fn apply(self, acc: i32, multiplier: i32) -> i8 {
        let acc = match self.left {
            0 => acc,
            left => (i64::from(acc) << left).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32,
        };
        // Nothing is added to the low word, so that the high one is enough. It is below 2^30 in size, and what is added as well.
        let high = ((i64::from(acc) * i64::from(multiplier)) >> 32) as i32 + self.high_word();
        // Not `clamp`, which panics where the bounds are the wrong way round: `with_output` has refused that.
        (high >> (self.shift - 32)).max(i32::from(self.min)).min(i32::from(self.max)) as i8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition in 128 bits, written from the documentation's formula.
    fn wide(r: Requant, acc: i32, m: i32) -> i8 {
        let acc = (i128::from(acc) << r.left()).clamp(i128::from(i32::MIN), i128::from(i32::MAX));
        let rounded = (acc * i128::from(m) + (1i128 << (r.shift() - 1))).div_euclid(1i128 << r.shift());
        (rounded + i128::from(r.zero_point)).clamp(i128::from(r.min), i128::from(r.max)) as i8
    }

    proptest! {
        #[test]
        fn is_the_formula(acc in any::<i32>(), m in 0..=i32::MAX, shift in 33u8..=54, left in 0u8..=24, z in any::<i8>()) {
            let r = Requant::from_parts(shift, left).unwrap().with_output(z, i8::MIN, i8::MAX).unwrap();
            prop_assert_eq!(r.apply(acc, m), wide(r, acc, m));
        }

        #[test]
        fn stays_within_a_hair_of_the_real_product(acc in -4_000_000i32..4_000_000, exponent in -20i32..8, part in 1f64..2.0) {
            let factor = libm::ldexp(part, exponent);
            let mut m = [0];
            let r = Requant::fit(&[factor], &mut m).unwrap();
            let exact = f64::from(acc) * factor;
            let got = f64::from(r.apply(acc, m[0]));
            if (-128.0..=127.0).contains(&exact) {
                prop_assert!((got - exact).abs() <= 0.5 + 1e-6, "{} for {}", got, exact);
            } else {
                prop_assert_eq!(got, if exact > 0.0 { 127.0 } else { -128.0 });
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        for acc in [i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX] {
            for (shift, left) in [(33, 0), (33, 24), (54, 0), (54, 24)] {
                for z in [i8::MIN, 0, i8::MAX] {
                    let r = Requant::from_parts(shift, left).unwrap().with_output(z, -128, 127).unwrap();
                    for m in [0, 1, i32::MAX] {
                        assert_eq!(r.apply(acc, m), wide(r, acc, m), "{acc} {m} {r:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn refuses_what_it_cannot_hold() {
        let mut m = [0];
        for factor in [-0.1, f64::NAN, f64::INFINITY, 4_194_304.0] {
            assert_eq!(Requant::fit(&[factor], &mut m).unwrap_err().code(), "malformed");
        }
        assert_eq!(Requant::fit(&[0.5, 0.5], &mut m).unwrap_err().code(), "shape");
        assert_eq!(Requant::from_parts(32, 0).unwrap_err().code(), "bounds");
        assert!(Requant::fit(&[0.0], &mut m).is_ok());
    }
}
