//! Float dense layer: `out[n] = (sum over i of w[n][i] * x[i]) + bias[n]`.
//!
//! `x` is read in `(h, w, c)` order. It runs as a [`super::Conv2d`] whose window covers the whole map,
//! with the same order of operations.

use super::{Conv2d, Window};
use crate::types::Shape;

/// The convolution that computes the same.
pub const fn as_conv(input: Shape) -> Conv2d {
    Conv2d { window: Window::whole(input), groups: 1, pad_value: 0.0 }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::as_conv;
    use crate::cases::{Case, Rng, map};
    use crate::model::{Error, Params, Tensor};
    use crate::ops::{Op, conv2d};
    use crate::reference::Values;
    use crate::types::{DType, Quant, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        if let Some(w) = params.weight.as_ref().filter(|w| w.cols != x.shape.elements()) {
            return Err(Error(format!("takes {} inputs, but gets {}", w.cols, x.shape.elements())));
        }
        conv2d::infer(&as_conv(x.shape), x, params)
    }

    /// The specification.
    pub fn reference(x: ValueType, v: &Values, params: &Params<Tensor<'_>>, out: ValueType) -> Values {
        conv2d::reference(&as_conv(x.shape), x, v, params, out)
    }

    /// Sizes, with and without bias, with stored bits as weights.
    pub fn cases() -> Vec<Case> {
        let mut rng = Rng::new(7);
        let mut cases = Vec::new();
        for (x, n) in [(map(1, 1, 100, DType::F32), 10), (map(2, 3, 5, DType::F32), 33)] {
            let k = x.shape.elements();
            for packed in [false, true] {
                let mut case = Case::new(&format!("{x} to {n}, packed {packed}"), Op::Dense, &[x]);
                case.params.weight = Some(if packed {
                    rng.weights(n, k, Quant::BIT)
                } else {
                    Tensor::f32_matrix(n, k, rng.floats(n * k, -1.0, 1.0))
                });
                case.params.bias = packed.then(|| Tensor::f32(rng.floats(n, -1.0, 1.0)));
                cases.push(case);
            }
        }
        cases
    }
}
