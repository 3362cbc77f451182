//! Counting: sums of one register tile over all words and pairs of planes.

use super::{BitLanes, Block, Pair};

/// A value for each vector of a tile.
type Tile<T, const MR: usize, const NV: usize> = [[T; NV]; MR];

/// Counts of an `MR x (NV * LANES)` tile of one pair of planes, in 64-bit lanes.
#[inline(always)]
unsafe fn counts<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    k: usize,
    a: *const u64,
    lda: usize,
    b: *const u64,
) -> Tile<L::V, MR, NV> {
    let words = if PREFIX { L::TREE } else { 1 };
    // SAFETY: the caller guarantees the instruction set and rows of `k` words (see `Bgemm::check`).
    unsafe {
        let mut sum = [[L::zero(); NV]; MR];
        let mut state = State::<L, MR, NV> { y: sum, twos: sum, fours: sum };
        let (mut a, mut b) = (a, b);
        if PREFIX {
            // What does not fill a step comes first, where the counters are empty and need not be counted.
            for _ in 0..k % words / 2 {
                state.start(a, lda, b);
                (a, b) = (a.add(2 * lda), b.add(2 * NV * L::LANES));
            }
        }
        let mut left = k / words;
        while left > 0 {
            let run = if left < L::FLUSH { left } else { L::FLUSH };
            left -= run;
            let mut acc = [[L::acc_zero(); NV]; MR];
            // Two steps per turn: the running parities of one feed the other without register moves.
            let unroll = if words <= 2 { 2 } else { 1 };
            for _ in 0..run / unroll {
                for _ in 0..unroll {
                    add_popcounts::<L, MR, NV>(&mut acc, state.step::<PREFIX>(a, lda, b));
                    (a, b) = (a.add(words * lda), b.add(words * NV * L::LANES));
                }
            }
            if run % unroll == 1 {
                add_popcounts::<L, MR, NV>(&mut acc, state.step::<PREFIX>(a, lda, b));
                (a, b) = (a.add(words * lda), b.add(words * NV * L::LANES));
            }
            for i in 0..MR {
                for j in 0..NV {
                    sum[i][j] = L::flush(sum[i][j], acc[i][j]);
                }
            }
        }
        if PREFIX {
            // What has not become a carry of the last level, by Horner's rule: fours, twos, ones.
            let mut rest = [[L::acc_zero(); NV]; MR];
            if L::TREE > 4 {
                add_popcounts::<L, MR, NV>(&mut rest, state.fours);
                double::<L, MR, NV>(&mut rest);
            }
            if L::TREE > 2 {
                add_popcounts::<L, MR, NV>(&mut rest, state.twos);
                double::<L, MR, NV>(&mut rest);
            }
            add_popcounts::<L, MR, NV>(&mut rest, state.y);
            for i in 0..MR {
                for j in 0..NV {
                    sum[i][j] = L::flush(L::shl(sum[i][j], L::TREE.ilog2()), rest[i][j]);
                }
            }
        }
        sum
    }
}

#[inline(always)]
unsafe fn add_popcounts<L: BitLanes, const MR: usize, const NV: usize>(
    acc: &mut Tile<L::Acc, MR, NV>,
    x: Tile<L::V, MR, NV>,
) {
    for i in 0..MR {
        for j in 0..NV {
            // SAFETY: the caller guarantees the instruction set.
            acc[i][j] = unsafe { L::add_popcount(acc[i][j], x[i][j]) };
        }
    }
}

#[inline(always)]
unsafe fn double<L: BitLanes, const MR: usize, const NV: usize>(acc: &mut Tile<L::Acc, MR, NV>) {
    for acc in acc.as_flattened_mut() {
        // SAFETY: the caller guarantees the instruction set.
        *acc = unsafe { L::acc_double(*acc) };
    }
}

/// `x` and `y` added to the bits of `sum`: the carries.
#[inline(always)]
unsafe fn fold<L: BitLanes, const MR: usize, const NV: usize>(
    sum: &mut Tile<L::V, MR, NV>,
    x: Tile<L::V, MR, NV>,
    y: Tile<L::V, MR, NV>,
) -> Tile<L::V, MR, NV> {
    let mut carries = *sum;
    for i in 0..MR {
        for j in 0..NV {
            // SAFETY: the caller guarantees the instruction set.
            (sum[i][j], carries[i][j]) = unsafe { L::csa(sum[i][j], x[i][j], y[i][j]) };
        }
    }
    carries
}

/// Bit-sliced counters of a tile: their bits of weight 1 (which are the running parities), 2 and 4.
struct State<L: BitLanes, const MR: usize, const NV: usize> {
    y: Tile<L::V, MR, NV>,
    twos: Tile<L::V, MR, NV>,
    fours: Tile<L::V, MR, NV>,
}

impl<L: BitLanes, const MR: usize, const NV: usize> State<L, MR, NV> {
    /// Takes `TREE` words and returns what is to be counted: bits of weight `TREE`. Without prefixes, one word.
    #[inline(always)]
    unsafe fn step<const PREFIX: bool>(
        &mut self,
        a: *const u64,
        lda: usize,
        b: *const u64,
    ) -> Tile<L::V, MR, NV> {
        // SAFETY: called by `counts` for words that its caller has bounded.
        unsafe {
            if !PREFIX {
                return products::<L, MR, NV>(a, b);
            }
            if L::TREE == 2 {
                return self.carries(a, lda, b);
            }
            let fours = self.carries_of_4(a, lda, b);
            if L::TREE == 4 {
                return fours;
            }
            let more = self.carries_of_4(a.add(4 * lda), lda, b.add(4 * NV * L::LANES));
            fold::<L, MR, NV>(&mut self.fours, fours, more)
        }
    }

