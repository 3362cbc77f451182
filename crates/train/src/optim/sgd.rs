//! Gradient descent with momentum (Sutskever et al. 2013), in PyTorch's form.

use super::host::Lane;
use super::rule::{Rule, Step};
use burn::tensor::Tensor;

/// With `g` the gradient,
///
/// ```text
/// g <- g + decay w
/// m <- momentum m + g
/// w <- w - rate m                      or, after Nesterov, w - rate (g + momentum m)
/// ```
///
/// The rate is outside of the momentum: where a schedule lowers it, the whole step becomes smaller at once.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    pub rate: f32,
    pub momentum: f32,
    pub decay: f32,
    pub nesterov: bool,
}

impl Rule for Sgd {
    fn moments(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum"] }
    }

    fn tensors(
        &self,
        step: Step,
        value: Tensor<4>,
        gradient: Tensor<4>,
        moments: &mut [Tensor<4>],
    ) -> Tensor<4> {
        let mut by = gradient + value.clone() * self.decay;
        if let [mean] = moments {
            *mean = mean.clone() * self.momentum + by.clone();
            by = if self.nesterov { by + mean.clone() * self.momentum } else { mean.clone() };
        }
        value - by * step.rate(self.rate)
    }

    fn fused(&self, step: Step, lane: Lane<'_>) {
        let Sgd { momentum, decay, .. } = *self;
        let (rate, clip) = (step.rate(self.rate), step.clip);
        let [mean, _] = lane.moments;
        let numbers = lane.value.iter_mut().zip(lane.gradient);
        if momentum == 0.0 {
            numbers.for_each(|(w, g)| *w = (*w - (g + *w * decay) * rate).clamp(-clip, clip));
        } else if self.nesterov {
            for ((w, g), m) in numbers.zip(mean) {
                let g = g + *w * decay;
                *m = *m * momentum + g;
                *w = (*w - (g + *m * momentum) * rate).clamp(-clip, clip);
            }
        } else {
            for ((w, g), m) in numbers.zip(mean) {
                *m = *m * momentum + (g + *w * decay);
                *w = (*w - *m * rate).clamp(-clip, clip);
            }
        }
    }
}
