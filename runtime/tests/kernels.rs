//! Every tier gives generic's bits.

hone_runtime::kernel_suite!(generic, &hone_runtime::kernels::generic::TIER);
#[cfg(target_arch = "x86_64")]
hone_runtime::kernel_suite!(avx2, hone_runtime::kernels::x86_64::avx2());
