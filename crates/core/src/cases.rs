//! Support for the `cases()` of the op pages: tests, benches and other backends walk one list.

use crate::bits;
use crate::model::{Params, Tensor};
use crate::ops::Op;
use crate::reference::Values;
use crate::types::{DType, Encoding, Quant, Shape, ValueType};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// One op with attributes, input types and constants.
#[derive(Clone, Debug)]
pub struct Case {
    /// Says what is special about it.
    pub name: String,
    /// The op.
    pub op: Op,
    /// Types of its inputs.
    pub inputs: Vec<ValueType>,
    /// Its constants.
    pub params: Params<Tensor<'static>>,
}

impl Case {
    /// A case without constants.
    pub fn new(name: &str, op: Op, inputs: &[ValueType]) -> Self {
        Case { name: format!("{}: {name}", op.name()), op, inputs: inputs.into(), params: Params::default() }
    }
}

/// xorshift64*: small, seeded, the same everywhere.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.word() >> 32) as usize) % n
    }
    /// Uniform in `lo..hi`.
    pub fn float(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * ((self.word() >> 40) as f32 / (1u64 << 24) as f32)
    }
    /// A random value of a bit-packed format.
    pub fn level(&mut self, q: Quant) -> i32 {
        q.value_of_level(self.below(q.levels()))
    }
    /// Random floats.
    pub fn floats(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        (0..n).map(|_| self.float(lo, hi)).collect()
    }
    /// Random weights.
    pub fn weights(&mut self, rows: usize, cols: usize, q: Quant) -> Tensor<'static> {
        let values: Vec<i32> = (0..rows * cols).map(|_| self.level(q)).collect();
        Tensor::bits(rows, cols, q, |r, c| values[r * cols + c])
    }
    /// One random bit per channel.
    pub fn flags(&mut self, n: usize) -> Tensor<'static> {
        let flags: Vec<bool> = (0..n).map(|_| self.word() & 1 == 1).collect();
        Tensor::flags(&flags)
    }
    /// Ascending integer thresholds in `-spread..=spread`, with a few that are always or never met.
    pub fn thresholds(&mut self, rows: usize, steps: usize, spread: i32) -> Tensor<'static> {
        let mut all = Vec::with_capacity(rows * steps);
        for r in 0..rows {
            let mut row: Vec<i32> =
                (0..steps).map(|_| self.below(2 * spread as usize + 1) as i32 - spread).collect();
            match r % 7 {
                5 => row.fill(i32::MIN),
                6 => row.fill(i32::MAX),
                _ => row.sort_unstable(),
            }
            all.extend(row);
        }
        Tensor::i32_matrix(rows, steps, all)
    }
    /// Random elements of a value.
    pub fn values(&mut self, ty: ValueType) -> Values {
        let n = ty.shape.elements();
        match ty.dtype {
            // Halves occur, so that rounding and zero are met.
            DType::F32 => {
                Values::F32((0..n).map(|_| (self.float(-6.0, 6.0) * 4.0).round_half() / 4.0).collect())
            }
            DType::I32 => Values::Int((0..n).map(|_| self.below(201) as i32 - 100).collect()),
            other => {
                let q = other.quant().unwrap_or(Quant::BIT);
                Values::Int((0..n).map(|_| self.level(q)).collect())
            }
        }
    }
}

trait RoundHalf {
    fn round_half(self) -> f32;
}
impl RoundHalf for f32 {
    fn round_half(self) -> f32 {
        libm::roundf(self * 2.0) / 2.0
    }
}

