//! The record's one-line text form, used by `--prep` and by `inspect`.
//!
//! `KIND:key=value,key=value`; lists are joined by `:`, a number may be a fraction. What [`Display`](fmt::Display)
//! prints, [`Preprocess::parse`] reads back to the same record.

use core::fmt::{self, Write};
use core::str::FromStr;

use crate::prelude::*;

use super::*;
use crate::error::{Error, Result};

impl Preprocess {
    /// Reads the text form. Keys may come in any order; those with a natural default may be left out:
    ///
    /// | kind | keys (default) |
    /// |---|---|
    /// | `none` | |
    /// | `tensor` | `perm` (axes as they are), `axis` (0), `scale` (1), `offset` (0) |
    /// | `image` | `size=WxH`, `resize=crop\|crop:N\|stretch\|none` (crop), `channels=rgb\|bgr\|gray` (rgb), `norm=raw\|unit\|tf\|imagenet\|caffe` (raw), `scale`, `mean`, `std` (as `norm`), `layout=nchw\|nhwc` (nchw) |
    /// | `raw`, `mfcc`, `logmel` | `rate`, `samples` (= `rate`: one second), `start=N\|middle` (0), `peak=yes\|no` (yes for mfcc, else no), `gain` (1), `scale` (1), `offset` (0), `layout=time\|feature` (time) |
    /// | `mfcc`, `logmel` also | `frame`, `step`, `fft`, `bins`, `low`, `high`, `window` (= `frame`), `spectrum=magnitude\|power` (magnitude), `mel=tensorflow\|htk\|slaney` (tensorflow), `norm=none\|area` (none), `log=ln\|log10\|db` (ln), `floor=add:X\|max:X` (add:1e-6), `range` (0: none) |
    /// | `mfcc` also | `coefficients` |
    /// | `text` | `len` (tokens), `lower=yes\|no` (yes) |
    ///
    /// What the keys of sound mean stands with [`AudioPrep`] and [`Mel`].
    ///
    /// `norm` names the usual ways to scale pixels: `raw` 0..255; `unit` 0..1; `tf` −1..1 (x / 127.5 − 1, Keras
    /// "tf"); `imagenet` 0..1 minus 0.485:0.456:0.406 over 0.229:0.224:0.225 (torchvision, Keras "torch"); `caffe`
    /// 0..255 minus 103.939:116.779:123.68 with channels=bgr (Keras "caffe").
    ///
    /// ```
    /// use hone_runtime::bundle::Preprocess;
    ///
    /// let prep = Preprocess::parse("image:size=128x128,scale=1/128,mean=1")?;
    /// let canonical = "image:size=128x128,resize=crop:128,channels=rgb,scale=0.0078125,mean=1,std=1,layout=nchw";
    /// assert_eq!(prep.to_string(), canonical);
    /// assert_eq!(Preprocess::parse(canonical)?, prep);
    /// # Ok::<(), hone_runtime::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        let (kind, keys) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        let mut keys = Keys::new(keys)?;
        let record = match kind {
            "none" => Self::None,
            "tensor" => Self::Tensor(parse_tensor(&mut keys)?),
            "image" => Self::Image(parse_image(&mut keys)?),
            "raw" | "mfcc" | "logmel" => Self::Audio(parse_audio(kind, &mut keys)?),
            "text" => Self::Text(TextPrep {
                tokens: keys.number("len", None)?,
                lower: keys.choice("lower", &SWITCH, true, "expected lower=yes or no")?,
            }),
            _ => return Err(fault(kind, "expected none, tensor, image, raw, mfcc, logmel or text")),
        };
        keys.end()?;
        record.check()?;
        Ok(record)
    }
}

