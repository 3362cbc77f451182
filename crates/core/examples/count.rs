//! Fixed work for `.ci/instructions`: `count ISA WORKLOAD TIMES` runs a workload so many times and prints how many
//! units of work one time is. Without arguments it lists the workloads.

use onebit_core::cases::{Rng, map, pack};
use onebit_core::exec::Executor;
use onebit_core::kernels::{self, Accumulators, Block, Kernels, Pair};
use onebit_core::model::{Model, Node, Params, Tensor};
use onebit_core::ops::{BConv2d, BDense, Conv2d, Op, Threshold, Window};
use onebit_core::{DType, Encoding, Quant, ValueType};

const WORKLOADS: [&str; 9] = [
    "bgemm-16384",
    "bconv3x3-128-128-8x8",
    "bconv3x3-64-64-8x8",
    "bconv3x3-64-64-8x8-w1a2",
    "bdense-1024-1024",
    "bconv3x3-3-64-8x8-bytes",
    "conv3x3-16-16-8x8-f32",
    "threshold-64-8x8-i32",
    "threshold-64-8x8-f32",
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [isa, workload, times] = arguments.as_slice() else {
        println!("{}", WORKLOADS.join("\n"));
        return;
    };
    let kernels = kernels::named(isa).expect("a rung of this CPU");
    let times: usize = times.parse().expect("a number");
    let mut rng = Rng::new(1);
    let work = match workload.as_str() {
        "bgemm-16384" => return println!("{}", bgemm(kernels, &mut rng, times)),
        "bconv3x3-128-128-8x8" => bconv(&mut rng, 128, 128, DType::BIT, DType::BIT),
        "bconv3x3-64-64-8x8" => bconv(&mut rng, 64, 64, DType::BIT, DType::BIT),
        "bconv3x3-64-64-8x8-w1a2" => {
            let u2 = DType::Bits(Quant::new(2, Encoding::Unsigned));
            bconv(&mut rng, 64, 64, u2, u2)
        }
        "bconv3x3-3-64-8x8-bytes" => bconv(&mut rng, 3, 64, DType::U8, DType::BIT),
        "bdense-1024-1024" => {
            let params = bit_params(&mut rng, 1024, 1024, DType::BIT);
            let op = Op::BDense(BDense { output: DType::BIT });
            Work { input: map(1, 1, 1024, DType::BIT), op, params, units: 1024 * 1024 / 128 }
        }
        "conv3x3-16-16-8x8-f32" => {
            let weight = Some(Tensor::f32_matrix(16, 144, rng.floats(16 * 144, -1.0, 1.0)));
            let op = Op::Conv2d(Conv2d { window: Window::square(3, 1, 1), groups: 1, pad_value: 0.0 });
            let params = Params { weight, ..Params::default() };
            Work { input: map(8, 8, 16, DType::F32), op, params, units: 64 * 16 * 144 }
        }
        "threshold-64-8x8-i32" | "threshold-64-8x8-f32" => {
            let floats = workload.ends_with("f32");
            let thresholds = if floats {
                Tensor::f32_matrix(64, 1, rng.floats(64, -1.0, 1.0))
            } else {
                rng.thresholds(64, 1, 9)
            };
            let flips = Some(rng.flags(64));
            let params = Params { thresholds: Some(thresholds), flips, ..Params::default() };
            let op = Op::Threshold(Threshold { output: DType::BIT });
            let dtype = if floats { DType::F32 } else { DType::I32 };
            Work { input: map(8, 8, 64, dtype), op, params, units: 64 * 64 }
        }
        other => panic!("no workload '{other}'"),
    };
    println!("{}", work.run(kernels, &mut rng, times));
}

/// A network of one op.
struct Work {
    input: ValueType,
    op: Op,
    params: Params<Tensor<'static>>,
    /// 128-bit products of binary layers, multiply-adds of float layers, elements of others.
    units: usize,
}

impl Work {
    fn run(self, kernels: &'static Kernels, rng: &mut Rng, times: usize) -> usize {
        let node = Node { name: "op".into(), op: self.op, inputs: vec![0], params: self.params };
        let model = Model::new(self.input, vec![node]).expect("a valid model");
        let executor = Executor::new(&model, kernels).expect("a small model");
        let mut arena = vec![0; executor.arena_words(1)];
        executor.input_mut(&mut arena, 1).copy_from_slice(&pack(self.input, &rng.values(self.input)));
        for _ in 0..times {
            executor.run(1, &mut arena, |_| {});
        }
        assert!(executor.output_of(&arena, 1).iter().any(|w| *w != 0), "the output is not empty");
        self.units
    }
}

/// A 3x3 convolution on 8 x 8 pixels, padded by 1.
fn bconv(rng: &mut Rng, from: usize, to: usize, input: DType, output: DType) -> Work {
    let conv = BConv2d { window: Window::square(3, 1, 1), groups: 1, pad_value: 0, output };
    let conv = BConv2d { pad_value: if input == DType::BIT { -1 } else { conv.pad_value }, ..conv };
    let planes = input.quant().map_or(8, |q| q.planes());
    let units = 64 * to * 9 * from * planes / 128;
    let params = bit_params(rng, to, 9 * from, output);
    Work { input: map(8, 8, from, input), op: Op::BConv2d(conv), params, units }
}

fn bit_params(rng: &mut Rng, rows: usize, cols: usize, output: DType) -> Params<Tensor<'static>> {
    let steps = output.quant().map_or(1, |q| q.levels() - 1);
    Params {
        weight: Some(rng.weights(rows, cols, Quant::BIT)),
        thresholds: Some(rng.thresholds(rows, steps, 9)),
        flips: Some(rng.flags(rows)),
        ..Params::default()
    }
}

/// One register tile of 16384 bits: the inner loop alone.
fn bgemm(kernels: &Kernels, rng: &mut Rng, times: usize) -> usize {
    let gemm = &kernels.bgemm;
    let k = gemm.padded(16384 / 64);
    let a: Vec<u64> = (0..gemm.mr * k).map(|_| rng.word()).collect();
    let b: Vec<u64> = (0..gemm.nr * k).map(|_| rng.word()).collect();
    let (mut sums, half, places) = (vec![0; gemm.nr], vec![0; gemm.nr], vec![0; gemm.mr]);
    let block = Block {
        rows: gemm.mr,
        k,
        a: &a,
        lda: gemm.mr,
        plane: a.len(),
        b: &b,
        panels: 1,
        stride: b.len(),
        pairs: &[Pair::SINGLE],
        base: &[],
    };
    let acc = Accumulators { half: &half, at: &places, to: &places, shift: 1 };
    for _ in 0..times {
        gemm.ints(std::hint::black_box(&block), &acc, std::hint::black_box(&mut sums));
    }
    gemm.mr * gemm.nr * k / 2
}
