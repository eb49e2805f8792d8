//! How a row of data becomes the model's input: stated once at export, stored in the bundle, applied everywhere.
//!
//! This module owns the record, its bytes and its text form; the host executes it on data.

mod codec;
#[cfg(all(test, feature = "alloc"))]
mod tests;
#[cfg(feature = "alloc")]
mod text;

use crate::error::{Error, Result};

/// Most channels that a [`TensorPrep`] can scale one by one.
pub const MAX_CHANNELS: usize = 16;
/// Most axes of a row.
pub const MAX_AXES: usize = 4;
/// Longest encoding of a record in bytes.
pub const MAX_ENCODED_BYTES: usize = 192;

/// How a row of data becomes the model's input (f32).
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Preprocess {
    /// Rows are the model's input already, converted to f32 when they are integers.
    #[default]
    None,
    /// Any array: axes permuted, then scaled by channel.
    Tensor(TensorPrep),
    /// A picture, from a file or as a row of bytes.
    Image(ImagePrep),
    /// A clip of mono sound.
    Audio(AudioPrep),
    /// A text.
    Text(TextPrep),
}

/// model = [ids, mask], two rows of `tokens` numbers: the tokens of the text in the bundle's vocabulary
/// ([`Bundle::vocabulary`](super::Bundle::vocabulary)), and 1 for each of them.
///
/// The text is split as BERT's tokenizer splits it (white space, punctuation and Chinese characters; then the longest pieces that the
/// vocabulary has, from the left), put between `[CLS]` and `[SEP]`, and cut behind `tokens` − 1 of them so that `[SEP]` is the last. Places without a token have
/// the id of `[PAD]` and 0 in the mask. `[MASK]`, `[SEP]` and the like in a text are split like any other characters, where BERT's own
/// tokenizer takes them for the tokens of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPrep {
    /// Length of the two rows.
    pub tokens: u32,
    /// Whether letters become lower case and lose their accents first.
    pub lower: bool,
}

/// model = permute(row · scale + offset).
#[derive(Debug, Clone, PartialEq)]
pub struct TensorPrep {
    /// `perm[i]` is the row's axis that becomes the model's axis i (as numpy's `transpose`); empty: unchanged.
    pub perm: heapless::Vec<u8, MAX_AXES>,
    /// The channel axis of the *row*, to which longer lists apply; of no effect with lists of one.
    pub axis: u8,
    /// One factor for all, or one a channel.
    pub scale: heapless::Vec<f32, MAX_CHANNELS>,
    /// One offset for all, or one a channel, added after scaling.
    pub offset: heapless::Vec<f32, MAX_CHANNELS>,
}

/// model = (pixel · scale − mean) / std, pixel in 0..=255, mean and std in the model's channel order.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePrep {
    /// Width of the model's input in pixels.
    pub width: u32,
    /// Height of the model's input in pixels.
    pub height: u32,
    /// How a picture of another size gets there.
    pub resize: Resize,
    /// Channels and their order.
    pub channels: Channels,
    /// Factor applied to the pixel value first: 1 keeps 0..255, 1/255 gives 0..1.
    pub scale: f32,
    /// Subtracted after scaling; with [`Channels::Gray`] only the first counts and the others equal it.
    pub mean: [f32; 3],
    /// Divides last; with [`Channels::Gray`] only the first counts and the others equal it.
    pub std: [f32; 3],
    /// Order of the model's axes.
    pub layout: ImageLayout,
}

/// How a picture gets the model's size. Always bilinear with the triangle filter widened when reducing, as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side is brought to `shorter` pixels, the aspect kept, then the centre is cut out
    /// (torchvision's `Resize(shorter)`, `CenterCrop`). At least the larger of width and height.
    Crop {
        /// Pixels of the shorter side before the cut.
        shorter: u32,
    },
    /// Both sides are brought to the model's, the aspect is not kept.
    Stretch,
    /// A picture must have the model's size already.
    None,
}

/// Channels of a picture as the model takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One: ITU-R 601 luma.
    Gray,
}

impl Channels {
    /// 3 or 1.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }
}

/// Order of the axes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageLayout {
    /// Channel, row, column.
    Nchw,
    /// Row, column, channel.
    Nhwc,
}

/// model = layout(frontend(clip) · scale + offset).
///
/// The clip has exactly `window_samples` samples in −1..1 (int16 / 32768), mono, cut out of longer sound as `start` says;
/// zeros stand for samples that shorter sound does not have.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioPrep {
    /// Samples a second.
    pub sample_rate: u32,
    /// Length of the clip in samples.
    pub window_samples: u32,
    /// Where in the sound the clip starts.
    pub start: Start,
    /// Whether the clip is divided by its largest sample first (the maximum, not the magnitude; silence stays).
    pub peak: bool,
    /// Factor applied to the samples next: 1 keeps −1..1, 32768 gives the range of int16.
    pub gain: f32,
    /// From samples to features.
    pub frontend: Frontend,
    /// Applied to every feature.
    pub scale: f32,
    /// Added to every feature after `scale`.
    pub offset: f32,
    /// Order of the features in the model's input.
    pub layout: AudioLayout,
}

