//! Lengths and checksums of damaged files, mended: a fuzzer does not guess a CRC.

/// CRC-32/ISO-HDLC.
static CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// A plan (`docs/plan-format.md`): magic, version, length and checksum as they must be.
pub fn mend_plan(plan: &mut [u8]) {
    use hone_runtime::plan::format::{CRC_START, HEADER_BYTES, MAGIC, VERSION};
    if plan.len() < HEADER_BYTES {
        return;
    }
    put(plan, 0, &MAGIC);
    put(plan, 8, &VERSION.to_le_bytes());
    put(plan, 12, &(plan.len() as u32).to_le_bytes());
    let crc = CRC.checksum(&plan[CRC_START..]);
    put(plan, 16, &crc.to_le_bytes());
}

/// A bundle (`docs/bundle-format.md`): magic, version, length, the sections' offsets as far as their lengths reach, and all checksums.
pub fn mend_bundle(bundle: &mut [u8]) {
    const HEADER: usize = 32;
    const ENTRY: usize = 24;
    if bundle.len() < HEADER {
        return;
    }
    put(bundle, 0, b"\x89HONE\r\n\x1a");
    put(bundle, 8, &1u16.to_le_bytes());
    put(bundle, 16, &(bundle.len() as u64).to_le_bytes());
    let count = (u32_at(bundle, 12) as usize).min((bundle.len() - HEADER) / ENTRY);
    let table_end = HEADER + count * ENTRY;
    let mut end = table_end;
    for entry in (HEADER..table_end).step_by(ENTRY) {
        let start = end.next_multiple_of(16);
        let len = u32_at(bundle, entry + 16) as usize;
        let Some(section) = bundle.get_mut(start..start.saturating_add(len)) else { break };
        match [section.first(), section.get(1)] {
            // A head record and a plan have checksums of their own.
            [Some(b'H'), Some(b'N')] => mend_head(section),
            [Some(0x89), Some(b'H')] => mend_plan(section),
            _ => (),
        }
        let crc = CRC.checksum(section);
        put(bundle, entry + 4, &crc.to_le_bytes());
        put(bundle, entry + 8, &(start as u64).to_le_bytes());
        end = start + len;
    }
    let mut digest = CRC.digest();
    digest.update(&bundle[..24]);
    digest.update(&bundle[HEADER..table_end]);
    let crc = digest.finalize();
    put(bundle, 24, &crc.to_le_bytes());
}

/// A head record: its length, and the checksum at its end.
fn mend_head(head: &mut [u8]) {
    if head.len() < 52 {
        return;
    }
    put(head, 24, &(head.len() as u32).to_le_bytes());
    let at = head.len() - 4;
    let crc = CRC.checksum(&head[..at]);
    put(head, at, &crc.to_le_bytes());
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}
