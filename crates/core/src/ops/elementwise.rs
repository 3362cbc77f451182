//! Functions of two values: residual connections, gates, scales that depend on the input.
//!
//! Both are floats or both are `i32` (not for quotients). The second has the shape of the first, or is repeated: one
//! pixel (`1 x 1 x c`) goes with every pixel, one channel (`h x w x 1`) with every channel, one element with all.
//! Of numbers that are equal or not comparable (NaN), the maximum and the minimum are the first.

use crate::types::Shape;

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elementwise {
    /// `a + b`
    Add,
    /// `a * b`
    Mul,
    /// `a / b`, floats only
    Div,
    /// `b > a ? b : a`
    Max,
    /// `b < a ? b : a`
    Min,
}

/// Neighbouring elements of the first value that go with one element of the second, which starts again when it ends;
/// `None` where the shapes do not fit.
pub fn run_length(a: Shape, b: Shape) -> Option<usize> {
    match b {
        _ if a == b => Some(1),
        Shape { h: 1, w: 1, c: 1 } => Some(a.elements()),
        Shape { h: 1, w: 1, c } if c == a.c => Some(1),
        Shape { h, w, c: 1 } if (h, w) == (a.h, a.w) => Some(a.c),
        _ => None,
    }
}

/// One image; each element of `b` goes with `length` of `a`, see [`run_length`].
#[inline(always)]
pub fn run<T: Copy>(a: &[T], b: &[T], length: usize, f: impl Fn(T, T) -> T, out: &mut [T]) {
    if length > 1 {
        for ((a, out), b) in a.chunks(length).zip(out.chunks_mut(length)).zip(b) {
            for (o, a) in out.iter_mut().zip(a) {
                *o = f(*a, *b);
            }
        }
        return;
    }
    for (a, out) in a.chunks(b.len()).zip(out.chunks_mut(b.len())) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
            *o = f(*a, *b);
        }
    }
}

#[inline(always)]
fn larger<T: PartialOrd>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

#[inline(always)]
fn smaller<T: PartialOrd>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

impl Elementwise {
    /// On floats.
    #[inline(always)]
    pub fn run_f32(self, a: &[f32], b: &[f32], length: usize, out: &mut [f32]) {
        match self {
            Elementwise::Add => run(a, b, length, |a, b| a + b, out),
            Elementwise::Mul => run(a, b, length, |a, b| a * b, out),
            Elementwise::Div => run(a, b, length, |a, b| a / b, out),
            Elementwise::Max => run(a, b, length, larger, out),
            Elementwise::Min => run(a, b, length, smaller, out),
        }
    }
    /// On integers; overflow wraps. `infer` refuses quotients.
    #[inline(always)]
    pub fn run_i32(self, a: &[i32], b: &[i32], length: usize, out: &mut [i32]) {
        match self {
            Elementwise::Add => run(a, b, length, i32::wrapping_add, out),
            Elementwise::Mul => run(a, b, length, i32::wrapping_mul, out),
            Elementwise::Div => {}
            Elementwise::Max => run(a, b, length, larger, out),
            Elementwise::Min => run(a, b, length, smaller, out),
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
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(op: Elementwise, inputs: &[ValueType]) -> Result<ValueType, Error> {
        let (a, b) = (inputs[0], inputs[1]);
        if a.dtype != b.dtype || run_length(a.shape, b.shape).is_none() {
            return Err(Error(format!("cannot combine {a} with {b}")));
        }
        match (op, a.dtype) {
            (_, DType::F32) => Ok(a),
            (Elementwise::Div, DType::I32) => Err("cannot divide integers: decode them first".into()),
            (_, DType::I32) => Ok(a),
            (_, other) => Err(Error(format!("needs f32 or i32 inputs, not {other}"))),
        }
    }

    /// The specification.
    pub fn reference(op: Elementwise, types: &[ValueType], a: &Values, b: &Values) -> Values {
        fn each<T: Copy>(types: &[ValueType], a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> Vec<T> {
            let (from, other) = (types[0].shape, types[1].shape);
            let mut all = Vec::new();
            for y in 0..from.h {
                for x in 0..from.w {
                    for c in 0..from.c {
                        // An axis of length 1 is repeated.
                        let (oy, ox, oc) = (y % other.h, x % other.w, c % other.c);
                        let i = (y * from.w + x) * from.c + c;
                        all.push(f(a[i], b[(oy * other.w + ox) * other.c + oc]));
                    }
                }
            }
            all
        }
        match (a, b) {
            (Values::F32(a), Values::F32(b)) => Values::F32(match op {
                Elementwise::Add => each(types, a, b, |a, b| a + b),
                Elementwise::Mul => each(types, a, b, |a, b| a * b),
                Elementwise::Div => each(types, a, b, |a, b| a / b),
                Elementwise::Max => each(types, a, b, |a, b| if b > a { b } else { a }),
                Elementwise::Min => each(types, a, b, |a, b| if b < a { b } else { a }),
            }),
            _ => Values::Int(match op {
                Elementwise::Add => each(types, a.int(), b.int(), i32::wrapping_add),
                Elementwise::Mul => each(types, a.int(), b.int(), i32::wrapping_mul),
                Elementwise::Div => unreachable!("infer has refused integers"),
                Elementwise::Max => each(types, a.int(), b.int(), i32::max),
                Elementwise::Min => each(types, a.int(), b.int(), i32::min),
            }),
        }
    }

    /// Both formats, with and without every kind of repetition.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for op in [Op::Add, Op::Mul, Op::Div, Op::Max, Op::Min] {
            for d in [DType::F32, DType::I32] {
                if (op, d) == (Op::Div, DType::I32) {
                    continue;
                }
                // As many rows as channels: one pixel and one channel have the same number of elements.
                for (h, w, c) in [(3, 5, 7), (7, 1, 7)] {
                    for b in [map(h, w, c, d), map(1, 1, c, d), map(h, w, 1, d), map(1, 1, 1, d)] {
                        cases.push(Case::new(&format!("{b}"), op, &[map(h, w, c, d), b]));
                    }
                }
            }
        }
        cases
    }
}