/// Where in the sound the clip starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this sample, from 0.
    Sample(u32),
    /// So that the clip's middle is the sound's; shorter sound has zeros on both sides (one more behind where odd).
    Middle,
}

/// From samples to features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Frontend {
    /// The samples themselves.
    Raw,
    /// Mel-frequency cepstral coefficients as TensorFlow's `mfccs_from_log_mel_spectrograms` defines them, the 0th too.
    TfMfcc {
        /// The log-mel bands that they are made of.
        mel: Mel,
        /// How many coefficients are kept, from the 0th.
        coefficients: u16,
    },
    /// The log-mel bands themselves.
    LogMel(Mel),
}

/// Logarithm of a mel spectrum, frame by frame, no padding at the ends.
///
/// A frame is weighted with a periodic Hann window, transformed, and its spectrum summed into triangular bands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mel {
    /// Samples of a frame.
    pub frame: u32,
    /// Samples from one frame to the next.
    pub step: u32,
    /// Points of the FFT, a power of two, at least `frame`.
    pub fft: u32,
    /// Number of mel bands.
    pub bins: u16,
    /// Lower edge of the first band in hertz.
    pub low_hz: f32,
    /// Upper edge of the last band in hertz, at most half the sample rate.
    pub high_hz: f32,
    /// Samples of the Hann window, at most `frame`; it stands in the frame's middle, the samples beside it count as zero
    /// (librosa's and torchlibrosa's `win_length` below `n_fft`).
    pub window: u32,
    /// What of the FFT's output is summed.
    pub spectrum: Spectrum,
    /// Where the bands are and how they rise and fall.
    pub bands: Bands,
    /// Whether each band's weights are divided by half its width in hertz (librosa's `norm="slaney"`).
    pub area_norm: bool,
    /// The logarithm.
    pub log: Log,
    /// What keeps the logarithm finite.
    pub floor: Floor,
    /// Values more than this below the clip's largest are raised to it, in units of the logarithm (librosa's `top_db`);
    /// 0: they stay.
    pub range: f32,
}

/// What of the FFT's output is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spectrum {
    /// |X|.
    Magnitude,
    /// |X|².
    Power,
}

/// Triangular bands, their corners evenly spaced in mel from the lower to the upper edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bands {
    /// HTK mel, 1127 ln(1 + f / 700); straight in mel, without FFT bin 0 (`tf.signal.linear_to_mel_weight_matrix`).
    TensorFlow,
    /// HTK mel, straight in hertz (librosa with `htk=True`, torchaudio).
    Htk,
    /// Slaney's mel, linear below 1 kHz and logarithmic above; straight in hertz (librosa, torchlibrosa).
    Slaney,
}

/// Which logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// ln x.
    Natural,
    /// log10 x.
    Base10,
    /// 10 log10 x.
    Decibel,
}

/// What keeps the logarithm finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Floor {
    /// log(x + floor).
    Add(f32),
    /// log(max(x, floor)).
    Max(f32),
}

impl Mel {
    /// As TensorFlow's tutorials and the keyword models of MLPerf Tiny have it: ln(magnitude in TensorFlow's bands + 1e-6),
    /// the window as long as the frame.
    #[must_use]
    pub const fn tensorflow(frame: u32, step: u32, fft: u32, bins: u16, low_hz: f32, high_hz: f32) -> Self {
        Self {
            frame,
            step,
            fft,
            bins,
            low_hz,
            high_hz,
            window: frame,
            spectrum: Spectrum::Magnitude,
            bands: Bands::TensorFlow,
            area_norm: false,
            log: Log::Natural,
            floor: Floor::Add(1e-6),
            range: 0.0,
        }
    }

    /// Whether the fields after `high_hz` are those of [`Mel::tensorflow`].
    fn is_tensorflow(&self) -> bool {
        *self == Self::tensorflow(self.frame, self.step, self.fft, self.bins, self.low_hz, self.high_hz)
    }
}

/// Order of the features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioLayout {
    /// Frame by frame, the features of a frame together.
    TimeMajor,
    /// Feature by feature, the frames of a feature together.
    FeatureMajor,
}

impl Preprocess {
    /// Refuses what cannot be executed: sizes of zero or beyond reason, NaN, a division by zero.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Tensor(prep) => prep.check(),
            Self::Image(prep) => prep.check(),
            Self::Audio(prep) => prep.check(),
            Self::Text(prep) => prep.check(),
        }
    }
}

impl TextPrep {
    /// Most tokens of a text.
    pub const MAX_TOKENS: u32 = 8192;
    /// Largest vocabulary in bytes. Ids are below 2^24 so, and exact in f32.
    pub const MAX_VOCABULARY_BYTES: usize = 16 << 20;

    fn check(&self) -> Result<()> {
        if (3..=Self::MAX_TOKENS).contains(&self.tokens) {
            return Ok(());
        }
        Err(out_of_range("tokens of a text", self.tokens, 3, Self::MAX_TOKENS))
    }
}

