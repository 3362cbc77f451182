//! The specification itself, on numbers worked out by hand. The fast paths are compared with `reference`, so a
//! mistake in what both use (rounding, thresholds, windows) can only show here.

use onebit_core::cases::map;
use onebit_core::model::{Model, Node, Params, Tensor};
use onebit_core::ops::*;
use onebit_core::reference::{self, Values};
use onebit_core::{DType, Encoding, Quant, Shape, ValueType};

/// Reference output of a single op whose inputs are all the network input.
fn run(op: Op, x: ValueType, values: Values, params: Params<Tensor<'static>>) -> Values {
    let inputs = vec![0; op.arity().unwrap_or(2)];
    let node = Node { name: "op".into(), op, inputs, params };
    reference::run(&Model::new(x, vec![node]).unwrap(), values).unwrap()
}

fn on_floats(op: Op, x: &[f32], params: Params<Tensor<'static>>) -> Values {
    run(op, map(1, 1, x.len(), DType::F32), Values::F32(x.to_vec()), params)
}

/// A map of one channel with the numbers 1, 2, 3, ...
fn counting(h: usize, w: usize) -> (ValueType, Values) {
    (map(h, w, 1, DType::F32), Values::F32((1..=h * w).map(|i| i as f32).collect()))
}

fn window(kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], pad: [usize; 4]) -> Window {
    Window { kernel, stride, dilation, pad }
}

#[test]
fn sign_of_zero_is_what_the_attribute_says() {
    let x = [-1.5, -0.0, 0.0, 1e-40, -1e-40, 3.0];
    for (zero, want) in [(Zero::Positive, [-1, 1, 1, 1, -1, 1]), (Zero::Negative, [-1, -1, -1, 1, -1, 1])] {
        assert_eq!(on_floats(Op::Sign(Sign { zero }), &x, Params::default()), Values::Int(want.to_vec()));
    }
}

#[test]
fn thresholds_count_the_steps_that_are_reached() {
    let q = Quant::new(2, Encoding::Unsigned);
    let params = || Params {
        thresholds: Some(Tensor::f32_matrix(5, 3, [0.0, 1.0, 2.0].into_iter().cycle().take(15).collect())),
        flips: Some(Tensor::flags(&[false, false, false, true, true])),
        ..Params::default()
    };
    let op = Op::Threshold(Threshold { output: DType::Bits(q) });
    let got = on_floats(op, &[-0.1, 1.0, 9.0, 1.0, -3.0], params());
    assert_eq!(got, Values::Int(vec![0, 2, 3, 1, 3]));
}

#[test]
fn quantize_multiplies_adds_rounds_and_clamps() {
    let q = |scale, offset, rounding| {
        let output = DType::Bits(Quant::new(4, Encoding::Signed));
        Op::Quantize(Quantize { scale, offset, rounding, output, lowest: -7, highest: 7 })
    };
    let x = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 100.0, -100.0];
    for (rounding, want) in [
        (Rounding::HalfEven, [-2, -2, 0, 0, 2, 2, 7, -7]),
        (Rounding::HalfUp, [-2, -1, 0, 1, 2, 3, 7, -7]),
        (Rounding::Floor, [-3, -2, -1, 0, 1, 2, 7, -7]),
    ] {
        assert_eq!(
            on_floats(q(1.0, 0.0, rounding), &x, Params::default()),
            Values::Int(want.to_vec()),
            "{rounding:?}"
        );
    }
    let scaled = on_floats(q(2.0, 1.0, Rounding::Floor), &[1.25, -1.25], Params::default());
    assert_eq!(scaled, Values::Int(vec![3, -2]));
}

