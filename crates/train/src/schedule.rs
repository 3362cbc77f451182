//! The learning rate over time, in closed form: a run that is continued needs no state for it.

use crate::recipe::Schedule;
use std::f64::consts::PI;

/// Factor of the learning rate for one step.
///
/// `step` counts from 0 to `steps - 1` over the whole run. In the first `warmup * steps` steps the factor rises in equal parts,
/// the first step having one part; the schedule covers the steps that are left, so that warming up takes nothing from its
/// start. Only the epochs of [`Schedule::Steps`] are counted from the beginning of the run. A step beyond the end has the
/// factor of the end.
pub fn factor(schedule: &Schedule, warmup: f32, step: usize, steps: usize, steps_per_epoch: usize) -> f64 {
    let rising = (f64::from(warmup) * steps as f64).round();
    let ramp = ((step as f64 + 1.0) / (rising + 1.0)).min(1.0);
    // 0 at the first step after the warm-up, 1 after the last step.
    let done = ((step as f64 - rising) / (steps as f64 - rising).max(1.0)).clamp(0.0, 1.0);
    let falling = match schedule {
        Schedule::Constant => 1.0,
        Schedule::Cosine => 0.5 * (1.0 + (PI * done).cos()),
        Schedule::Linear => 1.0 - done,
        Schedule::Exponential { last } => f64::from(*last).powf(done),
        Schedule::Steps { epochs, factor } => {
            let epoch = step / steps_per_epoch.max(1);
            epochs.iter().filter(|e| **e <= epoch).map(|_| f64::from(*factor)).product()
        }
    };
    ramp * falling
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-7, "{a} is not {b}");
    }

    #[test]
    fn ends_and_middle() {
        let at = |s: &Schedule, step| factor(s, 0.0, step, 100, 10);
        for s in [Schedule::Cosine, Schedule::Linear] {
            near(at(&s, 0), 1.0);
            near(at(&s, 50), 0.5);
            near(at(&s, 100), 0.0);
            near(at(&s, 1000), 0.0);
            assert!(at(&s, 99) > 0.0, "the last step does something");
        }
        near(at(&Schedule::Cosine, 25), 0.5 + 0.5 * 0.5f64.sqrt());
        near(at(&Schedule::Linear, 25), 0.75);
        near(at(&Schedule::Constant, 99), 1.0);
        let s = Schedule::Exponential { last: 0.01 };
        near(at(&s, 0), 1.0);
        near(at(&s, 50), 0.1);
        near(at(&s, 100), 0.01);
    }

    #[test]
    fn steps_fall_at_the_start_of_their_epochs() {
        let s = Schedule::Steps { epochs: vec![3, 7], factor: 0.1 };
        for (step, expected) in [(0, 1.0), (29, 1.0), (30, 0.1), (69, 0.1), (70, 0.01), (99, 0.01)] {
            near(factor(&s, 0.0, step, 100, 10), expected);
        }
    }

    #[test]
    fn warm_up_rises_to_the_start_of_the_schedule() {
        let at = |step| factor(&Schedule::Linear, 0.1, step, 100, 10);
        near(at(0), 1.0 / 11.0);
        near(at(4), 5.0 / 11.0);
        near(at(10), 1.0);
        near(at(55), 0.5);
        near(at(100), 0.0);
        // Epochs are those of the run, whatever the warm-up.
        let s = Schedule::Steps { epochs: vec![1], factor: 0.5 };
        near(factor(&s, 0.2, 9, 100, 10), 10.0 / 21.0);
        near(factor(&s, 0.2, 10, 100, 10), 0.5 * 11.0 / 21.0);
    }

    #[test]
    fn a_run_without_steps_has_a_factor() {
        for s in [Schedule::Cosine, Schedule::Exponential { last: 0.1 }] {
            assert!(factor(&s, 0.5, 0, 0, 0).is_finite());
        }
    }
}
