//! The fused ops against Burn's, and both against differences of values.

use super::act::{self, Function, slope};
use super::linear::{self, LinearOp};
use super::{norm, pool};
use crate::data::{Purpose, Random};
use crate::layer::{Act, Estimator, Norm, Weights};
use crate::network::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use onebit::core::ops::{Pool2d, PoolKind, Window};
use onebit::core::types::{Encoding, Quant, Shape};

fn device() -> Device {
    Device::flex()
}

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut r = Random::of(Purpose::Initial, &[99, seed]);
    (0..n).map(|_| r.normal()).collect()
}

fn leaf(data: &[f32], shape: [usize; 4]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(data.to_vec(), shape), &device()).autodiff().require_grad()
}

fn numbers(t: Tensor<4>) -> Vec<f32> {
    t.into_data().try_into_vec().unwrap()
}

/// Value and gradients of `f` for the loss `sum(y * g)` with random `g`.
fn run(
    inputs: &[(Vec<f32>, [usize; 4])],
    f: impl Fn(&[Tensor<4>]) -> Tensor<4>,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let leaves: Vec<Tensor<4>> = inputs.iter().map(|(data, shape)| leaf(data, *shape)).collect();
    let y = f(&leaves);
    let shape = y.dims();
    let g =
        Tensor::from_data(TensorData::new(random(7, shape.iter().product()), shape), &device()).autodiff();
    let mut gradients = (y.clone() * g).sum().backward();
    let gradients =
        leaves.iter().map(|l| numbers(l.grad_remove(&mut gradients).expect("a gradient"))).collect();
    (numbers(y.inner()), gradients)
}

#[track_caller]
fn near(name: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{name}");
    let size = a.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * size, "{name}[{i}]: {x} and {y}, of at most {size}");
    }
}

/// Values exactly where `exact`, gradients within rounding.
#[track_caller]
fn agree(
    name: &str,
    inputs: &[(Vec<f32>, [usize; 4])],
    fused: impl Fn(&[Tensor<4>]) -> Tensor<4>,
    plain: impl Fn(&[Tensor<4>]) -> Tensor<4>,
) {
    // Burn's tanh differs in its last bit, which moves a weight of many levels by one.
    let fine = if name.starts_with("dorefa:12") { 30.0 } else { 1.0 };
    let (y, gradients) = run(inputs, fused);
    let (expected, expected_gradients) = run(inputs, plain);
    near(&format!("{name}: value"), &y, &expected, 1e-5 * fine);
    for (i, (g, e)) in gradients.iter().zip(&expected_gradients).enumerate() {
        near(&format!("{name}: gradient {i}"), g, e, 5e-5 * fine);
    }
}

fn linear(window: Window, groups: usize, pad_value: i8, weights: Weights, bias: bool) -> Linear {
    Linear { window, groups, pad_value, weights, bias, fixed: None, dense: false }
}

const WEIGHTS: [Weights; 9] = [
    Weights::Float,
    Weights::Sign(Estimator::Clip(1.0)),
    Weights::Sign(Estimator::Approx),
    Weights::Xnor,
    Weights::Magnitude,
    Weights::Ternary,
    Weights::Dorefa(1),
    Weights::Dorefa(3),
    Weights::Dorefa(12),
];

/// What inputs can be: floats, bits, 2-bit levels, bytes.
fn activations(kind: usize, n: usize) -> (Vec<f32>, Option<(Quant, f32)>) {
    let x = random(3, n);
    match kind {
        0 => (x, None),
        1 => (x.iter().map(|v| if *v >= 0.0 { 1.0 } else { -1.0 }).collect(), Some((Quant::BIT, 1.0))),
        2 => {
            let scale = 1.0 / 3.0;
            let levels = x.iter().map(|v| (v.abs() * 2.0).round().min(3.0) * scale).collect();
            (levels, Some((Quant::new(2, Encoding::Unsigned), scale)))
        }
        _ => {
            let bytes = x.iter().map(|v| (v.abs() * 80.0).round().min(255.0)).collect();
            (bytes, Some((Quant::new(8, Encoding::Unsigned), 1.0)))
        }
    }
}