impl FromStr for Preprocess {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

fn parse_tensor(keys: &mut Keys<'_>) -> Result<TensorPrep> {
    let too_long = |_| fault("perm", "too many axes");
    Ok(TensorPrep {
        perm: match keys.take("perm") {
            Some(perm) => heapless::Vec::from_slice(&items::<u8>(perm)?).map_err(too_long)?,
            None => heapless::Vec::new(),
        },
        axis: keys.number("axis", Some(0))?,
        scale: parse_list(keys, "scale", 1.0)?,
        offset: parse_list(keys, "offset", 0.0)?,
    })
}

fn parse_list(keys: &mut Keys<'_>, key: &str, default: f32) -> Result<heapless::Vec<f32, MAX_CHANNELS>> {
    let values = match keys.take(key) {
        Some(list) => real_items(list)?,
        None => vec![default],
    };
    heapless::Vec::from_slice(&values).map_err(|_| fault(key, "more than 16 channels"))
}

fn parse_image(keys: &mut Keys<'_>) -> Result<ImagePrep> {
    const SIZE: &str = "expected size=WIDTHxHEIGHT";
    let size = keys.take("size").ok_or_else(|| fault("size", SIZE))?;
    let (width, height) = size.split_once('x').ok_or_else(|| fault(size, SIZE))?;
    let (width, height) = (number::<u32>(width)?, number::<u32>(height)?);
    let norm = keys.take("norm");
    let (scale, mean, std, usual) = match norm.unwrap_or("raw") {
        "raw" => (1.0, [0.0; 3], [1.0; 3], Channels::Rgb),
        "unit" => (1.0 / 255.0, [0.0; 3], [1.0; 3], Channels::Rgb),
        "tf" => (1.0 / 127.5, [1.0; 3], [1.0; 3], Channels::Rgb),
        "imagenet" => (1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], Channels::Rgb),
        "caffe" => (1.0, [103.939, 116.779, 123.68], [1.0; 3], Channels::Bgr),
        other => return Err(fault(other, "expected norm=raw, unit, tf, imagenet or caffe")),
    };
    let channels = match keys.take("channels") {
        None => usual,
        Some("rgb") => Channels::Rgb,
        Some("bgr") => Channels::Bgr,
        Some("gray" | "grey") => Channels::Gray,
        Some(other) => return Err(fault(other, "expected channels=rgb, bgr or gray")),
    };
    if norm == Some("caffe") && channels != Channels::Bgr {
        return Err(fault("norm=caffe", "its means are in the order of channels=bgr"));
    }
    Ok(ImagePrep {
        width,
        height,
        resize: match keys.take("resize") {
            None | Some("crop") => Resize::Crop { shorter: width.max(height) },
            Some("stretch") => Resize::Stretch,
            Some("none") => Resize::None,
            Some(other) => match other.strip_prefix("crop:") {
                Some(shorter) => Resize::Crop { shorter: number(shorter)? },
                None => return Err(fault(other, "expected resize=crop, crop:PIXELS, stretch or none")),
            },
        },
        channels,
        scale: keys.take("scale").map_or(Ok(scale), real)?,
        mean: keys.take("mean").map_or(Ok(mean), |list| triplet(list, channels))?,
        std: keys.take("std").map_or(Ok(std), |list| triplet(list, channels))?,
        layout: match keys.take("layout") {
            None | Some("nchw") => ImageLayout::Nchw,
            Some("nhwc") => ImageLayout::Nhwc,
            Some(other) => return Err(fault(other, "expected layout=nchw or nhwc")),
        },
    })
}

fn triplet(list: &str, channels: Channels) -> Result<[f32; 3]> {
    match (real_items(list)?.as_slice(), channels.count()) {
        ([one], _) => Ok([*one; 3]),
        ([a, b, c], 3) => Ok([*a, *b, *c]),
        _ => Err(fault(list, "expected one number, or one a channel")),
    }
}

fn parse_audio(kind: &str, keys: &mut Keys<'_>) -> Result<AudioPrep> {
    let sample_rate = keys.number("rate", None)?;
    let frontend = match kind {
        "mfcc" => Frontend::TfMfcc { mel: parse_mel(keys)?, coefficients: keys.number("coefficients", None)? },
        "logmel" => Frontend::LogMel(parse_mel(keys)?),
        _ => Frontend::Raw,
    };
    Ok(AudioPrep {
        sample_rate,
        window_samples: keys.number("samples", Some(sample_rate))?,
        start: match keys.take("start") {
            None => Start::Sample(0),
            Some("middle") => Start::Middle,
            Some(sample) => Start::Sample(number(sample)?),
        },
        peak: keys.choice("peak", &SWITCH, kind == "mfcc", "expected peak=yes or no")?,
        gain: keys.take("gain").map_or(Ok(1.0), real)?,
        frontend,
        scale: keys.take("scale").map_or(Ok(1.0), real)?,
        offset: keys.take("offset").map_or(Ok(0.0), real)?,
        layout: keys.choice("layout", &LAYOUTS, AudioLayout::TimeMajor, "expected layout=time or feature")?,
    })
}

