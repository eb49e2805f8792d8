//! f16 to f32 and back, eight values at a time.

use super::vector::{Eight, all, load_at, max, min, narrow_at, store_at, widen_at, zero};

/// Bytes of an f16.
pub(super) const SIZE: usize = 2;
/// Eight f16 values.
pub(super) const EIGHT: usize = 8 * SIZE;

/// Eight f16 values in f32.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) fn widen8(from: &[u8; EIGHT]) -> Eight {
    // SAFETY: eight values are there.
    unsafe { widen_at(from.as_ptr()) }
}

/// Eight values, rounded to the nearest f16, to even at halves.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) fn narrow8(to: &mut [u8; EIGHT], values: Eight) {
    // SAFETY: there is room for eight values.
    unsafe { narrow_at(to.as_mut_ptr(), values) }
}

/// As many of eight values as there are; zeros in place of the others.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) fn widen_some(from: &[u8]) -> Eight {
    match from.first_chunk() {
        Some(eight) => widen8(eight),
        None => {
            let mut all = [0; EIGHT];
            all.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            widen8(&all)
        }
    }
}

/// As many of eight values as there is room for.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) fn narrow_some(to: &mut [u8], values: Eight) {
    match to.first_chunk_mut() {
        Some(eight) => narrow8(eight, values),
        None => {
            let mut all = [0; EIGHT];
            narrow8(&mut all, values);
            to.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        }
    }
}

/// Eight f32 values.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) fn load(from: &[f32; 8]) -> Eight {
    // SAFETY: eight values are there, and the load takes any alignment.
    unsafe { load_at(from.as_ptr()) }
}

/// Eight f32 values.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) fn store(to: &mut [f32; 8], values: Eight) {
    // SAFETY: there is room for eight values, and the store takes any alignment.
    unsafe { store_at(to.as_mut_ptr(), values) }
}

/// Eight f32 numbers of a table in the plan, from number `first` on; zeros beyond its end.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) fn numbers(table: &[u8], first: usize) -> Eight {
    match table.get(first * 4..).and_then(|rest| rest.first_chunk::<32>()) {
        // SAFETY: 32 bytes are there, and the load takes any alignment.
        Some(eight) => unsafe { load_at(eight.as_ptr().cast()) },
        None => zero(),
    }
}

/// f16 to f32, as many as both have room for.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
pub(super) fn widen(from: &[u8], to: &mut [f32]) {
    let count = to.len().min(from.len() / SIZE);
    let (from, from_rest) = from.split_at_checked(count / 8 * EIGHT).unwrap_or_default();
    let (to, to_rest) = to.split_at_mut_checked(count / 8 * 8).unwrap_or_default();
    for (from, to) in from.as_chunks::<EIGHT>().0.iter().zip(to.as_chunks_mut::<8>().0) {
        store(to, widen8(from));
    }
    if !count.is_multiple_of(8) {
        let mut last = [0.0; 8];
        store(&mut last, widen_some(from_rest.get(..count % 8 * SIZE).unwrap_or_default()));
        to_rest.iter_mut().zip(last).take(count % 8).for_each(|(to, from)| *to = from);
    }
}

/// Bounds on what an operator gives.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    low: Eight,
    high: Eight,
}

impl Bounds {
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline]
    pub(super) fn new((low, high): (f32, f32)) -> Self {
        Self { low: all(low), high: all(high) }
    }

    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline]
    pub(super) fn clamp(self, values: Eight) -> Eight {
        min(max(values, self.low), self.high)
    }
}

/// The part of a workspace that is aligned for f32: all of it but what [`SLACK_BYTES`] allows for.
pub(super) fn floats(workspace: &mut [u8]) -> &mut [f32] {
    // SAFETY: any four bytes are an f32.
    unsafe { workspace.align_to_mut().1 }
}

/// What a workspace wants beside its f32 values, as it may begin anywhere.
pub(super) const SLACK_BYTES: usize = 4;
