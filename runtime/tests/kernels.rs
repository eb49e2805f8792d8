//! Every tier gives generic's bits.

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
