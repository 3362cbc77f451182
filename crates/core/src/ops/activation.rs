//! Functions of one float.
//!
//! Tanh and sigmoid are computed in double precision and rounded once, so that they are monotone in
//! f32 (which folding into thresholds needs) and the same on every target.

/// Attributes: which function.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "function", rename_all = "snake_case"))]
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
        }
    }

    /// Whether it never falls as `x` rises, to the last bit: only then may it be folded into thresholds.
    pub fn is_monotone(self) -> bool {
        match self {
            Activation::Relu | Activation::Clip { .. } | Activation::Tanh | Activation::Sigmoid => true,
        }
    }
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
        Values::F32(v.f32().iter().map(|x| a.apply(*x)).collect())
    }

    /// Every function.
    pub fn cases() -> Vec<Case> {
        let clip = Activation::Clip { low: -1.0, high: 1.0 };
        [Activation::Relu, clip, Activation::Tanh, Activation::Sigmoid]
            .map(|a| Case::new(&format!("{a:?}"), Op::Activation(a), &[map(3, 5, 17, DType::F32)]))
            .to_vec()
    }
}
