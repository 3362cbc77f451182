//! Every op case, on every kernel rung of this machine, in batches of 1 and 3, equals the reference.

use onebit_core::cases::{self, Rng};
use onebit_core::exec::Executor;
use onebit_core::model::{Model, Node};
use onebit_core::ops::{Op, Reshape};
use onebit_core::reference::{self, Values};
use onebit_core::team::{Part, Team};
use onebit_core::{Shape, ValueType, kernels, ops};

/// One-node model of a case. Only the first input can be the network input, so cases with several
/// inputs of one type read it several times; see `several_inputs` for different ones.
fn model(case: &cases::Case) -> Option<Model<'static>> {
    if case.inputs.iter().any(|t| *t != case.inputs[0]) {
        return None;
    }
    let node = Node {
        name: "op".into(),
        op: case.op,
        inputs: vec![0; case.inputs.len()],
        params: case.params.clone(),
    };
    Some(Model::new(case.inputs[0], vec![node]).unwrap_or_else(|e| panic!("{}: {e}", case.name)))
}

/// What must be equal: integers, and the bits of floats. Not a number is only that: its bits differ between CPUs.
fn exact(values: &Values) -> Vec<i64> {
    match values {
        Values::Int(v) => v.iter().map(|x| i64::from(*x)).collect(),
        Values::F32(v) => {
            v.iter().map(|x| if x.is_nan() { i64::MAX } else { i64::from(x.to_bits()) }).collect()
        }
    }
}

fn check(name: &str, model: &Model<'_>, images: &[Values]) {
    let want: Vec<Values> = images.iter().map(|v| reference::run(model, v.clone()).unwrap()).collect();
    for rung in kernels::available() {
        let exec = Executor::new(model, rung).unwrap();
        let mut arena = vec![u64::MAX; exec.arena_words(images.len())];
        let packed: Vec<u64> = images.iter().flat_map(|v| cases::pack(model.input(), v)).collect();
        exec.input_mut(&mut arena, images.len()).copy_from_slice(&packed);
        exec.run(images.len(), &mut arena, |_| {});
        let words = model.output().arena_words();
        let got = exec.output_of(&arena, images.len()).chunks(words);
        for (i, (got, want)) in got.zip(&want).enumerate() {
            let got = cases::unpack(model.output(), got);
            assert_eq!(exact(&got), exact(want), "{name}, image {i}, on {}: {got:?}", rung.isa);
        }
        for members in [2, 3] {
            let mut arena = vec![u64::MAX; exec.team_arena_words(members)];
            exec.input_mut(&mut arena, 1).copy_from_slice(&packed[..model.input().arena_words()]);
            exec.run_team(&Backwards(members), &mut arena, |_| {});
            let got = cases::unpack(model.output(), exec.output_of(&arena, 1));
            assert_eq!(exact(&got), exact(&want[0]), "{name}, {members} parts, on {}: {got:?}", rung.isa);
        }
    }
}

/// A team that cuts everything, and of which the last member is done first.
struct Backwards(usize);

impl Team for Backwards {
    fn members(&self) -> usize {
        self.0
    }
    fn cost_ns(&self) -> u64 {
        0
    }
    fn run(&self, parts: &mut [Part<'_>], work: &(dyn Fn(&mut Part<'_>) + Sync)) {
        parts.iter_mut().rev().for_each(work);
    }
}

#[test]
fn every_case_equals_the_reference() {
    let mut rng = Rng::new(42);
    let mut run = 0;
    for case in ops::cases() {
        let Some(model) = model(&case) else { continue };
        let mut images: Vec<Values> = (0..3).map(|_| rng.values(case.inputs[0])).collect();
        check(&case.name, &model, &images[..1]);
        images.extend(cases::special_values(case.inputs[0]));
        check(&case.name, &model, &images);
        run += 1;
    }
    assert!(run > 300, "only {run} cases");
}

