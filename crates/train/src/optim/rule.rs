//! What an optimiser's rule is: the same formula twice, as tensor operations and as one pass over slices.

use super::host::Lane;
use burn::tensor::Tensor;

/// One step of one parameter.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Factor of the learning rate, from the schedule.
    pub factor: f64,
    /// Number of this step for this parameter, from 1.
    pub count: u64,
    /// The new value is clipped to `+-` this; infinite where nothing is clipped.
    pub clip: f32,
}

impl Step {
    /// The learning rate of this step.
    pub fn rate(self, rate: f32) -> f32 {
        (f64::from(rate) * self.factor) as f32
    }
}

/// An optimiser for one parameter, with all its constants.
pub trait Rule: Send + Sync {
    /// Names of the tensors of the parameter's shape that it keeps from step to step, all 0 at first; two at most.
    fn moments(&self) -> &'static [&'static str];

    /// The step in tensor operations: the specification, and what runs on GPUs. Replaces the moments and gives the new value.
    fn tensors(
        &self,
        step: Step,
        value: Tensor<4>,
        gradient: Tensor<4>,
        moments: &mut [Tensor<4>],
    ) -> Tensor<4>;

    /// The same step over a part of the numbers, in place. Its operations are those of `tensors` in the same order, so that the
    /// results are the same but for the rounding of constants.
    fn fused(&self, step: Step, lane: Lane<'_>);
}
