use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

use super::container::{assemble, kind};
use super::*;
use crate::head::{HeadParts, Kind, Weights};

const ONNX: &[u8] = b"stands for an ONNX file";
const PRINT: Fingerprint = Fingerprint(*b"0123456789abcdef");
const SPEC: EmbeddingSpec =
    EmbeddingSpec { dim: 3, kind: EmbeddingKind::Int8(QuantParams { scale: 0.5, zero_point: -1 }) };

fn head() -> Vec<u8> {
    let parts = HeadParts {
        kind: Kind::Softmax,
        unit: false,
        fingerprint: PRINT,
        embedding: SPEC,
        labels: &["no", "yes"],
        bias: &[0.0, 1.0],
        weights: Weights::F32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    };
    parts.to_bytes().unwrap()
}

fn full(head: &[u8]) -> BundleParts<'_> {
    BundleParts {
        name: "kws",
        made_by: "hone 0.1.0",
        precision: Precision::Int8,
        input: InputSpec::new("input", &[1, 49, 10]).unwrap(),
        embedding: SPEC,
        preprocess: Preprocess::parse("tensor:perm=1:0,scale=0.5:2,offset=1").unwrap(),
        statistics: Some(Statistics { rows: 9, mean_squared_norm: 2.5, mean: &[1, 2, 3] }),
        head: Some(head),
        canaries: Some((&[1, 0], &[1, 2, 3, 4, 5, 6])),
        facts: Some("{\"top1\": 0.9}"),
        ..BundleParts::new(ONNX, PRINT)
    }
}

fn of_tokens() -> BundleParts<'static> {
    BundleParts { input: InputSpec::new("tokens", &[2, 8]).unwrap(), embedding: SPEC, ..BundleParts::new(ONNX, PRINT) }
}

#[test]
fn parse_is_the_inverse_of_the_writer() {
    let head = head();
    let parts = full(&head);
    let bytes = parts.to_bytes().unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!((bundle.name, bundle.made_by, bundle.precision), (parts.name, parts.made_by, parts.precision));
    assert_eq!((bundle.backbone, &bundle.input), (parts.backbone, &parts.input));
    assert_eq!((bundle.embedding, bundle.fingerprint), (SPEC, PRINT));
    assert_eq!(
        (bundle.preprocess.clone(), bundle.statistics, bundle.facts),
        (parts.preprocess, parts.statistics, parts.facts)
    );
    assert_eq!(bundle.head.unwrap().as_bytes(), &head);
    assert!(bundle.labels().unwrap().iter().eq(["no", "yes"]));
    let canaries = bundle.canaries.unwrap();
    assert!(canaries.iter().eq([(1, &[1, 2, 3][..]), (0, &[4, 5, 6])]));
    assert_eq!((canaries.len(), canaries.rows().len()), (2, 2));
}

/// Every section starts at a multiple of 16, so that a bundle at an aligned address can be used in place.
#[test]
fn sections_are_aligned() {
    let head = head();
    let bytes = full(&head).to_bytes().unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    let offset = |part: &[u8]| part.as_ptr().addr() - bytes.as_ptr().addr();
    assert_eq!(offset(bundle.backbone) % 16, 0);
    assert_eq!(offset(bundle.head.unwrap().as_bytes()) % 16, 0);
    assert_eq!(offset(bundle.canaries.unwrap().rows().as_bytes()) % 16, 0);
}

#[test]
fn a_vocabulary_comes_with_a_text_and_with_nothing_else() {
    let text = Preprocess::parse("text:len=8").unwrap();
    let parts = BundleParts { preprocess: text, vocabulary: Some("[PAD]\n[UNK]\nwort"), ..of_tokens() };
    assert_eq!(Bundle::parse(&parts.to_bytes().unwrap()).unwrap().vocabulary, parts.vocabulary);
    let without = BundleParts { vocabulary: None, ..parts.clone() };
    assert!(matches!(without.to_bytes(), Err(Error::Missing { what: "vocabulary section" })));
    let of_nothing = BundleParts { preprocess: Preprocess::None, ..parts.clone() };
    assert!(matches!(of_nothing.to_bytes(), Err(Error::Malformed { what: "vocabulary section", .. })));
    let long = "a\n".repeat(preprocess::TextPrep::MAX_VOCABULARY_BYTES / 2 + 1);
    let beyond = BundleParts { vocabulary: Some(&long), ..parts };
    assert!(matches!(beyond.to_bytes(), Err(Error::Bounds { what: "bytes of a vocabulary", .. })));
}

