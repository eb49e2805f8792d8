//! The inner loops for Thumb-2 without the DSP extension: one `mla` a product, four outputs of two pixels at a time.

use core::arch::naked_asm;

use super::{Pair, Row, Run, Single};

/// The tier's name.
pub const NAME: &str = "cortex_m";
/// Outputs of a block that [`pair`] makes.
pub const WIDTH: usize = 4;
/// Steps of four inputs that one turn of an inner loop makes.
pub const TURN: usize = 4;
/// Bytes of code of one step of [`pair`].
pub const PAIR_STEP: usize = 224;
/// Bytes of code of one step of [`single`].
pub const SINGLE_STEP: usize = 144;

/// One input of two pixels with four outputs, r2 to r9 their sums, pixel by pixel. The first pixel's value at r0 and the first
/// output's weight at r1 are read last, so that the last input can step on.
macro_rules! pair_input {
    ($second:literal, $first:literal, $w3:literal, $w2:literal, $w1:literal, $w0:literal) => {
        concat!(
            "ldrsh.w r11, ",
            $second,
            "\n ldrsh.w r10, ",
            $first,
            "\n ldrsb.w r12, ",
            $w3,
            "\n mla r8, r10, r12, r8\n mla r9, r11, r12, r9",
            "\n ldrsb.w r12, ",
            $w2,
            "\n mla r6, r10, r12, r6\n mla r7, r11, r12, r7",
            "\n ldrsb.w r12, ",
            $w1,
            "\n mla r4, r10, r12, r4\n mla r5, r11, r12, r5",
            "\n ldrsb.w r12, ",
            $w0,
            "\n mla r2, r10, r12, r2\n mla r3, r11, r12, r3\n",
        )
    };
}

/// Four inputs: 32 products in 56 instructions of 4 bytes. r0 patches (k0, k2, k1, k3 of each pixel), r1 weights.
macro_rules! pair_step {
    () => {
        concat!(
            pair_input!("[r0, #12]", "[r0, #4]", "[r1, #13]", "[r1, #9]", "[r1, #5]", "[r1, #1]"),
            pair_input!("[r0, #10]", "[r0, #2]", "[r1, #14]", "[r1, #10]", "[r1, #6]", "[r1, #2]"),
            pair_input!("[r0, #14]", "[r0, #6]", "[r1, #15]", "[r1, #11]", "[r1, #7]", "[r1, #3]"),
            pair_input!("[r0, #8]", "[r0], #16", "[r1, #12]", "[r1, #8]", "[r1, #4]", "[r1], #16"),
        )
    };
}

/// As `dsp::pair`, four outputs a block.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn pair(layer: *const Pair, first: *mut u8, second: *mut u8) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "ldmia r0, {{r3-r11}}",
        "adr lr, 3f",
        "add r10, r10, lr",
        "adds r10, r10, #1",
        // first, second, bias, multipliers, high word, shift, blocks, patches, turns, entry
        "stmdb sp!, {{r1-r10}}",
        "mov r1, r11",
        "2:",
        "ldr r12, [sp, #8]",
        "ldrd r2, r4, [r12], #8",
        "ldrd r6, r8, [r12], #8",
        "str r12, [sp, #8]",
        "mov r3, r2",
        "mov r5, r4",
        "mov r7, r6",
        "mov r9, r8",
        "ldrd r0, lr, [sp, #28]",
        "ldr pc, [sp, #36]",
        ".p2align 2",
        "3:",
        pair_step!(),
        pair_step!(),
        pair_step!(),
        pair_step!(),
        "subs lr, lr, #1",
        "bne 3b",
        // multipliers, high word, shift
        "ldr r10, [sp, #12]",
        "ldr r11, [r10], #4",
        "smull r12, r2, r2, r11",
        "smull r12, r3, r3, r11",
        "ldr r11, [r10], #4",
        "smull r12, r4, r4, r11",
        "smull r12, r5, r5, r11",
        "ldr r11, [r10], #4",
        "smull r12, r6, r6, r11",
        "smull r12, r7, r7, r11",
        "ldr r11, [r10], #4",
        "smull r12, r8, r8, r11",
        "smull r12, r9, r9, r11",
        "str r10, [sp, #12]",
        "ldrd r10, r11, [sp, #16]",
        "add r2, r2, r10",
        "add r3, r3, r10",
        "add r4, r4, r10",
        "add r5, r5, r10",
        "add r6, r6, r10",
        "add r7, r7, r10",
        "add r8, r8, r10",
        "add r9, r9, r10",
        "asr r2, r2, r11",
        "asr r3, r3, r11",
        "asr r4, r4, r11",
        "asr r5, r5, r11",
        "asr r6, r6, r11",
        "asr r7, r7, r11",
        "asr r8, r8, r11",
        "asr r9, r9, r11",
        "ssat r2, #8, r2",
        "ssat r3, #8, r3",
        "ssat r4, #8, r4",
        "ssat r5, #8, r5",
        "ssat r6, #8, r6",
        "ssat r7, #8, r7",
        "ssat r8, #8, r8",
        "ssat r9, #8, r9",
        "bfi r2, r4, #8, #8",
        "bfi r2, r6, #16, #8",
        "bfi r2, r8, #24, #8",
        "bfi r3, r5, #8, #8",
        "bfi r3, r7, #16, #8",
        "bfi r3, r9, #24, #8",
        "ldrd r10, r11, [sp]",
        "str r3, [r11], #4",
        "str r2, [r10], #4",
        "strd r10, r11, [sp]",
        "ldr r12, [sp, #24]",
        "subs r12, r12, #1",
        "str r12, [sp, #24]",
        "bne 2b",
        "add sp, sp, #40",
        "pop {{r4-r11, pc}}",
    )
}

