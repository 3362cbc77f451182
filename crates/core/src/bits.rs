//! The packing law: how +1/-1 values become bits, and how bit strings are moved.
//!
//! * bit 1 is +1, bit 0 is -1; element `i` of a row is bit `i % 64` of word `i / 64` (LSB first);
//! * the channel is the innermost dimension, every pixel starts on a word boundary;
//! * the bits after the last element of a row are 0 in both operands, so they never count.
//!
//! This module does not know about shapes; `types` does.

/// Number of 64-bit words that hold `bits` bits.
#[inline]
pub const fn words(bits: usize) -> usize {
    bits.div_ceil(64)
}

/// A word whose lowest `n` bits are set (`n <= 64`).
#[inline]
pub const fn low_mask(n: usize) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// Reads bit `i` of a row.
#[inline]
pub const fn get(row: &[u64], i: usize) -> bool {
    row[i / 64] >> (i % 64) & 1 == 1
}

/// Sets bit `i` of a row to `bit`.
#[inline]
pub fn set(row: &mut [u64], i: usize, bit: bool) {
    let mask = 1 << (i % 64);
    if bit {
        row[i / 64] |= mask;
    } else {
        row[i / 64] &= !mask;
    }
}

/// Packs `values` by sign into `row` (0 counts as +1) and clears the padding bits.
///
/// ```
/// let mut row = [0u64; 1];
/// onebit_core::bits::pack_signs(&[1.0, -0.5, 0.0], &mut row);
/// assert_eq!(row, [0b101]);
/// ```
pub fn pack_signs(values: &[f32], row: &mut [u64]) {
    for (word, chunk) in row.iter_mut().zip(values.chunks(64)) {
        *word = chunk.iter().enumerate().fold(0, |w, (i, v)| w | u64::from(*v >= 0.0) << i);
    }
}

/// Reads `n <= 64` bits starting at bit `offset`, as the low bits of the result.
#[inline]
pub fn read(row: &[u64], offset: usize, n: usize) -> u64 {
    if n == 0 {
        return 0;
    }
    let (w, s) = (offset / 64, offset % 64);
    let mut v = row[w] >> s;
    if s + n > 64 {
        v |= row[w + 1] << (64 - s);
    }
    v & low_mask(n)
}

/// ORs the low `n <= 64` bits of `value` into `row` at bit `offset`. The bits above `n` must be 0.
#[inline]
pub fn or(row: &mut [u64], offset: usize, n: usize, value: u64) {
    debug_assert!(value & !low_mask(n) == 0);
    let (w, s) = (offset / 64, offset % 64);
    row[w] |= value << s;
    if s + n > 64 {
        row[w + 1] |= value >> (64 - s);
    }
}

/// ORs `n` bits of `src`, starting at bit `src_offset`, into `dst` at bit `dst_offset`.
#[inline]
pub fn or_range(dst: &mut [u64], dst_offset: usize, src: &[u64], src_offset: usize, n: usize) {
    let mut done = 0;
    while done < n {
        let step = (n - done).min(64);
        or(dst, dst_offset + done, step, read(src, src_offset + done, step));
        done += step;
    }
}

/// Bit `i` is bit `plane` of `codes[i]`.
#[inline(always)]
pub fn gather(codes: &[u8; 64], plane: usize) -> u64 {
    let (eights, _) = codes.as_chunks::<8>();
    eights.iter().enumerate().fold(0, |word, (i, eight)| {
        let bits = u64::from_le_bytes(*eight) >> plane & 0x0101_0101_0101_0101;
        // Moves bit 8 * j to bit 56 + j; no two of the products meet.
        word | (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i)
    })
}

/// Number of set bits in a row.
#[inline]
pub fn count_ones(row: &[u64]) -> u32 {
    row.iter().map(|w| w.count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_bits_are_those_of_the_codes() {
        let codes: [u8; 64] = core::array::from_fn(|i| (i * 37 + i / 8 * 11) as u8);
        for plane in 0..8 {
            for (i, code) in codes.iter().enumerate() {
                assert_eq!(gather(&codes, plane) >> i & 1, u64::from(code >> plane & 1), "{i}, {plane}");
            }
        }
    }

    #[test]
    fn ranges_move_bits_across_word_borders() {
        let src = [0xDEAD_BEEF_0123_4567, 0x89AB_CDEF_5555_AAAA, 0x0F0F_3C3C_9999_7777];
        for n in [1, 7, 63, 64, 65, 100, 128] {
            for from in [0, 1, 13, 63] {
                for to in [0, 5, 60, 64] {
                    let mut dst = [0u64; 4];
                    or_range(&mut dst, to, &src, from, n);
                    for i in 0..256 {
                        let want = i >= to && i < to + n && get(&src, from + i - to);
                        assert_eq!(get(&dst, i), want, "n {n} from {from} to {to} bit {i}");
                    }
                }
            }
        }
    }
}
