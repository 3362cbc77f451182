//! Float layers as integers: what is computed then is exact, near to the floats, and as far as promised free of them.

use onebit::core::cases::Rng;
use onebit::core::model::{Params, Tensor};
use onebit::core::ops::*;
use onebit::core::reference::{self, Values};
use onebit::core::{DType, Encoding, Quant, Shape, ValueType, kernels};
use onebit::quantize::{Options, Report, quantize};
use onebit::session::Elements;
use onebit::{Graph, Session, passes};

fn float_graph(rng: &mut Rng, shape: Shape) -> Graph {
    let mut g = Graph::new(ValueType::new(shape, DType::F32), Default::default());
    let c = shape.c;
    (g.meta.input.mean, g.meta.input.std) = match rng.below(4) {
        0 => (vec![], vec![]),
        1 => (vec![], vec![255.0]),
        2 => (vec![127.5], vec![127.5]),
        _ => (rng.floats(c, 90.0, 130.0), rng.floats(c, 50.0, 70.0)),
    };
    g
}

fn add(g: &mut Graph, name: &str, op: Op, v: usize) -> usize {
    g.add(name, op, &[v], Params::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// A float convolution or dense layer, of bits sometimes, padded with one of some numbers.
fn stem(g: &mut Graph, rng: &mut Rng, pads: &[f32]) -> usize {
    let v = Graph::INPUT;
    let shape = g.ty(v).shape;
    let n = 1 + rng.below(9);
    let bias = (rng.below(2) == 0).then(|| Tensor::f32(rng.floats(n, -2.0, 2.0)));
    let weight = |rng: &mut Rng, k: usize| match rng.below(4) {
        0 => rng.weights(n, k, Quant::BIT),
        _ => Tensor::f32_matrix(n, k, rng.floats(n * k, -1.5, 1.5)),
    };
    if rng.below(3) == 0 {
        let weight = Some(weight(rng, shape.elements()));
        return g.add("stem", Op::Dense, &[v], Params { weight, bias, ..Params::default() }).unwrap();
    }
    let kernel = 1 + rng.below(3);
    let window = Window::square(kernel, 1 + rng.below(2), rng.below(2));
    let depthwise = rng.below(4) == 0 && n.is_multiple_of(shape.c);
    let groups = if depthwise { shape.c } else { 1 };
    let pad_value = pads[rng.below(pads.len())];
    let weight = Some(weight(rng, kernel * kernel * shape.c / groups));
    let conv = Op::Conv2d(Conv2d { window, groups, pad_value });
    g.add("stem", conv, &[v], Params { weight, bias, ..Params::default() }).unwrap()
}

fn norm(g: &mut Graph, rng: &mut Rng, v: usize) -> usize {
    let c = g.ty(v).shape.c;
    let params = Params {
        center: Some(Tensor::f32(rng.floats(c, -1.0, 1.0))),
        scale: Some(Tensor::f32(rng.floats(c, -2.0, 2.0))),
        bias: Some(Tensor::f32(rng.floats(c, -1.0, 1.0))),
        ..Params::default()
    };
    g.add("norm", Op::Affine, &[v], params).unwrap()
}

fn sign(g: &mut Graph, v: usize) -> usize {
    add(g, "sign", Op::Sign(Sign { zero: Zero::Positive }), v)
}

fn pixels(rng: &mut Rng, shape: Shape) -> Vec<u8> {
    (0..shape.elements()).map(|_| [0, 255, rng.below(256) as u8][rng.below(3)]).collect()
}

/// What the reference puts out for a picture.
fn reference(g: &Graph, pixels: &[u8]) -> Vec<f32> {
    let (model, meta) = g.clone().into_model().unwrap();
    let c = model.input().shape.c;
    let normalised = |(i, p): (usize, &u8)| {
        let (mean, std) = meta.input.normalisation(i % c);
        (f32::from(*p) - mean) / std
    };
    let input = match model.input().dtype {
        DType::F32 => Values::F32(pixels.iter().enumerate().map(normalised).collect()),
        _ => Values::Int(pixels.iter().map(|p| i32::from(*p)).collect()),
    };
    reference::run(&model, input).unwrap().to_f32()
}

/// The fast paths put out what the reference of the same graph does.
fn runs_exactly(g: &Graph, pixels: &[u8]) {
    let want = reference(g, pixels);
    let (model, meta) = g.clone().into_model().unwrap();
    for rung in kernels::available() {
        let options = onebit::Options { threads: 1, isa: Some(rung.isa.into()) };
        let session = Session::new(&model, meta.clone(), &options).unwrap();
        let got = session.run_elements(Elements::Pixels(pixels)).unwrap();
        assert_eq!(got[0].scores, want, "{}", rung.isa);
    }
}

fn has_floats(g: &Graph) -> bool {
    (0..=g.nodes.len()).any(|v| g.ty(v).dtype == DType::F32)
}

#[test]
fn stems_stay_within_their_bound() {
    let (mut padded, mut kept, mut refused) = (0, 0, 0);
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let shape = Shape::new(3 + rng.below(4), 3 + rng.below(4), 1 + rng.below(3));
        let mut g = float_graph(&mut rng, shape);
        let v = stem(&mut g, &mut rng, &[0.0, 0.0, -1.0, 0.7]);
        // Another reader, so that nothing behind the stem becomes part of it.
        g.output = v;
        let options =
            Options { weight_bits: [2, 4, 8, 8][rng.below(4)], integer_scores: false, ..Options::default() };
        let (new, report) = quantize(&g, &options).unwrap();
        if report.layers.is_empty() {
            let reason = &report.floats.last().unwrap().reason;
            assert!(reason.contains("padding"), "seed {seed}: {reason}");
            refused += 1;
            continue;
        }
        let layer = &report.layers[0];
        padded += usize::from(new.nodes.iter().any(|n| matches!(n.op, Op::Pad(_))));
        kept += usize::from(layer.bits == 1);
        match layer.bits {
            1 => assert_eq!(layer.rounding, 0.0),
            bits => assert!(bits == options.weight_bits && layer.rounding <= 0.51),
        }
        assert_eq!((new.ty(Graph::INPUT).dtype, new.meta.input.std.len()), (DType::U8, 0));
        let image = pixels(&mut rng, shape);
        let (want, got) = (reference(&g, &image), reference(&new, &image));
        let most = want.iter().fold(1f32, |m, v| m.max(v.abs()));
        let slack = 1e-4 * f64::from(most) + 1e-3;
        let mut off = 0f64;
        for (w, g) in want.iter().zip(&got) {
            off = off.max(f64::from((w - g).abs()));
        }
        assert!(off <= layer.bound + slack, "seed {seed}: off by {off}, bound {}", layer.bound);
        runs_exactly(&new, &image);
    }
    // Padding of -1 where pixels are only divided stands for a byte below 0.
    assert!(padded > 30 && kept > 30 && refused < 20, "{padded} {kept} {refused}");
}

/// Weights that are 127 steps at most, means and pixels that are whole numbers: floats and integers compute the same, also
/// at the border, where each channel is padded with its mean.
#[test]
fn what_needs_no_rounding_stays_the_same() {
    let mut slices = 0;
    for seed in 0..100 {
        let mut rng = Rng::new(500 + seed);
        let shape = Shape::new(3 + rng.below(4), 3 + rng.below(4), 1 + rng.below(3));
        let mut g = float_graph(&mut rng, shape);
        g.meta.input.mean = (0..shape.c).map(|_| [1, 1, 100, 128, 254][rng.below(5)] as f32).collect();
        g.meta.input.std = vec![64.0];
        let (n, kernel) = (shape.c * (1 + rng.below(3)), 1 + rng.below(3));
        let groups = if rng.below(2) == 0 { shape.c } else { 1 };
        let k = kernel * kernel * shape.c / groups;
        let mut weight: Vec<f32> = (0..n * k).map(|_| (rng.below(255) as f32 - 127.0) / 32.0).collect();
        weight.iter_mut().step_by(k).for_each(|w| *w = -127.0 / 32.0);
        let bias = Some(Tensor::f32((0..n).map(|_| rng.below(9) as f32 - 4.0).collect()));
        let params = Params { weight: Some(Tensor::f32_matrix(n, k, weight)), bias, ..Params::default() };
        let window = Window { pad: [1, 0, 2, 1], ..Window::square(kernel, 1 + rng.below(2), 0) };
        let pad_value = [0.0, -1.0 / 64.0, 1.0 / 64.0][rng.below(3)];
        g.add("stem", Op::Conv2d(Conv2d { window, groups, pad_value }), &[0], params).unwrap();
        let options = Options { integer_scores: false, ..Options::default() };
        // One step for all filters, which have the same largest weight.
        let (new, report) = quantize(&g, &options).unwrap();
        assert_eq!((report.layers.len(), report.layers[0].rounding), (1, 0.0), "seed {seed}: {report:?}");
        slices += usize::from(new.nodes.iter().any(|n| matches!(n.op, Op::Slice(_))));
        let image = pixels(&mut rng, shape);
        assert_eq!(reference(&new, &image), reference(&g, &image), "seed {seed}");
        runs_exactly(&new, &image);
    }
    assert!(slices > 20, "{slices}");
}

#[test]
fn no_float_is_left_of_a_stem_with_a_sign() {
    for seed in 0..200 {
        let mut rng = Rng::new(1000 + seed);
        let shape = Shape::new(4 + rng.below(4), 4 + rng.below(4), 1 + rng.below(3));
        let mut g = float_graph(&mut rng, shape);
        let mut v = stem(&mut g, &mut rng, &[0.0]);
        if g.ty(v).shape.pixels() > 1 && rng.below(2) == 0 {
            let pool = Pool2d { kind: PoolKind::Max, window: Window::square(2, 1, 1), count_pad: false };
            v = add(&mut g, "pool", Op::Pool2d(pool), v);
        }
        let functions = [
            Activation::Tanh,
            Activation::Relu,
            Activation::Clip { low: -1.0, high: 1.0 },
            Activation::Sigmoid,
        ];
        if rng.below(2) == 0 {
            v = add(&mut g, "function", Op::Activation(functions[rng.below(4)]), v);
        }
        v = norm(&mut g, &mut rng, v);
        v = sign(&mut g, v);
        let weight = Some(rng.weights(5, g.ty(v).shape.elements(), Quant::BIT));
        g.add(
            "dense",
            Op::BDense(BDense { output: DType::I32 }),
            &[v],
            Params { weight, ..Params::default() },
        )
        .unwrap();
        for optimised in [false, true] {
            if optimised {
                passes::optimize(&mut g).unwrap();
            }
            let (new, report): (Graph, Report) = quantize(&g, &Options::default()).unwrap();
            assert!(!has_floats(&new) && report.floats.is_empty(), "seed {seed}: {report:?}");
            assert_eq!((report.layers.len(), report.scores), (1, None));
            runs_exactly(&new, &pixels(&mut rng, shape));
        }
    }
}

/// Bits, a float head, affine maps behind it.
fn with_head(rng: &mut Rng, levels: bool) -> Graph {
    let k = 1 + rng.below(200);
    let n = 2 + rng.below(9);
    let shape = Shape::vector(k);
    let mut g = Graph::new(ValueType::new(shape, DType::U8), Default::default());
    let weight = Some(rng.weights(k, k, Quant::BIT));
    let params = Params { weight, ..Params::default() };
    let mut v = g.add("first", Op::BDense(BDense { output: DType::I32 }), &[0], params).unwrap();
    v = norm(&mut g, rng, v);
    if levels {
        let q = Quant::new(3, Encoding::Unsigned);
        let op = Quantize {
            scale: 0.02,
            offset: 1.0,
            rounding: Rounding::HalfEven,
            output: DType::Bits(q),
            lowest: 0,
            highest: 7,
        };
        v = add(&mut g, "levels", Op::Quantize(op), v);
    } else {
        v = sign(&mut g, v);
    }
    v = add(&mut g, "decode", Op::Decode, v);
    if rng.below(2) == 0 {
        v = norm(&mut g, rng, v);
    }
    let weight = Some(Tensor::f32_matrix(n, k, rng.floats(n * k, -1.0, 1.0)));
    let bias = Some(Tensor::f32(rng.floats(n, -1.0, 1.0)));
    v = g.add("head", Op::Dense, &[v], Params { weight, bias, ..Params::default() }).unwrap();
    for _ in 0..rng.below(3) {
        v = norm(&mut g, rng, v);
    }
    g.output = v;
    g
}

fn is_whole(values: &[f32]) -> bool {
    values.iter().all(|v| v.fract() == 0.0 && v.abs() < (1 << 24) as f32)
}

#[test]
fn heads_put_out_one_factor_times_their_scores() {
    for seed in 0..200 {
        let mut rng = Rng::new(2000 + seed);
        let mut g = with_head(&mut rng, seed % 2 == 0);
        let v = g.output;
        match rng.below(4) {
            0 => drop(add(&mut g, "softmax", Op::Softmax, v)),
            1 => drop(add(&mut g, "class", Op::Argmax, v)),
            _ => {}
        }
        let (new, report) = quantize(&g, &Options::default()).unwrap();
        assert!(report.floats.is_empty(), "seed {seed}: {report:?}");
        let image = pixels(&mut rng, g.ty(Graph::INPUT).shape);
        runs_exactly(&new, &image);
        let got = reference(&new, &image);
        assert!(is_whole(&got), "seed {seed}: {got:?}");
        let scores = report.scores.as_ref().unwrap();
        if matches!(g.producer(g.output).unwrap().op, Op::Softmax | Op::Argmax) {
            continue;
        }
        let want = reference(&g, &image);
        let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        let near = report.layers[0].bound + scores.bound + 1e-4 * (1.0 + f64::from(largest));
        for (w, i) in want.iter().zip(&got) {
            assert!(f64::from(i.abs()) <= f64::from(scores.largest), "seed {seed}: {i} {scores:?}");
            let off = (f64::from(*w) - f64::from(*i) / scores.factor).abs();
            assert!(off <= near, "seed {seed}: {w} is {i} / {}, off by {off} of {near}", scores.factor);
        }
        // One step for all classes.
        let params = &new.producer(new.output).unwrap().params;
        let scales = params.scale.as_ref().unwrap().to_f32();
        assert!(scales.iter().all(|s| *s == scales[0]), "seed {seed}: {scales:?}");
        // What is integers stays as it is.
        let (again, second) = quantize(&new, &Options::default()).unwrap();
        assert_eq!((again, second), (new, Report::default()));
    }
}

#[test]
fn networks_of_integers_come_back_as_they_are() {
    for seed in 0..40 {
        let mut rng = Rng::new(3000 + seed);
        let mut g = Graph::new(ValueType::new(Shape::vector(20), DType::U8), Default::default());
        g.meta.source = "here".into();
        let weight = Some(rng.weights(30, 20, Quant::BIT));
        let params = Params { weight, ..Params::default() };
        let v = g.add("first", Op::BDense(BDense { output: DType::I32 }), &[0], params).unwrap();
        let v = norm(&mut g, &mut rng, v);
        let v = sign(&mut g, v);
        let weight = Some(rng.weights(4, 30, Quant::BIT));
        let params = Params { weight, ..Params::default() };
        g.add("last", Op::BDense(BDense { output: DType::I32 }), &[v], params).unwrap();
        passes::optimize(&mut g).unwrap();
        assert_eq!(quantize(&g, &Options::default()).unwrap(), (g, Report::default()));
    }
}

#[test]
fn scores_of_integer_layers_keep_their_order() {
    let mut rng = Rng::new(7);
    let mut g = Graph::new(ValueType::new(Shape::vector(64), DType::U8), Default::default());
    let params = Params { weight: Some(rng.weights(6, 64, Quant::BIT)), ..Params::default() };
    let v = g.add("last", Op::BDense(BDense { output: DType::I32 }), &[0], params).unwrap();
    norm(&mut g, &mut rng, v);
    let (new, report) = quantize(&g, &Options::default()).unwrap();
    let scores = report.scores.unwrap();
    assert!(report.layers.is_empty() && report.floats.is_empty() && !report.input);
    // Much smaller factors are not considered.
    assert!(scores.largest < 1 << 24 && scores.largest >= (1 << 23) - 8, "{scores:?}");
    let mut ordered = 0;
    for _ in 0..50 {
        let image = pixels(&mut rng, Shape::vector(64));
        let (want, got) = (reference(&g, &image), reference(&new, &image));
        assert!(is_whole(&got));
        for (a, b) in (0..6).flat_map(|a| (0..6).map(move |b| (a, b))) {
            if f64::from(want[a] - want[b]) > 2.0 * scores.bound + 1e-3 {
                assert!(got[a] > got[b], "{want:?} {got:?}");
                ordered += 1;
            }
        }
    }
    // Of 15 pairs of each picture almost all.
    assert!(ordered > 50 * 15 - 30, "{ordered} of {scores:?}");
    let options = Options { integer_scores: false, ..Options::default() };
    let (same, report) = quantize(&g, &options).unwrap();
    assert_eq!((report.scores, report.floats.len(), has_floats(&same)), (None, 1, true));
}

#[test]
fn floats_between_layers_become_levels() {
    for (function, needs_pictures) in [(Activation::Tanh, false), (Activation::Relu, true)] {
        let mut rng = Rng::new(11);
        let shape = Shape::new(6, 6, 3);
        let mut g = Graph::new(ValueType::new(shape, DType::F32), Default::default());
        g.meta.input.std = vec![255.0];
        let conv =
            |groups, pad| Op::Conv2d(Conv2d { window: Window::square(3, 1, pad), groups, pad_value: 0.0 });
        let mut floats = |n: usize, k: usize| Params {
            weight: Some(Tensor::f32_matrix(n, k, rng.floats(n * k, -0.5, 0.5))),
            ..Params::default()
        };
        let v = g.add("stem", conv(1, 1), &[0], floats(8, 27)).unwrap();
        let v = add(&mut g, "function", Op::Activation(function), v);
        let v = g.add("depthwise", conv(8, 1), &[v], floats(8, 9)).unwrap();
        let v = add(&mut g, "second", Op::Activation(function), v);
        g.add("head", Op::Dense, &[v], floats(5, 8 * 36)).unwrap();
        let images: Vec<Vec<u8>> = (0..8).map(|_| pixels(&mut rng, shape)).collect();
        let all = images.concat();
        let (_, report) = quantize(&g, &Options::default()).unwrap();
        assert_eq!(report.floats.is_empty(), !needs_pictures, "{report:?}");
        if needs_pictures {
            let reasons: Vec<&str> = report.floats.iter().map(|f| f.reason.as_str()).collect();
            assert!(reasons.iter().any(|r| r.contains("the range of 'function'")), "{reasons:?}");
        }
        let mut worst = f64::INFINITY;
        for bits in [3, 5, 8] {
            let options = Options { activation_bits: bits, pixels: &all, ..Options::default() };
            let (new, report) = quantize(&g, &options).unwrap();
            assert!(report.floats.is_empty() && report.layers.len() == 3, "{report:?}");
            let sign = if needs_pictures { 'u' } else { 's' };
            assert_eq!(report.layers[1].input.to_string(), format!("{sign}{bits}"));
            let factor = report.scores.unwrap().factor;
            let mut off = 0f64;
            for image in &images {
                runs_exactly(&new, image);
                for (w, i) in reference(&g, image).iter().zip(reference(&new, image)) {
                    off = off.max((f64::from(*w) - f64::from(i) / factor).abs());
                }
            }
            assert!(off < worst / 2.0, "{function:?}: {off} with {bits} bits, {worst} with fewer");
            worst = off;
        }
        assert!(worst < 0.2, "{worst}");
    }
}

/// A head that passes on what it reads shows the levels.
#[test]
fn levels_lie_half_a_step_from_what_they_stand_for() {
    let mut rng = Rng::new(12);
    let mut g = Graph::new(ValueType::new(Shape::vector(40), DType::U8), Default::default());
    let params = Params { weight: Some(rng.weights(20, 40, Quant::BIT)), ..Params::default() };
    let v = g.add("first", Op::BDense(BDense { output: DType::I32 }), &[0], params).unwrap();
    let scale = Some(Tensor::f32(vec![0.0005; 20]));
    let v = g.add("scale", Op::Affine, &[v], Params { scale, ..Params::default() }).unwrap();
    let v = add(&mut g, "tanh", Op::Activation(Activation::Tanh), v);
    let same = (0..400).map(|i| if i % 21 == 0 { 1.0 } else { 0.0 }).collect();
    let weight = Some(Tensor::f32_matrix(20, 20, same));
    g.add("head", Op::Dense, &[v], Params { weight, ..Params::default() }).unwrap();
    for (bits, most) in [(2, 1.0), (4, 7.0), (8, 127.0)] {
        let options = Options { activation_bits: bits, ..Options::default() };
        let (new, report) = quantize(&g, &options).unwrap();
        let factor = report.scores.unwrap().factor as f32;
        for _ in 0..20 {
            let image = pixels(&mut rng, Shape::vector(40));
            for (want, got) in reference(&g, &image).iter().zip(reference(&new, &image)) {
                let level = got / factor * most;
                assert!(
                    (level - want * most).abs() < 0.5001 && level - level.round() < 1e-4,
                    "{level} {want}"
                );
            }
        }
    }
}

#[test]
fn pixels_that_only_have_a_sign_become_thresholds_of_bytes() {
    let mut g = Graph::new(ValueType::new(Shape::vector(8), DType::F32), Default::default());
    (g.meta.input.mean, g.meta.input.std) = (vec![127.5], vec![127.5]);
    sign(&mut g, 0);
    let (new, report) = quantize(&g, &Options::default()).unwrap();
    assert!(report.input && report.floats.is_empty() && new.nodes.len() == 1);
    let image = [0, 1, 126, 127, 128, 129, 254, 255];
    assert_eq!(reference(&new, &image), [-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0]);
}

#[test]
fn what_stays_float_has_a_reason() {
    let mut rng = Rng::new(5);
    let shape = Shape::new(4, 4, 8);
    let mut g = Graph::new(ValueType::new(shape, DType::U8), Default::default());
    let params = Params { weight: Some(rng.weights(8, 8, Quant::BIT)), ..Params::default() };
    let conv = BConv2d { window: Window::square(1, 1, 0), groups: 1, pad_value: 0, output: DType::F32 };
    let v = g.add("conv", Op::BConv2d(conv), &[0], params).unwrap();
    let mean = Pool2d { kind: PoolKind::Average, window: Window::whole(shape), count_pad: false };
    let v = add(&mut g, "mean", Op::Pool2d(mean), v);
    let weight = Some(Tensor::f32_matrix(3, 8, rng.floats(24, -1.0, 1.0)));
    g.add("head", Op::Dense, &[v], Params { weight, ..Params::default() }).unwrap();
    passes::optimize(&mut g).unwrap();
    let (same, report) = quantize(&g, &Options::default()).unwrap();
    assert_eq!(same, g);
    let reason = |name: &str| &report.floats.iter().find(|f| f.name == name).unwrap().reason;
    assert!(reason("head").contains("'mean'"), "{report:?}");
    assert!(reason("mean").contains("'conv'"), "{report:?}");
}

#[test]
fn wrong_options_are_refused() {
    let mut rng = Rng::new(1);
    let mut g = float_graph(&mut rng, Shape::new(3, 3, 1));
    stem(&mut g, &mut rng, &[0.0]);
    let refuse = |g: &Graph, options: Options<'_>| quantize(g, &options).unwrap_err().to_string();
    assert!(refuse(&g, Options { weight_bits: 9, ..Options::default() }).contains("2 to 8"));
    assert!(refuse(&g, Options { activation_bits: 1, ..Options::default() }).contains("2 to 8"));
    assert!(refuse(&g, Options { pixels: &[0; 10], ..Options::default() }).contains("pictures of 9"));
    for (mean, std) in [(f32::NAN, 1.0), (0.0, 0.0), (0.0, f32::INFINITY), (0.0, 1e-40)] {
        (g.meta.input.mean, g.meta.input.std) = (vec![mean], vec![std]);
        assert!(refuse(&g, Options::default()).contains("preprocessing"), "{mean} {std}");
    }
}

/// Trained networks of other projects: counts of right answers are exact, before and after.
#[test]
fn published_networks_keep_their_accuracy() {
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("ONEBIT_SHARED").map_or(beside, Into::into);
    if !shared.join("models").is_dir() {
        eprintln!("skipped: no networks in {} (set ONEBIT_SHARED)", shared.display());
        return;
    }
    let data = onebit::Dataset::open(shared.join("data/mnist")).unwrap();
    let pixels: Vec<u8> = (0..data.len()).flat_map(|i| data.pixels(i).unwrap().to_vec()).collect();
    let correct = |g: &Graph| {
        let (model, meta) = g.clone().into_model().unwrap();
        let session = Session::new(&model, meta, &onebit::Options::default()).unwrap();
        let outputs = session.run_elements(Elements::Pixels(&pixels)).unwrap();
        outputs.iter().zip(data.labels()).filter(|(o, label)| o.class() == **label).count()
    };
    let import = |path: &str, std: &[f32]| {
        let options = onebit::import::ImportOptions { std: std.to_vec(), ..Default::default() };
        let mut graph = onebit::import::import(&shared.join("models").join(path), &options).unwrap().graph;
        passes::optimize(&mut graph).unwrap();
        graph
    };
    let lenet = import("bmxnet/binarized_mnist_64bit-0001.params", &[255.0]);
    assert_eq!(correct(&lenet), 9740);
    for (weight_bits, activation_bits, after) in [(8, 4, 9744), (8, 8, 9739), (4, 4, 9707)] {
        let options = Options { weight_bits, activation_bits, ..Options::default() };
        let (integers, report) = quantize(&lenet, &options).unwrap();
        assert!(report.floats.is_empty() && report.layers.len() == 2, "{report:?}");
        assert_eq!(correct(&integers), after, "{weight_bits} {activation_bits}");
    }
    let lfc = import("bnn-pynq/mnist/lfcW1A1", &[]);
    assert_eq!(quantize(&lfc, &Options::default()).unwrap(), (lfc, Report::default()));
}
