//! The rules against the formulas of their papers in double precision, and both implementations against each other.

use super::*;
use crate::network::Init;
use burn::backend::Flex;

const SHAPE: [usize; 4] = [5, 3, 3, 7];
const N: usize = 5 * 3 * 3 * 7;

fn param(name: &str, role: Role) -> Param {
    Param { name: name.into(), role, shape: SHAPE, init: Init::Glorot }
}
fn params() -> Vec<Param> {
    use Role::*;
    [("latent", Latent), ("weight", Weight), ("scale", Scale), ("offset", Offset), ("range", Range)]
        .map(|(name, role)| param(&format!("conv1.{name}"), role))
        .into()
}

/// The same numbers from -1 to 1 for the same seed.
fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn values(params: &[Param]) -> Vec<Tensor<4>> {
    params.iter().enumerate().map(|(i, p)| tensor(&random(i as u64 + 1, N), p.shape)).collect()
}
fn gradients(params: &[Param], step: u64) -> Vec<Option<Tensor<4>>> {
    let one = |(i, p): (usize, &Param)| Some(tensor(&random(1000 * step + i as u64, N), p.shape));
    params.iter().enumerate().map(one).collect()
}
fn all(values: &[Tensor<4>]) -> Vec<Vec<f32>> {
    values.iter().map(numbers).collect()
}

const ADAM: Optimizer = Optimizer::Adam { rate: 0.02, beta1: 0.8, beta2: 0.95, eps: 1e-3, decay: 0.1 };
const SGD: Optimizer = Optimizer::Sgd { rate: 0.1, momentum: 0.0, decay: 0.05, nesterov: false };
const MOMENTUM: Optimizer = Optimizer::Sgd { rate: 0.1, momentum: 0.9, decay: 0.05, nesterov: false };
const NESTEROV: Optimizer = Optimizer::Sgd { rate: 0.1, momentum: 0.9, decay: 0.05, nesterov: true };
const BOP: Optimizer = Optimizer::Bop { rate: 0.3, threshold: 0.05 };

fn train(optimizer: Optimizer, latent: Option<Optimizer>, clip: f32) -> Train {
    Train { optimizer, latent, clip, ..Train::default() }
}
fn trains() -> Vec<Train> {
    let plain = [ADAM, SGD, MOMENTUM, NESTEROV].map(|o| train(o, None, 0.9));
    plain.into_iter().chain([train(ADAM, Some(SGD), 0.0), train(MOMENTUM, Some(BOP), 1.0)]).collect()
}
fn factor(step: u64) -> f64 {
    1.0 / (1.0 + step as f64)
}

/// One number after steps with these gradients, by the formulas as they are printed.
fn reference(optimizer: Optimizer, decays: bool, clip: f32, mut w: f64, gradients: &[f64]) -> f64 {
    let wide = f64::from;
    let (mut m, mut v) = (0.0, 0.0);
    for (i, g) in gradients.iter().enumerate() {
        let factor = factor(i as u64 + 1);
        match optimizer {
            Optimizer::Adam { rate, beta1, beta2, eps, decay } => {
                let t = i as i32 + 1;
                m = wide(beta1) * m + (1.0 - wide(beta1)) * g;
                v = wide(beta2) * v + (1.0 - wide(beta2)) * g * g;
                let m = m / (1.0 - wide(beta1).powi(t));
                let v = v / (1.0 - wide(beta2).powi(t));
                let decay = if decays { wide(decay) * w } else { 0.0 };
                w -= wide(rate) * factor * (m / (v.sqrt() + wide(eps)) + decay);
            }
            Optimizer::Sgd { rate, momentum, decay, nesterov } => {
                let g = g + if decays { wide(decay) * w } else { 0.0 };
                m = wide(momentum) * m + g;
                w -= wide(rate) * factor * if nesterov { g + wide(momentum) * m } else { m };
            }
            Optimizer::Bop { rate, threshold } => {
                m += wide(rate) * factor * (g - m);
                w = if w < 0.0 { -1.0 } else { 1.0 };
                if w * m > wide(threshold) {
                    w = -w;
                }
            }
        }
        w = w.clamp(-wide(clip), wide(clip));
    }
    w
}

