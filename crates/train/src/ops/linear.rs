//! Convolutions and dense layers with quantised weights.
//!
//! ```text
//! y[p][f] = sum over taps t and channels c of  q(w)[f][t][c] * x[pixel(p, t)][c]  + bias[f]
//! dx      = transposed convolution of dy with q(w)
//! dw      = q'(w) * sum over pixels p of  dy[p][f] * x[pixel(p, t)][c]
//! ```
//! `q` is the quantiser of the latent weights (see [`crate::weights`]) and `q'` its estimator:
//!
//! | weights | `q'` |
//! |---|---|
//! | sign | of the [`Estimator`](crate::layer::Estimator) |
//! | xnor | `scale` where `|w| <= 1`, and the derivative of `scale = mean |w|` |
//! | magnitude | `scale` where `|w| <= 1` |
//! | ternary | 1 where `|w| <= 1` |
//! | dorefa | `(1 - tanh(w)^2) / max |tanh|`, the maximum taken for a constant |
//!
//! On the CPU the forward pass is the engine's own: bits and bytes on its integer kernels, floats in its order of
//! summation, so that training computes what the exported network will. The backward pass is float matrix products.

mod backward;
mod forward;
mod gradient;
mod plain;

use super::host::{self, BackwardPass, HostOp, Numbers};
use crate::network::Linear;
use burn::tensor::Tensor;
use onebit::core::types::{Quant, Shape};
use std::sync::Arc;

pub use plain::plain;

/// A layer with everything that is known before the numbers.
#[derive(Clone, Debug)]
pub struct LinearOp {
    /// Attributes.
    pub linear: Linear,
    /// Shape of an input picture.
    pub input: Shape,
    /// Shape of an output picture.
    pub output: Shape,
    /// Pictures.
    pub batch: usize,
    /// Inputs are these integers times this scale, or floats.
    pub levels: Option<(Quant, f32)>,
}

impl LinearOp {
    /// Weights of a filter.
    fn taps(&self) -> usize {
        self.linear.window.taps() * self.input.c / self.linear.groups
    }
    /// Whether every filter sees the whole picture: then pictures are the rows of one matrix product.
    fn is_dense(&self) -> bool {
        self.linear.groups == 1 && self.linear.window.covers(self.input)
    }
    fn is_depthwise(&self) -> bool {
        self.linear.groups == self.input.c && self.linear.groups == self.output.c
    }
    /// Value of the padding.
    fn pad_value(&self) -> f32 {
        self.levels.map_or(0.0, |(_, scale)| f32::from(self.linear.pad_value) * scale)
    }
    /// Pictures of a task of a dense layer: its rows have nothing to do with each other.
    fn rows(&self) -> usize {
        self.batch.div_ceil(rayon::current_num_threads())
    }
    /// Pictures that one task works on: the sums of gradients are made task by task, so that it must not depend on the
    /// number of threads.
    fn task(&self) -> usize {
        self.batch.div_ceil(8)
    }
}

impl HostOp for LinearOp {
    fn shape(&self) -> [usize; 4] {
        [self.batch, self.output.h, self.output.w, self.output.c]
    }

    fn run(&self, [x, w, bias]: [Numbers; 3], backward: bool) -> (Vec<f32>, Option<BackwardPass>) {
        let y = forward::forward(self, &x, &w, self.linear.bias.then_some(&bias));
        if !backward {
            return (y, None);
        }
        let op = self.clone();
        let pass: BackwardPass = Arc::new(move |dy, [want_x, want_w, want_bias]| {
            let dx = want_x.then(|| {
                let real = crate::weights::real_weights(op.linear.weights, &w, op.output.c);
                backward::inputs(&op, dy, &real)
            });
            let dw = want_w.then(|| {
                let dq = backward::weights(&op, dy, &x);
                gradient::of_latent(op.linear.weights, &w, dq, op.output.c)
            });
            [dx, dw, want_bias.then(|| super::norm::sums(dy, op.output.c))]
        });
        (y, Some(pass))
    }
}

/// The layer on the CPU. `w` is `[filters, ky, kx, c]`, `bias` is `[1, 1, 1, filters]`.
pub fn fused(op: LinearOp, x: Tensor<4>, w: &Tensor<4>, bias: Option<&Tensor<4>>) -> Tensor<4> {
    match bias {
        Some(bias) => host::apply(op, x, &[w, bias]),
        None => host::apply(op, x, &[w]),
    }
}
