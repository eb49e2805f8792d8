//! The discrete Fourier transform of real numbers. Sines and cosines are `libm`'s and the order of additions is fixed, so that sound
//! gives the same bits on every target.

use std::f64::consts::TAU;

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Complex {
    pub re: f64,
    pub im: f64,
}

/// The transform of one length, with its tables made.
pub(super) struct RealFft {
    /// `exp(−2πi k / length)` for k below half the length.
    turns: Vec<Complex>,
}

impl RealFft {
    /// For `length` numbers, a power of two.
    pub fn new(length: usize) -> Self {
        let angle = |k: usize| -TAU * k as f64 / length as f64;
        let turn = |k: usize| Complex { re: libm::cos(angle(k)), im: libm::sin(angle(k)) };
        Self { turns: (0..length / 2).map(turn).collect() }
    }

    /// The spectrum of `samples`, zeros being added up to the length: a value for every frequency from 0 to half the length.
    ///
    /// Even and odd samples are the real and imaginary parts of a transform of half the length (Press et al., "Numerical Recipes",
    /// section 12.3), which is computed in place, radix 2, decimation in time.
    pub fn spectrum(&self, samples: impl Iterator<Item = f64>, out: &mut Vec<Complex>) {
        let half = self.turns.len();
        out.clear();
        out.resize(half + 1, Complex::default());
        let unused_bits = usize::BITS - half.trailing_zeros();
        for (at, sample) in samples.take((2 * half).max(1)).enumerate() {
            let place = if half > 1 { (at / 2).reverse_bits() >> unused_bits } else { 0 };
            *(if at % 2 == 0 { &mut out[place].re } else { &mut out[place].im }) = sample;
        }
        if half == 0 {
            return;
        }
        self.in_place(&mut out[..half]);
        let first = out[0];
        out[0] = Complex { re: first.re + first.im, im: 0.0 };
        out[half] = Complex { re: first.re - first.im, im: 0.0 };
        for k in 1..=half / 2 {
            let (a, b) = (out[k], out[half - k]);
            let even = Complex { re: 0.5 * (a.re + b.re), im: 0.5 * (a.im - b.im) };
            let odd = Complex { re: 0.5 * (a.im + b.im), im: 0.5 * (b.re - a.re) };
            let odd = times(odd, self.turns[k]);
            out[half - k] = Complex { re: even.re - odd.re, im: odd.im - even.im };
            out[k] = Complex { re: even.re + odd.re, im: even.im + odd.im };
        }
    }

    /// The transform of as many values as there are turns, whose places have their bits reversed.
    fn in_place(&self, values: &mut [Complex]) {
        let mut span = 1;
        while span < values.len() {
            let stride = self.turns.len() / span;
            for block in values.chunks_exact_mut(2 * span) {
                let (low, high) = block.split_at_mut(span);
                for ((a, b), turn) in low.iter_mut().zip(high).zip(self.turns.iter().step_by(stride)) {
                    let turned = times(*b, *turn);
                    *b = Complex { re: a.re - turned.re, im: a.im - turned.im };
                    *a = Complex { re: a.re + turned.re, im: a.im + turned.im };
                }
            }
            span *= 2;
        }
    }
}

fn times(a: Complex, b: Complex) -> Complex {
    Complex { re: a.re * b.re - a.im * b.im, im: a.re * b.im + a.im * b.re }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition.
    fn slowly(samples: &[f64]) -> Vec<Complex> {
        let angle = |k: usize, n: usize| -TAU * ((k * n) % samples.len()) as f64 / samples.len() as f64;
        let at = |k: usize| {
            let sum = |part: fn(f64) -> f64| samples.iter().enumerate().map(|(n, x)| x * part(angle(k, n))).sum();
            Complex { re: sum(f64::cos), im: sum(f64::sin) }
        };
        (0..=samples.len() / 2).map(at).collect()
    }

    #[test]
    fn every_length_gives_what_the_definition_says() {
        let mut seed = 1_u32;
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(seed) / f64::from(u32::MAX) - 0.5
        };
        let mut got = Vec::new();
        for length in (0..=11).map(|bits| 1_usize << bits) {
            let samples: Vec<f64> = (0..length).map(|_| noise()).collect();
            RealFft::new(length).spectrum(samples.iter().copied(), &mut got);
            let expected = slowly(&samples);
            assert_eq!(got.len(), expected.len(), "{length}");
            for (k, (a, b)) in got.iter().zip(&expected).enumerate() {
                assert!((a.re - b.re).abs() < 1e-11 && (a.im - b.im).abs() < 1e-11, "{length}, {k}: {a:?}, {b:?}");
            }
        }
    }

    #[test]
    fn missing_samples_are_zeros_and_further_ones_are_not_read() {
        let (mut padded, mut got) = (Vec::new(), Vec::new());
        let fft = RealFft::new(8);
        fft.spectrum([1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0].into_iter(), &mut padded);
        fft.spectrum([1.0, 2.0, 3.0].into_iter(), &mut got);
        assert_eq!(got, padded);
        fft.spectrum([1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0].into_iter(), &mut got);
        assert_eq!(got, padded);
    }
}
