//! The fast path of binary convolution, prepared for one machine.

use super::BConv2d;
use super::bytes::{Bytes, byte_weights};
use super::lower::Lowering;
use super::lower_bytes::fits_bytes;
use super::planes::Planes;
use crate::kernels::Kernels;
use crate::model::{Params, Tensor};
use crate::team::{Cut, Piece};
use crate::types::{DType, Quant, ValueType};

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
        let wq = params.weight.as_ref().and_then(|w| Some(w.as_bits()?.0)).expect("checked by infer");
        let planes = matches!(input.dtype, DType::Bits(_)) || Lowering::takes_bytes(&conv, input.shape);
        let product = if !planes || prefers_bytes(input, out, wq, kernels) {
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
    pub(crate) fn cut(&self) -> Cut {
        match &self.product {
            Product::Planes(p) => p.cut(),
            Product::Bytes(_) => Cut { pixels: 1, channels: false },
        }
    }

    /// Runs a piece of one image; `out` begins with it.
    pub(crate) fn run_piece(&self, piece: &Piece, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
        match &self.product {
            Product::Planes(p) => p.run_piece(piece, x, out, scratch),
            Product::Bytes(b) => match piece.clone() {
                Piece::Pixels(pixels) => b.run_pixels(pixels, x, out, scratch),
                Piece::Channels(_) => unreachable!("channels of bytes are not cut"),
            },
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

/// Whether a product that can be made of planes runs faster on bytes: from so many pairs of planes on that the product of
/// bytes takes less time. Times of planes over times of bytes, for weights x activations in bits (machine A of
/// docs/performance.md; 3x3, 256 -> 256 at 14x14, and 4096 -> 1024 for one row):
///
/// | | 1x2 | 1x3 | 2x2 | 3x2 | 2x4 | 3x3 | 4x4 |
/// |---|---|---|---|---|---|---|---|
/// | AVX-512 | 0.34 | 0.50 | 0.71 | 1.02 | 1.43 | 1.54 | 2.65 |
/// | AVX2 | 0.45 | 0.69 | 0.92 | 1.35 | 1.82 | 2.05 | 3.67 |
/// | AVX-512, one row | 0.21 | 0.27 | 0.44 | 0.67 | 0.72 | 0.86 | 1.46 |
/// | AVX2, one row | 0.37 | 0.53 | 0.81 | 1.22 | 1.62 | 1.73 | 2.85 |
///
/// A row reads every weight once, and bytes are the more to read.
fn prefers_bytes(input: ValueType, out: ValueType, wq: Quant, kernels: &Kernels) -> bool {
    let xq = input.dtype.quant().expect("checked by infer");
    let (parts, largest) = byte_weights(wq);
    let limit = kernels.igemm(largest).pairs[usize::from(out.shape.pixels() == 1)] * parts;
    fits_bytes(input.dtype) && xq.planes() * wq.planes() > limit
}
