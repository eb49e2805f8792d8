//! Convolutions: two pixels at a time from patches in the plan's scratch.

use super::dense::rows;
use super::layer::{clamp, layer, words_mut};
use super::micro::{Layer, Pair, WIDTH, expand_two, pair};
use super::patches::Gather;
use crate::kernels::{Kernel, Memory, generic};
use crate::plan::{Code, Op};

/// Convolution.
pub static CONV: Kernel = Kernel::in_place(Code::Conv, conv);

fn conv(op: &Op<'_>, memory: &mut Memory<'_>) {
    let done = if op.window.is_pointwise() && op.groups == 1 { pointwise(op, memory) } else { windowed(op, memory) };
    match done.and_then(|()| memory.arena.get_mut(op.output.range())) {
        Some(output) => clamp(op, output),
        None => (generic::CONV.run)(op, memory),
    }
}

/// The calls that make all outputs of two pixels.
struct Outputs {
    parts: [Option<Pair>; 4 / WIDTH],
    /// The last outputs where their number is no multiple of `WIDTH`: the first of them, how many, and what makes them.
    rest: Option<(usize, usize, Pair)>,
}

impl Outputs {
    fn new(layer: &Layer<'_>, patches: *const [u32], outputs: usize) -> Option<Self> {
        let mut parts = [const { None }; 4 / WIDTH];
        for (part, place) in parts.iter_mut().enumerate() {
            // Blocks that have all outputs of this part.
            let blocks = (outputs + 4 - WIDTH * (part + 1)) / 4;
            *place = Some(Pair::new(layer, patches, part, blocks)?).filter(Pair::some);
        }
        let (last, count) = (outputs / 4, outputs % WIDTH);
        let part = outputs % 4 / WIDTH;
        let rest = if count == 0 { None } else { Some(Pair::new(&layer.part(last, 1)?, patches, part, 1)?) };
        Some(Self { parts, rest: rest.map(|rest| (outputs - count, count, rest)) })
    }

    /// # Safety
    /// What the pairs were made from is alive, and both rows have room for all outputs; `second` may be `first`, which is stored last.
    #[inline(never)]
    unsafe fn run(&self, first: *mut u8, second: *mut u8) {
        for (part, pairs) in self.parts.iter().enumerate() {
            if let Some(pairs) = pairs {
                // SAFETY: the caller's; outputs of a part that is not whole are not among them.
                unsafe { pair(pairs, first.wrapping_add(WIDTH * part), second.wrapping_add(WIDTH * part)) };
            }
        }
        if let Some((at, count, rest)) = &self.rest {
            let (mut a, mut b) = ([0; 4], [0; 4]);
            // SAFETY: at most four outputs are made, and `count` of them are the row's last.
            unsafe {
                pair(rest, a.as_mut_ptr(), b.as_mut_ptr());
                second.wrapping_add(*at).copy_from_nonoverlapping(b.as_ptr(), *count);
                first.wrapping_add(*at).copy_from_nonoverlapping(a.as_ptr(), *count);
            }
        }
    }
}

/// Pixels of a pointwise convolution.
struct Pixels {
    calls: Outputs,
    input: *const u8,
    output: *mut u8,
    /// Bytes of a pixel of each.
    sizes: [usize; 2],
    patches: *mut u32,
    steps: usize,
}

impl Pixels {
    fn new(
        layer: &Layer<'_>,
        input: *const u8,
        output: *mut u8,
        sizes: [usize; 2],
        patches: *mut [u32],
    ) -> Option<Self> {
        let calls = Outputs::new(layer, patches, sizes[1])?;
        let patches = patches.cast();
        let aligned = input.addr().is_multiple_of(4);
        aligned.then_some(Self { calls, input, output, sizes, patches, steps: layer.steps })
    }

    /// Makes two pixels.
    ///
    /// # Safety
    /// They are pixels of both tensors, of the sizes that `new` was given; the second may be the first.
    #[inline(never)]
    unsafe fn two(&self, first: usize, second: usize) {
        let [inputs, outputs] = self.sizes;
        let (a, b) = (self.input.wrapping_add(first * inputs), self.input.wrapping_add(second * inputs));
        // SAFETY: the caller's, and the patches have room for two pixels, which `Outputs::new` has checked.
        unsafe {
            expand_two(a.cast(), b.cast(), self.patches, self.steps);
            self.calls.run(self.output.wrapping_add(first * outputs), self.output.wrapping_add(second * outputs));
        }
    }
}

