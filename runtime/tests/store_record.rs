//! The record of `docs/store-format.md`: golden bytes, parse and emit as inverses, and no byte that makes it panic.

use hone_runtime::store::record::{COMMIT_WORD, HEADER_BYTES};
use hone_runtime::store::{Action, Draft, Measures, Record};
use hone_runtime::tune::gate::LeftOut;
use hone_runtime::{Error, Fingerprint};
use proptest::prelude::*;

const BACKBONE: Fingerprint = Fingerprint(*b"0123456789abcdef");

fn sample<'a>() -> Draft<'a> {
    Draft {
        action: Action::ClassRemoved { label: "cat" },
        time: Some(0x0102_0304_0506),
        measures: Measures {
            method: 2,
            l2: Some(0.5),
            loo_accuracy: None,
            canary_before: Some(1.0),
            canary_after: Some(0.75),
        },
        head: b"HEAD!",
        labels: &["dog", "x"],
        classes: &[1, 0, 1],
        left_out: &[LeftOut::Unjudged, LeftOut::Wrong, LeftOut::New],
        row_bytes: 3,
        rows: b"aaabbbccc",
        canaries: &[LeftOut::Right, LeftOut::New],
    }
}

fn emit(draft: &Draft<'_>, number: u32, parent: u32) -> Vec<u8> {
    let mut bytes = vec![0xee; draft.record_bytes().unwrap()];
    let len = draft.emit(number, parent, BACKBONE, &mut bytes).unwrap();
    assert_eq!(len, bytes.len());
    bytes
}

