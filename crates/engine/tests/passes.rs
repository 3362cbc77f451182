//! On random graphs, every pass keeps the output of the reference bit for bit, and the fused graph equals
//! it on every kernel rung.

use onebit::core::cases::{self, Rng};
use onebit::core::model::{Model, Params, Tensor};
use onebit::core::ops::*;
use onebit::core::reference::{self, Values};
use onebit::core::{DType, Encoding, Quant, Shape, ValueType, kernels};
use onebit::session::Elements;
use onebit::{Graph, Options, Session, passes};

/// A chain of random layers with residual connections, as an importer would emit it.
fn random_graph(rng: &mut Rng) -> Graph {
    let dtype = if rng.below(3) == 0 { DType::U8 } else { DType::F32 };
    let shape = Shape::new(3 + rng.below(6), 3 + rng.below(6), 1 + rng.below(5));
    let mut g = Graph::new(ValueType::new(shape, dtype), Default::default());
    let mut v = Graph::INPUT;
    let mut shortcut: Option<usize> = None;
    for layer in 0..2 + rng.below(10) {
        v = random_layer(&mut g, rng, v, &format!("l{layer}"));
        // What importers write down once for each reader.
        if rng.below(6) == 0
            && let Some(twin) = g.producer(v).cloned()
            && matches!(g.ty(v).dtype, DType::F32 | DType::I32)
        {
            let twin = g.add("twin", twin.op, &twin.inputs, twin.params).unwrap();
            v = g.add("both", Op::Add, &[v, twin], Params::default()).unwrap();
        }
        // A residual connection whenever an earlier float value still fits.
        if g.ty(v).dtype == DType::F32 {
            match shortcut.filter(|s| g.ty(*s) == g.ty(v)) {
                Some(s) if rng.below(2) == 0 => {
                    let op = [Op::Add, Op::Add, Op::Max, Op::Min][rng.below(4)];
                    v = g.add("join", op, &[v, s], Params::default()).unwrap();
                }
                _ => shortcut = Some(v),
            }
        }
    }
    g
}

fn random_layer(g: &mut Graph, rng: &mut Rng, v: usize, name: &str) -> usize {
    let ty = g.ty(v);
    let (shape, c) = (ty.shape, ty.shape.c);
    let n = 1 + rng.below(70);
    if rng.below(10) == 0 {
        let op = random_move(rng, ty);
        return g.add(name, op, &[v], Params::default()).unwrap_or_else(|e| panic!("{ty}: {e}"));
    }
    let (op, params) = match ty.dtype {
        DType::Bits(_) | DType::U8 | DType::I8 => match rng.below(7) {
            0 if shape.h > 1 && shape.w > 1 && matches!(ty.dtype, DType::Bits(_)) => {
                (Op::BPool2d(BPool2d { window: Window::square(2, 1, 0) }), Params::default())
            }
            1 => {
                let weight = Some(rng.weights(n, shape.elements(), Quant::BIT));
                (Op::BDense(BDense { output: DType::I32 }), Params { weight, ..Default::default() })
            }
            2 => (Op::Decode, Params::default()),
            3 if matches!(ty.dtype, DType::Bits(q) if q != Quant::TERNARY) => {
                let levels = ty.dtype.quant().map_or(0, Quant::levels);
                let table = (0..levels).map(|_| rng.below(40) as i32 - 20).collect();
                let weight = Some(Tensor::i32_matrix(1, levels, table));
                (Op::Lookup, Params { weight, ..Default::default() })
            }
            _ => {
                let q = [Quant::BIT, Quant::BIT, Quant::TERNARY][rng.below(3)];
                let kernel = 1 + rng.below(3);
                let window = Window::square(kernel, 1 + rng.below(2), kernel / 2);
                let weight = Some(rng.weights(n, kernel * kernel * c, q));
                let pad_value = rng.below(3) as i32 - 1;
                let conv = BConv2d { window, groups: 1, pad_value, output: DType::I32 };
                (Op::BConv2d(conv), Params { weight, ..Default::default() })
            }
        },
        DType::I32 => match rng.below(4) {
            0 => (Op::Sign(Sign { zero: Zero::Positive }), Params::default()),
            1 => (max_pool(), Params::default()),
            2 => {
                // A sign that is 0 at one number, which accumulators reach or do not.
                let at = rng.below(20) as i32 - 10;
                let thresholds = Some(Tensor::i32_matrix(c, 2, [at, at + 1].repeat(c)));
                let output = DType::Bits(Quant::TERNARY);
                (Op::Threshold(Threshold { output }), Params { thresholds, ..Default::default() })
            }
            _ => (Op::Affine, affine(rng, c)),
        },
        DType::F32 => match rng.below(12) {
            0 => (Op::Activation(Activation::Relu), Params::default()),
            1 => {
                use Activation::{Abs, Erf, Floor, Round, Sqrt, Tanh};
                let all = [Tanh, Tanh, Abs, Sqrt, Erf, Round, Floor];
                (Op::Activation(all[rng.below(all.len())]), Params::default())
            }
            2 => (Op::Activation(Activation::Clip { low: -1.0, high: 1.0 }), Params::default()),
            3 => {
                let scale = Some(Tensor::f32(rng.floats(c, -0.3, 1.0)));
                (Op::Prelu, Params { scale, ..Default::default() })
            }
            4 | 5 => (Op::Affine, affine(rng, c)),
            6 => (max_pool(), Params::default()),
            7 => (Op::Reshape(Reshape { shape: Shape::vector(shape.elements()) }), Params::default()),
            8 => {
                let formats = [Quant::TERNARY, Quant::new(2, Encoding::Unsigned)];
                let q = formats[rng.below(2)];
                let quantize = Quantize {
                    scale: rng.float(-2.0, 2.0),
                    offset: rng.float(-1.0, 1.0),
                    rounding: Rounding::HalfEven,
                    output: DType::Bits(q),
                    lowest: q.min(),
                    highest: q.max(),
                };
                (Op::Quantize(quantize), Params::default())
            }
            9 => (Op::Sign(Sign { zero: Zero::Negative }), Params::default()),
            _ => (Op::Sign(Sign { zero: Zero::Positive }), Params::default()),
        },
    };
    g.add(name, op, &[v], params).unwrap_or_else(|e| panic!("{ty}: {e}"))
}

