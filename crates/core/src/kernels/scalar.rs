//! Plain 64-bit integers and single floats: every CPU, the microcontroller included.

use super::bgemm::{self, Bgemm, BitLanes};
use super::fgemm::{self, FloatLanes, float_kernels};
use super::igemm::{self, Igemm, IntLanes, Work};

const MR: usize = 4;
const NV: usize = 1;
pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_4x1_scalar",
    mr: MR,
    nr: NV * <Scalar as BitLanes>::LANES,
    prefix: false,
    bits: bgemm::bits::<Scalar, MR, NV, false>,
    ints: bgemm::ints::<Scalar, MR, NV, false>,
    floats: bgemm::floats::<Scalar, MR, NV, false>,
    lower: bgemm::lower::<false>,
};
float_kernels!(Scalar, 4 x 1, "scalar", fused: false);

pub(super) struct Scalar;

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
    const TREE: usize = 2;
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
    unsafe fn csa(x: u64, y: u64, z: u64) -> (u64, u64) {
        (x ^ y ^ z, (x & y) | ((x ^ y) & z))
    }
    #[inline(always)]
    unsafe fn acc_double(acc: u64) -> u64 {
        2 * acc
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
    unsafe fn shl(a: u64, n: u32) -> u64 {
        a.wrapping_shl(n)
    }
    #[inline(always)]
    unsafe fn add(a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    unsafe fn sub(a: u64, b: u64) -> u64 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    unsafe fn store_i32(out: *mut i32, sums: u64) {
        // SAFETY: the caller guarantees room for one sum.
        unsafe { *out = sums as i32 }
    }
    #[inline(always)]
    unsafe fn less_than(sums: u64, limits: *const i64) -> u32 {
        // SAFETY: the caller guarantees one limit.
        unsafe { u32::from((sums as i64) < *limits) }
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

/// Integer products of this rung.
pub(super) static IGEMMS: &[Igemm] = &[Igemm::new::<Scalar, 4, 1>()];

// SAFETY: needs no instruction beyond the baseline.
unsafe impl IntLanes for Scalar {
    const NAME: &'static str = "igemm_scalar";
    const PAIRS: [usize; 2] = [9, 6];
    const LANES: usize = 1;
    type V = i32;
    type Acc = i32;
    type A = [u8; 4];
    type B = [i8; 4];
    fn available() -> bool {
        true
    }
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64 {
        // SAFETY: the caller bounds `job`.
        unsafe { igemm::work::<Scalar, MR, NV>(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> i32 {
        0
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> [u8; 4] {
        // SAFETY: the caller guarantees 4 bytes.
        unsafe { *p.cast() }
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> [i8; 4] {
        // SAFETY: the caller guarantees 4 weights.
        unsafe { *p.cast() }
    }
    #[inline(always)]
    unsafe fn dot(acc: i32, a: [u8; 4], b: [i8; 4]) -> i32 {
        let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
        acc.wrapping_add(product(0) + product(1) + product(2) + product(3))
    }
    #[inline(always)]
    unsafe fn finish(acc: i32, start: i32) -> i32 {
        acc.wrapping_add(start)
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> i32 {
        // SAFETY: the caller guarantees one integer; panels of bytes need not be aligned.
        unsafe { p.read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut i32, sums: i32) {
        // SAFETY: the caller guarantees room for one integer.
        unsafe { *p = sums }
    }
    #[inline(always)]
    unsafe fn reaches(sums: i32, limits: i32) -> u32 {
        u32::from(sums >= limits)
    }
}