/// One input with four outputs.
macro_rules! single_input {
    ($x:literal, $w3:literal, $w2:literal, $w1:literal, $w0:literal) => {
        concat!(
            "ldrsb.w r8, ",
            $x,
            "\n ldrsb.w r9, ",
            $w3,
            "\n mla r7, r8, r9, r7",
            "\n ldrsb.w r9, ",
            $w2,
            "\n mla r6, r8, r9, r6",
            "\n ldrsb.w r9, ",
            $w1,
            "\n mla r5, r8, r9, r5",
            "\n ldrsb.w r9, ",
            $w0,
            "\n mla r4, r8, r9, r4\n",
        )
    };
}

/// Four inputs: 16 products in 36 instructions of 4 bytes.
macro_rules! single_step {
    () => {
        concat!(
            single_input!("[r0, #1]", "[r1, #13]", "[r1, #9]", "[r1, #5]", "[r1, #1]"),
            single_input!("[r0, #2]", "[r1, #14]", "[r1, #10]", "[r1, #6]", "[r1, #2]"),
            single_input!("[r0, #3]", "[r1, #15]", "[r1, #11]", "[r1, #7]", "[r1, #3]"),
            single_input!("[r0], #4", "[r1, #12]", "[r1, #8]", "[r1, #4]", "[r1], #16"),
        )
    };
}

/// As `dsp::single`.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn single(layer: *const Single, input: *const u8, out: *mut u8) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "ldmia r0, {{r3-r10}}",
        "adr lr, 3f",
        "add r9, r9, lr",
        "adds r9, r9, #1",
        // input, out, bias, multipliers, high word, shift, blocks, turns, entry
        "stmdb sp!, {{r1-r9}}",
        "mov r1, r10",
        "ldmia sp, {{r0, r2, r3, r8-r11}}",
        "2:",
        "ldmia r3!, {{r4-r7}}",
        "stmia sp, {{r0, r2, r3, r8-r11}}",
        "ldr lr, [sp, #28]",
        "ldr pc, [sp, #32]",
        ".p2align 2",
        "3:",
        single_step!(),
        single_step!(),
        single_step!(),
        single_step!(),
        "subs lr, lr, #1",
        "bne 3b",
        "ldmia sp, {{r0, r2, r3, r8-r11}}",
        "cmp r10, #0",
        "beq 4f",
        "ldr lr, [r8], #4",
        "smull r12, r4, r4, lr",
        "ldr lr, [r8], #4",
        "smull r12, r5, r5, lr",
        "ldr lr, [r8], #4",
        "smull r12, r6, r6, lr",
        "ldr lr, [r8], #4",
        "smull r12, r7, r7, lr",
        "add r4, r4, r9",
        "add r5, r5, r9",
        "add r6, r6, r9",
        "add r7, r7, r9",
        "asr r4, r4, r10",
        "asr r5, r5, r10",
        "asr r6, r6, r10",
        "asr r7, r7, r10",
        "ssat r4, #8, r4",
        "ssat r5, #8, r5",
        "ssat r6, #8, r6",
        "ssat r7, #8, r7",
        "bfi r4, r5, #8, #8",
        "bfi r4, r6, #16, #8",
        "bfi r4, r7, #24, #8",
        "str r4, [r2], #4",
        "subs r11, r11, #1",
        "bne 2b",
        "b 5f",
        // The sums themselves.
        "4:",
        "stmia r2!, {{r4-r7}}",
        "subs r11, r11, #1",
        "bne 2b",
        "5:",
        "add sp, sp, #36",
        "pop {{r4-r11, pc}}",
    )
}