#[test]
fn convolutions_and_dense_layers() {
    let shape = |h, w, c| Shape::new(h, w, c);
    let cases = [
        (Window::square(3, 1, 1), 1, shape(6, 5, 70), 8),
        (Window::square(3, 1, 0), 1, shape(7, 6, 3), 40),
        (Window::square(5, 1, 0), 1, shape(8, 8, 8), 33),
        (Window::square(3, 2, 1), 1, shape(7, 8, 6), 5),
        (Window::square(1, 2, 0), 1, shape(6, 6, 64), 70),
        (Window::square(3, 1, 1), 2, shape(5, 5, 8), 6),
        (Window { dilation: [2, 2], ..Window::square(3, 1, 2) }, 1, shape(7, 7, 4), 3),
        (Window::square(3, 2, 1), 6, shape(6, 6, 6), 6),
        (Window::whole(shape(3, 2, 30)), 1, shape(3, 2, 30), 17),
    ];
    for (case, (window, groups, input, filters)) in cases.into_iter().enumerate() {
        let batch = 11;
        let [h, w] = window.output(input).unwrap();
        let output = Shape::new(h, w, filters);
        let [kh, kw] = window.kernel;
        let w_shape = [filters, kh, kw, input.c / groups];
        for kind in 0..4 {
            let (x, levels) = activations(kind, batch * input.elements());
            for (i, weights) in WEIGHTS.into_iter().enumerate() {
                // Each combination of weights and inputs on some shape, with and without padding values and bias.
                if (case + kind + i) % 3 != 0 {
                    continue;
                }
                let bias = i % 2 == 0;
                let pad_value = if levels.is_some() { i as i8 % 3 - 1 } else { 0 };
                let w: Vec<f32> = random(5, w_shape.iter().product()).iter().map(|v| v * 0.6).collect();
                let mut inputs = vec![(x.clone(), [batch, input.h, input.w, input.c]), (w, w_shape)];
                if bias {
                    inputs.push((random(6, filters), [1, 1, 1, filters]));
                }
                let linear = linear(window, groups, pad_value, weights, bias);
                let op = LinearOp { linear, input, output, batch, levels };
                agree(
                    &format!("{weights} {window:?} groups {groups} inputs {kind}"),
                    &inputs,
                    |t| linear::fused(op.clone(), t[0].clone(), &t[1], t.get(2)),
                    |t| linear::plain(&op, t[0].clone(), &t[1], t.get(2)),
                );
            }
        }
    }
}

#[test]
fn gradients_do_not_depend_on_threads() {
    let input = Shape::new(6, 6, 40);
    let linear = linear(Window::square(3, 1, 1), 1, 0, Weights::Sign(Estimator::Clip(1.0)), false);
    let op = LinearOp { linear, input, output: Shape::new(6, 6, 32), batch: 50, levels: None };
    let inputs =
        [(random(1, 50 * input.elements()), [50, 6, 6, 40]), (random(2, 32 * 9 * 40), [32, 3, 3, 40])];
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&inputs, |t| linear::fused(op.clone(), t[0].clone(), &t[1], None)))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn batch_norm() {
    let shape = [6, 3, 4, 19];
    let x: Vec<f32> =
        random(1, 6 * 12 * 19).iter().enumerate().map(|(i, v)| v * 3.0 + (i % 19) as f32 * 2.0).collect();
    let scale: Vec<f32> = random(2, 19);
    let learned = [(scale, [1, 1, 1, 19]), (random(3, 19), [1, 1, 1, 19])];
    let norm = Norm::default();
    let with_x = [(x.clone(), shape), learned[0].clone(), learned[1].clone()];
    agree(
        "norm",
        &with_x,
        |t| norm::fused(&norm, t[0].clone(), Some([&t[1], &t[2]])).0,
        |t| norm::plain(&norm, t[0].clone(), Some([&t[1], &t[2]])).0,
    );
    let free = Norm { affine: false, ..norm };
    let only = [(x.clone(), shape)];
    agree(
        "norm without parameters",
        &only,
        |t| norm::fused(&free, t[0].clone(), None).0,
        |t| norm::plain(&free, t[0].clone(), None).0,
    );
    let t = leaf(&x, shape);
    let (_, (mean, variance)) = norm::fused(&free, t.clone(), None);
    let (_, [m, v]) = norm::plain(&free, t, None);
    near("mean", &mean, &numbers(m.inner()), 1e-6);
    near("variance", &variance, &numbers(v.inner()), 1e-5);
}

