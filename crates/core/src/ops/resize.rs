//! A map of another size: nearest pixels, or pixels interpolated along both axes.
//!
//! The meaning is that of ONNX `Resize` without a region of interest, with the scale `output size / input size`. Where an
//! output pixel lies in the input is worked out exactly, as a fraction, and kept to the map. An interpolated pixel is
//! `(((ty * lx) * a + (ty * rx) * b) + (by * lx) * c) + (by * rx) * d` in f32, of the neighbours above left, above right,
//! below left and below right, each product and sum rounded. That is what ONNX Runtime puts out, bit for bit where the
//! fractions are exact (factors 2, 4, 8); elsewhere it rounds the places.

use crate::types::Shape;

/// Where the pixels of the output lie in the input, of `n` to `m` rows or columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Coordinates {
    /// `(i + 0.5) * n / m - 0.5`
    HalfPixel,
    /// As half pixels; 0 where the output has one pixel.
    PytorchHalfPixel,
    /// `i * n / m`
    Asymmetric,
    /// `i * (n - 1) / (m - 1)`; 0 where the output has one pixel.
    AlignCorners,
}

/// What an output pixel is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ResizeMode {
    /// Two neighbours along each axis; floats only.
    Linear,
    /// The nearest, of two the one before.
    NearestPreferFloor,
    /// The nearest, of two the one behind.
    NearestPreferCeil,
    /// The one before.
    NearestFloor,
    /// The one behind.
    NearestCeil,
}

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Resize {
    /// Rows, columns of the output.
    pub size: [usize; 2],
    /// What an output pixel is made of.
    pub mode: ResizeMode,
    /// Where the pixels of the output lie in the input.
    pub coordinates: Coordinates,
}

/// The rows or columns of the input that one of the output is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    /// The one before, or the nearest.
    pub first: u32,
    /// The one behind.
    pub second: u32,
    /// What they are multiplied with.
    pub weights: [f32; 2],
}

impl Resize {
    /// Place of output `i` of `to` in an input of `from`, as numerator and denominator.
    fn place(&self, i: usize, from: usize, to: usize) -> (i64, i64) {
        let (i, from, to) = (i as i64, from as i64, to as i64);
        match self.coordinates {
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners if to == 1 => (0, 1),
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => ((2 * i + 1) * from - to, 2 * to),
            Coordinates::Asymmetric => (i * from, to),
            Coordinates::AlignCorners => (i * (from - 1), to - 1),
        }
    }

    /// What output `i` of `to` is made of in an input of `from`, for sizes that `infer` accepts.
    pub fn tap(&self, i: usize, from: usize, to: usize) -> Tap {
        let (n, d) = self.place(i, from, to);
        let last = from as i64 - 1;
        let nearest = match self.mode {
            ResizeMode::Linear => {
                let n = n.clamp(0, last * d);
                let first = n / d;
                let second = (first + 1).min(last);
                let part = ((n % d) as f64 / d as f64) as f32;
                // At the far border both are the last: halves of it, in the order of the sum.
                let weights = if first == second { [0.5; 2] } else { [1.0 - part, part] };
                return Tap { first: first as u32, second: second as u32, weights };
            }
            ResizeMode::NearestPreferFloor => -((d - 2 * n).div_euclid(2 * d)),
            ResizeMode::NearestPreferCeil => (2 * n + d).div_euclid(2 * d),
            ResizeMode::NearestFloor => n.div_euclid(d),
            ResizeMode::NearestCeil => -((-n).div_euclid(d)),
        };
        let nearest = nearest.clamp(0, last) as u32;
        Tap { first: nearest, second: nearest, weights: [1.0, 0.0] }
    }
}

/// One image of nearest pixels of `unit` words or numbers; `rows` and `cols` are the taps of the output.
pub fn run_nearest<T: Copy>(input: Shape, unit: usize, rows: &[Tap], cols: &[Tap], x: &[T], out: &mut [T]) {
    let line = cols.len() * unit;
    for (i, row) in rows.iter().enumerate() {
        if i > 0 && rows[i - 1] == *row {
            out.copy_within((i - 1) * line..i * line, i * line);
            continue;
        }
        let from = &x[row.first as usize * input.w * unit..][..input.w * unit];
        for (col, out) in cols.iter().zip(out[i * line..][..line].chunks_exact_mut(unit)) {
            let from = &from[col.first as usize * unit..][..unit];
            for (o, x) in out.iter_mut().zip(from) {
                *o = *x;
            }
        }
    }
}

