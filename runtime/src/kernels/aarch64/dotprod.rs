//! FEAT_DotProd: `sdot` by element multiplies a block of 4 outputs × 4 inputs with four bytes of a pixel, in place: 16 products an
//! instruction.

use core::arch::aarch64::*;
use core::arch::asm;

use super::tile::{Isa, Layer, Panel, Pixels, Places, first_four};
use super::{conv, dense};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Convolution, in tiles of 8 pixels × 8 outputs.
pub(super) static CONV: Kernel = Kernel {
    code: Code::Conv,
    packed_bytes: conv::packed_bytes::<DotProd>,
    pack: conv::pack::<DotProd>,
    workspace_bytes: conv::workspace_bytes::<DotProd>,
    // SAFETY: the tier is given out only where the processor has what it needs.
    run: |op, memory| unsafe { run_conv(op, memory) },
};
/// Dense layer, 16 outputs at a time.
pub(super) static DENSE: Kernel = Kernel {
    workspace_bytes: dense::workspace_bytes,
    // SAFETY: as above.
    ..Kernel::in_place(Code::Dense, |op, memory| unsafe { run_dense(op, memory) })
};
/// Dense layer whose scores leave as f32.
pub(super) static DENSE_FLOAT: Kernel = Kernel {
    workspace_bytes: dense::workspace_bytes,
    // SAFETY: as above.
    ..Kernel::in_place(Code::DenseFloat, |op, memory| unsafe { run_dense_float(op, memory) })
};

#[target_feature(enable = "neon,dotprod")]
fn run_conv(op: &Op<'_>, memory: &mut Memory<'_>) {
    conv::run::<_, 8, 2, 1>(DotProd(()), op, memory);
}

#[target_feature(enable = "neon,dotprod")]
fn run_dense(op: &Op<'_>, memory: &mut Memory<'_>) {
    dense::run(DotProd(()), op, memory);
}

#[target_feature(enable = "neon,dotprod")]
fn run_dense_float(op: &Op<'_>, memory: &mut Memory<'_>) {
    dense::run_float(DotProd(()), op, memory);
}

/// Made only where the processor has `sdot`.
#[derive(Clone, Copy)]
pub(super) struct DotProd(());

impl Isa for DotProd {
    const STEP: usize = 4;

    #[inline(always)]
    fn sums<const P: usize, const B: usize>(
        self,
        places: &Places<'_, P>,
        panel: &Panel<'_, B>,
        bias: [int32x4_t; B],
    ) -> [[int32x4_t; B]; P] {
        // SAFETY: `self` proves that the processor has it.
        unsafe { sums(places, panel, bias) }
    }

    #[inline(always)]
    fn tiles<const P: usize, const B: usize>(self, layer: &Layer<'_>, pixels: &Pixels<'_, P>, out: &mut [u8]) {
        // SAFETY: `self` proves that the processor has it.
        unsafe { tiles::<P, B>(layer, pixels, out) }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn tiles<const P: usize, const B: usize>(layer: &Layer<'_>, pixels: &Pixels<'_, P>, out: &mut [u8]) {
    layer.tiles::<DotProd, P, B>(DotProd(()), pixels, out);
}

#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sums<const P: usize, const B: usize>(
    places: &Places<'_, P>,
    panel: &Panel<'_, B>,
    bias: [int32x4_t; B],
) -> [[int32x4_t; B]; P] {
    let mut acc = [bias; P];
    let (walk, mut weights) = (places.walk(), panel.at());
    if walk.depth() != panel.depth() || !walk.len.is_multiple_of(4) {
        return acc;
    }
    for start in walk.starts() {
        let (mut k, end) = (start, start + walk.len);
        // SAFETY: a place has everything that the walk reaches behind it, which is up to `end` at most; and a panel has 4 bytes of
        // weights a block for each of its bytes, of which 16 are taken for every 4.
        unsafe {
            while k + 16 <= end {
                let x = places.at().map(|at| vld1q_s8(at.wrapping_add(k).cast()));
                step::<P, B, 0>(&mut acc, &mut weights, x);
                step::<P, B, 1>(&mut acc, &mut weights, x);
                step::<P, B, 2>(&mut acc, &mut weights, x);
                step::<P, B, 3>(&mut acc, &mut weights, x);
                k += 16;
            }
            while k < end {
                let x = places.at().map(|at| first_four(at.wrapping_add(k)));
                step::<P, B, 0>(&mut acc, &mut weights, x);
                k += 4;
            }
        }
    }
    acc
}

/// The products of the next block of weights with lane `LANE` of every pixel.
///
/// # Safety
/// 16 bytes at every address in `weights` may be read.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn step<const P: usize, const B: usize, const LANE: usize>(
    acc: &mut [[int32x4_t; B]; P],
    weights: &mut [*const u8; B],
    x: [int8x16_t; P],
) {
    // SAFETY: as the caller says.
    let w = weights.map(|at| unsafe { vld1q_s8(at.cast()) });
    *weights = weights.map(|at| at.wrapping_add(16));
    for (acc, x) in acc.iter_mut().zip(x) {
        for (acc, w) in acc.iter_mut().zip(w) {
            *acc = sdot::<LANE>(*acc, w, x);
        }
    }
}

/// `vdotq_laneq_s32`, which stable Rust does not have.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sdot<const LANE: usize>(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: works on registers alone, and the processor has it.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            acc = inout(vreg) acc,
            w = in(vreg) w,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}
