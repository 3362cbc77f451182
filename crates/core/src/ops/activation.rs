//! Functions of one float.
//!
//! What is transcendental is computed in double precision and rounded once, so that it is monotone in
//! f32 (which folding into thresholds needs) and the same on every target.
//!
//! The root of a negative number is 0 and the logarithm of what is not positive is minus infinity, so that both rise
//! everywhere; frameworks make NaN of such numbers.

/// Attributes: which function.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, low), high)`; hardtanh is -1 to 1, ReLU6 is 0 to 6.
    Clip {
        /// Lower bound.
        low: f32,
        /// Upper bound.
        high: f32,
    },
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `|x|`.
    Abs,
    /// `sqrt(max(x, 0))`; -0 stays -0.
    Sqrt,
    /// `exp(x)`.
    Exp,
    /// Natural logarithm of `max(x, 0)`.
    Log,
    /// Error function.
    Erf,
    /// To the nearest integer, halves to the even one. Like the next two it keeps the sign of zeros.
    Round,
    /// To the next integer below.
    Floor,
    /// To the next integer above.
    Ceil,
}

impl Activation {
    /// Value at `x`.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::Relu => {
                if x > 0.0 {
                    x
                } else {
                    0.0
                }
            }
            Activation::Clip { low, high } => {
                let above = if x > low { x } else { low };
                if above < high { above } else { high }
            }
            Activation::Tanh => libm::tanh(f64::from(x)) as f32,
            Activation::Sigmoid => (1.0 / (1.0 + libm::exp(-f64::from(x)))) as f32,
            Activation::Abs => x.abs(),
            Activation::Sqrt => libm::sqrtf(if x < 0.0 { 0.0 } else { x }),
            Activation::Exp => libm::exp(f64::from(x)) as f32,
            Activation::Log => {
                if x <= 0.0 {
                    f32::NEG_INFINITY
                } else {
                    libm::log(f64::from(x)) as f32
                }
            }
            Activation::Erf => libm::erf(f64::from(x)) as f32,
            Activation::Round => nearest(x),
            Activation::Floor => {
                let n = nearest(x);
                (if n > x { n - 1.0 } else { n }).copysign(x)
            }
            Activation::Ceil => {
                let n = nearest(x);
                (if n < x { n + 1.0 } else { n }).copysign(x)
            }
        }
    }

    /// Whether it never falls as `x` rises, to the last bit: only then may it be folded into thresholds.
    pub fn is_monotone(self) -> bool {
        match self {
            Activation::Abs => false,
            Activation::Relu | Activation::Clip { .. } | Activation::Tanh | Activation::Sigmoid => true,
            Activation::Sqrt | Activation::Exp | Activation::Log | Activation::Erf => true,
            Activation::Round | Activation::Floor | Activation::Ceil => true,
        }
    }
}

/// The nearest integer, halves to even: without calls and branches, so that loops vectorise.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    // From 2^23 on floats are integers, so this sum is rounded to one.
    const BASE: f32 = 8_388_608.0;
    let n = ((x.abs() + BASE) - BASE).copysign(x);
    if x.abs() < BASE { n } else { x }
}

/// One image.
#[inline(always)]
pub fn run(a: Activation, x: &[f32], out: &mut [f32]) {
    // One loop per function, so that the cheap ones vectorise.
    match a {
        Activation::Relu => each(x, |x| Activation::Relu.apply(x), out),
        Activation::Tanh => each(x, |x| Activation::Tanh.apply(x), out),
        Activation::Sigmoid => each(x, |x| Activation::Sigmoid.apply(x), out),
        Activation::Clip { low, high } => each(x, |x| Activation::Clip { low, high }.apply(x), out),
        Activation::Abs => each(x, |x| Activation::Abs.apply(x), out),
        Activation::Round => each(x, |x| Activation::Round.apply(x), out),
        Activation::Floor => each(x, |x| Activation::Floor.apply(x), out),
        Activation::Ceil => each(x, |x| Activation::Ceil.apply(x), out),
        Activation::Sqrt | Activation::Exp | Activation::Log | Activation::Erf => {
            each(x, |x| a.apply(x), out)
        }
    }
}

#[inline(always)]
fn each(x: &[f32], f: impl Fn(f32) -> f32, out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = f(*x);
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::cases::{Case, map};
    use crate::model::Error;
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(a: &Activation, x: ValueType) -> Result<ValueType, Error> {
        match a {
            Activation::Clip { low, high } if !(low.is_finite() && high.is_finite() && low <= high) => {
                Err("has bounds that are infinite or not in order".into())
            }
            _ => crate::ops::floats_only(x),
        }
    }

    /// The specification.
    pub fn reference(a: &Activation, v: &Values) -> Values {
        let f = |x: f32| match a {
            Activation::Round => libm::rintf(x),
            Activation::Floor => libm::floorf(x),
            Activation::Ceil => libm::ceilf(x),
            _ => a.apply(x),
        };
        Values::F32(v.f32().iter().map(|x| f(*x)).collect())
    }

    /// Every function.
    pub fn cases() -> Vec<Case> {
        let clip = Activation::Clip { low: -1.0, high: 1.0 };
        use Activation::{Abs, Ceil, Erf, Exp, Floor, Log, Relu, Round, Sigmoid, Sqrt, Tanh};
        [Relu, clip, Tanh, Sigmoid, Abs, Sqrt, Exp, Log, Erf, Round, Floor, Ceil]
            .map(|a| Case::new(&format!("{a:?}"), Op::Activation(a), &[map(3, 5, 17, DType::F32)]))
            .to_vec()
    }
}
