//! 3 × 3 convolutions with steps of 1 by Winograd's F(2 × 2, 3 × 3): 16 products for four outputs, where taps would take 36.
//!
//! Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, as in Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016), equation 8. With 2 G in
//! the place of G everything is an integer, and Y comes out four times as large: |4 Y| < 2³¹ for [`MOST_INPUTS`] channels, so that the
//! division is exact whatever the values are. Transformed activations have 11 bits and transformed weights 12: both are int16, and the products
//! are those of pointwise convolutions, one for each of the 16 places.

use core::arch::x86_64::*;
use core::ops::Range;

use super::bands::Bands;
use super::conv::{RUN, row_bytes};
use super::isa::{Avx2, Words};
use super::pack::{Layout, numbers, weight};
use super::product::{Finish, Isa, Panel, Rows, Starts, WIDEST, sums};
use super::simd::swapped;
use crate::kernels::Memory;
use crate::plan::Op;

/// 4 · 9 · 128 · 128 a channel stay below 2³¹.
const MOST_INPUTS: usize = 2048;
/// Bytes of transformed weights, at most: they are to stay in the second level of cache.
const MOST_BYTES: usize = 320 * 1024;
/// Places of a transformed tile.
const PLACES: usize = 16;
/// Tiles that are worked on at a time, about.
const TILES: usize = 48;
/// Bytes of a place's accumulators: those of the widest panel of this tier.
const SUMS: usize = 64;

/// Whether an operator is worked on here: where whole vectors of channels are there, and enough outputs to be worth the transformation.
pub(super) fn fits(op: &Op<'_>) -> bool {
    let (window, inputs, [height, width, outputs]) = (op.window, op.input().channels(), op.output.shape);
    window.kernel == [3, 3]
        && window.stride == [1, 1]
        && window.dilation == [1, 1]
        && op.groups == 1
        && inputs.is_multiple_of(16)
        && inputs <= MOST_INPUTS
        && PLACES * 2 * inputs * outputs.next_multiple_of(8) <= MOST_BYTES
        && height * width >= 16
}

/// How the work is divided.
struct Tiles {
    /// Tiles along the width and the height.
    across: usize,
    down: usize,
    /// Rows of tiles of a band.
    rows: usize,
    /// The band of the input.
    bands: Bands,
    /// Bytes of the channels of a tile at one place.
    tile: usize,
}

impl Tiles {
    fn new(op: &Op<'_>) -> Self {
        let ([height, width, _], channels) = (op.output.shape, op.input().channels());
        let (down, across) = (height.div_ceil(2), width.div_ceil(2));
        let rows = down.div_ceil(down.div_ceil((TILES / across).max(1)));
        let pixel = 2 * channels;
        let bands = Bands { rows: 2 * rows, pixel, row: (2 * across + 2) * pixel };
        Self { across, down, rows, bands, tile: row_bytes::<Avx2>(channels) }
    }

    fn band_bytes(&self) -> usize {
        (2 * self.rows + 2) * self.bands.row
    }

    /// Bytes of all tiles of a band at one place.
    fn place_bytes(&self) -> usize {
        self.rows * self.across * self.tile
    }

    /// Bytes of their accumulators at one place.
    fn sums_bytes(&self) -> usize {
        self.rows * self.across * SUMS
    }
}

/// A band of activations, its transformed tiles place by place, accumulators place by place.
pub(super) fn workspace_bytes(op: &Op<'_>) -> usize {
    let tiles = Tiles::new(op);
    tiles.band_bytes() + PLACES * (tiles.place_bytes() + tiles.sums_bytes())
}

/// Bytes of a panel: bias, multipliers, then its weights place by place.
fn panel_bytes(lanes: usize, layout: &Layout) -> usize {
    Panel::bytes::<Avx2>(lanes, PLACES * layout.inputs / Avx2::GROUP)
}

