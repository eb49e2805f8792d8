//! f16 values in f32, one at a time and eight at a time; functions of one value.

use crate::kernels::generic::float::narrow;
use crate::plan::Function;
use crate::plan::format::PANEL;

/// Bytes of an f16.
pub(super) const SIZE: usize = 2;
/// A value in f32, wherever it lies.
pub(super) type Wide = [u8; 4];

/// The same value.
#[inline(always)]
pub(super) fn widen(value: [u8; SIZE]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(value));
    let plain = widen_finite(value).to_bits();
    // Infinity and what is no number have an exponent of all ones.
    f32::from_bits(if bits & 0x7C00 == 0x7C00 { plain | 0x7F80_0000 } else { plain })
}

/// The same value of one that is finite, as weights are: the exponent counts from 15 rather than 127, which a product mends, exactly and for
/// the smallest values too.
#[inline(always)]
pub(super) fn widen_finite(value: [u8; SIZE]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(value));
    let size = f32::from_bits((bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

/// Eight weights.
#[inline(always)]
pub(super) fn widen_panel(values: &[u8; PANEL * SIZE]) -> [f32; PANEL] {
    let mut out = [0.0; PANEL];
    for (out, value) in out.iter_mut().zip(values.as_chunks::<SIZE>().0) {
        *out = widen_finite(*value);
    }
    out
}

/// The nearest f16; see [`narrow`].
#[inline(always)]
pub(super) fn store(to: &mut [u8; SIZE], value: f32) {
    *to = narrow(value).to_le_bytes();
}

/// Bounds on what an operator gives. What is no number may stay so or become a bound.
#[inline(always)]
pub(super) fn clamp(value: f32, (low, high): (f32, f32)) -> f32 {
    // Not `clamp`, which panics where the bounds are the wrong way round: a checked plan has none such.
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}

/// One panel's f32 numbers from a table with one a channel.
pub(super) fn eight(table: &[u8], index: usize) -> [f32; PANEL] {
    let mut out = [0.0; PANEL];
    let words = table.as_chunks::<{ PANEL * 4 }>().0.get(index).map_or(&[][..], |block| block.as_chunks::<4>().0);
    for (to, from) in out.iter_mut().zip(words) {
        *to = f32::from_le_bytes(*from);
    }
    out
}

/// The specification of every [`Function`].
#[must_use]
pub fn apply(function: Function, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + libm::expf(-x));
    match function {
        Function::Clamp(low, high) => clamp(x, (low, high)),
        Function::LeakyRelu(slope, floor) => {
            if x < 0.0 {
                clamp(slope * x, (floor, f32::INFINITY))
            } else {
                x
            }
        }
        Function::Linear(factor, summand) => factor * x + summand,
        Function::HardSigmoid(factor, summand) => clamp(factor * x + summand, (0.0, 1.0)),
        Function::HardSwish => x * clamp(x / 6.0 + 0.5, (0.0, 1.0)),
        Function::Sigmoid => sigmoid(x),
        Function::Swish => x * sigmoid(x),
        Function::Tanh => libm::tanhf(x),
        Function::Erf => libm::erff(x),
        Function::Gelu => x * 0.5 * (1.0 + libm::erff(x * core::f32::consts::FRAC_1_SQRT_2)),
        Function::Exp => libm::expf(x),
        Function::Log => libm::logf(x),
        Function::Sqrt => libm::sqrtf(x),
        Function::Reciprocal => 1.0 / x,
        Function::Abs => libm::fabsf(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_f16_is_what_the_format_says() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (widen(bits.to_le_bytes()), f16::from_bits(bits).to_f32_const());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#x}: {ours}");
            if theirs.is_finite() {
                assert_eq!(widen_finite(bits.to_le_bytes()).to_bits(), theirs.to_bits());
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_to_even() {
        let check = |x: f32| {
            let (ours, theirs) = (f16::from_bits(narrow(x)), f16::from_f32_const(x));
            assert!(
                ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
                "{x:e}: {ours}, {theirs}"
            );
        };
        for bits in 0..=u16::MAX {
            let x = f16::from_bits(bits).to_f32_const();
            let next = f16::from_bits(bits.wrapping_add(1)).to_f32_const();
            let half = (x + next) / 2.0;
            for value in [x, half, f32::from_bits(half.to_bits() + 1), f32::from_bits(half.to_bits().wrapping_sub(1))] {
                check(value);
            }
        }
        for bits in (0..=u32::MAX).step_by(65_521) {
            check(f32::from_bits(bits));
        }
        for value in [65_504.0, 65_519.99, 65_520.0, 65_536.0, 1e9, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE, -0.0] {
            check(value);
        }
    }
}