/// The word in `$from` as two words of int16, (0, 2) and (1, 3); `$t` is lost.
macro_rules! widen {
    ($from:literal, $even:literal, $odd:literal, $t:literal) => {
        concat!(
            "sxtb ",
            $even,
            ", ",
            $from,
            "\n sxtb ",
            $t,
            ", ",
            $from,
            ", ror #16",
            "\n bfi ",
            $even,
            ", ",
            $t,
            ", #16, #16",
            "\n sxtb ",
            $odd,
            ", ",
            $from,
            ", ror #8",
            "\n asr ",
            $t,
            ", ",
            $from,
            ", #24",
            "\n bfi ",
            $odd,
            ", ",
            $t,
            ", #16, #16\n",
        )
    };
}

/// As `dsp::expand`.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn expand(from: *const u8, to: *mut u32, run: *const Run) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "ldmia r2, {{r10-r12, lr}}",
        "2:",
        "mov r3, r0",
        "mov r4, r1",
        "mov r2, r10",
        "3:",
        "ldr r5, [r3], #4",
        widen!("r5", "r6", "r7", "r8"),
        "strd r6, r7, [r4], #16",
        "subs r2, r2, #1",
        "bne 3b",
        "add r0, r0, r12",
        "add r1, r1, lr",
        "subs r11, r11, #1",
        "bne 2b",
        "pop {{r4-r11, pc}}",
    )
}

/// As `dsp::copy`.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn copy(from: *const u8, to: *mut u8, run: *const Run) {
    naked_asm!(
        "push {{r4, r5, r10, r11, lr}}",
        "ldmia r2, {{r10-r12, lr}}",
        "2:",
        "mov r3, r0",
        "mov r4, r1",
        "subs r2, r10, #4",
        "blo 4f",
        "3:",
        "ldr r5, [r3], #4",
        "str r5, [r4], #4",
        "subs r2, r2, #4",
        "bhs 3b",
        "4:",
        "adds r2, r2, #4",
        "beq 6f",
        "5:",
        "ldrb r5, [r3], #1",
        "strb r5, [r4], #1",
        "subs r2, r2, #1",
        "bne 5b",
        "6:",
        "add r0, r0, r12",
        "add r1, r1, lr",
        "subs r11, r11, #1",
        "bne 2b",
        "pop {{r4, r5, r10, r11, pc}}",
    )
}

/// As `dsp::expand_two`.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn expand_two(first: *const u32, second: *const u32, to: *mut u32, words: usize) {
    naked_asm!(
        "push {{r4-r9, lr}}",
        "2:",
        "ldr r4, [r0], #4",
        widen!("r4", "r5", "r6", "r12"),
        "ldr r4, [r1], #4",
        widen!("r4", "r7", "r8", "r12"),
        "stmia r2!, {{r5-r8}}",
        "subs r3, r3, #1",
        "bne 2b",
        "pop {{r4-r9, pc}}",
    )
}

/// A channel of rows 0 and 1 in one word; lr is lost.
macro_rules! rows {
    ($to:literal, $rotate:literal) => {
        concat!(
            "sxtb ",
            $to,
            ", r4, ror #",
            $rotate,
            "\n sxtb lr, r5, ror #",
            $rotate,
            "\n bfi ",
            $to,
            ", lr, #16, #16\n"
        )
    };
}

