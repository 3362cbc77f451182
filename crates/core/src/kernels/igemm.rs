//! Integer GEMM: `sum[m][n] = start[n] + sum over k of a[m][k] * b[n][k]`, bytes without a sign times bytes with
//! one, for one register tile. Exact: nothing saturates, sums are 32 bits wide and wrap.
//!
//! Lanes are output channels, as in `bgemm`: four bytes of a row of `a` are broadcast against four weights of as
//! many channels as a vector has 32-bit lanes, the shape of the dot product instructions (`vpdpbusd`, `usdot`).
//!
//! A panel of weights starts with one 32-bit sum per channel, which every row's sums begin with. Instruction sets
//! that have no product of mixed signs take `a - 128` and find the correction `128 * sum(b)` there, so
//! callers see one interface. Activations with a sign are stored as `x + 128`, and `-128 * sum(b)` goes
//! into `start`.

use crate::ops::transform;

/// Most channels of a panel of any rung.
pub const MAX_OUTPUTS: usize = 64;

/// Verbs that an instruction set supplies. A vector is `LANES` sums of 32 bits.
///
/// # Safety
/// Methods may only be called where the CPU has the instruction set.
pub(super) unsafe trait IntLanes {
    /// Name, the same in benches and docs.
    const NAME: &'static str;
    const LANES: usize;
    /// `splat` may return `a - SHIFT`: 0 or 128.
    const SHIFT: i32 = 0;
    /// Largest magnitude of a weight with which `dot` is exact.
    const LARGEST_WEIGHT: u8 = 128;
    /// See [`Igemm::pairs`].
    const PAIRS: [usize; 2] = [5, 5];
    /// Sums.
    type V: Copy;
    /// Sums while they are made: parts of a lane may be apart.
    type Acc: Copy;
    /// Four activations for every lane.
    type A: Copy;
    /// Four weights of every lane.
    type B: Copy;
    /// Whether the CPU has the instructions.
    fn available() -> bool;
    /// [`work`] with these verbs, compiled with the instruction set.
    unsafe fn run<const MR: usize, const NV: usize>(job: &Work) -> u64;
    unsafe fn zero() -> Self::Acc;
    unsafe fn splat(p: *const u8) -> Self::A;
    unsafe fn weights(p: *const i8) -> Self::B;
    /// Adds four products to every lane.
    unsafe fn dot(acc: Self::Acc, a: Self::A, b: Self::B) -> Self::Acc;
    /// `acc + start` in every lane.
    unsafe fn finish(acc: Self::Acc, start: Self::V) -> Self::V;
    unsafe fn load(p: *const i32) -> Self::V;
    unsafe fn store(p: *mut i32, sums: Self::V);
    /// Bit `l` is `sums[l] >= limits[l]`.
    unsafe fn reaches(sums: Self::V, limits: Self::V) -> u32;
}

/// What an entry does. One entry for all of it: an instruction set is enabled once per kernel.
pub(super) enum Work {
    Product {
        rows: usize,
        panels: usize,
        k: usize,
        a: *const u8,
        lda: usize,
        b: *const i8,
        end: End,
    },
    Affine {
        rows: usize,
        n: usize,
        sums: *const i32,
        ld: usize,
        places: Places,
        constants: [*const f32; 3],
        out: *mut f32,
    },
    Reaches {
        n: usize,
        sums: *const i32,
        limits: *const i32,
    },
}

/// What is added to the sums of each row, and where the row goes: `offsets[at[r]..]`, `out[to[r]..]`.
#[derive(Clone, Copy)]
pub(super) struct Places {
    offsets: *const i32,
    at: *const usize,
    to: *const usize,
}

/// What becomes of the sums of a product.
#[derive(Clone, Copy)]
pub(super) enum End {
    Sums { out: *mut i32 },
    Bits { limits: *const i32, at: *const usize, steps: usize, step: usize, out: *mut u64 },
}

/// What sums are compared with: limit `s` of sum `j` of row `r` is `table[at[r] + s * step + j]`.
#[derive(Clone, Copy)]
pub struct IntLimits<'a> {
    /// Inclusive limits.
    pub table: &'a [i32],
    /// Place of the first limit of each row.
    pub at: &'a [usize],
    /// Limits of each channel, and output words of each row.
    pub steps: usize,
    /// Distance of neighbouring steps in the table.
    pub step: usize,
}

