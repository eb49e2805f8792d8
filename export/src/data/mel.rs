//! Audio front ends: mel spectrum, its logarithm, cepstral coefficients.
//!
//! As TensorFlow computes them: `tf.signal.stft` (periodic Hann window, no padding), magnitude,
//! `tf.signal.linear_to_mel_weight_matrix` (HTK mel, FFT bin 0 left out), ln(mel + 1e-6),
//! `tf.signal.mfccs_from_log_mel_spectrograms` (DCT-II times sqrt(2 / bands), the 0th coefficient too).

use std::f64::consts::{PI, TAU};
use std::sync::Arc;

use hone_runtime::bundle::preprocess::{Frontend, Mel};
use realfft::{RealFftPlanner, RealToComplex};

/// A front end with its tables made.
pub(super) struct Features {
    mel: Mel,
    window: Vec<f64>,
    fft: Arc<dyn RealToComplex<f64>>,
    /// For each band: the first FFT bin and the weights from there.
    bands: Vec<(usize, Vec<f64>)>,
    /// `coefficients × bands`; `None` gives the log-mel bands themselves.
    dct: Option<Vec<Vec<f64>>>,
}

impl Features {
    /// `None` for [`Frontend::Raw`]. The record has been checked.
    pub fn new(frontend: Frontend, sample_rate: u32) -> Option<Self> {
        let (mel, coefficients) = match frontend {
            Frontend::Raw => return None,
            Frontend::LogMel(mel) => (mel, None),
            Frontend::TfMfcc { mel, coefficients } => (mel, Some(usize::from(coefficients))),
        };
        let frame = f64::from(mel.frame);
        let window = (0..mel.frame).map(|n| 0.5 - 0.5 * (TAU * f64::from(n) / frame).cos()).collect();
        let bins = usize::from(mel.bins);
        let dct = coefficients.map(|count| {
            let factor = (2.0 / bins as f64).sqrt();
            let row =
                |k: usize| (0..bins).map(|n| (PI / bins as f64 * (n as f64 + 0.5) * k as f64).cos() * factor).collect();
            (0..count).map(row).collect()
        });
        let fft = RealFftPlanner::new().plan_fft_forward(mel.fft as usize);
        Some(Self { mel, window, fft, bands: bands(mel, sample_rate), dct })
    }

    /// Features of a frame.
    pub fn width(&self) -> usize {
        self.dct.as_ref().map_or(self.bands.len(), Vec::len)
    }

    /// `frames × width`, frame by frame; only whole frames.
    pub fn compute(&self, samples: &[f32]) -> Vec<f32> {
        let (frame, step) = (self.mel.frame as usize, self.mel.step as usize);
        let mut input = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut out = Vec::new();
        let mut log_mel = vec![0.0; self.bands.len()];
        for clip in samples.windows(frame).step_by(step) {
            input.fill(0.0);
            for ((to, sample), weight) in input.iter_mut().zip(clip).zip(&self.window) {
                *to = f64::from(*sample) * weight;
            }
            // The buffers were made by the plan itself, so their lengths fit.
            if self.fft.process(&mut input, &mut spectrum).is_err() {
                return Vec::new();
            }
            let magnitude: Vec<f64> = spectrum.iter().map(|c| c.re.hypot(c.im)).collect();
            for (value, (first, weights)) in log_mel.iter_mut().zip(&self.bands) {
                let energy: f64 = weights.iter().zip(&magnitude[*first..]).map(|(w, m)| w * m).sum();
                *value = (energy + 1e-6).ln();
            }
            match &self.dct {
                None => out.extend(log_mel.iter().map(|v| *v as f32)),
                Some(rows) => {
                    out.extend(rows.iter().map(|row| row.iter().zip(&log_mel).map(|(a, b)| a * b).sum::<f64>() as f32))
                }
            }
        }
        out
    }
}

/// Triangles whose corners are evenly spaced in HTK mel, `1127 ln(1 + f / 700)`.
fn bands(mel: Mel, sample_rate: u32) -> Vec<(usize, Vec<f64>)> {
    let to_mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (to_mel(f64::from(mel.low_hz)), to_mel(f64::from(mel.high_hz)));
    let corner = |i: usize| low + (high - low) * i as f64 / f64::from(mel.bins + 1);
    let bin_hz = f64::from(sample_rate) / f64::from(mel.fft);
    (0..usize::from(mel.bins))
        .map(|band| {
            let (left, center, right) = (corner(band), corner(band + 1), corner(band + 2));
            let weight = |bin: usize| {
                let at = to_mel(bin as f64 * bin_hz);
                ((at - left) / (center - left)).min((right - at) / (right - center)).max(0.0)
            };
            let inside: Vec<usize> = (1..=mel.fft as usize / 2).filter(|bin| weight(*bin) > 0.0).collect();
            (inside.first().copied().unwrap_or(0), inside.iter().map(|bin| weight(*bin)).collect())
        })
        .collect()
}
