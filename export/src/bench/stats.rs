//! Order statistics, confidence intervals and signs of trouble in repeated timings.

use crate::apply::latency::{Draws, nearest_rank};

/// Percentile `p` (1 to 100, nearest rank) of values in any order; 0 of none.
#[must_use]
pub fn percentile(values: &[f64], p: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(nearest_rank(sorted.len(), p)).copied().unwrap_or(0.0)
}

/// The median: the mean of the two in the middle where their number is even.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.get(half) {
        None => 0.0,
        Some(&upper) if sorted.len() % 2 == 1 => upper,
        Some(&upper) => f64::midpoint(sorted[half - 1], upper),
    }
}

/// Resamplings of a bootstrap.
const RESAMPLES: usize = 2000;

/// Seeded: intervals are the same for the same values.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The median of as many values, drawn with replacement.
fn resampled(draws: &mut Draws, values: &[f64]) -> f64 {
    let drawn: Vec<f64> = values.iter().map(|_| values[draws.below(values.len())]).collect();
    median(&drawn)
}

fn middle_95(mut draws: Vec<f64>) -> [f64; 2] {
    draws.sort_unstable_by(f64::total_cmp);
    [draws[RESAMPLES * 25 / 1000], draws[RESAMPLES * 975 / 1000 - 1]]
}

/// 95 % confidence interval of the median of `rounds`: percentile bootstrap (Efron, 1979). None of fewer than three.
#[must_use]
pub fn interval(rounds: &[f64]) -> Option<[f64; 2]> {
    if rounds.len() < 3 {
        return None;
    }
    let mut draws = Draws(SEED);
    Some(middle_95((0..RESAMPLES).map(|_| resampled(&mut draws, rounds)).collect()))
}

/// Ratio of the medians, new over old, with its 95 % confidence interval by bootstrap of both; none of fewer than three rounds, or zeros.
#[must_use]
pub fn ratio(new: &[f64], old: &[f64]) -> Option<(f64, [f64; 2])> {
    let (a, b) = (median(new), median(old));
    if new.len() < 3 || old.len() < 3 || new.iter().chain(old).any(|v| !v.is_finite() || *v <= 0.0) {
        return None;
    }
    let mut draws = Draws(SEED);
    let interval = middle_95((0..RESAMPLES).map(|_| resampled(&mut draws, new) / resampled(&mut draws, old)).collect());
    [a / b, interval[0], interval[1]].iter().all(|v| v.is_finite()).then_some((a / b, interval))
}

/// Distance of the quartiles over the median.
#[must_use]
pub fn spread(rounds: &[f64]) -> f64 {
    let middle = median(rounds);
    if middle > 0.0 { (percentile(rounds, 75) - percentile(rounds, 25)) / middle } else { 0.0 }
}

/// A steady change from the first round to the last, as a share of the median: the slope of Theil (1950) and Sen (1968) times the number of
/// steps, where the test of Mann (1945) and Kendall finds it beyond chance (1 %, two-sided); 0 otherwise.
#[must_use]
pub fn trend(rounds: &[f64]) -> f64 {
    let n = rounds.len();
    let middle = median(rounds);
    if n < 8 || middle <= 0.0 {
        return 0.0;
    }
    let (mut sign, mut slopes) = (0.0f64, Vec::with_capacity(n * (n - 1) / 2));
    for (i, early) in rounds.iter().enumerate() {
        for (j, late) in rounds.iter().enumerate().skip(i + 1) {
            let step = late - early;
            sign += if step > 0.0 {
                1.0
            } else if step < 0.0 {
                -1.0
            } else {
                0.0
            };
            slopes.push(step / (j - i) as f64);
        }
    }
    let n = n as f64;
    let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    // Continuity correction.
    let z = (sign.abs() - 1.0).max(0.0) / deviation;
    if z > 2.576 { median(&slopes) * (n - 1.0) / middle } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values about 100, within ±`width`, without a trend.
    fn noisy(n: usize, width: f64) -> Vec<f64> {
        let mut draws = Draws(7);
        (0..n).map(|_| 100.0 + width * (draws.below(2001) as f64 / 1000.0 - 1.0)).collect()
    }

    #[test]
    fn percentiles_are_nearest_ranks_and_medians_average_the_middle() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([50, 90, 99, 100].map(|p| percentile(&values, p)), [100.0, 180.0, 198.0, 200.0]);
        assert_eq!([percentile(&[], 50), percentile(&[3.0], 99)], [0.0, 3.0]);
        assert_eq!([median(&[4.0, 1.0, 3.0]), median(&[1.0, 2.0, 3.0, 9.0]), median(&[])], [3.0, 2.5, 0.0]);
    }

    #[test]
    fn intervals_hold_the_median_and_shrink_with_more_rounds() {
        let width = |n| {
            let [low, high] = interval(&noisy(n, 10.0)).unwrap();
            assert!(low <= 100.0 + 4.0 && high >= 100.0 - 4.0 && low <= high, "{n}: {low} to {high}");
            high - low
        };
        assert!(width(400) < width(20) / 2.0);
        assert_eq!(interval(&[1.0, 2.0]), None);
    }

    #[test]
    fn ratios_tell_a_change_from_chance() {
        let old = noisy(20, 3.0);
        let slower: Vec<f64> = old.iter().rev().map(|v| v * 1.1).collect();
        let (at, [low, high]) = ratio(&slower, &old).unwrap();
        assert!((at - 1.1).abs() < 1e-9 && low > 1.05 && high < 1.15, "{at} {low} {high}");
        let (_, [low, high]) = ratio(&noisy(20, 3.0), &old).unwrap();
        assert!(low <= 1.0 && high >= 1.0);
        assert_eq!(ratio(&[0.0; 5], &old), None);
        assert_eq!(ratio(&[100.0; 5], &[1e-308; 5]), None, "beyond what a number can hold");
    }

    #[test]
    fn a_trend_is_seen_and_noise_is_none() {
        assert_eq!(trend(&noisy(20, 10.0)), 0.0);
        assert_eq!(trend(&[1.0, 2.0, 3.0]), 0.0, "too few");
        let rising: Vec<f64> = (0..20).map(|i| 100.0 + f64::from(i)).collect();
        assert!((trend(&rising) - 19.0 / 109.5).abs() < 1e-9, "{}", trend(&rising));
        assert!(trend(&rising.iter().rev().copied().collect::<Vec<_>>()) < -0.15);
    }

    #[test]
    fn spread_is_that_of_the_quartiles() {
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0, 5.0]), 2.0 / 3.0);
        assert_eq!(spread(&[7.0; 9]), 0.0);
    }
}
