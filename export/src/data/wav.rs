//! Sound: wav files to mono samples in −1..1. Integers of 8, 16, 24 and 32 bits and 32-bit floats; the channels of
//! stereo are averaged. Nothing is resampled here.

use std::io::{BufReader, Cursor, Read, Seek as _};
use std::path::Path;

use hound::{SampleFormat, WavReader};

use crate::error::{Error, Result};

/// Most samples (all channels together) of one file: 23 minutes of mono at 48 kHz.
pub const MAX_SAMPLES: u32 = 1 << 26;

/// Most bytes of the chunk that states the format; 40 are in use.
const MAX_FORMAT_BYTES: u32 = 1 << 12;

/// A clip of mono sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples, integers divided by half their range (int16 / 32768).
    pub samples: Vec<f32>,
}

impl Clip {
    /// Reads a wav file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`] for another format or a file cut short, [`Error::TooLarge`] beyond
    /// [`MAX_SAMPLES`], [`Error::NonFinite`], [`Error::Data`] for a clip without samples.
    pub fn open(path: &Path) -> Result<Self> {
        let mut reader = WavReader::new(chunks(path)?).map_err(|e| failed(path, e))?;
        let spec = reader.spec();
        let (count, channels) = (reader.len(), usize::from(spec.channels));
        if count == 0 || channels == 0 || spec.sample_rate == 0 {
            return Err(Error::data(path, "the wav file holds no samples"));
        }
        if count > MAX_SAMPLES {
            return Err(Error::TooLarge {
                path: path.to_path_buf(),
                what: "the clip".into(),
                needs: format!("{count} samples"),
                limit: format!("{MAX_SAMPLES} samples"),
            });
        }
        let samples: Vec<f32> = match spec.sample_format {
            SampleFormat::Float => reader.samples::<f32>().collect::<hound::Result<_>>(),
            SampleFormat::Int => {
                let unit = f64::from(spec.bits_per_sample.clamp(1, 32) - 1).exp2().recip();
                reader.samples::<i32>().map(|s| s.map(|v| (f64::from(v) * unit) as f32)).collect()
            }
        }
        .map_err(|e| failed(path, e))?;
        if let Some(index) = samples.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite { what: path.display().to_string(), value: samples[index], index });
        }
        let samples = match channels {
            1 => samples,
            _ => samples.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect(),
        };
        Ok(Self { sample_rate: spec.sample_rate, samples })
    }
}

/// The file's format and samples alone: other chunks may lie before them, those of odd length with a byte behind.
fn chunks(path: &Path) -> Result<impl Read + use<>> {
    let mut file = BufReader::new(super::open_plain(path)?);
    let field = |file: &mut BufReader<std::fs::File>| -> Result<[u8; 4]> {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).map_err(|e| failed(path, hound::Error::IoError(e)))?;
        Ok(bytes)
    };
    let (riff, _, wave) = (field(&mut file)?, field(&mut file)?, field(&mut file)?);
    if (&riff, &wave) != (b"RIFF", b"WAVE") {
        return Err(Error::malformed(path, "not a wav file: it does not begin with RIFF and WAVE"));
    }
    let mut format: Option<Vec<u8>> = None;
    loop {
        let (name, length) = (field(&mut file)?, u32::from_le_bytes(field(&mut file)?));
        match (&name, &format) {
            (b"data", Some(format)) => {
                let at = file.stream_position().map_err(Error::io(path))?;
                let left = file.get_ref().metadata().map_err(Error::io(path))?.len().saturating_sub(at);
                if u64::from(length) > left {
                    let why = format!("cut short: {length} bytes of samples declared, {left} are there");
                    return Err(Error::malformed(path, why));
                }
                let mut head = Vec::from(*b"RIFF");
                head.extend((format.len() as u32).saturating_add(length).saturating_add(20).to_le_bytes());
                head.extend(b"WAVEfmt ");
                head.extend((format.len() as u32).to_le_bytes());
                head.extend(format);
                head.extend(b"data");
                head.extend(length.to_le_bytes());
                return Ok(Cursor::new(head).chain(file.take(u64::from(length))));
            }
            (b"data", None) => return Err(Error::malformed(path, "its samples come before their format")),
            (b"fmt ", _) if length <= MAX_FORMAT_BYTES => {
                let mut bytes = vec![0; length as usize];
                file.read_exact(&mut bytes).map_err(|e| failed(path, hound::Error::IoError(e)))?;
                format = Some(bytes);
            }
            _ => {
                file.seek_relative(i64::from(length)).map_err(Error::io(path))?;
            }
        }
        file.seek_relative(i64::from(length % 2)).map_err(Error::io(path))?;
    }
}