#[test]
fn affine_rounds_after_every_step() {
    // (1 + 2^-12)^2 - 1: rounded once it would keep the bit 2^-24.
    let x = 1.0 + 1.0 / 4096.0;
    let params = Params {
        center: Some(Tensor::f32(vec![0.0, 1.0])),
        scale: Some(Tensor::f32(vec![x, 2.0])),
        bias: Some(Tensor::f32(vec![-1.0, 3.0])),
        ..Params::default()
    };
    let got = on_floats(Op::Affine, &[x, 5.0], params);
    assert_eq!(got, Values::F32(vec![2.0 / 4096.0, 11.0]));
}

#[test]
fn functions_of_one_float() {
    let x = [-2.0, -0.5, 0.0, 0.5, 8.0];
    let apply = |a| on_floats(Op::Activation(a), &x, Params::default());
    assert_eq!(apply(Activation::Relu), Values::F32(vec![0.0, 0.0, 0.0, 0.5, 8.0]));
    let clip = Activation::Clip { low: -1.0, high: 6.0 };
    assert_eq!(apply(clip), Values::F32(vec![-1.0, -0.5, 0.0, 0.5, 6.0]));
    // The floats nearest to the values in a table of the functions.
    let tanh = [-0.964_027_6, -0.462_117_17, 0.0, 0.462_117_17, 0.999_999_76];
    assert_eq!(apply(Activation::Tanh), Values::F32(tanh.to_vec()));
    let sigmoid = [0.119_202_92, 0.377_540_67, 0.5, 0.622_459_33, 0.999_664_66];
    assert_eq!(apply(Activation::Sigmoid), Values::F32(sigmoid.to_vec()));
    assert_eq!(apply(Activation::Abs), Values::F32(vec![2.0, 0.5, 0.0, 0.5, 8.0]));
    assert_eq!(apply(Activation::Floor), Values::F32(vec![-2.0, -1.0, 0.0, 0.0, 8.0]));
    assert_eq!(apply(Activation::Ceil), Values::F32(vec![-2.0, 0.0, 0.0, 1.0, 8.0]));
    let erf = [-0.995_322_3, -0.520_499_9, 0.0, 0.520_499_9, 1.0];
    assert_eq!(apply(Activation::Erf), Values::F32(erf.to_vec()));
    let exp = [0.135_335_28, 0.606_530_66, 1.0, 1.648_721_2, 2_980.958];
    assert_eq!(apply(Activation::Exp), Values::F32(exp.to_vec()));
    let infinite = f32::NEG_INFINITY;
    let log = [infinite, infinite, infinite, -core::f32::consts::LN_2, 2.079_441_5];
    assert_eq!(apply(Activation::Log), Values::F32(log.to_vec()));
    let sqrt = [0.0, 0.0, 0.0, core::f32::consts::FRAC_1_SQRT_2, 2.828_427];
    assert_eq!(apply(Activation::Sqrt), Values::F32(sqrt.to_vec()));
    let halves =
        on_floats(Op::Activation(Activation::Round), &[-2.5, -1.5, 0.5, 1.5, 3.5], Params::default());
    assert_eq!(halves, Values::F32(vec![-2.0, -2.0, 0.0, 2.0, 4.0]));
    let slopes = Params { scale: Some(Tensor::f32(vec![0.5, 4.0, 4.0, -1.0, 3.0])), ..Params::default() };
    assert_eq!(on_floats(Op::Prelu, &x, slopes), Values::F32(vec![-1.0, -2.0, 0.0, 0.5, 8.0]));
}

/// Neighbouring floats everywhere, close together where the functions bend.
#[test]
fn functions_that_are_called_monotone_never_fall() {
    let clip = Activation::Clip { low: -0.75, high: 3.0 };
    let all = onebit_core::ops::activation::cases().into_iter().map(|case| case.op);
    for a in all.chain([Op::Activation(clip)]) {
        let Op::Activation(a) = a else { unreachable!() };
        if !a.is_monotone() {
            continue;
        }
        // Finite floats in order, as integers.
        let value =
            |key: i64| f32::from_bits(if key < 0 { key.unsigned_abs() as u32 | 1 << 31 } else { key as u32 });
        let largest = i64::from(f32::MAX.to_bits());
        for start in (-largest..largest - 40).step_by(300_007) {
            let ys: Vec<f32> = (start..start + 40).map(|key| a.apply(value(key))).collect();
            assert!(ys.is_sorted(), "{a:?} falls near {}", value(start));
        }
    }
}

