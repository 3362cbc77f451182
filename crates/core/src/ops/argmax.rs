//! Index of the first largest channel of each pixel.

/// One image of `[pixel][c]` numbers.
pub fn run<T: Copy + PartialOrd>(c: usize, x: &[T], out: &mut [i32]) {
    for (x, out) in x.chunks_exact(c).zip(out) {
        let mut best = 0;
        for i in 1..c {
            if x[i] > x[best] {
                best = i;
            }
        }
        *out = best as i32;
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use crate::cases::{Case, map};
    use crate::model::Error;
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, Shape, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(x: ValueType) -> Result<ValueType, Error> {
        match x.dtype {
            DType::F32 | DType::I32 => Ok(ValueType::new(Shape { c: 1, ..x.shape }, DType::I32)),
            other => Err(Error(format!("needs f32 or i32 input, not {other}"))),
        }
    }

    /// The specification.
    pub fn reference(x: ValueType, v: &Values) -> Values {
        fn all<T: PartialOrd>(v: &[T], c: usize) -> Values {
            let first_largest = |pixel: &[T]| {
                let larger = |best: usize, i: usize| if pixel[i] > pixel[best] { i } else { best };
                (1..c).fold(0, larger) as i32
            };
            Values::Int(v.chunks(c).map(first_largest).collect())
        }
        match v {
            Values::Int(v) => all(v, x.shape.c),
            Values::F32(v) => all(v, x.shape.c),
        }
    }

    /// Both formats; random values have ties.
    pub fn cases() -> Vec<Case> {
        [DType::F32, DType::I32].map(|d| Case::new(&format!("{d}"), Op::Argmax, &[map(9, 9, 12, d)])).to_vec()
    }
}
