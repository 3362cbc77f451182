//! The layer with Burn's ops.

use super::LinearOp;
use crate::layer::Weights;
use crate::ops::act::{plain_sign, straight_through};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

/// The quantised weights, with the gradient of the table in [`super`].
pub fn quantized(weights: Weights, w: Tensor<4>) -> Tensor<4> {
    let [n, kh, kw, c] = w.dims();
    let mean = |t: Tensor<4>| t.reshape([n, kh * kw * c]).mean_dim(1).reshape([n, 1, 1, 1]);
    match weights {
        Weights::Default | Weights::Float => w,
        Weights::Sign(estimator) => plain_sign(estimator, w),
        Weights::Magnitude => {
            let scale = mean(w.clone().detach().abs());
            plain_sign(crate::layer::Estimator::Clip(1.0), w) * scale
        }
        Weights::Xnor => {
            let scale = mean(w.clone().abs());
            plain_sign(crate::layer::Estimator::Clip(1.0), w) * scale
        }
        Weights::Ternary => {
            let fixed = w.clone().detach();
            let delta = mean(fixed.clone().abs()) * 0.7;
            let large = fixed.clone().abs().greater(delta).float();
            let scale = mean(fixed.clone().abs() * large.clone()) / mean(large.clone()).clamp_min(1e-12);
            let sign = fixed.greater_equal_elem(0.0).float() * 2.0 - 1.0;
            straight_through(sign * large * scale, w.clamp(-1.0, 1.0))
        }
        Weights::Dorefa(bits) => {
            let levels = crate::weights::levels(bits);
            let t = w.tanh();
            let max = t.clone().detach().abs().max().reshape([1, 1, 1, 1]).clamp_min(f32::MIN_POSITIVE);
            let share = t / (max * 2.0) + 0.5;
            let value = (share.clone().detach() * levels).round() * (2.0 / levels) - 1.0;
            straight_through(value, share * 2.0 - 1.0)
        }
    }
}

/// `y` of [`LinearOp`], differentiable.
pub fn plain(op: &LinearOp, x: Tensor<4>, w: &Tensor<4>, bias: Option<&Tensor<4>>) -> Tensor<4> {
    let w = quantized(op.linear.weights, w.clone());
    let [n, h, width, c] = x.dims();
    let y = if op.is_dense() {
        let filters = op.output.c;
        let y = x.reshape([n, h * width * c]).matmul(w.reshape([filters, h * width * c]).transpose());
        y.reshape([n, 1, 1, filters])
    } else {
        let window = op.linear.window;
        let [top, left, bottom, right] = window.pad;
        let x = x.permute([0, 3, 1, 2]).pad((left, right, top, bottom), op.pad_value());
        let options = ConvOptions::new(window.stride, [0, 0], window.dilation, op.linear.groups);
        conv2d(x, w.permute([0, 3, 1, 2]), None, options).permute([0, 2, 3, 1])
    };
    match bias {
        Some(bias) => y + bias.clone(),
        None => y,
    }
}
