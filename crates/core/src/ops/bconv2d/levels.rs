//! Outputs of many levels: accumulators are searched among their thresholds, and levels become bit planes.

use super::lower_bytes::transpose;

/// Levels of at most 64 neighbouring channels, as bit planes. Each channel has `steps` ascending thresholds, one less
/// than a power of two; channels whose bit in `flips` is set count those that they miss.
pub(super) fn levels(accumulators: &[i32], steps: usize, thresholds: &[i32], flips: u64) -> [u64; 8] {
    let mut levels = [0u8; 64];
    for (i, (acc, t)) in accumulators.iter().zip(thresholds.chunks_exact(steps)).enumerate() {
        let (mut level, mut half) = (0, steps.div_ceil(2));
        while half > 0 {
            // No branch: its outcome could not be predicted.
            level += usize::from(*acc >= t[level + half - 1]) * half;
            half /= 2;
        }
        levels[i] = if flips >> i & 1 == 1 { steps - level } else { level } as u8;
    }
    let mut planes = [0u64; 8];
    for (i, eight) in levels.chunks_exact(8).enumerate() {
        let eight = eight.try_into().map_or(0, u64::from_le_bytes);
        for (plane, byte) in planes.iter_mut().zip(transpose(eight).to_le_bytes()) {
            *plane |= u64::from(byte) << (8 * i);
        }
    }
    planes
}