    /// Takes 2 words into counters that hold less than 6.
    #[inline(always)]
    unsafe fn start(&mut self, a: *const u64, lda: usize, b: *const u64) {
        // SAFETY: called by `counts` for words that its caller has bounded.
        unsafe {
            let zero = [[L::zero(); NV]; MR];
            let twos = self.carries(a, lda, b);
            let fours = fold::<L, MR, NV>(&mut self.twos, twos, zero);
            fold::<L, MR, NV>(&mut self.fours, fours, zero);
        }
    }

    /// Bits of weight 4 that 4 words bring.
    #[inline(always)]
    unsafe fn carries_of_4(&mut self, a: *const u64, lda: usize, b: *const u64) -> Tile<L::V, MR, NV> {
        // SAFETY: called by `step` for words that its caller has bounded.
        unsafe {
            let twos = self.carries(a, lda, b);
            let more = self.carries(a.add(2 * lda), lda, b.add(2 * NV * L::LANES));
            fold::<L, MR, NV>(&mut self.twos, twos, more)
        }
    }

    /// Bits of weight 2 that 2 words bring.
    #[inline(always)]
    unsafe fn carries(&mut self, a: *const u64, lda: usize, b: *const u64) -> Tile<L::V, MR, NV> {
        // SAFETY: called by `counts` for words that its caller has bounded.
        unsafe {
            let mut carries = self.y;
            let (b1, b2) = (loads::<L, NV>(b), loads::<L, NV>(b.add(NV * L::LANES)));
            for i in 0..MR {
                let (a1, a2) = (L::splat(*a.add(i)), L::splat(*a.add(lda + i)));
                for j in 0..NV {
                    let (y1, y2) = (L::xor(a1, b1[j]), L::xor(a2, b2[j]));
                    carries[i][j] = L::carry(self.y[i][j], y1, y2);
                    self.y[i][j] = y2;
                }
            }
            carries
        }
    }
}

/// One word of each row times one word of each channel.
#[inline(always)]
unsafe fn products<L: BitLanes, const MR: usize, const NV: usize>(
    a: *const u64,
    b: *const u64,
) -> Tile<L::V, MR, NV> {
    // SAFETY: called by `counts` for words that its caller has bounded.
    unsafe {
        let b = loads::<L, NV>(b);
        let mut products = [[L::zero(); NV]; MR];
        for i in 0..MR {
            let a = L::splat(*a.add(i));
            for j in 0..NV {
                products[i][j] = L::xor(a, b[j]);
            }
        }
        products
    }
}

#[inline(always)]
unsafe fn loads<L: BitLanes, const NV: usize>(b: *const u64) -> [L::V; NV] {
    // SAFETY: called by `counts` for words that its caller has bounded.
    unsafe {
        let mut v = [L::zero(); NV];
        for j in 0..NV {
            v[j] = L::load(b.add(j * L::LANES));
        }
        v
    }
}

/// [`counts`] of one pair of planes, whose tile begins at `a` and `b` in the first planes.
#[inline(always)]
unsafe fn counts_of<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    block: &Block<'_>,
    pair: &Pair,
    a: *const u64,
    b: *const u64,
) -> Tile<L::V, MR, NV> {
    // SAFETY: `Bgemm::check` has bounded the planes of every pair.
    unsafe {
        let (a, b) = (a.add(pair.a * block.plane), b.add(pair.b * block.k * NV * L::LANES));
        counts::<L, MR, NV, PREFIX>(block.k, a, block.lda, b)
    }
}

/// Sums of a tile over all pairs of planes, less the base of each row.
#[inline(always)]
pub(super) unsafe fn tile<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    block: &Block<'_>,
    row: usize,
    panel: usize,
) -> [[L::V; NV]; MR] {
    // SAFETY: the caller guarantees that the tile lies inside a block that `Bgemm::check` has accepted: it has a product.
    unsafe {
        let (a, b) = (block.a.as_ptr().add(row), block.b.as_ptr().add(panel * block.stride));
        // The first product stands alone, so that the sums need not be kept while it is counted.
        let first = &*block.pairs.as_ptr();
        let mut sum = counts_of::<L, MR, NV, PREFIX>(block, first, a, b);
        if first.negative {
            for sum in sum.as_flattened_mut() {
                *sum = L::sub(L::zero(), *sum);
            }
        }
        for pair in block.pairs.get_unchecked(1..) {
            let count = counts_of::<L, MR, NV, PREFIX>(block, pair, a, b);
            for i in 0..MR {
                for j in 0..NV {
                    let s = L::shl(sum[i][j], pair.doublings);
                    sum[i][j] = if pair.negative { L::sub(s, count[i][j]) } else { L::add(s, count[i][j]) };
                }
            }
        }
        if !block.base.is_empty() {
            for i in 0..MR {
                let base = L::splat(*block.base.as_ptr().add(row + i) as u64);
                for j in 0..NV {
                    sum[i][j] = L::sub(sum[i][j], base);
                }
            }
        }
        sum
    }
}
