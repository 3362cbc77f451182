//! Float GEMM for one register tile, and the multiply-add of depthwise convolution.
//!
//! Every output is one chain `acc = fma(a[k], b[k], acc)` with `k` ascending, whatever the
//! instruction set, tile or thread count: floats are bit-exact across all of them.

/// Most columns of a panel of any rung.
pub const MAX_COLUMNS: usize = 32;

/// Verbs that an instruction set supplies. A vector is `LANES` floats.
///
/// # Safety
/// Methods may only be called where the CPU has the instruction set.
pub(super) unsafe trait FloatLanes {
    const LANES: usize;
    type V: Copy;
    unsafe fn zero() -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn splat(x: f32) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Bit `l` is `x[l] >= t[l]`.
    unsafe fn reaches(x: Self::V, t: Self::V) -> u32;
}

/// `(rows, k, a, lda, b, out)`
type ProductFn = unsafe fn(usize, usize, *const f32, usize, *const f32, *mut f32);
type MaddFn = unsafe fn(usize, *const f32, *const f32, *mut f32);
type ReachesFn = unsafe fn(usize, *const f32, *const f32) -> u64;

/// Float GEMM of one instruction set: any number of rows times one panel of weights, in tiles of `mr` rows and then
/// of one.
pub struct Fgemm {
    /// Name, the same in benches and docs.
    pub name: &'static str,
    /// Whether one instruction multiplies and adds; otherwise it is emulated and slow.
    pub fused: bool,
    /// Rows of a register tile.
    pub mr: usize,
    /// Columns of a tile: a panel of weights is `[k][nr]` floats.
    pub nr: usize,
    pub(super) product: ProductFn,
    pub(super) madd: MaddFn,
    pub(super) reaches: ReachesFn,
}

impl Fgemm {
    /// `out[i * nr + j] = sum_k a[i][k] * b[k][j]` for `rows` rows of `a`, `lda` apart; `b` is one panel.
    #[inline]
    pub fn product(&self, rows: usize, k: usize, a: &[f32], lda: usize, b: &[f32], out: &mut [f32]) {
        assert!(rows > 0 && k > 0);
        assert!(a.len() >= (rows - 1) * lda + k && b.len() >= k * self.nr);
        assert!(out.len() >= rows * self.nr);
        // SAFETY: an `Fgemm` is only reachable through `available()`, so the CPU has its instructions;
        // the assertions bound every access: a[(rows-1)*lda + k-1], b[k*nr-1], out[rows*nr-1].
        unsafe { (self.product)(rows, k, a.as_ptr(), lda, b.as_ptr(), out.as_mut_ptr()) }
    }

    /// Bit `i` is `x[i] >= t[i]`, for at most 64 floats.
    #[inline]
    pub fn reaches(&self, x: &[f32], t: &[f32]) -> u64 {
        assert!(x.len() == t.len() && x.len() <= 64);
        // SAFETY: reachable only on a CPU with these instructions; the two lengths are equal.
        unsafe { (self.reaches)(x.len(), x.as_ptr(), t.as_ptr()) }
    }

    /// `acc[i] = fma(x[i], w[i], acc[i])`.
    #[inline]
    pub fn madd(&self, x: &[f32], w: &[f32], acc: &mut [f32]) {
        assert!(x.len() == acc.len() && w.len() == acc.len());
        // SAFETY: reachable only on a CPU with these instructions; the three lengths are equal.
        unsafe { (self.madd)(acc.len(), x.as_ptr(), w.as_ptr(), acc.as_mut_ptr()) }
    }
}

/// See [`Fgemm::product`].
#[inline(always)]
pub(super) unsafe fn product<L: FloatLanes, const MR: usize, const NV: usize>(
    rows: usize,
    k: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    out: *mut f32,
) {
    // SAFETY: the caller bounds `a`, `b` and `out` (see `Fgemm::product`).
    unsafe {
        let mut r = 0;
        while r < rows {
            let (a, out) = (a.add(r * lda), out.add(r * NV * L::LANES));
            if r + MR <= rows {
                tile::<L, MR, NV>(k, a, lda, b, out);
                r += MR;
            } else {
                tile::<L, 1, NV>(k, a, lda, b, out);
                r += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<L: FloatLanes, const MR: usize, const NV: usize>(
    k: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    out: *mut f32,
) {
    // SAFETY: called by `product` for a tile that its caller has bounded.
    unsafe {
        let mut acc = [[L::zero(); NV]; MR];
        for kk in 0..k {
            let mut bv = [L::zero(); NV];
            for j in 0..NV {
                bv[j] = L::load(b.add((kk * NV + j) * L::LANES));
            }
            for i in 0..MR {
                let av = L::splat(*a.add(i * lda + kk));
                for j in 0..NV {
                    acc[i][j] = L::fma(av, bv[j], acc[i][j]);
                }
            }
        }
        for i in 0..MR {
            for j in 0..NV {
                L::store(out.add((i * NV + j) * L::LANES), acc[i][j]);
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn madd<L: FloatLanes>(n: usize, x: *const f32, w: *const f32, acc: *mut f32) {
    // SAFETY: the caller guarantees `n` floats behind each pointer (see `Fgemm::madd`).
    unsafe {
        let whole = n - n % L::LANES;
        let mut i = 0;
        while i < whole {
            let v = L::fma(L::load(x.add(i)), L::load(w.add(i)), L::load(acc.add(i)));
            L::store(acc.add(i), v);
            i += L::LANES;
        }
        while i < n {
            *acc.add(i) = super::scalar::fma(*x.add(i), *w.add(i), *acc.add(i));
            i += 1;
        }
    }
}

#[inline(always)]
pub(super) unsafe fn reaches<L: FloatLanes>(n: usize, x: *const f32, t: *const f32) -> u64 {
    // SAFETY: the caller guarantees `n <= 64` floats behind each pointer (see `Fgemm::reaches`).
    unsafe {
        let whole = n - n % L::LANES;
        let (mut mask, mut i) = (0, 0);
        while i < whole {
            mask |= u64::from(L::reaches(L::load(x.add(i)), L::load(t.add(i)))) << i;
            i += L::LANES;
        }
        while i < n {
            mask |= u64::from(*x.add(i) >= *t.add(i)) << i;
            i += 1;
        }
        mask
    }
}