#[test]
fn functions() {
    let shape = [3, 4, 5, 13];
    let mut x = random(1, 780);
    // Ties, ends and zeros.
    x[..8].copy_from_slice(&[0.0, -0.0, 1.0, -1.0, 0.5, 1.0 / 6.0, 1.25, -1.25]);
    let plain = [
        Act::Sign(Estimator::Clip(1.0)),
        Act::Sign(Estimator::Clip(1.25)),
        Act::Sign(Estimator::Approx),
        Act::Sign(Estimator::Swish(5.0)),
        Act::Sign(Estimator::Identity),
        Act::Dorefa(1),
        Act::Dorefa(2),
        Act::Dorefa(8),
        Act::Dorefa(16),
        Act::Tanh,
        Act::HardTanh,
    ];
    for a in plain {
        let f = Function::Plain(a);
        // At the ends of clips frameworks differ in which side counts.
        let inside: Vec<f32> = match a {
            Act::Sign(_) | Act::Tanh => x.clone(),
            _ => x.iter().map(|v| if *v == 0.0 || v.abs() == 1.0 { 0.3 } else { *v }).collect(),
        };
        let ends = |v: &f32| if v.abs() == 1.0 || v.abs() == 1.25 { 0.7 } else { *v };
        let inputs = [(inside.iter().map(ends).collect::<Vec<_>>(), shape)];
        agree(
            &a.to_string(),
            &inputs,
            |t| act::fused(f, t[0].clone(), None),
            |t| act::plain(f, t[0].clone(), None),
        );
    }
    let no_zero: Vec<f32> = x.iter().map(|v| if *v == 0.0 { 0.1 } else { *v }).collect();
    let relu = Function::Plain(Act::Relu);
    agree(
        "relu",
        &[(no_zero.clone(), shape)],
        |t| act::fused(relu, t[0].clone(), None),
        |t| act::plain(relu, t[0].clone(), None),
    );
    for f in [Function::Shift { minus: false }, Function::Shift { minus: true }, Function::Prelu] {
        agree(
            &format!("{f:?}"),
            &[(no_zero.clone(), shape), (random(4, 13), [1, 1, 1, 13])],
            |t| act::fused(f, t[0].clone(), Some(&t[1])),
            |t| act::plain(f, t[0].clone(), Some(&t[1])),
        );
    }
    let pact = Function::Pact(2);
    agree(
        "pact",
        &[(no_zero, shape), (vec![0.8], [1, 1, 1, 1])],
        |t| act::fused(pact, t[0].clone(), Some(&t[1])),
        |t| act::plain(pact, t[0].clone(), Some(&t[1])),
    );
}

#[test]
fn estimators_are_those_of_the_papers() {
    let at = |e: Estimator, x: f32| slope(e, x);
    for (x, clip, approx) in
        [(-1.5, 0.0, 0.0), (-1.0, 1.0, 0.0), (-0.25, 1.0, 1.5), (0.0, 1.0, 2.0), (1.0, 1.0, 0.0)]
    {
        assert_eq!(at(Estimator::Clip(1.0), x), clip);
        assert_eq!(at(Estimator::Approx, x), approx);
        assert_eq!(at(Estimator::Identity, x), 1.0);
    }
    assert_eq!(at(Estimator::Clip(1.25), 1.2), 1.0);
    // The derivative of 2 s(z) (1 + z (1 - s(z))) - 1 with z = beta x, by differences.
    let smooth = |beta: f64, x: f64| {
        let z = beta * x;
        let s = 1.0 / (1.0 + (-z).exp());
        2.0 * s * (1.0 + z * (1.0 - s)) - 1.0
    };
    for x in [-2.0, -0.7, -0.1, 0.0, 0.3, 1.1] {
        let h = 1e-5;
        let difference = (smooth(5.0, x + h) - smooth(5.0, x - h)) / (2.0 * h);
        assert!((f64::from(at(Estimator::Swish(5.0), x as f32)) - difference).abs() < 1e-4, "{x}");
    }
    assert_eq!(at(Estimator::Swish(5.0), 1e30), 0.0);
}

