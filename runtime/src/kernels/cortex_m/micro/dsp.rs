//! The inner loops for the DSP extension. Every register is used; what does not fit lies in a frame on the stack, which one `ldm` brings.

use core::arch::naked_asm;

use super::{Pair, Row, Run, Single};

/// The tier's name.
pub const NAME: &str = "cortex_m_dsp";
/// Outputs of a block that [`pair`] makes.
pub const WIDTH: usize = 2;
/// Steps of four inputs that one turn of an inner loop makes.
pub const TURN: usize = 8;
/// Bytes of code of one step of [`pair`].
pub const PAIR_STEP: usize = 56;
/// Bytes of code of one step of [`single`].
pub const SINGLE_STEP: usize = 80;

/// Link-time optimization reads the assembly without the processor that was asked for, and Armv8-M alone has no DSP extension.
#[cfg(hone_v8m)]
macro_rules! processor {
    () => {
        ".cpu cortex-m33"
    };
}
#[cfg(not(hone_v8m))]
macro_rules! processor {
    () => {
        ""
    };
}

/// Four inputs of two pixels with two outputs: 16 products in 14 instructions of 4 bytes.
///
/// r0 patches, r1 weights, r4 to r7 the sums of output 0 (pixel 0, 1) and output 1 (pixel 0, 1), lr turns.
macro_rules! pair_step {
    () => {
        "ldmia r0!, {{r8-r11}}
        ldrd r2, r3, [r1], #16
        sxtb16 r12, r2
        sxtb16 r2, r2, ror #8
        smlad r4, r12, r8, r4
        smlad r5, r12, r10, r5
        smlad r4, r2, r9, r4
        smlad r5, r2, r11, r5
        sxtb16 r12, r3
        sxtb16 r3, r3, ror #8
        smlad r6, r12, r8, r6
        smlad r7, r12, r10, r7
        smlad r6, r3, r9, r6
        smlad r7, r3, r11, r7"
    };
}

/// Two outputs of every block of four, for two pixels, from patches.
///
/// The second pixel is stored before the first, so that `second` may be `first` where there is no second pixel.
///
/// # Safety
/// `layer` holds what [`Pair::new`] made from slices that are still alive, and both rows have room for its outputs.
#[unsafe(naked)]
pub unsafe extern "C" fn pair(layer: *const Pair, first: *mut u8, second: *mut u8) {
    naked_asm!(
        processor!(),
        "push {{r4-r11, lr}}",
        "ldmia r0, {{r3-r11}}",
        // Where the first turn begins, with the bit that says Thumb.
        "adr lr, 3f",
        "add r10, r10, lr",
        "adds r10, r10, #1",
        // first, second, bias, multipliers, high word, shift, blocks, patches, turns, entry
        "stmdb sp!, {{r1-r10}}",
        "mov r1, r11",
        "ldmia sp, {{r2, r3, r8-r12}}",
        "2:",
        "ldrd r4, r6, [r8], #16",
        "stmia sp, {{r2, r3, r8-r12}}",
        "mov r5, r4",
        "mov r7, r6",
        "ldrd r0, lr, [sp, #28]",
        "ldr pc, [sp, #36]",
        ".p2align 2",
        "3:",
        pair_step!(),
        pair_step!(),
        pair_step!(),
        pair_step!(),
        pair_step!(),
        pair_step!(),
        pair_step!(),
        pair_step!(),
        "subs lr, lr, #1",
        "bne 3b",
        "ldmia sp, {{r2, r3, r8-r12}}",
        "ldrd r0, lr, [r9], #16",
        "smmla r4, r4, r0, r10",
        "smmla r5, r5, r0, r10",
        "smmla r6, r6, lr, r10",
        "smmla r7, r7, lr, r10",
        "asr r4, r4, r11",
        "asr r5, r5, r11",
        "asr r6, r6, r11",
        "asr r7, r7, r11",
        "ssat r4, #8, r4",
        "ssat r5, #8, r5",
        "ssat r6, #8, r6",
        "ssat r7, #8, r7",
        "strb r5, [r3], #1",
        "strb r7, [r3], #3",
        "strb r4, [r2], #1",
        "strb r6, [r2], #3",
        "subs r12, r12, #1",
        "bne 2b",
        "add sp, sp, #40",
        "pop {{r4-r11, pc}}",
    )
}