/// The CRC of the specification, bit by bit: not the code under test.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// Gives damaged bytes a matching CRC and commit word, so that the checks behind them are reached.
fn seal(bytes: &mut [u8]) {
    let len = bytes.len();
    if let Some(body) = len.checked_sub(8) {
        bytes[body + 4..].copy_from_slice(&COMMIT_WORD);
        let crc = crc32(&bytes[..body]);
        bytes[body..body + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn golden_bytes() {
    // Written down from docs/store-format.md, field by field.
    let mut golden = Vec::new();
    golden.extend(*b"HGEN");
    golden.extend([1, 0]); // version
    golden.extend([0b11011, 0]); // time, l2, canary before and after
    golden.extend([152, 0, 0, 0]); // record bytes
    golden.extend([9, 0, 0, 0]); // generation
    golden.extend([4, 0, 0, 0]); // parent
    golden.extend([3, 0]); // class removed
    golden.extend([2, 0]); // method
    golden.extend([0, 0, 0, 0]); // argument
    golden.extend(*b"0123456789abcdef");
    golden.extend([2, 0, 0, 0]); // canaries
    golden.extend([6, 5, 4, 3, 2, 1, 0, 0]); // time
    golden.extend([0, 0, 0, 0x3f]); // 0.5
    golden.extend([0, 0, 0, 0]); // absent
    golden.extend([0, 0, 0x80, 0x3f]); // 1.0
    golden.extend([0, 0, 0x40, 0x3f]); // 0.75
    golden.extend([3, 0, 0, 0]); // subject bytes
    golden.extend([5, 0, 0, 0]); // head bytes
    golden.extend([2, 0, 0, 0]); // labels
    golden.extend([8, 0, 0, 0]); // label bytes
    golden.extend([3, 0, 0, 0]); // shots
    golden.extend([3, 0, 0, 0]); // row bytes
    assert_eq!(golden.len(), HEADER_BYTES);
    golden.extend(*b"cat\0");
    golden.extend(*b"HEAD!\0\0\0");
    golden.extend(*b"\x03\0dog\x01\0x");
    golden.extend([1, 0, 0, 0, 1, 0, 0, 0]); // classes, padded
    golden.extend([3, 1, 0, 0]); // left-out answers, padded
    golden.extend(*b"aaabbbccc\0\0\0");
    golden.extend([2, 0, 0, 0]); // canaries, padded
    let crc = crc32(&golden);
    golden.extend(crc.to_le_bytes());
    golden.extend(*b"KEPT");
    assert_eq!(emit(&sample(), 9, 4), golden);
}

#[test]
fn every_flip_and_every_cut_is_refused() {
    let whole = emit(&sample(), 9, 4);
    for i in 0..whole.len() {
        assert!(Record::parse(&whole[..i]).is_err(), "cut at {i}");
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[i] ^= 1 << bit;
            assert!(Record::parse(&bytes).is_err(), "bit {bit} of byte {i}");
        }
    }
    assert!(Record::parse(&[whole, vec![0]].concat()).is_err());
}

#[test]
fn what_cannot_be_a_generation_is_refused_when_emitted() {
    let mut buffer = [0; 512];
    let mut refused = |change: fn(&mut Draft<'_>), number, parent| {
        let mut draft = sample();
        change(&mut draft);
        draft.emit(number, parent, BACKBONE, &mut buffer).unwrap_err().code()
    };
    assert_eq!(refused(|_| (), 0, 0), "malformed");
    assert_eq!(refused(|_| (), 4, 4), "malformed");
    assert_eq!(refused(|draft| draft.head = b"", 1, 0), "malformed");
    assert_eq!(refused(|draft| draft.labels = &["dog", ""], 1, 0), "malformed");
    assert_eq!(refused(|draft| draft.labels = &["dog"], 1, 0), "unknown-class");
    assert_eq!(refused(|draft| draft.rows = b"aaabbbcc", 1, 0), "shape");
    assert_eq!(refused(|draft| draft.left_out = &[LeftOut::New], 1, 0), "shape");
    assert_eq!(refused(|draft| draft.row_bytes = usize::MAX, 1, 0), "shape");
    assert_eq!(refused(|draft| (draft.row_bytes, draft.rows) = (0, b""), 1, 0), "malformed");
    assert_eq!(refused(|draft| draft.measures.l2 = Some(f32::NAN), 1, 0), "non-finite");
    let error = sample().emit(1, 0, BACKBONE, &mut [0; 40]).unwrap_err();
    assert!(matches!(error, Error::Buffer { needs: 152, has: 40, .. }), "{error}");
}

#[test]
fn a_version_from_the_future_is_named() {
    let mut bytes = emit(&sample(), 9, 4);
    bytes[4] = 2;
    seal(&mut bytes);
    assert_eq!(Record::parse(&bytes), Err(Error::Version { what: "generation", found: 2, supported: 1 }));
}

/// A record that can be parsed must be the one and only encoding of what it says.
fn assert_canonical(bytes: &[u8]) {
    let Ok(record) = Record::parse(bytes) else { return };
    let labels: Vec<&str> = record.labels().collect();
    let classes: Vec<u16> = record.shots().map(|shot| shot.class).collect();
    let left_out: Vec<LeftOut> = record.shots().map(|shot| shot.left_out).collect();
    let canaries: Vec<LeftOut> = record.canaries().collect();
    let draft = Draft {
        action: record.action,
        time: record.time,
        measures: record.measures,
        head: record.head,
        labels: &labels,
        classes: &classes,
        left_out: &left_out,
        row_bytes: record.row_bytes,
        rows: record.rows(),
        canaries: &canaries,
    };
    let mut again = vec![0; draft.record_bytes().unwrap()];
    draft.emit(record.number, record.parent, record.backbone, &mut again).unwrap();
    assert_eq!(again, bytes);
}

fn action() -> impl Strategy<Value = (u8, String, u32)> {
    (1u8..=6, "[a-zé]{1,9}", any::<u32>())
}

proptest! {
    #[test]
    fn parse_and_emit_are_inverses(
        (kind, label, number) in action(),
        time in any::<Option<u64>>(),
        method in any::<u16>(),
        measured in prop::array::uniform4(prop::option::of(-1e9f32..1e9)),
        head in prop::collection::vec(any::<u8>(), 1..50),
        labels in prop::collection::vec("[ -~]{1,8}", 1..6),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        row_bytes in 1usize..40,
        generation in 1u32..,
    ) {
        let action = match kind {
            1 => Action::Tuned { provider: label.as_str() },
            2 => Action::RolledBack { to: number },
            3 => Action::ClassRemoved { label: label.as_str() },
            4 => Action::Forgot { label: label.as_str(), shots: number },
            5 => Action::Taught { shots: number },
            _ => Action::Moved { provider: label.as_str() },
        };
        let [l2, loo_accuracy, canary_before, canary_after] = measured;
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let classes: Vec<u16> = picks.iter().map(|pick| pick.index(labels.len()) as u16).collect();
        let left_out: Vec<LeftOut> = picks.iter().map(|pick| LeftOut::from_code(pick.index(4) as u8).unwrap()).collect();
        let canaries: Vec<LeftOut> = left_out.iter().rev().copied().skip(2).collect();
        let rows: Vec<u8> = (0..classes.len() * row_bytes).map(|i| i as u8).collect();
        let draft = Draft {
            action,
            time,
            measures: Measures { method, l2, loo_accuracy, canary_before, canary_after },
            head: &head,
            labels: &labels,
            classes: &classes,
            left_out: &left_out,
            row_bytes,
            rows: &rows,
            canaries: &canaries,
        };
        let bytes = emit(&draft, generation, generation - 1);
        let record = Record::parse(&bytes).unwrap();
        prop_assert_eq!((record.number, record.parent, record.backbone), (generation, generation - 1, BACKBONE));
        prop_assert_eq!((record.action, record.time, record.measures), (action, time, draft.measures));
        prop_assert_eq!((record.head, record.rows(), record.row_bytes), (&head[..], &rows[..], row_bytes));
        prop_assert_eq!(record.labels().collect::<Vec<_>>(), labels);
        prop_assert_eq!(record.shot_count(), classes.len());
        prop_assert_eq!(record.shots().map(|shot| shot.class).collect::<Vec<_>>(), classes);
        prop_assert_eq!(record.shots().map(|shot| shot.left_out).collect::<Vec<_>>(), left_out);
        prop_assert_eq!(record.canaries().collect::<Vec<_>>(), canaries);
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        assert_canonical(&bytes);
        let head = emit(&sample(), 9, 4);
        let from_header = bytes.len().min(HEADER_BYTES);
        bytes[..from_header].copy_from_slice(&head[..from_header]);
        let len = (bytes.len() as u32).to_le_bytes();
        if let Some(field) = bytes.get_mut(8..12) {
            field.copy_from_slice(&len);
        }
        seal(&mut bytes);
        assert_canonical(&bytes);
    }

    /// Damage behind a CRC that matches: someone made these bytes on purpose.
    #[test]
    fn forged_records_never_panic(
        edits in prop::collection::vec((12usize..152, prop_oneof![any::<u8>(), Just(0), Just(1), Just(0xff)]), 1..6),
        cut in 0usize..152,
        cut_it in any::<bool>(),
    ) {
        let mut bytes = emit(&sample(), 9, 4);
        for (at, value) in edits {
            bytes[at] = value;
        }
        if cut_it {
            bytes.truncate(cut);
            let len = (bytes.len() as u32).to_le_bytes();
            if let Some(field) = bytes.get_mut(8..12) {
                field.copy_from_slice(&len);
            }
        }
        seal(&mut bytes);
        assert_canonical(&bytes);
    }
}
