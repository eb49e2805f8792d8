//! FEAT_I8MM: `smmla` multiplies 8 bytes of two pixels with 8 bytes of two outputs: 32 products an instruction, on weights repacked in
//! blocks of 4 outputs × 8 inputs.

use core::arch::aarch64::*;
use core::arch::asm;

use super::conv;
use super::dotprod::{self, DotProd};
use super::pack::Runs;
use super::tile::{Isa, Layer, Panel, Pixels, Places};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Convolution, in tiles of 8 pixels × 8 outputs.
pub(super) static CONV: Kernel = Kernel {
    code: Code::Conv,
    packed_bytes: |op| if pays(op) { conv::packed_bytes::<I8mm>(op) } else { conv::packed_bytes::<DotProd>(op) },
    pack: |op, out| if pays(op) { conv::pack::<I8mm>(op, out) } else { conv::pack::<DotProd>(op, out) },
    workspace_bytes: |op| {
        if pays(op) { conv::workspace_bytes::<I8mm>(op) } else { conv::workspace_bytes::<DotProd>(op) }
    },
    run: |op, memory| {
        if pays(op) {
            // SAFETY: the tier is given out only where the processor has what it needs.
            unsafe { run_conv(op, memory) }
        } else {
            (dotprod::CONV.run)(op, memory);
        }
    },
};
/// Dense layers have one pixel, half of what `smmla` takes.
pub(super) use dotprod::{DENSE, DENSE_FLOAT};

/// Whether rounding runs up to 8 bytes costs less than `smmla` saves: 3.5 instructions a byte of depth instead of 5, in a tile.
fn pays(op: &Op<'_>) -> bool {
    let depth = |step| Runs::new(op, step).depth();
    7 * depth(8) <= 10 * depth(4)
}

#[target_feature(enable = "neon,i8mm")]
fn run_conv(op: &Op<'_>, memory: &mut Memory<'_>) {
    conv::run::<_, 8, 2, 2>(I8mm(()), op, memory);
}

/// Made only where the processor has `smmla`. Even numbers of places only.
#[derive(Clone, Copy)]
struct I8mm(());

impl Isa for I8mm {
    const STEP: usize = 8;

    #[inline(always)]
    fn sums<const P: usize, const B: usize>(
        self,
        places: &Places<'_, P>,
        panel: &Panel<'_, B>,
        bias: [int32x4_t; B],
    ) -> [[int32x4_t; B]; P] {
        const { assert!(P.is_multiple_of(2)) };
        // SAFETY: `self` proves that the processor has it.
        unsafe { sums(places, panel, bias) }
    }

    #[inline(always)]
    fn tiles<const P: usize, const B: usize>(self, layer: &Layer<'_>, pixels: &Pixels<'_, P>, out: &mut [u8]) {
        // SAFETY: `self` proves that the processor has it.
        unsafe { tiles::<P, B>(layer, pixels, out) }
    }
}

#[target_feature(enable = "neon,i8mm")]
fn tiles<const P: usize, const B: usize>(layer: &Layer<'_>, pixels: &Pixels<'_, P>, out: &mut [u8]) {
    layer.tiles::<I8mm, P, B>(I8mm(()), pixels, out);
}

#[target_feature(enable = "neon,i8mm")]
#[inline]
fn sums<const P: usize, const B: usize>(
    places: &Places<'_, P>,
    panel: &Panel<'_, B>,
    bias: [int32x4_t; B],
) -> [[int32x4_t; B]; P] {
    let (walk, mut weights) = (places.walk(), panel.at());
    if walk.depth() != panel.depth() || !walk.len.is_multiple_of(8) {
        return [bias; P];
    }
    // Of two pixels, the first has the sums of outputs 0 and 1 of both, the second those of outputs 2 and 3 of both.
    let mut acc = [bias; P];
    for pair in acc.as_chunks_mut::<2>().0 {
        let [low, high] = pair;
        for ((low, high), bias) in low.iter_mut().zip(high).zip(bias) {
            *low = vcombine_s32(vget_low_s32(bias), vget_low_s32(bias));
            *high = vcombine_s32(vget_high_s32(bias), vget_high_s32(bias));
        }
    }
    for start in walk.starts() {
        for k in (start..start + walk.len).step_by(8) {
            // SAFETY: a place has everything that the walk reaches behind it, a panel 4 bytes of weights a block for each of its
            // bytes, of which 32 are taken for every 8.
            unsafe {
                let x = places.at().map(|at| vld1_s8(at.wrapping_add(k).cast()));
                let low = weights.map(|at| vld1q_s8(at.cast()));
                let high = weights.map(|at| vld1q_s8(at.wrapping_add(16).cast()));
                weights = weights.map(|at| at.wrapping_add(32));
                for ([first, second], [x, y]) in acc.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<2>().0) {
                    let xy = vcombine_s8(*x, *y);
                    for (acc, w) in first.iter_mut().zip(low) {
                        *acc = smmla(*acc, xy, w);
                    }
                    for (acc, w) in second.iter_mut().zip(high) {
                        *acc = smmla(*acc, xy, w);
                    }
                }
            }
        }
    }
    for [first, second] in acc.as_chunks_mut::<2>().0 {
        for (low, high) in first.iter_mut().zip(second) {
            let (a, b) = (vreinterpretq_s64_s32(*low), vreinterpretq_s64_s32(*high));
            *low = vreinterpretq_s32_s64(vzip1q_s64(a, b));
            *high = vreinterpretq_s32_s64(vzip2q_s64(a, b));
        }
    }
    acc
}

/// `vmmlaq_s32`, which stable Rust does not have.
#[target_feature(enable = "neon,i8mm")]
#[inline]
fn smmla(mut acc: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: works on registers alone, and the processor has it.
    unsafe {
        asm!(
            "smmla {acc:v}.4s, {x:v}.16b, {w:v}.16b",
            acc = inout(vreg) acc,
            x = in(vreg) x,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}
