//! Binary GEMM: `popcount(a[m] ^ b[n])` over rows of words, combined over bit planes and handed to a sink.
//!
//! Lanes are output channels: a word of `a` is broadcast against a vector of words of as many
//! channels as it has lanes, so the counts come out in the order in which the next layer's bits
//! are packed and a compare mask *is* those bits.
//!
//! **Prefix parity.** Where `PREFIX` is set, both operands hold running XORs along K
//! (`a'[k] = a[0] ^ .. ^ a[k]`). Then `y[k] = a'[k] ^ b'[k]` is the running parity of the products
//! `x[k] = a[k] ^ b[k]`, and two products are counted with one popcount: `x[k] + x[k+1]` has the
//! carry `maj(y[k-1], x[k], x[k+1])`, which equals `if y[k] { !y[k+1] } else { y[k-1] }`, one
//! ternary-logic instruction. The parities telescope, so
//! `count = 2 * sum(popcount(carry)) + popcount(y[last])`: 2.5 instructions per word instead of 3.
//!
//! **Carry-save adders.** Where a popcount takes several instructions, carries are first added bit by bit (Harley and
//! Seal): counters of weight 2 and 4 are kept for every bit, and only what carries out of them is counted, once in
//! `TREE` words. Words that do not fill a step come first, where the counters are empty.

use crate::ops::transform;

/// Most channels of a panel of any rung.
pub const MAX_CHANNELS: usize = 16;

/// Verbs that an instruction set supplies. A vector is `LANES` words.
///
/// # Safety
/// Methods may only be called where the CPU has the instruction set.
pub(super) unsafe trait BitLanes {
    const LANES: usize;
    /// Additions of popcounts that `Acc` can hold before it must be flushed.
    const FLUSH: usize;
    /// Words that share one popcount in a prefix kernel: 2, 4 or 8.
    const TREE: usize;
    type V: Copy;
    /// Narrow accumulator of popcounts.
    type Acc: Copy;
    unsafe fn zero() -> Self::V;
    unsafe fn acc_zero() -> Self::Acc;
    unsafe fn load(p: *const u64) -> Self::V;
    unsafe fn splat(word: u64) -> Self::V;
    unsafe fn xor(a: Self::V, b: Self::V) -> Self::V;
    /// `if y1 { !y2 } else { y0 }` for every bit.
    unsafe fn carry(y0: Self::V, y1: Self::V, y2: Self::V) -> Self::V;
    /// Carry-save adder: the sum of three bits and its carry, for every bit. Only for trees of more than 2 words.
    unsafe fn csa(x: Self::V, y: Self::V, z: Self::V) -> (Self::V, Self::V);
    /// `acc + popcount(x)` in every lane.
    unsafe fn add_popcount(acc: Self::Acc, x: Self::V) -> Self::Acc;
    /// `acc + acc`.
    unsafe fn acc_double(acc: Self::Acc) -> Self::Acc;
    /// `sum + acc`, with 64-bit lanes.
    unsafe fn flush(sum: Self::V, acc: Self::Acc) -> Self::V;
    /// `a << n` in 64-bit lanes.
    unsafe fn shl(a: Self::V, n: u32) -> Self::V;
    /// `a + b` in 64-bit lanes.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b` in 64-bit lanes.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// Stores the low halves of the lanes as `LANES` 32-bit integers.
    unsafe fn store_i32(out: *mut i32, sums: Self::V);
    /// Bit `l` is `sums[l] < limits[l]`, signed.
    unsafe fn less_than(sums: Self::V, limits: *const i64) -> u32;
    /// Fetches the cache line of `p`, which will be written; never faults.
    #[inline(always)]
    unsafe fn prefetch_write(_p: *const u8) {}
}

/// One product of a plane of activations with a plane of weights, in a sum that is built by Horner's rule:
/// `sum = (sum << doublings) +- popcount(a ^ b)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Plane of activations in [`Block::a`].
    pub a: usize,
    /// First word of the plane in each panel of [`Block::b`].
    pub b: usize,
    /// Doublings of the sum before this product enters it.
    pub doublings: u32,
    /// Whether the product is subtracted.
    pub negative: bool,
}

