//! Maximum (or, per channel, minimum) of bit-packed values over a window; padding is left out.
//!
//! For +-1 the maximum is OR and the minimum is AND. The minimum is what max-pooling becomes where a
//! threshold that falls as its input rises (negative gamma) has been moved in front of the pool. For more
//! planes the codes of 64 channels are compared at once, plane by plane from the top.

use super::Window;
use crate::bits;
use crate::types::{Encoding, Quant, Shape};

/// Attributes. The constant `flips` marks the channels that take the minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct BPool2d {
    /// The sliding window.
    pub window: Window,
}

/// One image. `minimum` has a bit for each channel that takes the minimum.
#[inline(always)]
pub fn run(
    pool: &BPool2d,
    quant: Quant,
    input: Shape,
    output: Shape,
    x: &[u64],
    minimum: &[u64],
    out: &mut [u64],
) {
    let (words, planes) = (bits::words(input.c), quant.planes());
    if planes == 1 && quant.encoding != Encoding::Signed {
        let size = output.pixels() * words;
        return run_bits(&pool.window, input, output, x, minimum, &mut out[..size]);
    }
    // Signed codes compare like unsigned ones after their top bit is inverted.
    let signed = matches!(quant.encoding, Encoding::Signed | Encoding::Ternary);
    for (i, out) in out.chunks_exact_mut(words * planes).take(output.pixels()).enumerate() {
        let mut first = true;
        pool.window.for_each_tap(input, i / output.w, i % output.w, |_, pixel| {
            let Some(pixel) = pixel else { return };
            let x = &x[pixel * planes * words..][..planes * words];
            if first {
                out.copy_from_slice(x);
                first = false;
                return;
            }
            for w in 0..words {
                let (mut greater, mut equal) = (0, !0);
                for p in (0..planes).rev() {
                    let (a, b) = (x[p * words + w], out[p * words + w]);
                    let above = if signed && p + 1 == planes { !a & b } else { a & !b };
                    greater |= equal & above;
                    equal &= !(a ^ b);
                }
                let take = (greater & !minimum[w]) | (!greater & !equal & minimum[w]);
                for p in 0..planes {
                    let o = &mut out[p * words + w];
                    *o = (x[p * words + w] & take) | (*o & !take);
                }
            }
        });
    }
}

/// One image of one plane: OR, and AND for the minimum. Tap by tap over a row of the output, so that neighbouring
/// pixels are combined at once.
#[inline(always)]
fn run_bits(window: &Window, input: Shape, output: Shape, x: &[u64], minimum: &[u64], out: &mut [u64]) {
    let words = minimum.len();
    let [down, right] = window.stride;
    for (oy, line) in out.chunks_exact_mut(output.w * words).enumerate() {
        for pixel in line.chunks_exact_mut(words) {
            pixel.copy_from_slice(minimum);
        }
        for ky in window.inside(oy, 0, input.h) {
            let y = oy * down + ky * window.dilation[0] - window.pad[0];
            for kx in 0..window.kernel[1] {
                // Outputs whose tap lies inside: `0 <= ox * right + tap - pad < w`.
                let (tap, pad) = (kx * window.dilation[1], window.pad[1]);
                let first = pad.saturating_sub(tap).div_ceil(right);
                let end = (input.w + pad).saturating_sub(tap).div_ceil(right).min(output.w);
                if first >= end {
                    continue;
                }
                let from = &x[(y * input.w + first * right + tap - pad) * words..];
                let line = &mut line[first * words..end * words];
                match (minimum, right) {
                    ([minimum], 1) => combine_words::<1>(line, from, *minimum),
                    ([minimum], 2) => combine_words::<2>(line, from, *minimum),
                    _ => {
                        for (o, x) in line.chunks_exact_mut(words).zip(from.chunks(right * words)) {
                            for ((o, x), m) in o.iter_mut().zip(x).zip(minimum) {
                                *o = combine(*o, *x, *m);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Combines words with every `STEP`-th of `x`.
#[inline(always)]
fn combine_words<const STEP: usize>(line: &mut [u64], x: &[u64], minimum: u64) {
    let n = line.len();
    // The last pixel of a map has no whole step behind it.
    let (most, last) = line.split_at_mut(n - 1);
    for (o, x) in most.iter_mut().zip(x.as_chunks::<STEP>().0) {
        *o = combine(*o, x[0], minimum);
    }
    last[0] = combine(last[0], x[(n - 1) * STEP], minimum);
}

#[inline(always)]
fn combine(a: u64, b: u64, minimum: u64) -> u64 {
    ((a | b) & !minimum) | (a & b & minimum)
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::cases::{Case, Rng, formats, map};
    use crate::model::{Error, Params, Tensor};
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(p: &BPool2d, x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        if !matches!(x.dtype, DType::Bits(_)) {
            return Err(Error(format!("needs bits as input, not {}", x.dtype)));
        }
        crate::ops::threshold::check_flips(params.flips.as_ref(), x.shape.c)?;
        let [h, w] = p.window.pool_output(x.shape)?;
        Ok(ValueType::new(Shape::new(h, w, x.shape.c), x.dtype))
    }

    /// The specification.
    pub fn reference(
        pool: &BPool2d,
        x: ValueType,
        v: &Values,
        params: &Params<Tensor<'_>>,
        out: ValueType,
    ) -> Values {
        let (v, c) = (v.int(), x.shape.c);
        let mut all = Vec::new();
        for oy in 0..out.shape.h {
            for ox in 0..out.shape.w {
                for ch in 0..c {
                    let mut taps = Vec::new();
                    pool.window.for_each_tap(x.shape, oy, ox, |_, pixel| {
                        taps.extend(pixel.map(|p| v[p * c + ch]));
                    });
                    let flips = params.flips.as_ref().and_then(|f| f.as_bits());
                    let best = match flips {
                        Some((_, words)) if bits::get(words, ch) => taps.into_iter().min(),
                        _ => taps.into_iter().max(),
                    };
                    all.push(best.expect("checked by infer"));
                }
            }
        }
        Values::Int(all)
    }

    /// Every format, with padding, uneven windows and channels that take the minimum.
    pub fn cases() -> Vec<Case> {
        let mut rng = Rng::new(6);
        let mut cases = Vec::new();
        for q in formats() {
            for (window, c) in [
                (Window::square(2, 2, 0), 64),
                (Window::square(3, 2, 1), 70),
                (Window { kernel: [2, 3], stride: [1, 2], dilation: [2, 1], pad: [0, 1, 1, 0] }, 5),
            ] {
                for flips in [false, true] {
                    let x = map(7, 8, c, DType::Bits(q));
                    let name = format!("{x}, minimum {flips}");
                    let mut case = Case::new(&name, Op::BPool2d(BPool2d { window }), &[x]);
                    case.params.flips = flips.then(|| rng.flags(c));
                    cases.push(case);
                }
            }
        }
        cases
    }
}
