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
        fn largest<T: Copy + PartialOrd>(v: &[T], c: usize) -> Values {
            let first = |p: &[T]| p.iter().position(|a| p.iter().all(|b| a >= b)).unwrap_or(0);
            Values::Int(v.chunks(c).map(|pixel| first(pixel) as i32).collect())
        }
        match v {
            Values::F32(v) => largest(v, x.shape.c),
            Values::Int(v) => largest(v, x.shape.c),
        }
    }

    /// Both formats; random values have ties.
    pub fn cases() -> Vec<Case> {
        [DType::F32, DType::I32].map(|d| Case::new(&format!("{d}"), Op::Argmax, &[map(9, 9, 12, d)])).to_vec()
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use crate::cases::map;
    use crate::reference::Values;
    use crate::types::DType;

    #[test]
    fn integers_beyond_floats_are_told_apart() {
        let x = [1 << 24, (1 << 24) + 1, 3];
        let mut out = [0];
        super::run(3, &x, &mut out);
        let want = super::reference(map(1, 1, 3, DType::I32), &Values::Int(x.to_vec()));
        assert_eq!((want.int(), out), (&[1][..], [1]));
    }
}
