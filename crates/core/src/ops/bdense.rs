//! Dense layer of integer activations with 1- to 8-bit weights.
//!
//! ```text
//! acc[n] = sum over i of w[n][i] * x[i];  out = transform(acc)
//! ```
//! `x` is read in `(h, w, c)` order: a dense layer is a [`super::BConv2d`] whose window covers the
//! whole map, and that is how it runs.

use super::{BConv2d, Window};
use crate::types::{DType, Shape};

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct BDense {
    /// Output format, as in [`BConv2d::output`].
    pub output: DType,
}

impl BDense {
    /// The convolution that computes the same.
    pub const fn as_conv(&self, input: Shape) -> BConv2d {
        BConv2d { window: Window::whole(input), groups: 1, pad_value: 0, output: self.output }
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::cases::{Case, Rng, map};
    use crate::model::{Error, Params, Tensor};
    use crate::ops::{Op, bconv2d};
    use crate::reference::Values;
    use crate::types::{Encoding, Quant, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(d: &BDense, x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        if let Some(w) = params.weight.as_ref().filter(|w| w.cols != x.shape.elements()) {
            return Err(Error(format!("takes {} inputs, but gets {}", w.cols, x.shape.elements())));
        }
        bconv2d::infer(&d.as_conv(x.shape), x, params)
    }

    /// The specification.
    pub fn reference(
        d: &BDense,
        x: ValueType,
        v: &Values,
        params: &Params<Tensor<'_>>,
        out: ValueType,
    ) -> Values {
        bconv2d::reference(&d.as_conv(x.shape), x, v, params, out)
    }

    /// Sizes and formats that must equal the reference.
    pub fn cases() -> Vec<Case> {
        let mut rng = Rng::new(2);
        let mut cases = Vec::new();
        let formats = [Quant::BIT, Quant::TERNARY, Quant::new(2, Encoding::Unsigned)];
        for (x, n) in [((1, 1, 784), 100), ((1, 1, 1), 1), ((4, 4, 64), 17), ((3, 5, 7), 65)] {
            for q in formats {
                for output in [DType::I32, DType::F32, DType::BIT, DType::Bits(Quant::TERNARY)] {
                    let x = map(x.0, x.1, x.2, DType::Bits(q));
                    let name = format!("{} to {n} {output}", x);
                    let mut case = Case::new(&name, Op::BDense(BDense { output }), &[x]);
                    case.params.weight = Some(rng.weights(n, x.shape.elements(), Quant::BIT));
                    bconv2d::random_transform(&mut rng, &mut case.params, output, n, 20);
                    cases.push(case);
                }
            }
        }
        let two = DType::Bits(Quant::new(2, Encoding::Unsigned));
        for (x, wq) in [(DType::U8, Quant::BIT), (DType::I8, Quant::BIT), (two, Quant::TERNARY)] {
            let op = Op::BDense(BDense { output: DType::I32 });
            let mut case = Case::new(&format!("{} on {x}", DType::Bits(wq)), op, &[map(1, 1, 300, x)]);
            case.params.weight = Some(rng.weights(9, 300, wq));
            cases.push(case);
        }
        cases.push(beyond_floats());
        cases
    }

    /// Accumulators of more than 24 bits, compared with thresholds one apart: floats would round both.
    fn beyond_floats() -> Case {
        let (k, eight) = (1100, Quant::new(8, Encoding::Signed));
        let largest = k as i32 * eight.max() * eight.max();
        let output = DType::Bits(Quant::TERNARY);
        let x = map(1, 1, k, DType::Bits(eight));
        let mut case = Case::new("beyond 24 bits", Op::BDense(BDense { output }), &[x]);
        case.params.weight = Some(Tensor::bits(5, k, eight, |_, _| eight.max()));
        let thresholds = (-2..3).flat_map(|t| [largest + t, largest + t + 1]).collect();
        case.params.thresholds = Some(Tensor::i32_matrix(5, 2, thresholds));
        case
    }
}
