//! AVX-512 without VPOPCNTDQ (Skylake-X, Cascade Lake): 8 words a vector, popcount by nibble table behind a tree of
//! carry-save adders, which are two ternary-logic instructions each. Floats and bytes are those of `avx512`.

use super::avx512::Avx512;
use super::bgemm::{self, Accumulators, Bgemm, BitLanes, Block, Limits};
use core::arch::x86_64::*;

cpufeatures::new!(cpu, "avx512f", "avx512bw", "avx512vl");

pub(super) fn available() -> bool {
    cpu::get()
}

// 32 registers: 4 vectors of sums, each with a parity, twos and fours, the table and the mask.
const MR: usize = 2;
const NV: usize = 2;
pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_2x16_avx512bw",
    mr: MR,
    nr: NV * <Avx512Bw as BitLanes>::LANES,
    prefix: true,
    bits,
    ints,
    floats,
    lower,
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn bits(block: &Block<'_>, limits: &Limits<'_>, out: *mut u64) {
    // SAFETY: bounds are passed on from `Bgemm::bits`; the features are enabled on this function.
    unsafe { bgemm::bits::<Avx512Bw, MR, NV, true>(block, limits, out) }
}
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn ints(block: &Block<'_>, acc: &Accumulators<'_>, out: *mut i32) {
    // SAFETY: bounds are passed on from `Bgemm::ints`; the features are enabled on this function.
    unsafe { bgemm::ints::<Avx512Bw, MR, NV, true>(block, acc, out) }
}
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn floats(block: &Block<'_>, acc: &Accumulators<'_>, constants: [*const f32; 3], out: *mut f32) {
    // SAFETY: bounds are passed on from `Bgemm::floats`; the features are enabled on this function.
    unsafe { bgemm::floats::<Avx512Bw, MR, NV, true>(block, acc, constants, out) }
}
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn lower(
    n: usize,
    offsets: &[usize],
    planes: *const u64,
    lda: usize,
    weight: i64,
    out: *mut u64,
    sums: *mut i64,
) {
    // SAFETY: bounds are passed on from `Bgemm::lower`; the features are enabled on this function.
    unsafe { bgemm::lower::<true>(n, offsets, planes, lda, weight, out, sums) }
}

struct Avx512Bw;

// SAFETY: every method is a few AVX-512 BW operations on vectors or on memory that the caller bounds.
unsafe impl BitLanes for Avx512Bw {
    const LANES: usize = 8;
    /// `Acc` holds bytes; each addition adds at most 8 to a byte.
    const FLUSH: usize = 31;
    const TREE: usize = 8;
    type V = __m512i;
    type Acc = __m512i;
    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { <Avx512 as BitLanes>::zero() }
    }
    #[inline(always)]
    unsafe fn acc_zero() -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load(p: *const u64) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 and 8 words.
        unsafe { <Avx512 as BitLanes>::load(p) }
    }
    #[inline(always)]
    unsafe fn splat(word: u64) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { <Avx512 as BitLanes>::splat(word) }
    }
    #[inline(always)]
    unsafe fn xor(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { Avx512::xor(a, b) }
    }
    #[inline(always)]
    unsafe fn carry(y0: __m512i, y1: __m512i, y2: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { Avx512::carry(y0, y1, y2) }
    }
    #[inline(always)]
    unsafe fn csa(x: __m512i, y: __m512i, z: __m512i) -> (__m512i, __m512i) {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { Avx512::csa(x, y, z) }
    }
    #[inline(always)]
    unsafe fn add_popcount(acc: __m512i, x: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 BW.
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
            let nibble = _mm512_set1_epi8(15);
            let low = _mm512_shuffle_epi8(table, _mm512_and_si512(x, nibble));
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(x), nibble);
            let high = _mm512_shuffle_epi8(table, high);
            _mm512_add_epi8(acc, _mm512_add_epi8(low, high))
        }
    }
    #[inline(always)]
    unsafe fn acc_double(acc: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 BW.
        unsafe { _mm512_add_epi8(acc, acc) }
    }
    #[inline(always)]
    unsafe fn flush(sum: __m512i, acc: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 BW.
        unsafe { _mm512_add_epi64(sum, _mm512_sad_epu8(acc, _mm512_setzero_si512())) }
    }
    #[inline(always)]
    unsafe fn shl(a: __m512i, n: u32) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { Avx512::shl(a, n) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { Avx512::add(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { Avx512::sub(a, b) }
    }
    #[inline(always)]
    unsafe fn store_i32(out: *mut i32, sums: __m512i) {
        // SAFETY: the caller guarantees AVX-512 and room for 8 sums.
        unsafe { Avx512::store_i32(out, sums) }
    }
    #[inline(always)]
    unsafe fn less_than(sums: __m512i, limits: *const i64) -> u32 {
        // SAFETY: the caller guarantees AVX-512 and 8 limits.
        unsafe { Avx512::less_than(sums, limits) }
    }
}
