//! Float GEMM for one register tile, depthwise convolution, and comparisons.
//!
//! Every output is one chain `acc = fma(a[k], b[k], acc)` with `k` ascending, whatever the
//! instruction set, tile or thread count: floats are bit-exact across all of them.
//!
//! Rows of `a` are not copied together: a row is the same few runs of floats, shifted, so a convolution multiplies
//! straight from its map (Dukhan, "The Indirect Convolution Algorithm", 2019, with offsets for pointers).

/// Most columns of a panel of any rung.
pub const MAX_COLUMNS: usize = 32;
/// Pixels of a depthwise tile: more chains than the multiply-adds that a CPU has in flight.
const PIXELS: usize = 8;

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
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Bit `l` is `x[l] >= t[l]`.
    unsafe fn reaches(x: Self::V, t: Self::V) -> u32;
}

/// Rows of floats: row `i` is the runs `a[i * stride + tap..][..run]`, one for each tap, one after the other.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// What the rows are read from.
    pub a: &'a [f32],
    /// Number of rows.
    pub count: usize,
    /// Floats from one row to the next.
    pub stride: usize,
    /// Where the runs of the first row start.
    pub taps: &'a [usize],
    /// Floats of a run.
    pub run: usize,
}

impl Rows<'_> {
    /// Floats of a row.
    fn k(&self) -> usize {
        self.taps.len().saturating_mul(self.run)
    }
    /// Panics unless every float of every row is inside `a`.
    fn check(&self) {
        let last = self.taps.iter().max().expect("taps");
        assert!(self.count > 0 && self.run > 0);
        let first = (self.count - 1).saturating_mul(self.stride);
        assert!(self.a.len() >= first.saturating_add(*last).saturating_add(self.run));
    }
}

/// Where results go: row `i` is `out[i * stride..][..width]`.
pub struct Target<'a> {
    /// What is written to.
    pub out: &'a mut [f32],
    /// Floats from one row to the next.
    pub stride: usize,
    /// Columns that are written.
    pub width: usize,
}

impl Target<'_> {
    fn check(&self, rows: usize) {
        let last = (rows - 1).saturating_mul(self.stride);
        assert!(self.width > 0 && self.out.len() >= last.saturating_add(self.width));
    }
}

/// What a kernel gets: [`Rows`] and [`Target`] after their checks, and the operands.
pub(super) struct Operands<'a> {
    rows: Rows<'a>,
    b: *const f32,
    /// One for each column of the panel, or null.
    bias: *const f32,
    out: *mut f32,
    stride: usize,
    width: usize,
}

