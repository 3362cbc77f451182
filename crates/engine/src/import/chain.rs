//! Networks that are a chain of matrix, maximum, BatchNorm and sign, all weights being +1 or -1: what BinaryNet
//! trains, and what Espresso and BinCNN run.

use super::build;
use crate::error::{Error, Result};
use crate::graph::Graph;
use onebit_core::model::{MAX_ELEMENTS, Params, Tensor};
use onebit_core::ops::{BConv2d, BDense, Conv2d, Op, Pool2d, PoolKind, Sign, Window, Zero};
use onebit_core::types::{DType, Shape};

/// Order in which a dense layer of the source reads a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flatten {
    /// Channel after channel.
    Chw,
    /// Pixel after pixel.
    Hwc,
}

/// A graph and the value that the next layer reads.
pub struct Chain {
    /// The graph so far.
    pub graph: Graph,
    /// What the sign of 0 is.
    pub zero: Zero,
    /// What padding reads in layers on bits or bytes; floats are padded with 0.
    pub pad_value: i32,
    value: usize,
}

impl Chain {
    /// A chain that goes on where `graph` ends.
    pub fn new(graph: Graph, zero: Zero, pad_value: i32) -> Self {
        let value = graph.output;
        Chain { graph, zero, pad_value, value }
    }

    /// Shape of what the next layer reads.
    pub fn shape(&self) -> Shape {
        self.graph.ty(self.value).shape
    }

    /// Appends any op.
    ///
    /// # Errors
    /// As [`Graph::add`]; also when the op makes more elements than a value may have.
    pub fn op(&mut self, name: &str, op: Op, params: Params<Tensor<'static>>) -> Result<()> {
        self.value = self.graph.add(name, op, &[self.value], params)?;
        match self.shape().checked_elements() {
            Some(1..=MAX_ELEMENTS) => Ok(()),
            _ => Err(Error::layer(name, format!("would have an impossible shape, {}", self.shape()))),
        }
    }

    /// A correlation with `rows` filters; `positive(filter, tap row, tap column, channel)` is a weight of +1.
    ///
    /// # Errors
    /// When the window does not fit.
    pub fn conv(
        &mut self,
        name: &str,
        window: Window,
        rows: usize,
        positive: impl Fn(usize, usize, usize, usize) -> bool,
    ) -> Result<()> {
        let (channels, width) = (self.shape().c, window.kernel[1]);
        let weight = build::signs(rows, window.taps() * channels, |n, col| {
            let tap = col / channels;
            positive(n, tap / width, tap % width, col % channels)
        });
        let op = match self.on_floats() {
            true => Op::Conv2d(Conv2d { window, groups: 1, pad_value: 0.0 }),
            false => {
                let pad_value = self.pad_value;
                Op::BConv2d(BConv2d { window, groups: 1, pad_value, output: DType::I32 })
            }
        };
        self.op(name, op, Params { weight: Some(weight), ..Params::default() })
    }

    /// A dense layer of all elements of the value; `positive(row, element)` is a weight of +1, elements being counted
    /// in the order of the source.
    ///
    /// # Errors
    /// When a constant has an impossible size.
    pub fn dense(
        &mut self,
        name: &str,
        flatten: Flatten,
        rows: usize,
        positive: impl Fn(usize, usize) -> bool,
    ) -> Result<()> {
        let shape = self.shape();
        let order = match flatten {
            Flatten::Chw => build::chw_of_hwc(shape),
            Flatten::Hwc => (0..shape.elements()).collect(),
        };
        let weight = build::signs(rows, order.len(), |n, col| positive(n, order[col]));
        let op = if self.on_floats() { Op::Dense } else { Op::BDense(BDense { output: DType::I32 }) };
        self.op(name, op, Params { weight: Some(weight), ..Params::default() })
    }

    /// The largest value of each window.
    ///
    /// # Errors
    /// When the window does not fit.
    pub fn max_pool(&mut self, name: &str, window: Window) -> Result<()> {
        let op = Op::Pool2d(Pool2d { kind: PoolKind::Max, window, count_pad: false });
        self.op(name, op, Params::default())
    }

    /// `value + bias`; nothing where all of it is 0.
    ///
    /// # Errors
    /// When it does not fit the channels, or is not finite.
    pub fn bias(&mut self, name: &str, bias: &[f32]) -> Result<()> {
        if bias.iter().all(|b| *b == 0.0) {
            return Ok(());
        }
        self.op(name, Op::Affine, Params { bias: Some(Tensor::f32(bias.to_vec())), ..Params::default() })
    }

    /// `(value - mean) * (gamma * inv_std) + beta`, the product of constants rounded first.
    ///
    /// # Errors
    /// When constants do not fit the channels, or are not finite.
    pub fn batch_norm(&mut self, name: &str, norm: &BatchNorm<'_>) -> Result<()> {
        let scale = norm.gamma.iter().zip(norm.inv_std).map(|(g, s)| g * s).collect();
        let params = Params {
            center: Some(Tensor::f32(norm.mean.to_vec())),
            scale: Some(Tensor::f32(scale)),
            bias: Some(Tensor::f32(norm.beta.to_vec())),
            ..Params::default()
        };
        self.op(name, Op::Affine, params)
    }

    /// Bits of the value.
    ///
    /// # Errors
    /// When it has bits already.
    pub fn sign(&mut self, name: &str) -> Result<()> {
        self.op(name, Op::Sign(Sign { zero: self.zero }), Params::default())
    }

    fn on_floats(&self) -> bool {
        self.graph.ty(self.value).dtype == DType::F32
    }
}

/// Constants of a BatchNorm in the order in which Lasagne lists them, one value for each channel.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// Added last.
    pub beta: &'a [f32],
    /// Multiplied.
    pub gamma: &'a [f32],
    /// Running mean.
    pub mean: &'a [f32],
    /// One over the running deviation.
    pub inv_std: &'a [f32],
}
