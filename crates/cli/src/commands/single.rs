//! One binary layer with random weights, alone: what `bench gemm` and `bench sweep` measure.

use crate::limits::{Work, unit_of};
use onebit::core::bits;
use onebit::core::exec::Executor;
use onebit::core::kernels::Kernels;
use onebit::core::kernels::limits::Unit;
use onebit::core::model::{Data, Model, Node, Params, Tensor};
use onebit::core::ops::{BConv2d, Op, Window};
use onebit::core::types::{DType, Quant, Shape, ValueType};

/// A convolution with square filters, stride 1, and padding that keeps the size; with filters of 1 on a map of one
/// pixel, a matrix product.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Images.
    pub batch: usize,
    /// Map that it reads.
    pub shape: Shape,
    /// Format of that map: planes of bits.
    pub quant: Quant,
    /// Height and width of a filter.
    pub filter: usize,
    /// Channels that it writes.
    pub channels: usize,
    /// Whether it writes bits, as in a network, or the sums.
    pub bits: bool,
}

impl Layer {
    /// Elements of one sum.
    pub fn taps(&self) -> usize {
        self.filter * self.filter * self.shape.c
    }

    /// Prepares the layer.
    ///
    /// # Errors
    /// When the sums could overflow, or the layer is too large.
    pub fn prepare(&self, kernels: &'static Kernels) -> onebit::Result<Prepared> {
        let (n, k) = (self.channels, self.taps());
        let mut words = vec![0; n * bits::words(k)];
        fill_rows(&mut words, k);
        let weight = Tensor { rows: n, cols: k, data: Data::Bits(Quant::BIT, words.into()) };
        let weight_bytes = weight.bytes();
        let mut params = Params { weight: Some(weight), ..Params::default() };
        if self.bits {
            params.thresholds = Some(Tensor::i32_matrix(n, 1, vec![0; n]));
            params.flips = Some(Tensor::flags(&vec![false; n]));
        }
        let conv = BConv2d {
            window: Window::square(self.filter, 1, self.filter / 2),
            groups: 1,
            pad_value: 0,
            output: if self.bits { DType::BIT } else { DType::I32 },
        };
        let node = Node { name: "layer".into(), op: Op::BConv2d(conv), inputs: vec![0], params };
        let input = ValueType::new(self.shape, DType::Bits(self.quant));
        let model = Model::new(input, vec![node])?;
        let executor = Executor::new(&model, kernels)?;
        let mut arena = vec![0u64; executor.arena_words(self.batch)];
        fill_rows(executor.input_mut(&mut arena, self.batch), self.shape.c);
        let value_bytes = self.batch * model.types().iter().map(|t| t.dtype.bytes(t.shape)).sum::<usize>();
        let unit = unit_of(executor.steps()[0].kernel());
        let products = if unit == Some(Unit::Binary) { u64::from(self.quant.bits) } else { 1 };
        let work = Work {
            unit,
            macs: (self.batch * self.shape.pixels() * n * k) as u64 * products,
            weight_bytes,
            value_bytes,
            network_bytes: weight_bytes + value_bytes,
        };
        Ok(Prepared { executor, arena, batch: self.batch, work })
    }
}

/// A layer that is ready to run.
pub struct Prepared {
    executor: Executor,
    arena: Vec<u64>,
    batch: usize,
    /// What it must do at least.
    pub work: Work,
}

impl Prepared {
    /// Runs the layer. The output never takes the place of the input, so every run does the same.
    pub fn run(&mut self) {
        self.executor.run(self.batch, &mut self.arena, |_| {});
    }
    /// Name of the kernel.
    pub fn kernel(&self) -> &'static str {
        self.executor.steps()[0].kernel()
    }
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
