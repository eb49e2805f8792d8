//! Executes a bundle's preprocessing record on a row: pictures, sound, texts or arrays in, the model's input (f32) out.
//!
//! A row of bytes `[H, W, 3]`, `[H, W, 1]` or `[H, W]` counts as a picture, so that an array of pictures and a folder of
//! them give the same input. One-dimensional rows count as sound: integers are divided by half their range.

use std::path::{Path, PathBuf};

use hone_runtime::bundle::preprocess::{
    AudioLayout, AudioPrep, Channels, Frontend, ImageLayout, ImagePrep, Preprocess, Resize, Start, TensorPrep,
};

use super::mel::Features;
use super::tokens::Tokenizer;
use super::{Picture, RawRow, Row, Values};
use crate::error::{Error, Result};

/// A preprocessing record, ready to be applied.
pub struct Preprocessor {
    record: Preprocess,
    /// Sizes of the model's input without the batch axis.
    input_shape: Vec<usize>,
    features: Option<Features>,
    tokenizer: Option<Tokenizer>,
}

impl Preprocessor {
    /// `input_shape` is the model's input without the batch axis; what `record` gives must have as many elements.
    ///
    /// # Errors
    /// [`Error::Runtime`] when the record cannot be executed, [`Error::Shape`] when a picture or clip would not fit the
    /// model's input (arrays are checked row by row).
    pub fn new(record: &Preprocess, input_shape: &[usize]) -> Result<Self> {
        Self::with_vocabulary(record, input_shape, None)
    }

    /// As [`Preprocessor::new`], for any record: that of a text needs the tokens, one a line, and the file that they come from (which errors name).
    ///
    /// # Errors
    /// As [`Preprocessor::new`]; [`Error::Malformed`] for a vocabulary that lacks `[PAD]`, `[UNK]`, `[CLS]` or `[SEP]` or has a token twice,
    /// [`Error::Setting`] where a vocabulary is missing or not used, [`Error::Data`] in a build that has no tokenizer.
    pub fn with_vocabulary(
        record: &Preprocess,
        input_shape: &[usize],
        vocabulary: Option<(&str, &Path)>,
    ) -> Result<Self> {
        record.check()?;
        let setting = |why: &str| Error::Setting { name: "--prep".into(), why: why.into() };
        let tokenizer = match (record, vocabulary) {
            (Preprocess::Text(prep), Some((tokens, place))) => Some(Tokenizer::new(*prep, tokens, place)?),
            (Preprocess::Text(_), None) => {
                return Err(setting("text needs the model's vocabulary: text:vocab=FILE, a token a line"));
            }
            (_, Some(_)) => return Err(setting("vocab= belongs to text")),
            (_, None) => None,
        };
        let features = match record {
            Preprocess::Audio(prep) => Features::new(prep.frontend, prep.sample_rate),
            _ => None,
        };
        let this = Self { record: record.clone(), input_shape: input_shape.to_vec(), features, tokenizer };
        let gives = this.output_shape();
        if let Some(gives) = gives.filter(|shape| without_ones(shape) != without_ones(input_shape)) {
            // A flattened input takes the same numbers in the same order.
            let flat = without_ones(input_shape).len() <= 1 && gives.iter().product::<usize>() == this.len();
            if !flat {
                return Err(Error::Shape {
                    what: "preprocessing".into(),
                    expected: format!("the model's input {input_shape:?}"),
                    got: format!("{gives:?}"),
                });
            }
        }
        Ok(this)
    }

    /// Number of elements of the model's input.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a model's input is never empty")]
    pub fn len(&self) -> usize {
        self.input_shape.iter().product()
    }

    /// The shape that pictures and sound come out with; `None` where it depends on the row.
    fn output_shape(&self) -> Option<Vec<usize>> {
        match &self.record {
            Preprocess::None | Preprocess::Tensor(_) => None,
            Preprocess::Text(prep) => Some(vec![2, prep.tokens as usize]),
            Preprocess::Image(prep) => {
                let (w, h, c) = (prep.width as usize, prep.height as usize, prep.channels.count());
                Some(match prep.layout {
                    ImageLayout::Nchw => vec![c, h, w],
                    ImageLayout::Nhwc => vec![h, w, c],
                })
            }
            Preprocess::Audio(prep) => Some(match (&self.features, prep.frontend) {
                (Some(features), Frontend::TfMfcc { mel, .. } | Frontend::LogMel(mel)) => {
                    let frames = ((prep.window_samples - mel.frame) / mel.step + 1) as usize;
                    match prep.layout {
                        AudioLayout::TimeMajor => vec![frames, features.width()],
                        AudioLayout::FeatureMajor => vec![features.width(), frames],
                    }
                }
                _ => vec![prep.window_samples as usize],
            }),
        }
    }

