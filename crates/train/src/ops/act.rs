//! Functions of one number, among them the quantisers of activations and their estimators.
//!
//! | function | value | derivative |
//! |---|---|---|
//! | sign | +1 where `x >= 0`, else -1 | of the [`Estimator`] |
//! | dorefa:k | `round(clip(x, 0, 1) n) / n` | 1 where `0 <= x <= 1` |
//! | pact:k | `round(clip(x, 0, a) (n / a)) (a / n)` | for `x`: 1 where `0 < x < a`; for `a`: 1 where `x >= a` |
//! | prelu | `x`, or `a x` where `x < 0` | 1 or `a`; for `a`: 0 or `x` |
//! | shift | `x + b`, or `x - b` | 1; for `b`: 1 or -1 |
//! | relu, tanh, hardtanh | as their names say | of the function; of hardtanh 1 where `|x| <= 1` |
//!
//! `n = 2^k - 1`; halves are rounded to even.

use super::host::{self, BackwardPass, HostOp, Numbers};
use super::vector;
use crate::layer::{Act, Estimator};
use crate::weights::levels;
use burn::tensor::Tensor;
use onebit::core::ops::Activation;
use std::sync::Arc;

/// Derivative that stands in for that of the sign.
#[inline(always)]
pub fn slope(estimator: Estimator, x: f32) -> f32 {
    let inside = |clip: f32, value: f32| if x.abs() <= clip { value } else { 0.0 };
    match estimator {
        Estimator::Clip(clip) => inside(clip, 1.0),
        Estimator::Approx => inside(1.0, 2.0 * (1.0 - x.abs())),
        Estimator::Swish(beta) => {
            let z = beta * x;
            // Beyond this the quotient is 0 in f32, and cosh overflows.
            if z.abs() > 80.0 { 0.0 } else { beta * (2.0 - z * (0.5 * z).tanh()) / (1.0 + z.cosh()) }
        }
        Estimator::Identity => 1.0,
    }
}

/// `dy *= slope(x)`.
pub fn scale_by_slope(estimator: Estimator, x: &[f32], dy: &mut [f32]) {
    match estimator {
        Estimator::Identity => {}
        Estimator::Clip(clip) => vector::zip(dy, x, |d, x| if x.abs() <= clip { d } else { 0.0 }),
        Estimator::Approx => vector::zip(dy, x, |d, x| d * slope(Estimator::Approx, x)),
        Estimator::Swish(_) => vector::zip(dy, x, |d, x| d * slope(estimator, x)),
    }
}

/// What runs: functions without parameters, or with one number for each channel or the layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// Without parameters; of [`Act`] all but those below.
    Plain(Act),
    /// `x + b`, or `x - b`.
    Shift {
        /// Subtracts.
        minus: bool,
    },
    /// Slope for negative numbers.
    Prelu,
    /// Range for the layer, levels `n`.
    Pact(u8),
}

#[derive(Clone, Debug)]
struct ActOp {
    function: Function,
    shape: [usize; 4],
}

impl HostOp for ActOp {
    fn shape(&self) -> [usize; 4] {
        self.shape
    }

