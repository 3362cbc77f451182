//! The same elements in another shape, in `(h, w, c)` order. Flatten is a reshape to a vector.

use crate::bits;
use crate::types::Shape;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Reshape {
    /// New shape.
    pub shape: Shape,
}

/// One bit-packed image: rows of `from.c` bits become rows of `to.c` bits.
pub fn run_bits(planes: usize, from: Shape, to: Shape, x: &[u64], out: &mut [u64]) {
    let (fw, tw) = (bits::words(from.c), bits::words(to.c));
    out.fill(0);
    for p in 0..planes {
        // Copies runs that end where either an input row or an output row ends.
        let (mut done, total) = (0, from.elements());
        while done < total {
            let (fp, fc, tp, tc) = (done / from.c, done % from.c, done / to.c, done % to.c);
            let n = (from.c - fc).min(to.c - tc);
            let src = &x[(fp * planes + p) * fw..][..fw];
            bits::or_range(&mut out[(tp * planes + p) * tw..][..tw], tc, src, fc, n);
            done += n;
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
    use crate::types::{DType, Quant, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(r: &Reshape, x: ValueType) -> Result<ValueType, Error> {
        if r.shape.checked_elements() != Some(x.shape.elements()) {
            return Err(Error(format!("cannot make {} of {}", r.shape, x.shape)));
        }
        Ok(ValueType::new(r.shape, x.dtype))
    }

    /// Formats, and rows that do not end on words.
    pub fn cases() -> Vec<Case> {
        [DType::BIT, DType::Bits(Quant::TERNARY), DType::F32, DType::I32, DType::I8]
            .into_iter()
            .flat_map(|d| {
                [
                    (map(4, 4, 64, d), Shape::vector(1024)),
                    (map(3, 5, 7, d), Shape::vector(105)),
                    (map(1, 1, 140, d), Shape::new(2, 1, 70)),
                ]
            })
            .map(|(x, shape)| Case::new(&format!("{x} to {shape}"), Op::Reshape(Reshape { shape }), &[x]))
            .collect()
    }
}
