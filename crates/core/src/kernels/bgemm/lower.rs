//! im2col of bits: neighbouring pixels become columns of words.

/// See [`Bgemm::lower`]. Plain code: compiled with the instruction set of the caller, it becomes vectors.
#[inline(always)]
pub(in crate::kernels) unsafe fn lower<const PREFIX: bool>(
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
