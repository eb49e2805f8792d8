//! Winograd's algorithm F(2 × 2, 3 × 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015): 16 products for four
//! outputs instead of 36.
//!
//! Weights are transformed as they are brought to f32, panel by panel, activations once for a band of output rows. Factors are 1 and ½: sums
//! of four activations and of nine weights in f32 cost two bits of their 24, far below those that f16 has.

use super::product::{Runs, sums};
use super::values::{Bounds, EIGHT, SIZE, SLACK_BYTES, floats, load, narrow_some, narrow8, numbers, store, widen8};
use super::vector::{Eight, add, all, mul, store_at, sub, zero};
use crate::kernels::Memory;
use crate::plan::Op;

/// Bytes of a band's transformed activations, at most, as long as one row of tiles is no more.
const BAND_BYTES: usize = 192 * 1024;
/// Places of a transformed tile.
const PLACES: usize = 16;
/// Tiles of a product.
const TILES: usize = 6;
/// Values between what belongs to one place and the next: without them distances would be large powers of two, for which a cache has few
/// lines.
const GAP: usize = 16;
/// Vectors of outputs of a panel.
const VECTORS: usize = 2;
/// Products of a group of tiles: place by place, tile by tile.
const GROUP: usize = PLACES * TILES * VECTORS * 8;
/// Input channels, and their product with the output's, from which on the transforms cost less than they save.
const LEAST: usize = 16;
const LEAST_PRODUCT: usize = 1024;

/// Whether the algorithm is faster than a plain product.
pub(super) fn fits(op: &Op<'_>) -> bool {
    let (window, [height, width, outputs]) = (op.window, op.output.shape);
    let channels = op.input().channels();
    window.kernel == [3, 3]
        && window.stride == [1, 1]
        && window.dilation == [1, 1]
        && op.groups == 1
        && channels >= LEAST
        && channels.is_multiple_of(8)
        && channels * outputs >= LEAST_PRODUCT
        && height.min(width) >= 4
}

/// Tiles of a row, rows of tiles of a band.
fn band(op: &Op<'_>) -> (usize, usize) {
    let (across, down) = (op.output.width().div_ceil(2), op.output.height().div_ceil(2));
    let row_bytes = across * PLACES * op.input().channels() * 4;
    let most = (BAND_BYTES / row_bytes.max(1)).clamp(1, down.max(1));
    (across, down.div_ceil(down.div_ceil(most).max(1)))
}

/// Values of a panel of weights, of products, and of a band.
fn parts(op: &Op<'_>) -> [usize; 3] {
    let (channels, (across, rows)) = (op.input().channels(), band(op));
    let tiles = across * rows;
    [PLACES * (channels * VECTORS * 8 + GAP), tiles.div_ceil(TILES) * GROUP, PLACES * (tiles * channels + GAP)]
}

pub(super) fn workspace_bytes(op: &Op<'_>) -> usize {
    parts(op).iter().sum::<usize>() * 4 + SLACK_BYTES
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
pub(super) fn run(op: &Op<'_>, memory: &mut Memory<'_>) {
    let ((across, rows), [panel, products, activations]) = (band(op), parts(op));
    let (input, output, workspace) = memory.pair_and_workspace(op.input().range(), op.output.range());
    let Some((panel, rest)) = floats(workspace).split_at_mut_checked(panel) else { return };
    let Some((products, rest)) = rest.split_at_mut_checked(products) else { return };
    let Some(activations) = rest.get_mut(..activations) else { return };
    let eights = op.output.channels().div_ceil(8);
    for top in (0..op.output.height().div_ceil(2)).step_by(rows) {
        let band = Band { op, top, across, tiles: across * rows.min(op.output.height().div_ceil(2) - top) };
        band.activations(input, activations);
        for first in (0..eights).step_by(VECTORS) {
            if eights - first == 1 {
                band.panel::<1>(first, activations, panel, products, output);
            } else {
                band.panel::<VECTORS>(first, activations, panel, products, output);
            }
        }
    }
}

/// Some rows of tiles.
struct Band<'a> {
    op: &'a Op<'a>,
    /// The first row of tiles.
    top: usize,
    /// Tiles of a row.
    across: usize,
    tiles: usize,
}

