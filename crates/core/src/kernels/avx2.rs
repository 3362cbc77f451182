//! AVX2 with FMA (Haswell, Zen and later): 4 words or 8 floats a vector, popcount by nibble table.

use super::bgemm::{self, Bgemm, BitLanes};
use super::fgemm::{self, Fgemm, FloatLanes};
use core::arch::x86_64::*;

cpufeatures::new!(cpu, "avx2", "fma");

pub(super) fn available() -> bool {
    cpu::get()
}

// 16 registers: a 2 x 8 tile keeps 4 accumulators, 4 parities, the table and the mask without spills.
pub(super) const BGEMM: Bgemm =
    Bgemm { name: "bgemm_2x8_avx2", mr: 2, nr: 8, prefix: true, counts, bits, affine };
pub(super) const FGEMM: Fgemm =
    Fgemm { name: "fgemm_4x16_avx2", fused: true, mr: 4, nr: 16, product, madd, reaches };

#[target_feature(enable = "avx2")]
unsafe fn counts(rows: usize, k: usize, a: *const u64, lda: usize, b: *const u64, out: *mut u32) {
    // SAFETY: bounds are passed on from `Bgemm::counts`; the features are enabled on this function.
    unsafe { bgemm::counts::<Avx2, 2, 2, true>(rows, k, a, lda, b, out) }
}
#[target_feature(enable = "avx2")]
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
    unsafe { bgemm::bits::<Avx2, 2, 2, true>(rows, k, a, lda, b, limits, at, out) }
}
#[target_feature(enable = "avx2,fma")]
unsafe fn product(rows: usize, k: usize, a: *const f32, lda: usize, b: *const f32, out: *mut f32) {
    // SAFETY: bounds are passed on from `Fgemm::product`; the features are enabled on this function.
    unsafe { fgemm::product::<Avx2, 4, 2>(rows, k, a, lda, b, out) }
}
#[target_feature(enable = "avx2,fma")]
unsafe fn madd(n: usize, x: *const f32, w: *const f32, acc: *mut f32) {
    // SAFETY: bounds are passed on from `Fgemm::madd`; the features are enabled on this function.
    unsafe { fgemm::madd::<Avx2>(n, x, w, acc) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn reaches(n: usize, x: *const f32, t: *const f32) -> u64 {
    // SAFETY: bounds are passed on from `Fgemm::reaches`; the features are enabled on this function.
    unsafe { fgemm::reaches::<Avx2>(n, x, t) }
}

#[target_feature(enable = "avx2")]
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

struct Avx2;

// SAFETY: every method is a few AVX2 operations on vectors or on memory that the caller bounds.
unsafe impl BitLanes for Avx2 {
    const LANES: usize = 4;
    /// `Acc` holds bytes; each addition adds at most 8 to a byte.
    const FLUSH: usize = 31;
    type V = __m256i;
    type Acc = __m256i;
    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn acc_zero() -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn load(p: *const u64) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 4 words.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(word: u64) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_set1_epi64x(word as i64) }
    }
    #[inline(always)]
    unsafe fn xor(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_xor_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn carry(y0: __m256i, y1: __m256i, y2: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_or_si256(_mm256_andnot_si256(y2, y1), _mm256_andnot_si256(y1, y0)) }
    }
    #[inline(always)]
    unsafe fn add_popcount(acc: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe {
            let table = _mm256_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, //
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            );
            let nibble = _mm256_set1_epi8(15);
            let low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(x), nibble);
            let high = _mm256_shuffle_epi8(table, high);
            _mm256_add_epi8(acc, _mm256_add_epi8(low, high))
        }
    }
    #[inline(always)]
    unsafe fn flush(sum: __m256i, acc: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_add_epi64(sum, _mm256_sad_epu8(acc, _mm256_setzero_si256())) }
    }
    #[inline(always)]
    unsafe fn double(sum: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_add_epi64(sum, sum) }
    }
    #[inline(always)]
    unsafe fn store_u32(out: *mut u32, counts: __m256i) {
        // SAFETY: the caller guarantees AVX2 and room for 4 counts.
        unsafe {
            let even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
            let packed = _mm256_permutevar8x32_epi32(counts, even);
            _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(packed));
        }
    }
    #[inline(always)]
    unsafe fn less_than(counts: __m256i, limits: *const u32) -> u32 {
        // SAFETY: the caller guarantees AVX2 and 4 limits.
        unsafe {
            let limits = _mm256_cvtepu32_epi64(_mm_loadu_si128(limits.cast()));
            let less = _mm256_cmpgt_epi64(limits, counts);
            _mm256_movemask_pd(_mm256_castsi256_pd(less)) as u32
        }
    }
}

// SAFETY: every method is one AVX or FMA operation on vectors or on memory that the caller bounds.
unsafe impl FloatLanes for Avx2 {
    const LANES: usize = 8;
    type V = __m256;
    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller guarantees AVX.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: the caller guarantees AVX and 8 floats.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: the caller guarantees AVX and room for 8 floats.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: the caller guarantees AVX.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller guarantees FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn reaches(x: __m256, t: __m256) -> u32 {
        // SAFETY: the caller guarantees AVX.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x, t)) as u32 }
    }
}