/// Four inputs with four outputs: 16 products in 20 instructions of 4 bytes.
///
/// r0 row, r1 weights, r4 to r7 sums, lr turns.
macro_rules! single_step {
    () => {
        "ldr r2, [r0], #4
        ldmia r1!, {{r8-r11}}
        sxtb16 r3, r2
        sxtb16 r2, r2, ror #8
        sxtb16 r12, r8
        sxtb16 r8, r8, ror #8
        smlad r4, r12, r3, r4
        smlad r4, r8, r2, r4
        sxtb16 r12, r9
        sxtb16 r9, r9, ror #8
        smlad r5, r12, r3, r5
        smlad r5, r9, r2, r5
        sxtb16 r12, r10
        sxtb16 r10, r10, ror #8
        smlad r6, r12, r3, r6
        smlad r6, r10, r2, r6
        sxtb16 r12, r11
        sxtb16 r11, r11, ror #8
        smlad r7, r12, r3, r7
        smlad r7, r11, r2, r7"
    };
}

/// Blocks of four outputs of one row of activations.
///
/// # Safety
/// `layer` holds what [`Single::new`] made from slices that are still alive, `input` has the depth that it was made for, rounded up to
/// a multiple of 4, and `out` has room for four bytes a block; for [`Single::sums`] four aligned words a block.
#[unsafe(naked)]
pub unsafe extern "C" fn single(layer: *const Single, input: *const u8, out: *mut u8) {
    naked_asm!(
        processor!(),
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
        single_step!(),
        single_step!(),
        single_step!(),
        single_step!(),
        "subs lr, lr, #1",
        "bne 3b",
        "ldmia sp, {{r0, r2, r3, r8-r11}}",
        "cmp r10, #0",
        "beq 4f",
        "ldrd r12, lr, [r8], #8",
        "smmla r4, r4, r12, r9",
        "smmla r5, r5, lr, r9",
        "ldrd r12, lr, [r8], #8",
        "smmla r6, r6, r12, r9",
        "smmla r7, r7, lr, r9",
        "asr r4, r4, r10",
        "asr r5, r5, r10",
        "asr r6, r6, r10",
        "asr r7, r7, r10",
        "ssat r4, #8, r4",
        "ssat r5, #8, r5",
        "ssat r6, #8, r6",
        "ssat r7, #8, r7",
        "bfi r4, r5, #8, #8",
        "bfi r6, r7, #8, #8",
        "pkhbt r4, r4, r6, lsl #16",
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

/// Widens `run.len` words of each row into the places of one pixel's patch, 16 bytes a word.
///
/// # Safety
/// `from` is aligned; all that `run` says can be read and, of two words every 16 bytes, written. There is a row, and a word in it.
#[unsafe(naked)]
pub unsafe extern "C" fn expand(from: *const u8, to: *mut u32, run: *const Run) {
    naked_asm!(
        processor!(),
        "push {{r4-r11, lr}}",
        // words, rows, from row to row, from patch row to patch row
        "ldmia r2, {{r10-r12, lr}}",
        "2:",
        "mov r3, r0",
        "mov r4, r1",
        "subs r2, r10, #4",
        "blo 4f",
        "3:",
        "ldmia r3!, {{r5-r8}}",
        "sxtb16 r9, r5",
        "sxtb16 r5, r5, ror #8",
        "strd r9, r5, [r4], #16",
        "sxtb16 r9, r6",
        "sxtb16 r6, r6, ror #8",
        "strd r9, r6, [r4], #16",
        "sxtb16 r9, r7",
        "sxtb16 r7, r7, ror #8",
        "strd r9, r7, [r4], #16",
        "sxtb16 r9, r8",
        "sxtb16 r8, r8, ror #8",
        "strd r9, r8, [r4], #16",
        "subs r2, r2, #4",
        "bhs 3b",
        "4:",
        "adds r2, r2, #4",
        "beq 6f",
        "5:",
        "ldr r5, [r3], #4",
        "sxtb16 r9, r5",
        "sxtb16 r5, r5, ror #8",
        "strd r9, r5, [r4], #16",
        "subs r2, r2, #1",
        "bne 5b",
        "6:",
        "add r0, r0, r12",
        "add r1, r1, lr",
        "subs r11, r11, #1",
        "bne 2b",
        "pop {{r4-r11, pc}}",
    )
}

/// Copies `run.len` bytes of each row, from and to any address.
///
/// # Safety
/// All that `run` says can be read and written. There is a row, and a byte in it.
#[unsafe(naked)]
pub unsafe extern "C" fn copy(from: *const u8, to: *mut u8, run: *const Run) {
    naked_asm!(
        processor!(),
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

/// Widens `words` words of each of two pixels into patches.
///
/// # Safety
/// That many words can be read at `first` and at `second`, and four times as many written at `to`.
#[unsafe(naked)]
pub unsafe extern "C" fn expand_two(first: *const u32, second: *const u32, to: *mut u32, words: usize) {
    naked_asm!(
        processor!(),
        "push {{r4-r11, lr}}",
        "lsrs r3, r3, #1",
        "bcc 2f",
        "ldr r4, [r0], #4",
        "ldr r5, [r1], #4",
        "sxtb16 r8, r4",
        "sxtb16 r9, r4, ror #8",
        "sxtb16 r10, r5",
        "sxtb16 r11, r5, ror #8",
        "stmia r2!, {{r8-r11}}",
        "2:",
        "cbz r3, 4f",
        "3:",
        "ldrd r4, r5, [r0], #8",
        "ldrd r6, r7, [r1], #8",
        "sxtb16 r8, r4",
        "sxtb16 r9, r4, ror #8",
        "sxtb16 r10, r6",
        "sxtb16 r11, r6, ror #8",
        "stmia r2!, {{r8-r11}}",
        "sxtb16 r8, r5",
        "sxtb16 r9, r5, ror #8",
        "sxtb16 r10, r7",
        "sxtb16 r11, r7, ror #8",
        "stmia r2!, {{r8-r11}}",
        "subs r3, r3, #1",
        "bne 3b",
        "4:",
        "pop {{r4-r11, pc}}",
    )
}

/// Columns of four channels of three rows in r4, r5 and r6; r1 is from row to row.
macro_rules! columns {
    ($first:literal, $second:literal, $third:literal) => {
        naked_asm!(
            processor!(),
            "push {{r4-r11, lr}}",
            "ldr r7, [sp, #36]",
            "mov r8, r3",
            "mov r3, r2",
            "ldr r2, [sp, #40]",
            "2:",
            $first,
            $second,
            $third,
            "add r0, r0, r8",
            "sxtb16 r12, r6",
            "sxtb16 lr, r6, ror #8",
            "sxtb16 r9, r4",
            "sxtb16 r10, r5",
            "sxtb16 r4, r4, ror #8",
            "sxtb16 r5, r5, ror #8",
            "pkhbt r6, r9, r10, lsl #16",
            "pkhtb r10, r10, r9, asr #16",
            "pkhbt r9, r4, r5, lsl #16",
            "pkhtb r11, r5, r4, asr #16",
            "stmia r3!, {{r6, r9-r12, lr}}",
            "subs r7, r7, #1",
            "bne 2b",
            "pop {{r4-r11, pc}}",
        )
    };
}

/// Widens `count` columns of three rows of four channels: for each channel the values of rows 0 and 1, then row 2's channels 0 and 2,
/// then 1 and 3; `to` gets six words a column. `twice` is 2 · `distance`.
///
/// # Safety
/// Words can be read at `from`, `from + distance` and `from + twice` (bytes), `count` of them `stride` bytes apart, and six times
/// `count` written at `to`; `count` is at least 1.
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

/// As [`columns`] for a window that begins one row above the input: `from` is its second row, its first is `zeros` in every byte.
///
/// # Safety
/// As [`columns`], for two rows.
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

/// As [`columns`] for a window that ends one row below the input: its third row is `zeros` in every byte.
///
/// # Safety
/// As [`columns`], for two rows.
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

/// One column with its weights: 12 products of four channels.
macro_rules! column_step {
    () => {
        "ldmia r0!, {{r2-r5}}
        ldmia r1!, {{r6, r7, r12, lr}}
        smlad r8, r2, r6, r8
        smlad r9, r3, r7, r9
        smlad r10, r4, r12, r10
        smlad r11, r5, lr, r11
        ldrd r2, r3, [r0], #8
        ldrd r6, r7, [r1], #8
        smlabb r8, r2, r6, r8
        smlabb r9, r3, r7, r9
        smlatt r10, r2, r6, r10
        smlatt r11, r3, r7, r11"
    };
}

/// A row of outputs of four channels of a depthwise convolution of 3 × 3 taps.
///
/// `block`: four biases, for each of three columns the weights in the order of [`columns`], four multipliers, the high word, the shift.
///
/// # Safety
/// `from` holds all columns that the row's outputs want, `block` 28 words, and at `out` four bytes can be written for every output.
#[unsafe(naked)]
pub unsafe extern "C" fn depthwise(from: *const u32, block: *const u32, out: *mut u8, row: *const Row) {
    naked_asm!(
        processor!(),
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
        "smmla r8, r8, r2, r6",
        "smmla r9, r9, r3, r6",
        "smmla r10, r10, r4, r6",
        "smmla r11, r11, r5, r6",
        "asr r8, r8, r7",
        "asr r9, r9, r7",
        "asr r10, r10, r7",
        "asr r11, r11, r7",
        "ssat r8, #8, r8",
        "ssat r9, #8, r9",
        "ssat r10, #8, r10",
        "ssat r11, #8, r11",
        "bfi r8, r9, #8, #8",
        "bfi r10, r11, #8, #8",
        "pkhbt r8, r8, r10, lsl #16",
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