#[test]
fn rules_are_the_papers() {
    let params = params();
    for train in trains() {
        let mut optimizers = Optimizers::new(&params, &train);
        let mut now = values(&params);
        let start = all(&now);
        let mut seen: Vec<Vec<Vec<f32>>> = Vec::new();
        for step in 1..=6 {
            let gradients = gradients(&params, step);
            seen.push(gradients.iter().map(|g| numbers(g.as_ref().unwrap())).collect());
            optimizers.step(&mut now, gradients, factor(step)).unwrap();
        }
        for (p, (param, found)) in params.iter().zip(all(&now)).enumerate() {
            let latent = param.role == Role::Latent;
            let optimizer = if latent { train.latent.unwrap_or(train.optimizer) } else { train.optimizer };
            let clip = if latent && train.clip > 0.0 { train.clip } else { f32::INFINITY };
            let decays = matches!(param.role, Role::Weight | Role::Range);
            let mut clipped = 0;
            for (i, x) in found.iter().enumerate() {
                let gradients: Vec<f64> = seen.iter().map(|s| f64::from(s[p][i])).collect();
                let wanted = reference(optimizer, decays, clip, start[p][i].into(), &gradients);
                assert!(
                    (f64::from(*x) - wanted).abs() < 2e-6,
                    "{optimizer:?} {}: {x}, not {wanted}",
                    param.name
                );
                clipped += usize::from(x.abs() == train.clip);
            }
            assert!(clipped > 0 || !latent || train.clip == 0.0, "{optimizer:?}: nothing was clipped");
        }
    }
}

#[test]
fn tensors_and_the_fused_pass_agree() {
    let params = params();
    for train in trains() {
        let mut both = [Optimizers::new(&params, &train), Optimizers::new(&params, &train)];
        let mut now = [values(&params), values(&params)];
        for step in 1..=10 {
            for (i, fused) in [false, true].into_iter().enumerate() {
                let gradients = gradients(&params, step);
                both[i].step_by(&mut now[i], gradients, factor(step), fused).unwrap();
            }
        }
        let bop = matches!(train.latent, Some(Optimizer::Bop { .. }));
        for (p, (a, b)) in all(&now[0]).iter().zip(all(&now[1])).enumerate() {
            for (a, b) in a.iter().zip(b) {
                assert!(
                    (a - b).abs() <= 1e-6 * a.abs().max(0.1),
                    "{} {train:?}: {a} and {b}",
                    params[p].name
                );
                assert!(!bop || p > 0 || (*a == b && a.abs() == 1.0));
            }
        }
        // What is remembered is the same too, so that a run can go on with the other.
        let [a, b] = both.map(|o| o.state());
        assert_eq!(a.counters, b.counters);
        for ((name, a), b) in a.tensors.iter().zip(b.tensors.values()) {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * a.abs().max(0.1);
            assert!(a.iter().zip(b).all(near), "{name}");
        }
    }
}

#[test]
fn bop_flips_above_the_threshold_only() {
    let params = [Param { shape: [1, 1, 1, 6], ..param("conv1.weight", Role::Latent) }];
    let bop = Optimizer::Bop { rate: 0.5, threshold: 0.25 };
    let mut optimizers = Optimizers::new(&params, &train(ADAM, Some(bop), 0.3));
    let mut values = vec![tensor(&[1.0, 1.0, 1.0, -1.0, -1.0, -0.0], [1, 1, 1, 6])];
    let gradient = || vec![Some(tensor(&[0.5, 0.52, -9.0, -0.52, 9.0, 0.6], [1, 1, 1, 6]))];
    optimizers.step(&mut values, gradient(), 1.0).unwrap();
    assert_eq!(numbers(&values[0]), [1.0, -1.0, 1.0, 1.0, -1.0, -1.0]);
    // The mean is 3/4 of the gradient now; at rest it flips no further.
    optimizers.step(&mut values, gradient(), 1.0).unwrap();
    assert_eq!(numbers(&values[0]), [-1.0, -1.0, 1.0, 1.0, -1.0, -1.0]);
    assert_eq!(optimizers.state().tensors["optimizer.conv1.weight.mean"][0], 0.375);
}

