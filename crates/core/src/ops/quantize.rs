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
    /// Rounds one number below 2^21 to an integer: without calls and branches, so that loops vectorise.
    #[inline(always)]
    fn apply(self, x: f32) -> i32 {
        // Between 2^23 and 2^24 floats are the integers, so this sum is rounded to one, halves to even.
        const BASE: f32 = 12_582_912.0;
        let nearest = |x: f32| (x + BASE).to_bits() as i32 - BASE.to_bits() as i32;
        let floor = |x: f32| nearest(x) - i32::from(nearest(x) as f32 > x);
        match self {
            Rounding::HalfEven => nearest(x),
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
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
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
    /// The integer that `x` becomes, for attributes that `infer` accepts.
    #[inline(always)]
    pub fn apply(&self, x: f32) -> i32 {
        let q = x * self.scale + self.offset;
        // What is not a number counts as 0. Bounds are integers, so it does not matter that they come first.
        let q = if q.is_nan() { 0.0 } else { q };
        let (low, high) = (self.lowest as f32, self.highest as f32);
        let q = if q > low { q } else { low };
        self.rounding.apply(if q < high { q } else { high })
    }
}

/// Quantizes one image to bytes.
#[inline(always)]
pub fn run_bytes<X: Copy>(q: &Quantize, x: &[X], widen: impl Fn(X) -> f32, out: &mut [u8]) {
    // One loop per rounding, so that they vectorise.
    match q.rounding {
        Rounding::HalfEven => {
            each(x, |x| Quantize { rounding: Rounding::HalfEven, ..*q }.apply(widen(x)), out)
        }
        Rounding::HalfUp => each(x, |x| Quantize { rounding: Rounding::HalfUp, ..*q }.apply(widen(x)), out),
        Rounding::Floor => each(x, |x| Quantize { rounding: Rounding::Floor, ..*q }.apply(widen(x)), out),
    }
}

#[inline(always)]
fn each<X: Copy>(x: &[X], f: impl Fn(X) -> i32, out: &mut [u8]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = f(*x) as u8;
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

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn fast_rounding_equals_the_library() {
        let special =
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 8_388_609.0, 1e-40, -0.0];
        let around = (-1200..1200).flat_map(|i| {
            let x = i as f32 / 4.0;
            [x, x.next_up(), x.next_down()]
        });
        for rounding in [Rounding::HalfEven, Rounding::HalfUp, Rounding::Floor] {
            for (output, lowest, highest) in [(DType::U8, 0, 255), (DType::I8, -128, 127), (DType::U8, 3, 9)]
            {
                let q = Quantize { scale: 1.0, offset: 0.0, rounding, output, lowest, highest };
                for x in special.into_iter().chain(around.clone()) {
                    assert_eq!(q.apply(x), rounding.reference(x).clamp(lowest, highest), "{x} {rounding:?}");
                }
            }
        }
    }
}