    fn run(&self, [x, p, _]: [Numbers; 3], backward: bool) -> (Vec<f32>, Option<BackwardPass>) {
        let (function, c) = (self.function, self.shape[3]);
        let y = match function {
            Function::Plain(Act::Tanh) if backward => vector::map(&x, fast_tanh),
            Function::Plain(act) => value(act, &x),
            Function::Shift { minus: false } => vector::channels([&x, &x], [&p], |[x, _], [b]| x + b),
            Function::Shift { minus: true } => vector::channels([&x, &x], [&p], |[x, _], [b]| x - b),
            Function::Prelu => {
                vector::channels([&x, &x], [&p], |[x, _], [a]| if x >= 0.0 { x } else { x * a })
            }
            Function::Pact(bits) => {
                let (n, a) = (levels(bits), range(&p));
                let (up, down) = (n / a, a / n);
                vector::map(&x, move |x| (x * up).round_ties_even().clamp(0.0, n) * down)
            }
        };
        if !backward {
            return (y, None);
        }
        let kept = matches!(function, Function::Plain(Act::Tanh)).then(|| y.clone());
        let pass: BackwardPass = Arc::new(move |dy, [want_x, want_p, _]| {
            let dx = want_x.then(|| match function {
                Function::Plain(act) => {
                    let mut dx = dy.to_vec();
                    times_derivative(act, kept.as_deref().unwrap_or(&x), &mut dx);
                    dx
                }
                Function::Shift { .. } => dy.to_vec(),
                Function::Prelu => {
                    vector::channels([dy, &x], [&p], |[d, x], [a]| if x >= 0.0 { d } else { d * a })
                }
                Function::Pact(_) => {
                    let a = range(&p);
                    let mut dx = dy.to_vec();
                    vector::zip(&mut dx, &x, move |d, x| if x > 0.0 && x < a { d } else { 0.0 });
                    dx
                }
            });
            let dp = want_p.then(|| match function {
                Function::Plain(_) => Vec::new(),
                Function::Shift { minus } => {
                    let mut sums = super::norm::sums(dy, c);
                    sums.iter_mut().for_each(|s| *s = if minus { -*s } else { *s });
                    sums
                }
                Function::Prelu => {
                    let [sums] =
                        vector::sums([dy, &x], [&p, &p], |[d, x], _| [if x >= 0.0 { 0.0 } else { d * x }]);
                    sums.into_iter().map(|s| s as f32).collect()
                }
                Function::Pact(_) => {
                    let none = vec![range(&p); c];
                    let [sums] = vector::sums([dy, &x], [&none, &none], |[d, x], [a, _]| {
                        [if x >= a { d } else { 0.0 }]
                    });
                    vec![sums.iter().sum::<f64>() as f32]
                }
            });
            [dx, dp, None]
        });
        (y, Some(pass))
    }
}

/// A range that can be divided by.
fn range(p: &[f32]) -> f32 {
    p[0].max(f32::MIN_POSITIVE)
}

/// Hyperbolic tangent within 2e-7, in arithmetic that the compiler turns into vectors: while training, where the engine's,
/// which is exact, would take a third of LeNet's time. Evaluation takes the engine's.
#[inline(always)]
fn fast_tanh(x: f32) -> f32 {
    /// Between 2^23 and 2^24 floats are the integers.
    const BASE: f32 = 12_582_912.0;
    // exp(2 |x|) = 2^k 2^f with |f| <= 1/2, and 2^f by its Taylor series.
    let z = x.abs().min(10.0) * (2.0 * std::f32::consts::LOG2_E);
    let k = (z + BASE) - BASE;
    let f = (z - k) * std::f32::consts::LN_2;
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    let power = series.iter().fold(1.0 / 5040.0, |sum, c| sum * f + c) * f + 1.0;
    let e = power * f32::from_bits(((k as i32 + 127) as u32) << 23);
    // Near 0 the difference below would cancel.
    let near = x * (1.0 - x * x * (1.0 / 3.0 - x * x * (2.0 / 15.0)));
    let far = (1.0 - 2.0 / (e + 1.0)).copysign(x);
    if x.abs() < 0.1 { near } else { far }
}

fn value(act: Act, x: &[f32]) -> Vec<f32> {
    match act {
        Act::Sign(_) => vector::map(x, |x| if x >= 0.0 { 1.0 } else { -1.0 }),
        Act::Dorefa(bits) => {
            let n = levels(bits);
            vector::map(x, move |x| (x * n).round_ties_even().clamp(0.0, n) * (1.0 / n))
        }
        Act::Relu => vector::map(x, |x| if x > 0.0 { x } else { 0.0 }),
        Act::Tanh => vector::map(x, |x| Activation::Tanh.apply(x)),
        Act::HardTanh => vector::map(x, |x| Activation::Clip { low: -1.0, high: 1.0 }.apply(x)),
        Act::Default | Act::RSign(_) | Act::Pact(_) | Act::Prelu | Act::RPrelu => {
            unreachable!("{act} has parameters")
        }
    }
}