#[test]
fn windows_step_by_stride_and_reach_by_dilation() {
    let (x, v) = counting(4, 5);
    //  1  2  3  4  5
    //  6  7  8  9 10
    // 11 12 13 14 15
    // 16 17 18 19 20
    let pool = |window| Op::Pool2d(Pool2d { kind: PoolKind::Max, window, count_pad: false });
    let max = |w| run(pool(w), x, v.clone(), Params::default());
    let strided = window([2, 2], [2, 3], [1, 1], [0; 4]);
    assert_eq!(max(strided), Values::F32(vec![7.0, 10.0, 17.0, 20.0]));
    let dilated = window([2, 2], [1, 1], [3, 2], [0; 4]);
    assert_eq!(max(dilated), Values::F32(vec![18.0, 19.0, 20.0]));
    // One row of padding above, two columns to the right.
    let padded = window([2, 3], [3, 4], [1, 1], [1, 0, 0, 2]);
    assert_eq!(max(padded), Values::F32(vec![3.0, 5.0, 18.0, 20.0]));
}

#[test]
fn averages_count_the_padding_only_when_told() {
    let (x, v) = counting(2, 2);
    let average = |count_pad| {
        let pool = Pool2d { kind: PoolKind::Average, window: Window::square(2, 2, 1), count_pad };
        run(Op::Pool2d(pool), x, v.clone(), Params::default())
    };
    assert_eq!(average(false), Values::F32(vec![1.0, 2.0, 3.0, 4.0]));
    assert_eq!(average(true), Values::F32(vec![0.25, 0.5, 0.75, 1.0]));
}

#[test]
fn bit_pools_take_the_maximum_or_per_channel_the_minimum() {
    let x = map(1, 2, 3, DType::BIT);
    let v = Values::Int(vec![1, -1, 1, -1, -1, -1]);
    let pool = Op::BPool2d(BPool2d { window: window([1, 2], [1, 1], [1, 1], [0; 4]) });
    assert_eq!(run(pool, x, v.clone(), Params::default()), Values::Int(vec![1, -1, 1]));
    let flips = Params { flips: Some(Tensor::flags(&[false, false, true])), ..Params::default() };
    assert_eq!(run(pool, x, v, flips), Values::Int(vec![1, -1, -1]));
}

#[test]
fn float_convolution_multiplies_neighbours_and_reads_its_padding() {
    let (x, v) = counting(2, 2);
    let conv = |pad_value| {
        Op::Conv2d(Conv2d { window: window([2, 2], [1, 1], [1, 1], [1, 0, 0, 0]), groups: 1, pad_value })
    };
    let params = || Params {
        weight: Some(Tensor::f32_matrix(1, 4, vec![1.0, 10.0, 100.0, 1000.0])),
        bias: Some(Tensor::f32(vec![0.5])),
        ..Params::default()
    };
    // Above the map: 0 0 | 1 2; then 1 2 | 3 4.
    assert_eq!(run(conv(0.0), x, v.clone(), params()), Values::F32(vec![2100.5, 4321.5]));
    assert_eq!(run(conv(-1.0), x, v, params()), Values::F32(vec![2089.5, 4321.5]));
}

