//! CRC-32/ISO-HDLC of what is reported, a bit at a time: small, and never on a path that is measured.

const POLYNOMIAL: u32 = 0xedb8_8320;

/// The CRC of `bytes`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32_more(0, bytes)
}

/// The CRC of what `crc` covers, followed by `bytes`.
#[must_use]
pub fn crc32_more(crc: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, bit: u32| {
        let crc = crc ^ bit;
        if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 }
    };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc, |crc, bit| step(crc, u32::from(byte >> bit & 1)));
    !bytes.iter().fold(!crc, byte)
}
