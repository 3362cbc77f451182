//! Channels become blocks of pixels: `out[y * bh + by][x * bw + bx][c] = in[y][x][(by * bw + bx) * C + c]`, with `C`
//! channels of the output. A transposed convolution is a convolution and this (Shi et al. 2016).

use crate::bits;
use crate::types::Shape;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct DepthToSpace {
    /// Rows, columns of a block.
    pub block: [usize; 2],
}

/// One image of numbers.
pub fn run<T: Copy>(op: &DepthToSpace, input: Shape, x: &[T], out: &mut [T]) {
    let [bh, bw] = op.block;
    // A row of a block lies together on both sides.
    let run = input.c / bh;
    for (i, line) in out.chunks_exact_mut(input.w * run).enumerate() {
        let (y, by) = (i / bh, i % bh);
        for (column, out) in line.chunks_exact_mut(run).enumerate() {
            out.copy_from_slice(&x[(y * input.w + column) * input.c + by * run..][..run]);
        }
    }
    debug_assert!(run.is_multiple_of(bw));
}

/// One bit-packed image.
pub fn run_bits(op: &DepthToSpace, planes: usize, input: Shape, x: &[u64], out: &mut [u64]) {
    let [bh, bw] = op.block;
    let (c, width) = (input.c / (bh * bw), input.w * bw);
    let (from_words, to_words) = (bits::words(input.c), bits::words(c));
    out.fill(0);
    for (i, pixel) in out.chunks_exact_mut(planes * to_words).enumerate() {
        let (y, column) = (i / width, i % width);
        let block = y % bh * bw + column % bw;
        let from = (y / bh * input.w + column / bw) * planes * from_words;
        for (p, row) in pixel.chunks_exact_mut(to_words).enumerate() {
            bits::or_range(row, 0, &x[from + p * from_words..][..from_words], block * c, c);
        }
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::cases::{Case, map};
    use crate::model::Error;
    use crate::ops::Op;
    use crate::reference::{Values, moved};
    use crate::types::{DType, Quant, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(op: &DepthToSpace, x: ValueType) -> Result<ValueType, Error> {
        let [bh, bw] = op.block;
        match bh.checked_mul(bw) {
            Some(n) if n > 0 && x.shape.c.is_multiple_of(n) => {
                let shape =
                    Shape::new(x.shape.h.saturating_mul(bh), x.shape.w.saturating_mul(bw), x.shape.c / n);
                Ok(ValueType::new(shape, x.dtype))
            }
            _ => Err(Error(format!("cannot cut {} channels into blocks of {bh} x {bw} pixels", x.shape.c))),
        }
    }

    /// The specification.
    pub fn reference(op: &DepthToSpace, x: ValueType, v: &Values, out: ValueType) -> Values {
        let [bh, bw] = op.block;
        moved(out.shape, v, 0.0, |y, column, c| {
            let channel = (y % bh * bw + column % bw) * out.shape.c + c;
            Some((y / bh * x.shape.w + column / bw) * x.shape.c + channel)
        })
    }

    /// Formats, and blocks whose channels do not begin on words.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for d in [DType::BIT, DType::Bits(Quant::TERNARY), DType::F32, DType::I32, DType::U8] {
            for (block, c) in [([1, 1], 5), ([2, 2], 64), ([2, 3], 66), ([3, 1], 270), ([1, 4], 4)] {
                let op = Op::DepthToSpace(DepthToSpace { block });
                cases.push(Case::new(
                    &format!("{d}, {block:?}"),
                    op,
                    &[map(3, 5, block[0] * block[1] * c, d)],
                ));
            }
        }
        cases
    }
}
