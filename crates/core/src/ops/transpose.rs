//! The axes of a value in another order.

use crate::bits;
use crate::types::Shape;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Transpose {
    /// Axis `i` of the output is axis `order[i]` of the input; 0, 1, 2 are height, width, channels.
    pub order: [usize; 3],
}

impl Transpose {
    /// Shape of the output. `infer` checks the order.
    pub fn output(&self, input: Shape) -> Shape {
        let sizes: [usize; 3] = input.into();
        Shape::from(self.order.map(|axis| sizes[axis]))
    }
    /// Elements of the input from one element of the output to the next, along each axis of the output. `unit` is
    /// the elements from one pixel to the next.
    fn strides(&self, input: Shape, unit: usize) -> [usize; 3] {
        let strides = [input.w * unit, unit, 1];
        self.order.map(|axis| strides[axis])
    }
}

/// One image of numbers.
pub fn run<T: Copy>(op: &Transpose, input: Shape, x: &[T], out: &mut [T]) {
    let [down, right, across] = op.strides(input, input.c);
    let to = op.output(input);
    for (i, row) in out.chunks_exact_mut(to.c).enumerate() {
        let from = &x[i / to.w * down + i % to.w * right..];
        if across == 1 {
            row.copy_from_slice(&from[..to.c]);
            continue;
        }
        for (o, x) in row.iter_mut().zip(from.iter().step_by(across)) {
            *o = *x;
        }
    }
}

/// One bit-packed image.
pub fn run_bits(op: &Transpose, planes: usize, input: Shape, x: &[u64], out: &mut [u64]) {
    let to = op.output(input);
    let unit = planes * bits::words(input.c);
    let [down, right, across] = op.strides(input, unit);
    let words = bits::words(to.c);
    for (i, pixel) in out.chunks_exact_mut(planes * words).take(to.pixels()).enumerate() {
        let (y, column) = (i / to.w, i % to.w);
        if op.order[2] == 2 {
            pixel.copy_from_slice(&x[y * down + column * right..][..unit]);
            continue;
        }
        // One of the axes of the output's pixels is the input's channels: a bit of each row.
        let (first, channel) = match op.order {
            [2, _, _] => (column * right, y),
            _ => (y * down, column),
        };
        for (p, row) in pixel.chunks_exact_mut(words).enumerate() {
            let plane = first + p * bits::words(input.c) + channel / 64;
            for (w, word) in row.iter_mut().enumerate() {
                *word = 0;
                for bit in 0..(to.c - w * 64).min(64) {
                    *word |= (x[plane + (w * 64 + bit) * across] >> (channel % 64) & 1) << bit;
                }
            }
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
    use crate::types::{DType, Encoding, Quant, ValueType};
    use alloc::{format, vec::Vec};

    /// Every order.
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

    /// Type of the output.
    pub fn infer(op: &Transpose, x: ValueType) -> Result<ValueType, Error> {
        if !ORDERS.contains(&op.order) {
            return Err(Error(format!("has the order {:?}, which is none of the axes 0, 1 and 2", op.order)));
        }
        Ok(ValueType::new(op.output(x.shape), x.dtype))
    }

    /// The specification.
    pub fn reference(op: &Transpose, x: ValueType, v: &Values) -> Values {
        let from = x.shape;
        moved(op.output(from), v, 0.0, |y, x, c| {
            let mut at = [0; 3];
            for (axis, i) in op.order.into_iter().zip([y, x, c]) {
                at[axis] = i;
            }
            Some((at[0] * from.w + at[1]) * from.c + at[2])
        })
    }

    /// Every order and format; rows that do not end on words.
    pub fn cases() -> Vec<Case> {
        let u3 = Quant::new(3, Encoding::Unsigned);
        let formats = [DType::BIT, DType::Bits(u3), DType::F32, DType::I32, DType::U8];
        let mut cases = Vec::new();
        for order in ORDERS {
            for d in formats {
                for x in [map(3, 4, 70, d), map(66, 2, 5, d), map(1, 130, 3, d)] {
                    let op = Op::Transpose(Transpose { order });
                    cases.push(Case::new(&format!("{x} as {order:?}"), op, &[x]));
                }
            }
        }
        cases
    }
}