/// Integer GEMM of one instruction set: any number of rows times panels of weights, in tiles of `mr` rows and then of
/// one.
pub struct Igemm {
    /// Name, the same in benches and docs.
    pub name: &'static str,
    /// Rows of a register tile.
    pub mr: usize,
    /// Channels of a tile and of a panel: a divisor of 64.
    pub nr: usize,
    /// Largest magnitude of a weight that this kernel takes; 128 is every weight.
    pub largest_weight: u8,
    /// Up to so many products of bit planes are faster than one of bytes: for many rows, and for one. Measured.
    pub pairs: [usize; 2],
    shift: i32,
    pub(super) available: fn() -> bool,
    run: unsafe fn(&Work) -> u64,
}

impl Igemm {
    /// The kernel of these verbs with a tile of `MR` rows and `NV` vectors.
    pub(super) const fn new<L: IntLanes, const MR: usize, const NV: usize>() -> Self {
        let nr = NV * L::LANES;
        assert!(MR > 0 && nr <= MAX_OUTPUTS && 64 % nr == 0);
        Igemm {
            name: L::NAME,
            mr: MR,
            nr,
            largest_weight: L::LARGEST_WEIGHT,
            pairs: L::PAIRS,
            shift: L::SHIFT,
            available: L::available,
            run: L::run::<MR, NV>,
        }
    }

    /// Bytes of a row of `k` activations after padding. What the padding holds does not matter.
    pub const fn padded(&self, k: usize) -> usize {
        k.next_multiple_of(4)
    }

    /// Bytes of one panel for rows of `k` activations.
    pub const fn panel_len(&self, k: usize) -> usize {
        self.nr * (4 + self.padded(k))
    }

    /// Packs `weights`, `[start.len()][k]`, into as many panels of `nr` channels as they fill; channel `n` begins at
    /// `start[n]`. Channels behind the last one get weights and sums of 0.
    ///
    /// # Panics
    /// If a slice has the wrong length, or a weight is larger than `largest_weight`.
    pub fn pack(&self, k: usize, weights: &[i8], start: &[i32], panels: &mut [i8]) {
        assert!(k > 0 && weights.len() == start.len() * k);
        assert!(panels.len() == start.len().div_ceil(self.nr) * self.panel_len(k));
        assert!(weights.iter().all(|w| w.unsigned_abs() <= self.largest_weight));
        panels.fill(0);
        for (n, (row, start)) in weights.chunks_exact(k).zip(start).enumerate() {
            let panel = &mut panels[n / self.nr * self.panel_len(k)..][..self.panel_len(k)];
            let sum: i32 = row.iter().map(|w| i32::from(*w)).sum();
            let start = start.wrapping_add(self.shift.wrapping_mul(sum)).to_ne_bytes();
            let (starts, groups) = panel.split_at_mut(4 * self.nr);
            let j = n % self.nr;
            starts[4 * j..][..4].copy_from_slice(&start.map(|byte| byte as i8));
            for (g, four) in row.chunks(4).enumerate() {
                groups[(g * self.nr + j) * 4..][..four.len()].copy_from_slice(four);
            }
        }
    }

    /// `out[i * nr + j] = start[j] + sum over k of a[i][k] * b[j][k]` for `rows` rows of `a`.
    ///
    /// `a` is rows of `k` bytes, `lda` apart, `k` a multiple of 4; `b` is one panel of [`pack`](Self::pack).
    #[inline]
    pub fn sums(&self, rows: usize, k: usize, a: &[u8], lda: usize, b: &[i8], out: &mut [i32]) {
        assert!(out.len() >= rows.saturating_mul(self.nr));
        let end = End::Sums { out: out.as_mut_ptr() };
        // SAFETY: the assertion bounds out[rows*nr-1], the last sum of the only panel.
        unsafe { self.product(rows, 1, k, a, lda, b, end) }
    }

    /// Sets bit `j` of `out[i * steps + s]` where sum `j` of row `i` reaches limit `s` (see [`IntLimits`]), for `j` in
    /// `0..panels * nr`, at most 64; other bits stay.
    #[inline]
    pub fn bits(
        &self,
        rows: usize,
        panels: usize,
        k: usize,
        a: &[u8],
        lda: usize,
        b: &[i8],
        limits: &IntLimits<'_>,
        out: &mut [u64],
    ) {
        let IntLimits { table, at, steps, step } = *limits;
        assert!(panels <= 64 && panels * self.nr <= 64 && steps > 0);
        assert!(at.len() >= rows && out.len() >= rows.saturating_mul(steps));
        let reach = (steps - 1).saturating_mul(step).saturating_add(panels * self.nr);
        let last = table.len().checked_sub(reach).expect("limits for the panels");
        assert!(at[..rows].iter().all(|at| *at <= last));
        let (limits, at, out) = (table.as_ptr(), at.as_ptr(), out.as_mut_ptr());
        let end = End::Bits { limits, at, steps, step, out };
        // SAFETY: the assertions bound at[rows-1], out[rows*steps-1] and limits[at[i]+(steps-1)*step+panels*nr-1].
        unsafe { self.product(rows, panels, k, a, lda, b, end) }
    }