/// Special inputs for a value: all smallest, all largest, and a pattern with a period of 251 elements. For wide
/// numbers: zeros of both signs, the ends of the format, and neighbours that a cast to floats would make equal.
pub fn special_values(ty: ValueType) -> Vec<Values> {
    let n = ty.shape.elements();
    let Some(q) = ty.dtype.quant() else {
        const NEIGHBOURS: [i32; 3] = [1 << 27, (1 << 27) + 1, (1 << 27) - 1];
        const ENDS: [i32; 5] = [i32::MIN, 0, -1, i32::MAX, 1];
        const FLOATS: [f32; 11] =
            [0.0, -0.0, 1e-40, -1e-40, 16_777_217.0, -0.5, 2.5, f32::MAX, f32::MIN, 1e-30, -1.0];
        const ZEROS: [f32; 3] = [0.0, -0.0, -0.0];
        let ints = |v: &[i32]| Values::Int(v.iter().copied().cycle().take(n).collect());
        let floats = |v: &[f32]| Values::F32(v.iter().copied().cycle().take(n).collect());
        return match ty.dtype {
            DType::F32 => alloc::vec![floats(&FLOATS), floats(&ZEROS)],
            _ => alloc::vec![ints(&NEIGHBOURS), ints(&ENDS)],
        };
    };
    let periodic = (0..n).map(|i| q.value_of_level((i % 251) * 7 % q.levels())).collect();
    alloc::vec![
        Values::Int(alloc::vec![q.min(); n]),
        Values::Int(alloc::vec![q.max(); n]),
        Values::Int(periodic),
    ]
}

/// The formats that weights and activations come in.
pub fn formats() -> Vec<Quant> {
    alloc::vec![
        Quant::BIT,
        Quant::TERNARY,
        Quant::new(1, Encoding::Unsigned),
        Quant::new(2, Encoding::Unsigned),
        Quant::new(2, Encoding::Bipolar),
        Quant::new(3, Encoding::Signed),
        Quant::new(4, Encoding::Unsigned),
        Quant::new(8, Encoding::Signed),
    ]
}

/// A map of `h x w x c` in `dtype`.
pub fn map(h: usize, w: usize, c: usize, dtype: DType) -> ValueType {
    ValueType::new(Shape::new(h, w, c), dtype)
}

/// Packs values of a type as they lie in the arena.
pub fn pack(ty: ValueType, values: &Values) -> Vec<u64> {
    let mut words = alloc::vec![0u64; ty.arena_words()];
    match (ty.dtype, values) {
        (DType::F32, Values::F32(v)) => {
            bytemuck::cast_slice_mut::<u64, f32>(&mut words)[..v.len()].copy_from_slice(v);
        }
        (DType::I32, Values::Int(v)) => {
            bytemuck::cast_slice_mut::<u64, i32>(&mut words)[..v.len()].copy_from_slice(v);
        }
        (DType::U8 | DType::I8, Values::Int(v)) => {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
            for (b, v) in bytes.iter_mut().zip(v) {
                *b = *v as u8;
            }
        }
        (DType::Bits(q), Values::Int(v)) => {
            let row = bits::words(ty.shape.c);
            for (pixel, values) in v.chunks(ty.shape.c).enumerate() {
                for (c, v) in values.iter().enumerate() {
                    let code = q.encode(*v).expect("the format holds the value");
                    for p in 0..q.planes() {
                        let at = (pixel * q.planes() + p) * row;
                        bits::or(&mut words[at..at + row], c, 1, u64::from(code >> p & 1));
                    }
                }
            }
        }
        _ => unreachable!("values and type come from the same place"),
    }
    words
}

/// The inverse of [`pack`].
pub fn unpack(ty: ValueType, words: &[u64]) -> Values {
    let n = ty.shape.elements();
    match ty.dtype {
        DType::F32 => Values::F32(bytemuck::cast_slice(words)[..n].to_vec()),
        DType::I32 => Values::Int(bytemuck::cast_slice(words)[..n].to_vec()),
        DType::U8 => {
            Values::Int(bytemuck::cast_slice::<u64, u8>(words)[..n].iter().map(|b| i32::from(*b)).collect())
        }
        DType::I8 => {
            Values::Int(bytemuck::cast_slice::<u64, i8>(words)[..n].iter().map(|b| i32::from(*b)).collect())
        }
        DType::Bits(q) => {
            let mut out = alloc::vec![0; n];
            crate::ops::decode::run_bits(q, ty.shape, words, &mut out, |v| v);
            Values::Int(out)
        }
    }
}