/// The compiler does not notice an op that is missing in `ops::cases`. The names are read from `Op::name`.
#[test]
fn every_op_has_cases() {
    let source = include_str!("../src/ops/mod.rs");
    let arms = source.lines().filter_map(|line| line.trim().strip_prefix("Op::")?.split_once("=> \""));
    let names: Vec<&str> = arms.filter_map(|(_, rest)| rest.strip_suffix("\",")).collect();
    assert!(names.len() >= 19 && names.contains(&"softmax"), "{names:?}");
    let cases = ops::cases();
    for name in names {
        assert!(cases.iter().any(|case| case.op.name() == name), "no cases of {name}");
    }
}

/// Cases whose inputs differ: split one long vector input into the inputs by reshapes and thresholds is
/// not possible in general, so the other inputs come from dense layers.
#[test]
fn inputs_of_different_shapes_equal_the_reference() {
    let mut rng = Rng::new(43);
    let mut run = 0;
    for case in ops::cases() {
        if case.inputs.iter().all(|t| *t == case.inputs[0]) || !is_dense_output(&case.inputs) {
            continue;
        }
        let source = cases::map(1, 1, 9, onebit_core::DType::BIT);
        let mut nodes = Vec::new();
        let mut ids = Vec::new();
        for (i, t) in case.inputs.iter().enumerate() {
            let n = t.shape.elements();
            let weight = Some(rng.weights(n, 9, onebit_core::Quant::BIT));
            let mut params = onebit_core::model::Params { weight, ..Default::default() };
            if let onebit_core::DType::Bits(q) = t.dtype {
                params.thresholds = Some(rng.thresholds(n, q.levels() - 1, 4));
            }
            let dense = Op::BDense(ops::BDense { output: t.dtype });
            nodes.push(Node { name: format!("d{i}"), op: dense, inputs: vec![0], params });
            let shape = Op::Reshape(Reshape { shape: t.shape });
            let at = nodes.len();
            nodes.push(Node {
                name: format!("r{i}"),
                op: shape,
                inputs: vec![at],
                params: Default::default(),
            });
            ids.push(at + 1);
        }
        nodes.push(Node { name: "op".into(), op: case.op, inputs: ids, params: case.params.clone() });
        let model = Model::new(source, nodes).unwrap();
        let images: Vec<Values> = (0..3).map(|_| rng.values(source)).collect();
        check(&case.name, &model, &images);
        run += 1;
    }
    assert!(run >= 6, "only {run} cases");
}

/// Relu makes +0 of -0: of equals the first is taken.
#[test]
fn maxima_and_minima_of_zeros_equal_the_reference() {
    let x = cases::map(2, 3, 7, onebit_core::DType::F32);
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs, params: Default::default() };
    let relu = Op::Activation(ops::Activation::Relu);
    for (op, inputs) in [(Op::Max, [0, 1]), (Op::Max, [1, 0]), (Op::Min, [0, 1]), (Op::Min, [1, 0])] {
        let nodes = vec![node("relu", relu, vec![0]), node("op", op, inputs.to_vec())];
        check(&format!("{op:?}"), &Model::new(x, nodes).unwrap(), &cases::special_values(x));
    }
}

fn is_dense_output(types: &[ValueType]) -> bool {
    use onebit_core::DType;
    types.iter().all(|t| matches!(t.dtype, DType::Bits(_) | DType::F32 | DType::I32))
}

#[test]
fn padding_bits_of_outputs_are_zero() {
    let mut rng = Rng::new(44);
    for case in ops::cases() {
        let Some(model) = model(&case) else { continue };
        let out = model.output();
        let onebit_core::DType::Bits(_) = out.dtype else { continue };
        let image = rng.values(case.inputs[0]);
        for rung in kernels::available() {
            let exec = Executor::new(&model, rung).unwrap();
            let mut arena = vec![u64::MAX; exec.arena_words(1)];
            exec.input_mut(&mut arena, 1).copy_from_slice(&cases::pack(case.inputs[0], &image));
            exec.run(1, &mut arena, |_| {});
            let words = exec.output_of(&arena, 1);
            assert_eq!(words, cases::pack(out, &cases::unpack(out, words)), "{}", case.name);
        }
    }
}