#[test]
fn a_missing_gradient_leaves_a_parameter_and_its_step_count_alone() {
    let params = params();
    let mut optimizers = Optimizers::new(&params, &train(ADAM, None, 1.0));
    let mut now = values(&params);
    let mut some = gradients(&params, 1);
    some[1] = None;
    optimizers.step(&mut now, some, 1.0).unwrap();
    assert_eq!(numbers(&now[1]), numbers(&values(&params)[1]));
    optimizers.step(&mut now, gradients(&params, 2), 1.0).unwrap();
    let counters = optimizers.state().counters;
    assert_eq!((counters["optimizer.conv1.weight.steps"], counters["optimizer.conv1.scale.steps"]), (1, 2));
    // Its first step is as large as everybody's first.
    let mut fresh = (Optimizers::new(&params, &train(ADAM, None, 1.0)), values(&params));
    fresh.0.step(&mut fresh.1, gradients(&params, 2), 1.0).unwrap();
    assert_eq!(numbers(&now[1]), numbers(&fresh.1[1]));
}

#[test]
fn a_run_goes_on_from_its_state_bit_for_bit() {
    let params = params();
    for train in trains() {
        let mut whole = (Optimizers::new(&params, &train), values(&params));
        let mut average = Average::new(&params, &whole.1, 0.9);
        let mut second = None;
        for step in 1..=8 {
            if step == 4 {
                let mut state = whole.0.state();
                state.merge(average.state());
                let mut optimizers = Optimizers::new(&params, &train);
                optimizers.load(&state).unwrap();
                let mut average = Average::new(&params, &values(&params), 0.9);
                average.load(&state).unwrap();
                let values = all(&whole.1).iter().map(|v| tensor(v, SHAPE)).collect();
                second = Some((optimizers, values, average));
            }
            whole.0.step(&mut whole.1, gradients(&params, step), factor(step)).unwrap();
            average.update(&whole.1).unwrap();
            if let Some((optimizers, values, average)) = &mut second {
                optimizers.step(values, gradients(&params, step), factor(step)).unwrap();
                average.update(values).unwrap();
            }
        }
        let (optimizers, values, second) = second.unwrap();
        assert_eq!(all(&values), all(&whole.1));
        assert_eq!(optimizers.state(), whole.0.state());
        assert_eq!(second.state(), average.state());
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_by_name() {
    let params = params();
    let mut optimizers = Optimizers::new(&params, &train(ADAM, None, 1.0));
    let mut now = values(&params);
    optimizers.step(&mut now, gradients(&params, 1), 1.0).unwrap();
    let good = optimizers.state();
    let refused = |change: &dyn Fn(&mut State), name: &str| {
        let mut state = good.clone();
        change(&mut state);
        let mut fresh = Optimizers::new(&params, &train(ADAM, None, 1.0));
        let before = fresh.state();
        let text = fresh.load(&state).unwrap_err().to_string();
        assert!(text.contains(name), "{text}");
        assert_eq!(fresh.state(), before);
    };
    let mean = "optimizer.conv1.scale.mean";
    refused(&|s| _ = s.tensors.remove(mean), mean);
    refused(&|s| _ = s.tensors.get_mut(mean).unwrap().pop(), mean);
    refused(&|s| s.tensors.get_mut(mean).unwrap()[3] = f32::NAN, mean);
    refused(&|s| _ = s.counters.remove("optimizer.conv1.range.steps"), "optimizer.conv1.range.steps");
    refused(&|s| _ = s.tensors.insert("optimizer.conv9.weight.mean".into(), vec![]), "conv9.weight");
    // The state of another optimiser.
    let other = Optimizers::new(&params, &train(MOMENTUM, None, 1.0)).load(&good).unwrap_err();
    assert!(other.to_string().contains("conv1.latent.momentum"), "{other}");
    // What others keep in the same checkpoint is theirs.
    let mut state = good.clone();
    state.tensors.insert("conv1.weight".into(), vec![1.0]);
    optimizers.load(&state).unwrap();
    let mut average = Average::new(&params, &now, 0.9);
    let mut state = average.state();
    state.tensors.get_mut("average.conv1.scale").unwrap().pop();
    assert!(average.load(&state).unwrap_err().to_string().contains("conv1.scale"));
}

#[test]
fn wild_gradients_are_named_and_change_nothing() {
    let params = params();
    for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e20] {
        for place in [0, 100, N - 1] {
            let mut optimizers = Optimizers::new(&params, &train(ADAM, None, 1.0));
            let mut now = values(&params);
            let mut gradients = gradients(&params, 1);
            let mut numbers = random(9, N);
            numbers[place] = wild;
            gradients[3] = Some(tensor(&numbers, SHAPE));
            let text = optimizers.step(&mut now, gradients, 1.0).unwrap_err().to_string();
            assert!(text.contains("conv1.offset"), "{text}");
            assert_eq!(all(&now), all(&values(&params)));
            assert_eq!(optimizers.state(), Optimizers::new(&params, &train(ADAM, None, 1.0)).state());
            now[2] = tensor(&numbers, SHAPE);
            assert!(check_values(&params, &now).unwrap_err().to_string().contains("conv1.scale"));
        }
    }
    check_values(&params, &values(&params)).unwrap();
}

#[test]
fn wrong_shapes_are_named() {
    let params = params();
    let mut optimizers = Optimizers::new(&params, &train(ADAM, None, 1.0));
    let mut gradients = gradients(&params, 1);
    gradients[2] = Some(tensor(&[1.0; 7], [1, 1, 1, 7]));
    let text = optimizers.step(&mut values(&params), gradients, 1.0).unwrap_err().to_string();
    assert!(text.contains("conv1.scale"), "{text}");
}

fn address(tensor: &Tensor<4>) -> *const f32 {
    tensor.clone().inner().try_into_primitive::<Flex>().unwrap().as_slice::<f32>().unwrap().as_ptr()
}

/// A step as a training loop makes it: leaves, a loss, its gradients.
#[test]
fn values_and_moments_stay_where_they_are() {
    let params = [param("conv1.weight", Role::Latent)];
    let mut optimizers = Optimizers::new(&params, &train(ADAM, None, 1.0));
    let mut now = values(&params);
    let mut average = Average::new(&params, &values(&params), 0.9);
    let mut places = Vec::new();
    for _ in 0..3 {
        let gradient = {
            let leaf = now[0].clone().autodiff().require_grad();
            let loss = (leaf.clone() * leaf.clone()).sum();
            leaf.grad_remove(&mut loss.backward())
        };
        optimizers.step(&mut now, vec![gradient], 1.0).unwrap();
        average.update(&now).unwrap();
        places.push([&now[0], &optimizers.slots[0].moments[1], &average.values()[0]].map(address));
    }
    assert!(places.iter().all(|p| *p == places[0]), "{places:?}");
}

#[test]
fn shared_and_tracked_values_are_copied_not_changed() {
    let params = [param("conv1.weight", Role::Weight)];
    let mut optimizers = Optimizers::new(&params, &train(SGD, None, 1.0));
    let leaf = values(&params).remove(0).autodiff().require_grad();
    let mut now = vec![leaf.clone()];
    // A gradient that is a view: its numbers are not in the order of memory.
    let view = tensor(&random(5, N), [7, 3, 3, 5]).permute([3, 1, 2, 0]);
    optimizers.step(&mut now, vec![Some(view.clone())], 1.0).unwrap();
    assert_eq!(numbers(&leaf.clone().inner()), random(1, N));
    assert!(now[0].is_require_grad());
    let wanted = leaf.clone().inner() - (view + leaf.inner() * 0.05) * 0.1;
    assert_eq!(numbers(&now[0].clone().inner()), numbers(&wanted));
}

#[test]
fn many_numbers_are_changed_like_few() {
    let n = 300_001;
    let params = [Param { shape: [1, 1, 1, n], ..param("dense1.weight", Role::Weight) }];
    let mut optimizers = Optimizers::new(&params, &train(ADAM, None, 1.0));
    let mut now = [false, true].map(|_| vec![tensor(&random(1, n), [1, 1, 1, n])]);
    let mut reference = Optimizers::new(&params, &train(ADAM, None, 1.0));
    let gradient = || vec![Some(tensor(&random(2, n), [1, 1, 1, n]))];
    for _ in 0..2 {
        optimizers.step(&mut now[0], gradient(), 1.0).unwrap();
        reference.step_by(&mut now[1], gradient(), 1.0, false).unwrap();
    }
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(0.1));
    let [a, b] = now.map(|v| numbers(&v[0]));
    assert!(near(&a, &b));
    let [a, b] = [optimizers, reference].map(|o| o.state().tensors);
    assert!(a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && near(a.1, b.1)));
}

