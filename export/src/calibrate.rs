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
    /// The clipping that keeps the distribution closest by Kullback–Leibler divergence (Migacz, "8-bit inference with TensorRT", 2017).
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

const BINS: usize = 2048;
const LEVELS: usize = 256;

/// Counts of values in equal bins over a range that is known beforehand.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    low: f32,
    high: f32,
    counts: Vec<u64>,
}

impl Histogram {
    pub fn new(low: f32, high: f32) -> Self {
        Self { low, high, counts: vec![0; BINS] }
    }

    pub fn add(&mut self, values: &[f32]) {
        let per_bin = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for &v in values {
            let bin = ((v - self.low) * per_bin) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
    }

    fn width(&self) -> f32 {
        (self.high - self.low) / BINS as f32
    }

    /// The range by a method; always within the one that was counted.
    pub fn range(&self, method: RangeMethod) -> (f32, f32) {
        match method {
            RangeMethod::MinMax => (self.low, self.high),
            RangeMethod::Percentile(kept) => self.percentile(kept),
            RangeMethod::Entropy => self.search(|h, from, to| h.divergence(from, to)),
            RangeMethod::Mse => self.search(|h, from, to| h.squared_error(from, to)),
        }
    }

    fn percentile(&self, kept: f64) -> (f32, f32) {
        let total: u64 = self.counts.iter().sum();
        let tail = ((1.0 - kept / 100.0) / 2.0 * total as f64) as u64;
        let edge = |bins: &mut dyn Iterator<Item = usize>| {
            let mut passed = 0;
            for bin in bins {
                passed += self.counts[bin];
                if passed > tail {
                    return bin;
                }
            }
            0
        };
        let first = edge(&mut (0..BINS));
        let last = edge(&mut (0..BINS).rev());
        (self.low + first as f32 * self.width(), self.low + (last + 1) as f32 * self.width())
    }

    /// The sub-range with the least cost: both ends are moved inwards together in steps of 1/64, an end at zero stays.
    fn search(&self, cost: impl Fn(&Self, usize, usize) -> f64) -> (f32, f32) {
        let zero = (((0.0 - self.low) / self.width().max(f32::MIN_POSITIVE)) as usize).min(BINS);
        let mut best = (f64::INFINITY, 0, BINS);
        for step in 0..=48 {
            let keep = 1.0 - step as f64 / 64.0;
            let from = zero - (zero as f64 * keep).round() as usize;
            let to = zero + ((BINS - zero) as f64 * keep).round() as usize;
            if to <= from + 1 {
                continue;
            }
            let c = cost(self, from, to);
            if c < best.0 {
                best = (c, from, to);
            }
        }
        (self.low + best.1 as f32 * self.width(), self.low + best.2 as f32 * self.width())
    }

    fn squared_error(&self, from: usize, to: usize) -> f64 {
        // In units of bins: a level is this many wide, its rounding error uniform.
        let level = (to - from) as f64 / LEVELS as f64;
        let rounding = if level > 1.0 { level * level / 12.0 } else { 0.0 };
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

    fn divergence(&self, from: usize, to: usize) -> f64 {
        let mut p: Vec<f64> = self.counts[from..to].iter().map(|&c| c as f64).collect();
        let last = p.len() - 1;
        p[0] += self.counts[..from].iter().sum::<u64>() as f64;
        p[last] += self.counts[to..].iter().sum::<u64>() as f64;
        let total: f64 = p.iter().sum();
        let inner = &self.counts[from..to];
        let inner_total: f64 = inner.iter().sum::<u64>() as f64;
        if total == 0.0 || inner_total == 0.0 {
            return f64::INFINITY;
        }
        let levels = LEVELS.min(p.len());
        let mut sum = 0.0;
        for level in 0..levels {
            let (a, b) = (level * p.len() / levels, (level + 1) * p.len() / levels);
            let filled = inner[a..b].iter().filter(|&&c| c > 0).count();
            let mass: u64 = inner[a..b].iter().sum();
            for i in a..b {
                if p[i] > 0.0 {
                    // A bin that clipping filled and the original left empty gets a small share, not a division by zero.
                    let q = if inner[i] > 0 { mass as f64 / filled as f64 / inner_total } else { 1e-10 };
                    sum += p[i] / total * (p[i] / total / q).ln();
                }
            }
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
        assert!(h.range(RangeMethod::Mse).1 <= 100.0);
        // Entropy counts the shape alone: a flat one survives the coarsest levels, a falling one asks for finer ones.
        let mut falling = Histogram::new(0.0, 100.0);
        (1..=100_000).for_each(|i| falling.add(&[-2.0 * (i as f32 / 100_001.0).ln()]));
        falling.add(&[99.0]);
        let high = falling.range(RangeMethod::Entropy).1;
        assert!((10.0..60.0).contains(&high), "{high}");
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
