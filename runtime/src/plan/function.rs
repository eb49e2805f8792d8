//! Functions of one value that an f16 operator can compute.

/// y of x, in f32; the result is rounded to f16.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Function {
    /// min(max(x, low), high); an infinite bound bounds nothing.
    Clamp(f32, f32),
    /// x, or max(slope · x, floor) below 0; the floor is at most 0, −∞ where there is none.
    LeakyRelu(f32, f32),
    /// factor · x + summand.
    Linear(f32, f32),
    /// min(max(factor · x + summand, 0), 1).
    HardSigmoid(f32, f32),
    /// x · min(max(x / 6 + 1/2, 0), 1).
    HardSwish,
    /// 1 / (1 + exp(−x)).
    Sigmoid,
    /// x / (1 + exp(−x)).
    Swish,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// x · (1 + erf(x / √2)) / 2 (Hendrycks and Gimpel, "Gaussian error linear units", 2016).
    Gelu,
    /// Exponential.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// 1 / x.
    Reciprocal,
    /// |x|.
    Abs,
}

impl Function {
    /// From what a plan stores: the number of the function and two parameters. `None` for a number that no function has, for parameters that
    /// are no numbers, and for those that the function does not take and that are not 0.
    #[must_use]
    pub fn from_parts(code: u8, a: f32, b: f32) -> Option<Self> {
        let finite = a.is_finite() && b.is_finite();
        let none = a.to_bits() == 0 && b.to_bits() == 0;
        match code {
            0 => (a <= b).then_some(Self::Clamp(a, b)),
            1 => (a.is_finite() && b <= 0.0).then_some(Self::LeakyRelu(a, b)),
            2 => finite.then_some(Self::Linear(a, b)),
            3 => finite.then_some(Self::HardSigmoid(a, b)),
            4..=14 if !none => None,
            4 => Some(Self::HardSwish),
            5 => Some(Self::Sigmoid),
            6 => Some(Self::Swish),
            7 => Some(Self::Tanh),
            8 => Some(Self::Erf),
            9 => Some(Self::Gelu),
            10 => Some(Self::Exp),
            11 => Some(Self::Log),
            12 => Some(Self::Sqrt),
            13 => Some(Self::Reciprocal),
            14 => Some(Self::Abs),
            _ => None,
        }
    }

    /// As a plan stores it; the inverse of [`Function::from_parts`].
    #[must_use]
    pub fn to_parts(self) -> (u8, f32, f32) {
        match self {
            Self::Clamp(low, high) => (0, low, high),
            Self::LeakyRelu(slope, floor) => (1, slope, floor),
            Self::Linear(factor, summand) => (2, factor, summand),
            Self::HardSigmoid(factor, summand) => (3, factor, summand),
            Self::HardSwish => (4, 0.0, 0.0),
            Self::Sigmoid => (5, 0.0, 0.0),
            Self::Swish => (6, 0.0, 0.0),
            Self::Tanh => (7, 0.0, 0.0),
            Self::Erf => (8, 0.0, 0.0),
            Self::Gelu => (9, 0.0, 0.0),
            Self::Exp => (10, 0.0, 0.0),
            Self::Log => (11, 0.0, 0.0),
            Self::Sqrt => (12, 0.0, 0.0),
            Self::Reciprocal => (13, 0.0, 0.0),
            Self::Abs => (14, 0.0, 0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_inverse() {
        for code in 0..=255 {
            for (a, b) in [(0.0, 0.0), (0.1, 0.5), (-1.0, f32::INFINITY), (0.1, f32::NEG_INFINITY)] {
                if let Some(function) = Function::from_parts(code, a, b) {
                    assert_eq!(function.to_parts(), (code, a, b));
                }
            }
        }
    }

    #[test]
    fn what_is_no_function_is_refused() {
        assert_eq!(Function::from_parts(15, 0.0, 0.0), None);
        assert_eq!(Function::from_parts(0, 1.0, 0.0), None);
        assert_eq!(Function::from_parts(0, f32::NAN, 0.0), None);
        assert_eq!(Function::from_parts(1, 0.1, 0.5), None);
        assert_eq!(Function::from_parts(2, f32::INFINITY, 0.0), None);
        assert_eq!(Function::from_parts(5, 1.0, 0.0), None);
    }
}