#[test]
fn averages_follow_their_formula() {
    let params = [param("conv1.weight", Role::Latent)];
    let mut average = Average::new(&params, &values(&params), 0.25);
    let mut wanted: Vec<f64> = random(1, N).iter().map(|x| f64::from(*x)).collect();
    for t in 0..6 {
        let value = random(20 + t, N);
        average.update(&[tensor(&value, SHAPE)]).unwrap();
        // 1/10, 2/11, 3/12, and then the decay.
        let d = [0.1, 2.0 / 11.0, 0.25, 0.25, 0.25, 0.25][t as usize];
        wanted.iter_mut().zip(&value).for_each(|(a, v)| *a = d * *a + (1.0 - d) * f64::from(*v));
        let found = numbers(&average.values()[0]);
        assert!(found.iter().zip(&wanted).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "update {t}");
    }
}

#[test]
fn flips_are_counted_by_layer() {
    let params = [
        param("conv1.weight", Role::Latent),
        param("conv1.bias", Role::Offset),
        param("dense1.weight", Role::Latent),
    ];
    let start = vec![tensor(&[0.0; N], SHAPE), tensor(&[1.0; N], SHAPE), tensor(&[-1.0; N], SHAPE)];
    let flips = Flips::new(&params, &start).unwrap();
    assert_eq!(flips.total(&start).unwrap(), 0.0);
    let mut numbers = vec![-0.0; N];
    numbers[..63].fill(-0.5);
    let later = vec![tensor(&numbers, SHAPE), tensor(&[-1.0; N], SHAPE), tensor(&[-0.1; N], SHAPE)];
    let share = 63.0 / N as f64;
    assert_eq!(flips.since(&later).unwrap(), [("conv1".to_owned(), share), ("dense1".to_owned(), 0.0)]);
    assert_eq!(flips.total(&later).unwrap(), share / 2.0);
}

