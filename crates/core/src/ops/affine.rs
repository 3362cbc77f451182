//! `(x - center) * scale + bias` per channel: BatchNorm with running statistics, or a bias.
//!
//! Each of the three steps is rounded to f32; a missing constant is 0, 1 or 0. Integers are converted
//! first. BatchNorm is `center = mean`, `scale = gamma / sqrt(variance + eps)`, `bias = beta`.

#[cfg(feature = "alloc")]
pub use with_alloc::*;

use super::transform::affine;

/// One image of `[pixel][c]` numbers.
#[inline(always)]
pub fn run<X: Copy>(
    x: &[X],
    widen: impl Fn(X) -> f32,
    center: &[f32],
    scale: &[f32],
    bias: &[f32],
    out: &mut [f32],
) {
    let c = center.len();
    for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
        let constants = center.iter().zip(scale).zip(bias);
        for ((o, x), ((center, scale), bias)) in out.iter_mut().zip(x).zip(constants) {
            *o = affine(widen(*x), *center, *scale, *bias);
        }
    }
}

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::affine;
    use crate::cases::{Case, Rng, map};
    use crate::model::{Error, Params, Tensor, per_channel};
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        if !matches!(x.dtype, DType::F32 | DType::I32) {
            return Err(Error(format!("needs f32 or i32 input, not {}", x.dtype)));
        }
        for (role, t) in params.each() {
            per_channel(role, Some(t), x.shape)?;
        }
        Ok(ValueType::new(x.shape, DType::F32))
    }

    /// The specification.
    pub fn reference(x: ValueType, v: &Values, params: &Params<Tensor<'_>>) -> Values {
        let constant = |t: &Option<Tensor<'_>>, c: usize, default| {
            t.as_ref().and_then(|t| t.as_f32()).map_or(default, |t| t[c])
        };
        let one = |(i, v): (usize, f32)| {
            let c = i % x.shape.c;
            let center = constant(&params.center, c, 0.0);
            affine(v, center, constant(&params.scale, c, 1.0), constant(&params.bias, c, 0.0))
        };
        Values::F32(v.to_f32().into_iter().enumerate().map(one).collect())
    }

    /// All subsets of the constants.
    pub fn cases() -> Vec<Case> {
        let mut rng = Rng::new(4);
        let mut cases = Vec::new();
        for subset in 0..8 {
            for dtype in [DType::F32, DType::I32] {
                let name = format!("{dtype}, constants {subset:03b}");
                let mut case = Case::new(&name, Op::Affine, &[map(3, 4, 37, dtype)]);
                let mut random =
                    |bit: usize| (subset >> bit & 1 == 1).then(|| Tensor::f32(rng.floats(37, -3.0, 3.0)));
                case.params =
                    Params { center: random(0), scale: random(1), bias: random(2), ..Params::default() };
                cases.push(case);
            }
        }
        cases
    }
}
