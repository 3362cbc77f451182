//! AVX-512 with VPOPCNTDQ (Ice Lake, Zen 4 and later): 8 words or 16 floats a vector.

use super::bgemm::{self, Accumulators, Bgemm, BitLanes, Block, Limits};
use super::fgemm::{self, FloatLanes, float_kernels};
use super::igemm::{self, Igemm, IntLanes, Work};
use core::arch::x86_64::*;

cpufeatures::new!(cpu, "avx512f", "avx512vl", "avx512vpopcntdq");

pub(super) fn available() -> bool {
    cpu::get()
}

const MR: usize = 4;
const NV: usize = 2;
pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_4x16_avx512",
    mr: MR,
    nr: NV * <Avx512 as BitLanes>::LANES,
    prefix: true,
    bits,
    ints,
    floats,
    lower,
};
// 32 registers: 28 accumulators, 2 vectors of weights, 1 of rows.
float_kernels!(Avx512, 14 x 32, "avx512", fused: true, "avx512f,avx512vl");

#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
unsafe fn bits(block: &Block<'_>, limits: &Limits<'_>, out: *mut u64) {
    // SAFETY: bounds are passed on from `Bgemm::bits`; the features are enabled on this function.
    unsafe { bgemm::bits::<Avx512, MR, NV, true>(block, limits, out) }
}
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
unsafe fn ints(block: &Block<'_>, acc: &Accumulators<'_>, out: *mut i32) {
    // SAFETY: bounds are passed on from `Bgemm::ints`; the features are enabled on this function.
    unsafe { bgemm::ints::<Avx512, MR, NV, true>(block, acc, out) }
}
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
unsafe fn floats(block: &Block<'_>, acc: &Accumulators<'_>, constants: [*const f32; 3], out: *mut f32) {
    // SAFETY: bounds are passed on from `Bgemm::floats`; the features are enabled on this function.
    unsafe { bgemm::floats::<Avx512, MR, NV, true>(block, acc, constants, out) }
}
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq")]
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
#[target_feature(enable = "avx512f,avx512vl")]
pub(super) unsafe fn run(pass: impl super::Pass) {
    pass.run();
}

pub(super) struct Avx512;

// SAFETY: every method is one AVX-512 operation on vectors or on memory that the caller bounds.
unsafe impl BitLanes for Avx512 {
    const LANES: usize = 8;
    const FLUSH: usize = usize::MAX;
    /// A level of carry-save adders takes as many instructions as it saves.
    const TREE: usize = 2;
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
    unsafe fn csa(x: __m512i, y: __m512i, z: __m512i) -> (__m512i, __m512i) {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { (_mm512_ternarylogic_epi64::<0x96>(x, y, z), _mm512_ternarylogic_epi64::<0xE8>(x, y, z)) }
    }
    #[inline(always)]
    unsafe fn acc_double(acc: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_add_epi64(acc, acc) }
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
    unsafe fn shl(a: __m512i, n: u32) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_sll_epi64(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_add_epi64(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_sub_epi64(a, b) }
    }
    #[inline(always)]
    unsafe fn store_i32(out: *mut i32, sums: __m512i) {
        // SAFETY: the caller guarantees AVX-512 and room for 8 sums.
        unsafe { _mm256_storeu_si256(out.cast(), _mm512_cvtepi64_epi32(sums)) }
    }
    #[inline(always)]
    unsafe fn prefetch_write(p: *const u8) {
        // SAFETY: a prefetch does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn less_than(sums: __m512i, limits: *const i64) -> u32 {
        // SAFETY: the caller guarantees AVX-512 and 8 limits.
        unsafe { u32::from(_mm512_cmplt_epi64_mask(sums, _mm512_loadu_si512(limits.cast()))) }
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
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_add_ps(a, b) }
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

/// Integer products of this rung, best first. A CPU with this rung has AVX2; nearly all have VNNI, too.
pub(super) static IGEMMS: &[Igemm] = &[
    Igemm::new::<Vnni512, 4, 2>(),
    Igemm::new::<super::avx2::Maddubs, 4, 2>(),
    Igemm::new::<super::avx2::Maddwd, 4, 1>(),
];

/// `vpdpbusd` on 16 channels.
pub(super) struct Vnni512;

#[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
unsafe fn vnni512<const MR: usize, const NV: usize>(job: &Work) -> u64 {
    // SAFETY: bounds are passed on from `Igemm`; the features are enabled on this function.
    unsafe { igemm::work::<Vnni512, MR, NV>(job) }
}

// SAFETY: every method is one AVX-512 operation on vectors or on memory that the caller bounds.
unsafe impl IntLanes for Vnni512 {
    const NAME: &'static str = "igemm_avx512_vnni";
    const PAIRS: [usize; 2] = [5, 10];
    const LANES: usize = 16;
    type V = __m512i;
    type Acc = __m512i;
    type A = __m512i;
    type B = __m512i;
    fn available() -> bool {
        // Not those of the rung: Cascade Lake has them without VPOPCNTDQ.
        #[cfg(feature = "std")]
        return std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512vnni");
        #[cfg(not(feature = "std"))]
        return cfg!(all(
            target_feature = "avx512f",
            target_feature = "avx512vl",
            target_feature = "avx512vnni"
        ));
    }
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64 {
        // SAFETY: the caller guarantees what `available` checks, and bounds `job`.
        unsafe { vnni512::<MR, NV>(job) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 and 4 bytes.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 and 64 weights.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(acc, a, b) }
    }
    #[inline(always)]
    unsafe fn finish(acc: __m512i, start: __m512i) -> __m512i {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { _mm512_add_epi32(acc, start) }
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> __m512i {
        // SAFETY: the caller guarantees AVX-512 and 16 integers.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut i32, sums: __m512i) {
        // SAFETY: the caller guarantees AVX-512 and room for 16 integers.
        unsafe { _mm512_storeu_si512(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn reaches(sums: __m512i, limits: __m512i) -> u32 {
        // SAFETY: the caller guarantees AVX-512.
        unsafe { u32::from(_mm512_cmpge_epi32_mask(sums, limits)) }
    }
}