#[test]
fn golden_header() {
    let bytes = assemble(&[(77, 0, b"abc"), (78, 0, b"")]).unwrap();
    #[rustfmt::skip]
    let expected = [
        0x89, b'H', b'O', b'N', b'E', b'\r', b'\n', 0x1a, 1, 0, 0, 0, 2, 0, 0, 0, 96, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[..24], expected);
    assert_eq!(bytes[28..32], [0; 4]);
    // 0x352441c2 is the CRC-32 of "abc", 0 that of nothing.
    #[rustfmt::skip]
    let table = [
        77, 0, 0, 0, 0xc2, 0x41, 0x24, 0x35, 80, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
        78, 0, 0, 0, 0, 0, 0, 0, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[32..80], table);
    assert_eq!(bytes[80..], *b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn equal_parts_give_equal_bytes() {
    let head = head();
    assert_eq!(full(&head).to_bytes().unwrap(), full(&head).to_bytes().unwrap());
}

fn refused(parts: BundleParts<'_>) -> &'static str {
    parts.to_bytes().unwrap_err().code()
}

#[test]
fn sections_that_contradict_each_other_are_refused() {
    let head = head();
    let parts = || full(&head);
    assert_eq!(refused(BundleParts { fingerprint: Fingerprint([1; 16]), ..parts() }), "fingerprint-mismatch");
    let other = EmbeddingSpec { dim: 3, kind: EmbeddingKind::Int8(QuantParams { scale: 0.25, zero_point: -1 }) };
    assert_eq!(refused(BundleParts { embedding: other, ..parts() }), "malformed");
    assert_eq!(refused(BundleParts { labels: Some(&["a", "b"]), ..parts() }), "malformed");
    assert_eq!(refused(BundleParts { canaries: Some((&[2], &[1, 2, 3])), ..parts() }), "unknown-class");
    assert_eq!(refused(BundleParts { canaries: Some((&[1], &[1, 2])), ..parts() }), "shape");
    let short = Statistics { rows: 9, mean_squared_norm: 2.5, mean: &[1, 2] };
    assert_eq!(refused(BundleParts { statistics: Some(short), ..parts() }), "truncated");
    let nan = Statistics { rows: 9, mean_squared_norm: f32::NAN, mean: &[1, 2, 3] };
    assert_eq!(refused(BundleParts { statistics: Some(nan), ..parts() }), "malformed");
    assert_eq!(refused(BundleParts { head: Some(b"no head"), ..parts() }), "bad-magic");
    // Without a head the labels stand alone.
    let labelled = BundleParts { head: None, labels: Some(&["a", "b"]), ..parts() };
    assert!(Bundle::parse(&labelled.to_bytes().unwrap()).unwrap().labels().unwrap().iter().eq(["a", "b"]));
}

#[test]
fn unknown_sections_are_skipped_or_refused() {
    let head = head();
    let bytes = full(&head).to_bytes().unwrap();
    let sections = sections_of(&bytes);
    let with = |kind, flags| {
        let mut sections = sections.clone();
        sections.insert(2, (kind, flags, b"from the future"));
        assemble(&sections).unwrap()
    };
    assert_eq!(Bundle::parse(&with(500, 0)).unwrap().name, "kws");
    assert_eq!(Bundle::parse(&with(500, 1)).unwrap_err(), Error::UnknownSection { kind: 500 });
    assert_eq!(Bundle::parse(&with(500, 2)).unwrap_err().code(), "malformed");
    assert_eq!(Bundle::parse(&with(kind::FACTS, 0)).unwrap_err().code(), "malformed");
    let missing: Vec<_> = sections.iter().copied().filter(|s| s.0 != kind::EMBEDDING).collect();
    assert_eq!(Bundle::parse(&assemble(&missing).unwrap()).unwrap_err().code(), "missing-section");
    assert_eq!(assemble(&[(500, 0, &b""[..]); 65]).unwrap_err().code(), "bounds");
}

#[test]
fn other_files_are_refused() {
    assert_eq!(Bundle::parse(b"").unwrap_err().code(), "truncated");
    assert_eq!(Bundle::parse(b"\x89PNG\r\n\x1a\n").unwrap_err().code(), "bad-magic");
    let head = head();
    let mut bytes = full(&head).to_bytes().unwrap();
    bytes.push(0);
    assert_eq!(Bundle::parse(&bytes).unwrap_err().code(), "malformed");
    bytes[8] = 2;
    assert_eq!(Bundle::parse(&bytes).unwrap_err(), Error::Version { what: "bundle", found: 2, supported: 1 });
}

#[test]
fn inputs_out_of_range_are_refused() {
    assert_eq!(InputSpec::new("x", &[3, 0]).unwrap_err().code(), "bounds");
    assert_eq!(InputSpec::new("x", &[usize::MAX, usize::MAX]).unwrap_err().code(), "bounds");
    assert_eq!(InputSpec::new("x", &[1; 6]).unwrap_err().code(), "bounds");
}

/// Kind, flags and bytes of each section of a sound file.
fn sections_of(bytes: &[u8]) -> Vec<(u16, u16, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let entry = |i: usize| 32 + 24 * i;
    (0..word(12))
        .map(|i| {
            let (head, offset, len) = (word(entry(i)) as u32, word(entry(i) + 8), word(entry(i) + 16));
            (head as u16, (head >> 16) as u16, &bytes[offset..offset + len])
        })
        .collect()
}

fn texts() -> impl Strategy<Value = String> {
    "[ -~éß漢]{0,20}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Any flipped bit and any cut is noticed: every byte lies under a CRC or is checked.
    #[test]
    fn damage_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8, keep in any::<prop::sample::Index>()) {
        let head = head();
        let mut bytes = full(&head).to_bytes().unwrap();
        prop_assert!(Bundle::parse(&bytes[..keep.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Bundle::parse(&bytes).is_err(), "byte {}", at);
    }

    /// With CRCs made right again, damage gets to the checks behind them: no panic, and what is accepted works.
    #[test]
    fn resealed_damage_never_panics(section in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), value: u8, cut: bool) {
        let head = head();
        let bytes = full(&head).to_bytes().unwrap();
        let mut sections = sections_of(&bytes);
        let hit = &mut sections[section.index(9)];
        let mut damaged = hit.2.to_vec();
        let at = at.index(damaged.len());
        if cut { damaged.truncate(at) } else { damaged[at] = value }
        hit.2 = &damaged;
        let file = assemble(&sections).unwrap();
        if let Ok(bundle) = Bundle::parse(&file) {
            let known = bundle.labels().map_or(0, |labels| labels.len());
            prop_assert!(bundle.canaries.is_none_or(|c| c.iter().all(|(class, row)| class < known && row.len() == 3)));
        }
    }

    #[test]
    fn random_tables_never_panic(table in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut file = b"\x89HONE\r\n\x1a\x01\0\0\0".to_vec();
        file.extend(table);
        prop_assert!(Bundle::parse(&file).is_err());
    }

    #[test]
    fn any_content_survives(
        name in texts(), made_by in texts(), input in texts(), facts in texts(),
        dims in prop::collection::vec(1usize..30, 0..=5),
        backbone in prop::collection::vec(any::<u8>(), 0..99),
        labels in prop::collection::vec(texts(), 0..5),
    ) {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let parts = BundleParts {
            name: &name,
            made_by: &made_by,
            input: InputSpec::new(&input, &dims).unwrap(),
            facts: Some(&facts),
            labels: Some(&labels),
            ..BundleParts::new(&backbone, PRINT)
        };
        let bytes = parts.to_bytes().unwrap();
        let bundle = Bundle::parse(&bytes).unwrap();
        prop_assert_eq!((bundle.name, bundle.made_by, bundle.facts), (&*name, &*made_by, Some(&*facts)));
        prop_assert_eq!((bundle.input, bundle.backbone), (parts.input, &*backbone));
        prop_assert!(bundle.labels.unwrap().iter().eq(labels.iter().copied()));
    }
}
