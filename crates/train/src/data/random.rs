//! Random numbers that are decided by what they are for, not by what was drawn before.

/// What numbers are for; the first part of a key.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Which pictures are kept for validation.
    Split = 1,
    /// The order of an epoch.
    Shuffle = 2,
    /// The changes of a picture.
    Augment = 3,
    /// First values of a parameter.
    Initial = 4,
    /// Networks that a search tries.
    Search = 5,
}

/// SplitMix64 (Steele, Lea and Flood 2014) that starts from a hash of a key.
#[derive(Clone, Debug)]
pub struct Random(u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Random {
    /// The numbers of a key; those of different keys have nothing to do with each other.
    pub fn of(purpose: Purpose, key: &[u64]) -> Self {
        let join = |state: u64, k: &u64| mix(state.wrapping_add(GOLDEN) ^ mix(k.wrapping_add(GOLDEN)));
        Random(key.iter().fold(mix(purpose as u64), join))
    }
    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
    /// Uniform in `0..n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.word()) * n as u128) >> 64) as usize
    }
    /// Uniform in `-n..=n`.
    pub fn within(&mut self, n: usize) -> isize {
        self.below(2 * n + 1) as isize - n as isize
    }
    /// Uniform in `-1..1`, in steps of 2^-23.
    pub fn symmetric(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
    /// Normal with mean 0 and variance 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f32 {
        // Uniform in 0..1 without 0, whose logarithm is infinite.
        let uniform = |word: u64| ((word >> 11) + 1) as f64 / ((1u64 << 53) + 1) as f64;
        let (radius, angle) = (uniform(self.word()), uniform(self.word()));
        ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
    }
    /// Brings items into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
