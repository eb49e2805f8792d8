//! Seeded choices: the same seed gives the same case on every machine.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In 0..`n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % (n as u64).max(1)) as usize
    }

    /// In `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % ((high - low) as u64 + 1)) as i64
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Any byte as int8.
    pub fn int8(&mut self) -> i8 {
        self.bits() as i8
    }

    /// In 0.0..1.0.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Kinds of int8 data: ordinary, and what makes intermediate sums as large as they can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Every byte as likely as any other.
    Any,
    /// −128 everywhere.
    Least,
    /// −127 everywhere.
    MinusGreatest,
    /// 127 everywhere.
    Greatest,
    /// −128 and 127, at random.
    Ends,
    /// −127..=127, as symmetric weights are.
    Symmetric,
    /// Mostly zeros.
    Sparse,
}

impl Values {
    /// For activations: half of the time ordinary.
    pub fn of_activations(rng: &mut Rng) -> Self {
        if rng.once_in(2) { Self::Any } else { rng.pick(&[Self::Least, Self::Greatest, Self::Ends, Self::Sparse]) }
    }

    /// For weights: half of the time ordinary.
    pub fn of_weights(rng: &mut Rng) -> Self {
        if rng.once_in(2) {
            return Self::Symmetric;
        }
        rng.pick(&[Self::Any, Self::Least, Self::MinusGreatest, Self::Greatest, Self::Ends, Self::Sparse])
    }

    /// One value.
    pub fn next(self, rng: &mut Rng) -> i8 {
        match self {
            Self::Any => rng.int8(),
            Self::Least => i8::MIN,
            Self::MinusGreatest => -i8::MAX,
            Self::Greatest => i8::MAX,
            Self::Ends => rng.pick(&[i8::MIN, i8::MAX]),
            Self::Symmetric => rng.int8().max(-i8::MAX),
            Self::Sparse => {
                if rng.once_in(8) {
                    rng.int8()
                } else {
                    0
                }
            }
        }
    }
}