    /// # Safety
    /// The pointers of `end` are good for `rows` rows and `panels` panels.
    #[inline]
    unsafe fn product(&self, rows: usize, panels: usize, k: usize, a: &[u8], lda: usize, b: &[i8], end: End) {
        assert!(rows > 0 && panels > 0 && k > 0 && k.is_multiple_of(4));
        // Nothing may wrap: sizes are the caller's, and a slice is never as long as the largest number.
        assert!(a.len() >= (rows - 1).saturating_mul(lda).saturating_add(k));
        assert!(b.len() >= panels.saturating_mul(self.nr).saturating_mul(k.saturating_add(4)));
        let (a, b) = (a.as_ptr(), b.as_ptr());
        // SAFETY: an `Igemm` is only reachable through `Kernels::igemms`, so the CPU has its instructions; the
        // assertions bound a[(rows-1)*lda+k-1] and b[panels*panel_len-1], the caller `end`.
        unsafe { (self.run)(&Work::Product { rows, panels, k, a, lda, b, end }) };
    }

    /// Bit `i` is `sums[i] >= limits[i]`, for at most 64 sums.
    #[inline]
    pub fn reaches(&self, sums: &[i32], limits: &[i32]) -> u64 {
        assert!(sums.len() == limits.len() && sums.len() <= 64);
        let (sums, limits, n) = (sums.as_ptr(), limits.as_ptr(), sums.len());
        // SAFETY: reachable only on a CPU with these instructions; the two lengths are `n`.
        unsafe { (self.run)(&Work::Reaches { n, sums, limits }) }
    }

    /// `out[to[r] + j] = ((sums[r * nr + j] + offsets[at[r] + j]) - center[j]) * scale[j] + bias[j]` for `j` in `0..n`,
    /// each float step rounded. Every row has a place in `at` and in `to`.
    #[inline]
    pub fn affine(
        &self,
        n: usize,
        sums: &[i32],
        offsets: &[i32],
        at: &[usize],
        constants: &[&[f32]; 3],
        to: &[usize],
        out: &mut [f32],
    ) {
        let (rows, ld) = (at.len(), self.nr);
        assert!(rows > 0 && to.len() == rows && sums.len() >= (rows - 1) * ld + n);
        assert!(constants[0].len() >= n && constants[1].len() >= n && constants[2].len() >= n);
        let fits = |places: &[usize], len: usize| {
            let last = len.checked_sub(n).expect("an element for each channel");
            places.iter().all(|place| *place <= last)
        };
        assert!(fits(at, offsets.len()) && fits(to, out.len()));
        let places = Places { offsets: offsets.as_ptr(), at: at.as_ptr(), to: to.as_ptr() };
        let constants = [constants[0].as_ptr(), constants[1].as_ptr(), constants[2].as_ptr()];
        let (sums, out) = (sums.as_ptr(), out.as_mut_ptr());
        // SAFETY: reachable only on a CPU with these instructions; the assertions bound the constants,
        // sums[(rows-1)*ld+n-1], and for every row offsets[at[r]+n-1] and out[to[r]+n-1].
        unsafe { (self.run)(&Work::Affine { rows, n, sums, ld, places, constants, out }) };
    }
}

/// Does `job`; the bits of `Reaches`, else 0.
#[inline(always)]
pub(super) unsafe fn work<L: IntLanes, const MR: usize, const NV: usize>(job: &Work) -> u64 {
    // SAFETY: the caller guarantees the instruction set and bounds every pointer (see the methods of `Igemm`).
    unsafe {
        match *job {
            Work::Product { rows, panels, k, a, lda, b, end } => {
                for panel in 0..panels {
                    let b = b.add(panel * NV * L::LANES * (4 + k));
                    let mut r = 0;
                    while r < rows {
                        let a = a.add(r * lda);
                        if r + MR <= rows {
                            close::<L, MR, NV>(tile::<L, MR, NV>(k, a, lda, b), end, r, panel);
                            r += MR;
                        } else {
                            close::<L, 1, NV>(tile::<L, 1, NV>(k, a, lda, b), end, r, panel);
                            r += 1;
                        }
                    }
                }
                0
            }
            Work::Affine { rows, n, sums, ld, places, constants, out } => {
                for r in 0..rows {
                    let offsets = places.offsets.add(*places.at.add(r));
                    affine(n, sums.add(r * ld), offsets, constants, out.add(*places.to.add(r)));
                }
                0
            }
            Work::Reaches { n, sums, limits } => reaches::<L>(n, sums, limits),
        }
    }
}

