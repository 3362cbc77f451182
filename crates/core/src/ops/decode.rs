//! Integers of any format to floats of the same value.

use crate::bits;
use crate::types::{Quant, Shape};

/// Converts one image.
#[inline(always)]
pub fn run<X: Copy>(x: &[X], from: impl Fn(X) -> f32, out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = from(*x);
    }
}

/// Decodes one bit-packed image to `[pixel][c]` numbers.
#[inline(always)]
pub fn run_bits<T: Copy>(quant: Quant, shape: Shape, x: &[u64], out: &mut [T], from: impl Fn(i32) -> T) {
    let (words, planes) = (bits::words(shape.c), quant.planes());
    let (zero, one) = (from(quant.decode(0)), from(quant.decode(1)));
    for (pixel, out) in x.chunks_exact(words * planes).zip(out.chunks_exact_mut(shape.c)) {
        for (w, out) in out.chunks_mut(64).enumerate() {
            if planes == 1 {
                let word = pixel[w];
                for (i, o) in out.iter_mut().enumerate() {
                    *o = if word >> i & 1 == 1 { one } else { zero };
                }
                continue;
            }
            let mut codes = [0u32; 64];
            for p in 0..planes {
                let word = pixel[p * words + w];
                for (i, code) in codes.iter_mut().enumerate() {
                    *code |= ((word >> i) as u32 & 1) << p;
                }
            }
            for (o, code) in out.iter_mut().zip(codes) {
                *o = from(quant.decode(code));
            }
        }
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use crate::cases::{Case, formats, map};
    use crate::model::Error;
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(x: ValueType) -> Result<ValueType, Error> {
        match x.dtype {
            DType::F32 => Err("needs integers as input, not f32".into()),
            _ => Ok(ValueType::new(x.shape, DType::F32)),
        }
    }

    /// The specification.
    pub fn reference(v: &Values) -> Values {
        Values::F32(v.to_f32())
    }

    /// Every format.
    pub fn cases() -> Vec<Case> {
        let packed = formats().into_iter().map(DType::Bits);
        packed
            .chain([DType::U8, DType::I8, DType::I32])
            .map(|d| Case::new(&format!("{d}"), Op::Decode, &[map(2, 3, 66, d)]))
            .collect()
    }
}
