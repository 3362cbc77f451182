//! Rows and columns around a map: one value, the map mirrored, or its border repeated.

use crate::bits;
use crate::types::{Quant, Shape};

/// What the new rows and columns hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum PadMode {
    /// The value of the attributes.
    Constant,
    /// The map mirrored at its first and last pixels, which are not repeated.
    Reflect,
    /// The nearest pixel.
    Edge,
}

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Pad {
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
    /// What the new rows and columns hold.
    pub mode: PadMode,
    /// Every element of constant padding, a value of the format; 0 in the other modes.
    pub value: f32,
}

impl Pad {
    /// Row (axis 0) or column (axis 1) of the input, of `size`, that output `o` shows; `None` for constant padding.
    fn source(&self, axis: usize, size: usize, o: usize) -> Option<usize> {
        let near = self.pad[axis];
        match self.mode {
            _ if o >= near && o - near < size => Some(o - near),
            PadMode::Constant => None,
            PadMode::Reflect if o < near => Some(near - o),
            PadMode::Reflect => Some(2 * (size - 1) - (o - near)),
            PadMode::Edge => Some(if o < near { 0 } else { size - 1 }),
        }
    }
}

/// One image of pixels of `unit` words or numbers; `constant` is word or number `i` of a pixel of the padding.
pub fn run<T: Copy>(
    op: &Pad,
    input: Shape,
    unit: usize,
    constant: impl Fn(usize) -> T,
    x: &[T],
    out: &mut [T],
) {
    let [_, left, _, right] = op.pad;
    let fill = |out: &mut [T]| {
        for pixel in out.chunks_exact_mut(unit) {
            for (i, o) in pixel.iter_mut().enumerate() {
                *o = constant(i);
            }
        }
    };
    let columns = left + input.w + right;
    for (oy, line) in out.chunks_exact_mut(columns * unit).enumerate() {
        let Some(y) = op.source(0, input.h, oy) else {
            fill(line);
            continue;
        };
        let from = &x[y * input.w * unit..][..input.w * unit];
        let (before, rest) = line.split_at_mut(left * unit);
        let (middle, after) = rest.split_at_mut(input.w * unit);
        middle.copy_from_slice(from);
        for (side, first) in [(before, 0), (after, left + input.w)] {
            if op.mode == PadMode::Constant {
                fill(side);
                continue;
            }
            for (i, pixel) in side.chunks_exact_mut(unit).enumerate() {
                let column = op.source(1, input.w, first + i).unwrap_or(0);
                pixel.copy_from_slice(&from[column * unit..][..unit]);
            }
        }
    }
}

/// Word `i` of a pixel of `c` channels that all have one value.
pub fn constant_word(quant: Quant, code: u32, c: usize, i: usize) -> u64 {
    let words = bits::words(c);
    debug_assert!(i < quant.planes() * words);
    if code >> (i / words) & 1 == 0 { 0 } else { bits::low_mask(c - i % words * 64) }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::cases::{Case, formats, map};
    use crate::model::Error;
    use crate::ops::Op;
    use crate::reference::{Values, moved};
    use crate::types::{DType, ValueType};
    use alloc::{format, vec::Vec};

    /// Largest number of rows or columns on one side.
    const LARGEST: usize = 1 << 16;

    /// Type of the output.
    pub fn infer(op: &Pad, x: ValueType) -> Result<ValueType, Error> {
        let [top, left, bottom, right] = op.pad;
        if op.pad.iter().any(|p| *p > LARGEST) {
            return Err("has a padding above 65536".into());
        }
        let fits = match (op.mode, x.dtype.quant()) {
            (PadMode::Constant, Some(q)) => whole(op.value).is_some_and(|v| q.encode(v).is_some()),
            (PadMode::Constant, None) if x.dtype == DType::I32 => whole(op.value).is_some(),
            (PadMode::Constant, None) => op.value.is_finite(),
            _ => op.value == 0.0,
        };
        if !fits {
            return Err(Error(format!("has a padding value that {} cannot hold, or does not use", x.dtype)));
        }
        let mirrored = top.max(bottom) >= x.shape.h || left.max(right) >= x.shape.w;
        if op.mode == PadMode::Reflect && mirrored {
            return Err(Error(format!("has more padding than {} can be mirrored to", x.shape)));
        }
        let add = |size: usize, near: usize, far: usize| size.saturating_add(near).saturating_add(far);
        let shape = Shape::new(add(x.shape.h, top, bottom), add(x.shape.w, left, right), x.shape.c);
        Ok(ValueType::new(shape, x.dtype))
    }

    /// The integer that a float is.
    fn whole(v: f32) -> Option<i32> {
        let int = v as i32;
        // 2^31 saturates to the largest integer, which is 2^31 as a float.
        (int as f32 == v && v < 2_147_483_648.0).then_some(int)
    }

    /// The specification.
    pub fn reference(op: &Pad, x: ValueType, v: &Values, out: ValueType) -> Values {
        let inside = |o: usize, near: usize, size: usize| {
            let (i, last) = (o as i64 - near as i64, size as i64 - 1);
            let source = match op.mode {
                PadMode::Constant => i,
                PadMode::Edge => i.clamp(0, last),
                PadMode::Reflect => last - (last - i.abs()).abs(),
            };
            (0..=last).contains(&source).then_some(source as usize)
        };
        let at = |y: usize, column: usize, c: usize| {
            let (y, column) = (inside(y, op.pad[0], x.shape.h)?, inside(column, op.pad[1], x.shape.w)?);
            Some((y * x.shape.w + column) * x.shape.c + c)
        };
        moved(out.shape, v, op.value, at)
    }

    /// Formats and modes, uneven padding, values at the ends of the formats.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let packed = formats().into_iter().map(DType::Bits);
        for d in packed.chain([DType::F32, DType::I32, DType::U8, DType::I8]) {
            let ends = d.quant().map_or([-3.0, 7.0], |q| [q.min() as f32, q.max() as f32]);
            for pad in [[0, 0, 0, 0], [1, 2, 3, 0], [2, 0, 0, 4]] {
                let modes = [(PadMode::Reflect, 0.0), (PadMode::Edge, 0.0)];
                for (mode, value) in ends.map(|v| (PadMode::Constant, v)).into_iter().chain(modes) {
                    let op = Op::Pad(Pad { pad, mode, value });
                    let x = map(4, 5, 70, d);
                    cases.push(Case::new(&format!("{x}, {pad:?}, {mode:?}, {value}"), op, &[x]));
                }
            }
        }
        cases
    }
}