#[test]
fn models_refuse_what_does_not_fit() {
    let input = cases::map(4, 4, 8, onebit_core::DType::F32);
    let node = |op, inputs| Node { name: "n".into(), op, inputs, params: Default::default() };
    let later = Model::new(input, vec![node(Op::Decode, vec![1])]).unwrap_err();
    assert!(later.to_string().contains("not made before it"), "{later}");
    let missing = Model::new(input, vec![node(Op::Dense, vec![0])]).unwrap_err();
    assert!(missing.to_string().contains("layer 'n' (dense): has no weight"), "{missing}");
    for shape in [Shape::new(usize::MAX, usize::MAX, 2), Shape::new(1 << 14, 1 << 14, 2)] {
        let huge = ValueType::new(shape, onebit_core::DType::F32);
        assert!(Model::new(huge, vec![node(Op::Softmax, vec![0])]).is_err());
    }
    assert!(Model::new(input, vec![]).is_err());
}

#[test]
fn windows_whose_size_overflows_are_refused() {
    let input = cases::map(4, 4, 8, onebit_core::DType::F32);
    for (kernel, dilation) in [([1 << 16; 2], [1, 1]), ([1 << 16, 1], [1 << 16, 1]), ([1, 2], [1, 1 << 16])] {
        let window = ops::Window { kernel, dilation, ..ops::Window::square(1, 1, 0) };
        let pool = ops::Pool2d { kind: ops::PoolKind::Max, window, count_pad: false };
        assert!(Op::Pool2d(pool).infer(&[input], &Default::default()).is_err(), "{window:?}");
    }
}

#[test]
fn attributes_that_do_not_fit_are_refused() {
    use onebit_core::DType::{self, F32, I8, I32, U8};
    use ops::*;
    const MOST: usize = usize::MAX;
    let slice = |from, size, step| Op::Slice(Slice { from, size, step });
    let pad = |pad, mode, value| Op::Pad(Pad { pad, mode, value });
    let constant = |value| pad([1; 4], PadMode::Constant, value);
    let resize = |size, mode| Op::Resize(Resize { size, mode, coordinates: Coordinates::HalfPixel });
    let transpose = |order| Op::Transpose(Transpose { order });
    let blocks = |block| Op::DepthToSpace(DepthToSpace { block });
    let fits = |op: Op, dtype, says: &str| {
        let x = cases::map(4, 5, 8, dtype);
        let inputs = vec![x; op.arity().unwrap()];
        let got = op.infer(&inputs, &Default::default()).map_or_else(|e| e.to_string(), |_| "fits".into());
        assert!(got.contains(says), "{op:?} of {dtype} should say '{says}': {got}");
    };
    for (op, dtype, says) in [
        (transpose([0, 1, 1]), F32, "none of the axes"),
        (transpose([MOST, 1, 0]), DType::BIT, "none of the axes"),
        (slice([0; 3], [4, 5, 8], [1; 3]), F32, "fits"),
        (slice([0, 0, 1], [4, 5, 8], [1; 3]), F32, "cannot take"),
        (slice([0; 3], [1, 0, 1], [1; 3]), F32, "cannot take"),
        (slice([0; 3], [1; 3], [0, 1, 1]), F32, "cannot take"),
        (slice([3, 0, 0], [2, 1, 1], [MOST, 1, 1]), F32, "cannot take"),
        (slice([MOST; 3], [MOST; 3], [MOST; 3]), DType::BIT, "cannot take"),
        (pad([65_537, 0, 0, 0], PadMode::Edge, 0.0), F32, "above 65536"),
        (pad([MOST; 4], PadMode::Constant, 0.0), F32, "above 65536"),
        (pad([1 << 16; 4], PadMode::Constant, 0.0), F32, "impossible shape"),
        (pad([3, 4, 3, 4], PadMode::Reflect, 0.0), F32, "fits"),
        (pad([3, 4, 4, 4], PadMode::Reflect, 0.0), F32, "can be mirrored"),
        (pad([3, 5, 3, 4], PadMode::Reflect, 0.0), F32, "can be mirrored"),
        (pad([1; 4], PadMode::Edge, 1.0), F32, "cannot hold"),
        (constant(f32::NAN), F32, "cannot hold"),
        (constant(f32::INFINITY), I32, "cannot hold"),
        (constant(f32::NAN), U8, "cannot hold"),
        (constant(0.0), DType::BIT, "that bit cannot hold"),
        (constant(0.5), I32, "cannot hold"),
        (constant(-2_147_483_648.0), I32, "fits"),
        (constant(2_147_483_648.0), I32, "cannot hold"),
        (constant(255.0), U8, "fits"),
        (constant(-1.0), U8, "cannot hold"),
        (constant(128.0), I8, "cannot hold"),
        (resize([1 << 16, 1], ResizeMode::Linear), F32, "fits"),
        (resize([0, 1], ResizeMode::Linear), F32, "0 or more than 65536"),
        (resize([1, MOST], ResizeMode::NearestFloor), U8, "0 or more than 65536"),
        (resize([1 << 16; 2], ResizeMode::NearestFloor), U8, "impossible shape"),
        (resize([8, 8], ResizeMode::Linear), DType::BIT, "needs f32"),
        (blocks([2, 4]), DType::BIT, "fits"),
        (blocks([0, 2]), F32, "cannot cut 8 channels"),
        (blocks([1, 3]), F32, "cannot cut 8 channels"),
        (blocks([MOST, 2]), F32, "cannot cut 8 channels"),
        (Op::Div, I32, "cannot divide integers"),
        (Op::Max, DType::BIT, "needs f32 or i32"),
    ] {
        fits(op, dtype, says);
    }
    // The limits of one layer are those of the next: shapes never wrap, however long the chain is.
    let mut x = cases::map(1, 1, 1, F32);
    let edge = pad([1 << 16, 0, 1 << 16, 0], PadMode::Edge, 0.0);
    let grown = (0..10_000).take_while(|_| edge.infer(&[x], &Default::default()).map(|y| x = y).is_ok());
    assert_eq!(grown.count(), (1 << 28 >> 17) - 1);
}