#[test]
fn groups_and_depthwise_convolutions_keep_to_their_channels() {
    let x = map(1, 1, 4, DType::F32);
    let v = Values::F32(vec![1.0, 2.0, 3.0, 4.0]);
    let conv = |groups| Op::Conv2d(Conv2d { window: Window::square(1, 1, 0), groups, pad_value: 0.0 });
    let weight = |rows, cols, w: &[f32]| Params {
        weight: Some(Tensor::f32_matrix(rows, cols, w.to_vec())),
        ..Params::default()
    };
    let two = run(conv(2), x, v.clone(), weight(2, 2, &[1.0, 10.0, 1.0, 10.0]));
    assert_eq!(two, Values::F32(vec![21.0, 43.0]));
    let depthwise = run(conv(4), x, v, weight(4, 1, &[1.0, 10.0, 100.0, 1000.0]));
    assert_eq!(depthwise, Values::F32(vec![1.0, 20.0, 300.0, 4000.0]));
}

#[test]
fn binary_convolution_by_hand() {
    // Two channels; the map is one row of (+ -) (+ +).
    let x = map(1, 2, 2, DType::BIT);
    let v = || Values::Int(vec![1, -1, 1, 1]);
    // One filter of three columns: (+ +) (+ -) (- -), one column of padding on both sides.
    let filter = [1, 1, 1, -1, -1, -1];
    let conv = |pad_value, output| {
        let window = window([1, 3], [1, 1], [1, 1], [0, 1, 0, 1]);
        Op::BConv2d(BConv2d { window, groups: 1, pad_value, output })
    };
    let weight = || Some(Tensor::bits(1, 6, Quant::BIT, |_, c| filter[c]));
    let counts = |pad| run(conv(pad, DType::I32), x, v(), Params { weight: weight(), ..Params::default() });
    // Left: pad, 2, -2 with the pad column (+ +); right: 0, 0 and the pad column (- -).
    assert_eq!(counts(0), Values::Int(vec![0, 0]));
    assert_eq!(counts(1), Values::Int(vec![2, -2]));
    assert_eq!(counts(-1), Values::Int(vec![-2, 2]));
    for (threshold, flip, want) in
        [(2, false, [1, -1]), (3, false, [-1, -1]), (-2, false, [1, 1]), (-1, true, [-1, 1])]
    {
        let params = Params {
            weight: weight(),
            thresholds: Some(Tensor::i32_matrix(1, 1, vec![threshold])),
            flips: Some(Tensor::flags(&[flip])),
            ..Params::default()
        };
        assert_eq!(
            run(conv(1, DType::BIT), x, v(), params),
            Values::Int(want.to_vec()),
            "{threshold} {flip}"
        );
    }
    let scaled = Params {
        weight: weight(),
        center: Some(Tensor::f32(vec![1.0])),
        scale: Some(Tensor::f32(vec![0.5])),
        bias: Some(Tensor::f32(vec![10.0])),
        ..Params::default()
    };
    assert_eq!(run(conv(1, DType::F32), x, v(), scaled), Values::F32(vec![10.5, 8.5]));
}

#[test]
fn wide_activations_and_weights_by_hand() {
    let dense = Op::BDense(BDense { output: DType::I32 });
    let weight = |q, w: &'static [i32]| Params {
        weight: Some(Tensor::bits(1, w.len(), q, |_, c| w[c])),
        ..Params::default()
    };
    let signed = Quant::new(3, Encoding::Signed);
    let got =
        run(dense, map(1, 1, 3, DType::U8), Values::Int(vec![255, 1, 100]), weight(signed, &[-4, 3, -1]));
    assert_eq!(got, Values::Int(vec![-1020 + 3 - 100]));
    let bipolar = DType::Bits(Quant::new(2, Encoding::Bipolar));
    let got =
        run(dense, map(1, 1, 3, bipolar), Values::Int(vec![-3, 1, 3]), weight(Quant::TERNARY, &[1, 0, -1]));
    assert_eq!(got, Values::Int(vec![-6]));
}