pub(super) fn packed_bytes(op: &Op<'_>) -> usize {
    let layout = Layout::of::<Avx2>(op);
    layout.panels::<Avx2>().map(|outputs| panel_bytes(Panel::lanes(outputs), &layout)).sum()
}

pub(super) fn pack(op: &Op<'_>, mut packed: &mut [u8]) {
    let layout = Layout::of::<Avx2>(op);
    let mut first = 0;
    for outputs in layout.panels::<Avx2>() {
        let lanes = Panel::lanes(outputs);
        let Some((own, rest)) = packed.split_at_mut_checked(panel_bytes(lanes, &layout)) else { return };
        let own = numbers::<Avx2>(op, &layout, first, outputs, lanes, own);
        for lane in 0..lanes {
            for input in 0..layout.inputs {
                let tap =
                    |tap: usize| i32::from(weight(op, &layout, first + swapped(lane), tap * layout.inputs + input));
                let places = transformed(core::array::from_fn(|y| core::array::from_fn(|x| tap(3 * y + x))));
                for (place, value) in places.as_flattened().iter().enumerate() {
                    let at = (place * layout.inputs + input / 2 * 2) * lanes + 2 * lane + input % 2;
                    let value = if swapped(lane) < outputs { *value } else { 0 };
                    if let Some(to) = own.as_chunks_mut::<2>().0.get_mut(at) {
                        *to = value.to_le_bytes();
                    }
                }
            }
        }
        packed = rest;
        first += outputs;
    }
}