/// An op that moves elements.
fn random_move(rng: &mut Rng, ty: ValueType) -> Op {
    let Shape { h, w, c } = ty.shape;
    match rng.below(6) {
        0 | 1 => {
            let orders = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 0, 1]];
            // Large maps take long.
            let few = if ty.shape.elements() < 200 { 4 } else { 2 };
            Op::Transpose(Transpose { order: orders[rng.below(few)] })
        }
        2 => {
            let from = [rng.below(h), rng.below(w), rng.below(c)];
            let size = [h - from[0], w - from[1], c - from[2]].map(|n| 1 + rng.below(n));
            Op::Slice(Slice { from, size, step: [1; 3] })
        }
        3 => {
            let mode = [PadMode::Constant, PadMode::Edge, PadMode::Reflect][rng.below(3)];
            let value = if mode == PadMode::Constant { 1.0 } else { 0.0 };
            let pad = [h, w, h, w].map(|n| rng.below(n.min(3)));
            Op::Pad(Pad { pad, mode, value })
        }
        4 if c.is_multiple_of(4) => Op::DepthToSpace(DepthToSpace { block: [2, 2] }),
        _ => {
            let linear = ty.dtype == DType::F32 && rng.below(2) == 0;
            let mode = if linear { ResizeMode::Linear } else { ResizeMode::NearestPreferFloor };
            let size = [1 + rng.below(8), 1 + rng.below(8)];
            Op::Resize(Resize { size, mode, coordinates: Coordinates::HalfPixel })
        }
    }
}

/// BatchNorm-like constants: positive, negative and zero scales.
fn affine(rng: &mut Rng, c: usize) -> Params<Tensor<'static>> {
    let center = Tensor::f32(rng.floats(c, -4.0, 4.0));
    let scale = (0..c).map(|_| [0.0, 1.0, -1.0, rng.float(-2.0, 2.0)][rng.below(4)]).collect();
    let bias = (0..c).map(|_| [0.0, rng.float(-2.0, 2.0)][rng.below(2)]).collect();
    Params {
        center: (rng.below(2) == 0).then_some(center),
        scale: Some(Tensor::f32(scale)),
        bias: Some(Tensor::f32(bias)),
        ..Default::default()
    }
}

fn max_pool() -> Op {
    Op::Pool2d(Pool2d { kind: PoolKind::Max, window: Window::square(2, 1, 1), count_pad: false })
}

fn output(g: &Graph, image: &Values) -> Vec<f32> {
    let (model, _) = g.clone().into_model().unwrap();
    reference::run(&model, image.clone()).unwrap().to_f32()
}

