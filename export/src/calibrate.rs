//! Activation ranges, measured on calibration rows in constant memory.
//!
//! [`RangeMethod::MinMax`] needs one pass; the others look at a histogram that a second pass fills between the bounds of the first.

/// How a tensor's range is chosen from the values seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RangeMethod {
    /// From the smallest to the largest value, widened by what the largest rows suggest that unseen rows reach: one clipped row
    /// costs more than a coarser step on all.
    MinMax,
    /// The values between the two tails; the share kept in percent, in 50..=100.
    Percentile(f64),
    /// The clipping that keeps the distribution closest by Kullback–Leibler divergence (Migacz, "8-bit inference with TensorRT", 2017),
    /// among those that do not raise the mean squared error.
    Entropy,
    /// The clipping with the least mean squared rounding and clipping error.
    Mse,
}

/// How many of the largest rows an extrapolation looks at.
const KEPT: usize = 6;
/// Share of the mean excess of the largest rows over the next that is added.
const EXTRAPOLATION: f32 = 0.5;

/// The largest per-row maxima of a quantity, and of its negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extremes {
    high: [f32; KEPT],
    low: [f32; KEPT],
}

impl Extremes {
    pub const NONE: Self = Self { high: [f32::NEG_INFINITY; KEPT], low: [f32::NEG_INFINITY; KEPT] };

    /// Adds one row's smallest and largest value.
    pub fn add_row(&mut self, low: f32, high: f32) {
        insert(&mut self.high, high);
        insert(&mut self.low, -low);
    }

    pub fn merge(&mut self, other: &Self) {
        other.high.iter().for_each(|&v| insert(&mut self.high, v));
        other.low.iter().for_each(|&v| insert(&mut self.low, v));
    }

    /// The smallest and the largest value.
    pub fn seen(&self) -> Option<(f32, f32)> {
        (self.high[0] > f32::NEG_INFINITY).then(|| (-self.low[0], self.high[0]))
    }

    /// The range that unseen rows can be expected to keep to: the largest value plus half the mean excess of the largest rows over
    /// the last one kept. With fewer rows than are kept, the values seen.
    pub fn extrapolated(&self) -> Option<(f32, f32)> {
        let end = |kept: &[f32; KEPT]| {
            let last = kept[KEPT - 1];
            if last == f32::NEG_INFINITY {
                return kept[0];
            }
            let excess: f32 = kept[..KEPT - 1].iter().map(|v| v - last).sum();
            kept[0] + EXTRAPOLATION * excess / (KEPT - 1) as f32
        };
        self.seen().map(|_| (-end(&self.low), end(&self.high)))
    }
}

fn insert(kept: &mut [f32; KEPT], value: f32) {
    if value <= kept[KEPT - 1] {
        return;
    }
    kept[KEPT - 1] = value;
    let mut i = KEPT - 1;
    while i > 0 && kept[i] > kept[i - 1] {
        kept.swap(i, i - 1);
        i -= 1;
    }
}

/// 16 for each step of a quantized tensor: a step's bins must tell the shape of what it merges.
const BINS: usize = 4096;
const LEVELS: usize = 256;
/// An end moves inwards in this many steps to 0…
const NOTCHES: usize = 64;
/// …and keeps at least so many of them.
const LEAST_KEPT: usize = 16;

/// Counts of values in equal bins over a range that is known beforehand and holds 0. Zeros are counted apart: every range
/// represents them exactly.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    low: f32,
    high: f32,
    zeros: u64,
    counts: Vec<u64>,
}

impl Histogram {
    pub fn new(low: f32, high: f32) -> Self {
        Self { low, high, zeros: 0, counts: vec![0; BINS] }
    }

