//! WebAssembly simd128: 2 words or 4 floats a vector, byte popcounts.
//!
//! Plain wasm has no fused multiply-add, and floats must round as on every other target, so the
//! float lanes go through the scalar one.

use super::bgemm::{self, Bgemm, BitLanes};
use super::fgemm::Fgemm;
use core::arch::wasm32::*;

const MR: usize = 4;
const NV: usize = 2;
pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_4x4_simd128",
    mr: MR,
    nr: NV * <Simd128 as BitLanes>::LANES,
    prefix: true,
    bits: bgemm::bits::<Simd128, MR, NV, true>,
    ints: bgemm::ints::<Simd128, MR, NV, true>,
    floats: bgemm::floats::<Simd128, MR, NV, true>,
    lower: bgemm::lower::<true>,
};
pub(super) const FGEMM: Fgemm = super::scalar::FGEMM;

struct Simd128;

// SAFETY: this file is compiled only where simd128 is enabled for the whole module; every method is
// a few vector operations on values or on memory that the caller bounds.
unsafe impl BitLanes for Simd128 {
    const LANES: usize = 2;
    /// `Acc` holds bytes; each addition adds at most 8 to a byte.
    const FLUSH: usize = 31;
    type V = v128;
    type Acc = v128;
    #[inline(always)]
    unsafe fn zero() -> v128 {
        u64x2_splat(0)
    }
    #[inline(always)]
    unsafe fn acc_zero() -> v128 {
        u64x2_splat(0)
    }
    #[inline(always)]
    unsafe fn load(p: *const u64) -> v128 {
        // SAFETY: the caller guarantees 2 words.
        unsafe { v128_load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(word: u64) -> v128 {
        u64x2_splat(word)
    }
    #[inline(always)]
    unsafe fn xor(a: v128, b: v128) -> v128 {
        v128_xor(a, b)
    }
    #[inline(always)]
    unsafe fn carry(y0: v128, y1: v128, y2: v128) -> v128 {
        v128_bitselect(v128_not(y2), y0, y1)
    }
    #[inline(always)]
    unsafe fn add_popcount(acc: v128, x: v128) -> v128 {
        u8x16_add(acc, u8x16_popcnt(x))
    }
    #[inline(always)]
    unsafe fn flush(sum: v128, acc: v128) -> v128 {
        let quads = u32x4_extadd_pairwise_u16x8(u16x8_extadd_pairwise_u8x16(acc));
        let pairs = u64x2_add(v128_and(quads, u64x2_splat(0xFFFF_FFFF)), u64x2_shr(quads, 32));
        u64x2_add(sum, pairs)
    }
    #[inline(always)]
    unsafe fn add(a: v128, b: v128) -> v128 {
        i64x2_add(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: v128, b: v128) -> v128 {
        i64x2_sub(a, b)
    }
    #[inline(always)]
    unsafe fn store_i32(out: *mut i32, sums: v128) {
        // SAFETY: the caller guarantees room for 2 sums.
        unsafe {
            *out = i64x2_extract_lane::<0>(sums) as i32;
            *out.add(1) = i64x2_extract_lane::<1>(sums) as i32;
        }
    }
    #[inline(always)]
    unsafe fn less_than(sums: v128, limits: *const i64) -> u32 {
        // SAFETY: the caller guarantees 2 limits.
        unsafe { u32::from(i64x2_bitmask(i64x2_lt(sums, v128_load(limits.cast())))) }
    }
}
