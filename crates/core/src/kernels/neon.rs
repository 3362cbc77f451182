//! NEON (every 64-bit Arm): 2 words or 4 floats a vector, byte popcounts.

use super::bgemm::{self, Bgemm, BitLanes};
use super::fgemm::{self, FloatLanes, float_kernels};
use core::arch::aarch64::*;

pub(super) fn available() -> bool {
    cfg!(target_feature = "neon")
}

// 32 registers: a 4 x 4 tile keeps 8 accumulators and 8 parities without spills.
pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_4x4_neon",
    mr: 4,
    nr: 4,
    prefix: true,
    counts: bgemm::counts::<Neon, 4, 2, true>,
    bits: bgemm::bits::<Neon, 4, 2, true>,
    affine: bgemm::affine,
};
// 24 accumulators, 4 vectors of weights, 1 of rows.
float_kernels!(Neon, 6 x 16, "neon", fused: true);

struct Neon;

// SAFETY: NEON is part of the baseline of every target that compiles this file (see `available`);
// every method is a few NEON operations on vectors or on memory that the caller bounds.
unsafe impl BitLanes for Neon {
    const LANES: usize = 2;
    /// `Acc` holds bytes; each addition adds at most 8 to a byte.
    const FLUSH: usize = 31;
    type V = uint64x2_t;
    type Acc = uint8x16_t;
    #[inline(always)]
    unsafe fn zero() -> uint64x2_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vdupq_n_u64(0) }
    }
    #[inline(always)]
    unsafe fn acc_zero() -> uint8x16_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vdupq_n_u8(0) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u64) -> uint64x2_t {
        // SAFETY: the caller guarantees 2 words.
        unsafe { vld1q_u64(p) }
    }
    #[inline(always)]
    unsafe fn splat(word: u64) -> uint64x2_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vdupq_n_u64(word) }
    }
    #[inline(always)]
    unsafe fn xor(a: uint64x2_t, b: uint64x2_t) -> uint64x2_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { veorq_u64(a, b) }
    }
    #[inline(always)]
    unsafe fn carry(y0: uint64x2_t, y1: uint64x2_t, y2: uint64x2_t) -> uint64x2_t {
        // y1 ? !y2 : y0  ==  ((y2 ^ !0) & y1) | (y0 & !y1)
        // SAFETY: the caller guarantees NEON.
        unsafe { vorrq_u64(vbicq_u64(y1, y2), vbicq_u64(y0, y1)) }
    }
    #[inline(always)]
    unsafe fn add_popcount(acc: uint8x16_t, x: uint64x2_t) -> uint8x16_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vaddq_u8(acc, vcntq_u8(vreinterpretq_u8_u64(x))) }
    }
    #[inline(always)]
    unsafe fn flush(sum: uint64x2_t, acc: uint8x16_t) -> uint64x2_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(acc))) }
    }
    #[inline(always)]
    unsafe fn double(sum: uint64x2_t) -> uint64x2_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vaddq_u64(sum, sum) }
    }
    #[inline(always)]
    unsafe fn store_u32(out: *mut u32, counts: uint64x2_t) {
        // SAFETY: the caller guarantees room for 2 counts.
        unsafe { vst1_u32(out, vmovn_u64(counts)) }
    }
    #[inline(always)]
    unsafe fn less_than(counts: uint64x2_t, limits: *const u32) -> u32 {
        // SAFETY: the caller guarantees 2 limits.
        unsafe {
            let less = vcltq_u64(counts, vmovl_u32(vld1_u32(limits)));
            (vgetq_lane_u64::<0>(less) & 1 | vgetq_lane_u64::<1>(less) & 2) as u32
        }
    }
}

// SAFETY: NEON is part of the baseline of every target that compiles this file.
unsafe impl FloatLanes for Neon {
    const LANES: usize = 4;
    type V = float32x4_t;
    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vdupq_n_f32(0.0) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        // SAFETY: the caller guarantees 4 floats.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        // SAFETY: the caller guarantees room for 4 floats.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn reaches(x: float32x4_t, t: float32x4_t) -> u32 {
        // SAFETY: the caller guarantees NEON.
        unsafe {
            const BITS: [u32; 4] = [1, 2, 4, 8];
            vaddvq_u32(vandq_u32(vcgeq_f32(x, t), vld1q_u32(BITS.as_ptr())))
        }
    }
}
