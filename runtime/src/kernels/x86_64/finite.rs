//! The look at inputs in wider registers.

use crate::kernels::finite;

/// `None` where the processor has no AVX2.
pub(in crate::kernels) fn all(values: &[f32]) -> Option<bool> {
    // SAFETY: the processor has what the function is compiled for.
    std::arch::is_x86_feature_detected!("avx2").then(|| unsafe { all_avx2(values) })
}

#[target_feature(enable = "avx2")]
fn all_avx2(values: &[f32]) -> bool {
    finite::all(values)
}
