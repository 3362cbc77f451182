//! What a user gives to a network and gets from it, and how that lies in the arena; needs no operating system.

use crate::meta::Preprocessing;
use alloc::format;
use alloc::vec::Vec;
use onebit_core::model::Error;
use onebit_core::types::{DType, ValueType};

/// Elements of network inputs, image after image, `[h][w][c]` each.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Numbers, as the network takes them.
    F32(&'a [f32]),
    /// Pixels; they are normalised where the network takes floats.
    Pixels(&'a [u8]),
}

impl Elements<'_> {
    pub(crate) fn count(&self) -> usize {
        match self {
            Elements::F32(v) => v.len(),
            Elements::Pixels(v) => v.len(),
        }
    }
    /// The elements of a range.
    pub fn slice(&self, range: core::ops::Range<usize>) -> Elements<'_> {
        match self {
            Elements::F32(v) => Elements::F32(&v[range]),
            Elements::Pixels(v) => Elements::Pixels(&v[range]),
        }
    }
}

/// Puts one input of type `ty` into its place in the arena; pixels are normalised as `pre` says where the network
/// takes floats.
///
/// # Errors
/// When there are not as many elements as `ty` has, or one does not fit its format.
pub fn put_input(
    ty: ValueType,
    pre: &Preprocessing,
    input: Elements<'_>,
    words: &mut [u64],
) -> Result<(), Error> {
    let n = ty.shape.elements();
    if input.count() != n {
        return Err(Error(format!("{} elements are not one input of {}", input.count(), ty.shape)));
    }
    match (ty.dtype, input) {
        (DType::F32, Elements::F32(v)) => {
            if let Some(bad) = v.iter().find(|x| !x.is_finite()) {
                return Err(Error(format!("the input contains {bad}")));
            }
            bytemuck::cast_slice_mut::<u64, f32>(words)[..n].copy_from_slice(v);
        }
        (DType::F32, Elements::Pixels(v)) => {
            let out = &mut bytemuck::cast_slice_mut::<u64, f32>(words)[..n];
            let c = ty.shape.c;
            for channel in 0..c {
                let (mean, std) = pre.normalisation(channel);
                for (o, p) in out[channel..].iter_mut().step_by(c).zip(v[channel..].iter().step_by(c)) {
                    *o = (f32::from(*p) - mean) / std;
                }
            }
        }
        (DType::U8, Elements::Pixels(v)) => {
            bytemuck::cast_slice_mut::<u64, u8>(words)[..n].copy_from_slice(v);
        }
        (DType::U8, Elements::F32(v)) => {
            let out = &mut bytemuck::cast_slice_mut::<u64, u8>(words)[..n];
            for (o, x) in out.iter_mut().zip(v) {
                *o = *x as u8;
                if f32::from(*o) != *x {
                    return Err(Error(format!(
                        "the network takes pixels, whole numbers from 0 to 255, but the input contains {x}"
                    )));
                }
            }
        }
        (other, _) => {
            return Err(Error(format!("inputs of format {other} are not supported")));
        }
    }
    Ok(())
}

/// Takes one output from its place in the arena; numbers of every format become floats.
///
/// # Panics
/// When `out` has not as many elements as `ty`.
pub fn read_output(ty: ValueType, words: &[u64], out: &mut [f32]) {
    let n = ty.shape.elements();
    match ty.dtype {
        DType::F32 => out.copy_from_slice(&bytemuck::cast_slice(words)[..n]),
        DType::I32 => {
            for (o, v) in out.iter_mut().zip(bytemuck::cast_slice::<u64, i32>(words)) {
                *o = *v as f32;
            }
        }
        DType::U8 => {
            for (o, v) in out.iter_mut().zip(bytemuck::cast_slice::<u64, u8>(words)) {
                *o = f32::from(*v);
            }
        }
        DType::I8 => {
            for (o, v) in out.iter_mut().zip(bytemuck::cast_slice::<u64, i8>(words)) {
                *o = f32::from(*v);
            }
        }
        DType::Bits(q) => {
            onebit_core::ops::decode::run_bits(q, ty.shape, words, out, |v| v as f32);
        }
    }
}

/// Indices of the `k` largest scores, best first; ties go to the lower index.
pub fn top(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order.truncate(k.max(1));
    order
}
