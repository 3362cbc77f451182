//! Per-channel thresholds: numbers to bits or k-bit levels. BatchNorm, activation and sign in one.
//!
//! ```text
//! level[c] = number of thresholds t of channel c with (x[c] >= t) != flip[c];  out = value of level
//! ```
//! Source: streamlining in FINN (Umuroglu et al. 2017); flips are for a negative gamma.

use super::transform::level;
use crate::bits;
use crate::types::{Encoding, Quant};

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Threshold {
    /// Output format, bit-packed.
    pub output: crate::types::DType,
}

/// Packs one image. `thresholds` is `[c][levels - 1]`, `x` is `[pixel][c]`.
#[inline(always)]
pub fn run<X: Copy, T: PartialOrd>(
    quant: Quant,
    c: usize,
    x: &[X],
    widen: impl Fn(X) -> T,
    thresholds: &[T],
    flips: &[u64],
    out: &mut [u64],
) {
    let (steps, words, planes) = (quant.levels() - 1, bits::words(c), quant.planes());
    for (pixel, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(words * planes)) {
        for w in 0..words {
            let mut codes = [0; 64];
            for (i, (code, v)) in codes.iter_mut().zip(&pixel[w * 64..]).enumerate() {
                let ch = w * 64 + i;
                let t = &thresholds[ch * steps..][..steps];
                *code = quant.code_of_level(level(widen(*v), t, bits::get(flips, ch))) as u8;
            }
            for p in 0..planes {
                out[p * words + w] = bits::gather(&codes, p);
            }
        }
    }
}

/// Packs one image of floats. `thresholds` is `[levels - 1][c]`: steps first, so that channels are compared together.
pub fn run_floats(
    kernel: &crate::kernels::Fgemm,
    quant: Quant,
    c: usize,
    x: &[f32],
    thresholds: &[f32],
    flips: &[u64],
    out: &mut [u64],
) {
    if quant.levels() == 2 && quant.encoding != Encoding::Signed {
        return kernel.signs(x, thresholds, flips, out);
    }
    let words = bits::words(c);
    for (pixel, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(words * quant.planes())) {
        for (w, x) in pixel.chunks(64).enumerate() {
            let mut planes = [0; 8];
            for step in thresholds.chunks_exact(c) {
                let reached = kernel.reaches(x, &step[w * 64..][..x.len()]);
                Quant::raise(&mut planes, reached ^ flips[w]);
            }
            quant.encode_levels(&mut planes);
            for (p, plane) in planes.iter().enumerate().take(quant.planes()) {
                out[p * words + w] = plane & bits::low_mask(x.len());
            }
        }
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::cases::{Case, Rng, map};
    use crate::model::{Error, Params, Tensor};
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, Shape, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(t: &Threshold, x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        let DType::Bits(quant) = t.output else {
            return Err(Error(format!("cannot put out {}", t.output)));
        };
        if matches!(x.dtype, DType::Bits(_)) {
            return Err("needs numbers as input, not bits".into());
        }
        check(quant, x.shape, params, x.dtype)?;
        Ok(ValueType::new(x.shape, t.output))
    }

    /// Checks thresholds and flips against the channels and the format of the input.
    pub(crate) fn check(
        quant: Quant,
        shape: Shape,
        params: &Params<Tensor<'_>>,
        input: DType,
    ) -> Result<(), Error> {
        let Some(t) = &params.thresholds else {
            return Err("has no thresholds".into());
        };
        let right_format = match input {
            DType::F32 => t.as_f32().is_some(),
            _ => t.as_i32().is_some(),
        };
        if !right_format {
            return Err(Error(format!("has {} thresholds for {input} input", t.dtype())));
        }
        if t.rows != shape.c || t.cols != quant.levels() - 1 {
            return Err(Error(format!(
                "has {} x {} thresholds, but needs {} for each of {} channels",
                t.rows,
                t.cols,
                quant.levels() - 1,
                shape.c
            )));
        }
        check_flips(params.flips.as_ref(), shape.c)
    }

    /// Checks that there is one flip bit for each channel, or none at all.
    pub(crate) fn check_flips(flips: Option<&Tensor<'_>>, c: usize) -> Result<(), Error> {
        match flips {
            Some(f) if f.dtype() != DType::BIT || f.rows != 1 || f.cols != c => {
                Err("needs one flip bit for each channel".into())
            }
            _ => Ok(()),
        }
    }

    /// The specification.
    pub fn reference(t: &Threshold, x: ValueType, v: &Values, params: &Params<Tensor<'_>>) -> Values {
        let DType::Bits(quant) = t.output else { unreachable!("checked by infer") };
        let (steps, c) = (quant.levels() - 1, x.shape.c);
        let thresholds = params.thresholds.as_ref().expect("checked by infer");
        let flip = |ch| match params.flips.as_ref().and_then(|f| f.as_bits()) {
            Some((_, words)) => bits::get(words, ch),
            None => false,
        };
        Values::Int(match v {
            Values::F32(v) => {
                let t = thresholds.as_f32().expect("checked by infer");
                let at = |(i, x): (usize, &f32)| level(*x, &t[i % c * steps..][..steps], flip(i % c));
                v.iter().enumerate().map(|e| quant.value_of_level(at(e))).collect()
            }
            Values::Int(v) => {
                let t = thresholds.as_i32().expect("checked by infer");
                let at = |(i, x): (usize, &i32)| level(*x, &t[i % c * steps..][..steps], flip(i % c));
                v.iter().enumerate().map(|e| quant.value_of_level(at(e))).collect()
            }
        })
    }

    /// Formats that must equal the reference.
    pub fn cases() -> Vec<Case> {
        let mut rng = Rng::new(3);
        let mut cases = Vec::new();
        for q in
            [Quant::BIT, Quant::TERNARY, Quant::new(2, Encoding::Unsigned), Quant::new(3, Encoding::Signed)]
        {
            for (dtype, c) in [(DType::F32, 70), (DType::I32, 65), (DType::U8, 1), (DType::I8, 3)] {
                let op = Op::Threshold(Threshold { output: DType::Bits(q) });
                let name = format!("{dtype} to {}", DType::Bits(q));
                let mut case = Case::new(&name, op, &[map(3, 4, c, dtype)]);
                let ints = rng.thresholds(c, q.levels() - 1, 40);
                case.params.thresholds = Some(match dtype {
                    DType::F32 => {
                        let quarter = ints.to_f32().iter().map(|t| t.clamp(-1e30, 1e30) / 8.0).collect();
                        Tensor::f32_matrix(c, q.levels() - 1, quarter)
                    }
                    _ => ints,
                });
                case.params.flips = Some(rng.flags(c));
                cases.push(case);
            }
        }
        cases
    }
}
