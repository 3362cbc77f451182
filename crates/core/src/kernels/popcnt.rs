//! x86-64 with POPCNT and without AVX2 (Nehalem to Ivy Bridge, Atoms): the plain kernels with one instruction
//! for a popcount, which the baseline of x86-64 does not have. Floats and bytes are those of `scalar`.

use super::bgemm::{self, Accumulators, Bgemm, BitLanes, Block, Limits};
use super::scalar::Scalar;

cpufeatures::new!(cpu, "popcnt");

pub(super) fn available() -> bool {
    cpu::get()
}

const MR: usize = 1;
const NV: usize = 4;
pub(super) const BGEMM: Bgemm = Bgemm {
    name: "bgemm_1x4_popcnt",
    mr: MR,
    nr: NV * <Scalar as BitLanes>::LANES,
    prefix: false,
    bits,
    ints,
    floats,
    lower,
};

#[target_feature(enable = "popcnt")]
unsafe fn bits(block: &Block<'_>, limits: &Limits<'_>, out: *mut u64) {
    // SAFETY: bounds are passed on from `Bgemm::bits`; the feature is enabled on this function.
    unsafe { bgemm::bits::<Scalar, MR, NV, false>(block, limits, out) }
}
#[target_feature(enable = "popcnt")]
unsafe fn ints(block: &Block<'_>, acc: &Accumulators<'_>, out: *mut i32) {
    // SAFETY: bounds are passed on from `Bgemm::ints`; the feature is enabled on this function.
    unsafe { bgemm::ints::<Scalar, MR, NV, false>(block, acc, out) }
}
#[target_feature(enable = "popcnt")]
unsafe fn floats(block: &Block<'_>, acc: &Accumulators<'_>, constants: [*const f32; 3], out: *mut f32) {
    // SAFETY: bounds are passed on from `Bgemm::floats`; the feature is enabled on this function.
    unsafe { bgemm::floats::<Scalar, MR, NV, false>(block, acc, constants, out) }
}
#[target_feature(enable = "popcnt")]
unsafe fn lower(
    n: usize,
    offsets: &[usize],
    planes: *const u64,
    lda: usize,
    weight: i64,
    out: *mut u64,
    sums: *mut i64,
) {
    // SAFETY: bounds are passed on from `Bgemm::lower`; the feature is enabled on this function.
    unsafe { bgemm::lower::<false>(n, offsets, planes, lda, weight, out, sums) }
}