fn failed(path: &Path, error: hound::Error) -> Error {
    match error {
        hound::Error::IoError(e)
            if !matches!(e.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::Other) =>
        {
            Error::io(path)(e)
        }
        hound::Error::IoError(_) => Error::malformed(path, "cut short: the wav file ends too early"),
        hound::Error::Unsupported => {
            Error::malformed(path, "a wav encoding that is not supported (8, 16, 24, 32-bit PCM and 32-bit float are)")
        }
        other => Error::malformed(path, format!("not a readable wav file: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use hound::{WavSpec, WavWriter};
    use proptest::prelude::*;

    use super::*;

    fn encode(channels: u16, bits: u16, float: bool, samples: &[i32]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let sample_format = if float { SampleFormat::Float } else { SampleFormat::Int };
        let mut writer =
            WavWriter::new(&mut bytes, WavSpec { channels, sample_rate: 16_000, bits_per_sample: bits, sample_format })
                .unwrap();
        for sample in samples {
            if float { writer.write_sample(*sample as f32 / 4.0) } else { writer.write_sample(*sample) }.unwrap();
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn open(bytes: &[u8]) -> Result<Clip> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Clip::open(file.path())
    }

    #[test]
    fn every_encoding_lands_between_minus_one_and_one() {
        for bits in [8, 16, 24, 32] {
            let least = i32::MIN >> (32 - bits);
            let clip = open(&encode(1, bits, false, &[least, 0, -(least / 2)])).unwrap();
            assert_eq!(clip, Clip { sample_rate: 16_000, samples: vec![-1.0, 0.0, 0.5] }, "{bits} bits");
        }
        assert_eq!(open(&encode(1, 32, true, &[1, -2])).unwrap().samples, [0.25, -0.5]);
        assert_eq!(open(&encode(2, 16, false, &[16384, 0, -32768, -16384])).unwrap().samples, [0.25, -0.75]);
    }

    #[test]
    fn chunks_of_odd_length_before_the_samples_are_passed_over() {
        let plain = encode(1, 16, false, &[16384, -32768]);
        let mut noted = plain[..12].to_vec();
        noted.extend(*b"LIST\x05\0\0\0abcde\0");
        noted.extend(&plain[12..]);
        assert_eq!(open(&noted).unwrap().samples, [0.5, -1.0]);
        let why = open(&noted[..noted.len() - 3]).unwrap_err().to_string();
        assert!(why.contains("4 bytes of samples declared, 1 are there"), "{why}");
    }

    #[test]
    fn empty_and_foreign_files_are_refused() {
        assert!(open(&encode(1, 16, false, &[])).unwrap_err().to_string().contains("no samples"));
        assert!(matches!(open(b"OggS rubbish"), Err(Error::Malformed { .. })));
        assert!(matches!(open(b""), Err(Error::Malformed { .. })));
        let nan = {
            let mut b = encode(1, 32, true, &[1, 2]);
            let n = b.len();
            b[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
            b
        };
        assert!(matches!(open(&nan), Err(Error::NonFinite { index: 1, .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        #[test]
        fn mutated_files_never_panic(edits in proptest::collection::vec((0..60_usize, any::<u8>()), 0..5), float: bool) {
            let mut bytes = if float { encode(1, 32, true, &[1, 2, 3, 4]) } else { encode(2, 16, false, &[1, 2, 3, 4]) };
            let length = bytes.len();
            for (at, value) in edits {
                bytes[at % length] = value;
            }
            if let Ok(clip) = open(&bytes) {
                prop_assert!(!clip.samples.is_empty() && clip.samples.len() <= bytes.len());
            }
        }

        #[test]
        fn truncated_files_are_refused(cut in 0..52_usize) {
            prop_assert!(open(&encode(2, 16, false, &[1, 2, 3, 4])[..cut]).is_err());
        }
    }
}
