//! Random networks of the size of microcontrollers.

use onebit::Graph;
use onebit::core::cases::Rng;
use onebit::core::model::{Model, Params, Tensor};
use onebit::core::ops::*;
use onebit::core::{DType, Encoding, Quant, Shape, ValueType};

/// A chain of random layers, with values that are read again later.
pub fn network(rng: &mut Rng) -> Model<'static> {
    let inputs = [
        DType::BIT,
        DType::BIT,
        DType::U8,
        DType::U8,
        DType::I8,
        DType::Bits(Quant::new(2, Encoding::Unsigned)),
        DType::Bits(Quant::TERNARY),
    ];
    let channels = [1, 1, 1, 3, 8, 16, 5];
    let c = channels[rng.below(channels.len())];
    let shape = match rng.below(8) {
        // More columns than a word has bits.
        0 => Shape::new(1 + rng.below(6), 30 + rng.below(45), if c > 3 { 1 } else { c }),
        _ => Shape::new(1 + rng.below(14), 1 + rng.below(14), c),
    };
    let mut g = Graph::new(ValueType::new(shape, inputs[rng.below(inputs.len())]), Default::default());
    let mut v = Graph::INPUT;
    let mut earlier: Vec<usize> = Vec::new();
    for i in 0..1 + rng.below(7) {
        earlier.push(v);
        v = layer(&mut g, rng, v, &format!("layer {i}"));
        let alike: Vec<usize> = earlier.iter().copied().filter(|e| g.ty(*e) == g.ty(v)).collect();
        if !alike.is_empty() && rng.below(2) == 0 {
            let other = alike[rng.below(alike.len())];
            let op = match g.ty(v).dtype {
                DType::I32 | DType::F32 => [Op::Add, Op::Add, Op::Max, Op::Min][rng.below(4)],
                _ => Op::Concat,
            };
            v = g.add("joined", op, &[v, other], Params::default()).unwrap();
        }
    }
    if rng.below(2) == 0 && g.ty(v).dtype.quant().is_some() && g.ty(v).shape.elements() < 3000 {
        v = dense(&mut g, rng, v, "scores", 10, DType::I32);
        if rng.below(3) == 0 {
            g.add("class", Op::Argmax, &[v], Params::default()).unwrap();
        }
    }
    g.into_model().unwrap().0
}

fn output(rng: &mut Rng) -> DType {
    let all = [
        DType::BIT,
        DType::BIT,
        DType::BIT,
        DType::I32,
        DType::F32,
        DType::Bits(Quant::TERNARY),
        DType::Bits(Quant::new(2, Encoding::Unsigned)),
        DType::Bits(Quant::new(3, Encoding::Signed)),
        DType::Bits(Quant::new(2, Encoding::Bipolar)),
    ];
    all[rng.below(all.len())]
}

/// Constants of what follows an accumulator.
fn transform(rng: &mut Rng, params: &mut Params<Tensor<'static>>, output: DType, n: usize) {
    match output {
        DType::F32 => *params = Params { weight: params.weight.take(), ..affine(rng, n) },
        DType::Bits(q) => {
            params.thresholds = Some(rng.thresholds(n, q.levels() - 1, 12));
            params.flips = (rng.below(3) > 0).then(|| rng.flags(n));
        }
        _ => {}
    }
}

fn affine(rng: &mut Rng, c: usize) -> Params<Tensor<'static>> {
    let whole = rng.below(2) == 0;
    let mut constants = |lo, hi| {
        let floats = rng.floats(c, lo, hi).into_iter().map(|v| if whole { v.round() } else { v }).collect();
        (rng.below(4) > 0).then(|| Tensor::f32(floats))
    };
    Params {
        center: constants(-5.0, 5.0),
        scale: constants(-3.0, 3.0),
        bias: constants(-9.0, 9.0),
        ..Params::default()
    }
}

fn weights(rng: &mut Rng, rows: usize, cols: usize) -> Tensor<'static> {
    let all = [
        Quant::BIT,
        Quant::BIT,
        Quant::BIT,
        Quant::TERNARY,
        Quant::new(2, Encoding::Bipolar),
        Quant::new(4, Encoding::Signed),
        Quant::new(8, Encoding::Signed),
    ];
    let quant = all[rng.below(all.len())];
    rng.weights(rows, cols, quant)
}

