//! The instructions of the DSP extension that the kernels use, one function each; and what they do, in plain Rust, for the tests on
//! other processors.

macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $out:ty, $text:literal, $plain:expr) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $name($($arg: $type),*) -> $out {
            #[cfg(hone_dsp)]
            {
                let out: $out;
                // SAFETY: reads and writes registers alone, and build.rs has found that the processor has it.
                unsafe {
                    core::arch::asm!($text, out = lateout(reg) out, $($arg = in(reg) $arg,)* options(pure, nomem, nostack));
                }
                out
            }
            #[cfg(not(hone_dsp))]
            $plain
        }
    };
}

/// The two int16 of a word, low half first.
#[cfg(not(hone_dsp))]
fn halves(word: u32) -> [i32; 2] {
    [i32::from(word as u16 as i16), i32::from((word >> 16) as u16 as i16)]
}

/// Two int16 in a word, low half first.
#[cfg(not(hone_dsp))]
fn word(halves: [i32; 2]) -> u32 {
    let [low, high] = halves.map(|half| u32::from(half as i16 as u16));
    low | high << 16
}

instruction! {
    /// Bytes 0 and 2 as int16.
    sxtb16(x: u32) -> u32, "sxtb16 {out}, {x}",
    word([i32::from(x as u8 as i8), i32::from((x >> 16) as u8 as i8)])
}
instruction! {
    /// Bytes 1 and 3 as int16.
    sxtb16_ror8(x: u32) -> u32, "sxtb16 {out}, {x}, ror #8", sxtb16(x.rotate_right(8))
}
instruction! {
    /// `sum` and bytes 0 and 2 of `x`, as two int16 each, wrapping.
    #[cfg(hone_dsp)]
    sxtab16(sum: u32, x: u32) -> u32, "sxtab16 {out}, {sum}, {x}", {
        let ([a, b], [c, d]) = (halves(sum), halves(sxtb16(x)));
        word([a + c, b + d])
    }
}
instruction! {
    /// `sum` and bytes 1 and 3 of `x`, as two int16 each, wrapping.
    #[cfg(hone_dsp)]
    sxtab16_ror8(sum: u32, x: u32) -> u32, "sxtab16 {out}, {sum}, {x}, ror #8", sxtab16(sum, x.rotate_right(8))
}
instruction! {
    /// The low half of `a`, then the low half of `b`.
    pkhbt(a: u32, b: u32) -> u32, "pkhbt {out}, {a}, {b}, lsl #16", (a & 0xffff) | b << 16
}
instruction! {
    /// The high half of `a`, then the high half of `b`.
    pkhtb(a: u32, b: u32) -> u32, "pkhtb {out}, {b}, {a}, asr #16", a >> 16 | (b & 0xffff_0000)
}
instruction! {
    /// `acc` and both products of halves, wrapping.
    smlad(a: u32, b: u32, acc: i32) -> i32, "smlad {out}, {a}, {b}, {acc}", {
        let ([a, b], [c, d]) = (halves(a), halves(b));
        acc.wrapping_add(a.wrapping_mul(c)).wrapping_add(b.wrapping_mul(d))
    }
}
instruction! {
    /// `acc` and the product of the low halves.
    smlabb(a: u32, b: u32, acc: i32) -> i32, "smlabb {out}, {a}, {b}, {acc}",
    acc.wrapping_add(halves(a)[0].wrapping_mul(halves(b)[0]))
}
instruction! {
    /// `acc` and the product of the high halves.
    smlatt(a: u32, b: u32, acc: i32) -> i32, "smlatt {out}, {a}, {b}, {acc}",
    acc.wrapping_add(halves(a)[1].wrapping_mul(halves(b)[1]))
}
instruction! {
    /// The high word of `a · b + (acc << 32)`.
    smmla(a: i32, b: i32, acc: i32) -> i32, "smmla {out}, {a}, {b}, {acc}",
    ((i64::from(a) * i64::from(b) + (i64::from(acc) << 32)) >> 32) as i32
}
instruction! {
    /// The nearest int8.
    ssat8(x: i32) -> i32, "ssat {out}, #8, {x}", x.clamp(-128, 127)
}
macro_rules! choose {
    ($(#[$doc:meta])* $name:ident, $text:literal, $plain:expr) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $name(a: u32, b: u32) -> u32 {
            #[cfg(hone_dsp)]
            {
                let out: u32;
                // SAFETY: reads and writes registers and the GE flags alone, and build.rs has found that the processor has it.
                unsafe {
                    core::arch::asm!("ssub8 {flags}, {a}, {b}", $text, flags = out(reg) _, a = inout(reg) a => out,
                        b = in(reg) b, options(pure, nomem, nostack));
                }
                out
            }
            #[cfg(not(hone_dsp))]
            each(a, b, $plain)
        }
    };
}

choose! {
    /// The greater of each of four int8.
    max4, "sel {a}, {a}, {b}", i8::max
}
choose! {
    /// The lesser of each of four int8.
    min4, "sel {a}, {b}, {a}", i8::min
}

#[cfg(not(hone_dsp))]
fn each(a: u32, b: u32, f: impl Fn(i8, i8) -> i8) -> u32 {
    let (mut a, b) = (a.to_le_bytes(), b.to_le_bytes());
    for (a, b) in a.iter_mut().zip(b) {
        *a = f(a.cast_signed(), b.cast_signed()).cast_unsigned();
    }
    u32::from_le_bytes(a)
}

/// Four times the same int8.
#[inline(always)]
#[must_use]
pub fn all4(value: i8) -> u32 {
    u32::from(value.cast_unsigned()) * 0x0101_0101
}

/// The low bytes of four words.
#[inline(always)]
#[must_use]
pub fn pack4([a, b, c, d]: [i32; 4]) -> u32 {
    let low = |x: i32| x.cast_unsigned() & 0xff;
    low(a) | low(b) << 8 | low(c) << 16 | low(d) << 24
}

/// Requantization where the accumulator is not shifted left: `smmla` gives the high word, the rounding and the zero point in it.
#[inline(always)]
#[must_use]
pub fn requantize(acc: i32, multiplier: i32, high_word: i32, shift: u32) -> i32 {
    ssat8(smmla(acc, multiplier, high_word) >> (shift & 31))
}
