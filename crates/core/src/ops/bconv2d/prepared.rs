//! The fast path of binary convolution, prepared for one machine.

use super::BConv2d;
use super::bytes::Bytes;
use super::planes::Planes;
use crate::kernels::Kernels;
use crate::model::{Params, Tensor};
use crate::team::{Cut, Piece};
use crate::types::{DType, ValueType};

/// Output pixels from which bytes beat bit planes on bytes: below, more of the weights are read for too few pixels.
const BYTE_PIXELS: usize = 16;

/// Weights, padding and thresholds in the form that the kernels of one machine take.
pub struct Prepared {
    product: Product,
}

/// How rows are multiplied with filters.
// One for each layer of a network, never moved: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
enum Product {
    /// Combinations of XNOR-popcounts of planes.
    Planes(Planes),
    /// Multiply-adds of bytes.
    Bytes(Bytes),
}

impl Prepared {
    /// Prepares an op that `infer` has accepted.
    pub fn new(
        conv: BConv2d,
        input: ValueType,
        out: ValueType,
        params: &Params<Tensor<'_>>,
        kernels: &'static Kernels,
    ) -> Self {
        let bytes = !matches!(input.dtype, DType::Bits(_));
        let taps = params.weight.as_ref().map_or(0, |w| w.cols);
        let exact = taps * 255 * 127 < 1 << 24;
        let few = out.shape.pixels() < BYTE_PIXELS || !exact;
        let product = if bytes && !(few && Planes::takes_bytes(&conv, input.shape)) {
            Product::Bytes(Bytes::new(conv, input, out, params, kernels))
        } else {
            Product::Planes(Planes::new(conv, input, out, params, kernels))
        };
        Prepared { product }
    }

    /// Name of the kernel that runs.
    pub fn kernel(&self) -> &'static str {
        match &self.product {
            Product::Planes(p) => p.kernel(),
            Product::Bytes(b) => b.kernel(),
        }
    }

    /// Words of scratch memory that [`Prepared::run`] needs.
    pub fn scratch_words(&self) -> usize {
        match &self.product {
            Product::Planes(p) => p.scratch_words(),
            Product::Bytes(b) => b.scratch_words(),
        }
    }

    /// How one image can be cut into pieces.
    pub(crate) fn cut(&self) -> Option<Cut> {
        match &self.product {
            Product::Planes(p) => Some(p.cut()),
            Product::Bytes(_) => None,
        }
    }

    /// Runs a piece of one image; `out` begins with it.
    pub(crate) fn run_piece(&self, piece: &Piece, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
        match &self.product {
            Product::Planes(p) => p.run_piece(piece, x, out, scratch),
            Product::Bytes(b) => b.run(1, x, out, scratch),
        }
    }

    /// Runs `batch` images, one after the other in `x` and `out` (see [`crate::types`]).
    pub fn run(&self, batch: usize, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
        match &self.product {
            Product::Planes(p) => p.run(batch, x, out, scratch),
            Product::Bytes(b) => b.run(batch, x, out, scratch),
        }
    }
}
