//! The inner loops, in assembly where the processor is a microcontroller.
//!
//! There they are naked functions: the compiler keeps r7 as a frame pointer and would not load several registers at once. One call makes
//! a whole row of outputs.
//!
//! **Patches.** The activations of two pixels, widened to int16, four inputs of each at a time: the words (k0, k2) and (k1, k3) of the
//! first pixel, then those of the second. So does `sxtb16` split a word of four weights, and one `ldm` feeds eight `smlad`.

#[cfg(hone_dsp)]
#[path = "micro/dsp.rs"]
mod form;
#[cfg(all(hone_thumb2, not(hone_dsp)))]
#[path = "micro/thumb2.rs"]
mod form;
#[cfg(not(any(hone_thumb2, hone_dsp)))]
#[path = "micro/portable.rs"]
mod form;

pub use form::{NAME, WIDTH, columns, columns_bottom, columns_top, copy, depthwise, expand, expand_two, pair, single};

use form::{PAIR_STEP, SINGLE_STEP, TURN};

/// [`WIDTH`] outputs of every block of four, from two pixels.
#[derive(Debug)]
#[repr(C)]
pub struct Pair {
    bias: *const i32,
    multipliers: *const i32,
    high_word: i32,
    shift: u32,
    /// Number of blocks.
    blocks: usize,
    patches: *const u32,
    turns: usize,
    /// Bytes of code that the first turn leaves out.
    skip: usize,
    weights: *const u32,
}

/// Blocks of four outputs from one row.
#[derive(Debug)]
#[repr(C)]
pub struct Single {
    bias: *const i32,
    multipliers: *const i32,
    high_word: i32,
    shift: u32,
    /// Number of blocks.
    blocks: usize,
    turns: usize,
    /// Bytes of code that the first turn leaves out.
    skip: usize,
    weights: *const u32,
}

/// Rows to copy or to widen.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Run {
    /// Length of one, in bytes to copy, in words to widen; at least 1.
    pub len: usize,
    /// How many; at least 1.
    pub rows: usize,
    /// From one to the next where they are read, in bytes.
    pub from: usize,
    /// From one to the next where they are written, in bytes.
    pub to: usize,
}

/// A row of outputs of four channels of a depthwise convolution of 3 × 3 taps.
#[derive(Debug)]
#[repr(C)]
pub struct Row {
    /// From one output to the next, in bytes.
    pub stride: usize,
    /// Number of outputs, at least 1.
    pub outputs: usize,
    /// From behind the last column of one output back to the first of the next, in bytes.
    pub back: usize,
}

/// What the constructors take from a layer; lengths are checked once, so that the loops need no checks.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Weights in blocks of 4 outputs × 4 inputs.
    pub weights: &'a [u32],
    /// One number an output, rounded up to blocks.
    pub bias: &'a [i32],
    /// One number an output, rounded up to blocks.
    pub multipliers: &'a [i32],
    /// Products of one output, rounded up to 4, by 4; at least 1.
    pub steps: usize,
    /// [`crate::plan::Requant::high_word`].
    pub high_word: i32,
    /// [`crate::plan::Requant::shift`] − 32.
    pub shift: u32,
}

impl<'a> Layer<'a> {
    /// The layer from block `first` on; `None` where there are not `blocks` of them.
    #[must_use]
    pub fn part(&self, first: usize, blocks: usize) -> Option<Self> {
        let (from, to) = (4 * first, 4 * (first + blocks));
        Some(Self {
            weights: self.weights.get(from * self.steps..to * self.steps)?,
            bias: self.bias.get(from..to)?,
            multipliers: self.multipliers.get(from..to)?,
            ..*self
        })
    }
}

/// Turns of [`TURN`] steps, and how many steps of the first one there are too many.
fn turns(steps: usize) -> (usize, usize) {
    let turns = steps.div_ceil(TURN);
    (turns, turns * TURN - steps)
}

impl Pair {
    /// Outputs `WIDTH · part` and on of each of the first `blocks` blocks; `None` where the layer has fewer, or the patches are shorter
    /// than two of it.
    #[must_use]
    pub fn new(layer: &Layer<'_>, patches: *const [u32], part: usize, blocks: usize) -> Option<Self> {
        let first = WIDTH * part;
        let own = layer.part(0, blocks)?;
        let (turns, beyond) = turns(layer.steps);
        if first + WIDTH > 4 || patches.len() < 4 * layer.steps {
            return None;
        }
        Some(Self {
            bias: own.bias.as_ptr().wrapping_add(first),
            multipliers: own.multipliers.as_ptr().wrapping_add(first),
            high_word: layer.high_word,
            shift: layer.shift,
            blocks,
            patches: patches.cast(),
            turns,
            skip: beyond * PAIR_STEP,
            weights: own.weights.as_ptr().wrapping_add(first),
        })
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn some(&self) -> bool {
        self.blocks > 0
    }
}

impl Single {
    /// All outputs of `blocks` blocks from block `first` on; `None` where the layer has fewer.
    #[must_use]
    pub fn new(layer: &Layer<'_>, first: usize, blocks: usize) -> Option<Self> {
        let part = layer.part(first, blocks)?;
        let (turns, beyond) = turns(layer.steps);
        Some(Self {
            bias: part.bias.as_ptr(),
            multipliers: part.multipliers.as_ptr(),
            high_word: layer.high_word,
            shift: layer.shift,
            blocks,
            turns,
            skip: beyond * SINGLE_STEP,
            weights: part.weights.as_ptr(),
        })
    }
    /// The same, giving the sums, int32, without requantization.
    #[must_use]
    pub fn sums(self) -> Self {
        // No layer has this shift.
        Self { shift: 0, ..self }
    }
}
