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

mod lower;
mod sinks;
mod tile;

pub(super) use lower::lower;
pub(super) use sinks::{bits, floats, ints};

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
    /// Plane of weights in each panel of [`Block::b`].
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
/// `(n, offsets, planes, lda, weight, out, sums)`, see [`Bgemm::lower`].
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
        let reach = (limits.steps - 1).saturating_mul(limits.step).saturating_add(n);
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
        assert!(n > 0 && n <= out.len());
        let (k, whole) = (self.padded(offsets.of.len()), n.next_multiple_of(8));
        assert!(k > 0 && planes.len() >= at.saturating_add(offsets.largest).saturating_add(whole));
        assert!(out.len() >= (k - 1).saturating_mul(lda).saturating_add(whole));
        assert!(sums.is_empty() || sums.len() >= whole);
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
        // Nothing may wrap: sizes are the caller's, and a slice is never as long as the largest number.
        let reach_a = (k - 1).saturating_mul(lda).saturating_add(rows);
        let panel = k.saturating_mul(self.nr);
        let reach_b = (panels - 1).saturating_mul(stride).saturating_add(panel);
        for p in pairs {
            assert!(p.a.saturating_mul(plane).saturating_add(reach_a) <= a.len());
            assert!(p.b.saturating_mul(panel).saturating_add(reach_b) <= b.len());
        }
        panels.saturating_mul(self.nr)
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
