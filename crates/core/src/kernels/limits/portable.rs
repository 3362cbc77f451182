//! What plain Rust gets from any CPU: eight independent sums, each fed by itself so that nothing can be hoisted.

use super::{BLOCK, Loop, Unit};
use core::hint::black_box;

const SUMS: usize = 8;

pub(super) const LOOPS: &[Loop] = &[
    Loop {
        isa: "scalar",
        unit: Unit::Binary,
        name: "xor, count_ones, add in plain code",
        per_turn: 64 * SUMS as u64,
        available: super::super::always,
        turns: binary,
    },
    Loop {
        isa: "scalar",
        unit: Unit::Int8,
        name: "multiply, add in plain code",
        per_turn: SUMS as u64,
        available: super::super::always,
        turns: int8,
    },
    Loop {
        isa: "scalar",
        unit: Unit::F32,
        name: "mul_add in plain code",
        per_turn: SUMS as u64,
        available: super::super::always,
        turns: f32,
    },
];

#[inline(always)]
fn repeat<T: Copy>(turns: u64, start: T, step: impl Fn(T) -> T) {
    let mut sums = black_box([start; SUMS]);
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = step(*sum);
        }
    }
    black_box(sums);
}

fn binary(turns: u64) {
    let b = black_box(0x9E37_79B9_7F4A_7C15u64);
    repeat(turns, 1, |sum: u64| sum.wrapping_add(u64::from((sum ^ b).count_ones())));
}

fn int8(turns: u64) {
    let b = black_box(3i32);
    repeat(turns, 1, |sum: i32| sum.wrapping_mul(b).wrapping_add(b));
}

fn f32(turns: u64) {
    let (a, b) = black_box((0.5, 1.0));
    repeat(turns, 1.0, |sum| super::super::scalar::fma(sum, a, b));
}

/// # Safety
/// `words` are readable for `blocks` blocks.
pub(super) unsafe fn read(words: *const u64, blocks: usize) {
    // SAFETY: guaranteed by the caller.
    let words = unsafe { core::slice::from_raw_parts(words, blocks * BLOCK) };
    black_box(words.iter().fold(0u64, |sum, word| sum | word));
}
