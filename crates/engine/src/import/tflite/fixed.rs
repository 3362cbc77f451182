//! Fixed-point arithmetic of quantised layers: an accumulator times a real number, rounded to an integer.
//!
//! The real number is a mantissa of 31 bits times a power of two. The product is rounded twice: to the bits that the
//! shift cuts off, then to an integer. Where that lands on a half, kernels differ: those of `gemmlowp` go away from
//! zero, the matrix products of `ruy` go up. Sources: Jacob et al. 2018; both libraries.

/// A positive real number as a mantissa of 31 bits and a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    mantissa: i64,
    shift: i32,
}

/// How the second rounding treats halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// Away from zero.
    Away,
    /// Up.
    Up,
}

impl Multiplier {
    /// The nearest to `real`, which must be positive; numbers below 2^-32 are 0.
    pub fn new(real: f64) -> Self {
        // `real = fraction * 2^exponent` with a fraction from 1/2 on.
        let exponent = if real.is_normal() { (real.to_bits() >> 52 & 0x7ff) as i32 - 1022 } else { -1022 };
        let fraction = real * 2f64.powi(-exponent);
        let mantissa = (fraction * 2f64.powi(31)).round() as i64;
        match (mantissa, exponent) {
            (_, ..-31) => Multiplier { mantissa: 0, shift: 0 },
            (0x8000_0000, _) => Multiplier { mantissa: 1 << 30, shift: exponent + 1 },
            _ => Multiplier { mantissa, shift: exponent },
        }
    }

    /// The same divided by `n`, with as many bits as 31 hold, cut off.
    pub fn divided(self, n: u32) -> Self {
        let shift = (31 - n.max(1).leading_zeros() as i32).clamp(0, 31 + self.shift.min(0));
        Multiplier { mantissa: (self.mantissa << shift) / i64::from(n.max(1)), shift: self.shift - shift }
    }

    /// `x` times the number.
    pub fn times(self, x: i64, halves: Halves) -> i64 {
        let right = (-self.shift).max(0);
        let product = self.mantissas(if self.shift > 0 { x << self.shift.min(31) } else { x });
        let half = if right == 0 { 0 } else { 1 << (right - 1) };
        let below = i64::from(halves == Halves::Away && product < 0 && right > 0);
        (product + half - below) >> right
    }

    /// `x * 2^left` times the number, where the shift to the right is taken from the one to the left: rounded once.
    pub fn lifted(self, x: i64, left: i32) -> i64 {
        self.mantissas(x << (left + self.shift).clamp(0, 31))
    }

    /// `x` times the mantissa over 2^31, halves up.
    fn mantissas(self, x: i64) -> i64 {
        (x.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) * self.mantissa + (1 << 30)) >> 31
    }
}

/// The smallest integer of 32 bits at which a condition holds that then stays true; `None` where it never does.
pub fn first(holds: impl Fn(i64) -> bool) -> Option<i64> {
    let (mut low, mut high) = (i64::from(i32::MIN), i64::from(i32::MAX) + 1);
    while low < high {
        let middle = (low + high).div_euclid(2);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    (low <= i64::from(i32::MAX)).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_have_31_bits() {
        assert_eq!(Multiplier::new(1.0), Multiplier { mantissa: 1 << 30, shift: 1 });
        assert_eq!(Multiplier::new(0.75), Multiplier { mantissa: 3 << 29, shift: 0 });
        assert_eq!(Multiplier::new(1.0 - 1e-12), Multiplier { mantissa: 1 << 30, shift: 1 });
        assert_eq!(Multiplier::new(1e-12), Multiplier { mantissa: 0, shift: 0 });
        assert_eq!(Multiplier::new(3.0).times(-5, Halves::Up), -15);
        assert_eq!(Multiplier::new(0.5).divided(9).times(900, Halves::Away), 50);
    }

    #[test]
    fn products_are_rounded_twice() {
        // A quarter is 2^30 / 2^31 with a shift of 1: 6 / 4 is 3, then 1.5.
        let quarter = Multiplier::new(0.25);
        let all = |halves| [-6, -5, -2, 0, 2, 5, 6, 7].map(|x| quarter.times(x, halves));
        assert_eq!(all(Halves::Away), [-2, -1, -1, 0, 1, 2, 2, 2]);
        assert_eq!(all(Halves::Up), [-1, -1, 0, 0, 1, 2, 2, 2]);
        assert_eq!(quarter.lifted(6, 20), 6 << 18);
    }

    #[test]
    fn first_finds_the_ends() {
        assert_eq!(first(|_| true), Some(i64::from(i32::MIN)));
        assert_eq!(first(|_| false), None);
        assert_eq!(first(|n| n >= i64::from(i32::MAX)), Some(i64::from(i32::MAX)));
        assert_eq!(first(|n| 3 * n > 100), Some(34));
    }
}
