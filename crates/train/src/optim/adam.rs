//! Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).

use super::host::Lane;
use super::rule::{Rule, Step};
use burn::tensor::Tensor;

/// With `g` the gradient and `t` the number of the step,
///
/// ```text
/// m <- beta1 m + (1 - beta1) g            v <- beta2 v + (1 - beta2) g^2
/// w <- w - rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + decay w)
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    pub rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Times the learning rate, as in PyTorch and Keras.
    pub decay: f32,
}

/// What is the same for all numbers of a step, computed with double precision.
struct Constants {
    new1: f32,
    new2: f32,
    /// `rate / (1 - beta1^t)`.
    rate: f32,
    /// `1 / sqrt(1 - beta2^t)`.
    root: f32,
    /// Share of the value that the decay leaves.
    keep: f32,
}

impl Adam {
    fn constants(&self, step: Step) -> Constants {
        let [beta1, beta2] = [self.beta1, self.beta2].map(f64::from);
        let count = step.count as f64;
        let rate = f64::from(self.rate) * step.factor;
        Constants {
            new1: (1.0 - beta1) as f32,
            new2: (1.0 - beta2) as f32,
            rate: (rate / (1.0 - beta1.powf(count))) as f32,
            root: (1.0 / (1.0 - beta2.powf(count)).sqrt()) as f32,
            keep: (1.0 - rate * f64::from(self.decay)) as f32,
        }
    }
}

impl Rule for Adam {
    fn moments(&self) -> &'static [&'static str] {
        &["mean", "square"]
    }

    fn tensors(
        &self,
        step: Step,
        value: Tensor<4>,
        gradient: Tensor<4>,
        moments: &mut [Tensor<4>],
    ) -> Tensor<4> {
        let [mean, square] = moments else { unreachable!("as many as `moments` names") };
        let c = self.constants(step);
        *mean = mean.clone() * self.beta1 + gradient.clone() * c.new1;
        *square = square.clone() * self.beta2 + gradient.clone() * gradient * c.new2;
        let root = square.clone().sqrt() * c.root + self.eps;
        value * c.keep - mean.clone() * c.rate / root
    }

    fn fused(&self, step: Step, lane: Lane<'_>) {
        let c = self.constants(step);
        let Adam { beta1, beta2, eps, .. } = *self;
        let [mean, square] = lane.moments;
        let numbers = lane.value.iter_mut().zip(lane.gradient).zip(mean).zip(square);
        for (((w, g), m), v) in numbers {
            *m = *m * beta1 + g * c.new1;
            *v = *v * beta2 + g * g * c.new2;
            let root = v.sqrt() * c.root + eps;
            *w = (*w * c.keep - *m * c.rate / root).clamp(-step.clip, step.clip);
        }
    }
}
