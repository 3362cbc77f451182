//! A number for each level of an integer: `out = table[level]`, where level 0 is the smallest value of the input's format.
//!
//! The table is one row, in the role `weight`, as long as the format has levels; the output has its format, `f32` or
//! `i32`. It holds functions of codes that neither rise nor fall evenly, and the terms of fixed-point sums, which need
//! more bits than a float has. Source: the tables of 8-bit activations in TensorFlow Lite.

/// One image of bytes; `level` makes a place in the table of each. Elements are the bits of floats or integers.
#[inline(always)]
pub fn run<X: Copy>(x: &[X], level: impl Fn(X) -> u8, table: &[u32], out: &mut [u32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = table[usize::from(level(*x))];
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
        let Some(quant) = x.dtype.quant() else {
            return Err(Error(format!("needs bits or bytes as input, not {}", x.dtype)));
        };
        match &params.weight {
            Some(t) if matches!(t.dtype(), DType::Bits(_)) => Err("needs a table of f32 or i32".into()),
            Some(t) if (t.rows, t.cols) == (1, quant.levels()) => Ok(ValueType::new(x.shape, t.dtype())),
            _ => Err(Error(format!("needs a table of 1 x {}", quant.levels()))),
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
        packed.chain([DType::U8, DType::I8, DType::U8, DType::U8, DType::I8]).enumerate().map(&mut case).collect()
    }
}