type OperandsFn = unsafe fn(&Operands<'_>);
type ReachesFn = unsafe fn(usize, *const f32, *const f32) -> u64;
/// `(pixels, c, x, t, flips, out)`
type SignsFn = unsafe fn(usize, usize, *const f32, *const f32, *const u64, *mut u64);

/// Float kernels of one instruction set. The macro `float_kernels` makes one.
pub struct Fgemm {
    /// Name, the same in benches and docs.
    pub name: &'static str,
    /// Whether one instruction multiplies and adds; otherwise it is emulated and slow.
    pub fused: bool,
    /// Rows of a register tile.
    pub mr: usize,
    /// Columns of a tile: a panel of weights is `[k][nr]` floats.
    pub nr: usize,
    pub(super) product: OperandsFn,
    pub(super) depthwise: OperandsFn,
    pub(super) reaches: ReachesFn,
    pub(super) signs: SignsFn,
}

/// Makes the constant `FGEMM` of an instruction set: `(verbs, rows x columns of a tile, name of the rung, whether `fma`
/// is one instruction, instructions that must be enabled)`. The sizes are written once, because a kernel that is
/// larger than its `Fgemm` says would read and write out of bounds.
macro_rules! float_kernels {
    ($lanes:ident, $mr:literal x $nr:literal, $isa:literal, fused: $fused:literal $(, $features:literal)?) => {
        pub(super) const FGEMM: fgemm::Fgemm = {
            const LANES: usize = <$lanes as fgemm::FloatLanes>::LANES;
            const NV: usize = $nr / LANES;
            assert!(NV * LANES == $nr && $nr <= fgemm::MAX_COLUMNS);
            $(#[target_feature(enable = $features)])?
            unsafe fn product(operands: &fgemm::Operands<'_>) {
                // SAFETY: bounds are passed on from `Fgemm`; the instructions are enabled on this function.
                unsafe { fgemm::product::<$lanes, $mr, NV>(operands) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn depthwise(operands: &fgemm::Operands<'_>) {
                // SAFETY: bounds are passed on from `Fgemm`; the instructions are enabled on this function.
                unsafe { fgemm::depthwise::<$lanes>(operands) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn reaches(n: usize, x: *const f32, t: *const f32) -> u64 {
                // SAFETY: bounds are passed on from `Fgemm`; the instructions are enabled on this function.
                unsafe { fgemm::reaches::<$lanes>(n, x, t) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn signs(n: usize, c: usize, x: *const f32, t: *const f32, flips: *const u64, out: *mut u64) {
                // SAFETY: bounds are passed on from `Fgemm`; the instructions are enabled on this function.
                unsafe { fgemm::signs::<$lanes>(n, c, x, t, flips, out) }
            }
            fgemm::Fgemm {
                name: concat!("fgemm_", $mr, "x", $nr, "_", $isa),
                fused: $fused,
                mr: $mr,
                nr: $nr,
                product,
                depthwise,
                reaches,
                signs,
            }
        };
    };
}
pub(super) use float_kernels;

impl Fgemm {
    /// `out[i * nr + j] = sum_k a[i][k] * b[k][j]` for `rows` rows of `a`, `lda` apart; `b` is one panel.
    #[inline]
    pub fn product(&self, rows: usize, k: usize, a: &[f32], lda: usize, b: &[f32], out: &mut [f32]) {
        let rows = Rows { a, count: rows, stride: lda, taps: &[0], run: k };
        self.multiply(rows, b, None, Target { out, stride: self.nr, width: self.nr });
    }

    /// `out[i][j] = sum_k rows[i][k] * b[k][j] + bias[j]`; `b` and `bias` are one panel of `nr` columns, of which the
    /// first `target.width` are written. Without a bias nothing is added, not even 0.
    #[inline]
    pub fn multiply(&self, rows: Rows<'_>, b: &[f32], bias: Option<&[f32]>, target: Target<'_>) {
        rows.check();
        target.check(rows.count);
        assert!(target.width <= self.nr && b.len() >= rows.k().saturating_mul(self.nr));
        assert!(bias.is_none_or(|bias| bias.len() >= self.nr));
        let operands = Operands {
            rows,
            b: b.as_ptr(),
            bias: bias.map_or(core::ptr::null(), <[f32]>::as_ptr),
            out: target.out.as_mut_ptr(),
            stride: target.stride,
            width: target.width,
        };
        // SAFETY: an `Fgemm` is only reachable through `available()`, so the CPU has its instructions; the checks
        // bound every row, `k * nr` weights, `nr` biases and `width` floats of every row of the output.
        unsafe { (self.product)(&operands) }
    }

    /// `out[i][c] = sum_taps a[i * stride + tap + c] * w[tap][c] + bias[c]` for the `rows.run` channels of a pixel.
    #[inline]
    pub fn depthwise(&self, rows: Rows<'_>, w: &[f32], bias: &[f32], target: Target<'_>) {
        rows.check();
        target.check(rows.count);
        assert!(target.width == rows.run && w.len() >= rows.k() && bias.len() >= rows.run);
        let operands = Operands {
            rows,
            b: w.as_ptr(),
            bias: bias.as_ptr(),
            out: target.out.as_mut_ptr(),
            stride: target.stride,
            width: target.width,
        };
        // SAFETY: as in `multiply`; weights and biases have a float for each tap and channel.
        unsafe { (self.depthwise)(&operands) }
    }

    /// Bit `i` is `x[i] >= t[i]`, for at most 64 floats.
    #[inline]
    pub fn reaches(&self, x: &[f32], t: &[f32]) -> u64 {
        assert!(x.len() == t.len() && x.len() <= 64);
        // SAFETY: reachable only on a CPU with these instructions; the two lengths are equal.
        unsafe { (self.reaches)(x.len(), x.as_ptr(), t.as_ptr()) }
    }

    /// Bit `c` of a pixel is `(x[c] >= t[c]) != flips[c]`, for whole pixels of `t.len()` floats; every pixel starts a
    /// word.
    #[inline]
    pub fn signs(&self, x: &[f32], t: &[f32], flips: &[u64], out: &mut [u64]) {
        let (c, words) = (t.len(), t.len().div_ceil(64));
        let pixels = x.len() / c;
        assert!(flips.len() >= words && out.len() >= pixels * words);
        // SAFETY: reachable only on a CPU with these instructions; `pixels * c` floats are read, `pixels * words` words
        // are written, and there are `c` thresholds and `words` words of flips.
        unsafe { (self.signs)(pixels, c, x.as_ptr(), t.as_ptr(), flips.as_ptr(), out.as_mut_ptr()) }
    }
}

/// See [`Fgemm::multiply`].
#[inline(always)]
pub(super) unsafe fn product<L: FloatLanes, const MR: usize, const NV: usize>(operands: &Operands<'_>) {
    // SAFETY: the caller bounds the operands (see `Fgemm::multiply`).
    unsafe {
        if operands.width <= L::LANES {
            tiles::<L, MR, 1, NV>(operands);
        } else {
            tiles::<L, MR, NV, NV>(operands);
        }
    }
}

/// All rows, in tiles of `MR` and then of 8, 7 (the last maps of ImageNet), 4, 2 and 1; `NV` vectors of the `PV` of a panel.
#[inline(always)]
unsafe fn tiles<L: FloatLanes, const MR: usize, const NV: usize, const PV: usize>(operands: &Operands<'_>) {
    let count = operands.rows.count;
    let mut r = 0;
    // SAFETY: every tile ends before `count`, and the caller bounds that many rows.
    unsafe {
        while r + MR <= count {
            tile::<L, MR, NV, PV>(operands, r);
            r += MR;
        }
        if MR > 8 && r + 8 <= count {
            tile::<L, 8, NV, PV>(operands, r);
            r += 8;
        }
        if MR > 7 && r + 7 == count {
            tile::<L, 7, NV, PV>(operands, r);
            r += 7;
        }
        if MR > 4 && r + 4 <= count {
            tile::<L, 4, NV, PV>(operands, r);
            r += 4;
        }
        if MR > 2 && r + 2 <= count {
            tile::<L, 2, NV, PV>(operands, r);
            r += 2;
        }
        while r < count {
            tile::<L, 1, NV, PV>(operands, r);
            r += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile<L: FloatLanes, const M: usize, const NV: usize, const PV: usize>(
    operands: &Operands<'_>,
    first: usize,
) {
    let Operands { rows, bias, width, .. } = *operands;
    // SAFETY: called by `tiles` for rows that its caller has bounded.
    unsafe {
        let mut acc = [[L::zero(); NV]; M];
        let mut b = operands.b;
        for tap in rows.taps {
            let a = rows.a.as_ptr().add(first * rows.stride + tap);
            for kk in 0..rows.run {
                let mut bv = [L::zero(); NV];
                for j in 0..NV {
                    bv[j] = L::load(b.add(j * L::LANES));
                }
                for i in 0..M {
                    let av = L::splat(*a.add(i * rows.stride + kk));
                    for j in 0..NV {
                        acc[i][j] = L::fma(av, bv[j], acc[i][j]);
                    }
                }
                b = b.add(PV * L::LANES);
            }
        }
        if !bias.is_null() {
            for j in 0..NV {
                let bias = L::load(bias.add(j * L::LANES));
                for i in 0..M {
                    acc[i][j] = L::add(acc[i][j], bias);
                }
            }
        }
        let out = operands.out.add(first * operands.stride);
        if width >= NV * L::LANES {
            for i in 0..M {
                for j in 0..NV {
                    L::store(out.add(i * operands.stride + j * L::LANES), acc[i][j]);
                }
            }
        } else {
            // Loops of fixed length only: otherwise the sums would live in memory all along.
            let mut columns = [[0.0f32; MAX_COLUMNS]; M];
            for i in 0..M {
                for j in 0..NV {
                    L::store(columns[i].as_mut_ptr().add(j * L::LANES), acc[i][j]);
                }
            }
            for i in 0..M {
                core::ptr::copy_nonoverlapping(columns[i].as_ptr(), out.add(i * operands.stride), width);
            }
        }
    }
}

/// See [`Fgemm::depthwise`].
#[inline(always)]
pub(super) unsafe fn depthwise<L: FloatLanes>(operands: &Operands<'_>) {
    let Rows { count, .. } = operands.rows;
    // SAFETY: every tile ends before `count`, and the caller bounds that many rows (see `Fgemm::depthwise`).
    unsafe {
        let mut r = 0;
        while r < count {
            if r + PIXELS <= count {
                pixels::<L, PIXELS>(operands, r);
                r += PIXELS;
            } else {
                pixels::<L, 1>(operands, r);
                r += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn pixels<L: FloatLanes, const P: usize>(operands: &Operands<'_>, first: usize) {
    let Operands { rows, b, bias, .. } = *operands;
    // SAFETY: called by `depthwise` for rows that its caller has bounded; vectors end before channel `rows.run`.
    unsafe {
        let a = rows.a.as_ptr().add(first * rows.stride);
        let out = operands.out.add(first * operands.stride);
        let whole = rows.run - rows.run % L::LANES;
        let mut c = 0;
        while c < whole {
            let mut acc = [L::zero(); P];
            let mut w = b.add(c);
            for tap in rows.taps {
                let wv = L::load(w);
                for i in 0..P {
                    acc[i] = L::fma(L::load(a.add(i * rows.stride + tap + c)), wv, acc[i]);
                }
                w = w.add(rows.run);
            }
            for i in 0..P {
                L::store(out.add(i * operands.stride + c), L::add(acc[i], L::load(bias.add(c))));
            }
            c += L::LANES;
        }
        for c in whole..rows.run {
            for i in 0..P {
                let mut acc = 0.0;
                for (t, tap) in rows.taps.iter().enumerate() {
                    acc =
                        super::scalar::fma(*a.add(i * rows.stride + tap + c), *b.add(t * rows.run + c), acc);
                }
                *out.add(i * operands.stride + c) = acc + *bias.add(c);
            }
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

/// See [`Fgemm::signs`].
#[inline(always)]
pub(super) unsafe fn signs<L: FloatLanes>(
    pixels: usize,
    c: usize,
    x: *const f32,
    t: *const f32,
    flips: *const u64,
    out: *mut u64,
) {
    let (whole, words) = (c / 64, c.div_ceil(64));
    // SAFETY: the caller guarantees `pixels * c` floats, `c` thresholds, and words for them (see `Fgemm::signs`).
    unsafe {
        for p in 0..pixels {
            let (x, out) = (x.add(p * c), out.add(p * words));
            for w in 0..whole {
                *out.add(w) = reaches::<L>(64, x.add(w * 64), t.add(w * 64)) ^ *flips.add(w);
            }
            if whole < words {
                let (at, n) = (whole * 64, c - whole * 64);
                let mask = reaches::<L>(n, x.add(at), t.add(at)) ^ *flips.add(whole);
                *out.add(whole) = mask & crate::bits::low_mask(n);
            }
        }
    }
}