#[test]
fn every_pass_keeps_the_output() {
    let mut rewrites = vec![0; passes::PASSES.len()];
    for seed in 0..600 {
        let mut rng = Rng::new(1000 + seed);
        let graph = random_graph(&mut rng);
        let images: Vec<Values> = (0..2).map(|_| rng.values(graph.ty(Graph::INPUT))).collect();
        let want: Vec<Vec<f32>> = images.iter().map(|i| output(&graph, i)).collect();
        let mut g = graph.clone();
        g.normalize().unwrap();
        // Three rounds in order, so that each pass also sees what the later ones leave.
        for _ in 0..3 {
            for (i, (name, pass)) in passes::PASSES.iter().enumerate() {
                rewrites[i] += pass(&mut g).unwrap();
                let dropped = g.normalize().unwrap_or_else(|e| panic!("seed {seed}, after {name}: {e}"));
                if *name == "fuse_output" {
                    rewrites[passes::PASSES.len() - 1] += dropped;
                }
                for (image, want) in images.iter().zip(&want) {
                    assert_eq!(&output(&g, image), want, "seed {seed}, after {name}");
                }
            }
        }
        let mut fused = graph.clone();
        passes::optimize(&mut fused).unwrap();
        let left = fused.nodes.iter().filter(|n| matches!(n.op, Op::Sign(_))).count();
        assert_eq!(left, 0, "seed {seed}: a sign was not folded");
        equals_on_every_rung(seed, &fused, &images, &want);
    }
    for ((name, _), n) in passes::PASSES.iter().zip(rewrites) {
        assert!(n > 20, "{name} was hardly tested: {n} rewrites");
    }
}

fn equals_on_every_rung(seed: u64, graph: &Graph, images: &[Values], want: &[Vec<f32>]) {
    if graph.nodes.is_empty() {
        return;
    }
    let (model, meta) = graph.clone().into_model().unwrap();
    for rung in kernels::available() {
        for threads in [1, 2] {
            let options = Options { threads, isa: Some(rung.isa.into()) };
            let session = Session::new(&model, meta.clone(), &options).unwrap();
            let all: Vec<f32> = images.iter().flat_map(Values::to_f32).collect();
            let got = session.run_elements(Elements::F32(&all)).unwrap();
            for (got, want) in got.iter().zip(want) {
                assert_eq!(&got.scores, want, "seed {seed} on {} with {threads} threads", rung.isa);
            }
        }
    }
}

#[test]
fn the_float_twin_gives_the_same_results() {
    let mut twins = 0;
    for seed in 0..200 {
        let mut rng = Rng::new(5000 + seed);
        let mut graph = random_graph(&mut rng);
        passes::optimize(&mut graph).unwrap();
        let is_binary = |g: &Graph| g.nodes.iter().any(|n| matches!(n.op, Op::BConv2d(_) | Op::BDense(_)));
        let twin = passes::float_twin(&graph).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(!is_binary(&twin));
        let image = rng.values(graph.ty(Graph::INPUT));
        assert_eq!(output(&twin, &image), output(&graph, &image), "seed {seed}");
        twins += usize::from(is_binary(&graph));
    }
    assert!(twins > 50);
}

/// Random layers, float convolutions and dense layers among them.
fn with_float_layers(rng: &mut Rng) -> Graph {
    let dtype = if rng.below(2) == 0 { DType::U8 } else { DType::F32 };
    let shape = Shape::new(3 + rng.below(4), 3 + rng.below(4), 1 + rng.below(5));
    let mut g = Graph::new(ValueType::new(shape, dtype), Default::default());
    g.meta.input.std = vec![[1.0, 255.0][rng.below(2)]];
    let mut v = Graph::INPUT;
    for layer in 0..2 + rng.below(8) {
        let (shape, n) = (g.ty(v).shape, 1 + rng.below(20));
        if g.ty(v).dtype != DType::F32 || rng.below(2) == 0 {
            v = random_layer(&mut g, rng, v, &format!("l{layer}"));
            continue;
        }
        let kernel = 1 + rng.below(3);
        let window = Window::square(kernel, 1, kernel / 2);
        let conv = Conv2d { window, groups: 1, pad_value: [0.0, -1.0][rng.below(2)] };
        let (op, k) = match rng.below(3) {
            0 => (Op::Dense, shape.elements()),
            _ => (Op::Conv2d(conv), kernel * kernel * shape.c),
        };
        let weight = Some(Tensor::f32_matrix(n, k, rng.floats(n * k, -1.0, 1.0)));
        v = g.add(format!("f{layer}"), op, &[v], Params { weight, ..Params::default() }).unwrap();
    }
    g
}