    /// The model's input for one row, in the model's layout, [`Preprocessor::len`] elements.
    ///
    /// # Errors
    /// Each names the row: [`Error::Shape`] for a row of another shape or kind than the record expects,
    /// [`Error::Data`] for another sample rate, [`Error::NonFinite`].
    pub fn apply(&self, row: &Row) -> Result<Vec<f32>> {
        let out = match &self.record {
            Preprocess::None => {
                let (dims, values) = array(row)?;
                self.check_axes(row, dims)?;
                values.to_f32()
            }
            Preprocess::Tensor(prep) => {
                let out = tensor(prep, row)?;
                let dims = array(row)?.0;
                let permuted: Vec<usize> = prep.perm.iter().map(|axis| dims[usize::from(*axis)]).collect();
                self.check_axes(row, if prep.perm.is_empty() { dims } else { &permuted })?;
                out
            }
            Preprocess::Image(prep) => image(prep, row)?,
            Preprocess::Audio(prep) => self.audio(prep, row)?,
            Preprocess::Text(_) => match (&row.values, &self.tokenizer) {
                (RawRow::Text(text), Some(tokenizer)) => tokenizer.apply(text, &row.id)?,
                (other, _) => return Err(shape(row, "a text (a row of a .tsv or .txt file)".into(), describe(other))),
            },
        };
        if out.len() != self.len() {
            return Err(shape(
                row,
                format!("{} numbers for the model's input {:?}", self.len(), self.input_shape),
                describe(&row.values),
            ));
        }
        if let Some(index) = out.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite { what: format!("{} after preprocessing", row.id), value: out[index], index });
        }
        Ok(out)
    }

    /// Refuses a row with as many numbers as the model's input but other axes, such as channels last for channels first:
    /// it would run, on a scrambled picture. A flat row, or a flat input, has the numbers in the model's order.
    fn check_axes(&self, row: &Row, dims: &[usize]) -> Result<()> {
        let (has, wants) = (without_ones(dims), without_ones(&self.input_shape));
        if has == wants || has.len() <= 1 || wants.len() <= 1 || has.iter().product::<usize>() != self.len() {
            return Ok(());
        }
        let hint = match (&self.record, permutation(dims, &self.input_shape)) {
            (Preprocess::None, Some(perm)) => format!(" (--prep tensor:perm={perm} at export reorders the axes)"),
            _ => String::new(),
        };
        Err(shape(row, format!("the axes of the model's input {:?}{hint}", self.input_shape), format!("{dims:?}")))
    }

    fn audio(&self, prep: &AudioPrep, row: &Row) -> Result<Vec<f32>> {
        let samples = match &row.values {
            RawRow::Audio(clip) if clip.sample_rate != prep.sample_rate => {
                return Err(Error::data(
                    &row.id,
                    format!(
                        "the clip has {} samples a second, the model takes {}: convert it (sox IN.wav -r {1} OUT.wav)",
                        clip.sample_rate, prep.sample_rate
                    ),
                ));
            }
            RawRow::Audio(clip) => clip.samples.clone(),
            RawRow::Array { shape, values } if without_ones(shape).len() <= 1 => {
                let unit = match values {
                    Values::I8(_) => 128.0,
                    Values::I16(_) => 32_768.0,
                    Values::I32(_) => 2_147_483_648.0,
                    Values::F16(_) | Values::F32(_) | Values::F64(_) => 1.0,
                    _ => {
                        return Err(self::shape(
                            row,
                            "sound (a wav file, or signed samples)".into(),
                            describe(&row.values),
                        ));
                    }
                };
                values.to_f32().iter().map(|v| v / unit).collect()
            }
            other => return Err(shape(row, "sound (a wav file, or a row of samples)".into(), describe(other))),
        };
        let mut samples = cut(samples, prep.start, prep.window_samples as usize);
        if prep.peak {
            let largest = samples.iter().copied().fold(f32::MIN, f32::max);
            if largest > 0.0 {
                samples.iter_mut().for_each(|v| *v /= largest);
            }
        }
        samples.iter_mut().for_each(|v| *v *= prep.gain);
        let mut out = match &self.features {
            None => samples,
            Some(features) => {
                let by_frame = features.compute(&samples);
                match prep.layout {
                    AudioLayout::TimeMajor => by_frame,
                    AudioLayout::FeatureMajor => {
                        let width = features.width();
                        (0..width).flat_map(|f| by_frame.iter().skip(f).step_by(width).copied()).collect()
                    }
                }
            }
        };
        out.iter_mut().for_each(|v| *v = *v * prep.scale + prep.offset);
        Ok(out)
    }
}