/// Columns of four channels of three rows in r4, r5 and r6; r1 is from row to row.
macro_rules! columns {
    ($first:literal, $second:literal, $third:literal) => {
        naked_asm!(
            "push {{r4-r11, lr}}",
            "mov r7, r2",
            "ldr r2, [sp, #40]",
            "2:",
            $first,
            $second,
            $third,
            "add r0, r0, r3",
            "sxtb r8, r4",
            "sxtb lr, r5",
            "bfi r8, lr, #16, #16",
            rows!("r9", "8"),
            rows!("r10", "16"),
            rows!("r11", "24"),
            "stmia r7!, {{r8-r11}}",
            widen!("r6", "r8", "r9", "lr"),
            "stmia r7!, {{r8, r9}}",
            "ldr lr, [sp, #36]",
            "subs lr, lr, #1",
            "str lr, [sp, #36]",
            "bne 2b",
            "pop {{r4-r11, pc}}",
        )
    };
}

/// As `dsp::columns`.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn columns(
    from: *const u8,
    distance: usize,
    to: *mut u32,
    stride: usize,
    count: usize,
    twice: usize,
) {
    columns!("ldr r4, [r0]", "ldr r5, [r0, r1]", "ldr r6, [r0, r2]")
}

/// As `dsp::columns_top`.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn columns_top(
    from: *const u8,
    distance: usize,
    to: *mut u32,
    stride: usize,
    count: usize,
    zeros: usize,
) {
    columns!("mov r4, r2", "ldr r5, [r0]", "ldr r6, [r0, r1]")
}

/// As `dsp::columns_bottom`.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn columns_bottom(
    from: *const u8,
    distance: usize,
    to: *mut u32,
    stride: usize,
    count: usize,
    zeros: usize,
) {
    columns!("ldr r4, [r0]", "ldr r5, [r0, r1]", "mov r6, r2")
}

/// One product of a channel.
macro_rules! product {
    ($sum:literal, $at:literal) => {
        concat!("ldrsh r2, [r0, #", $at, "]\n ldrsh r3, [r1, #", $at, "]\n mla ", $sum, ", r2, r3, ", $sum, "\n")
    };
}

/// One column with its weights: rows 0 and 1 of channels 0 to 3, then row 2 of channels 0, 2, 1, 3.
macro_rules! column_step {
    () => {
        concat!(
            product!("r8", "2"),
            product!("r9", "4"),
            product!("r9", "6"),
            product!("r10", "8"),
            product!("r10", "10"),
            product!("r11", "12"),
            product!("r11", "14"),
            product!("r8", "16"),
            product!("r10", "18"),
            product!("r9", "20"),
            product!("r11", "22"),
            "ldrsh r2, [r0], #24\n ldrsh r3, [r1], #24\n mla r8, r2, r3, r8",
        )
    };
}

/// As `dsp::depthwise`.
///
/// # Safety
/// As there.
#[unsafe(naked)]
pub unsafe extern "C" fn depthwise(from: *const u32, block: *const u32, out: *mut u8, row: *const Row) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "ldmia r3, {{r4-r6}}",
        // out, stride, outputs, back
        "stmdb sp!, {{r2, r4-r6}}",
        "2:",
        "ldmia r1!, {{r8-r11}}",
        column_step!(),
        column_step!(),
        column_step!(),
        "ldmia r1, {{r2-r7}}",
        "smull r12, r8, r8, r2",
        "smull r12, r9, r9, r3",
        "smull r12, r10, r10, r4",
        "smull r12, r11, r11, r5",
        "add r8, r8, r6",
        "add r9, r9, r6",
        "add r10, r10, r6",
        "add r11, r11, r6",
        "asr r8, r8, r7",
        "asr r9, r9, r7",
        "asr r10, r10, r7",
        "asr r11, r11, r7",
        "ssat r8, #8, r8",
        "ssat r9, #8, r9",
        "ssat r10, #8, r10",
        "ssat r11, #8, r11",
        "bfi r8, r9, #8, #8",
        "bfi r8, r10, #16, #8",
        "bfi r8, r11, #24, #8",
        "ldmia sp, {{r2-r5}}",
        "str r8, [r2]",
        "add r2, r2, r3",
        "sub r0, r0, r5",
        "sub r1, r1, #88",
        "subs r4, r4, #1",
        "stmia sp, {{r2-r4}}",
        "bne 2b",
        "add sp, sp, #16",
        "pop {{r4-r11, pc}}",
    )
}
