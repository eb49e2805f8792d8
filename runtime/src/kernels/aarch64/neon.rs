//! Every AArch64: 16 products in `smull`, `smlal` and `sadalp`, three instructions.
//!
//! `smlal` adds two products of bytes in 16 bits. That overflows when all four are −128, so weights are looked through once for −128,
//! which no exporter of symmetric weights writes; where there is one, each product is added to 32 bits on its own.

use core::arch::aarch64::*;

use super::tile::{Isa, Layer, Panel, Pixels, Places, four};
use super::vector::{mlal_high, mull_high};
use super::{conv, dense};
use crate::kernels::Kernel;
use crate::plan::Code;

/// Bytes at the head of the repacked data, the first of which says whether a weight is −128; 16 keep what follows aligned.
pub(super) const FLAG_BYTES: usize = 16;

/// Convolution, in tiles of 4 pixels × 8 outputs.
pub(super) static CONV: Kernel = Kernel {
    code: Code::Conv,
    packed_bytes: |op| FLAG_BYTES + conv::packed_bytes::<Neon>(op),
    pack: |op, out| {
        if let Some((flag, rest)) = out.split_at_mut_checked(FLAG_BYTES) {
            flag.fill(u8::from(has_least(op.weights)));
            conv::pack::<Neon>(op, rest);
        }
    },
    workspace_bytes: conv::workspace_bytes::<Neon>,
    run: |op, memory| {
        let (isa, packed) = Neon::unflag(memory.packed);
        memory.packed = packed;
        conv::run::<_, 4, 2, 1>(isa, op, memory);
    },
};
/// Dense layer, 16 outputs at a time.
pub(super) static DENSE: Kernel = Kernel {
    code: Code::Dense,
    packed_bytes: |_| FLAG_BYTES,
    pack: |op, out| out.fill(u8::from(has_least(op.weights))),
    workspace_bytes: dense::workspace_bytes,
    run: |op, memory| dense::run(Neon::unflag(memory.packed).0, op, memory),
};
/// Dense layer whose scores leave as f32.
pub(super) static DENSE_FLOAT: Kernel = Kernel {
    code: Code::DenseFloat,
    packed_bytes: |_| FLAG_BYTES,
    pack: |op, out| out.fill(u8::from(has_least(op.weights))),
    workspace_bytes: dense::workspace_bytes,
    run: |op, memory| dense::run_float(Neon::unflag(memory.packed).0, op, memory),
};

/// Whether a weight is −128.
pub(super) fn has_least(weights: &[u8]) -> bool {
    weights.contains(&i8::MIN.cast_unsigned())
}

/// Every AArch64 has its instructions.
#[derive(Clone, Copy)]
pub(super) struct Neon {
    /// Whether a weight is −128.
    least: bool,
}

impl Neon {
    /// Takes the flag off the repacked data. Without one it must be assumed.
    fn unflag(packed: &[u8]) -> (Self, &[u8]) {
        let (flag, rest) = packed.split_at_checked(FLAG_BYTES).unwrap_or((&[1], &[]));
        (Self { least: flag.first().is_none_or(|flag| *flag != 0) }, rest)
    }
}

impl Isa for Neon {
    const STEP: usize = 4;

    #[inline(always)]
    fn sums<const P: usize, const B: usize>(
        self,
        places: &Places<'_, P>,
        panel: &Panel<'_, B>,
        bias: [int32x4_t; B],
    ) -> [[int32x4_t; B]; P] {
        if self.least { sums::<P, B, true>(places, panel, bias) } else { sums::<P, B, false>(places, panel, bias) }
    }

    // Not inlined: it is large, and called from several places.
    #[inline(never)]
    fn tiles<const P: usize, const B: usize>(self, layer: &Layer<'_>, pixels: &Pixels<'_, P>, out: &mut [u8]) {
        layer.tiles::<Self, P, B>(self, pixels, out);
    }
}

#[inline(always)]
fn sums<const P: usize, const B: usize, const LEAST: bool>(
    places: &Places<'_, P>,
    panel: &Panel<'_, B>,
    bias: [int32x4_t; B],
) -> [[int32x4_t; B]; P] {
    let (walk, mut weights) = (places.walk(), panel.at());
    if walk.depth() != panel.depth() || !walk.len.is_multiple_of(4) {
        return [bias; P];
    }
    // SAFETY: AArch64 always has these instructions. A place has everything that the walk reaches behind it, which is up to `end` at
    // most; and a panel has 4 bytes of weights a block for each of its bytes, of which 16 are taken for every 4.
    unsafe {
        // Two sums for each output: of the even and of the odd pair of inputs in a block.
        let zero = vdupq_n_s32(0);
        let mut acc = [bias.map(|bias| [vzip1q_s32(bias, zero), vzip2q_s32(bias, zero)]); P];
        for start in walk.starts() {
            let (mut k, end) = (start, start + walk.len);
            while k + 8 <= end {
                let w = weights.map(|at| [vld1q_s8(at.cast()), vld1q_s8(at.wrapping_add(16).cast())]);
                weights = weights.map(|at| at.wrapping_add(32));
                for (acc, at) in acc.iter_mut().zip(places.at()) {
                    let (x, y) = (four(at.wrapping_add(k)), four(at.wrapping_add(k + 4)));
                    for ([low, high], [w, v]) in acc.iter_mut().zip(w) {
                        let (l, h) = (vmull_s8(vget_low_s8(w), vget_low_s8(x)), mull_high(w, x));
                        if LEAST {
                            let (m, i) = (vmull_s8(vget_low_s8(v), vget_low_s8(y)), mull_high(v, y));
                            *low = vpadalq_s16(vpadalq_s16(*low, l), m);
                            *high = vpadalq_s16(vpadalq_s16(*high, h), i);
                        } else {
                            *low = vpadalq_s16(*low, vmlal_s8(l, vget_low_s8(v), vget_low_s8(y)));
                            *high = vpadalq_s16(*high, mlal_high(h, v, y));
                        }
                    }
                }
                k += 8;
            }
            if k < end {
                let w = weights.map(|at| vld1q_s8(at.cast()));
                weights = weights.map(|at| at.wrapping_add(16));
                for (acc, at) in acc.iter_mut().zip(places.at()) {
                    let x = four(at.wrapping_add(k));
                    for ([low, high], w) in acc.iter_mut().zip(w) {
                        *low = vpadalq_s16(*low, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                        *high = vpadalq_s16(*high, mull_high(w, x));
                    }
                }
            }
        }
        let mut sums = [bias; P];
        for (sums, acc) in sums.iter_mut().zip(acc) {
            for (sum, [low, high]) in sums.iter_mut().zip(acc) {
                *sum = vpaddq_s32(low, high);
            }
        }
        sums
    }
}