/// Nanoseconds for each parameter of a network of 2.9 million: `cargo test -p onebit-train --lib speed -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn speed() {
    let n = [1 << 20, 1 << 20, 800_000];
    let params = n.map(|n| Param { shape: [1, 1, 1, n], ..param("dense1.weight", Role::Latent) });
    let numbers =
        |seed| params.iter().map(|p| tensor(&random(seed, p.shape[3]), p.shape)).collect::<Vec<_>>();
    let time = |what: &str, f: &mut dyn FnMut()| {
        let one = |_| {
            let start = std::time::Instant::now();
            f();
            start.elapsed().as_secs_f64() / n.iter().sum::<usize>() as f64 * 1e9
        };
        let mut times: Vec<f64> = (0..20).map(one).collect();
        times.sort_by(f64::total_cmp);
        println!("{what}: {:.2} ns at best, {:.2} ns in the middle", times[0], times[10]);
    };
    for optimizer in [ADAM, NESTEROV, BOP] {
        let mut now = numbers(1);
        let gradients = numbers(2);
        let mut optimizers = Optimizers::new(&params, &train(ADAM, Some(optimizer), 1.0));
        for fused in [false, true] {
            time(&format!("{optimizer:?}, fused {fused}"), &mut || {
                let gradients = gradients.iter().cloned().map(Some).collect();
                optimizers.step_by(&mut now, gradients, 1.0, fused).unwrap();
            });
        }
    }
    let now = numbers(1);
    let mut average = Average::new(&params, &numbers(1), 0.99);
    time("average", &mut || average.update(&now).unwrap());
    let flips = Flips::new(&params, &now).unwrap();
    time("flips", &mut || assert_eq!(flips.total(&now).unwrap(), 0.0));
    time("check", &mut || check_values(&params, &now).unwrap());
}
