//! Whether all of an input is finite.

/// Looks at all values, without an early end.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(finite) = super::x86_64::finite::all(values) {
        return finite;
    }
    all(values)
}

/// A product with 0 is 0 for what is finite, and NaN, which a sum keeps, for what is not.
#[inline(always)]
pub(super) fn all(values: &[f32]) -> bool {
    // Enough independent sums to keep two units busy.
    const LANES: usize = 64;
    let mut sums = [0.0; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, value)| *sum += value * 0.0);
    }
    sums.iter_mut().zip(rest).for_each(|(sum, value)| *sum += value * 0.0);
    sums.iter().fold(true, |all, &sum| all & (sum == 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_not_finite_is_passed_over() {
        let mut values: std::vec::Vec<f32> = (0..201).map(|v| (v as f32 - 100.0) * 1e36).collect();
        values[1..4].copy_from_slice(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE / 8.0]);
        assert!(all_finite(&values) && all(&values) && all_finite(&[]));
        for index in 0..values.len() {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let right = std::mem::replace(&mut values[index], wrong);
                assert!(!all_finite(&values) && !all(&values), "{wrong} at {index}");
                values[index] = right;
            }
        }
    }
}