impl Pair {
    /// The only pair of +1/-1 activations and weights.
    pub const SINGLE: Pair = Pair { a: 0, b: 0, doublings: 0, negative: false };
}

/// A block of lowered rows and the neighbouring panels of weights that it is multiplied with.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    /// Rows of activations.
    pub rows: usize,
    /// Words of a row of one plane; even for a prefix kernel.
    pub k: usize,
    /// Word `w` of row `r` of plane `p` is `a[p * plane + w * lda + r]`: neighbouring rows are neighbours in memory.
    pub a: &'a [u64],
    /// Distance of neighbouring words of a row.
    pub lda: usize,
    /// Distance of neighbouring planes.
    pub plane: usize,
    /// Panels of `[plane][k][nr]` words.
    pub b: &'a [u64],
    /// Panels to multiply with, at most 64 channels.
    pub panels: usize,
    /// Words from one panel to the next.
    pub stride: usize,
    /// What the sum is made of; at least one product.
    pub pairs: &'a [Pair],
    /// Taken from the sums of each row, or empty.
    pub base: &'a [i64],
}

/// Turns sums into bits: bit `c` of `out[to[r] + s]` is `sum[r][c] < table[at[r] + s * step + c]`, or its opposite where
/// bit `c` of `flips` is set; `c` counts through all panels of the block.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Exclusive limits.
    pub table: &'a [i64],
    /// Place of the first limit of each row.
    pub at: &'a [usize],
    /// Place of the first output word of each row.
    pub to: &'a [usize],
    /// Limits of each channel, and output words of each row.
    pub steps: usize,
    /// Distance of neighbouring steps in the table.
    pub step: usize,
    /// Bits that are inverted.
    pub flips: u64,
}

/// Turns sums into accumulators: `out[to[r] + c] = (half[at[r] + c] - (sum[r][c] << shift)) >> 1`. Whole panels are
/// stored.
#[derive(Clone, Copy)]
pub struct Accumulators<'a> {
    /// Twice what an accumulator is when its sum is 0.
    pub half: &'a [i32],
    /// Place of the first constant of each row.
    pub at: &'a [usize],
    /// Place of the first output of each row.
    pub to: &'a [usize],
    /// Twice the weight of a sum is `1 << shift`.
    pub shift: u32,
}

type BitsFn = unsafe fn(&Block<'_>, &Limits<'_>, *mut u64);
type IntsFn = unsafe fn(&Block<'_>, &Accumulators<'_>, *mut i32);
/// The constants are center, scale and bias of each channel of the block.
type FloatsFn = unsafe fn(&Block<'_>, &Accumulators<'_>, [*const f32; 3], *mut f32);
/// `(n, offsets, planes, lda, prefix, sum_weight, out, sums)`, see [`Bgemm::lower`].
type LowerFn = unsafe fn(usize, &[usize], *const u64, usize, i64, *mut u64, *mut i64);

/// Binary GEMM of one instruction set: any number of rows times neighbouring panels of weights, in tiles of `mr`
/// rows and then of one.
pub struct Bgemm {
    /// Name, the same in benches and docs.
    pub name: &'static str,
    /// Rows of a register tile.
    pub mr: usize,
    /// Channels of a tile: a panel of weights is `[k][nr]` words for each plane.
    pub nr: usize,
    /// True when operands are prefix-XORed along K and K is even.
    pub prefix: bool,
    pub(super) bits: BitsFn,
    pub(super) ints: IntsFn,
    pub(super) floats: FloatsFn,
    #[cfg_attr(not(feature = "alloc"), allow(dead_code))] // only called with `alloc`
    pub(super) lower: LowerFn,
}

/// Words behind the end that [`Bgemm::lower`] may read and write.
pub const LOWER_SLACK: usize = 7;

