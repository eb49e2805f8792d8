//! The record's bytes; the tables are in `docs/bundle-format.md`.

#[allow(unused_imports, reason = "Vec, where there is an allocator")]
use crate::prelude::*;

use super::*;
use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};

impl Preprocess {
    /// Reads a record that fills `bytes` wholly; what it gives passed [`Preprocess::check`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(WHAT, bytes);
        let record = match r.u8()? {
            0 => Self::None,
            1 => Self::Tensor(read_tensor(&mut r)?),
            2 => Self::Image(read_image(&mut r)?),
            3 => Self::Audio(read_audio(&mut r)?),
            4 => Self::Text(read_text(&mut r)?),
            kind => return Err(unknown("kind of preprocessing", kind, 4)),
        };
        r.end()?;
        record.check()?;
        Ok(record)
    }

    /// Writes the record into `buffer` ([`MAX_ENCODED_BYTES`] always suffice); returns the bytes used.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize> {
        self.check()?;
        let mut w = Writer::new(WHAT, buffer);
        match self {
            Self::None => w.u8(0)?,
            Self::Tensor(prep) => write_tensor(&mut w, prep)?,
            Self::Image(prep) => write_image(&mut w, prep)?,
            Self::Audio(prep) => write_audio(&mut w, prep)?,
            Self::Text(prep) => {
                w.bytes(&[4, u8::from(prep.lower), 0, 0])?;
                w.u32(prep.tokens)?;
            }
        }
        Ok(w.position())
    }

    /// The record's bytes.
    #[cfg(feature = "alloc")]
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; MAX_ENCODED_BYTES];
        let len = self.encode(&mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }
}

fn write_tensor(w: &mut Writer<'_>, prep: &TensorPrep) -> Result<()> {
    // heapless bounds each length by 16.
    w.bytes(&[1, prep.perm.len() as u8, prep.axis, prep.scale.len() as u8, prep.offset.len() as u8])?;
    w.bytes(&prep.perm)?;
    prep.scale.iter().chain(&prep.offset).try_for_each(|v| w.f32(*v))
}

fn read_tensor(r: &mut Reader<'_>) -> Result<TensorPrep> {
    let [perm, axis, scales, offsets] = r.array()?;
    let too_long = |_| Error::Malformed { what: WHAT, why: "a list is too long" };
    let perm = heapless::Vec::from_slice(r.bytes(usize::from(perm))?).map_err(too_long)?;
    let mut list = |len: u8| -> Result<_> {
        let mut list = heapless::Vec::new();
        for _ in 0..len {
            list.push(r.f32()?).map_err(|_| Error::Malformed { what: WHAT, why: "a list is too long" })?;
        }
        Ok(list)
    };
    Ok(TensorPrep { perm, axis, scale: list(scales)?, offset: list(offsets)? })
}

fn write_image(w: &mut Writer<'_>, prep: &ImagePrep) -> Result<()> {
    let (resize, shorter) = match prep.resize {
        Resize::None => (0, 0),
        Resize::Stretch => (1, 0),
        Resize::Crop { shorter } => (2, shorter),
    };
    let channels = match prep.channels {
        Channels::Rgb => 0,
        Channels::Bgr => 1,
        Channels::Gray => 2,
    };
    let layout = match prep.layout {
        ImageLayout::Nchw => 0,
        ImageLayout::Nhwc => 1,
    };
    w.bytes(&[2, resize, channels, layout])?;
    [prep.width, prep.height, shorter].into_iter().try_for_each(|v| w.u32(v))?;
    w.f32(prep.scale)?;
    prep.mean.iter().chain(&prep.std).try_for_each(|v| w.f32(*v))
}

fn read_image(r: &mut Reader<'_>) -> Result<ImagePrep> {
    let [resize, channels, layout] = r.array()?;
    let [width, height, shorter] = [r.u32()?, r.u32()?, r.u32()?];
    Ok(ImagePrep {
        width,
        height,
        resize: match (resize, shorter) {
            (0, 0) => Resize::None,
            (1, 0) => Resize::Stretch,
            (2, shorter) => Resize::Crop { shorter },
            (0 | 1, _) => {
                return Err(Error::Malformed { what: WHAT, why: "a shorter side is given but not used" });
            }
            _ => return Err(unknown("kind of resizing", resize, 2)),
        },
        channels: match channels {
            0 => Channels::Rgb,
            1 => Channels::Bgr,
            2 => Channels::Gray,
            _ => return Err(unknown("kind of channels", channels, 2)),
        },
        layout: match layout {
            0 => ImageLayout::Nchw,
            1 => ImageLayout::Nhwc,
            _ => return Err(unknown("kind of image layout", layout, 1)),
        },
        scale: r.f32()?,
        mean: [r.f32()?, r.f32()?, r.f32()?],
        std: [r.f32()?, r.f32()?, r.f32()?],
    })
}

/// Set in the byte of the front end where the extension follows.
const EXTENDED: u8 = 0x80;
/// Start of a clip from the middle of the sound.
const MIDDLE: u32 = u32::MAX;

