//! Plain 64-bit integers and single floats: every CPU, the microcontroller included.

use super::bgemm::{self, Bgemm, BitLanes};
use super::fgemm::{self, FloatLanes, float_kernels};

pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_4x1_scalar",
    mr: 4,
    nr: 1,
    prefix: false,
    counts: bgemm::counts::<Scalar, 4, 1, false>,
    bits: bgemm::bits::<Scalar, 4, 1, false>,
    affine: bgemm::affine,
};
float_kernels!(Scalar, 4 x 1, "scalar", fused: false);

struct Scalar;

/// `a * b + c`, rounded once, on any CPU.
#[inline(always)]
pub(super) fn fma(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(feature = "std")]
    return a.mul_add(b, c);
    #[cfg(not(feature = "std"))]
    return libm::fmaf(a, b, c);
}

// SAFETY: needs no instruction beyond the baseline.
unsafe impl BitLanes for Scalar {
    const LANES: usize = 1;
    const FLUSH: usize = usize::MAX;
    type V = u64;
    type Acc = u64;
    #[inline(always)]
    unsafe fn zero() -> u64 {
        0
    }
    #[inline(always)]
    unsafe fn acc_zero() -> u64 {
        0
    }
    #[inline(always)]
    unsafe fn load(p: *const u64) -> u64 {
        // SAFETY: the caller guarantees one word.
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn splat(word: u64) -> u64 {
        word
    }
    #[inline(always)]
    unsafe fn xor(a: u64, b: u64) -> u64 {
        a ^ b
    }
    #[inline(always)]
    unsafe fn carry(y0: u64, y1: u64, y2: u64) -> u64 {
        (y1 & !y2) | (!y1 & y0)
    }
    #[inline(always)]
    unsafe fn add_popcount(acc: u64, x: u64) -> u64 {
        acc + u64::from(x.count_ones())
    }
    #[inline(always)]
    unsafe fn flush(sum: u64, acc: u64) -> u64 {
        sum + acc
    }
    #[inline(always)]
    unsafe fn double(sum: u64) -> u64 {
        2 * sum
    }
    #[inline(always)]
    unsafe fn store_u32(out: *mut u32, counts: u64) {
        // SAFETY: the caller guarantees room for one count.
        unsafe { *out = counts as u32 }
    }
    #[inline(always)]
    unsafe fn less_than(counts: u64, limits: *const u32) -> u32 {
        // SAFETY: the caller guarantees one limit.
        unsafe { u32::from(counts < u64::from(*limits)) }
    }
}

// SAFETY: needs no instruction beyond the baseline.
unsafe impl FloatLanes for Scalar {
    const LANES: usize = 1;
    type V = f32;
    #[inline(always)]
    unsafe fn zero() -> f32 {
        0.0
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> f32 {
        // SAFETY: the caller guarantees one float.
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: f32) {
        // SAFETY: the caller guarantees room for one float.
        unsafe { *p = v }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn fma(a: f32, b: f32, c: f32) -> f32 {
        fma(a, b, c)
    }
    #[inline(always)]
    unsafe fn reaches(x: f32, t: f32) -> u32 {
        u32::from(x >= t)
    }
}
