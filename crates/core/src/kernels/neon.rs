//! NEON (every 64-bit Arm): 2 words or 4 floats a vector, byte popcounts.

use super::bgemm::{self, Bgemm, BitLanes};
use super::fgemm::{self, FloatLanes, float_kernels};
use super::igemm::{self, Igemm, IntLanes, Work};
use core::arch::aarch64::*;

pub(super) fn available() -> bool {
    cfg!(target_feature = "neon")
}

// The largest tile that the compiler keeps in 32 registers: 4.25 instructions a product in the inner loop, 3 of them to
// multiply and count. 4 x 4 takes 5.3, 3 x 4 4.6, 2 x 8 4.8, for they spill.
const MR: usize = 2;
const NV: usize = 2;
pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_2x4_neon",
    mr: MR,
    nr: NV * <Neon as BitLanes>::LANES,
    prefix: true,
    bits: bgemm::bits::<Neon, MR, NV, true>,
    ints: bgemm::ints::<Neon, MR, NV, true>,
    floats: bgemm::floats::<Neon, MR, NV, true>,
    lower: bgemm::lower::<true>,
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
    const TREE: usize = 2;
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
        // SAFETY: the caller guarantees NEON.
        unsafe { vbslq_u64(y1, vreinterpretq_u64_u8(vmvnq_u8(vreinterpretq_u8_u64(y2))), y0) }
    }
    #[inline(always)]
    unsafe fn csa(x: uint64x2_t, y: uint64x2_t, z: uint64x2_t) -> (uint64x2_t, uint64x2_t) {
        // SAFETY: the caller guarantees NEON.
        unsafe {
            let half = veorq_u64(x, y);
            (veorq_u64(half, z), vbslq_u64(half, z, x))
        }
    }
    #[inline(always)]
    unsafe fn acc_double(acc: uint8x16_t) -> uint8x16_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vaddq_u8(acc, acc) }
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
    unsafe fn shl(a: uint64x2_t, n: u32) -> uint64x2_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vshlq_u64(a, vdupq_n_s64(i64::from(n))) }
    }
    #[inline(always)]
    unsafe fn add(a: uint64x2_t, b: uint64x2_t) -> uint64x2_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vaddq_u64(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: uint64x2_t, b: uint64x2_t) -> uint64x2_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vsubq_u64(a, b) }
    }
    #[inline(always)]
    unsafe fn store_i32(out: *mut i32, sums: uint64x2_t) {
        // SAFETY: the caller guarantees room for 2 sums.
        unsafe { vst1_u32(out.cast(), vmovn_u64(sums)) }
    }
    #[inline(always)]
    unsafe fn less_than(sums: uint64x2_t, limits: *const i64) -> u32 {
        // SAFETY: the caller guarantees 2 limits.
        unsafe {
            let less = vcltq_s64(vreinterpretq_s64_u64(sums), vld1q_s64(limits));
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

/// Integer products of this rung, best first.
pub(super) static IGEMMS: &[Igemm] =
    &[Igemm::new::<Usdot, 4, 4>(), Igemm::new::<Sdot, 4, 4>(), Igemm::new::<Smull, 4, 2>()];

/// Bit `l` is set where lane `l` of a comparison is.
#[inline(always)]
unsafe fn mask(lanes: uint32x4_t) -> u32 {
    // SAFETY: the caller guarantees NEON.
    unsafe {
        const BITS: [u32; 4] = [1, 2, 4, 8];
        vaddvq_u32(vandq_u32(lanes, vld1q_u32(BITS.as_ptr())))
    }
}

/// Four bytes less 128, for every lane.
#[inline(always)]
unsafe fn shifted(p: *const u8) -> int8x16_t {
    // SAFETY: the caller guarantees 4 bytes.
    unsafe { vreinterpretq_s8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned() ^ 0x8080_8080)) }
}

/// `usdot` on 4 channels (Armv8.6).
struct Usdot;

