//! Integers of any format to floats of the same value.

use crate::bits;
use crate::types::{Quant, Shape};

/// Decodes one bit-packed image to `[pixel][c]` numbers.
pub fn run_bits<T>(quant: Quant, shape: Shape, x: &[u64], out: &mut [T], from: impl Fn(i32) -> T) {
    let (words, planes) = (bits::words(shape.c), quant.planes());
    for (pixel, out) in x.chunks_exact(words * planes).zip(out.chunks_exact_mut(shape.c)) {
        for (c, o) in out.iter_mut().enumerate() {
            let code = (0..planes)
                .fold(0, |code, p| code | u32::from(bits::get(&pixel[p * words..][..words], c)) << p);
            *o = from(quant.decode(code));
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
