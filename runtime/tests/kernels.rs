//! Every tier gives generic's bits.

hone_runtime::kernel_suite!(generic, &hone_runtime::kernels::generic::TIER);
