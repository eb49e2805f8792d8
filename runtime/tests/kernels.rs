//! Every tier gives generic's bits, or in f16 what the format allows.

use hone_runtime::kernels::suite::{Group, run_complete, run_group};
use hone_runtime::kernels::{Kernel, Memory, Tier, generic as portable};
use hone_runtime::plan::{Code, Op};

hone_runtime::kernel_suite!(generic, &hone_runtime::kernels::generic::TIER);
#[cfg(target_arch = "x86_64")]
hone_runtime::kernel_suite!(avx2, hone_runtime::kernels::x86_64::avx2());
#[cfg(target_arch = "x86_64")]
hone_runtime::kernel_suite!(avxvnni, hone_runtime::kernels::x86_64::avxvnni());
#[cfg(target_arch = "x86_64")]
hone_runtime::kernel_suite!(avxvnni_emulated, hone_runtime::kernels::x86_64::emulated::avxvnni());
#[cfg(target_arch = "x86_64")]
hone_runtime::kernel_suite!(avx512vnni, hone_runtime::kernels::x86_64::avx512vnni());
#[cfg(target_arch = "x86_64")]
hone_runtime::kernel_suite!(avx512vnni_emulated, hone_runtime::kernels::x86_64::emulated::avx512vnni());
#[cfg(target_arch = "aarch64")]
hone_runtime::kernel_suite!(neon, hone_runtime::kernels::aarch64::neon());
#[cfg(target_arch = "aarch64")]
hone_runtime::kernel_suite!(dotprod, hone_runtime::kernels::aarch64::dotprod());
#[cfg(target_arch = "aarch64")]
hone_runtime::kernel_suite!(i8mm, hone_runtime::kernels::aarch64::i8mm());
hone_runtime::kernel_suite!(cortex_m, &hone_runtime::kernels::cortex_m::TIER);

/// Gives what generic gives, but for the first value, which is off by a hundredth.
fn off_by_a_hundredth(op: &Op<'_>, memory: &mut Memory<'_>) {
    (portable::half::CONV.run)(op, memory);
    if let Some(value) = memory.arena[op.output.range()].first_chunk_mut() {
        let wrong = half::f16::from_le_bytes(*value).to_f32() * 1.01;
        *value = half::f16::from_f32(wrong).to_le_bytes();
    }
}

static WRONG_CONV: Kernel = Kernel {
    workspace_bytes: |op| (portable::half::CONV.workspace_bytes)(op),
    ..Kernel::in_place(Code::Conv16, off_by_a_hundredth)
};

static WRONG: Tier =
    Tier { name: "wrong", kernels: &[&WRONG_CONV], quantize: portable::quantize, halve: portable::halve };

/// f16 kernels may differ from generic's, but not by anything.
#[test]
#[should_panic(expected = "apart")]
fn a_wrong_f16_kernel_is_noticed() {
    run_group(Some(&WRONG), Group::HalfConv);
}

/// A tier without a kernel for an operator would pass whatever is asked of that operator.
#[test]
#[should_panic(expected = "wrong: kernels for Conv")]
fn a_missing_kernel_is_noticed() {
    run_complete(Some(&WRONG));
}
