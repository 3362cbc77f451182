//! Binary GEMM: `count[m][n] = popcount(a[m] ^ b[n])` over rows of words, for one register tile.
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

/// Most rows of a register tile of any rung.
pub const MAX_ROWS: usize = 4;
use crate::ops::transform;

/// Largest register tile of any rung, in cells (rows x channels).
pub const MAX_TILE: usize = MAX_ROWS * 16;

/// Verbs that an instruction set supplies. A vector is `LANES` words.
///
/// # Safety
/// Methods may only be called where the CPU has the instruction set.
pub(super) unsafe trait BitLanes {
    const LANES: usize;
    /// Additions of popcounts that `Acc` can hold before it must be flushed.
    const FLUSH: usize;
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
    /// `acc + popcount(x)` in every lane.
    unsafe fn add_popcount(acc: Self::Acc, x: Self::V) -> Self::Acc;
    /// `sum + acc`, with 64-bit lanes.
    unsafe fn flush(sum: Self::V, acc: Self::Acc) -> Self::V;
    /// `2 * sum` in 64-bit lanes.
    unsafe fn double(sum: Self::V) -> Self::V;
    /// Stores the lanes as `LANES` 32-bit integers.
    unsafe fn store_u32(out: *mut u32, counts: Self::V);
    /// Bit `l` is `counts[l] < limits[l]`.
    unsafe fn less_than(counts: Self::V, limits: *const u32) -> u32;
}

type CountsFn = unsafe fn(usize, *const u64, usize, *const u64, *mut u32);
type BitsFn = unsafe fn(usize, *const u64, usize, *const u64, *const *const u32, *mut u32);

type AffineFn = unsafe fn(usize, *const u32, *const i32, [*const f32; 3], *mut f32);

/// Binary GEMM of one instruction set: a wide tile and a one-row tile.
pub struct Bgemm {
    /// Name, the same in benches and docs.
    pub name: &'static str,
    /// Rows of the wide tile.
    pub mr: usize,
    /// Channels of both tiles: a panel of weights is `[k][nr]` words.
    pub nr: usize,
    /// True when operands are prefix-XORed along K and K is even.
    pub prefix: bool,
    pub(super) counts: [CountsFn; 2],
    pub(super) bits: [BitsFn; 2],
    pub(super) affine: AffineFn,
}

impl Bgemm {
    /// Words of a row of `k` words after padding for this kernel.
    pub const fn padded(&self, k: usize) -> usize {
        if self.prefix { k.next_multiple_of(2) } else { k }
    }

    /// `out[i * nr + j] = popcount(a[i] ^ b[j])` for `rows` rows of `a` (either `mr` or 1).
    ///
    /// `a` is rows of `k` words, `lda` apart; `b` is one panel `[k][nr]`. Both are padded and, for a
    /// prefix kernel, prefix-XORed.
    #[inline]
    pub fn counts(&self, rows: usize, k: usize, a: &[u64], lda: usize, b: &[u64], out: &mut [u32]) {
        self.check(rows, k, a, lda, b);
        assert!(out.len() >= rows * self.nr);
        // SAFETY: a `Bgemm` is only reachable through `available()`, so the CPU has its instructions;
        // `check` and the assertion above bound every access: a[(rows-1)*lda + k-1], b[k*nr-1], out[rows*nr-1].
        unsafe { self.counts[usize::from(rows == 1)](k, a.as_ptr(), lda, b.as_ptr(), out.as_mut_ptr()) }
    }

    /// Bit `j` of `out[i]` is `popcount(a[i] ^ b[j]) < limits[i][j]`, for `j` in `0..nr`.
    #[inline]
    pub fn bits(
        &self,
        rows: usize,
        k: usize,
        a: &[u64],
        lda: usize,
        b: &[u64],
        limits: &[&[u32]; MAX_ROWS],
        out: &mut [u32; MAX_ROWS],
    ) {
        self.check(rows, k, a, lda, b);
        assert!(rows <= MAX_ROWS && limits[..rows].iter().all(|l| l.len() >= self.nr));
        let limits = limits.map(|l| l.as_ptr());
        // SAFETY: as in `counts`; the assertion bounds limits[i][nr-1] and out[rows-1].
        unsafe {
            self.bits[usize::from(rows == 1)](
                k,
                a.as_ptr(),
                lda,
                b.as_ptr(),
                limits.as_ptr(),
                out.as_mut_ptr(),
            )
        }
    }

    /// `out[j] = ((offsets[j] - 2 * counts[j]) - center[j]) * scale[j] + bias[j]`, each float step rounded.
    #[inline]
    pub fn affine(
        &self,
        counts: &[u32],
        offsets: &[i32],
        [center, scale, bias]: [&[f32]; 3],
        out: &mut [f32],
    ) {
        let n = out.len();
        assert!(counts.len() >= n && offsets.len() >= n);
        assert!(center.len() >= n && scale.len() >= n && bias.len() >= n);
        // SAFETY: reachable only on a CPU with these instructions; every slice has at least `n` elements.
        unsafe {
            let constants = [center.as_ptr(), scale.as_ptr(), bias.as_ptr()];
            (self.affine)(n, counts.as_ptr(), offsets.as_ptr(), constants, out.as_mut_ptr());
        }
    }

    #[inline]
    fn check(&self, rows: usize, k: usize, a: &[u64], lda: usize, b: &[u64]) {
        assert!(rows == self.mr || rows == 1);
        assert!(k > 0 && (!self.prefix || k.is_multiple_of(2)));
        assert!(a.len() >= (rows - 1) * lda + k && b.len() >= k * self.nr);
    }
}

