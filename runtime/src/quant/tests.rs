use proptest::prelude::*;

use super::*;

const EXTREMES: [i32; 11] = [i32::MIN, i32::MIN + 1, -(1 << 30), -129, -1, 0, 1, 127, 1 << 30, i32::MAX - 1, i32::MAX];

/// floor(acc · multiplier / 2^(31 + shift) + 1/2), by Euclidean division of exact integers in i128.
fn exact(acc: i32, requant: Requant, zero_point: i8) -> i8 {
    let denominator = 1i128 << (31 + u32::from(requant.shift() as u8));
    let numerator = 2 * i128::from(acc) * i128::from(requant.multiplier()) + denominator;
    let rounded = numerator.div_euclid(2 * denominator) + i128::from(zero_point);
    i8::try_from(rounded.clamp(-128, 127)).unwrap()
}

#[test]
fn requantization_is_exact_at_the_extremes() {
    for shift in 0..=31 {
        for multiplier in [1 << 30, (1 << 30) + 1, 0x5555_5555, i32::MAX - 1, i32::MAX] {
            let requant = Requant::from_parts(multiplier, shift).unwrap();
            for acc in EXTREMES {
                for zero_point in [-128, -1, 0, 1, 127] {
                    let got = requant.apply_with_zero_point(acc, zero_point);
                    assert_eq!(got, exact(acc, requant, zero_point), "{acc} {requant:?} {zero_point}");
                }
            }
        }
    }
}

#[test]
fn ties_go_up() {
    let half = Requant::from_factor(0.5).unwrap();
    assert_eq!([-3, -2, -1, 0, 1, 2, 3].map(|acc| half.apply(acc)), [-1, -1, 0, 0, 1, 1, 2]);
    assert_eq!((half.apply(255), half.apply(253), half.apply(-257), half.apply(-300)), (127, 127, -128, -128));
}

#[test]
fn factors_out_of_range_are_refused() {
    for factor in [0.0, -0.5, 1.0, 2.0, f64::NAN, f64::INFINITY, 1e-12] {
        assert_eq!(Requant::from_factor(factor).unwrap_err().code(), "malformed", "{factor}");
    }
    assert_eq!(Requant::from_factor(1.0 - f64::EPSILON).unwrap().apply(100), 100);
    assert!(Requant::from_parts(1 << 29, 0).is_err());
    assert!(Requant::from_parts(1 << 30, 32).is_err());
    assert!(Requant::from_parts(1 << 30, -1).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn requantization_is_exact(acc: i32, multiplier in (1i32 << 30)..=i32::MAX, shift in 0i8..=31, zero_point: i8) {
        let requant = Requant::from_parts(multiplier, shift).unwrap();
        prop_assert_eq!(requant.apply_with_zero_point(acc, zero_point), exact(acc, requant, zero_point));
    }

    #[test]
    fn a_factor_is_kept_to_31_bits(exponent in -31i32..0, mantissa in 1.0f64..2.0) {
        let factor = mantissa * f64::powi(2.0, exponent);
        let requant = Requant::from_factor(factor).unwrap();
        let stored = f64::from(requant.multiplier()) * f64::powi(2.0, -31 - i32::from(requant.shift()));
        prop_assert!((stored / factor - 1.0).abs() <= f64::powi(2.0, -31), "{factor} {stored}");
        prop_assert_eq!(Requant::from_parts(requant.multiplier(), requant.shift()).unwrap(), requant);
    }

    /// ONNX `QuantizeLinear`, computed in f64 where the f32 quotient is not already decided by its own rounding.
    #[test]
    fn quantization_follows_onnx(scale in 1e-6f32..1e3, zero_point: i8, real in -1e5f32..1e5) {
        let q = QuantParams { scale, zero_point };
        let expected = f64::from(real / scale).round_ties_even() + f64::from(zero_point);
        prop_assert_eq!(f64::from(q.quantize(real)), expected.clamp(-128.0, 127.0));
    }

    #[test]
    fn int8_survives_the_round_trip(q: i8, zero_point: i8, scale in 1e-6f32..1e3) {
        let params = QuantParams { scale, zero_point };
        prop_assert_eq!(params.quantize(params.dequantize(q)), q);
    }

    #[test]
    fn symmetric_rows_stay_within_half_a_step(weights in prop::collection::vec(-9.0f32..9.0, 1..40)) {
        let mut row = std::vec![0; weights.len()];
        let scale = symmetric_row(&weights, &mut row).unwrap();
        for (q, w) in row.iter().zip(&weights) {
            prop_assert!((f32::from(*q) * scale - w).abs() <= scale * 0.5001 && *q != -128);
        }
    }
}

#[test]
fn quantization_ties_and_ends() {
    let q = QuantParams { scale: 1.0, zero_point: 0 };
    assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5].map(|v| q.quantize(v)), [0, 2, 2, 0, -2]);
    assert_eq!([f32::INFINITY, f32::NEG_INFINITY, 1e30, f32::NAN].map(|v| q.quantize(v)), [127, -128, 127, 0]);
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45] {
        assert!(QuantParams { scale, zero_point: 0 }.check().is_err(), "{scale}");
    }
}

#[test]
fn rows_are_stored_and_refused() {
    let int8 = EmbeddingSpec { dim: 3, kind: EmbeddingKind::Int8(QuantParams { scale: 0.5, zero_point: -128 }) };
    let mut row = [0; 3];
    int8.quantize_row(&[0.0, 0.5, 1e9], &mut row).unwrap();
    assert_eq!(row.map(u8::cast_signed), [-128, -127, 127]);
    let mut real = [0.0; 3];
    int8.dequantize_row(&row, &mut real).unwrap();
    assert_eq!(real, [0.0, 0.5, 127.5]);

    let half = EmbeddingSpec { dim: 2, kind: EmbeddingKind::F16 };
    let mut row = [0; 4];
    half.quantize_row(&[1.5, -65504.0], &mut row).unwrap();
    assert_eq!(row, [0x00, 0x3e, 0xff, 0xfb]); // 1.5 and −65504
    let mut real = [0.0; 2];
    half.dequantize_row(&row, &mut real).unwrap();
    assert_eq!(real, [1.5, -65504.0]);

    assert_eq!(half.quantize_row(&[1.0, -1e9], &mut row).unwrap_err().code(), "non-finite");
    assert_eq!(half.quantize_row(&[1.0, f32::NAN], &mut row).unwrap_err().code(), "non-finite");
    assert_eq!(half.quantize_row(&[1.0], &mut row).unwrap_err().code(), "shape");
    assert_eq!(half.quantize_row(&[1.0, 2.0], &mut row[..3]).unwrap_err().code(), "shape");
    assert_eq!(EmbeddingSpec { dim: 0, ..half }.check().unwrap_err().code(), "bounds");
    assert_eq!(EmbeddingSpec { dim: 65_537, ..half }.check().unwrap_err().code(), "bounds");
}
