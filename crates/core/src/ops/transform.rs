//! What happens to an accumulator: nothing, an affine map to floats, or thresholds to bits.
//!
//! A new output format is a new variant here, never a new kernel.

use crate::types::Quant;

/// `(x - center) * scale + bias`, each step rounded to f32.
#[inline(always)]
pub fn affine(x: f32, center: f32, scale: f32, bias: f32) -> f32 {
    (x - center) * scale + bias
}

/// Level of `x`: the number of thresholds that `x` reaches, or misses where `flip` is set.
#[inline(always)]
pub fn level<T: PartialOrd>(x: T, thresholds: &[T], flip: bool) -> usize {
    thresholds.iter().filter(|t| (x >= **t) != flip).count()
}

/// The constants of one output transform, one entry per output channel.
pub enum Transform<'a> {
    /// The accumulator itself.
    I32,
    /// [`affine`] of the accumulator.
    F32 {
        /// Subtracted first.
        center: &'a [f32],
        /// Multiplied second.
        scale: &'a [f32],
        /// Added last.
        bias: &'a [f32],
    },
    /// [`level`] of the accumulator, as bit planes.
    Levels {
        /// Output format.
        quant: Quant,
        /// `[channel][levels - 1]`.
        thresholds: &'a [i32],
        /// One bit per channel.
        flips: &'a [u64],
    },
}
