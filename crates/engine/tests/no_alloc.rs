//! `Session::run_into` with one thread allocates nothing after its first call, on every kernel rung.

use onebit::core::cases::Rng;
use onebit::core::model::{Params, Tensor};
use onebit::core::ops::*;
use onebit::core::{DType, Encoding, Quant, Shape, ValueType, kernels};
use onebit::session::Elements;
use onebit::{Graph, Options, Session};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations of this thread: the test harness may allocate in others.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes on to the system allocator; counting touches only a thread-local number that
// is initialised at compile time and has no destructor, so it allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: `p` came from `alloc` above, so from the system allocator.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A network with every kind of layer: bytes to bits, binary convolutions with both kinds of output,
/// pools, k-bit activations, float layers, a residual connection, joins, what moves elements, dense layers.
fn graph(rng: &mut Rng) -> Graph {
    let mut g = Graph::new(ValueType::new(Shape::new(12, 11, 3), DType::U8), Default::default());
    let none = Params::default;
    let bconv = |rng: &mut Rng, g: &Graph, v: usize, n: usize, output: DType| {
        let weight = Some(rng.weights(n, 9 * g.ty(v).shape.c, Quant::BIT));
        let mut params = Params { weight, ..Params::default() };
        if let DType::Bits(q) = output {
            params.thresholds = Some(rng.thresholds(n, q.levels() - 1, 9));
            params.flips = Some(rng.flags(n));
        }
        let conv = BConv2d { window: Window::square(3, 1, 1), groups: 1, pad_value: 0, output };
        (Op::BConv2d(conv), params)
    };
    let add = |g: &mut Graph, op: Op, inputs: &[usize], params| g.add(op.name(), op, inputs, params).unwrap();

    let (op, params) = bconv(rng, &g, 0, 40, DType::BIT);
    let bits = add(&mut g, op, &[0], params);
    let pool = Op::BPool2d(BPool2d { window: Window::square(2, 2, 0) });
    let pooled = add(&mut g, pool, &[bits], none());
    let (op, params) = bconv(rng, &g, pooled, 40, DType::F32);
    let floats = add(&mut g, op, &[pooled], params);
    let decoded = add(&mut g, Op::Decode, &[pooled], none());
    let sum = add(&mut g, Op::Add, &[floats, decoded], none());
    let table = Params { weight: Some(Tensor::i32_matrix(1, 2, vec![3, -4])), ..none() };
    add(&mut g, Op::Lookup, &[pooled], table);
    let affine = Params { scale: Some(Tensor::f32(rng.floats(40, -1.0, 1.0))), ..none() };
    let scaled = add(&mut g, Op::Affine, &[sum], affine);
    let slopes = Params { scale: Some(Tensor::f32(rng.floats(40, -1.0, 1.0))), ..none() };
    let bent = add(&mut g, Op::Prelu, &[scaled], slopes);
    let depthwise = Conv2d { window: Window::square(3, 1, 1), groups: 40, pad_value: 0.0 };
    let weight = Tensor::f32_matrix(40, 9, rng.floats(360, -1.0, 1.0));
    let blurred = add(&mut g, Op::Conv2d(depthwise), &[bent], Params { weight: Some(weight), ..none() });
    let average = Pool2d { kind: PoolKind::Average, window: Window::square(2, 1, 0), count_pad: false };
    let smooth = add(&mut g, Op::Pool2d(average), &[blurred], none());
    let full = Conv2d { window: Window::square(2, 1, 0), groups: 1, pad_value: 0.0 };
    let weight = Tensor::f32_matrix(24, 160, rng.floats(3840, -1.0, 1.0));
    let mixed = add(&mut g, Op::Conv2d(full), &[smooth], Params { weight: Some(weight), ..none() });
    let tanh = add(&mut g, Op::Activation(Activation::Tanh), &[mixed], none());
    let larger = add(&mut g, Op::Max, &[tanh, mixed], none());
    let joined = add(&mut g, Op::Concat, &[larger, mixed], none());
    let u2 = Quant::new(2, Encoding::Unsigned);
    let quantize = Quantize {
        scale: 1.5,
        offset: 1.0,
        rounding: Rounding::HalfEven,
        output: DType::Bits(u2),
        lowest: 0,
        highest: 3,
    };
    let joined = moved(&mut g, joined);
    let linear =
        Resize { size: [5, 6], mode: ResizeMode::Linear, coordinates: Coordinates::PytorchHalfPixel };
    let joined = add(&mut g, Op::Resize(linear), &[joined], none());
    let levels = add(&mut g, Op::Quantize(quantize), &[joined], none());
    let (op, params) = bconv(rng, &g, levels, 33, DType::I32);
    let counts = add(&mut g, op, &[levels], params);
    let sign = add(&mut g, Op::Sign(Sign { zero: Zero::Positive }), &[counts], none());
    let moved = moved(&mut g, sign);
    let flat = Reshape { shape: Shape::vector(g.ty(moved).shape.elements()) };
    let flat = add(&mut g, Op::Reshape(flat), &[moved], none());
    let weight = rng.weights(65, g.ty(flat).shape.c, Quant::TERNARY);
    let dense = Op::BDense(BDense { output: DType::F32 });
    let hidden = add(&mut g, dense, &[flat], Params { weight: Some(weight), ..none() });
    let weight = Tensor::f32_matrix(10, 65, rng.floats(650, -1.0, 1.0));
    let logits = add(&mut g, Op::Dense, &[hidden], Params { weight: Some(weight), ..none() });
    add(&mut g, Op::Softmax, &[logits], none());
    g
}

/// Every op that only moves elements.
fn moved(g: &mut Graph, mut v: usize) -> usize {
    let value = if g.ty(v).dtype == DType::F32 { 0.0 } else { 1.0 };
    let c = g.ty(v).shape.c;
    for op in [
        Op::Transpose(Transpose { order: [1, 0, 2] }),
        Op::Pad(Pad { pad: [1, 2, 0, 1], mode: PadMode::Constant, value }),
        Op::Slice(Slice { from: [1, 0, c % 4], size: [3, 4, c - c % 4], step: [1, 1, 1] }),
        Op::DepthToSpace(DepthToSpace { block: [2, 2] }),
        Op::Pad(Pad { pad: [1, 0, 0, 1], mode: PadMode::Reflect, value: 0.0 }),
        Op::Resize(Resize {
            size: [4, 5],
            mode: ResizeMode::NearestFloor,
            coordinates: Coordinates::Asymmetric,
        }),
    ] {
        v = g.add(op.name(), op, &[v], Params::default()).unwrap();
    }
    v
}

#[test]
fn running_allocates_nothing_after_the_first_call() {
    let mut rng = Rng::new(90);
    let (model, meta) = graph(&mut rng).into_model().unwrap();
    for rung in kernels::available() {
        let options = Options { threads: 1, isa: Some(rung.isa.into()) };
        let session = Session::new(&model, meta.clone(), &options).unwrap();
        let pixels: Vec<u8> = (0..5 * 12 * 11 * 3).map(|_| rng.word() as u8).collect();
        let mut out = vec![0.0; 5 * 10];
        let before = ALLOCATIONS.get();
        session.run_into(Elements::Pixels(&pixels), &mut out).unwrap();
        assert!(ALLOCATIONS.get() > before, "the first call makes the arena, so the counter counts");

        let first = out.clone();
        let before = ALLOCATIONS.get();
        for _ in 0..3 {
            session.run_into(Elements::Pixels(&pixels), &mut out).unwrap();
        }
        assert_eq!(ALLOCATIONS.get(), before, "on {}", rung.isa);
        assert_eq!(out, first);
    }
}
