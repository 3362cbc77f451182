//! A box of a value, or every few elements of it.

use crate::bits;
use crate::types::Shape;

/// Attributes, each for height, width and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Slice {
    /// First element.
    pub from: [usize; 3],
    /// Number of elements.
    pub size: [usize; 3],
    /// Distance of neighbouring elements.
    pub step: [usize; 3],
}

impl Slice {
    /// Pixels of the input, in the order of the output.
    fn pixels(&self, input: Shape) -> impl Iterator<Item = usize> {
        let ([top, left, _], [h, w, _], [down, right, _]) = (self.from, self.size, self.step);
        (0..h).flat_map(move |y| (0..w).map(move |x| (top + y * down) * input.w + left + x * right))
    }
}

/// One image of numbers.
pub fn run<T: Copy>(op: &Slice, input: Shape, x: &[T], out: &mut [T]) {
    let ([_, _, first], [_, _, size], [_, _, step]) = (op.from, op.size, op.step);
    for (pixel, out) in op.pixels(input).zip(out.chunks_exact_mut(size)) {
        let from = &x[pixel * input.c + first..];
        if step == 1 {
            out.copy_from_slice(&from[..size]);
            continue;
        }
        for (o, x) in out.iter_mut().zip(from.iter().step_by(step)) {
            *o = *x;
        }
    }
}

/// One bit-packed image.
pub fn run_bits(op: &Slice, planes: usize, input: Shape, x: &[u64], out: &mut [u64]) {
    let ([_, _, first], [_, _, size], [_, _, step]) = (op.from, op.size, op.step);
    let (from_words, to_words) = (bits::words(input.c), bits::words(size));
    out.fill(0);
    for (pixel, out) in op.pixels(input).zip(out.chunks_exact_mut(planes * to_words)) {
        let from = &x[pixel * planes * from_words..][..planes * from_words];
        for (x, out) in from.chunks_exact(from_words).zip(out.chunks_exact_mut(to_words)) {
            if step == 1 {
                bits::or_range(out, 0, x, first, size);
                continue;
            }
            for i in 0..size {
                bits::set(out, i, bits::get(x, first + i * step));
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
    use crate::types::{DType, Quant, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(op: &Slice, x: ValueType) -> Result<ValueType, Error> {
        let sizes: [usize; 3] = x.shape.into();
        let last = |i: usize| {
            let steps = op.size[i].checked_sub(1)?;
            steps.checked_mul(op.step[i])?.checked_add(op.from[i])
        };
        if (0..3).any(|i| op.step[i] == 0 || last(i).is_none_or(|last| last >= sizes[i])) {
            return Err(Error(format!(
                "cannot take {:?} elements from {:?} in steps of {:?} out of {}",
                op.size, op.from, op.step, x.shape
            )));
        }
        Ok(ValueType::new(op.size.into(), x.dtype))
    }

    /// The specification.
    pub fn reference(op: &Slice, x: ValueType, v: &Values) -> Values {
        moved(op.size.into(), v, 0.0, |y, column, c| {
            let at = |axis: usize, i: usize| op.from[axis] + i * op.step[axis];
            Some((at(0, y) * x.shape.w + at(1, column)) * x.shape.c + at(2, c))
        })
    }

    /// Formats; whole and part axes; steps; channels that do not begin on words.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for d in [DType::BIT, DType::Bits(Quant::TERNARY), DType::F32, DType::I32, DType::I8] {
            let x = map(5, 6, 150, d);
            for (from, size, step) in [
                ([0, 0, 0], [5, 6, 150], [1, 1, 1]),
                ([1, 2, 64], [3, 4, 64], [1, 1, 1]),
                ([0, 1, 3], [3, 2, 140], [2, 4, 1]),
                ([4, 5, 149], [1, 1, 1], [1, 1, 1]),
                ([1, 0, 1], [2, 6, 75], [3, 1, 2]),
            ] {
                let op = Op::Slice(Slice { from, size, step });
                cases.push(Case::new(&format!("{d}, {from:?}, {size:?}, {step:?}"), op, &[x]));
            }
        }
        cases
    }
}
