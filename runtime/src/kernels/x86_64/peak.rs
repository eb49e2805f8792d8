//! The processor's peak rate: what the share of a layer is measured against.

use core::arch::asm;

/// A loop of nothing but `vpmaddwd`.
#[derive(Debug, Clone, Copy)]
pub struct Peak(());

impl Peak {
    /// Where the processor has AVX2.
    #[must_use]
    pub fn new() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// Runs the loop, some tens of microseconds; the multiply-accumulates done.
    #[must_use]
    pub fn run(self) -> u64 {
        const TURNS: u64 = 20_000;
        // SAFETY: the value proves that the processor has AVX2; registers alone are touched, and each is declared.
        unsafe {
            asm!(
                "2:",
                "vpmaddwd ymm0, ymm8, ymm9",
                "vpmaddwd ymm1, ymm8, ymm9",
                "vpmaddwd ymm2, ymm8, ymm9",
                "vpmaddwd ymm3, ymm8, ymm9",
                "vpmaddwd ymm4, ymm8, ymm9",
                "vpmaddwd ymm5, ymm8, ymm9",
                "vpmaddwd ymm6, ymm8, ymm9",
                "vpmaddwd ymm7, ymm8, ymm9",
                "dec {turns}",
                "jnz 2b",
                turns = inout(reg) TURNS => _,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
                out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
                options(nomem, nostack),
            );
        }
        TURNS * 8 * 16
    }
}
