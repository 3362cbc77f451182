//! AVX-512 with VPOPCNTDQ (Ice Lake, Zen 4 and later): 8 words or 16 floats a vector.

use super::bgemm::{self, Bgemm, BitLanes};
use super::fgemm::{self, Fgemm, FloatLanes};
use core::arch::x86_64::*;

cpufeatures::new!(cpu, "avx512f", "avx512vl", "avx512vpopcntdq");

pub(super) fn available() -> bool {
    cpu::get()
}

pub(super) const BGEMM: Bgemm =
    Bgemm { name: "bgemm_4x16_avx512", mr: 4, nr: 16, prefix: true, counts, bits, affine };
pub(super) const FGEMM: Fgemm =
    Fgemm { name: "fgemm_4x32_avx512", fused: true, mr: 4, nr: 32, product, madd, reaches };

#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
unsafe fn counts(rows: usize, k: usize, a: *const u64, lda: usize, b: *const u64, out: *mut u32) {
    // SAFETY: bounds are passed on from `Bgemm::counts`; the features are enabled on this function.
    unsafe { bgemm::counts::<Avx512, 4, 2, true>(rows, k, a, lda, b, out) }
}
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
unsafe fn bits(
    rows: usize,
    k: usize,
    a: *const u64,
    lda: usize,
    b: *const u64,
    limits: *const u32,
    at: *const usize,
    out: *mut u32,
) {
    // SAFETY: bounds are passed on from `Bgemm::bits`; the features are enabled on this function.
    unsafe { bgemm::bits::<Avx512, 4, 2, true>(rows, k, a, lda, b, limits, at, out) }
}
#[target_feature(enable = "avx512f")]
unsafe fn product(rows: usize, k: usize, a: *const f32, lda: usize, b: *const f32, out: *mut f32) {
    // SAFETY: bounds are passed on from `Fgemm::product`; the features are enabled on this function.
    unsafe { fgemm::product::<Avx512, 4, 2>(rows, k, a, lda, b, out) }
}
#[target_feature(enable = "avx512f,fma")]
unsafe fn madd(n: usize, x: *const f32, w: *const f32, acc: *mut f32) {
    // SAFETY: bounds are passed on from `Fgemm::madd`; the features are enabled on this function.
    unsafe { fgemm::madd::<Avx512>(n, x, w, acc) }
}

#[target_feature(enable = "avx512f")]
unsafe fn reaches(n: usize, x: *const f32, t: *const f32) -> u64 {
    // SAFETY: bounds are passed on from `Fgemm::reaches`; the feature is enabled on this function.
    unsafe { fgemm::reaches::<Avx512>(n, x, t) }
}

#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn affine(
    n: usize,
    counts: *const u32,
    offsets: *const i32,
    constants: [*const f32; 3],
    out: *mut f32,
) {
    // SAFETY: bounds are passed on from `Bgemm::affine`.
    unsafe { bgemm::affine(n, counts, offsets, constants, out) }
}

struct Avx512;

// SAFETY: every method is one AVX-512 operation on vectors or on memory that the caller bounds.
unsafe impl BitLanes for Avx512 {
    const LANES: usize = 8;
    const FLUSH: usize = usize::MAX;
    type V = __m512i;
    type Acc = __m512i;
    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn acc_zero() -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load(p: *const u64) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 and 8 words.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(word: u64) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_set1_epi64(word as i64) }
    }
    #[inline(always)]
    unsafe fn xor(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn carry(y0: __m512i, y1: __m512i, y2: __m512i) -> __m512i {
        // 0x74: bit index is y0 * 4 + y1 * 2 + y2; set for 100, 110, 101 and 010.
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_ternarylogic_epi64::<0x74>(y0, y1, y2) }
    }
    #[inline(always)]
    unsafe fn add_popcount(acc: __m512i, x: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 VPOPCNTDQ.
        unsafe { _mm512_add_epi64(acc, _mm512_popcnt_epi64(x)) }
    }
    #[inline(always)]
    unsafe fn flush(sum: __m512i, acc: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_add_epi64(sum, acc) }
    }
    #[inline(always)]
    unsafe fn double(sum: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_add_epi64(sum, sum) }
    }
    #[inline(always)]
    unsafe fn store_u32(out: *mut u32, counts: __m512i) {
        // SAFETY: the caller guarantees AVX-512 and room for 8 counts.
        unsafe { _mm256_storeu_si256(out.cast(), _mm512_cvtepi64_epi32(counts)) }
    }
    #[inline(always)]
    unsafe fn less_than(counts: __m512i, limits: *const u32) -> u32 {
        // SAFETY: the caller guarantees AVX-512 and 8 limits.
        unsafe {
            let limits = _mm512_cvtepu32_epi64(_mm256_loadu_si256(limits.cast()));
            u32::from(_mm512_cmplt_epu64_mask(counts, limits))
        }
    }
}

// SAFETY: every method is one AVX-512 operation on vectors or on memory that the caller bounds.
unsafe impl FloatLanes for Avx512 {
    const LANES: usize = 16;
    type V = __m512;
    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the caller guarantees AVX-512 and 16 floats.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the caller guarantees AVX-512 and room for 16 floats.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn reaches(x: __m512, t: __m512) -> u32 {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, t)) }
    }
}