/// One image of interpolated pixels.
pub fn run_linear(input: Shape, rows: &[Tap], cols: &[Tap], x: &[f32], out: &mut [f32]) {
    let (c, line) = (input.c, input.w * input.c);
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(cols.len() * c)) {
        let above = &x[row.first as usize * line..][..line];
        let below = &x[row.second as usize * line..][..line];
        let [top, bottom] = row.weights;
        for (col, out) in cols.iter().zip(out.chunks_exact_mut(c)) {
            let (first, second) = (col.first as usize * c, col.second as usize * c);
            let [left, right] = col.weights;
            let weights = [top * left, top * right, bottom * left, bottom * right];
            let from =
                [&above[first..][..c], &above[second..][..c], &below[first..][..c], &below[second..][..c]];
            for (i, o) in out.iter_mut().enumerate() {
                *o = weights[0] * from[0][i]
                    + weights[1] * from[1][i]
                    + weights[2] * from[2][i]
                    + weights[3] * from[3][i];
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

    /// Largest number of rows and of columns of the input and of the output.
    const LARGEST: usize = 1 << 16;

    /// Type of the output.
    pub fn infer(op: &Resize, x: ValueType) -> Result<ValueType, Error> {
        let sizes = [op.size[0], op.size[1], x.shape.h, x.shape.w];
        if sizes.iter().any(|n| !(1..=LARGEST).contains(n)) {
            return Err("resizes from or to 0 or more than 65536 rows or columns".into());
        }
        if op.mode == ResizeMode::Linear {
            crate::ops::floats_only(x)?;
        }
        Ok(ValueType::new(Shape::new(op.size[0], op.size[1], x.shape.c), x.dtype))
    }

    /// The taps of the rows and of the columns.
    pub fn taps(op: &Resize, input: Shape) -> [Vec<Tap>; 2] {
        [(input.h, op.size[0]), (input.w, op.size[1])]
            .map(|(from, to)| (0..to).map(|i| op.tap(i, from, to)).collect())
    }

    /// Place of output `i` of `m` in an input of `n`, in double precision: enough to tell all fractions of sizes.
    fn place(op: &Resize, i: usize, n: usize, m: usize) -> f64 {
        let (i, n, m) = (i as f64, n as f64, m as f64);
        match op.coordinates {
            Coordinates::HalfPixel => ((2.0 * i + 1.0) * n - m) / (2.0 * m),
            Coordinates::PytorchHalfPixel if m > 1.0 => ((2.0 * i + 1.0) * n - m) / (2.0 * m),
            Coordinates::Asymmetric => i * n / m,
            Coordinates::AlignCorners if m > 1.0 => i * (n - 1.0) / (m - 1.0),
            _ => 0.0,
        }
    }

    /// The specification.
    pub fn reference(op: &Resize, x: ValueType, v: &Values) -> Values {
        let (from, [h, w]) = (x.shape, op.size);
        let to = Shape::new(h, w, from.c);
        let inside = |p: f64, n: usize| p.clamp(0.0, (n - 1) as f64);
        let nearest = |i: usize, n: usize, m: usize| {
            let p = place(op, i, n, m);
            let p = match op.mode {
                ResizeMode::NearestPreferFloor => libm::ceil(p - 0.5),
                ResizeMode::NearestPreferCeil => libm::floor(p + 0.5),
                ResizeMode::NearestCeil => libm::ceil(p),
                ResizeMode::NearestFloor | ResizeMode::Linear => libm::floor(p),
            };
            inside(p, n) as usize
        };
        if op.mode != ResizeMode::Linear {
            return moved(to, v, 0.0, |y, x, c| {
                Some((nearest(y, from.h, h) * from.w + nearest(x, from.w, w)) * from.c + c)
            });
        }
        // The neighbours along one axis, with their weights.
        let pair = |i: usize, n: usize, m: usize| {
            let Tap { weights, .. } = op.tap(i, n, m);
            let first = libm::floor(inside(place(op, i, n, m), n)) as usize;
            [(first, weights[0]), ((first + 1).min(n - 1), weights[1])]
        };
        let mut all = Vec::new();
        for y in 0..h {
            for x in 0..w {
                for c in 0..from.c {
                    let mut sum = -0.0;
                    for (row, top) in pair(y, from.h, h) {
                        for (col, left) in pair(x, from.w, w) {
                            sum += top * left * v.f32()[(row * from.w + col) * from.c + c];
                        }
                    }
                    all.push(sum);
                }
            }
        }
        Values::F32(all)
    }

    /// Every mode and kind of coordinates, larger and smaller, down to one pixel.
    pub fn cases() -> Vec<Case> {
        use Coordinates::{AlignCorners, Asymmetric, HalfPixel, PytorchHalfPixel};
        use ResizeMode::{Linear, NearestCeil, NearestFloor, NearestPreferCeil, NearestPreferFloor};
        let mut cases = Vec::new();
        for coordinates in [HalfPixel, PytorchHalfPixel, Asymmetric, AlignCorners] {
            for size in [[8, 12], [4, 6], [7, 5], [1, 1], [2, 3], [3, 16]] {
                for mode in [Linear, NearestPreferFloor, NearestPreferCeil, NearestFloor, NearestCeil] {
                    let op = Op::Resize(Resize { size, mode, coordinates });
                    let d = if mode == NearestCeil { DType::I32 } else { DType::F32 };
                    let name = format!("{size:?}, {mode:?}, {coordinates:?}");
                    cases.push(Case::new(&name, op, &[map(4, 6, 9, d)]));
                }
            }
        }
        for d in [DType::BIT, DType::Bits(Quant::TERNARY), DType::U8, DType::I8] {
            let op = Resize { size: [7, 9], mode: NearestFloor, coordinates: Asymmetric };
            cases.push(Case::new(&format!("{d}"), Op::Resize(op), &[map(4, 6, 70, d)]));
        }
        cases
    }
}
