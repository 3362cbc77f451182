//! Functions of one number that sources apply to values, with the arithmetic of the source.
//!
//! They are evaluated on the few levels of a quantised value, and bisected to find where a quantiser switches, so each
//! is written as its framework computes it in f32 (a division is a division, not a product with the reciprocal).

use onebit_core::ops::Activation;

/// How a comparison is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `x == c`
    Equal,
    /// `x > c`
    Greater,
    /// `x >= c`
    GreaterOrEqual,
    /// `x < c`
    Less,
    /// `x <= c`
    LessOrEqual,
}

impl Compare {
    /// Whether the comparison of `x` with `c` holds.
    pub fn holds(self, x: f32, c: f32) -> bool {
        match self {
            Compare::Equal => x == c,
            Compare::Greater => x > c,
            Compare::GreaterOrEqual => x >= c,
            Compare::Less => x < c,
            Compare::LessOrEqual => x <= c,
        }
    }
    /// The comparison with its sides exchanged: `c ? x` as `x ? c`.
    #[must_use]
    pub fn exchanged(self) -> Self {
        match self {
            Compare::Equal => Compare::Equal,
            Compare::Greater => Compare::Less,
            Compare::GreaterOrEqual => Compare::LessOrEqual,
            Compare::Less => Compare::Greater,
            Compare::LessOrEqual => Compare::GreaterOrEqual,
        }
    }
}

/// A uniform quantiser: `(round(clip(x / scale + zero, lowest, highest)) - zero) * scale`, as the package qonnx computes
/// it, operation by operation in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantizer {
    /// Distance of levels.
    pub scale: f32,
    /// The code of 0.
    pub zero: f32,
    /// Smallest code.
    pub lowest: f32,
    /// Largest code.
    pub highest: f32,
    /// How codes are rounded.
    pub rounding: Round,
}

/// How a number becomes an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Halves to the even neighbour.
    HalfEven,
    /// Halves away from zero.
    HalfAway,
    /// Halves away from zero, by way of `|x| + 0.5` in f32: the number below 0.5 becomes 1, as in qonnx.
    HalfUp,
    /// Halves towards zero.
    HalfToZero,
    /// Down.
    Floor,
    /// Up.
    Ceil,
    /// Towards zero.
    ToZero,
    /// Away from zero.
    FromZero,
}

impl Round {
    /// By its name in QONNX, in any case; `None` when there is no such rounding.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "ROUND" | "HALF_EVEN" => Round::HalfEven,
            "CEIL" => Round::Ceil,
            "FLOOR" => Round::Floor,
            "UP" => Round::FromZero,
            "DOWN" | "ROUND_TO_ZERO" => Round::ToZero,
            "HALF_UP" => Round::HalfUp,
            "HALF_DOWN" => Round::HalfToZero,
            _ => return None,
        })
    }

    /// The integer that `x` becomes.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Round::HalfEven => x.round_ties_even(),
            Round::HalfAway => x.round(),
            Round::HalfUp => (x.abs() + 0.5).floor().copysign(x),
            Round::HalfToZero => (x.abs() - 0.5).ceil().copysign(x),
            Round::Floor => x.floor(),
            Round::Ceil => x.ceil(),
            Round::ToZero => x.trunc(),
            Round::FromZero => x.abs().ceil().copysign(x),
        }
    }
}

/// Smallest and largest integer of so many bits; `narrow` leaves out one at the end where there is one more.
pub fn bounds(bits: u32, signed: bool, narrow: bool) -> (f32, f32) {
    let power = |bits: u32| (bits as f32).exp2();
    let narrow = f32::from(u8::from(narrow));
    match signed {
        true => (narrow - power(bits.saturating_sub(1)), power(bits.saturating_sub(1)) - 1.0),
        false => (0.0, power(bits) - 1.0 - narrow),
    }
}

impl Quantizer {
    /// The real value that `x` becomes.
    pub fn apply(&self, x: f32) -> f32 {
        let code = (x / self.scale + self.zero).max(self.lowest).min(self.highest);
        (self.rounding.apply(code) - self.zero) * self.scale
    }
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `x + c`
    Add(f32),
    /// `x - c`
    Sub(f32),
    /// `c - x`
    SubFrom(f32),
    /// `x * c`
    Mul(f32),
    /// `x / c`
    Div(f32),
    /// `c / x`
    DivInto(f32),
    /// `max(x, c)`
    Max(f32),
    /// `min(x, c)`
    Min(f32),
    /// `min(max(x, low), high)`
    Clip(f32, f32),
    /// `x >= 0 ? x : x * slope`
    Leaky(f32),
    /// `|x|`
    Abs,
    /// -1, 0 or 1.
    Sign,
    /// To an integer.
    Round(Round),
    /// `x^c`
    Pow(f32),
    /// 1 where the comparison with the constant holds, else 0.
    Compare(Compare, f32),
    /// `x != 0 ? a : b`
    Choose(f32, f32),
    /// A quantiser.
    Quantize(Quantizer),
    /// One of the functions that models have.
    Activation(Activation),
}

/// Whether a function keeps or turns the order of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Never falls.
    Rises,
    /// Never rises.
    Falls,
    /// Does both.
    Neither,
}

impl Unary {
    /// Value at `x`.
    pub fn apply(&self, x: f32) -> f32 {
        let truth = |b: bool| f32::from(u8::from(b));
        match *self {
            Unary::Add(c) => x + c,
            Unary::Sub(c) => x - c,
            Unary::SubFrom(c) => c - x,
            Unary::Mul(c) => x * c,
            Unary::Div(c) => x / c,
            Unary::DivInto(c) => c / x,
            Unary::Max(c) => x.max(c),
            Unary::Min(c) => x.min(c),
            Unary::Clip(low, high) => x.max(low).min(high),
            Unary::Leaky(slope) => {
                if x >= 0.0 {
                    x
                } else {
                    x * slope
                }
            }
            Unary::Abs => x.abs(),
            Unary::Sign if x == 0.0 => 0.0,
            Unary::Sign => x.signum(),
            Unary::Round(round) => round.apply(x),
            Unary::Pow(c) => x.powf(c),
            Unary::Compare(compare, c) => truth(compare.holds(x, c)),
            Unary::Choose(a, b) => {
                if x != 0.0 {
                    a
                } else {
                    b
                }
            }
            Unary::Quantize(q) => q.apply(x),
            Unary::Activation(a) => a.apply(x),
        }
    }

    /// Whether it keeps the order of numbers, to the last bit.
    pub fn order(&self) -> Order {
        let by_sign = |c: f32| if c >= 0.0 { Order::Rises } else { Order::Falls };
        match *self {
            Unary::Add(_) | Unary::Sub(_) | Unary::Max(_) | Unary::Min(_) | Unary::Clip(..) => Order::Rises,
            Unary::Sign | Unary::Round(_) => Order::Rises,
            Unary::SubFrom(_) => Order::Falls,
            Unary::Mul(c) | Unary::Div(c) => by_sign(c),
            Unary::Leaky(slope) if slope >= 0.0 => Order::Rises,
            Unary::Compare(Compare::Greater | Compare::GreaterOrEqual, _) => Order::Rises,
            Unary::Compare(Compare::Less | Compare::LessOrEqual, _) => Order::Falls,
            Unary::Quantize(q) if q.scale > 0.0 => Order::Rises,
            Unary::Activation(a) if a.is_monotone() => Order::Rises,
            _ => Order::Neither,
        }
    }

    /// Whether its results are whole numbers, whatever the number.
    pub fn makes_integers(&self) -> bool {
        matches!(self, Unary::Round(_))
    }
}