/// Where the words of a lowered row come from, relative to its pixel.
#[cfg(feature = "alloc")]
pub struct Offsets {
    of: alloc::vec::Vec<usize>,
    largest: usize,
}

#[cfg(feature = "alloc")]
impl Offsets {
    /// Offsets of the words of a row.
    pub fn new(of: alloc::vec::Vec<usize>) -> Self {
        let largest = of.iter().copied().max().unwrap_or(0);
        Offsets { of, largest }
    }
    /// Words of a row.
    pub fn words(&self) -> usize {
        self.of.len()
    }
}

impl Bgemm {
    /// Words of a row of `k` words after padding for this kernel.
    pub const fn padded(&self, k: usize) -> usize {
        if self.prefix { k.next_multiple_of(2) } else { k }
    }

    /// Multiplies and compares, see [`Limits`]. Padded channels of the last panel need limits, too.
    #[inline]
    pub fn bits(&self, block: &Block<'_>, limits: &Limits<'_>, out: &mut [u64]) {
        let n = self.check(block);
        assert!(n <= 64 && limits.steps > 0);
        let reach = (limits.steps - 1) * limits.step + n;
        check_places(block.rows, limits.at, limits.table.len(), reach);
        check_places(block.rows, limits.to, out.len(), limits.steps);
        // SAFETY: a `Bgemm` is only reachable through `available()`, so the CPU has its instructions; `check` bounds
        // what is read of the block, `check_places` the limits and outputs of every row.
        unsafe { (self.bits)(block, limits, out.as_mut_ptr()) }
    }

    /// Multiplies and stores accumulators, see [`Accumulators`].
    #[inline]
    pub fn ints(&self, block: &Block<'_>, acc: &Accumulators<'_>, out: &mut [i32]) {
        self.check_accumulators(block, acc, out.len());
        // SAFETY: as in `bits`; `check_accumulators` bounds the constants and outputs of every row.
        unsafe { (self.ints)(block, acc, out.as_mut_ptr()) }
    }

    /// Multiplies and stores `(acc - center[c]) * scale[c] + bias[c]`, each float step rounded. The constants are
    /// those of the channels of the block, padded to whole panels.
    #[inline]
    pub fn floats(&self, block: &Block<'_>, acc: &Accumulators<'_>, constants: [&[f32]; 3], out: &mut [f32]) {
        let n = self.check_accumulators(block, acc, out.len());
        assert!(constants.iter().all(|c| c.len() >= n));
        // SAFETY: as in `ints`; every constant has an element for each channel of the block.
        unsafe { (self.floats)(block, acc, constants.map(<[f32]>::as_ptr), out.as_mut_ptr()) }
    }

    /// Lowers `n` neighbouring pixels to columns of `out`: word `w` of pixel `i` is
    /// `planes[at + offsets[w] + i]`, and goes to `out[w * lda + i]` (prefix-XORed where the kernel wants that). Adds
    /// `weight` times the number of set bits of each pixel to `sums[i]` where `sums` is not empty.
    ///
    /// Works on 8 pixels at a time, so up to [`LOWER_SLACK`] words behind the last one are read and overwritten.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn lower(
        &self,
        n: usize,
        offsets: &Offsets,
        planes: &[u64],
        at: usize,
        lda: usize,
        out: &mut [u64],
        weight: i64,
        sums: &mut [i64],
    ) {
        let (k, whole) = (self.padded(offsets.of.len()), n.next_multiple_of(8));
        assert!(n > 0 && k > 0 && planes.len() >= at + offsets.largest + whole);
        assert!(out.len() >= (k - 1) * lda + whole && (sums.is_empty() || sums.len() >= whole));
        let sums = if sums.is_empty() { core::ptr::null_mut() } else { sums.as_mut_ptr() };
        // SAFETY: reachable only on a CPU with these instructions; the assertions bound every access:
        // planes[at + largest + whole - 1], out[(k - 1) * lda + whole - 1], sums[whole - 1].
        unsafe {
            (self.lower)(n, &offsets.of, planes.as_ptr().add(at), lda, weight, out.as_mut_ptr(), sums);
        }
    }

    /// Bounds all that is read of a block; its number of channels.
    #[inline]
    fn check(&self, block: &Block<'_>) -> usize {
        let Block { rows, k, a, lda, plane, b, panels, stride, pairs, base } = *block;
        assert!(rows > 0 && k > 0 && panels > 0 && (!self.prefix || k.is_multiple_of(2)));
        assert!(!pairs.is_empty() && (base.is_empty() || base.len() >= rows));
        let (reach_a, reach_b) = ((k - 1) * lda + rows, (panels - 1) * stride + k * self.nr);
        assert!(pairs.iter().all(|p| p.a * plane + reach_a <= a.len() && p.b + reach_b <= b.len()));
        panels * self.nr
    }

    #[inline]
    fn check_accumulators(&self, block: &Block<'_>, acc: &Accumulators<'_>, out: usize) -> usize {
        let n = self.check(block);
        assert!(acc.shift < 32);
        check_places(block.rows, acc.at, acc.half.len(), n);
        check_places(block.rows, acc.to, out, n);
        n
    }
}