/// Counts of an `MR x (NV * LANES)` tile, in 64-bit lanes.
#[inline(always)]
unsafe fn tile<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    k: usize,
    a: *const u64,
    lda: usize,
    b: *const u64,
) -> [[L::V; NV]; MR] {
    // SAFETY: the caller guarantees the instruction set and rows of `k` words (see `Bgemm::counts`).
    unsafe {
        let mut sum = [[L::zero(); NV]; MR];
        let mut y = [[L::zero(); NV]; MR];
        let (mut a, mut b) = (a, b);
        let step = if PREFIX { 2 } else { 1 };
        let mut left = k / step;
        while left > 0 {
            let run = if left < L::FLUSH { left } else { L::FLUSH };
            left -= run;
            let mut acc = [[L::acc_zero(); NV]; MR];
            // Two steps per turn: the running parities of one feed the other without register moves.
            for _ in 0..run / 2 {
                one_step::<L, MR, NV, PREFIX>(a, lda, b, &mut acc, &mut y);
                let (a2, b2) = (a.add(step), b.add(step * NV * L::LANES));
                one_step::<L, MR, NV, PREFIX>(a2, lda, b2, &mut acc, &mut y);
                a = a.add(2 * step);
                b = b.add(2 * step * NV * L::LANES);
            }
            if run % 2 == 1 {
                one_step::<L, MR, NV, PREFIX>(a, lda, b, &mut acc, &mut y);
                a = a.add(step);
                b = b.add(step * NV * L::LANES);
            }
            for i in 0..MR {
                for j in 0..NV {
                    sum[i][j] = L::flush(sum[i][j], acc[i][j]);
                }
            }
        }
        if PREFIX {
            for i in 0..MR {
                for j in 0..NV {
                    let parity = L::add_popcount(L::acc_zero(), y[i][j]);
                    sum[i][j] = L::flush(L::double(sum[i][j]), parity);
                }
            }
        }
        sum
    }
}

#[inline(always)]
unsafe fn one_step<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    a: *const u64,
    lda: usize,
    b: *const u64,
    acc: &mut [[L::Acc; NV]; MR],
    y: &mut [[L::V; NV]; MR],
) {
    // SAFETY: called by `tile` for words that its caller has bounded.
    unsafe {
        let mut b1 = [L::zero(); NV];
        let mut b2 = [L::zero(); NV];
        for j in 0..NV {
            b1[j] = L::load(b.add(j * L::LANES));
            if PREFIX {
                b2[j] = L::load(b.add((NV + j) * L::LANES));
            }
        }
        for i in 0..MR {
            let a1 = L::splat(*a.add(i * lda));
            if PREFIX {
                let a2 = L::splat(*a.add(i * lda + 1));
                for j in 0..NV {
                    let y1 = L::xor(a1, b1[j]);
                    let y2 = L::xor(a2, b2[j]);
                    acc[i][j] = L::add_popcount(acc[i][j], L::carry(y[i][j], y1, y2));
                    y[i][j] = y2;
                }
            } else {
                for j in 0..NV {
                    acc[i][j] = L::add_popcount(acc[i][j], L::xor(a1, b1[j]));
                }
            }
        }
    }
}

/// Writes the counts of a tile as `[MR][NV * LANES]` integers.
#[inline(always)]
pub(super) unsafe fn counts<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    k: usize,
    a: *const u64,
    lda: usize,
    b: *const u64,
    out: *mut u32,
) {
    // SAFETY: the caller bounds `a`, `b` and `out` (see `Bgemm::counts`).
    unsafe {
        let sum = tile::<L, MR, NV, PREFIX>(k, a, lda, b);
        for i in 0..MR {
            for j in 0..NV {
                L::store_u32(out.add((i * NV + j) * L::LANES), sum[i][j]);
            }
        }
    }
}

/// Compares the counts of a tile with limits; one mask per row.
#[inline(always)]
pub(super) unsafe fn bits<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    k: usize,
    a: *const u64,
    lda: usize,
    b: *const u64,
    limits: *const *const u32,
    out: *mut u32,
) {
    // SAFETY: the caller bounds `a`, `b`, `limits` and `out` (see `Bgemm::bits`).
    unsafe {
        let sum = tile::<L, MR, NV, PREFIX>(k, a, lda, b);
        for i in 0..MR {
            let limit = *limits.add(i);
            let mut mask = 0;
            for j in 0..NV {
                mask |= L::less_than(sum[i][j], limit.add(j * L::LANES)) << (j * L::LANES);
            }
            *out.add(i) = mask;
        }
    }
}

/// See [`Bgemm::affine`]. Plain code: compiled with the instruction set of the caller, it becomes vectors.
#[inline(always)]
pub(super) unsafe fn affine(
    n: usize,
    counts: *const u32,
    offsets: *const i32,
    constants: [*const f32; 3],
    out: *mut f32,
) {
    // SAFETY: the caller guarantees `n` elements behind each pointer (see `Bgemm::affine`), and `out` is a
    // unique slice there.
    unsafe {
        let (counts, offsets) =
            (core::slice::from_raw_parts(counts, n), core::slice::from_raw_parts(offsets, n));
        let [center, scale, bias] = constants.map(|p| core::slice::from_raw_parts(p, n));
        let out = core::slice::from_raw_parts_mut(out, n);
        for i in 0..n {
            let acc = offsets[i].wrapping_sub((counts[i] as i32).wrapping_mul(2));
            out[i] = transform::affine(acc as f32, center[i], scale[i], bias[i]);
        }
    }
}