// SAFETY: NEON is part of the baseline of every target that compiles this file, and `available` checks the rest.
unsafe impl IntLanes for Usdot {
    const NAME: &'static str = "igemm_neon_i8mm";
    const LANES: usize = 4;
    type V = int32x4_t;
    type Acc = int32x4_t;
    type A = uint8x16_t;
    type B = int8x16_t;
    fn available() -> bool {
        #[cfg(feature = "std")]
        return std::arch::is_aarch64_feature_detected!("i8mm");
        #[cfg(not(feature = "std"))]
        return cfg!(target_feature = "i8mm");
    }
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64 {
        // SAFETY: the caller guarantees what `available` checks, and bounds `job`.
        unsafe { igemm::work::<Usdot, MR, NV>(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> uint8x16_t {
        // SAFETY: the caller guarantees 4 bytes.
        unsafe { vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> int8x16_t {
        // SAFETY: the caller guarantees 16 weights.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, a: uint8x16_t, b: int8x16_t) -> int32x4_t {
        // By assembly, because the intrinsic is not stable.
        let mut acc = acc;
        // SAFETY: the caller guarantees the instruction, which touches its three registers only.
        unsafe {
            core::arch::asm!(
                ".arch_extension i8mm",
                "usdot {acc:v}.4s, {x:v}.16b, {y:v}.16b",
                acc = inout(vreg) acc, x = in(vreg) a, y = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        acc
    }
    #[inline(always)]
    unsafe fn finish(acc: int32x4_t, start: int32x4_t) -> int32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vaddq_s32(acc, start) }
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> int32x4_t {
        // SAFETY: the caller guarantees 4 integers.
        unsafe { vld1q_s32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut i32, sums: int32x4_t) {
        // SAFETY: the caller guarantees room for 4 integers.
        unsafe { vst1q_s32(p, sums) }
    }
    #[inline(always)]
    unsafe fn reaches(sums: int32x4_t, limits: int32x4_t) -> u32 {
        // SAFETY: the caller guarantees NEON.
        unsafe { mask(vcgeq_s32(sums, limits)) }
    }
}

/// `sdot` on 4 channels (Armv8.2, Cortex-A75 and later).
struct Sdot;

// SAFETY: NEON is part of the baseline of every target that compiles this file, and `available` checks the rest.
unsafe impl IntLanes for Sdot {
    const NAME: &'static str = "igemm_neon_dotprod";
    const LANES: usize = 4;
    const SHIFT: i32 = 128;
    type V = int32x4_t;
    type Acc = int32x4_t;
    type A = int8x16_t;
    type B = int8x16_t;
    fn available() -> bool {
        #[cfg(feature = "std")]
        return std::arch::is_aarch64_feature_detected!("dotprod");
        #[cfg(not(feature = "std"))]
        return cfg!(target_feature = "dotprod");
    }
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64 {
        // SAFETY: the caller guarantees what `available` checks, and bounds `job`.
        unsafe { igemm::work::<Sdot, MR, NV>(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> int8x16_t {
        // SAFETY: the caller guarantees 4 bytes.
        unsafe { shifted(p) }
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> int8x16_t {
        // SAFETY: the caller guarantees 16 weights.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // By assembly, because the intrinsic is not stable.
        let mut acc = acc;
        // SAFETY: the caller guarantees the instruction, which touches its three registers only.
        unsafe {
            core::arch::asm!(
                ".arch_extension dotprod",
                "sdot {acc:v}.4s, {x:v}.16b, {y:v}.16b",
                acc = inout(vreg) acc, x = in(vreg) a, y = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        acc
    }
    #[inline(always)]
    unsafe fn finish(acc: int32x4_t, start: int32x4_t) -> int32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vaddq_s32(acc, start) }
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> int32x4_t {
        // SAFETY: the caller guarantees 4 integers.
        unsafe { vld1q_s32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut i32, sums: int32x4_t) {
        // SAFETY: the caller guarantees room for 4 integers.
        unsafe { vst1q_s32(p, sums) }
    }
    #[inline(always)]
    unsafe fn reaches(sums: int32x4_t, limits: int32x4_t) -> u32 {
        // SAFETY: the caller guarantees NEON.
        unsafe { mask(vcgeq_s32(sums, limits)) }
    }
}

/// `smull` and `sadalp` on 4 channels, on every CPU. `Acc` is pairs of the lower and the upper two.
struct Smull;

// SAFETY: NEON is part of the baseline of every target that compiles this file, and `available` checks the rest.
unsafe impl IntLanes for Smull {
    const NAME: &'static str = "igemm_neon";
    const LANES: usize = 4;
    const SHIFT: i32 = 128;
    type V = int32x4_t;
    type Acc = [int32x4_t; 2];
    type A = int8x16_t;
    type B = int8x16_t;
    fn available() -> bool {
        available()
    }
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64 {
        // SAFETY: the caller guarantees what `available` checks, and bounds `job`.
        unsafe { igemm::work::<Smull, MR, NV>(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> [int32x4_t; 2] {
        // SAFETY: the caller guarantees NEON.
        unsafe { [vdupq_n_s32(0); 2] }
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> int8x16_t {
        // SAFETY: the caller guarantees 4 bytes.
        unsafe { shifted(p) }
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> int8x16_t {
        // SAFETY: the caller guarantees 16 weights.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    unsafe fn dot(acc: [int32x4_t; 2], a: int8x16_t, b: int8x16_t) -> [int32x4_t; 2] {
        // SAFETY: the caller guarantees NEON.
        unsafe {
            let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
            [vpadalq_s16(acc[0], low), vpadalq_s16(acc[1], vmull_high_s8(a, b))]
        }
    }
    #[inline(always)]
    unsafe fn finish(acc: [int32x4_t; 2], start: int32x4_t) -> int32x4_t {
        // SAFETY: the caller guarantees NEON.
        unsafe { vaddq_s32(vpaddq_s32(acc[0], acc[1]), start) }
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> int32x4_t {
        // SAFETY: the caller guarantees 4 integers.
        unsafe { vld1q_s32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut i32, sums: int32x4_t) {
        // SAFETY: the caller guarantees room for 4 integers.
        unsafe { vst1q_s32(p, sums) }
    }
    #[inline(always)]
    unsafe fn reaches(sums: int32x4_t, limits: int32x4_t) -> u32 {
        // SAFETY: the caller guarantees NEON.
        unsafe { mask(vcgeq_s32(sums, limits)) }
    }
}
