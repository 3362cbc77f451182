//! Bop, the binary optimiser (Helwegen et al. 2019): weights are signs, and there is nothing behind them.

use super::host::Lane;
use super::rule::{Rule, Step};
use burn::tensor::Tensor;

/// With `g` the gradient, `m <- m + rate (g - m)`, and `w` becomes `-w` where `w m > threshold`: where the gradient has
/// pointed against the weight's sign for long enough. The schedule changes the rate, called gamma in the paper.
///
/// A value that is not yet `+-1` (as at the start) counts as its sign, 0 as +1. Clipping has no meaning here.
#[derive(Clone, Copy, Debug)]
pub struct Bop {
    pub rate: f32,
    pub threshold: f32,
}

impl Rule for Bop {
    fn moments(&self) -> &'static [&'static str] {
        &["mean"]
    }

    fn tensors(
        &self,
        step: Step,
        value: Tensor<4>,
        gradient: Tensor<4>,
        moments: &mut [Tensor<4>],
    ) -> Tensor<4> {
        let [mean] = moments else { unreachable!("as many as `moments` names") };
        *mean = mean.clone() + (gradient - mean.clone()) * step.rate(self.rate);
        let sign = value.greater_equal_elem(0.0).float() * 2.0 - 1.0;
        let flips = (sign.clone() * mean.clone()).greater_elem(self.threshold);
        sign.clone().mask_where(flips, sign.neg())
    }

    fn fused(&self, step: Step, lane: Lane<'_>) {
        let (rate, threshold) = (step.rate(self.rate), self.threshold);
        let [mean, _] = lane.moments;
        for ((w, g), m) in lane.value.iter_mut().zip(lane.gradient).zip(mean) {
            *m += (g - *m) * rate;
            let sign = if *w >= 0.0 { 1.0 } else { -1.0 };
            *w = if sign * *m > threshold { -sign } else { sign };
        }
    }
}