/// The text form of a record without its key `vocab`, and the file that this names. (The record has the tokens' number; the
/// tokens themselves are a section of the bundle.) A comma ends the file's name, as it ends every value.
///
/// # Errors
/// [`Error::Setting`] where `vocab` names no file, or comes twice.
pub fn take_vocabulary(prep: &str) -> Result<(String, Option<PathBuf>)> {
    let Some(keys) = prep.trim().strip_prefix("text:") else { return Ok((prep.to_owned(), None)) };
    let bad = |why: &str| Err(Error::Setting { name: "--prep".into(), why: why.into() });
    let (mut path, mut others) = (None, Vec::new());
    for part in keys.split(',') {
        let file = match part.split_once('=') {
            Some((key, file)) if key.trim() == "vocab" => file.trim(),
            None if part.trim() == "vocab" => "",
            _ => {
                others.push(part);
                continue;
            }
        };
        if file.is_empty() {
            return bad("vocab= names no file: text:vocab=FILE, a token a line");
        }
        if path.replace(PathBuf::from(file)).is_some() {
            return bad("vocab= comes twice");
        }
    }
    Ok((format!("text:{}", others.join(",")), path))
}

/// `len` samples from `start`; zeros stand for those that the sound does not have.
fn cut(mut samples: Vec<f32>, start: Start, len: usize) -> Vec<f32> {
    match start {
        Start::Sample(start) => drop(samples.drain(..samples.len().min(start as usize))),
        Start::Middle if samples.len() >= len => drop(samples.drain(..(samples.len() - len) / 2)),
        Start::Middle => {
            let before = (len - samples.len()) / 2;
            samples.splice(0..0, std::iter::repeat_n(0.0, before));
        }
    }
    samples.resize(len, 0.0);
    samples
}

fn array(row: &Row) -> Result<(&[usize], &Values)> {
    match &row.values {
        RawRow::Array { shape, values } => Ok((shape, values)),
        other => {
            Err(shape(row, "a row of numbers (state --prep for pictures, sound and texts)".into(), describe(other)))
        }
    }
}

fn tensor(prep: &TensorPrep, row: &Row) -> Result<Vec<f32>> {
    let (dims, values) = array(row)?;
    let mut out = values.to_f32();
    let (scales, offsets) = (&prep.scale[..], &prep.offset[..]);
    let channels = scales.len().max(offsets.len());
    if channels > 1 {
        let axis = usize::from(prep.axis);
        if dims.get(axis) != Some(&channels) {
            return Err(shape(row, format!("{channels} channels on axis {axis}"), format!("{dims:?}")));
        }
        let inner: usize = dims[axis + 1..].iter().product();
        for (at, value) in out.iter_mut().enumerate() {
            let channel = at / inner % channels;
            *value = *value * scales[channel.min(scales.len() - 1)] + offsets[channel.min(offsets.len() - 1)];
        }
    } else {
        out.iter_mut().for_each(|v| *v = *v * scales[0] + offsets[0]);
    }
    if prep.perm.is_empty() {
        return Ok(out);
    }
    if prep.perm.len() != dims.len() {
        return Err(shape(row, format!("{} axes", prep.perm.len()), format!("{dims:?}")));
    }
    Ok(permute(&out, dims, &prep.perm))
}

/// Transposes as numpy does: axis i of the result is axis `perm[i]` of the row.
fn permute(values: &[f32], dims: &[usize], perm: &[u8]) -> Vec<f32> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    let axes: Vec<(usize, usize)> =
        perm.iter().map(|axis| (dims[usize::from(*axis)], strides[usize::from(*axis)])).collect();
    (0..values.len())
        .map(|mut at| {
            let mut from = 0;
            for (dim, stride) in axes.iter().rev() {
                from += at % dim * stride;
                at /= dim;
            }
            values[from]
        })
        .collect()
}