/// A window of one tap: patches are pixels. In place from the front where pixels shrink, from the back where they grow.
fn pointwise(op: &Op<'_>, memory: &mut Memory<'_>) -> Option<()> {
    let layer = layer(op)?;
    let (inputs, outputs, pixels) =
        (op.input().channels(), op.output.channels(), op.output.height() * op.output.width());
    if !inputs.is_multiple_of(4) {
        return windowed(op, memory);
    }
    let (sizes, ranges) = ((pixels * inputs, pixels * outputs), (op.input().range(), op.output.range()));
    let (input, output, scratch) = if op.in_place {
        let both = ranges.0.start..ranges.0.start + sizes.0.max(sizes.1);
        let (_, both, scratch) = memory.triple(0..0, both, op.scratch_range());
        if both.len() < sizes.0.max(sizes.1) {
            return None;
        }
        let both = both.as_mut_ptr();
        (both.cast_const(), both, scratch)
    } else {
        let (input, output, scratch) = memory.triple(ranges.0, ranges.1, op.scratch_range());
        if (input.len(), output.len()) != sizes {
            return None;
        }
        if scratch.len() < 16 * layer.steps {
            return without_scratch(&layer, input, output, [inputs, outputs]);
        }
        (input.as_ptr(), output.as_mut_ptr(), scratch)
    };
    let all = Pixels::new(&layer, input, output, [inputs, outputs], words_mut(scratch)?)?;
    let backwards = op.in_place && outputs > inputs;
    for done in (0..pixels).step_by(2) {
        let left = pixels - done;
        let (first, second) =
            if backwards { (left.saturating_sub(2), left - 1) } else { (done, done + 1 - usize::from(left == 1)) };
        // SAFETY: both are below `pixels`, of which both tensors have as many, as was checked above.
        unsafe { all.two(first, second) };
    }
    Some(())
}

/// Patches lie where the last pixels of the output will, which are made without them.
fn without_scratch(layer: &Layer<'_>, input: &[u8], output: &mut [u8], sizes: [usize; 2]) -> Option<()> {
    let [inputs, outputs] = sizes;
    let room = output.len().checked_sub(16 * layer.steps).map_or(0, |room| room / 4 * 4);
    let pixels = room.checked_div(outputs)? / 2 * 2;
    if pixels > 0 {
        let (front, back) = output.split_at_mut_checked(room)?;
        let all = Pixels::new(layer, input.as_ptr(), front.as_mut_ptr(), sizes, words_mut(back)?)?;
        for first in (0..pixels).step_by(2) {
            // SAFETY: `pixels` is even, and so many fit `front`; the input has more.
            unsafe { all.two(first, first + 1) };
        }
    }
    rows(layer, input.get(pixels * inputs..)?, inputs, output.get_mut(pixels * outputs..)?, outputs)
}

fn windowed(op: &Op<'_>, memory: &mut Memory<'_>) -> Option<()> {
    let whole = layer(op)?;
    let (input, output, scratch) = memory.triple(op.input().range(), op.output.range(), op.scratch_range());
    let patches: *mut [u32] = words_mut(scratch)?;
    let (outputs, channels) = (op.group_outputs(), op.output.channels());
    let (height, width) = (op.output.height(), op.output.width());
    if output.len() < height * width * channels {
        return None;
    }
    let ([down, right], [top, left]) = (op.window.stride, op.window.pad);
    let blocks = outputs.div_ceil(4);
    for group in 0..op.groups {
        let layer = whole.part(group * blocks, blocks)?;
        let mut gather = Gather::new(op, input, group)?;
        let calls = Outputs::new(&layer, patches, outputs)?;
        let mut out = output.as_mut_ptr().wrapping_add(group * outputs);
        // Pixels of both slots, one after the other through all rows.
        let mut slot = 0;
        let mut y = -(top as isize);
        for _ in 0..height {
            let mut x = -(left as isize);
            for _ in 0..width {
                // SAFETY: `Outputs::new` has checked that there is room for two patches, and the output that it has all pixels.
                unsafe { gather.patch(y, x, patches.cast(), slot) };
                if slot == 1 {
                    // SAFETY: as above.
                    unsafe { calls.run(out, out.wrapping_add(channels)) };
                    out = out.wrapping_add(2 * channels);
                }
                slot ^= 1;
                x += right as isize;
            }
            y += down as isize;
        }
        if slot == 1 {
            // SAFETY: as above, for the last pixel alone.
            unsafe { calls.run(out, out) };
        }
    }
    Some(())
}