/// Sums of an `MR x (NV * LANES)` tile.
#[inline(always)]
unsafe fn tile<L: IntLanes, const MR: usize, const NV: usize>(
    k: usize,
    a: *const u8,
    lda: usize,
    b: *const i8,
) -> [[L::V; NV]; MR] {
    // SAFETY: called by `work` for rows of `k` bytes and a panel that its caller has bounded.
    unsafe {
        let starts: *const i32 = b.cast();
        let mut b = b.add(4 * NV * L::LANES);
        let mut acc = [[L::zero(); NV]; MR];
        for kk in (0..k).step_by(4) {
            let mut bv = [L::weights(b); NV];
            for j in 1..NV {
                bv[j] = L::weights(b.add(j * 4 * L::LANES));
            }
            for i in 0..MR {
                let av = L::splat(a.add(i * lda + kk));
                for j in 0..NV {
                    acc[i][j] = L::dot(acc[i][j], av, bv[j]);
                }
            }
            b = b.add(4 * NV * L::LANES);
        }
        let mut sums = [[L::load(starts); NV]; MR];
        for i in 0..MR {
            for j in 0..NV {
                sums[i][j] = L::finish(acc[i][j], L::load(starts.add(j * L::LANES)));
            }
        }
        sums
    }
}

/// Stores or compares the sums of a tile whose first row is `r`.
#[inline(always)]
unsafe fn close<L: IntLanes, const MR: usize, const NV: usize>(
    sums: [[L::V; NV]; MR],
    end: End,
    r: usize,
    panel: usize,
) {
    // SAFETY: called by `work` for rows and panels that its caller has bounded.
    unsafe {
        match end {
            End::Sums { out } => {
                for i in 0..MR {
                    for j in 0..NV {
                        L::store(out.add(((r + i) * NV + j) * L::LANES), sums[i][j]);
                    }
                }
            }
            End::Bits { limits, at, steps, step, out } => {
                for i in 0..MR {
                    let limits = limits.add(*at.add(r + i) + panel * NV * L::LANES);
                    for s in 0..steps {
                        let mut mask = 0;
                        for j in 0..NV {
                            let limits = L::load(limits.add(s * step + j * L::LANES));
                            mask |= u64::from(L::reaches(sums[i][j], limits)) << (j * L::LANES);
                        }
                        *out.add((r + i) * steps + s) |= mask << (panel * NV * L::LANES);
                    }
                }
            }
        }
    }
}

/// See [`Igemm::reaches`].
#[inline(always)]
unsafe fn reaches<L: IntLanes>(n: usize, sums: *const i32, limits: *const i32) -> u64 {
    // SAFETY: the caller guarantees `n <= 64` numbers behind each pointer (see `Igemm::reaches`).
    unsafe {
        let whole = n - n % L::LANES;
        let (mut mask, mut i) = (0, 0);
        while i < whole {
            mask |= u64::from(L::reaches(L::load(sums.add(i)), L::load(limits.add(i)))) << i;
            i += L::LANES;
        }
        while i < n {
            mask |= u64::from(*sums.add(i) >= *limits.add(i)) << i;
            i += 1;
        }
        mask
    }
}

/// See [`Igemm::affine`]. Plain code: compiled with the instruction set of the caller, it becomes vectors, 16 channels
/// at a time.
#[inline(always)]
unsafe fn affine(n: usize, sums: *const i32, offsets: *const i32, constants: [*const f32; 3], out: *mut f32) {
    // SAFETY: the caller guarantees `n` elements behind each pointer (see `Igemm::affine`).
    unsafe {
        let [center, scale, bias] = constants;
        let mut i = 0;
        while i + 16 <= n {
            let sums: [i32; 16] = sums.add(i).cast::<[i32; 16]>().read();
            let offsets: [i32; 16] = offsets.add(i).cast::<[i32; 16]>().read();
            let center: [f32; 16] = center.add(i).cast::<[f32; 16]>().read();
            let scale: [f32; 16] = scale.add(i).cast::<[f32; 16]>().read();
            let bias: [f32; 16] = bias.add(i).cast::<[f32; 16]>().read();
            let mut results = [0f32; 16];
            for j in 0..16 {
                let x = sums[j].wrapping_add(offsets[j]) as f32;
                results[j] = transform::affine(x, center[j], scale[j], bias[j]);
            }
            out.add(i).cast::<[f32; 16]>().write(results);
            i += 16;
        }
        while i < n {
            let x = (*sums.add(i)).wrapping_add(*offsets.add(i)) as f32;
            *out.add(i) = transform::affine(x, *center.add(i), *scale.add(i), *bias.add(i));
            i += 1;
        }
    }
}
