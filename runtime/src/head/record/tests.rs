use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::head::softmax;
use crate::quant::EmbeddingKind::{F16, Int8};

/// Everything of a head, owned, for generated cases.
#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    unit: bool,
    embedding: EmbeddingSpec,
    labels: Vec<String>,
    bias: Vec<f32>,
    scales: Vec<f32>,
    steps: Vec<i8>,
    /// Weights as f32; `None` stores `scales` and `steps`.
    floats: Option<Vec<f32>>,
    /// One embedding row.
    row: Vec<u8>,
}

impl Case {
    fn encode(&self) -> Vec<u8> {
        let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        let weights = match &self.floats {
            Some(floats) => Weights::F32(floats),
            None => Weights::Int8 { scales: &self.scales, rows: &self.steps },
        };
        let parts = HeadParts {
            kind: self.kind,
            unit: self.unit,
            fingerprint: Fingerprint([5; 16]),
            embedding: self.embedding,
            labels: &labels,
            bias: &self.bias,
            weights,
        };
        let bytes = parts.to_bytes().unwrap();
        assert_eq!(bytes.len(), parts.encoded_len());
        bytes
    }
}

fn cases() -> impl Strategy<Value = Case> {
    const KINDS: [Kind; 4] = [Kind::Softmax, Kind::Sigmoid, Kind::Regression, Kind::Prototype];
    let shape = (1usize..6, 1usize..20, any::<bool>(), any::<bool>(), any::<i8>(), 0.001f32..0.5);
    let meaning = (prop::sample::select(&KINDS[..]), any::<bool>());
    (shape, meaning).prop_flat_map(|((classes, dim, int8, floats, zero_point, scale), (kind, unit))| {
        let spec = if int8 { Int8(QuantParams { scale, zero_point }) } else { F16 };
        let embedding = EmbeddingSpec { dim, kind: spec };
        let all = classes * dim;
        // For f16 rows the high byte stays below infinity's exponent.
        let row = prop::collection::vec(
            (any::<u8>(), 0u8..0x50).prop_map(move |(a, b)| if int8 { a } else { b }),
            embedding.row_bytes(),
        );
        (
            prop::collection::vec("[a-zé ]{0,6}", classes),
            prop::collection::vec(-5.0f32..5.0, classes),
            prop::collection::vec(0.0f32..0.1, classes),
            prop::collection::vec(any::<i8>(), all),
            prop::collection::vec(-1.0f32..1.0, all).prop_map(move |v| floats.then_some(v)),
            row,
        )
            .prop_map(move |(labels, bias, scales, steps, floats, row)| Case {
                kind,
                unit,
                embedding,
                labels,
                bias,
                scales,
                steps,
                floats,
                row,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parse_is_the_inverse_of_encode(case in cases()) {
        let bytes = case.encode();
        let head = HeadView::parse(&bytes).unwrap();
        prop_assert_eq!((head.kind(), head.unit(), head.embedding()), (case.kind, case.unit, case.embedding));
        prop_assert_eq!(head.fingerprint(), Fingerprint([5; 16]));
        prop_assert!(head.labels().iter().eq(case.labels.iter().map(String::as_str)));
        for class in 0..case.bias.len() {
            prop_assert_eq!(head.bias(class), Some(case.bias[class]));
            let range = class * head.dim()..(class + 1) * head.dim();
            match head.weight_row(class).unwrap() {
                WeightRow::Int8 { scale, row } => {
                    prop_assert_eq!(scale, case.scales[class]);
                    prop_assert!(row.iter().map(|b| b.cast_signed()).eq(case.steps[range].iter().copied()));
                }
                WeightRow::F32(row) => {
                    let floats = &case.floats.as_ref().unwrap()[range];
                    prop_assert!(row.iter().map(|b| f32::from_le_bytes(*b)).eq(floats.iter().copied()));
                }
            }
        }
        prop_assert!(head.weight_row(case.bias.len()).is_none() && head.label(case.bias.len()).is_none());
        prop_assert_eq!(case.encode(), bytes, "equal parts, equal bytes");
    }

    /// Logits against the definition in f64; probabilities against the logits.
    #[test]
    fn scores_follow_the_definition(case in cases()) {
        let bytes = case.encode();
        let head = HeadView::parse(&bytes).unwrap();
        let mut e = std::vec![0.0f32; head.dim()];
        head.embedding().dequantize_row(&case.row, &mut e).unwrap();
        let norm = e.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let divisor = if case.unit && norm > 0.0 { norm } else { 1.0 };
        let mut logits = std::vec![0.0f32; head.classes()];
        head.logits(&case.row, &mut logits).unwrap();
        let mut w = std::vec![0.0f32; head.dim()];
        for (class, logit) in logits.iter().enumerate() {
            head.real_weights(class, &mut w).unwrap();
            let terms = w.iter().zip(&e).map(|(w, e)| f64::from(*w) * f64::from(*e) / divisor);
            let size: f64 = terms.clone().map(f64::abs).sum::<f64>() + f64::from(case.bias[class].abs()) + 1e-3;
            let expected = f64::from(case.bias[class]) + terms.sum::<f64>();
            prop_assert!((f64::from(*logit) - expected).abs() <= 2e-6 * size, "{logit} {expected}");
        }
        let best = head.predict(&case.row).unwrap();
        prop_assert!(logits.iter().all(|v| *v <= logits[best.class]));
        let mut scores = logits.clone();
        head.scores(&case.row, &mut scores).unwrap();
        prop_assert!((scores[best.class] - best.score).abs() <= 1e-5 * best.score.abs().max(1.0));
        if case.kind == Kind::Softmax {
            softmax(&mut logits);
            prop_assert_eq!(&scores, &logits);
            prop_assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn damaged_bytes_are_refused(case in cases(), at in any::<prop::sample::Index>(), bit in 0u8..8, keep in any::<prop::sample::Index>()) {
        let mut bytes = case.encode();
        prop_assert!(HeadView::parse(&bytes[..keep.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(HeadView::parse(&bytes).is_err());
    }

    /// With the CRC made right again, damage gets to the checks behind it: no panic, and what is accepted works.
    #[test]
    fn resealed_damage_never_panics(case in cases(), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = case.encode();
        let covered = bytes.len() - 4;
        for (at, value) in hits {
            // Half of the hits go to the header, where they can do harm.
            let span = if value % 2 == 0 { HEADER_BYTES } else { covered };
            bytes[at.index(span)] = value;
        }
        let crc = crc32(&bytes[..covered]);
        bytes[covered..].copy_from_slice(&crc.to_le_bytes());
        if let Ok(head) = HeadView::parse(&bytes) {
            let row = std::vec![1; head.embedding().row_bytes()];
            let _ = head.predict(&row);
            prop_assert_eq!(head.labels().iter().count(), head.classes());
        }
    }
}

fn small() -> HeadParts<'static> {
    HeadParts {
        kind: Kind::Sigmoid,
        unit: false,
        fingerprint: Fingerprint(*b"0123456789abcdef"),
        embedding: EmbeddingSpec { dim: 3, kind: Int8(QuantParams { scale: 0.5, zero_point: -2 }) },
        labels: &["a", "dé"],
        bias: &[1.0, -1.0],
        weights: Weights::Int8 { scales: &[0.25, 0.5], rows: &[1, -1, 127, -128, 0, 2] },
    }
}

#[test]
fn golden_bytes() {
    #[rustfmt::skip]
    let mut expected = std::vec![
        b'H', b'N', b'H', b'D', 1, 0, 1, 0,
        0, 0xfe, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x3f,
        2, 0, 0, 0, 88, 0, 0, 0, 4, 0, 0, 0,
    ];
    expected.extend(b"0123456789abcdef");
    expected.extend([0, 0, 0x80, 0x3f, 0, 0, 0x80, 0xbf, 0, 0, 0x80, 0x3e, 0, 0, 0, 0x3f]);
    expected.extend([1, 0xff, 127, 0x80, 0, 2, 0, 0]);
    expected.extend([1, 0, 0, 0, 4, 0, 0, 0, b'a', b'd', 0xc3, 0xa9]);
    // The CRC by its bitwise definition.
    let mut register = u32::MAX;
    for byte in &expected {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = (register >> 1) ^ (0xedb8_8320 & (register & 1).wrapping_neg());
        }
    }
    expected.extend((!register).to_le_bytes());
    assert_eq!(small().to_bytes().unwrap(), expected);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let code = |parts: HeadParts<'_>| parts.to_bytes().unwrap_err().code();
    assert_eq!(code(HeadParts { labels: &["a"], ..small() }), "shape");
    assert_eq!(code(HeadParts { bias: &[1.0, f32::NAN], ..small() }), "non-finite");
    assert_eq!(code(HeadParts { bias: &[], labels: &[], ..small() }), "bounds");
    assert_eq!(code(HeadParts { weights: Weights::F32(&[0.0; 5]), ..small() }), "shape");
    assert_eq!(
        code(HeadParts { weights: Weights::Int8 { scales: &[-1.0, 1.0], rows: &[0; 6] }, ..small() }),
        "malformed"
    );
    let mut short = [0; 87];
    assert_eq!(small().encode(&mut short).unwrap_err().code(), "buffer");

    let bytes = small().to_bytes().unwrap();
    let head = HeadView::parse(&bytes).unwrap();
    assert_eq!(head.predict(&[0; 2]).unwrap_err().code(), "shape");
    assert_eq!(head.logits(&[0; 3], &mut [0.0; 3]).unwrap_err().code(), "buffer");
    assert_eq!(head.check_backbone(Fingerprint([0; 16])).unwrap_err().code(), "fingerprint-mismatch");
    assert_eq!(HeadView::parse(b"GIF89a..").unwrap_err().code(), "bad-magic");
}

#[test]
fn int8_sums_are_exact_at_the_extremes() {
    let dim = EmbeddingSpec::MAX_DIM;
    let steps = std::vec![-128i8; dim];
    let embedding = EmbeddingSpec { dim, kind: Int8(QuantParams { scale: 1.0, zero_point: 127 }) };
    let parts = HeadParts {
        kind: Kind::Regression,
        embedding,
        labels: &["x"],
        bias: &[0.0],
        weights: Weights::Int8 { scales: &[1.0], rows: &steps },
        ..small()
    };
    let bytes = parts.to_bytes().unwrap();
    let row = std::vec![0x80; dim];
    let answer = HeadView::parse(&bytes).unwrap().predict(&row).unwrap();
    assert_eq!(answer.score, 128.0 * 255.0 * dim as f32);
}