/// `dy *= f'(x)`; of tanh, `x` is its value.
fn times_derivative(act: Act, x: &[f32], dy: &mut [f32]) {
    match act {
        Act::Sign(estimator) => scale_by_slope(estimator, x, dy),
        Act::Dorefa(_) => vector::zip(dy, x, |d, x| if (0.0..=1.0).contains(&x) { d } else { 0.0 }),
        Act::Relu => vector::zip(dy, x, |d, x| if x > 0.0 { d } else { 0.0 }),
        Act::Tanh => vector::zip(dy, x, |d, y| d * (1.0 - y * y)),
        Act::HardTanh => vector::zip(dy, x, |d, x| if x.abs() <= 1.0 { d } else { 0.0 }),
        Act::Default | Act::RSign(_) | Act::Pact(_) | Act::Prelu | Act::RPrelu => {
            unreachable!("{act} has parameters")
        }
    }
}

/// On the CPU; `p` is `[1, 1, 1, c]`, or `[1, 1, 1, 1]` for PACT.
pub fn fused(function: Function, x: Tensor<4>, p: Option<&Tensor<4>>) -> Tensor<4> {
    let op = ActOp { function, shape: x.dims() };
    match p {
        Some(p) => host::apply(op, x, &[p]),
        None => host::apply(op, x, &[]),
    }
}

/// `value` with the derivative of `smooth`: exact, where `smooth + (value - smooth)` would be rounded.
pub fn straight_through(value: Tensor<4>, smooth: Tensor<4>) -> Tensor<4> {
    value.detach() + (smooth.clone() - smooth.detach())
}

/// Sign with an estimator, with Burn's ops.
pub fn plain_sign(estimator: Estimator, x: Tensor<4>) -> Tensor<4> {
    let sign = x.clone().detach().greater_equal_elem(0.0).float() * 2.0 - 1.0;
    let smooth = match estimator {
        Estimator::Clip(clip) => x.clamp(-clip, clip),
        Estimator::Identity => x,
        Estimator::Approx => {
            // The antiderivative of 2 (1 - |x|) within -1 to 1.
            let x = x.clamp(-1.0, 1.0);
            x.clone() * 2.0 - x.clone() * x.abs()
        }
        Estimator::Swish(beta) => {
            // Of sigma(z) (1 + z (1 - sigma(z))) 2 - 1, with z = beta x: the derivative is that of Larq.
            let z = x * beta;
            let s = burn::tensor::activation::sigmoid(z.clone());
            let rest = z * (s.clone().neg() + 1.0) + 1.0;
            s * rest * 2.0 - 1.0
        }
    };
    straight_through(sign, smooth)
}

/// With Burn's ops.
pub fn plain(function: Function, x: Tensor<4>, p: Option<&Tensor<4>>) -> Tensor<4> {
    let p = || p.expect("functions with parameters get them").clone();
    match function {
        Function::Plain(Act::Sign(estimator)) => plain_sign(estimator, x),
        Function::Plain(Act::Dorefa(bits)) => {
            let n = levels(bits);
            let x = x.clamp(0.0, 1.0);
            straight_through((x.clone().detach() * n).round() * (1.0 / n), x)
        }
        Function::Plain(Act::Relu) => burn::tensor::activation::relu(x),
        Function::Plain(Act::Tanh) => x.tanh(),
        Function::Plain(Act::HardTanh) => x.clamp(-1.0, 1.0),
        Function::Plain(act) => unreachable!("{act} has parameters"),
        Function::Shift { minus: false } => x + p(),
        Function::Shift { minus: true } => x - p(),
        Function::Prelu => {
            let negative = x.clone().clamp_max(0.0);
            x.clamp_min(0.0) + negative * p()
        }
        Function::Pact(bits) => {
            let (n, a) = (levels(bits), p());
            // clip(x, 0, a) = (|x| - |x - a| + a) / 2 (Choi et al. 2018).
            let clipped = (x.clone().abs() - (x - a.clone()).abs() + a.clone()) * 0.5;
            let a = a.detach();
            let value = (clipped.clone().detach() * (a.clone().recip() * n)).round() * (a * (1.0 / n));
            straight_through(value, clipped)
        }
    }
}