fn image(prep: &ImagePrep, row: &Row) -> Result<Vec<f32>> {
    let borrowed;
    let picture = match &row.values {
        RawRow::Image(picture) => picture,
        RawRow::Array { shape: dims, values: Values::U8(bytes) } => {
            borrowed = picture_of(dims, bytes)
                .ok_or_else(|| shape(row, "a picture [H, W, 3], [H, W, 1] or [H, W]".into(), describe(&row.values)))?;
            &borrowed
        }
        other => {
            return Err(shape(
                row,
                "a picture (a file, or a row of uint8 [H, W, 3] or [H, W])".into(),
                describe(other),
            ));
        }
    };
    let (width, height) = (prep.width as usize, prep.height as usize);
    let resized;
    let picture = match prep.resize {
        Resize::None if (picture.width, picture.height) != (width, height) => {
            return Err(shape(
                row,
                format!("{width} x {height} pixels, as no resizing is stated"),
                format!("{} x {}", picture.width, picture.height),
            ));
        }
        Resize::None => picture,
        Resize::Stretch => {
            resized = picture.resize(width, height);
            &resized
        }
        Resize::Crop { shorter } => {
            let (short, long) = (picture.width.min(picture.height), picture.width.max(picture.height));
            if shorter as usize * long / short > super::images::MAX_SIDE as usize {
                return Err(shape(row, "a picture whose sides are not so different".into(), describe(&row.values)));
            }
            let cut = picture.resize_shorter(shorter as usize).center_crop(width, height);
            resized =
                cut.ok_or_else(|| shape(row, format!("at least {width} x {height} pixels"), describe(&row.values)))?;
            &resized
        }
    };
    let pixels: Vec<[u8; 3]> = picture.rgb.as_chunks().0.to_vec();
    let pick = |channel: usize, [r, g, b]: [u8; 3]| match (prep.channels, channel) {
        (Channels::Gray, _) => luma(r, g, b),
        (Channels::Rgb, 0) | (Channels::Bgr, 2) => r,
        (_, 1) => g,
        _ => b,
    };
    // One table a channel: 256 results, whatever the size of the picture.
    let table = |channel: usize| -> Vec<f32> {
        (0..=255_u8).map(|p| (f32::from(p) * prep.scale - prep.mean[channel]) / prep.std[channel]).collect()
    };
    let channels = prep.channels.count();
    let tables: Vec<Vec<f32>> = (0..channels).map(table).collect();
    let value = |channel: usize, pixel: [u8; 3]| tables[channel][usize::from(pick(channel, pixel))];
    Ok(match prep.layout {
        ImageLayout::Nchw => {
            (0..channels).flat_map(|c| pixels.iter().map(move |p| (c, *p))).map(|(c, p)| value(c, p)).collect()
        }
        ImageLayout::Nhwc => {
            pixels.iter().flat_map(|p| (0..channels).map(move |c| (c, *p))).map(|(c, p)| value(c, p)).collect()
        }
    })
}

/// ITU-R 601 luma in the 16-bit arithmetic of Pillow's `convert("L")`; grey stays as it is.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000;
    (sum >> 16) as u8
}

fn picture_of(dims: &[usize], bytes: &[u8]) -> Option<Picture> {
    let (height, width, channels) = match *dims {
        [h, w] | [h, w, 1] | [1, h, w] => (h, w, 1),
        [h, w, 3] => (h, w, 3),
        _ => return None,
    };
    let rgb = if channels == 3 { bytes.to_vec() } else { bytes.iter().flat_map(|g| [*g; 3]).collect() };
    Some(Picture { width, height, rgb })
}

/// The axes of `from` in an order that gives the sizes `to`, as `--prep` takes it; equal sizes keep their order.
fn permutation(from: &[usize], to: &[usize]) -> Option<String> {
    let mut left: Vec<usize> = (0..from.len()).collect();
    let mut perm = Vec::new();
    for size in to {
        let at = left.iter().position(|axis| from[*axis] == *size)?;
        perm.push(left.remove(at).to_string());
    }
    left.is_empty().then(|| perm.join(":"))
}

fn without_ones(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|d| *d != 1).collect()
}

fn describe(values: &RawRow) -> String {
    match values {
        RawRow::Array { shape, values } => format!("{} {shape:?}", values.element()),
        RawRow::Image(picture) => format!("a picture of {} x {} pixels", picture.width, picture.height),
        RawRow::Audio(clip) => format!("a clip of {} samples", clip.samples.len()),
        RawRow::Text(text) => format!("a text of {} characters", text.chars().count()),
    }
}

fn shape(row: &Row, expected: String, got: String) -> Error {
    Error::Shape { what: row.id.clone(), expected, got }
}

#[cfg(test)]
mod tests;