const SWITCH: [(&str, bool); 2] = [("no", false), ("yes", true)];
const LAYOUTS: [(&str, AudioLayout); 2] = [("time", AudioLayout::TimeMajor), ("feature", AudioLayout::FeatureMajor)];
const SPECTRA: [(&str, Spectrum); 2] = [("magnitude", Spectrum::Magnitude), ("power", Spectrum::Power)];
const BANDS: [(&str, Bands); 3] = [("tensorflow", Bands::TensorFlow), ("htk", Bands::Htk), ("slaney", Bands::Slaney)];
const NORMS: [(&str, bool); 2] = [("none", false), ("area", true)];
const LOGS: [(&str, Log); 3] = [("ln", Log::Natural), ("log10", Log::Base10), ("db", Log::Decibel)];

fn parse_mel(keys: &mut Keys<'_>) -> Result<Mel> {
    let mut hertz = |key: &'static str| match keys.take(key) {
        Some(text) => real(text),
        None => Err(fault(key, "this key is missing")),
    };
    let (low_hz, high_hz) = (hertz("low")?, hertz("high")?);
    let (frame, step, fft) = (keys.number("frame", None)?, keys.number("step", None)?, keys.number("fft", None)?);
    let usual = Mel::tensorflow(frame, step, fft, keys.number("bins", None)?, low_hz, high_hz);
    Ok(Mel {
        window: keys.number("window", Some(frame))?,
        spectrum: keys.choice("spectrum", &SPECTRA, usual.spectrum, "expected spectrum=magnitude or power")?,
        bands: keys.choice("mel", &BANDS, usual.bands, "expected mel=tensorflow, htk or slaney")?,
        area_norm: keys.choice("norm", &NORMS, usual.area_norm, "expected norm=none or area")?,
        log: keys.choice("log", &LOGS, usual.log, "expected log=ln, log10 or db")?,
        floor: match keys.take("floor").map(|text| (text, text.split_once(':'))) {
            None => usual.floor,
            Some((_, Some(("add", floor)))) => Floor::Add(real(floor)?),
            Some((_, Some(("max", floor)))) => Floor::Max(real(floor)?),
            Some((text, _)) => return Err(fault(text, "expected floor=add:NUMBER or max:NUMBER")),
        },
        range: keys.take("range").map_or(Ok(usual.range), real)?,
        ..usual
    })
}

/// The `key=value` pairs that were not taken yet.
struct Keys<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Keys<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| fault(part, "expected key=value"))?;
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(fault(key, "this key comes twice"));
            }
            pairs.push((key, value));
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(known, _)| *known == key)?;
        Some(self.0.swap_remove(at).1)
    }

    fn number<T: FromStr + Copy>(&mut self, key: &str, default: Option<T>) -> Result<T> {
        match (self.take(key), default) {
            (Some(text), _) => number(text),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(fault(key, "this key is missing")),
        }
    }

    /// One of a few words.
    fn choice<T: Copy>(&mut self, key: &str, of: &[(&str, T)], default: T, expected: &'static str) -> Result<T> {
        let Some(text) = self.take(key) else { return Ok(default) };
        of.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| fault(text, expected))
    }

    fn end(self) -> Result<()> {
        match self.0.first() {
            Some((key, _)) => Err(fault(key, "this kind of preprocessing has no such key")),
            None => Ok(()),
        }
    }
}

fn number<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| fault(text, "expected a whole number in range"))
}

/// A decimal number or a fraction of two.
fn real(text: &str) -> Result<f32> {
    let decimal = |text: &str| {
        let value = text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
        value.ok_or_else(|| fault(text, "expected a number or a fraction such as 1/255"))
    };
    let value = match text.split_once('/') {
        Some((over, under)) => decimal(over)? / decimal(under)?,
        None => decimal(text)?,
    } as f32;
    if value.is_finite() { Ok(value) } else { Err(fault(text, "not a finite number")) }
}

fn items<T: FromStr>(list: &str) -> Result<Vec<T>> {
    list.split(':').map(number).collect()
}

fn real_items(list: &str) -> Result<Vec<f32>> {
    list.split(':').map(real).collect()
}

fn fault(text: &str, why: &'static str) -> Error {
    Error::PreprocessText { text: text.into(), why }
}

