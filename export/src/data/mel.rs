//! Audio front ends: mel spectrum, its logarithm, cepstral coefficients, as [`Mel`] states them.
//!
//! The cepstral coefficients are `tf.signal.mfccs_from_log_mel_spectrograms`: DCT-II times sqrt(2 / bands), the 0th too.
//! Logarithms and cosines are `libm`'s, so that a recording gives the same bits on every target.

use std::f64::consts::{PI, TAU};

use hone_runtime::bundle::preprocess::{Bands, Floor, Frontend, Log, Mel, Spectrum};

use super::fft::{Complex, RealFft};

/// A front end with its tables made.
pub(super) struct Features {
    mel: Mel,
    window: Vec<f64>,
    fft: RealFft,
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
        let hann = |n: u32| 0.5 - 0.5 * libm::cos(TAU * f64::from(n) / f64::from(mel.window));
        let before = (mel.frame - mel.window) / 2;
        let window =
            (0..mel.frame).map(|n| n.checked_sub(before).filter(|n| *n < mel.window).map_or(0.0, hann)).collect();
        let bins = usize::from(mel.bins);
        let dct = coefficients.map(|count| {
            let factor = (2.0 / bins as f64).sqrt();
            let angle = |k: usize, n: usize| PI / bins as f64 * (n as f64 + 0.5) * k as f64;
            let row = |k: usize| (0..bins).map(|n| libm::cos(angle(k, n)) * factor).collect();
            (0..count).map(row).collect()
        });
        Some(Self { mel, window, fft: RealFft::new(mel.fft as usize), bands: bands(mel, sample_rate), dct })
    }

    /// Features of a frame.
    pub fn width(&self) -> usize {
        self.dct.as_ref().map_or(self.bands.len(), Vec::len)
    }

    /// `frames × width`, frame by frame; only whole frames.
    pub fn compute(&self, samples: &[f32]) -> Vec<f32> {
        let log_mel = self.log_mel(samples);
        match &self.dct {
            None => log_mel.iter().map(|v| *v as f32).collect(),
            Some(rows) => {
                let frames = log_mel.chunks_exact(self.bands.len());
                let dot = |row: &Vec<f64>, frame: &[f64]| row.iter().zip(frame).map(|(a, b)| a * b).sum::<f64>() as f32;
                frames.flat_map(|frame| rows.iter().map(move |row| dot(row, frame))).collect()
            }
        }
    }

    /// `frames × bands`.
    fn log_mel(&self, samples: &[f32]) -> Vec<f64> {
        let (frame, step) = (self.mel.frame as usize, self.mel.step as usize);
        let (mut spectrum, mut out) = (Vec::new(), Vec::new());
        for clip in samples.windows(frame).step_by(step) {
            let weighted = clip.iter().zip(&self.window).map(|(sample, weight)| f64::from(*sample) * weight);
            self.fft.spectrum(weighted, &mut spectrum);
            let power = |c: &Complex| c.re * c.re + c.im * c.im;
            let energy: Vec<f64> = match self.mel.spectrum {
                Spectrum::Magnitude => spectrum.iter().map(|c| power(c).sqrt()).collect(),
                Spectrum::Power => spectrum.iter().map(power).collect(),
            };
            out.extend(self.bands.iter().map(|(first, weights)| {
                let sum: f64 = weights.iter().zip(&energy[*first..]).map(|(w, e)| w * e).sum();
                self.log(sum)
            }));
        }
        if self.mel.range > 0.0 {
            let largest = out.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let least = largest - f64::from(self.mel.range);
            out.iter_mut().for_each(|v| *v = v.max(least));
        }
        out
    }

    fn log(&self, energy: f64) -> f64 {
        let kept = match self.mel.floor {
            Floor::Add(floor) => energy + f64::from(floor),
            Floor::Max(floor) => energy.max(f64::from(floor)),
        };
        match self.mel.log {
            Log::Natural => libm::log(kept),
            Log::Base10 => libm::log10(kept),
            Log::Decibel => 10.0 * libm::log10(kept),
        }
    }
}

/// For each band the first FFT bin and the weights from there.
fn bands(mel: Mel, sample_rate: u32) -> Vec<(usize, Vec<f64>)> {
    let to_mel: fn(f64) -> f64 = if mel.bands == Bands::Slaney { to_slaney } else { to_htk };
    let to_hz: fn(f64) -> f64 = if mel.bands == Bands::Slaney { from_slaney } else { from_htk };
    let (low, high) = (to_mel(f64::from(mel.low_hz)), to_mel(f64::from(mel.high_hz)));
    let corner = |i: usize| low + (high - low) * i as f64 / f64::from(mel.bins + 1);
    let bin_hz = f64::from(sample_rate) / f64::from(mel.fft);
    (0..usize::from(mel.bins))
        .map(|band| {
            let corners = [corner(band), corner(band + 1), corner(band + 2)];
            let hertz = corners.map(to_hz);
            let height = if mel.area_norm { 2.0 / (hertz[2] - hertz[0]) } else { 1.0 };
            let weight = |bin: usize| {
                let at = bin as f64 * bin_hz;
                let (at, [left, center, right]) =
                    if mel.bands == Bands::TensorFlow { (to_mel(at), corners) } else { (at, hertz) };
                ((at - left) / (center - left)).min((right - at) / (right - center)).max(0.0) * height
            };
            let first_bin = usize::from(mel.bands == Bands::TensorFlow);
            let inside: Vec<usize> = (first_bin..=mel.fft as usize / 2).filter(|bin| weight(*bin) > 0.0).collect();
            (inside.first().copied().unwrap_or(0), inside.iter().map(|bin| weight(*bin)).collect())
        })
        .collect()
}

fn to_htk(hertz: f64) -> f64 {
    1127.0 * libm::log(1.0 + hertz / 700.0)
}

fn from_htk(mel: f64) -> f64 {
    700.0 * (libm::exp(mel / 1127.0) - 1.0)
}

/// Slaney, "Auditory Toolbox" (1998), as in librosa: 3 mel for 200 Hz below 1 kHz, 27 mel for a factor of 6.4 above.
fn to_slaney(hertz: f64) -> f64 {
    if hertz < 1000.0 { hertz * 3.0 / 200.0 } else { 15.0 + libm::log(hertz / 1000.0) * 27.0 / libm::log(6.4) }
}

fn from_slaney(mel: f64) -> f64 {
    if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * libm::exp((mel - 15.0) * libm::log(6.4) / 27.0) }
}

#[cfg(test)]
mod tests;
