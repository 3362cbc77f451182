//! What is minimised, as tensors that Burn differentiates.

use crate::recipe::Loss;
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Int, Tensor};

/// Mean loss of a batch: `logits` is `[pictures, classes]`, `labels` one number below `classes` for each picture.
pub fn loss(kind: Loss, logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [pictures, classes] = logits.dims();
    match kind {
        Loss::CrossEntropy { smoothing } => {
            let log = log_softmax(logits, 1);
            let right = log.clone().gather(1, labels.reshape([pictures, 1])).mean();
            if smoothing == 0.0 {
                return right.neg();
            }
            // The target is 1 - smoothing for the right class, and smoothing / classes more for every class (Szegedy et al. 2016).
            (right * (1.0 - smoothing) + log.mean() * smoothing).neg()
        }
        Loss::SquaredHinge {} => {
            let class = Tensor::<1, Int>::arange(0..classes as i64, &labels.device());
            let right = labels.reshape([pictures, 1]).equal(class.reshape([1, classes]));
            let target = right.float() * 2.0 - 1.0;
            let short = relu((target * logits).neg() + 1.0);
            (short.clone() * short).mean()
        }
    }
}

/// How far the outputs of a network, `[pictures, classes]`, are from its teacher's: `T^2 KL(teacher || student)` of the softmax
/// at temperature `T`, mean over the batch (Hinton et al. 2015). The factor keeps gradients alike for all temperatures; none
/// flow into the teacher.
pub fn distillation(logits: Tensor<2>, teacher_logits: Tensor<2>, temperature: f32) -> Tensor<1> {
    let student = log_softmax(logits / temperature, 1);
    let teacher = log_softmax(teacher_logits.detach() / temperature, 1);
    let divergence = (teacher.clone().exp() * (teacher - student)).sum_dim(1).mean();
    divergence * (temperature * temperature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    const LOGITS: [[f32; 4]; 3] = [[0.5, -1.2, 2.0, 0.1], [-0.3, 0.9, 0.4, -2.0], [1.5, 1.4, -0.6, 0.8]];
    const TEACHER: [[f32; 4]; 3] = [[1.5, -0.2, 1.0, 0.3], [-1.3, 0.2, 2.4, 0.0], [0.5, 2.4, -1.6, 0.1]];
    const LABELS: [i64; 3] = [2, 0, 1];
    const LOSSES: [Loss; 3] =
        [Loss::CrossEntropy { smoothing: 0.0 }, Loss::CrossEntropy { smoothing: 0.2 }, Loss::SquaredHinge {}];

    fn labels() -> Tensor<1, Int> {
        Tensor::from_data(LABELS, &Device::flex())
    }

    /// The loss of logits and its gradient.
    fn run(logits: Vec<f32>, f: impl Fn(Tensor<2>) -> Tensor<1>) -> (f64, Vec<f32>) {
        let data = TensorData::new(logits, [3, 4]);
        let x = Tensor::<2>::from_data(data, &Device::flex().autodiff()).require_grad();
        let loss = f(x.clone());
        let gradients = loss.backward();
        let gradient = x.grad(&gradients).unwrap().into_data().try_into_vec::<f32>().unwrap();
        (f64::from(loss.into_scalar::<f32>()), gradient)
    }

    fn softmax(x: &[f64]) -> Vec<f64> {
        let sum: f64 = x.iter().map(|v| v.exp()).sum();
        x.iter().map(|v| v.exp() / sum).collect()
    }
    fn wide(x: &[f32], by: f64) -> Vec<f64> {
        x.iter().map(|v| f64::from(*v) / by).collect()
    }

    /// Loss and gradient of a picture by the formulas of the papers.
    fn expected(kind: Loss, x: &[f32], label: usize) -> (f64, Vec<f64>) {
        let x = wide(x, 1.0);
        let n = x.len() as f64;
        match kind {
            Loss::CrossEntropy { smoothing } => {
                let s = f64::from(smoothing);
                let p = softmax(&x);
                let target = |k| s / n + if k == label { 1.0 - s } else { 0.0 };
                let loss = (0..x.len()).map(|k| -target(k) * p[k].ln()).sum();
                (loss, (0..x.len()).map(|k| p[k] - target(k)).collect())
            }
            Loss::SquaredHinge {} => {
                let t = |k| if k == label { 1.0 } else { -1.0 };
                let short = |k: usize| (1.0 - t(k) * x[k]).max(0.0);
                let loss = (0..x.len()).map(|k| short(k) * short(k)).sum::<f64>() / n;
                (loss, (0..x.len()).map(|k| -2.0 * t(k) * short(k) / n).collect())
            }
        }
    }

    fn near(a: f64, b: f64, what: &str) {
        assert!((a - b).abs() < 2e-6 * b.abs().max(1.0), "{what}: {a} is not {b}");
    }

    #[test]
    fn losses_and_gradients_are_the_papers() {
        for kind in LOSSES {
            let (found, gradient) = run(LOGITS.concat(), |x| loss(kind, x, labels()));
            let all: Vec<_> =
                LOGITS.iter().zip(LABELS).map(|(x, label)| expected(kind, x, label as usize)).collect();
            near(found, all.iter().map(|e| e.0).sum::<f64>() / 3.0, "loss");
            let wanted = all.iter().flat_map(|e| &e.1).map(|g| g / 3.0);
            for (a, b) in gradient.iter().zip(wanted) {
                near(f64::from(*a), b, "gradient");
            }
        }
    }

    #[test]
    fn distillation_is_the_divergence() {
        let teacher = || Tensor::<2>::from_data(TEACHER, &Device::flex());
        let t = 3.0;
        let (found, gradient) = run(LOGITS.concat(), |x| distillation(x, teacher(), t as f32));
        let mut wanted = 0.0;
        for (i, (x, y)) in LOGITS.iter().zip(&TEACHER).enumerate() {
            let (p, q) = (softmax(&wide(y, t)), softmax(&wide(x, t)));
            wanted += p.iter().zip(&q).map(|(p, q)| t * t * p * (p / q).ln()).sum::<f64>() / 3.0;
            for k in 0..4 {
                near(f64::from(gradient[4 * i + k]), t * (q[k] - p[k]) / 3.0, "gradient");
            }
        }
        near(found, wanted, "loss");
        let (same, gradient) = run(TEACHER.concat(), |x| distillation(x, teacher(), 2.0));
        near(same, 0.0, "loss of the teacher itself");
        assert!(gradient.iter().all(|g| g.abs() < 1e-6));
    }

    #[test]
    fn teachers_do_not_learn() {
        let leaf = |x| Tensor::<2>::from_data(x, &Device::flex().autodiff()).require_grad();
        let (student, teacher) = (leaf(LOGITS), leaf(TEACHER));
        let gradients = distillation(student.clone(), teacher.clone(), 2.0).backward();
        assert!(student.grad(&gradients).is_some() && teacher.grad(&gradients).is_none());
    }

    #[test]
    fn gradients_are_slopes() {
        let teacher = || Tensor::<2>::from_data(TEACHER, &Device::flex());
        let check = |f: &dyn Fn(Tensor<2>) -> Tensor<1>| {
            let (_, gradient) = run(LOGITS.concat(), f);
            for (i, g) in gradient.iter().enumerate() {
                let moved = |by: f32| {
                    let mut x = LOGITS.concat();
                    x[i] += by;
                    run(x, f).0
                };
                let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((slope - f64::from(*g)).abs() < 1e-4, "{i}: {slope} is not {g}");
            }
        };
        for kind in LOSSES {
            check(&|x| loss(kind, x, labels()));
        }
        check(&|x| distillation(x, teacher(), 1.5));
    }

    #[test]
    fn extreme_logits_give_finite_results() {
        for size in [1e4f32, 1e18] {
            let x: Vec<f32> = (0..12).map(|i| [size, -size, 0.0][i % 3]).collect();
            let teacher =
                || Tensor::<2>::from_data(TensorData::new(x.clone(), [3, 4]), &Device::flex()).neg();
            let mut all: Vec<_> =
                LOSSES.iter().map(|kind| run(x.clone(), |x| loss(*kind, x, labels()))).collect();
            all.push(run(x.clone(), |x| distillation(x, teacher(), 2.0)));
            for (loss, gradient) in all {
                assert!(
                    loss.is_finite() && gradient.iter().all(|g| g.is_finite()),
                    "{size}: {loss} {gradient:?}"
                );
            }
        }
    }
}