/// Whatever the network, making integers of it gives one that runs exactly and has no more float layers with weights
/// than it says.
#[test]
fn random_networks_are_quantised() {
    let (mut layers, mut scores, mut refused) = (0, 0, 0);
    for seed in 0..100 {
        let mut rng = Rng::new(9000 + seed);
        let graph = with_float_layers(&mut rng);
        let pixels: Vec<i32> =
            (0..2 * graph.ty(Graph::INPUT).shape.elements()).map(|_| rng.below(256) as i32).collect();
        let bytes: Vec<u8> = pixels.iter().map(|p| *p as u8).collect();
        let options = onebit::quantize::Options { pixels: &bytes, ..Default::default() };
        let (new, report) = match onebit::quantize::quantize(&graph, &options) {
            Ok(done) => done,
            Err(e) => panic!("seed {seed}: {e}"),
        };
        assert_eq!(new.ty(Graph::INPUT).dtype, DType::U8);
        let images: Vec<Values> =
            pixels.chunks(pixels.len() / 2).map(|image| Values::Int(image.to_vec())).collect();
        if !new.nodes.is_empty() {
            let want: Vec<Vec<f32>> = images.iter().map(|i| output(&new, i)).collect();
            equals_on_every_rung(seed, &new, &images, &want);
        }
        let float = |n: &&onebit::core::model::Node<'_>| matches!(n.op, Op::Conv2d(_) | Op::Dense);
        for node in new.nodes.iter().filter(float) {
            assert!(report.floats.iter().any(|f| f.name == node.name), "seed {seed}: {}", node.name);
            refused += 1;
        }
        layers += report.layers.len();
        scores += usize::from(report.scores.is_some());
    }
    assert!(layers > 30 && scores > 10 && refused > 5, "{layers} {scores} {refused}");
}

/// Constants are those of channels: a chain of functions ends where the channels change.
#[test]
fn thresholds_do_not_reach_across_other_channels() {
    let shape = Shape::new(2, 3, 4);
    let movers = [
        Op::Reshape(Reshape { shape: Shape::vector(24) }),
        Op::Reshape(Reshape { shape: Shape::new(4, 3, 2) }),
        Op::Transpose(Transpose { order: [2, 0, 1] }),
        Op::Slice(Slice { from: [0, 0, 1], size: [2, 3, 3], step: [1; 3] }),
        Op::DepthToSpace(DepthToSpace { block: [1, 2] }),
    ];
    for (i, mover) in movers.into_iter().enumerate() {
        let mut rng = Rng::new(70 + i as u64);
        let mut g = Graph::new(ValueType::new(shape, DType::F32), Default::default());
        let before = affine(&mut rng, 4);
        let v = g.add("before", Op::Affine, &[Graph::INPUT], before).unwrap();
        let v = g.add("mover", mover, &[v], Params::default()).unwrap();
        let after = affine(&mut rng, g.ty(v).shape.c);
        let v = g.add("after", Op::Affine, &[v], after).unwrap();
        g.add("sign", Op::Sign(Sign { zero: Zero::Positive }), &[v], Params::default()).unwrap();
        let image = rng.values(g.ty(Graph::INPUT));
        let want = output(&g, &image);
        passes::optimize(&mut g).unwrap();
        assert_eq!(output(&g, &image), want, "{mover:?}");
        assert!(g.nodes.iter().any(|n| matches!(n.op, Op::Threshold(_))), "{mover:?}");
    }
}

#[test]
fn transposes_cancel() {
    let of = |h, w, c, orders: &[[usize; 3]]| {
        let shape = Shape::new(h, w, c);
        let mut g = Graph::new(ValueType::new(shape, DType::F32), Default::default());
        for order in orders {
            let v = g.output;
            g.add("t", Op::Transpose(Transpose { order: *order }), &[v], Params::default()).unwrap();
        }
        let v = g.output;
        g.add("relu", Op::Activation(Activation::Relu), &[v], Params::default()).unwrap();
        let image = Rng::new(80).values(g.ty(Graph::INPUT));
        let want = output(&g, &image);
        passes::optimize(&mut g).unwrap();
        assert_eq!(output(&g, &image), want);
        g.nodes.iter().map(|n| n.op.name()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(2, 3, 4, &[[2, 0, 1], [1, 2, 0]]), "activation");
    assert_eq!(of(2, 3, 4, &[[2, 0, 1], [2, 0, 1], [2, 0, 1]]), "activation");
    assert_eq!(of(2, 3, 4, &[[2, 0, 1], [2, 0, 1]]), "transpose activation");
    assert_eq!(of(1, 1, 4, &[[2, 0, 1]]), "reshape activation");
    assert_eq!(of(1, 3, 4, &[[1, 0, 2]]), "reshape activation");
    assert_eq!(of(1, 3, 4, &[[1, 2, 0], [2, 0, 1]]), "activation");
    assert_eq!(of(1, 3, 4, &[[0, 2, 1]]), "transpose activation");
}

#[test]
fn a_cycle_is_refused() {
    let input = cases::map(2, 2, 3, DType::F32);
    let mut g = Graph::new(input, Default::default());
    let relu = Op::Activation(Activation::Relu);
    let a = g.add("a", relu, &[Graph::INPUT], Params::default()).unwrap();
    let b = g.add("b", relu, &[a], Params::default()).unwrap();
    g.nodes[a - 1].inputs = vec![b];
    assert!(g.normalize().unwrap_err().to_string().contains("depends on its own output"));
    assert!(Model::new(input, g.nodes).is_err());
}
