//! A number for each level of an integer: `out = table[level]`, where level 0 is the smallest value of the input's format.
//!
//! The table is one row, in the role `weight`, as long as the format has levels; the output has its format, `f32` or
//! `i32`. It holds functions of codes that neither rise nor fall evenly, and the terms of fixed-point sums, which need
//! more bits than a float has. Source: the tables of 8-bit activations in TensorFlow Lite.

use crate::bits;
use crate::types::{DType, Shape};

/// One image. The table is in the order of stored codes, not of levels; its elements are the bits of floats or integers.
/// Compiled once: no instruction set has tables of this length.
#[inline(never)]
pub fn run(dtype: DType, shape: Shape, x: &[u64], table: &[u32], out: &mut [u32]) {
    let DType::Bits(quant) = dtype else {
        let bytes: &[u8] = bytemuck::cast_slice(x);
        for (o, x) in out.iter_mut().zip(bytes) {
            *o = table[usize::from(*x)];
        }
        return;
    };
    let words = bits::words(shape.c);
    for (pixel, out) in x.chunks_exact(words * quant.planes()).zip(out.chunks_exact_mut(shape.c)) {
        for (c, o) in out.iter_mut().enumerate() {
            let planes = pixel[c / 64..].iter().step_by(words).rev();
            *o = table[planes.fold(0, |code, word| code << 1 | (word >> (c % 64) & 1) as usize)];
        }
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use crate::cases::{Case, Rng, formats, map};
    use crate::model::{Error, Params, Tensor};
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        match (x.dtype.quant(), &params.weight) {
            (Some(q), Some(t)) if (t.rows, t.cols) == (1, q.levels()) && t.as_bits().is_none() => {
                Ok(ValueType::new(x.shape, t.dtype()))
            }
            _ => Err("needs integers of few levels and a row of as many numbers".into()),
        }
    }

    /// The specification.
    pub fn reference(x: ValueType, v: &Values, params: &Params<Tensor<'_>>) -> Values {
        let quant = x.dtype.quant().expect("checked by infer");
        let table = params.weight.as_ref().expect("checked by infer");
        let level = |v: &i32| (0..quant.levels()).position(|i| quant.value_of_level(i) == *v);
        let levels = v.int().iter().map(|v| level(v).expect("the format has this value"));
        match (table.as_f32(), table.as_i32()) {
            (Some(t), _) => Values::F32(levels.map(|i| t[i]).collect()),
            (_, t) => Values::Int(levels.map(|i| t.expect("f32 or i32")[i]).collect()),
        }
    }

    /// Every format, to floats and to integers.
    pub fn cases() -> Vec<Case> {
        let mut rng = Rng::new(28);
        let packed = formats().into_iter().map(DType::Bits);
        let mut case = |(i, d): (usize, DType)| {
            let levels = d.quant().expect("integers").levels();
            let floats = rng.floats(levels, -1e9, 1e9);
            let table = match i % 2 {
                0 => Tensor::f32(floats),
                _ => Tensor::i32_matrix(1, levels, floats.into_iter().map(|v| v as i32).collect()),
            };
            let mut case = Case::new(&format!("{d} to {}", table.dtype()), Op::Lookup, &[map(2, 3, 66, d)]);
            case.params.weight = Some(table);
            case
        };
        packed
            .chain([DType::U8, DType::I8, DType::U8, DType::U8, DType::I8])
            .enumerate()
            .map(&mut case)
            .collect()
    }
}