/// Checks that `reach` elements behind every place of the first `rows` lie inside `len`.
#[inline]
fn check_places(rows: usize, places: &[usize], len: usize, reach: usize) {
    let last = len.checked_sub(reach).expect("a table for every channel");
    assert!(places[..rows].iter().all(|place| *place <= last));
}

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

/// Sums of a tile over all pairs of planes, less the base of each row.
#[inline(always)]
unsafe fn tile<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    block: &Block<'_>,
    row: usize,
    panel: usize,
) -> [[L::V; NV]; MR] {
    // SAFETY: the caller guarantees that the tile lies inside a block that `Bgemm::check` has accepted: it has a product.
    unsafe {
        let (a, b) = (block.a.as_ptr().add(row), block.b.as_ptr().add(panel * block.stride));
        let counts = |pair: &Pair| {
            counts::<L, MR, NV, PREFIX>(block.k, a.add(pair.a * block.plane), block.lda, b.add(pair.b))
        };
        // The first product stands alone, so that the sums need not be kept while it is counted.
        let first = &*block.pairs.as_ptr();
        let mut sum = counts(first);
        if first.negative {
            for sum in sum.as_flattened_mut() {
                *sum = L::sub(L::zero(), *sum);
            }
        }
        for pair in block.pairs.get_unchecked(1..) {
            let count = counts(pair);
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
pub(super) unsafe fn bits<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
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
pub(super) unsafe fn ints<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
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
pub(super) unsafe fn floats<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
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

/// See [`Bgemm::lower`]. Plain code: compiled with the instruction set of the caller, it becomes vectors.
#[inline(always)]
pub(super) unsafe fn lower<const PREFIX: bool>(
    n: usize,
    offsets: &[usize],
    planes: *const u64,
    lda: usize,
    weight: i64,
    out: *mut u64,
    sums: *mut i64,
) {
    // SAFETY: the caller bounds the planes, the output and the sums (see `Bgemm::lower`).
    unsafe {
        for first in (0..n).step_by(8) {
            let (planes, out) = (planes.add(first), out.add(first));
            let mut run = [0u64; 8];
            for (w, offset) in offsets.iter().enumerate() {
                let from: &[u64; 8] = &*planes.add(*offset).cast();
                let to: &mut [u64; 8] = &mut *out.add(w * lda).cast();
                for i in 0..8 {
                    run[i] = if PREFIX { run[i] ^ from[i] } else { from[i] };
                }
                *to = run;
            }
            if PREFIX && offsets.len() % 2 == 1 {
                *out.add(offsets.len() * lda).cast() = run;
            }
            if !sums.is_null() {
                let sums: &mut [i64; 8] = &mut *sums.add(first).cast();
                for offset in offsets {
                    let from: &[u64; 8] = &*planes.add(*offset).cast();
                    for i in 0..8 {
                        sums[i] += weight * i64::from(from[i].count_ones());
                    }
                }
            }
        }
    }
}