/// Bᵀ of four values.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn inputs([a, b, c, d]: [Eight; 4]) -> [Eight; 4] {
    [sub(a, c), add(b, c), sub(c, b), sub(b, d)]
}

/// Aᵀ of four products.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn outputs([a, b, c, d]: [Eight; 4]) -> [Eight; 2] {
    [add(add(a, b), c), sub(sub(b, c), d)]
}

/// G of three weights.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn weights([a, b, c]: [Eight; 3]) -> [Eight; 4] {
    let half = all(0.5);
    let (ends, middle) = (mul(add(a, c), half), mul(b, half));
    [a, add(ends, middle), sub(ends, middle), c]
}

impl Band<'_> {
    /// Bᵀ d B of every tile, place by place, tile by tile.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline(never)]
    fn activations(&self, input: &[u8], to: &mut [f32]) {
        let [height, width, channels] = self.op.input().shape;
        let [above, left] = self.op.window.pad;
        let size = self.tiles * channels + GAP;
        if to.len() < PLACES * size {
            return;
        }
        for tile in 0..self.tiles {
            let (y, x) = ((self.top + tile / self.across) * 2, tile % self.across * 2);
            let mut patch = [&[][..]; PLACES];
            for (place, pixel) in patch.iter_mut().enumerate() {
                let (y, x) = ((y + place / 4).wrapping_sub(above), (x + place % 4).wrapping_sub(left));
                if y < height && x < width {
                    let first = (y * width + x) * channels * SIZE;
                    *pixel = input.get(first..first + channels * SIZE).unwrap_or_default();
                }
            }
            for chunk in 0..channels / 8 {
                let mut rows = [[zero(); 4]; 4];
                for (row, patch) in rows.iter_mut().zip(patch.as_chunks::<4>().0) {
                    for (value, pixel) in row.iter_mut().zip(patch) {
                        if let Some(eight) = pixel.as_chunks().0.get(chunk) {
                            *value = widen8(eight);
                        }
                    }
                    *row = inputs(*row);
                }
                let [first, second, third, fourth] = rows;
                let mut columns = [first; 4];
                let all = first.into_iter().zip(second).zip(third).zip(fourth);
                for (column, (((a, b), c), d)) in columns.iter_mut().zip(all) {
                    *column = inputs([a, b, c, d]);
                }
                for (x, column) in columns.into_iter().enumerate() {
                    for (y, value) in column.into_iter().enumerate() {
                        let at = (y * 4 + x) * size + tile * channels + chunk * 8;
                        // SAFETY: there is room for `tiles` · `channels` values in each of the places, and the store takes any alignment.
                        unsafe { store_at(to.as_mut_ptr().wrapping_add(at), value) };
                    }
                }
            }
        }
    }

    /// G g Gᵀ of `N` · 8 outputs, place by place, channel by channel.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline(never)]
    fn weights<const N: usize>(&self, first: usize, panel: &mut [f32]) {
        let channels = self.op.input().channels();
        let size = channels * N * 8 + GAP;
        if panel.len() < PLACES * size {
            return;
        }
        for vector in 0..N {
            let own = self.op.weights.as_chunks::<EIGHT>().0.get((first + vector) * 9 * channels..).unwrap_or_default();
            let mut taps = own.chunks_exact(channels.max(1));
            let taps: [_; 9] = core::array::from_fn(|_| taps.next().unwrap_or_default().iter());
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h, mut i] = taps;
            for channel in 0..channels {
                let mut next = [zero(); 9];
                let taps = [&mut a, &mut b, &mut c, &mut d, &mut e, &mut f, &mut g, &mut h, &mut i];
                for (next, tap) in next.iter_mut().zip(taps) {
                    if let Some(eight) = tap.next() {
                        *next = widen8(eight);
                    }
                }
                let [a, b, c, d, e, f, g, h, i] = next;
                let (first, second, third) = (weights([a, b, c]), weights([d, e, f]), weights([g, h, i]));
                for (x, ((a, b), c)) in first.into_iter().zip(second).zip(third).enumerate() {
                    for (y, value) in weights([a, b, c]).into_iter().enumerate() {
                        let at = (y * 4 + x) * size + (channel * N + vector) * 8;
                        // SAFETY: there is room for `channels` · `N` vectors in each of the places, and the store takes any alignment.
                        unsafe { store_at(panel.as_mut_ptr().wrapping_add(at), value) };
                    }
                }
            }
        }
    }

    /// The outputs of `N` panels of eight from panel `first` on.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    fn panel<const N: usize>(
        &self,
        first: usize,
        activations: &[f32],
        panel: &mut [f32],
        products: &mut [f32],
        out: &mut [u8],
    ) {
        let channels = self.op.input().channels();
        self.weights::<N>(first, panel);
        let (panels, values) =
            (panel.chunks_exact(channels * N * 8 + GAP), activations.chunks_exact(self.tiles * channels + GAP));
        // Place by place, whose weights then stay in the first level of cache.
        for (place, (panel, values)) in panels.zip(values).take(PLACES).enumerate() {
            for (start, to) in (0..self.tiles).step_by(TILES).zip(products.chunks_exact_mut(GROUP)) {
                let mut starts = [0; 8];
                // Of a short group the last tile comes again and again.
                for (index, at) in starts.iter_mut().enumerate() {
                    *at = (start + index).min(self.tiles - 1) * channels;
                }
                let (runs, zeros) = (Runs::one(channels), [zero(); N]);
                // SAFETY: the values are at least `tiles` · `channels`, the panel is at least `channels` · `N` vectors.
                let sums = unsafe { sums::<TILES, N>(values, &starts, runs, panel, zeros) };
                let to = to.as_chunks_mut::<{ TILES * VECTORS * 8 }>().0.get_mut(place).map_or(&mut [][..], |to| to);
                for (to, sum) in to.as_chunks_mut::<8>().0.iter_mut().zip(sums.as_flattened()) {
                    store(to, *sum);
                }
            }
        }
        for (start, products) in (0..self.tiles).step_by(TILES).zip(products.chunks_exact(GROUP)) {
            for tile in 0..TILES.min(self.tiles - start) {
                self.tile::<N>(first, start + tile, products.as_chunks().0, tile, out);
            }
        }
    }

    /// Aᵀ m A of tile `tile`, whose products are number `index`.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    #[inline(never)]
    fn tile<const N: usize>(
        &self,
        first: usize,
        tile: usize,
        products: &[[f32; TILES * VECTORS * 8]],
        index: usize,
        out: &mut [u8],
    ) {
        let ([height, width, channels], bounds) = (self.op.output.shape, Bounds::new(self.op.bounds()));
        let (y, x) = ((self.top + tile / self.across) * 2, tile % self.across * 2);
        for vector in 0..N {
            let mut rows = [[zero(); 4]; 4];
            for (value, products) in rows.as_flattened_mut().iter_mut().zip(products) {
                if let Some(eight) = products.as_chunks::<8>().0.get(index * N + vector) {
                    *value = load(eight);
                }
            }
            let bias = numbers(self.op.bias, (first + vector) * 8);
            let [a, b, c, d] = rows;
            let mut columns = [[bias; 2]; 4];
            for (column, (((a, b), c), d)) in columns.iter_mut().zip(a.into_iter().zip(b).zip(c).zip(d)) {
                *column = outputs([a, b, c, d]);
            }
            let [[a, e], [b, f], [c, g], [d, h]] = columns;
            for (down, values) in [outputs([a, b, c, d]), outputs([e, f, g, h])].into_iter().enumerate() {
                for (right, value) in values.into_iter().enumerate() {
                    if y + down >= height || x + right >= width {
                        continue;
                    }
                    let value = bounds.clamp(add(value, bias));
                    let at = (((y + down) * width + x + right) * channels + (first + vector) * 8) * SIZE;
                    let to = out.get_mut(at..).unwrap_or_default();
                    let room = (channels - (first + vector) * 8).min(8);
                    match to.first_chunk_mut() {
                        Some(to) if room == 8 => narrow8(to, value),
                        _ => narrow_some(to.get_mut(..room * SIZE).unwrap_or_default(), value),
                    }
                }
            }
        }
    }
}
