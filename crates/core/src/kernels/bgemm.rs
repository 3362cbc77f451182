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

/// `(rows, k, a, lda, b, out)`
type CountsFn = unsafe fn(usize, usize, *const u64, usize, *const u64, *mut u32);
/// `(rows, k, a, lda, b, limits, at, out)`
type BitsFn = unsafe fn(usize, usize, *const u64, usize, *const u64, *const u32, *const usize, *mut u32);
/// `(n, counts, offsets, [center, scale, bias], out)`
type AffineFn = unsafe fn(usize, *const u32, *const i32, [*const f32; 3], *mut f32);

/// Binary GEMM of one instruction set: any number of rows times one panel of weights, in tiles of `mr` rows and
/// then of one.
pub struct Bgemm {
    /// Name, the same in benches and docs.
    pub name: &'static str,
    /// Rows of a register tile.
    pub mr: usize,
    /// Channels of a tile: a panel of weights is `[k][nr]` words.
    pub nr: usize,
    /// True when operands are prefix-XORed along K and K is even.
    pub prefix: bool,
    pub(super) counts: CountsFn,
    pub(super) bits: BitsFn,
    pub(super) affine: AffineFn,
}

impl Bgemm {
    /// Words of a row of `k` words after padding for this kernel.
    pub const fn padded(&self, k: usize) -> usize {
        if self.prefix { k.next_multiple_of(2) } else { k }
    }

    /// `out[i * nr + j] = popcount(a[i] ^ b[j])` for `rows` rows of `a`.
    ///
    /// `a` is rows of `k` words, `lda` apart; `b` is one panel `[k][nr]`. Both are padded and, for a
    /// prefix kernel, prefix-XORed.
    #[inline]
    pub fn counts(&self, rows: usize, k: usize, a: &[u64], lda: usize, b: &[u64], out: &mut [u32]) {
        self.check(rows, k, a, lda, b);
        assert!(out.len() >= rows * self.nr);
        // SAFETY: a `Bgemm` is only reachable through `available()`, so the CPU has its instructions;
        // `check` and the assertion above bound every access: a[(rows-1)*lda + k-1], b[k*nr-1], out[rows*nr-1].
        unsafe { (self.counts)(rows, k, a.as_ptr(), lda, b.as_ptr(), out.as_mut_ptr()) }
    }

    /// Bit `j` of `out[i]` is `popcount(a[i] ^ b[j]) < limits[at[i] + j]`, for `j` in `0..nr` and `rows` rows of `a`.
    #[inline]
    pub fn bits(
        &self,
        rows: usize,
        k: usize,
        a: &[u64],
        lda: usize,
        b: &[u64],
        limits: &[u32],
        at: &[usize],
        out: &mut [u32],
    ) {
        self.check(rows, k, a, lda, b);
        assert!(at.len() >= rows && out.len() >= rows);
        let last = limits.len().checked_sub(self.nr).expect("limits for a panel");
        assert!(at[..rows].iter().all(|at| *at <= last));
        // SAFETY: as in `counts`; the assertions bound at[rows-1], limits[at[i]+nr-1] and out[rows-1].
        unsafe {
            let (limits, at) = (limits.as_ptr(), at.as_ptr());
            (self.bits)(rows, k, a.as_ptr(), lda, b.as_ptr(), limits, at, out.as_mut_ptr());
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
        assert!(rows > 0 && k > 0 && (!self.prefix || k.is_multiple_of(2)));
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

/// See [`Bgemm::counts`].
#[inline(always)]
pub(super) unsafe fn counts<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    rows: usize,
    k: usize,
    a: *const u64,
    lda: usize,
    b: *const u64,
    out: *mut u32,
) {
    // SAFETY: the caller bounds `a`, `b` and `out` (see `Bgemm::counts`).
    unsafe {
        let mut r = 0;
        while r < rows {
            let (a, out) = (a.add(r * lda), out.add(r * NV * L::LANES));
            if r + MR <= rows {
                store::<L, MR, NV>(tile::<L, MR, NV, PREFIX>(k, a, lda, b), out);
                r += MR;
            } else {
                store::<L, 1, NV>(tile::<L, 1, NV, PREFIX>(k, a, lda, b), out);
                r += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn store<L: BitLanes, const MR: usize, const NV: usize>(sum: [[L::V; NV]; MR], out: *mut u32) {
    // SAFETY: called by `counts` for a tile that its caller has bounded.
    unsafe {
        for i in 0..MR {
            for j in 0..NV {
                L::store_u32(out.add((i * NV + j) * L::LANES), sum[i][j]);
            }
        }
    }
}

/// See [`Bgemm::bits`].
#[inline(always)]
pub(super) unsafe fn bits<L: BitLanes, const MR: usize, const NV: usize, const PREFIX: bool>(
    rows: usize,
    k: usize,
    a: *const u64,
    lda: usize,
    b: *const u64,
    limits: *const u32,
    at: *const usize,
    out: *mut u32,
) {
    // SAFETY: the caller bounds `a`, `b`, `limits`, `at` and `out` (see `Bgemm::bits`).
    unsafe {
        let mut r = 0;
        while r < rows {
            let (a, at, out) = (a.add(r * lda), at.add(r), out.add(r));
            if r + MR <= rows {
                compare::<L, MR, NV>(tile::<L, MR, NV, PREFIX>(k, a, lda, b), limits, at, out);
                r += MR;
            } else {
                compare::<L, 1, NV>(tile::<L, 1, NV, PREFIX>(k, a, lda, b), limits, at, out);
                r += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn compare<L: BitLanes, const MR: usize, const NV: usize>(
    sum: [[L::V; NV]; MR],
    limits: *const u32,
    at: *const usize,
    out: *mut u32,
) {
    // SAFETY: called by `bits` for a tile that its caller has bounded.
    unsafe {
        for i in 0..MR {
            let limits = limits.add(*at.add(i));
            let mut mask = 0;
            for j in 0..NV {
                mask |= L::less_than(sum[i][j], limits.add(j * L::LANES)) << (j * L::LANES);
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
