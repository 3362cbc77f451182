//! Rounds numbers to integers of a small format.
//!
//! ```text
//! q = clamp(round(x * scale + offset), lowest, highest)
//! ```
//! in f32, the product and the sum rounded one after the other. The value of the output is `q`
//! itself; a scale that turns it back into the original range is a later [`Op::Affine`](super::Op).
//! Sources: DoReFa (Zhou et al. 2016), QONNX `Quant`, FINN's 8-bit inputs.

use crate::types::DType;

/// How halves are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Rounding {
    /// To the even neighbour (ONNX, NumPy, PyTorch).
    HalfEven,
    /// Up: `floor(x + 0.5)`.
    HalfUp,
    /// Down: `floor(x)`.
    Floor,
}

impl Rounding {
    /// Rounds one number.
    #[inline]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Rounding::HalfEven => libm::rintf(x),
            Rounding::HalfUp => libm::floorf(x + 0.5),
            Rounding::Floor => libm::floorf(x),
        }
    }
}

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Quantize {
    /// Multiplied first.
    pub scale: f32,
    /// Added second.
    pub offset: f32,
    /// How halves are rounded.
    pub rounding: Rounding,
    /// Output format: bytes, or bit planes whose values are consecutive integers.
    pub output: DType,
    /// Smallest result.
    pub lowest: i32,
    /// Largest result.
    pub highest: i32,
}

impl Quantize {
    /// The integer that `x` becomes.
    #[inline]
    pub fn apply(&self, x: f32) -> i32 {
        let q = self.rounding.apply(x * self.scale + self.offset);
        (q as i32).clamp(self.lowest, self.highest)
    }
}

/// Quantizes one image to bytes.
pub fn run_bytes(q: &Quantize, x: impl Iterator<Item = f32>, out: &mut [u8]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = q.apply(x) as u8;
    }
}

/// Quantizes one image of `[pixel][c]` numbers to bit planes.
pub fn run_bits(q: &Quantize, c: usize, x: impl Iterator<Item = f32>, out: &mut [u64]) {
    let DType::Bits(quant) = q.output else { return };
    let words = crate::bits::words(c);
    out.fill(0);
    for (i, x) in x.enumerate() {
        let (pixel, ch) = (i / c, i % c);
        let code = quant.encode(q.apply(x)).unwrap_or(0);
        for p in 0..quant.planes() {
            let at = (pixel * quant.planes() + p) * words + ch / 64;
            out[at] |= u64::from(code >> p & 1) << (ch % 64);
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
    use crate::types::{Encoding, Quant, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(q: &Quantize, x: ValueType) -> Result<ValueType, Error> {
        if !(q.scale.is_finite() && q.offset.is_finite()) {
            return Err("has a scale or offset that is not finite".into());
        }
        match q.output.quant() {
            Some(to) if to.step() != 1 => {
                return Err(Error(format!("cannot round to {}, which has only odd values", q.output)));
            }
            Some(to) if q.lowest < to.min() || q.highest > to.max() || q.lowest > q.highest => {
                return Err(Error(format!("cannot hold {} to {} in {}", q.lowest, q.highest, q.output)));
            }
            None => return Err(Error(format!("cannot put out {}", q.output))),
            _ => {}
        }
        match x.dtype {
            DType::Bits(_) => Err("needs numbers as input, not bits".into()),
            _ => Ok(ValueType::new(x.shape, q.output)),
        }
    }

    /// The specification.
    pub fn reference(q: &Quantize, v: &Values) -> Values {
        Values::Int(v.to_f32().into_iter().map(|x| q.apply(x)).collect())
    }

    /// Formats and roundings that must equal the reference.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for rounding in [Rounding::HalfEven, Rounding::HalfUp, Rounding::Floor] {
            for output in [
                DType::U8,
                DType::I8,
                DType::Bits(Quant::TERNARY),
                DType::Bits(Quant::new(2, Encoding::Unsigned)),
                DType::Bits(Quant::new(4, Encoding::Signed)),
            ] {
                for input in [DType::F32, DType::I32, DType::U8, DType::I8] {
                    let to = output.quant().expect("integers only");
                    let q = Quantize {
                        scale: 0.75,
                        offset: 0.25,
                        rounding,
                        output,
                        lowest: to.min(),
                        highest: to.max(),
                    };
                    let name = format!("{input} to {output}, {rounding:?}");
                    cases.push(Case::new(&name, Op::Quantize(q), &[map(3, 3, 67, input)]));
                }
            }
        }
        cases
    }
}
