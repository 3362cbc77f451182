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
    /// Rounds one number to an integer; those beyond `i32` become its ends, and what is not a number 0.
    #[inline(always)]
    pub fn apply(self, x: f32) -> i32 {
        // Without calls and branches, so that loops vectorise.
        let floor = |x: f32| {
            let towards_zero = x as i32;
            towards_zero.saturating_sub(i32::from(x < towards_zero as f32))
        };
        match self {
            Rounding::HalfEven => {
                // Floats from 2^23 on are integers: adding it rounds as every sum is rounded.
                let big = 8_388_608f32.copysign(x);
                let rounded = (x + big) - big;
                (if x.abs() < 8_388_608.0 { rounded } else { x }) as i32
            }
            Rounding::HalfUp => floor(x + 0.5),
            Rounding::Floor => floor(x),
        }
    }

    /// The specification of [`Rounding::apply`].
    #[cfg(feature = "alloc")]
    fn reference(self, x: f32) -> i32 {
        (match self {
            Rounding::HalfEven => libm::rintf(x),
            Rounding::HalfUp => libm::floorf(x + 0.5),
            Rounding::Floor => libm::floorf(x),
        }) as i32
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
    #[inline(always)]
    pub fn apply(&self, x: f32) -> i32 {
        self.rounding.apply(x * self.scale + self.offset).clamp(self.lowest, self.highest)
    }
}

/// Quantizes one image to bytes.
#[inline(always)]
pub fn run_bytes<X: Copy>(q: &Quantize, x: &[X], widen: impl Fn(X) -> f32, out: &mut [u8]) {
    // One loop per rounding.
    for rounding in [Rounding::HalfEven, Rounding::HalfUp, Rounding::Floor] {
        if q.rounding == rounding {
            let q = Quantize { rounding, ..*q };
            for (o, x) in out.iter_mut().zip(x) {
                *o = q.apply(widen(*x)) as u8;
            }
        }
    }
}

/// Quantizes one image of `[pixel][c]` numbers to bit planes.
#[inline(always)]
pub fn run_bits<X: Copy>(q: &Quantize, c: usize, x: &[X], widen: impl Fn(X) -> f32, out: &mut [u64]) {
    let DType::Bits(quant) = q.output else { return };
    let (words, planes) = (crate::bits::words(c), quant.planes());
    for (pixel, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(words * planes)) {
        for (w, x) in pixel.chunks(64).enumerate() {
            // The codes of formats with consecutive integers are the low bits of these.
            let mut codes = [0; 64];
            run_bytes(q, x, &widen, &mut codes);
            for p in 0..planes {
                out[p * words + w] = crate::bits::gather(&codes, p);
            }
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
        let one = |x: f32| q.rounding.reference(x * q.scale + q.offset).clamp(q.lowest, q.highest);
        Values::Int(v.to_f32().into_iter().map(one).collect())
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
