//! BatchNorm over the channels (Ioffe and Szegedy 2015).
//!
//! ```text
//! mean, variance = of the batch (in training), or running ones
//! h  = (x - mean) / sqrt(variance + eps)
//! y  = scale h + offset
//! dx = scale / sqrt(variance + eps) * (dy - mean(dy) - h mean(dy h))
//! dscale = sum(dy h),  doffset = sum(dy)
//! ```
//! Running statistics take the unbiased variance, as PyTorch's do. In evaluation `scale / sqrt(variance + eps)` is
//! computed in f64 and rounded once, as the exported network has it.

use super::host::{self, BackwardPass, HostOp, Numbers};
use super::vector;
use crate::layer::Norm;
use burn::tensor::Tensor;
use std::sync::{Arc, Mutex};

/// Mean and variance of each channel.
pub type Statistics = (Vec<f32>, Vec<f32>);

/// `gamma / sqrt(variance + eps)` in evaluation; a missing gamma is 1.
pub fn scale(eps: f32, gamma: Option<&[f32]>, variance: &[f32]) -> Vec<f32> {
    let root = |v: f32| (f64::from(v) + f64::from(eps)).sqrt();
    variance
        .iter()
        .enumerate()
        .map(|(c, v)| (gamma.map_or(1.0, |g| f64::from(g[c])) / root(*v)) as f32)
        .collect()
}

/// Sum of each channel.
pub fn sums(dy: &[f32], c: usize) -> Vec<f32> {
    let none = vec![0.0; c];
    let [sums] = vector::sums([dy, dy], [&none, &none], |[dy, _], _| [dy]);
    sums.into_iter().map(|s| s as f32).collect()
}

/// A BatchNorm in training, with a place for what it finds.
#[derive(Clone, Debug)]
struct NormOp {
    eps: f32,
    affine: bool,
    shape: [usize; 4],
    found: Arc<Mutex<Statistics>>,
}

/// Mean and biased variance of the batch, as f64 rounded once. A pivot keeps the squares small.
fn statistics(x: &[f32], c: usize) -> Statistics {
    let n = (x.len() / c) as f64;
    let pivot = &x[..c];
    let [sum, squares] = vector::sums([x, x], [pivot, pivot], |[x, _], [p, _]| [x - p, (x - p) * (x - p)]);
    let mut mean = Vec::with_capacity(c);
    let mut variance = Vec::with_capacity(c);
    for ((s, q), p) in sum.into_iter().zip(squares).zip(pivot) {
        mean.push((f64::from(*p) + s / n) as f32);
        variance.push((q / n - (s / n) * (s / n)).max(0.0) as f32);
    }
    (mean, variance)
}

impl HostOp for NormOp {
    fn shape(&self) -> [usize; 4] {
        self.shape
    }

    fn run(&self, [x, scale, offset]: [Numbers; 3], backward: bool) -> (Vec<f32>, Option<BackwardPass>) {
        let c = self.shape[3];
        let (mean, variance) = statistics(&x, c);
        let inverse: Vec<f32> =
            variance.iter().map(|v| (1.0 / (f64::from(*v) + f64::from(self.eps)).sqrt()) as f32).collect();
        let (gamma, beta) =
            if self.affine { (scale.to_vec(), offset.to_vec()) } else { (vec![1.0; c], vec![0.0; c]) };
        let factor: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let y = vector::channels([&x, &x], [&mean, &factor, &beta], |[x, _], [mean, factor, beta]| {
            (x - mean) * factor + beta
        });
        let n = (x.len() / c) as f64;
        let unbiased = if n > 1.0 { n / (n - 1.0) } else { 1.0 };
        let running = variance.iter().map(|v| (f64::from(*v) * unbiased) as f32).collect();
        *self.found.lock().expect("nothing panics with it") = (mean.clone(), running);
        if !backward {
            return (y, None);
        }
        let pass: BackwardPass = Arc::new(move |dy, [want_x, want_scale, want_offset]| {
            let [sum, dot] = vector::sums([dy, &x], [&mean, &inverse], |[dy, x], [mean, inverse]| {
                [dy, dy * (x - mean) * inverse]
            });
            let dx = want_x.then(|| {
                let at = |v: &[f64]| -> Vec<f32> { v.iter().map(|v| (v / n) as f32).collect() };
                let (sum, dot) = (at(&sum), at(&dot));
                let constants = [&mean[..], &inverse, &factor, &sum, &dot];
                vector::channels([dy, &x], constants, |[dy, x], [mean, inverse, factor, sum, dot]| {
                    factor * (dy - sum - (x - mean) * inverse * dot)
                })
            });
            let round = |v: &[f64]| v.iter().map(|v| *v as f32).collect();
            [dx, want_scale.then(|| round(&dot)), want_offset.then(|| round(&sum))]
        });
        (y, Some(pass))
    }
}

/// In training, on the CPU; also the statistics of the batch, with the unbiased variance.
pub fn fused(norm: &Norm, x: Tensor<4>, learned: Option<[&Tensor<4>; 2]>) -> (Tensor<4>, Statistics) {
    let found = Arc::new(Mutex::new(Statistics::default()));
    let op = NormOp { eps: norm.eps, affine: norm.affine, shape: x.dims(), found: Arc::clone(&found) };
    let y = host::apply(op, x, learned.as_ref().map_or(&[], |l| &l[..]));
    let found = std::mem::take(&mut *found.lock().expect("nothing panics with it"));
    (y, found)
}

/// In training, with Burn's ops; also mean and unbiased variance as tensors.
pub fn plain(norm: &Norm, x: Tensor<4>, learned: Option<[&Tensor<4>; 2]>) -> (Tensor<4>, [Tensor<4>; 2]) {
    let [n, h, w, c] = x.dims();
    let count = (n * h * w) as f32;
    let mean_of = |t: Tensor<4>| t.reshape([n * h * w, c]).mean_dim(0).reshape([1, 1, 1, c]);
    let mean = mean_of(x.clone());
    let centred = x - mean.clone();
    let variance = mean_of(centred.clone().square());
    let mut y = centred / (variance.clone() + norm.eps).sqrt();
    if let Some([scale, offset]) = learned {
        y = y * scale.clone() + offset.clone();
    }
    let unbiased = variance.detach() * (count / (count - 1.0).max(1.0));
    (y, [mean.detach(), unbiased])
}