#[test]
fn float_sums_are_fused_and_in_order() {
    // 2^24 + 1 is rounded to 2^24 in a chain; fused, the product keeps its last bit until it is added.
    let x = [16_777_216.0, 1.0, -16_777_216.0, 1.0 + 1.0 / 4096.0];
    let weight = Tensor::f32_matrix(2, 4, vec![1.0, 1.0, 1.0, 0.0, 0.0, -1.0, 0.0, 1.0 + 1.0 / 4096.0]);
    let got = on_floats(Op::Dense, &x, Params { weight: Some(weight), ..Params::default() });
    assert_eq!(got, Values::F32(vec![0.0, 2.0 / 4096.0 + 1.0 / 16_777_216.0]));
}

#[test]
fn elements_move() {
    let (x, v) = counting(2, 3);
    // 1 2 3
    // 4 5 6
    let on = |op| run(op, x, v.clone(), Params::default()).to_f32();
    assert_eq!(on(Op::Transpose(Transpose { order: [1, 0, 2] })), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(on(Op::Transpose(Transpose { order: [2, 1, 0] })), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(on(Op::Transpose(Transpose { order: [2, 0, 1] })), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let slice = Slice { from: [1, 0, 0], size: [1, 2, 1], step: [1, 2, 1] };
    assert_eq!(on(Op::Slice(slice)), [4.0, 6.0]);
    let pad = |pad, mode, value| on(Op::Pad(Pad { pad, mode, value }));
    assert_eq!(
        pad([0, 1, 1, 0], PadMode::Constant, 9.0),
        [9.0, 1.0, 2.0, 3.0, 9.0, 4.0, 5.0, 6.0, 9.0, 9.0, 9.0, 9.0]
    );
    assert_eq!(
        pad([0, 2, 1, 1], PadMode::Reflect, 0.0),
        [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 6.0, 5.0, 4.0, 5.0, 6.0, 5.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0]
    );
    assert_eq!(
        pad([1, 0, 0, 1], PadMode::Edge, 0.0),
        [1.0, 2.0, 3.0, 3.0, 1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0, 6.0]
    );
    let x = map(1, 2, 4, DType::BIT);
    let v = Values::Int(vec![1, -1, 1, 1, -1, -1, 1, -1]);
    let blocks = run(Op::DepthToSpace(DepthToSpace { block: [2, 2] }), x, v, Params::default());
    assert_eq!(blocks, Values::Int(vec![1, -1, -1, -1, 1, 1, 1, -1]));
}

/// The numbers are those of ONNX Runtime.
#[test]
fn maps_are_resized_as_in_onnx() {
    use Coordinates::{AlignCorners, Asymmetric, HalfPixel};
    use ResizeMode::{Linear, NearestCeil, NearestFloor, NearestPreferCeil, NearestPreferFloor};
    let (x, v) = counting(1, 4);
    let on = |w, mode, coordinates| {
        let op = Op::Resize(Resize { size: [1, w], mode, coordinates });
        run(op, x, v.clone(), Params::default()).to_f32()
    };
    assert_eq!(on(8, Linear, HalfPixel), [1.0, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.0]);
    assert_eq!(on(8, Linear, Asymmetric), [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0]);
    assert_eq!(on(7, Linear, AlignCorners), [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]);
    assert_eq!(on(2, Linear, HalfPixel), [1.5, 3.5]);
    assert_eq!(on(8, NearestFloor, Asymmetric), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    assert_eq!(on(8, NearestCeil, Asymmetric), [1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
    assert_eq!(on(8, NearestPreferFloor, Asymmetric), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    assert_eq!(on(8, NearestPreferCeil, Asymmetric), [1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
    assert_eq!(on(2, NearestPreferFloor, HalfPixel), [1.0, 3.0]);
    assert_eq!(on(2, NearestPreferCeil, HalfPixel), [2.0, 4.0]);
    assert_eq!(on(7, NearestPreferFloor, AlignCorners), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]);
    assert_eq!(on(3, NearestFloor, HalfPixel), [1.0, 2.0, 3.0]);
    assert_eq!(on(3, NearestCeil, HalfPixel), [2.0, 3.0, 4.0]);
}

#[test]
fn joins_shapes_and_reductions() {
    let x = map(2, 1, 2, DType::I32);
    let v = || Values::Int(vec![7, -1, 5, 5]);
    let none = Params::default;
    assert_eq!(run(Op::Add, x, v(), none()), Values::Int(vec![14, -2, 10, 10]));
    assert_eq!(run(Op::Mul, x, v(), none()), Values::Int(vec![49, 1, 25, 25]));
    assert_eq!(run(Op::Max, x, v(), none()), v());
    assert_eq!(run(Op::Concat, x, v(), none()), Values::Int(vec![7, -1, 7, -1, 5, 5, 5, 5]));
    let flat = Op::Reshape(Reshape { shape: Shape::vector(4) });
    assert_eq!(run(flat, x, v(), none()), v());
    assert_eq!(run(Op::Argmax, x, v(), none()), Values::Int(vec![0, 0]));
    assert_eq!(run(Op::Decode, x, v(), none()), Values::F32(vec![7.0, -1.0, 5.0, 5.0]));
    assert_eq!(on_floats(Op::Softmax, &[1000.0, 1000.0], none()), Values::F32(vec![0.5, 0.5]));
    let softmax = on_floats(Op::Softmax, &[0.0, core::f32::consts::LN_2], none());
    let Values::F32(p) = softmax else { panic!("floats expected") };
    assert!((p[0] - 1.0 / 3.0).abs() < 1e-7 && (p[1] - 2.0 / 3.0).abs() < 1e-7, "{p:?}");
}

/// A value, and what the op `second` makes of it.
fn with_second(op: Op, second: Op, x: ValueType, values: &[f32]) -> Vec<f32> {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs, params: Params::default() };
    let nodes = vec![node("second", second, vec![0]), node("op", op, vec![0, 1])];
    reference::run(&Model::new(x, nodes).unwrap(), Values::F32(values.to_vec())).unwrap().to_f32()
}

#[test]
fn second_operands_are_repeated() {
    let whole = window([2, 2], [1, 1], [1, 1], [0; 4]);
    let mean = Op::Pool2d(Pool2d { kind: PoolKind::Average, window: whole, count_pad: false });
    // One pixel: the means of the channels, 4 and 5.
    let with_mean =
        |op| with_second(op, mean, map(2, 2, 2, DType::F32), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(with_mean(Op::Max), [4.0, 5.0, 4.0, 5.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(with_mean(Op::Min), [1.0, 2.0, 3.0, 4.0, 4.0, 5.0, 4.0, 5.0]);
    assert_eq!(with_mean(Op::Div), [0.25, 0.4, 0.75, 0.8, 1.25, 1.2, 1.75, 1.6]);
    // The first of equals: relu makes +0 of -0.
    for op in [Op::Max, Op::Min] {
        let got = with_second(op, Op::Activation(Activation::Relu), map(1, 1, 1, DType::F32), &[-0.0]);
        assert!(got[0].is_sign_negative(), "{op:?}");
    }
}

#[test]
fn lookup_takes_the_place_of_a_level_in_its_table() {
    let ints =
        Params { weight: Some(Tensor::i32_matrix(1, 4, vec![7, -9, 1 << 30, 0])), ..Params::default() };
    let two = map(1, 1, 4, DType::Bits(Quant::new(2, Encoding::Bipolar)));
    let got = run(Op::Lookup, two, Values::Int(vec![-3, 3, 1, -1]), ints);
    assert_eq!(got, Values::Int(vec![7, 0, 1 << 30, -9]));

    let bytes =
        Params { weight: Some(Tensor::i32_matrix(1, 256, (1000..1256).collect())), ..Params::default() };
    let signed = map(1, 1, 3, DType::Bits(Quant::new(8, Encoding::Signed)));
    let got = run(Op::Lookup, signed, Values::Int(vec![-128, 0, 127]), bytes);
    assert_eq!(got, Values::Int(vec![1000, 1128, 1255]));
}