fn write_audio(w: &mut Writer<'_>, prep: &AudioPrep) -> Result<()> {
    let (frontend, mel, coefficients) = match prep.frontend {
        Frontend::Raw => (0, None, 0),
        Frontend::TfMfcc { mel, coefficients } => (1, Some(mel), coefficients),
        Frontend::LogMel(mel) => (2, Some(mel), 0),
    };
    let layout = match prep.layout {
        AudioLayout::TimeMajor => 0,
        AudioLayout::FeatureMajor => 1,
    };
    // What the first form can say is said in it, so that earlier readers understand it.
    let extended = !prep.is_plain();
    w.bytes(&[3, frontend | if extended { EXTENDED } else { 0 }, u8::from(prep.peak), layout])?;
    w.u32(prep.sample_rate)?;
    w.u32(prep.window_samples)?;
    w.f32(prep.scale)?;
    w.f32(prep.offset)?;
    if let Some(mel) = mel {
        [mel.frame, mel.step, mel.fft].into_iter().try_for_each(|v| w.u32(v))?;
        w.u16(mel.bins)?;
        w.u16(coefficients)?;
        w.f32(mel.low_hz)?;
        w.f32(mel.high_hz)?;
    }
    if extended {
        w.u32(match prep.start {
            Start::Sample(start) => start,
            Start::Middle => MIDDLE,
        })?;
        w.f32(prep.gain)?;
        mel.iter().try_for_each(|mel| write_mel_extension(w, mel))?;
    }
    Ok(())
}

fn write_mel_extension(w: &mut Writer<'_>, mel: &Mel) -> Result<()> {
    let (how, floor) = match mel.floor {
        Floor::Add(floor) => (0, floor),
        Floor::Max(floor) => (1, floor),
    };
    let bands = match mel.bands {
        Bands::TensorFlow => 0,
        Bands::Htk => 1,
        Bands::Slaney => 2,
    };
    let log = match mel.log {
        Log::Natural => 0,
        Log::Base10 => 1,
        Log::Decibel => 2,
    };
    let power = u8::from(mel.spectrum == Spectrum::Power);
    w.u32(mel.window)?;
    w.bytes(&[power, bands, u8::from(mel.area_norm), log, how, 0, 0, 0])?;
    w.f32(floor)?;
    w.f32(mel.range)
}

fn read_audio(r: &mut Reader<'_>) -> Result<AudioPrep> {
    let [frontend, peak, layout] = r.array()?;
    let (frontend, extended) = (frontend & !EXTENDED, frontend & EXTENDED != 0);
    let mut prep = AudioPrep {
        sample_rate: r.u32()?,
        window_samples: r.u32()?,
        start: Start::Sample(0),
        peak: flag("peak flag", peak)?,
        gain: 1.0,
        scale: r.f32()?,
        offset: r.f32()?,
        frontend: match frontend {
            0 => Frontend::Raw,
            1 => {
                let (mel, coefficients) = read_mel(r)?;
                Frontend::TfMfcc { mel, coefficients }
            }
            2 => match read_mel(r)? {
                (mel, 0) => Frontend::LogMel(mel),
                _ => return Err(Error::Malformed { what: WHAT, why: "coefficients are given but not used" }),
            },
            _ => return Err(unknown("kind of audio front end", frontend, 2)),
        },
        layout: match layout {
            0 => AudioLayout::TimeMajor,
            1 => AudioLayout::FeatureMajor,
            _ => return Err(unknown("kind of audio layout", layout, 1)),
        },
    };
    if extended {
        prep.start = match r.u32()? {
            MIDDLE => Start::Middle,
            start => Start::Sample(start),
        };
        prep.gain = r.f32()?;
        if let Frontend::TfMfcc { mel, .. } | Frontend::LogMel(mel) = &mut prep.frontend {
            read_mel_extension(r, mel)?;
        }
        if prep.is_plain() {
            return Err(Error::Malformed { what: WHAT, why: "an extension that says nothing more" });
        }
    }
    Ok(prep)
}

fn read_mel(r: &mut Reader<'_>) -> Result<(Mel, u16)> {
    let [frame, step, fft] = [r.u32()?, r.u32()?, r.u32()?];
    let [bins, coefficients] = [r.u16()?, r.u16()?];
    let [low_hz, high_hz] = [r.f32()?, r.f32()?];
    Ok((Mel::tensorflow(frame, step, fft, bins, low_hz, high_hz), coefficients))
}

fn read_mel_extension(r: &mut Reader<'_>, mel: &mut Mel) -> Result<()> {
    mel.window = r.u32()?;
    let [power, bands, area_norm, log, how, reserved @ ..]: [u8; 8] = r.array()?;
    if reserved != [0; 3] {
        return Err(Error::Malformed { what: WHAT, why: "reserved bytes are not zero" });
    }
    mel.spectrum = if flag("power flag", power)? { Spectrum::Power } else { Spectrum::Magnitude };
    mel.bands = match bands {
        0 => Bands::TensorFlow,
        1 => Bands::Htk,
        2 => Bands::Slaney,
        _ => return Err(unknown("kind of mel bands", bands, 2)),
    };
    mel.area_norm = flag("area flag", area_norm)?;
    mel.log = match log {
        0 => Log::Natural,
        1 => Log::Base10,
        2 => Log::Decibel,
        _ => return Err(unknown("kind of logarithm", log, 2)),
    };
    let floor = r.f32()?;
    mel.floor = if flag("kind of floor", how)? { Floor::Max(floor) } else { Floor::Add(floor) };
    mel.range = r.f32()?;
    Ok(())
}

fn read_text(r: &mut Reader<'_>) -> Result<TextPrep> {
    let [lower, reserved @ ..]: [u8; 3] = r.array()?;
    if reserved != [0; 2] {
        return Err(Error::Malformed { what: WHAT, why: "reserved bytes are not zero" });
    }
    Ok(TextPrep { lower: flag("lower case flag", lower)?, tokens: r.u32()? })
}

fn flag(what: &'static str, value: u8) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(unknown(what, value, 1)),
    }
}

fn unknown(what: &'static str, value: u8, max: u64) -> Error {
    Error::Bounds { what, value: u64::from(value), min: 0, max }
}
