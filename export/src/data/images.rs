//! Pictures: JPEG, PNG and BMP files to RGB bytes, and resizing.
//!
//! Alpha is dropped, grey is repeated, the EXIF orientation is not applied: as Pillow's `Image.open(f).convert("RGB")`.

use std::io::{BufReader, Seek};
use std::path::Path;

use image::error::ImageError;
use image::{ImageReader, Limits};

use crate::error::{Error, Result};

mod resize;

/// Largest width and height of a picture that is decoded.
pub const MAX_SIDE: u32 = 16_384;
/// Most memory that decoding one picture may take.
const MAX_ALLOC_BYTES: u64 = 512 << 20;

const FORMATS: &str = "not a picture in a format that is supported (JPEG, PNG, BMP)";

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green, blue of each pixel, row by row: `width · height · 3` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Decodes a file; its format is seen by its content, not its name.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`] for what is no picture or is damaged, [`Error::TooLarge`] beyond [`MAX_SIDE`].
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::new(super::open_plain(path)?);
        let reader = ImageReader::new(&mut file).with_guessed_format().map_err(Error::io(path))?;
        if reader.format().is_none() {
            return Err(Error::malformed(path, FORMATS));
        }
        // The sizes come from the header: an image bomb is refused before its pixels are decoded.
        let (width, height) = reader.into_dimensions().map_err(|e| failed(path, e))?;
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(too_large(path, format!("{width} x {height} pixels")));
        }
        file.rewind().map_err(Error::io(path))?;
        let mut reader = ImageReader::new(file).with_guessed_format().map_err(Error::io(path))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(MAX_ALLOC_BYTES);
        reader.limits(limits);
        let rgb = reader.decode().map_err(|e| failed(path, e))?.into_rgb8();
        if rgb.is_empty() {
            return Err(Error::malformed(path, "a picture without pixels"));
        }
        Ok(Self { width: rgb.width() as usize, height: rgb.height() as usize, rgb: rgb.into_raw() })
    }

    /// A picture of another size, bilinear with the triangle filter widened when reducing: the same bytes as Pillow's
    /// `resize((width, height), Image.BILINEAR)`. Sizes must not be 0.
    #[must_use]
    pub fn resize(&self, width: usize, height: usize) -> Self {
        resize::bilinear(self, width, height)
    }

    /// Brings the shorter side to `shorter` pixels and keeps the aspect, as torchvision's `Resize(shorter)`: the
    /// longer side is rounded down.
    #[must_use]
    pub fn resize_shorter(&self, shorter: usize) -> Self {
        let (w, h) = (self.width, self.height);
        if w <= h {
            self.resize(shorter, (shorter * h / w).max(shorter))
        } else {
            self.resize((shorter * w / h).max(shorter), shorter)
        }
    }

    /// Cuts out the centre; where the margins are odd the left and upper ones are the smaller. `None` when the picture
    /// is smaller than what is asked for.
    #[must_use]
    pub fn center_crop(&self, width: usize, height: usize) -> Option<Self> {
        let (x, y) = (self.width.checked_sub(width)? / 2, self.height.checked_sub(height)? / 2);
        let rgb =
            (y..y + height).flat_map(|row| &self.rgb[(row * self.width + x) * 3..][..width * 3]).copied().collect();
        Some(Self { width, height, rgb })
    }
}

fn failed(path: &Path, error: ImageError) -> Error {
    match error {
        ImageError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path)(e),
        ImageError::Unsupported(e) => Error::malformed(path, format!("{FORMATS}: {e}")),
        ImageError::Limits(e) => too_large(path, e.to_string()),
        other => Error::malformed(path, format!("the picture cannot be decoded: {other}")),
    }
}

fn too_large(path: &Path, needs: String) -> Error {
    Error::TooLarge {
        path: path.to_path_buf(),
        what: "the picture".into(),
        needs,
        limit: format!("{MAX_SIDE} pixels a side and {} MiB to decode", MAX_ALLOC_BYTES >> 20),
    }
}

#[cfg(test)]
mod tests;
