//! AVX2 with FMA (Haswell, Zen and later): 4 words or 8 floats a vector, popcount by nibble table.

use super::bgemm::{self, Accumulators, Bgemm, BitLanes, Block, Limits};
use super::fgemm::{self, FloatLanes, float_kernels};
use super::igemm::{self, Igemm, IntLanes, Work};
use core::arch::x86_64::*;

cpufeatures::new!(cpu, "avx2", "fma");

pub(super) fn available() -> bool {
    cpu::get()
}

// By measurement. The counters of 2 x 8 spill, but 1 x 8 and 2 x 4 load more for each product; with a tree of 8 it is reversed.
const MR: usize = 2;
const NV: usize = 2;
pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_2x8_avx2",
    mr: MR,
    nr: NV * <Avx2 as BitLanes>::LANES,
    prefix: true,
    bits,
    ints,
    floats,
    lower,
};
// 12 accumulators, 2 vectors of weights, 1 of rows.
float_kernels!(Avx2, 6 x 16, "avx2", fused: true, "avx2,fma");

#[target_feature(enable = "avx2")]
unsafe fn bits(block: &Block<'_>, limits: &Limits<'_>, out: *mut u64) {
    // SAFETY: bounds are passed on from `Bgemm::bits`; the features are enabled on this function.
    unsafe { bgemm::bits::<Avx2, MR, NV, true>(block, limits, out) }
}
#[target_feature(enable = "avx2")]
unsafe fn ints(block: &Block<'_>, acc: &Accumulators<'_>, out: *mut i32) {
    // SAFETY: bounds are passed on from `Bgemm::ints`; the features are enabled on this function.
    unsafe { bgemm::ints::<Avx2, MR, NV, true>(block, acc, out) }
}
#[target_feature(enable = "avx2")]
unsafe fn floats(block: &Block<'_>, acc: &Accumulators<'_>, constants: [*const f32; 3], out: *mut f32) {
    // SAFETY: bounds are passed on from `Bgemm::floats`; the features are enabled on this function.
    unsafe { bgemm::floats::<Avx2, MR, NV, true>(block, acc, constants, out) }
}
#[target_feature(enable = "avx2")]
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
/// See [`super::Kernels::run`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run(pass: impl super::Pass) {
    pass.run();
}

struct Avx2;