/// The canonical text: every key in one order, except that those of sound which came later (`start`, `gain`, `window` to
/// `range`) stand there only where they say something else than their default.
impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Tensor(prep) => {
                f.write_str("tensor:")?;
                if !prep.perm.is_empty() {
                    list(f, "perm=", &prep.perm)?;
                    f.write_char(',')?;
                }
                write!(f, "axis={}", prep.axis)?;
                list(f, ",scale=", &prep.scale)?;
                list(f, ",offset=", &prep.offset)
            }
            Self::Image(prep) => show_image(f, prep),
            Self::Audio(prep) => show_audio(f, prep),
            Self::Text(prep) => write!(f, "text:len={},lower={}", prep.tokens, word(&SWITCH, prep.lower)),
        }
    }
}

fn show_image(f: &mut fmt::Formatter<'_>, prep: &ImagePrep) -> fmt::Result {
    write!(f, "image:size={}x{},resize=", prep.width, prep.height)?;
    match prep.resize {
        Resize::Crop { shorter } => write!(f, "crop:{shorter}")?,
        Resize::Stretch => f.write_str("stretch")?,
        Resize::None => f.write_str("none")?,
    }
    let channels = match prep.channels {
        Channels::Rgb => "rgb",
        Channels::Bgr => "bgr",
        Channels::Gray => "gray",
    };
    write!(f, ",channels={channels},scale={}", prep.scale)?;
    for (name, values) in [(",mean=", &prep.mean), (",std=", &prep.std)] {
        match values {
            [first, ..] if same(values) => list(f, name, &[*first])?,
            _ => list(f, name, values)?,
        }
    }
    f.write_str(match prep.layout {
        ImageLayout::Nchw => ",layout=nchw",
        ImageLayout::Nhwc => ",layout=nhwc",
    })
}

fn show_audio(f: &mut fmt::Formatter<'_>, prep: &AudioPrep) -> fmt::Result {
    let (kind, mel, coefficients) = match prep.frontend {
        Frontend::Raw => ("raw", None, None),
        Frontend::TfMfcc { mel, coefficients } => ("mfcc", Some(mel), Some(coefficients)),
        Frontend::LogMel(mel) => ("logmel", Some(mel), None),
    };
    write!(f, "{kind}:rate={},samples={}", prep.sample_rate, prep.window_samples)?;
    match prep.start {
        Start::Sample(0) => {}
        Start::Sample(start) => write!(f, ",start={start}")?,
        Start::Middle => f.write_str(",start=middle")?,
    }
    write!(f, ",peak={}", word(&SWITCH, prep.peak))?;
    if prep.gain != 1.0 {
        write!(f, ",gain={}", prep.gain)?;
    }
    if let Some(mel) = mel {
        write!(f, ",frame={},step={},fft={},bins={}", mel.frame, mel.step, mel.fft, mel.bins)?;
        write!(f, ",low={},high={}", mel.low_hz, mel.high_hz)?;
        if !mel.is_tensorflow() {
            show_mel_extension(f, &mel)?;
        }
    }
    if let Some(coefficients) = coefficients {
        write!(f, ",coefficients={coefficients}")?;
    }
    write!(f, ",scale={},offset={},layout={}", prep.scale, prep.offset, word(&LAYOUTS, prep.layout))
}

fn show_mel_extension(f: &mut fmt::Formatter<'_>, mel: &Mel) -> fmt::Result {
    let (spectrum, bands) = (word(&SPECTRA, mel.spectrum), word(&BANDS, mel.bands));
    write!(f, ",window={},spectrum={spectrum},mel={bands}", mel.window)?;
    write!(f, ",norm={},log={}", word(&NORMS, mel.area_norm), word(&LOGS, mel.log))?;
    match mel.floor {
        Floor::Add(floor) => write!(f, ",floor=add:{floor}")?,
        Floor::Max(floor) => write!(f, ",floor=max:{floor}")?,
    }
    write!(f, ",range={}", mel.range)
}

/// The word for a value; every value of these tables has one.
fn word<T: PartialEq>(of: &[(&'static str, T)], value: T) -> &'static str {
    of.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, name: &str, values: &[T]) -> fmt::Result {
    f.write_str(name)?;
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            f.write_char(':')?;
        }
        write!(f, "{value}")?;
    }
    Ok(())
}