impl TensorPrep {
    fn check(&self) -> Result<()> {
        for axis in 0..self.perm.len() {
            let named = self.perm.iter().filter(|named| usize::from(**named) == axis).count();
            if named != 1 {
                return refuse("perm does not name each axis once");
            }
        }
        let axes = if self.perm.is_empty() { MAX_AXES } else { self.perm.len() };
        if usize::from(self.axis) >= axes {
            return refuse("axis is not an axis of the row");
        }
        let (scales, offsets) = (self.scale.len(), self.offset.len());
        if scales == 0 || offsets == 0 {
            return refuse("scale and offset need at least one number");
        }
        if scales != offsets && scales != 1 && offsets != 1 {
            return refuse("scale and offset are lists of different lengths");
        }
        finite(&self.scale)?;
        finite(&self.offset)
    }
}

impl ImagePrep {
    /// Largest side in pixels.
    pub const MAX_SIDE: u32 = 8192;

    fn check(&self) -> Result<()> {
        within("width in pixels", self.width, Self::MAX_SIDE)?;
        within("height in pixels", self.height, Self::MAX_SIDE)?;
        if let Resize::Crop { shorter } = self.resize {
            within("shorter side in pixels", shorter, Self::MAX_SIDE)?;
            if shorter < self.width.max(self.height) {
                return refuse("the shorter side is smaller than what is cut out");
            }
        }
        if self.channels == Channels::Gray && !(same(&self.mean) && same(&self.std)) {
            return refuse("gray has one mean and one std");
        }
        finite(&[self.scale])?;
        finite(&self.mean)?;
        finite(&self.std)?;
        if self.std.contains(&0.0) {
            return refuse("std is zero");
        }
        Ok(())
    }
}

impl AudioPrep {
    /// Longest clip in samples: three minutes at 48 kHz.
    pub const MAX_SAMPLES: u32 = 180 * 48_000;

    fn check(&self) -> Result<()> {
        within("sample rate in hertz", self.sample_rate, 384_000)?;
        within("clip in samples", self.window_samples, Self::MAX_SAMPLES)?;
        if let Start::Sample(start) = self.start
            && start > Self::MAX_SAMPLES
        {
            return Err(out_of_range("start in samples", start, 0, Self::MAX_SAMPLES));
        }
        finite(&[self.scale, self.offset])?;
        if !(self.gain.is_finite() && self.gain > 0.0) {
            return refuse("gain is not a positive number");
        }
        match self.frontend {
            Frontend::Raw => Ok(()),
            Frontend::LogMel(mel) => self.check_mel(mel),
            Frontend::TfMfcc { mel, coefficients } => {
                within("coefficients", u32::from(coefficients), u32::from(mel.bins))?;
                self.check_mel(mel)
            }
        }
    }

    /// Whether the record has nothing that its first form, without the extension, cannot say.
    fn is_plain(&self) -> bool {
        let mel = match self.frontend {
            Frontend::Raw => true,
            Frontend::TfMfcc { mel, .. } | Frontend::LogMel(mel) => mel.is_tensorflow(),
        };
        mel && self.start == Start::Sample(0) && self.gain == 1.0
    }

    fn check_mel(&self, mel: Mel) -> Result<()> {
        within("mel bands", u32::from(mel.bins), 1024)?;
        within("frame in samples", mel.frame, self.window_samples)?;
        within("step in samples", mel.step, self.window_samples)?;
        within("fft points", mel.fft, 65_536)?;
        if mel.fft < mel.frame || !mel.fft.is_power_of_two() {
            return refuse("fft is not a power of two of at least a frame");
        }
        within("window in samples", mel.window, mel.frame)?;
        let (Floor::Add(floor) | Floor::Max(floor)) = mel.floor;
        if !(floor.is_normal() && floor > 0.0) {
            return refuse("the floor of the logarithm is not a positive number");
        }
        if !(mel.range.is_finite() && mel.range.is_sign_positive()) {
            return refuse("the range of the logarithm is not 0 (none) or a positive number");
        }
        finite(&[mel.low_hz, mel.high_hz])?;
        if !(mel.low_hz >= 0.0 && mel.low_hz < mel.high_hz && mel.high_hz <= self.sample_rate as f32 / 2.0) {
            return refuse("the mel band edges are not 0 <= low < high <= half the sample rate");
        }
        Ok(())
    }
}

const WHAT: &str = "preprocessing";

fn refuse(why: &'static str) -> Result<()> {
    Err(Error::Malformed { what: WHAT, why })
}

fn within(what: &'static str, value: u32, max: u32) -> Result<()> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(out_of_range(what, value, 1, max))
}

fn out_of_range(what: &'static str, value: u32, min: u64, max: u32) -> Error {
    Error::Bounds { what, value: u64::from(value), min, max: u64::from(max) }
}

fn finite(values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(Error::NonFinite { what: WHAT, index }),
        None => Ok(()),
    }
}

fn same(values: &[f32; 3]) -> bool {
    let [a, b, c] = values;
    a == b && b == c
}
