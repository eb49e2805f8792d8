//! Bilinear resizing in the arithmetic of Pillow (`src/libImaging/Resample.c`): columns first, then rows, each pass
//! with 22-bit fixed-point weights and rounded to bytes. Training pipelines are built on it, so a picture must come
//! out the same here.

use super::Picture;

const PRECISION_BITS: u32 = 22;

/// The source pixels of one target pixel, and their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

pub(super) fn bilinear(picture: &Picture, width: usize, height: usize) -> Picture {
    let mut result = picture.clone();
    if width != picture.width {
        let taps = taps(picture.width, width);
        let mut rgb = Vec::with_capacity(width * picture.height * 3);
        for row in picture.rgb.chunks_exact(picture.width * 3) {
            for tap in &taps {
                for channel in 0..3 {
                    let pixels = row[tap.first * 3..].iter().skip(channel).step_by(3);
                    rgb.push(mix(&tap.weights, pixels));
                }
            }
        }
        result = Picture { width, height: picture.height, rgb };
    }
    if height != picture.height {
        let stride = width * 3;
        let mut rgb = Vec::with_capacity(height * stride);
        for tap in taps(picture.height, height) {
            for at in 0..stride {
                let pixels = result.rgb[tap.first * stride..].iter().skip(at).step_by(stride);
                rgb.push(mix(&tap.weights, pixels));
            }
        }
        result = Picture { width, height, rgb };
    }
    result
}

fn mix<'a>(weights: &[i32], pixels: impl Iterator<Item = &'a u8>) -> u8 {
    let half = 1_i64 << (PRECISION_BITS - 1);
    let sum: i64 = weights.iter().zip(pixels).map(|(w, p)| i64::from(*w) * i64::from(*p)).sum();
    ((sum + half) >> PRECISION_BITS).clamp(0, 255) as u8
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let widened = scale.max(1.0);
    (0..to)
        .map(|target| {
            let center = (target as f64 + 0.5) * scale;
            let first = (center - widened + 0.5).max(0.0) as usize;
            let last = ((center + widened + 0.5) as usize).min(from);
            let triangle = |pixel: usize| (1.0 - ((pixel as f64 - center + 0.5) * (1.0 / widened)).abs()).max(0.0);
            let total: f64 = (first..last).map(triangle).sum();
            let weights = (first..last)
                .map(|pixel| (triangle(pixel) / total * f64::from(1_u32 << PRECISION_BITS)).round() as i32)
                .collect();
            Taps { first, weights }
        })
        .collect()
}
