//! `x >= 0 ? x : x * scale` per channel. Source: He et al. 2015; leaky ReLU is a constant scale.

/// One image of `[pixel][c]` floats.
#[inline(always)]
pub fn run(x: &[f32], scale: &[f32], out: &mut [f32]) {
    let c = scale.len();
    for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
        for ((o, x), scale) in out.iter_mut().zip(x).zip(scale) {
            *o = apply(*x, *scale);
        }
    }
}

/// Value at `x`.
#[inline(always)]
pub fn apply(x: f32, scale: f32) -> f32 {
    // The product of every number, also of those that do not need it: a choice of two is no branch.
    let product = x * scale;
    if x >= 0.0 { x } else { product }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::apply;
    use crate::cases::{Case, Rng, map};
    use crate::model::{Error, Params, Tensor, per_channel};
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::vec::Vec;

    /// Type of the output.
    pub fn infer(x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        if params.scale.is_none() {
            return Err("has no scale".into());
        }
        per_channel("scale", params.scale.as_ref(), x.shape)?;
        crate::ops::floats_only(x)
    }

    /// The specification.
    pub fn reference(x: ValueType, v: &Values, params: &Params<Tensor<'_>>) -> Values {
        let scale = params.scale.as_ref().and_then(|t| t.as_f32()).expect("checked by infer");
        let one = |(i, v): (usize, &f32)| apply(*v, scale[i % x.shape.c]);
        Values::F32(v.f32().iter().enumerate().map(one).collect())
    }

    /// Slopes of both signs.
    pub fn cases() -> Vec<Case> {
        let mut case = Case::new("19 channels", Op::Prelu, &[map(3, 4, 19, DType::F32)]);
        case.params.scale = Some(Tensor::f32(Rng::new(5).floats(19, -1.0, 1.0)));
        alloc::vec![case]
    }
}
