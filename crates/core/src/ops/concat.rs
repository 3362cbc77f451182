//! Joins values along the channels: dense connections.

use crate::bits;

/// Copies the channels of one bit-packed input into the output, starting at channel `at`. `x` is
/// `[pixel][plane][words(cx)]`, `out` is `[pixel][plane][words(c)]` and was zeroed before.
#[inline(always)]
pub fn run_bits(planes: usize, cx: usize, x: &[u64], at: usize, c: usize, out: &mut [u64]) {
    let rows = x.chunks_exact(bits::words(cx)).zip(out.chunks_exact_mut(bits::words(c)));
    debug_assert!(planes > 0);
    for (x, out) in rows {
        bits::or_range(out, at, x, 0, cx);
    }
}

/// Copies the channels of one input into the output, starting at channel `at`.
#[inline(always)]
pub fn run<T: Copy>(cx: usize, x: &[T], at: usize, c: usize, out: &mut [T]) {
    for (x, out) in x.chunks_exact(cx).zip(out.chunks_exact_mut(c)) {
        out[at..at + cx].copy_from_slice(x);
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
    use crate::types::{DType, Quant, Shape, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(inputs: &[ValueType]) -> Result<ValueType, Error> {
        let first = inputs[0];
        let mut c = 0usize;
        for x in inputs {
            let same = (x.shape.h, x.shape.w) == (first.shape.h, first.shape.w);
            if !same || x.dtype != first.dtype {
                return Err(Error(format!("cannot join {first} with {x}")));
            }
            c = c.saturating_add(x.shape.c);
        }
        Ok(ValueType::new(Shape { c, ..first.shape }, first.dtype))
    }

    /// The specification.
    pub fn reference(types: &[ValueType], inputs: &[&Values], out: ValueType) -> Values {
        fn join<T: Copy>(types: &[ValueType], inputs: &[&[T]], pixels: usize) -> Vec<T> {
            let mut all = Vec::new();
            for pixel in 0..pixels {
                for (t, x) in types.iter().zip(inputs) {
                    all.extend_from_slice(&x[pixel * t.shape.c..][..t.shape.c]);
                }
            }
            all
        }
        let pixels = out.shape.pixels();
        if out.dtype == DType::F32 {
            let inputs: Vec<&[f32]> = inputs.iter().map(|v| v.f32()).collect();
            Values::F32(join(types, &inputs, pixels))
        } else {
            let inputs: Vec<&[i32]> = inputs.iter().map(|v| v.int()).collect();
            Values::Int(join(types, &inputs, pixels))
        }
    }

    /// Formats, and channels that do not end on words.
    pub fn cases() -> Vec<Case> {
        [DType::BIT, DType::Bits(Quant::TERNARY), DType::F32, DType::I32, DType::U8]
            .into_iter()
            .flat_map(|d| {
                let x = |c| map(3, 4, c, d);
                [
                    Case::new(&format!("{d}"), Op::Concat, &[x(64), x(64)]),
                    Case::new(&format!("three of {d}"), Op::Concat, &[x(3), x(70), x(65)]),
                    Case::new(&format!("one {d}"), Op::Concat, &[x(5)]),
                ]
            })
            .collect()
    }
}