#[test]
fn arenas_beyond_the_limit_are_refused_before_anything_is_prepared() {
    // Three values of 1 GiB live at once; and a pixel of one bit still takes a word, 2 GiB beside the 1 GiB.
    let relu = Op::Activation(ops::Activation::Relu);
    let node = |op, inputs| Node { name: "n".into(), op, inputs, params: Default::default() };
    let big = cases::map(1 << 14, 1 << 14, 1, onebit_core::DType::F32);
    let sign = Op::Sign(ops::Sign { zero: ops::Zero::Positive });
    for nodes in [vec![node(relu, vec![0]), node(Op::Add, vec![0, 1])], vec![node(sign, vec![0])]] {
        let model = Model::new(big, nodes).unwrap();
        let refused = Executor::new(&model, kernels::best()).err().unwrap();
        assert!(refused.to_string().contains("more than the limit of 2048 MiB"), "{refused}");
    }
}

/// Windows and borders of every kind that still fit: what is inside is worked out, not searched, because
/// a small file may describe a very large border.
#[test]
fn borders_of_random_windows_equal_the_reference() {
    use onebit_core::{DType, Quant};
    let mut rng = Rng::new(46);
    let (mut convs, mut pools, mut refused) = (0, 0, 0);
    for i in 0..2000 {
        let mut pick = |n| 1 + rng.below(n);
        let window = ops::Window {
            kernel: [pick(5), pick(5)],
            stride: [pick(4), pick(4)],
            dilation: [pick(3), pick(3)],
            pad: [pick(7) - 1, pick(7) - 1, pick(7) - 1, pick(7) - 1],
        };
        let x = cases::map(pick(6), pick(6), 3, DType::BIT);
        let mut conv = cases::Case::new(
            &format!("{i}: {window:?} on {x}"),
            Op::BConv2d(ops::BConv2d { window, groups: 1, pad_value: [0, 1, -1][i % 3], output: DType::I32 }),
            &[x],
        );
        conv.params.weight = Some(rng.weights(2, window.taps() * 3, Quant::BIT));
        let Ok(out) = conv.op.infer(&[x], &conv.params) else { continue };
        check(&conv.name, &model(&conv).unwrap(), &[rng.values(x)]);
        convs += 1;
        let pool = cases::Case::new(&conv.name, Op::BPool2d(ops::BPool2d { window }), &[x]);
        let covered = |o: usize, i: usize, size: usize| {
            let find = |k| if i == 0 { window.row(o, k, size) } else { window.col(o, k, size) };
            (0..window.kernel[i]).any(|k| find(k).is_some())
        };
        let fits = (0..out.shape.h).all(|o| covered(o, 0, x.shape.h))
            && (0..out.shape.w).all(|o| covered(o, 1, x.shape.w));
        assert_eq!(pool.op.infer(&[x], &pool.params).is_ok(), fits, "{}", pool.name);
        if fits {
            check(&pool.name, &model(&pool).unwrap(), &[rng.values(x)]);
            pools += 1;
        } else {
            refused += 1;
        }
    }
    assert!(convs > 500 && pools > 100 && refused > 100, "{convs} {pools} {refused}");
}