/// 2 G g (2 G)ᵀ.
fn transformed(taps: [[i32; 3]; 3]) -> [[i16; 4]; 4] {
    let along = |[a, b, c]: [i32; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let rows = taps.map(along);
    let [top, middle, bottom] = rows;
    let mut places = [[0; 4]; 4];
    for (column, ((top, middle), bottom)) in top.into_iter().zip(middle).zip(bottom).enumerate() {
        for (row, value) in places.iter_mut().zip(along([top, middle, bottom])) {
            if let Some(to) = row.get_mut(column) {
                // At most 9 · 128 in size.
                *to = value as i16;
            }
        }
    }
    places
}

/// Convolution, where [`fits`] says so.
pub(super) fn run(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (tiles, layout) = (Tiles::new(op), Layout::of::<Avx2>(op));
    let (band, rest) = memory.workspace.split_at_mut_checked(tiles.band_bytes()).unwrap_or_default();
    let (places, accumulators) = rest.split_at_mut_checked(PLACES * tiles.place_bytes()).unwrap_or_default();
    if accumulators.len() < PLACES * tiles.sums_bytes() {
        return;
    }
    for first in (0..tiles.down).step_by(tiles.rows) {
        let rows = first..(first + tiles.rows).min(tiles.down);
        let input = memory.arena.get(op.input().range()).unwrap_or_default();
        for (row, to) in (2 * first..2 * rows.end + 2).zip(band.chunks_exact_mut(tiles.bands.row)) {
            tiles.bands.fill_row(op, row, input, to, 2, Avx2::unpack);
        }
        // SAFETY: this kernel is reached only through its tier, which is handed out where the processor has AVX2. The workspace has the
        // sizes that `tiles` names, as was checked above.
        unsafe { transform(&tiles, rows.len(), band.as_ptr(), places.as_mut_ptr()) };
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        let (mut packed, mut channel) = (memory.packed, 0);
        for outputs in layout.panels::<Avx2>() {
            let steps = layout.inputs / Avx2::GROUP;
            let Some((panel, rest)) = Panel::split::<Avx2>(packed, outputs, PLACES * steps) else { return };
            packed = rest;
            let block = Block { op, tiles: &tiles, rows: rows.clone(), steps, channel, outputs };
            // SAFETY: as above.
            unsafe {
                match panel.lanes {
                    16 => block.run::<2>(&panel, places, accumulators, output),
                    _ => block.run::<1>(&panel, places, accumulators, output),
                }
            }
            channel += outputs;
        }
    }
}

/// Bᵀ d B of every tile: from a band to the tiles' places.
///
/// # Safety
/// Band and places are as large as `tiles` says.
#[target_feature(enable = "avx2")]
unsafe fn transform(tiles: &Tiles, rows: usize, band: *const u8, places: *mut u8) {
    let (pixel, row, place) = (tiles.bands.pixel, tiles.bands.row, tiles.place_bytes());
    for tile in 0..rows * tiles.across {
        let from = band.wrapping_add(2 * (tile / tiles.across * row + tile % tiles.across * pixel));
        let to = places.wrapping_add(tile * tiles.tile);
        for at in (0..pixel).step_by(32) {
            let mut columns = [[_mm256_setzero_si256(); 4]; 4];
            for (x, column) in columns.iter_mut().enumerate() {
                let from = from.wrapping_add(x * pixel + at);
                // SAFETY: the caller's: a tile is 4 × 4 pixels of the band.
                let d: [_; 4] = core::array::from_fn(|y| unsafe { _mm256_loadu_si256(from.add(y * row).cast()) });
                *column = differences(d);
            }
            let [a, b, c, d] = columns;
            for (y, (((a, b), c), d)) in a.into_iter().zip(b).zip(c).zip(d).enumerate() {
                for (x, value) in differences([a, b, c, d]).into_iter().enumerate() {
                    // SAFETY: the caller's: the tile has its bytes in every place.
                    unsafe { _mm256_storeu_si256(to.add((4 * y + x) * place + at).cast(), value) };
                }
            }
        }
    }
}

/// Bᵀ d.
#[target_feature(enable = "avx2")]
#[inline]
fn differences([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    [_mm256_sub_epi16(a, c), _mm256_add_epi16(b, c), _mm256_sub_epi16(c, b), _mm256_sub_epi16(b, d)]
}

/// Aᵀ m.
#[target_feature(enable = "avx2")]
#[inline]
fn gathered([a, b, c, d]: [__m256i; 4]) -> [__m256i; 2] {
    let (sum, difference) = (_mm256_add_epi32(b, c), _mm256_sub_epi32(b, c));
    [_mm256_add_epi32(a, sum), _mm256_sub_epi32(difference, d)]
}

/// A band's rows of tiles and one panel of outputs.
struct Block<'a> {
    op: &'a Op<'a>,
    tiles: &'a Tiles,
    rows: Range<usize>,
    steps: usize,
    channel: usize,
    outputs: usize,
}

impl Block<'_> {
    /// Products of every place, then the outputs.
    ///
    /// # Safety
    /// The workspace is as large as [`Tiles`] says.
    #[target_feature(enable = "avx2")]
    unsafe fn run<const V: usize>(&self, panel: &Panel<'_>, places: &[u8], accumulators: &mut [u8], out: &mut [u8]) {
        let (tiles, count) = (self.tiles, self.rows.len() * self.tiles.across);
        let starts = Starts::Every { bytes: tiles.tile, count };
        for (place, sums_of) in accumulators.chunks_exact_mut(tiles.sums_bytes()).take(PLACES).enumerate() {
            let inputs = places.get(place * tiles.place_bytes()..).unwrap_or_default();
            let Some(rows) = Rows::new(inputs, starts, RUN, self.steps) else { return };
            let own = panel.part::<Words<V>>(place, self.steps);
            // SAFETY: this function has AVX2.
            unsafe { sums::<Words<V>>(&rows, &own, sums_of, SUMS) };
        }
        let finish = Finish::new(panel, self.op.requant);
        let [height, width, channels] = self.op.output.shape;
        for tile in 0..count {
            let (y, x) = (2 * (self.rows.start + tile / tiles.across), 2 * (tile % tiles.across));
            // SAFETY: the caller's: there are accumulators of every tile and place.
            let [top, bottom] = unsafe { self.outputs::<V>(accumulators.as_ptr().wrapping_add(tile * SUMS), panel) };
            let at = (y * width + x) * channels + self.channel;
            let [down, right] = [width * channels, channels];
            let is_whole = self.outputs == 8 * V && y + 1 < height && x + 1 < width;
            if is_whole && at + down + right + 8 * V <= out.len() {
                let to = out.as_mut_ptr().wrapping_add(at);
                let corners = [0, right, down, down + right].map(|distance| to.wrapping_add(distance));
                // SAFETY: 8 · V outputs of all four pixels end within `out`, as was checked above.
                unsafe { four::<V>(&finish, corners, [top, bottom]) };
                continue;
            }
            let mut short = [[0; WIDEST]; 4];
            // SAFETY: every place holds `WIDEST` bytes.
            unsafe { four::<V>(&finish, short.each_mut().map(|place| place.as_mut_ptr()), [top, bottom]) };
            for (index, from) in short.iter().enumerate() {
                let (y, x) = (y + index / 2, x + index % 2);
                if y < height && x < width {
                    let to = out.get_mut((y * width + x) * channels + self.channel..).unwrap_or_default();
                    to.iter_mut().zip(from).take(self.outputs).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }

    /// The four outputs of a tile, with their bias.
    ///
    /// # Safety
    /// At every place's distance from `from` there are accumulators.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn outputs<const V: usize>(&self, from: *const u8, panel: &Panel<'_>) -> [[[__m256i; V]; 2]; 2] {
        let mut out = [[[_mm256_setzero_si256(); V]; 2]; 2];
        let distance = self.tiles.sums_bytes();
        for vector in 0..V {
            let mut rows = [[_mm256_setzero_si256(); 2]; 4];
            for (y, row) in rows.iter_mut().enumerate() {
                let from = from.wrapping_add(4 * y * distance + 32 * vector);
                // SAFETY: the caller's.
                let m: [_; 4] = core::array::from_fn(|x| unsafe { _mm256_loadu_si256(from.add(x * distance).cast()) });
                *row = gathered(m);
            }
            let [a, b, c, d] = rows;
            let bias = panel.bias_vector(vector);
            for (x, (((a, b), c), d)) in a.into_iter().zip(b).zip(c).zip(d).enumerate() {
                for (row, value) in out.iter_mut().zip(gathered([a, b, c, d])) {
                    if let Some(to) = row.get_mut(x).and_then(|to| to.get_mut(vector)) {
                        *to = _mm256_add_epi32(_mm256_srai_epi32::<2>(value), bias);
                    }
                }
            }
        }
        out
    }
}

/// Requantizes and stores the outputs of a tile.
///
/// # Safety
/// There is room for 8 · `V` bytes at every place.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn four<const V: usize>(finish: &Finish, to: [*mut u8; 4], [top, bottom]: [[[__m256i; V]; 2]; 2]) {
    let ([a, b, c, d], [e, f], [g, h]) = (to, top, bottom);
    // SAFETY: the caller's; this function has AVX2.
    unsafe {
        finish.two::<Words<V>>([a, b], e, f);
        finish.two::<Words<V>>([c, d], g, h);
    }
}

#[cfg(test)]
mod tests {
    use super::transformed;

    /// Against Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A written out: a tile of one value at a time gives four times the taps that lie over it.
    #[test]
    fn transformed_weights_give_four_times_every_tap() {
        let taps = [[-128, 127, 3], [-7, -128, 11], [127, 127, -128]];
        let (b, a) = ([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], [[1, 1, 1, 0], [0, 1, -1, -1]]);
        let places = transformed(taps);
        for (y, x) in (0..16).map(|place| (place / 4, place % 4)) {
            for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let mut out = 0;
                for (i, j) in (0..16).map(|place| (place / 4, place % 4)) {
                    out += a[row][i] * a[column][j] * b[i][y] * b[j][x] * i32::from(places[i][j]);
                }
                let inside = (row..row + 3).contains(&y) && (column..column + 3).contains(&x);
                assert_eq!(out, if inside { 4 * taps[y - row][x - column] } else { 0 });
            }
        }
    }
}