    pub fn add(&mut self, values: &[f32]) {
        let per_bin = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for &v in values {
            if v == 0.0 {
                self.zeros += 1;
                continue;
            }
            let bin = ((v - self.low) * per_bin) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
    }

    fn width(&self) -> f32 {
        (self.high - self.low) / BINS as f32
    }

    /// The bin that 0 is in.
    fn zero(&self) -> usize {
        (((0.0 - self.low) / self.width().max(f32::MIN_POSITIVE)) as usize).min(BINS)
    }

    /// The range by a method; always within the one that was counted. An end that cuts no value off stays where it was.
    pub fn range(&self, method: RangeMethod) -> (f32, f32) {
        let (from, to) = match method {
            RangeMethod::MinMax => (0, BINS),
            RangeMethod::Percentile(kept) => self.percentile(kept),
            RangeMethod::Entropy => {
                let most = self.squared_error(0, BINS);
                // Divergence compares shapes and knows no distances: what it clips must not cost more than the finer step wins.
                self.search(|from, to| (self.squared_error(from, to) <= most).then(|| self.divergence(from, to)))
            }
            RangeMethod::Mse => self.search(|from, to| Some(self.squared_error(from, to))),
        };
        let first = self.counts.iter().position(|&n| n > 0).unwrap_or(0);
        let last = self.counts.iter().rposition(|&n| n > 0).unwrap_or(BINS - 1);
        let low = if from <= first { self.low } else { self.low + from as f32 * self.width() };
        let high = if to > last { self.high } else { self.low + to as f32 * self.width() };
        (low, high)
    }

    fn percentile(&self, kept: f64) -> (usize, usize) {
        let zero = self.zero().min(BINS - 1);
        let count = |bin: usize| self.counts[bin] + if bin == zero { self.zeros } else { 0 };
        let total: u64 = (0..BINS).map(count).sum();
        let tail = ((1.0 - kept / 100.0) / 2.0 * total as f64) as u64;
        let edge = |bins: &mut dyn Iterator<Item = usize>| {
            let mut passed = 0;
            for bin in bins {
                passed += count(bin);
                if passed > tail {
                    return bin;
                }
            }
            0
        };
        (edge(&mut (0..BINS)), edge(&mut (0..BINS).rev()) + 1)
    }

    /// The sub-range with the least cost among those that have one: first both ends move inwards alike, then each alone.
    fn search(&self, cost: impl Fn(usize, usize) -> Option<f64>) -> (usize, usize) {
        let zero = self.zero();
        let from = |notches: usize| zero - zero * notches / NOTCHES;
        let to = |notches: usize| zero + (BINS - zero) * notches / NOTCHES;
        let mut best = (f64::INFINITY, NOTCHES, NOTCHES);
        let consider = |best: &mut (f64, usize, usize), below: usize, above: usize| {
            if to(above) > from(below) + 1
                && let Some(c) = cost(from(below), to(above))
                && c < best.0
            {
                *best = (c, below, above);
            }
        };
        (LEAST_KEPT..=NOTCHES).rev().for_each(|n| consider(&mut best, n, n));
        let below = best.1;
        (LEAST_KEPT..=NOTCHES).rev().for_each(|n| consider(&mut best, below, n));
        let above = best.2;
        (LEAST_KEPT..=NOTCHES).rev().for_each(|n| consider(&mut best, n, above));
        (from(best.1), to(best.2))
    }

    /// Of rounding (uniform within a step) and clipping together, in squared bins.
    fn squared_error(&self, from: usize, to: usize) -> f64 {
        let level = (to - from) as f64 / LEVELS as f64;
        let rounding = level * level / 12.0;
        self.counts
            .iter()
            .enumerate()
            .map(|(bin, &count)| {
                let over = if bin < from {
                    from - bin
                } else if bin >= to {
                    bin + 1 - to
                } else {
                    0
                };
                count as f64 * if over > 0 { (over * over) as f64 } else { rounding }
            })
            .sum()
    }

    /// Kullback–Leibler divergence, in nats, of the values clipped to the bins `from..to` from what their quantized steps tell: every
    /// step's share spread evenly over those of its bins that are not empty. From it is taken what counting alone makes of a
    /// perfectly flat step, half a count for each further bin, since otherwise the narrowest range would always win.
    fn divergence(&self, from: usize, to: usize) -> f64 {
        let inner = &self.counts[from..to];
        let mut clipped: Vec<u64> = inner.to_vec();
        let last = clipped.len() - 1;
        clipped[0] += self.counts[..from].iter().sum::<u64>();
        clipped[last] += self.counts[to..].iter().sum::<u64>();
        let total = clipped.iter().sum::<u64>() as f64;
        let inner_total = inner.iter().sum::<u64>() as f64;
        if inner_total == 0.0 {
            return f64::INFINITY;
        }
        let levels = LEVELS.min(clipped.len());
        let mut sum = 0.0;
        for level in 0..levels {
            let bins = level * clipped.len() / levels..(level + 1) * clipped.len() / levels;
            let mass = inner[bins.clone()].iter().sum::<u64>() as f64;
            let filled = inner[bins.clone()].iter().filter(|&&c| c > 0).count() as f64;
            for i in bins {
                if clipped[i] > 0 {
                    // A bin that clipping filled and the original left empty gets a small share, not a division by zero.
                    let q = if inner[i] > 0 { mass / filled / inner_total } else { 1e-10 };
                    let p = clipped[i] as f64 / total;
                    sum += p * (p / q).ln();
                }
            }
            sum -= (filled - 1.0).max(0.0) / (2.0 * total);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mostly small values, a few far out.
    fn long_tail() -> Histogram {
        let mut h = Histogram::new(0.0, 100.0);
        for i in 0..100_000 {
            h.add(&[(i % 1000) as f32 / 1000.0 * 2.0]);
        }
        h.add(&[99.0, 50.0]);
        h
    }

    #[test]
    fn methods_other_than_min_max_cut_a_long_tail() {
        let h = long_tail();
        assert_eq!(h.range(RangeMethod::MinMax), (0.0, 100.0));
        let (low, high) = h.range(RangeMethod::Percentile(99.9));
        assert!(low == 0.0 && (1.9..2.2).contains(&high), "{low} {high}");
        assert!(h.range(RangeMethod::Mse).1 < 100.0);
        let mut falling = falling();
        falling.add(&[99.0]);
        assert!(falling.range(RangeMethod::Entropy).1 < 90.0);
    }

    /// Two times an exponential distribution, in 0..=100.
    fn falling() -> Histogram {
        let mut h = Histogram::new(0.0, 100.0);
        (1..=100_000).for_each(|i| h.add(&[-2.0 * (i as f32 / 100_001.0).ln()]));
        h
    }

    #[test]
    fn entropy_never_costs_more_than_min_max() {
        let mut normal = Histogram::new(-8.0, 8.0);
        let uniform = |i: u32| (f64::from(i.wrapping_mul(2_654_435_769)) + 0.5) / f64::from(u32::MAX);
        for i in 0..50_000 {
            // Box and Muller's transform of two low-discrepancy sequences.
            let (a, b) = (uniform(i), uniform(i.wrapping_mul(40_503).wrapping_add(17)));
            normal.add(&[((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32]);
        }
        for h in [long_tail(), falling(), normal] {
            let (low, high) = h.range(RangeMethod::Entropy);
            let bin = |v: f32| ((v - h.low) / h.width()).round() as usize;
            assert!(h.squared_error(bin(low), bin(high)) <= h.squared_error(0, BINS), "{low} {high}");
        }
    }

    /// Zeros are exact in every range; a spike of them, as ReLU leaves, says nothing about it.
    #[test]
    fn zeros_do_not_move_the_range() {
        for method in [RangeMethod::Entropy, RangeMethod::Mse] {
            let mut h = falling();
            h.add(&[60.0, 40.0]);
            let without = h.range(method);
            h.add(&vec![0.0; 1_000_000]);
            assert_eq!(h.range(method), without);
        }
    }

    /// A tail on one side is cut on that side alone: the other end, which is dense up to −8, keeps (nearly) all.
    #[test]
    fn the_ends_move_apart() {
        let mut h = Histogram::new(-10.0, 100.0);
        (1..=100_000).for_each(|i| h.add(&[-2.0 * (i as f32 / 100_001.0).ln(), -8.0 * (i as f32 / 100_000.0)]));
        h.add(&[99.0]);
        for method in [RangeMethod::Entropy, RangeMethod::Mse] {
            let (low, high) = h.range(method);
            assert!((-10.0..=-7.9).contains(&low) && high < 95.0, "{method:?}: {low} {high}");
        }
    }

    #[test]
    fn a_range_is_extrapolated_by_half_the_mean_excess() {
        let mut extremes = Extremes::NONE;
        (1..=5).for_each(|i| extremes.add_row(-1.0, i as f32));
        assert_eq!(extremes.extrapolated(), Some((-1.0, 5.0)), "too few rows: what was seen");
        extremes.add_row(-1.0, 10.0);
        // Kept: 10, 5, 4, 3, 2, 1; mean excess over 1 is (9 + 4 + 3 + 2 + 1) / 5 = 3.8.
        let (low, high) = extremes.extrapolated().expect("rows");
        assert!((high - 11.9).abs() < 1e-6 && low == -1.0, "{low} {high}");
    }

    #[test]
    fn a_uniform_distribution_is_not_cut_much_by_mse() {
        let mut h = Histogram::new(-1.0, 1.0);
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 / 5000.0 - 1.0).collect();
        h.add(&values);
        let (low, high) = h.range(RangeMethod::Mse);
        assert!(low < -0.9 && high > 0.9, "{low} {high}");
        assert_eq!(h.range(RangeMethod::Percentile(100.0)), (-1.0, 1.0));
    }
}
