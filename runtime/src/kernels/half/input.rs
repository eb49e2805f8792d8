//! The model's input, from f32 to f16.

use super::values::{EIGHT, SIZE, load, narrow_some, narrow8};
use crate::plan::Tensor;

/// Pixels that are brought side by side at a time.
const BLOCK: usize = 64;

/// See [`crate::kernels::Tier::halve`].
pub(in crate::kernels) fn halve(input: &[f32], tensor: &Tensor, channels_first: bool, bytes: &mut [u8]) {
    let channels = tensor.channels();
    let plane = tensor.height() * tensor.width();
    let narrow = |from: &[f32], to: &mut [u8]| {
        // SAFETY: this function is reached only through its tiers, which are handed out where the processor has all of it.
        unsafe { all(from, to) }
    };
    if !channels_first || channels == 1 {
        return narrow(input, bytes);
    }
    for (block, pixels) in bytes.chunks_mut(BLOCK * channels.max(1) * SIZE).enumerate() {
        let start = block * BLOCK;
        let count = BLOCK.min(plane.saturating_sub(start));
        for channel in 0..channels {
            let from = input.get(channel * plane + start..).and_then(|from| from.get(..count)).unwrap_or_default();
            let mut values = [0; BLOCK * SIZE];
            narrow(from, values.get_mut(..count * SIZE).unwrap_or_default());
            let pixels = pixels.as_chunks_mut::<SIZE>().0.iter_mut().skip(channel).step_by(channels);
            for (to, value) in pixels.zip(values.as_chunks::<SIZE>().0) {
                *to = *value;
            }
        }
    }
}

/// As many as both have room for.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn all(from: &[f32], to: &mut [u8]) {
    let (from, from_rest) = from.as_chunks::<8>();
    for (from, to) in from.iter().zip(to.as_chunks_mut::<EIGHT>().0) {
        narrow8(to, load(from));
    }
    let mut last = [0.0; 8];
    last.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
    let rest = to.get_mut(from.len() * EIGHT..).unwrap_or_default();
    let count = rest.len().min(from_rest.len() * SIZE);
    narrow_some(rest.get_mut(..count).unwrap_or_default(), load(&last));
}
