//! An integer for each level of packed integers: `out = table[level]`, where level 0 is the smallest value of the format.
//!
//! The table is `i32`, in the role `weight`, as long as the format has levels; ternary numbers have none. It holds
//! functions of codes, however uneven, and the terms of fixed-point sums, which need more bits than a float has.
//! Source: the tables of 8-bit activations in TensorFlow Lite.

use crate::bits;
use crate::types::{DType, Encoding, ValueType};

/// One image of type `ty`. Compiled once: no instruction set has tables of this length.
#[inline(never)]
pub fn run(ty: ValueType, table: &[i32], x: &[u64], out: &mut [u64]) {
    let DType::Bits(quant) = ty.dtype else { return };
    // Levels of signed numbers are their codes with the top bit inverted.
    let flip = if quant.encoding == Encoding::Signed { table.len() / 2 } else { 0 };
    let (out, c): (&mut [i32], usize) = (bytemuck::cast_slice_mut(out), ty.shape.c);
    let (words, planes) = (bits::words(c), quant.planes());
    for (pixel, out) in x.chunks_exact(words * planes).zip(out.chunks_mut(c)) {
        for (i, o) in out.iter_mut().enumerate() {
            let bit = |p: usize| (pixel[p * words + i / 64] >> (i % 64) & 1) as usize;
            *o = table[(0..planes).rev().fold(0, |code, p| code << 1 | bit(p)) ^ flip];
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
    use crate::types::{DType, Encoding, Quant, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        let table = params.weight.as_ref().and_then(Tensor::as_i32).map_or(0, <[i32]>::len);
        match x.dtype {
            DType::Bits(q) if q.levels() == table && table.is_power_of_two() => {
                Ok(ValueType::new(x.shape, DType::I32))
            }
            _ => Err("needs bits and a table of their levels".into()),
        }
    }

    /// The specification.
    pub fn reference(x: ValueType, v: &Values, params: &Params<Tensor<'_>>) -> Values {
        let quant = x.dtype.quant().expect("checked by infer");
        let table = params.weight.as_ref().and_then(Tensor::as_i32).expect("checked by infer");
        let level = |v: &i32| (0..quant.levels()).position(|i| quant.value_of_level(i) == *v);
        Values::Int(v.int().iter().map(|v| table[level(v).expect("the format has this value")]).collect())
    }

    /// Every format.
    pub fn cases() -> Vec<Case> {
        let mut rng = Rng::new(28);
        let packed = formats().into_iter().filter(|q| *q != Quant::TERNARY).map(DType::Bits);
        let mut case = |name: &str, d: DType, largest: f32| {
            let levels = d.quant().map_or(0, Quant::levels);
            let table = rng.floats(levels, -largest, largest).into_iter().map(|v| v as i32).collect();
            let mut case = Case::new(&format!("{d}{name}"), Op::Lookup, &[map(2, 3, 66, d)]);
            case.params.weight = Some(Tensor::i32_matrix(1, levels, table));
            case
        };
        let mut cases: Vec<Case> = packed.map(|d| case("", d, 1e7)).collect();
        cases.push(case(", beyond floats", DType::Bits(Quant::new(4, Encoding::Unsigned)), 1e9));
        cases
    }
}
