//! `onebit bench gemm`: one binary matrix multiplication, and the kernel alone.

use crate::Global;
use crate::text::{grouped, print, print_json, significant};
use crate::timing::{Latency, latency};
use anyhow::{Result, bail};
use clap::Args;
use onebit::core::bits;
use onebit::core::exec::Executor;
use onebit::core::kernels::{Accumulators, Aligned, Block, Kernels, Pair};
use onebit::core::model::{Model, Node, Params, Tensor};
use onebit::core::ops::{BDense, Op};
use onebit::core::types::{DType, Quant, Shape, ValueType};
use onebit::session;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;

/// Multiplies a binary M x K matrix with a binary K x N matrix, on one thread
#[derive(Args)]
pub struct Gemm {
    /// Rows of the activations: the batch
    #[arg(value_parser = size())]
    m: u64,
    /// Columns of the weights: output channels
    #[arg(value_parser = size())]
    n: u64,
    /// Elements of one sum
    #[arg(value_parser = size())]
    k: u64,
}

fn size() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=1 << 24)
}

/// Most elements of each of the three matrices.
const MAX_ELEMENTS: usize = 1 << 28;

#[derive(Serialize)]
struct Report {
    m: usize,
    n: usize,
    k: usize,
    isa: &'static str,
    kernel: &'static str,
    threads: usize,
    latency_ms: Latency,
    gmacs_per_second: f64,
    kernel_gmacs_per_second: f64,
    limit_fraction: f64,
}

impl Gemm {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let (m, n, k) = (self.m as usize, self.n as usize, self.k as usize);
        if [m * k, n * k, m * n].iter().any(|e| *e > MAX_ELEMENTS) {
            bail!("matrices of {m} x {k}, {n} x {k} and {m} x {n} are too large; the limit is 2^28 elements");
        }
        let kernels = session::kernels(global.isa.as_deref())?;
        let weight = random_bits(n, k);
        let node = Node {
            name: "gemm".into(),
            op: Op::BDense(BDense { output: DType::I32 }),
            inputs: vec![0],
            params: Params { weight: Some(weight), ..Params::default() },
        };
        let input = ValueType::new(Shape::vector(k), DType::BIT);
        let model = Model::new(input, vec![node]).map_err(onebit::Error::from)?;
        let executor = Executor::new(&model, kernels).map_err(onebit::Error::from)?;
        let mut arena = vec![0u64; executor.arena_words(m)];
        // The result may take the place of the input's neighbour but never of the input: one copy is enough.
        fill_rows(executor.input_mut(&mut arena, m), k);
        let time = Duration::from_millis(1500);
        let latency_ms = never_fails(latency(time, || {
            executor.run(m, &mut arena, |_| {});
            Ok(())
        }));
        let gmacs = (m * n * k) as f64 / latency_ms.min / 1e6;
        let kernel = kernel_rate(kernels) / 1e9;
        let report = Report {
            m,
            n,
            k,
            isa: kernels.isa,
            kernel: kernels.bgemm.name,
            threads: 1,
            latency_ms,
            gmacs_per_second: gmacs,
            kernel_gmacs_per_second: kernel,
            limit_fraction: gmacs / kernel,
        };
        if global.json {
            return print_json(&report);
        }
        print(&format!(
            "binary GEMM {m} x {n} x {k} · {} · 1 thread\n  \
             latency   min {} ms, median {} ms, p99 {} ms\n  \
             speed     {} GMAC/s with packing, {} % of the kernel alone\n  \
             kernel    {} GMAC/s in L1 ({})\n",
            report.isa,
            significant(latency_ms.min),
            significant(latency_ms.median),
            significant(latency_ms.p99),
            grouped(gmacs as u64),
            significant(100.0 * report.limit_fraction),
            grouped(kernel as u64),
            report.kernel,
        ))
    }
}

fn random_bits(rows: usize, cols: usize) -> Tensor<'static> {
    let mut words = vec![0; rows * bits::words(cols)];
    fill_rows(&mut words, cols);
    Tensor { rows, cols, data: onebit::core::model::Data::Bits(Quant::BIT, words.into()) }
}

/// Fills rows of `cols` bits; the padding stays 0.
fn fill_rows(words: &mut [u64], cols: usize) {
    let per_row = bits::words(cols);
    let last = bits::low_mask(cols - (per_row - 1) * 64);
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for row in words.chunks_exact_mut(per_row) {
        for word in row.iter_mut() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state;
        }
        row[per_row - 1] &= last;
    }
}

/// Multiply-adds per second of the binary kernel when all it touches is in the first cache: this machine's
/// limit for binary layers on one thread.
pub fn kernel_rate(kernels: &Kernels) -> f64 {
    /// Words of a row: a 3 x 3 filter on 512 channels; panels of 16 channels take 9 KiB.
    const K: usize = 72;
    /// Calls of one measurement, some tens of microseconds.
    const CALLS: usize = 200;
    let gemm = &kernels.bgemm;
    let (mut a, mut b) = (Aligned::zeroed(gemm.mr * K), Aligned::zeroed(K * gemm.nr));
    fill_rows(&mut a, 64 * K);
    fill_rows(&mut b, 64 * K);
    let (places, mut sums) = (vec![0; gemm.mr], vec![0i32; gemm.nr]);
    let half = vec![0; gemm.nr];
    let acc = Accumulators { half: &half, at: &places, to: &places, shift: 0 };
    let pairs = [Pair::SINGLE];
    let best = never_fails(latency(Duration::from_millis(200), || {
        for _ in 0..CALLS {
            let (rows, lda) = (gemm.mr, gemm.mr);
            let a = std::hint::black_box(&a[..]);
            let block =
                Block { rows, k: K, a, lda, plane: 0, b: &b, panels: 1, stride: 0, pairs: &pairs, base: &[] };
            gemm.ints(&block, &acc, &mut sums);
            std::hint::black_box(&sums);
        }
        Ok(())
    }));
    (CALLS * gemm.mr * gemm.nr * K * 64) as f64 / (best.min * 1e-3)
}

fn never_fails<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