// SAFETY: every method is a few AVX2 operations on vectors or on memory that the caller bounds.
unsafe impl BitLanes for Avx2 {
    const LANES: usize = 4;
    /// 4 are better than 8 for rows of less than 48 words: each level leaves another vector to count at the end.
    const TREE: usize = 4;
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
    unsafe fn csa(x: __m256i, y: __m256i, z: __m256i) -> (__m256i, __m256i) {
        // SAFETY: the caller guarantees AVX2.
        unsafe {
            let half = _mm256_xor_si256(x, y);
            let carry = _mm256_or_si256(_mm256_and_si256(x, y), _mm256_and_si256(half, z));
            (_mm256_xor_si256(half, z), carry)
        }
    }
    #[inline(always)]
    unsafe fn acc_double(acc: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_add_epi8(acc, acc) }
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
    unsafe fn shl(a: __m256i, n: u32) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_sll_epi64(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_add_epi64(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_sub_epi64(a, b) }
    }
    #[inline(always)]
    unsafe fn store_i32(out: *mut i32, sums: __m256i) {
        // SAFETY: the caller guarantees AVX2 and room for 4 sums.
        unsafe {
            let even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
            let packed = _mm256_permutevar8x32_epi32(sums, even);
            _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(packed));
        }
    }
    #[inline(always)]
    unsafe fn prefetch_write(p: *const u8) {
        // SAFETY: a prefetch does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn less_than(sums: __m256i, limits: *const i64) -> u32 {
        // SAFETY: the caller guarantees AVX2 and 4 limits.
        unsafe {
            let less = _mm256_cmpgt_epi64(_mm256_loadu_si256(limits.cast()), sums);
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
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees AVX.
        unsafe { _mm256_add_ps(a, b) }
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

/// Integer products of this rung, best first.
pub(super) static IGEMMS: &[Igemm] =
    &[Igemm::new::<AvxVnni, 4, 2>(), Igemm::new::<Maddubs, 4, 2>(), Igemm::new::<Maddwd, 4, 1>()];

/// Bit `l` is `x[l] <= y[l]`.
#[inline(always)]
unsafe fn not_greater(x: __m256i, y: __m256i) -> u32 {
    // SAFETY: the caller guarantees AVX2.
    unsafe {
        let greater = _mm256_castsi256_ps(_mm256_cmpgt_epi32(x, y));
        !_mm256_movemask_ps(greater) as u32 & 0xFF
    }
}

/// `vpdpbusd` on 8 channels, on CPUs that have it without AVX-512 (Alder Lake and later).
pub(super) struct AvxVnni;

#[target_feature(enable = "avx2,avxvnni")]
unsafe fn avxvnni<const MR: usize, const NV: usize>(job: &Work) -> u64 {
    // SAFETY: bounds are passed on from `Igemm`; the features are enabled on this function.
    unsafe { igemm::work::<AvxVnni, MR, NV>(job) }
}

// SAFETY: every method is a few operations of the instruction set on vectors or on memory that the caller bounds.
unsafe impl IntLanes for AvxVnni {
    const NAME: &'static str = "igemm_avx_vnni";
    const LANES: usize = 8;
    type V = __m256i;
    type Acc = __m256i;
    type A = __m256i;
    type B = __m256i;
    fn available() -> bool {
        #[cfg(feature = "std")]
        return available() && std::arch::is_x86_feature_detected!("avxvnni");
        #[cfg(not(feature = "std"))]
        return available() && cfg!(target_feature = "avxvnni");
    }
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64 {
        // SAFETY: the caller guarantees what `available` checks, and bounds `job`.
        unsafe { avxvnni::<MR, NV>(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 4 bytes.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 32 weights.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller guarantees the instruction set.
        unsafe { _mm256_dpbusd_avx_epi32(acc, a, b) }
    }
    #[inline(always)]
    unsafe fn finish(acc: __m256i, start: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_add_epi32(acc, start) }
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 8 integers.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut i32, sums: __m256i) {
        // SAFETY: the caller guarantees AVX2 and room for 8 integers.
        unsafe { _mm256_storeu_si256(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn reaches(sums: __m256i, limits: __m256i) -> u32 {
        // SAFETY: the caller guarantees AVX2.
        unsafe { not_greater(limits, sums) }
    }
}

/// `vpmaddubsw` on 8 channels. It saturates at 16 bits, which weights of up to 64 do not reach: 2 * 255 * 64 = 32640.
pub(super) struct Maddubs;

#[target_feature(enable = "avx2")]
unsafe fn maddubs<const MR: usize, const NV: usize>(job: &Work) -> u64 {
    // SAFETY: bounds are passed on from `Igemm`; the features are enabled on this function.
    unsafe { igemm::work::<Maddubs, MR, NV>(job) }
}

// SAFETY: every method is a few operations of the instruction set on vectors or on memory that the caller bounds.
unsafe impl IntLanes for Maddubs {
    const NAME: &'static str = "igemm_avx2_maddubs";
    const LANES: usize = 8;
    const LARGEST_WEIGHT: u8 = 64;
    type V = __m256i;
    type Acc = __m256i;
    type A = __m256i;
    type B = __m256i;
    fn available() -> bool {
        available()
    }
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64 {
        // SAFETY: the caller guarantees what `available` checks, and bounds `job`.
        unsafe { maddubs::<MR, NV>(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 4 bytes.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 32 weights.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller guarantees the instruction set.
        unsafe {
            let pairs = _mm256_maddubs_epi16(a, b);
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn finish(acc: __m256i, start: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe { _mm256_add_epi32(acc, start) }
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 8 integers.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut i32, sums: __m256i) {
        // SAFETY: the caller guarantees AVX2 and room for 8 integers.
        unsafe { _mm256_storeu_si256(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn reaches(sums: __m256i, limits: __m256i) -> u32 {
        // SAFETY: the caller guarantees AVX2.
        unsafe { not_greater(limits, sums) }
    }
}

/// `vpmaddwd` on 8 channels, for every weight: bytes are widened to 16 bits first. `Acc` and `B` are the lower and the upper 4 channels.
pub(super) struct Maddwd;

#[target_feature(enable = "avx2")]
unsafe fn maddwd<const MR: usize, const NV: usize>(job: &Work) -> u64 {
    // SAFETY: bounds are passed on from `Igemm`; the features are enabled on this function.
    unsafe { igemm::work::<Maddwd, MR, NV>(job) }
}

// SAFETY: every method is a few operations of the instruction set on vectors or on memory that the caller bounds.
unsafe impl IntLanes for Maddwd {
    const NAME: &'static str = "igemm_avx2_maddwd";
    const PAIRS: [usize; 2] = [9, 9];
    const LANES: usize = 8;
    type V = __m256i;
    type Acc = [__m256i; 2];
    type A = __m256i;
    type B = [__m256i; 2];
    fn available() -> bool {
        available()
    }
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64 {
        // SAFETY: the caller guarantees what `available` checks, and bounds `job`.
        unsafe { maddwd::<MR, NV>(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> [__m256i; 2] {
        // SAFETY: the caller guarantees AVX2.
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 4 bytes.
        unsafe {
            let four = _mm_cvtsi32_si128(p.cast::<i32>().read_unaligned());
            _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(four))
        }
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller guarantees AVX2 and 32 weights.
        unsafe {
            let half = |p: *const i8| _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast()));
            [half(p), half(p.add(16))]
        }
    }
    #[inline(always)]
    unsafe fn dot(acc: [__m256i; 2], a: __m256i, b: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: the caller guarantees the instruction set.
        unsafe {
            let [low, high] = [_mm256_madd_epi16(a, b[0]), _mm256_madd_epi16(a, b[1])];
            [_mm256_add_epi32(acc[0], low), _mm256_add_epi32(acc[1], high)]
        }
    }
    #[inline(always)]
    unsafe fn finish(acc: [__m256i; 2], start: __m256i) -> __m256i {
        // SAFETY: the caller guarantees AVX2.
        unsafe {
            // Adding neighbours leaves the channels in the order 0 1 4 5 2 3 6 7.
            let pairs = _mm256_hadd_epi32(acc[0], acc[1]);
            _mm256_add_epi32(_mm256_permute4x64_epi64::<0b11_01_10_00>(pairs), start)
        }
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> __m256i {
        // SAFETY: the caller guarantees AVX2 and 8 integers.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut i32, sums: __m256i) {
        // SAFETY: the caller guarantees AVX2 and room for 8 integers.
        unsafe { _mm256_storeu_si256(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn reaches(sums: __m256i, limits: __m256i) -> u32 {
        // SAFETY: the caller guarantees AVX2.
        unsafe { not_greater(limits, sums) }
    }
}