/// Weights -1 and 0: a format that no model file has, of which no value is positive.
#[test]
fn weights_without_a_positive_value() {
    use onebit_core::types::Encoding;
    use onebit_core::{DType, Quant};
    let mut rng = Rng::new(45);
    for dtype in [DType::BIT, DType::U8] {
        let window = ops::Window::square(3, 1, 1);
        let conv = ops::BConv2d { window, groups: 1, pad_value: 0, output: DType::I32 };
        let mut case = cases::Case::new("s1", Op::BConv2d(conv), &[cases::map(4, 5, 7, dtype)]);
        case.params.weight = Some(rng.weights(5, 63, Quant::new(1, Encoding::Signed)));
        let model = model(&case).unwrap();
        check("1-bit signed weights", &model, &[rng.values(case.inputs[0])]);
    }
}

/// A map of one pixel and a window that reaches so far that its padding would need gigabytes.
#[test]
fn absurd_windows_are_refused() {
    use onebit_core::{DType, Quant};
    let window = ops::Window {
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1 << 16, 1 << 16],
        pad: [1 << 16, 1 << 16, 1 << 16, 1 << 16],
    };
    let conv = ops::BConv2d { window, groups: 1, pad_value: 0, output: DType::I32 };
    let float = ops::Conv2d { window, groups: 1, pad_value: 0.0 };
    for (op, dtype) in
        [(Op::BConv2d(conv), DType::BIT), (Op::BConv2d(conv), DType::U8), (Op::Conv2d(float), DType::F32)]
    {
        let mut case = cases::Case::new("window", op, &[cases::map(1, 1, 64, dtype)]);
        let weight = onebit_core::model::Tensor::bits(1, 9 * 64, Quant::BIT, |_, c| [1, -1][c % 2]);
        case.params.weight = Some(weight);
        let model = model(&case).unwrap();
        for rung in kernels::available() {
            let refused = Executor::new(&model, rung).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(refused.contains("window reaches so far"), "{dtype} on {}: {refused:?}", rung.isa);
        }
    }
}

/// A filter of 8 KiB whose border table would need gigabytes.
#[test]
fn absurd_borders_are_refused() {
    use onebit_core::{DType, Quant};
    let window = ops::Window {
        kernel: [1 << 16, 1],
        pad: [(1 << 16) - 1, 0, (1 << 16) - 1, 0],
        ..ops::Window::square(1, 1, 0)
    };
    let conv = ops::BConv2d { window, groups: 1, pad_value: 0, output: DType::I32 };
    for (rows, accepted) in [(1, true), (64, false)] {
        let mut case =
            cases::Case::new("border", Op::BConv2d(conv), &[cases::map(1 << 16, 1, 1, DType::BIT)]);
        case.params.weight = Some(onebit_core::model::Tensor::bits(rows, 1 << 16, Quant::BIT, |_, c| {
            if c % 3 == 0 { 1 } else { -1 }
        }));
        let result = case.op.infer(&case.inputs, &case.params);
        assert_eq!(result.is_ok(), accepted, "{result:?}");
        if accepted {
            Executor::new(&model(&case).unwrap(), kernels::best()).unwrap();
        }
    }
}