fn dense(g: &mut Graph, rng: &mut Rng, v: usize, name: &str, n: usize, output: DType) -> usize {
    let weight = Some(weights(rng, n, g.ty(v).shape.elements()));
    let mut params = Params { weight, ..Params::default() };
    transform(rng, &mut params, output, n);
    g.add(name, Op::BDense(BDense { output }), &[v], params).unwrap()
}

fn window(rng: &mut Rng, shape: Shape) -> Window {
    let fits = |size: usize| size.min(if shape.c == 1 { 6 } else { 3 });
    let kernel = [1 + rng.below(fits(shape.h)), 1 + rng.below(fits(shape.w))];
    let pad =
        if rng.below(2) == 0 { [0; 4] } else { kernel.map(|k| rng.below(k)).repeat(2).try_into().unwrap() };
    let stride = [1 + rng.below(2), 1 + rng.below(2)];
    let dilation = [0, 1].map(|i| {
        let size = [shape.h, shape.w][i];
        if rng.below(5) == 0 && kernel[i] > 1 && 2 * (kernel[i] - 1) < size { 2 } else { 1 }
    });
    Window { kernel, stride, dilation, pad }
}

fn layer(g: &mut Graph, rng: &mut Rng, v: usize, name: &str) -> usize {
    let ty = g.ty(v);
    let (shape, c) = (ty.shape, ty.shape.c);
    let channels = [1, 2, 5, 8, 9, 16, 20, 24, 32, 40];
    let n = channels[rng.below(channels.len())];
    let pool = |rng: &mut Rng| match rng.below(3) {
        0 => Window::square(2.min(shape.h).min(shape.w), 2, 0),
        _ => Window { dilation: [1; 2], ..window(rng, shape) },
    };
    let added = match ty.dtype {
        DType::I32 | DType::F32 => match rng.below(8) {
            0 => g.add(name, Op::Affine, &[v], affine(rng, c)),
            1 => {
                let kinds = [PoolKind::Max, PoolKind::Average];
                let kind = if ty.dtype == DType::F32 { kinds[rng.below(2)] } else { PoolKind::Max };
                let op = Pool2d { kind, window: pool(rng), count_pad: rng.below(2) == 0 };
                g.add(name, Op::Pool2d(op), &[v], Params::default())
            }
            2 => {
                let zero = [Zero::Positive, Zero::Negative][rng.below(2)];
                g.add(name, Op::Sign(Sign { zero }), &[v], Params::default())
            }
            3 if ty.dtype == DType::F32 => {
                let all = [
                    Op::Activation(Activation::Relu),
                    Op::Activation(Activation::Clip { low: -1.0, high: 6.0 }),
                    Op::Activation(Activation::Clip { low: -1.5, high: 2.5 }),
                ];
                g.add(name, all[rng.below(3)], &[v], Params::default())
            }
            4 if ty.dtype == DType::F32 => {
                let scale = Some(Tensor::f32(rng.floats(c, -0.3, 1.0)));
                g.add(name, Op::Prelu, &[v], Params { scale, ..Params::default() })
            }
            5 => moved(g, rng, v, name),
            _ => {
                let output = DType::Bits([Quant::BIT, Quant::TERNARY][rng.below(2)]);
                let mut params = Params::default();
                transform(rng, &mut params, output, c);
                if ty.dtype == DType::F32 {
                    let t = params.thresholds.as_ref().unwrap();
                    let floats = t.to_f32().iter().map(|t| t.clamp(-1e9, 1e9) / 4.0).collect();
                    params.thresholds = Some(Tensor::f32_matrix(t.rows, t.cols, floats));
                }
                g.add(name, Op::Threshold(Threshold { output }), &[v], params)
            }
        },
        dtype => match rng.below(12) {
            0 if matches!(dtype, DType::Bits(_)) => {
                let params = Params { flips: (rng.below(2) == 0).then(|| rng.flags(c)), ..Params::default() };
                g.add(name, Op::BPool2d(BPool2d { window: pool(rng) }), &[v], params)
            }
            1 => g.add(name, Op::Decode, &[v], Params::default()),
            2 => moved(g, rng, v, name),
            3 => {
                let output = output(rng);
                return dense(g, rng, v, name, n, output);
            }
            4 if matches!(dtype, DType::Bits(q) if q != Quant::TERNARY) => {
                let levels = dtype.quant().unwrap().levels();
                let table = (0..levels).map(|_| rng.below(4000) as i32 - 2000).collect();
                let weight = Some(Tensor::i32_matrix(1, levels, table));
                g.add(name, Op::Lookup, &[v], Params { weight, ..Params::default() })
            }
            6 => {
                let q = [Quant::TERNARY, Quant::new(3, Encoding::Signed)][rng.below(2)];
                let rounding = [Rounding::HalfEven, Rounding::HalfUp, Rounding::Floor][rng.below(3)];
                let (scale, offset) = (rng.float(-1.0, 1.0), rng.float(-2.0, 2.0));
                let (lowest, highest) = (q.min(), q.max());
                let quantize = Quantize { scale, offset, rounding, output: DType::Bits(q), lowest, highest };
                let v = g.add("decoded", Op::Decode, &[v], Params::default()).unwrap();
                g.add(name, Op::Quantize(quantize), &[v], Params::default())
            }
            5 if matches!(dtype, DType::U8 | DType::I8) => {
                let output = DType::BIT;
                let mut params = Params::default();
                transform(rng, &mut params, output, c);
                g.add(name, Op::Threshold(Threshold { output }), &[v], params)
            }
            _ => {
                let groups = if rng.below(8) == 0 && c % 2 == 0 && n % 2 == 0 { 2 } else { 1 };
                let (output, window) = (output(rng), window(rng, shape));
                let pad_value = rng.below(3) as i32 - 1;
                let weight = Some(weights(rng, n, window.taps() * c / groups));
                let mut params = Params { weight, ..Params::default() };
                transform(rng, &mut params, output, n);
                let conv = BConv2d { window, groups, pad_value, output };
                let v = g.add(name, Op::BConv2d(conv), &[v], params).unwrap_or_else(|e| panic!("{ty}: {e}"));
                let shape = g.ty(v).shape;
                if output != DType::BIT || rng.below(2) == 0 || shape.h < 2 || shape.w < 2 {
                    return v;
                }
                // As after folding: the pool's minimum where the threshold falls.
                let kernel = 2 + rng.below(2.min(shape.h.min(shape.w) - 1));
                let flips = (rng.below(3) > 0).then(|| rng.flags(n));
                let pool = BPool2d { window: Window::square(kernel.min(shape.h).min(shape.w), kernel, 0) };
                g.add("pool", Op::BPool2d(pool), &[v], Params { flips, ..Params::default() })
            }
        },
    };
    added.unwrap_or(v)
}

fn moved(g: &mut Graph, rng: &mut Rng, v: usize, name: &str) -> onebit::Result<usize> {
    let ty = g.ty(v);
    let Shape { h, w, c } = ty.shape;
    let op = match rng.below(3) {
        0 => Op::Reshape(Reshape {
            shape: [Shape::vector(h * w * c), Shape::new(w, h, c), Shape::new(c, h, w)][rng.below(3)],
        }),
        1 => {
            let step = [1 + rng.below(2), 1 + rng.below(2), 1 + rng.below(2)];
            let from = [rng.below(h), rng.below(w), rng.below(c)];
            let most = [h, w, c];
            let size = [0, 1, 2].map(|i| 1 + rng.below((most[i] - 1 - from[i]) / step[i] + 1));
            Op::Slice(Slice { from, size, step })
        }
        _ => {
            let value = match ty.dtype {
                DType::F32 => [0.5, -2.0][rng.below(2)],
                _ => 1.0,
            };
            let pad = [0; 4].map(|_| rng.below(3));
            Op::Pad(Pad { pad, mode: PadMode::Constant, value })
        }
    };
    g.add(name, op, &[v], Params::default())
}
