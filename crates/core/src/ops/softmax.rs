//! `exp(x - max) / sum(exp(x - max))` over the channels of each pixel, summed in order.

/// One image of `[pixel][c]` floats.
#[inline(always)]
pub fn run(c: usize, x: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
        let max = x.iter().fold(f32::NEG_INFINITY, |m, v| if *v > m { *v } else { m });
        let mut sum = 0.0;
        for (o, x) in out.iter_mut().zip(x) {
            *o = libm::expf(x - max);
            sum += *o;
        }
        for o in out {
            *o /= sum;
        }
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use crate::cases::{Case, map};
    use crate::model::Error;
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::vec::Vec;

    /// Type of the output.
    pub fn infer(x: ValueType) -> Result<ValueType, Error> {
        crate::ops::floats_only(x)
    }

    /// The specification.
    pub fn reference(x: ValueType, v: &Values) -> Values {
        let mut all = Vec::new();
        for pixel in v.f32().chunks(x.shape.c) {
            let max = pixel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exp: Vec<f32> = pixel.iter().map(|v| libm::expf(v - max)).collect();
            let sum = exp.iter().fold(0.0, |s, v| s + v);
            all.extend(exp.iter().map(|v| v / sum));
        }
        Values::F32(all)
    }

    /// A vector and a map.
    pub fn cases() -> Vec<Case> {
        alloc::vec![
            Case::new("vector", Op::Softmax, &[map(1, 1, 10, DType::F32)]),
            Case::new("map", Op::Softmax, &[map(3, 4, 5, DType::F32)]),
        ]
    }
}