#[test]
fn smooth_ops_follow_their_differences() {
    // In f32 differences are coarse; a wrong factor or sign is not.
    let check = |name: &str, inputs: &[(Vec<f32>, [usize; 4])], f: &dyn Fn(&[Tensor<4>]) -> Tensor<4>| {
        let (_, gradients) = run(inputs, f);
        let g = random(
            7,
            f(&inputs.iter().map(|(d, s)| leaf(d, *s)).collect::<Vec<_>>()).dims().iter().product(),
        );
        let value = |inputs: &[(Vec<f32>, [usize; 4])]| -> f64 {
            let leaves: Vec<_> = inputs.iter().map(|(d, s)| leaf(d, *s)).collect();
            numbers(f(&leaves).inner()).iter().zip(&g).map(|(y, g)| f64::from(*y) * f64::from(*g)).sum()
        };
        for (i, gradient) in gradients.iter().enumerate() {
            let size = gradient.iter().fold(0f32, |m, v| m.max(v.abs()));
            for at in (0..gradient.len()).step_by(gradient.len().div_ceil(5)) {
                let mut moved = inputs.to_vec();
                let h = 1e-2;
                moved[i].0[at] += h;
                let up = value(&moved);
                moved[i].0[at] -= 2.0 * h;
                let difference = (up - value(&moved)) / (2.0 * f64::from(h));
                let error = (difference - f64::from(gradient[at])).abs();
                assert!(
                    error <= 0.02 * f64::from(size) + 2e-3,
                    "{name} input {i} at {at}: {difference} {}",
                    gradient[at]
                );
            }
        }
    };
    let input = Shape::new(4, 4, 3);
    let op = LinearOp {
        linear: linear(Window::square(3, 1, 1), 1, 0, Weights::Float, true),
        input,
        output: Shape::new(4, 4, 2),
        batch: 3,
        levels: None,
    };
    let inputs =
        [(random(1, 144), [3, 4, 4, 3]), (random(2, 54), [2, 3, 3, 3]), (random(3, 2), [1, 1, 1, 2])];
    check("conv", &inputs, &|t| linear::fused(op.clone(), t[0].clone(), &t[1], Some(&t[2])));
    let inputs = [(random(1, 144), [3, 4, 4, 3]), (random(2, 3), [1, 1, 1, 3]), (random(3, 3), [1, 1, 1, 3])];
    check("norm", &inputs, &|t| norm::fused(&Norm::default(), t[0].clone(), Some([&t[1], &t[2]])).0);
    check("tanh", &inputs[..1], &|t| act::fused(Function::Plain(Act::Tanh), t[0].clone(), None));
}

#[test]
fn pools() {
    let input = Shape::new(7, 6, 5);
    for kind in [PoolKind::Max, PoolKind::Average] {
        for window in
            [Window::square(2, 2, 0), Window::square(3, 2, 1), Window::square(3, 1, 1), Window::whole(input)]
        {
            let pool = Pool2d { kind, window, count_pad: false };
            let [h, w] = window.pool_output(input).unwrap();
            let output = Shape::new(h, w, 5);
            agree(
                &format!("{pool:?}"),
                &[(random(1, 4 * 210), [4, 7, 6, 5])],
                |t| pool::fused(pool, t[0].clone(), output),
                |t| pool::plain(pool, t[0].clone(), output),
            );
        }
    }
    // Of equal taps the first gets the gradient, as the engine's maximum is the first.
    let pool = Pool2d { kind: PoolKind::Max, window: Window::square(2, 2, 0), count_pad: false };
    let (y, gradients) =
        run(&[(vec![1.0; 4], [1, 2, 2, 1])], |t| pool::fused(pool, t[0].clone(), Shape::new(1, 1, 1)));
    assert_eq!(y, [1.0]);
    assert_eq!(gradients[0], [random(7, 1)[0], 0.0, 0.0, 0.0]);
}

#[test]
fn the_fast_tanh_is_close() {
    let x: Vec<f32> = (-120_000..120_000).map(|i| i as f32 * 1e-4).collect();
    let (y, _) = run(&[(x.clone(), [1, 1, 1, 240_000])], |t| {
        act::fused(Function::Plain(Act::Tanh), t[0].clone(), None)
    });
    for (x, y) in x.iter().zip(y) {
        assert!((f64::from(y) - f64::from(*x).tanh()).abs() < 3e-7, "tanh({x}) = {y}");
    }
}
