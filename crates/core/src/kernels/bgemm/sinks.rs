//! Sinks: what becomes of the sums of a tile.

use super::tile::tile;
use super::{Accumulators, BitLanes, Block, Limits, MAX_CHANNELS};
use crate::ops::transform;

/// What becomes of the sums of one row and one panel.
trait Sink<L: BitLanes, const NV: usize> {
    /// Fetches where the sums will go while they are being made: results are larger than the operands.
    ///
    /// # Safety
    /// As for `put`.
    #[inline(always)]
    unsafe fn prefetch(&self, _row: usize, _panel: usize) {}
    /// # Safety
    /// The row and the panel must be inside the block whose sink the caller has bounded.
    unsafe fn put(&self, row: usize, panel: usize, sums: [L::V; NV]);
}

/// Hands the sums of every row and every panel to the sink.
#[inline(always)]
unsafe fn multiply<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    block: &Block<'_>,
    sink: impl Sink<L, NV>,
) {
    for panel in 0..block.panels {
        let mut row = 0;
        while row < block.rows {
            // SAFETY: the caller guarantees the instruction set and a block that `Bgemm::check` has accepted.
            unsafe {
                if row + MR <= block.rows {
                    for i in 0..MR {
                        sink.prefetch(row + i, panel);
                    }
                    let sums = tile::<L, MR, NV, PREFIX>(block, row, panel);
                    for i in 0..MR {
                        sink.put(row + i, panel, sums[i]);
                    }
                    row += MR;
                } else {
                    sink.put(row, panel, tile::<L, 1, NV, PREFIX>(block, row, panel)[0]);
                    row += 1;
                }
            }
        }
    }
}

/// See [`Bgemm::bits`].
#[inline(always)]
pub(in crate::kernels) unsafe fn bits<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    block: &Block<'_>,
    limits: &Limits<'_>,
    out: *mut u64,
) {
    // SAFETY: the caller bounds the block, the limits and the outputs (see `Bgemm::bits`).
    unsafe { multiply::<L, MR, NV, PREFIX>(block, ToBits(limits, out)) }
}

struct ToBits<'a>(&'a Limits<'a>, *mut u64);

impl<L: BitLanes, const NV: usize> Sink<L, NV> for ToBits<'_> {
    #[inline(always)]
    unsafe fn put(&self, row: usize, panel: usize, sums: [L::V; NV]) {
        let ToBits(limits, out) = *self;
        // SAFETY: `Bgemm::bits` bounds the limits and outputs of every row.
        unsafe {
            let first = panel * NV * L::LANES;
            let table = limits.table.as_ptr().add(*limits.at.as_ptr().add(row) + first);
            let out = out.add(*limits.to.as_ptr().add(row));
            for step in 0..limits.steps {
                let mut mask = 0;
                for j in 0..NV {
                    let limit = table.add(step * limits.step + j * L::LANES);
                    mask |= u64::from(L::less_than(sums[j], limit)) << (j * L::LANES);
                }
                // Later panels add their bits to what the first one has written.
                let before = if panel == 0 { limits.flips } else { *out.add(step) };
                *out.add(step) = before ^ mask << first;
            }
        }
    }
}

/// See [`Bgemm::ints`].
#[inline(always)]
pub(in crate::kernels) unsafe fn ints<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    block: &Block<'_>,
    acc: &Accumulators<'_>,
    out: *mut i32,
) {
    // SAFETY: the caller bounds the block, the constants and the outputs (see `Bgemm::ints`).
    unsafe { multiply::<L, MR, NV, PREFIX>(block, ToInts(acc, out)) }
}

struct ToInts<'a>(&'a Accumulators<'a>, *mut i32);

impl<L: BitLanes, const NV: usize> Sink<L, NV> for ToInts<'_> {
    #[inline(always)]
    unsafe fn prefetch(&self, row: usize, panel: usize) {
        // SAFETY: `Bgemm::ints` bounds the outputs of every row.
        unsafe {
            L::prefetch_write(self.1.add(*self.0.to.as_ptr().add(row) + panel * NV * L::LANES).cast());
        }
    }
    #[inline(always)]
    unsafe fn put(&self, row: usize, panel: usize, sums: [L::V; NV]) {
        let ToInts(acc, out) = *self;
        // SAFETY: `Bgemm::ints` bounds the constants and outputs of every row.
        unsafe {
            let nr = NV * L::LANES;
            let values = accumulators::<L, NV>(acc, row, panel, sums);
            let out = out.add(*acc.to.as_ptr().add(row) + panel * nr);
            for c in 0..nr {
                *out.add(c) = values[c];
            }
        }
    }
}

/// See [`Bgemm::floats`].
#[inline(always)]
pub(in crate::kernels) unsafe fn floats<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    block: &Block<'_>,
    acc: &Accumulators<'_>,
    constants: [*const f32; 3],
    out: *mut f32,
) {
    // SAFETY: the caller bounds the block, the constants and the outputs (see `Bgemm::floats`).
    unsafe { multiply::<L, MR, NV, PREFIX>(block, ToFloats(acc, constants, out)) }
}

struct ToFloats<'a>(&'a Accumulators<'a>, [*const f32; 3], *mut f32);

impl<L: BitLanes, const NV: usize> Sink<L, NV> for ToFloats<'_> {
    #[inline(always)]
    unsafe fn prefetch(&self, row: usize, panel: usize) {
        // SAFETY: `Bgemm::floats` bounds the outputs of every row.
        unsafe {
            L::prefetch_write(self.2.add(*self.0.to.as_ptr().add(row) + panel * NV * L::LANES).cast());
        }
    }
    #[inline(always)]
    unsafe fn put(&self, row: usize, panel: usize, sums: [L::V; NV]) {
        let ToFloats(acc, constants, out) = *self;
        // SAFETY: `Bgemm::floats` bounds the constants and outputs of every row.
        unsafe {
            let nr = NV * L::LANES;
            let values = accumulators::<L, NV>(acc, row, panel, sums);
            let [center, scale, bias] = constants.map(|c| c.add(panel * nr));
            let out = out.add(*acc.to.as_ptr().add(row) + panel * nr);
            // All constants are read before the first store, which the compiler could not know to be elsewhere.
            let mut floats = [0f32; MAX_CHANNELS];
            for c in 0..nr {
                let (center, scale, bias) = (*center.add(c), *scale.add(c), *bias.add(c));
                floats[c] = transform::affine(values[c] as f32, center, scale, bias);
            }
            for c in 0..nr {
                *out.add(c) = floats[c];
            }
        }
    }
}

/// The accumulators of one row and panel, see [`Accumulators`].
#[inline(always)]
unsafe fn accumulators<L: BitLanes, const NV: usize>(
    acc: &Accumulators<'_>,
    row: usize,
    panel: usize,
    sums: [L::V; NV],
) -> [i32; MAX_CHANNELS] {
    // SAFETY: the caller bounds the constants of every row and panel; a panel has at most `MAX_CHANNELS` channels.
    unsafe {
        let nr = NV * L::LANES;
        let half = acc.half.as_ptr().add(*acc.at.as_ptr().add(row) + panel * nr);
        let mut values = [0i32; MAX_CHANNELS];
        for j in 0..NV {
            L::store_i32(values.as_mut_ptr().add(j * L::LANES), sums[j]);
        }
        for c in 0..nr {
            values[c] = (*half.add(c)).wrapping_sub(values[c] << acc.shift) >> 1;
        }
        values
    }
}
