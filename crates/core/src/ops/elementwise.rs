//! Sum and product of two values: residual connections and gates.
//!
//! Both are floats or both are `i32`. The second may have one pixel, which then goes with every pixel
//! of the first.

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elementwise {
    /// `a + b`
    Add,
    /// `a * b`
    Mul,
}

/// One image; `b` is repeated if it is shorter.
#[inline(always)]
pub fn run<T: Copy>(a: &[T], b: &[T], f: impl Fn(T, T) -> T, out: &mut [T]) {
    for (a, out) in a.chunks(b.len()).zip(out.chunks_mut(b.len())) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
            *o = f(*a, *b);
        }
    }
}

impl Elementwise {
    /// On floats.
    #[inline(always)]
    pub fn run_f32(self, a: &[f32], b: &[f32], out: &mut [f32]) {
        match self {
            Elementwise::Add => run(a, b, |a, b| a + b, out),
            Elementwise::Mul => run(a, b, |a, b| a * b, out),
        }
    }
    /// On integers; overflow wraps.
    #[inline(always)]
    pub fn run_i32(self, a: &[i32], b: &[i32], out: &mut [i32]) {
        match self {
            Elementwise::Add => run(a, b, i32::wrapping_add, out),
            Elementwise::Mul => run(a, b, i32::wrapping_mul, out),
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
    pub fn infer(inputs: &[ValueType]) -> Result<ValueType, Error> {
        let (a, b) = (inputs[0], inputs[1]);
        let fits = a.shape == b.shape || (b.shape.pixels() == 1 && a.shape.c == b.shape.c);
        match a.dtype {
            DType::F32 | DType::I32 if a.dtype == b.dtype && fits => Ok(a),
            _ => Err(Error(format!("cannot combine {a} with {b}"))),
        }
    }

    /// The specification.
    pub fn reference(op: Elementwise, a: &Values, b: &Values) -> Values {
        match (a, b) {
            (Values::F32(a), Values::F32(b)) => {
                let pairs = a.iter().zip(b.iter().cycle());
                Values::F32(match op {
                    Elementwise::Add => pairs.map(|(a, b)| a + b).collect(),
                    Elementwise::Mul => pairs.map(|(a, b)| a * b).collect(),
                })
            }
            _ => {
                let pairs = a.int().iter().zip(b.int().iter().cycle());
                Values::Int(match op {
                    Elementwise::Add => pairs.map(|(a, b)| a.wrapping_add(*b)).collect(),
                    Elementwise::Mul => pairs.map(|(a, b)| a.wrapping_mul(*b)).collect(),
                })
            }
        }
    }

    /// Both formats, with and without repetition.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for op in [Op::Add, Op::Mul] {
            for d in [DType::F32, DType::I32] {
                cases.push(Case::new(&format!("{d}"), op, &[map(3, 5, 7, d), map(3, 5, 7, d)]));
                let one = [map(3, 5, 7, d), map(1, 1, 7, d)];
                cases.push(Case::new(&format!("{d}, one pixel"), op, &one));
            }
        }
        cases
    }
}
