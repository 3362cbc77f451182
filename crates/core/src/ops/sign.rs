//! Sign of numbers, as bits: `x > 0 ? +1 : x < 0 ? -1 : zero`.

use super::transform::level;
use crate::bits;

/// What the sign of 0 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Zero {
    /// +1: BinaryNet, BMXNet, Larq, eBNN.
    Positive,
    /// -1: Espresso, BinCNN.
    Negative,
}

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Sign {
    /// Sign of 0.
    pub zero: Zero,
}

/// A number that has a sign.
pub trait Signed: Copy + PartialOrd {
    /// 0.
    const ZERO: Self;
}
impl Signed for f32 {
    const ZERO: f32 = 0.0;
}
impl Signed for i32 {
    const ZERO: i32 = 0;
}

impl Sign {
    /// True for +1.
    #[inline(always)]
    pub fn of<T: Signed>(self, x: T) -> bool {
        match self.zero {
            Zero::Positive => level(x, &[T::ZERO], false) == 1,
            Zero::Negative => x > T::ZERO,
        }
    }
}

/// Packs one image of `[pixel][c]` numbers.
#[inline(always)]
pub fn run<T: Signed>(sign: Sign, c: usize, x: &[T], out: &mut [u64]) {
    for (pixel, row) in x.chunks_exact(c).zip(out.chunks_exact_mut(bits::words(c))) {
        for (chunk, word) in pixel.chunks(64).zip(row) {
            let mut signs = [0; 64];
            for (s, v) in signs.iter_mut().zip(chunk) {
                *s = u8::from(sign.of(*v));
            }
            *word = bits::gather(&signs, 0);
        }
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
    pub fn infer(x: ValueType) -> Result<ValueType, Error> {
        match x.dtype {
            DType::F32 | DType::I32 => Ok(ValueType::new(x.shape, DType::BIT)),
            other => Err(Error(format!("needs f32 or i32 input, not {other}"))),
        }
    }

    /// The specification.
    pub fn reference(sign: &Sign, v: &Values) -> Values {
        let value = |positive| if positive { 1 } else { -1 };
        let zero = sign.zero == Zero::Positive;
        Values::Int(match v {
            Values::F32(v) => v.iter().map(|x| value(*x > 0.0 || (*x == 0.0 && zero))).collect(),
            Values::Int(v) => v.iter().map(|x| value(*x > 0 || (*x == 0 && zero))).collect(),
        })
    }

    /// Formats and zeros that must equal the reference.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for zero in [Zero::Positive, Zero::Negative] {
            for dtype in [DType::F32, DType::I32] {
                for c in [1, 64, 130] {
                    let name = format!("{dtype}, {c} channels, 0 is {zero:?}");
                    cases.push(Case::new(&name, Op::Sign(Sign { zero }), &[map(3, 5, c, dtype)]));
                }
            }
        }
        cases
    }
}
