//! From an operator's bytes to what the inner loops take: words, aligned.

use core::slice;

use super::instructions::{all4, max4, min4};
use super::micro::Layer;
use crate::plan::Op;

/// `bytes` as words; `None` where they do not begin at a multiple of 4.
pub fn words(bytes: &[u8]) -> Option<&[u32]> {
    // SAFETY: the address was looked at, any four bytes are a u32, and there are so many.
    is_aligned(bytes).then(|| unsafe { slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 4) })
}

/// As [`words`], to write.
pub fn words_mut(bytes: &mut [u8]) -> Option<&mut [u32]> {
    // SAFETY: as above, and any u32 is four bytes.
    is_aligned(bytes).then(|| unsafe { slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / 4) })
}

/// As [`words`], signed.
pub fn numbers(bytes: &[u8]) -> Option<&[i32]> {
    // SAFETY: as for `words`.
    is_aligned(bytes).then(|| unsafe { slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 4) })
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(4)
}

/// The layer of a convolution or dense operator; `None` where its data is not aligned, or accumulators are to be shifted left first.
pub fn layer<'a>(op: &Op<'a>) -> Option<Layer<'a>> {
    let steps = op.depth().div_ceil(4);
    if steps == 0 || op.requant.left() != 0 {
        return None;
    }
    Some(Layer {
        weights: words(op.weights)?,
        bias: numbers(op.bias)?,
        multipliers: numbers(op.multipliers)?,
        steps,
        high_word: op.requant.high_word(),
        shift: u32::from(op.requant.shift()).saturating_sub(32),
    })
}

/// Brings finished outputs into the operator's bounds, where these are narrower than int8.
pub fn clamp(op: &Op<'_>, bytes: &mut [u8]) {
    let (min, max) = (op.requant.min, op.requant.max);
    if (min, max) == (i8::MIN, i8::MAX) {
        return;
    }
    let (least, greatest) = (all4(min), all4(max));
    let mut done = 0;
    if let Some(words) = words_mut(bytes) {
        words.iter_mut().for_each(|word| *word = min4(max4(*word, least), greatest));
        done = 4 * words.len();
    }
    for q in bytes.iter_mut().skip(done) {
        *q = q.cast_signed().max(min).min(max).cast_unsigned();
    }
}
