//! Floats that are really integers times a scale: weights `+-alpha`, ternary and k-bit weights, levels of quantisers.
//!
//! Nothing in a file says that a tensor is binary; it shows. A row of floats lies on a grid when every element is an
//! integer of few bits times one step. Training code writes such rows in many ways (sign times mean, BatchNorm folded
//! into them, straight-through sums that leave an error of rounding), so the step is searched for and small errors of
//! rounding are allowed.

use onebit_core::types::{Encoding, Quant};

/// Largest error of an element, as a part of the largest of its row.
const TOLERANCE: f32 = 4e-6;

/// Rows of floats as integers of one format times a scale for each row.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Format that holds all integers.
    pub quant: Quant,
    /// The integers, row by row.
    pub integers: Vec<i32>,
    /// The scale of each row; 0 for rows of zeros.
    pub scales: Vec<f32>,
}

impl Grid {
    /// The grid of `values`, in rows of `cols`, or `None` when they do not lie on one.
    pub fn of_rows(values: &[f32], cols: usize) -> Option<Grid> {
        let mut integers = Vec::with_capacity(values.len());
        let mut scales = Vec::with_capacity(values.len() / cols.max(1));
        for row in values.chunks(cols) {
            let step = step(row)?;
            scales.push(step);
            // Rows of zeros have scale 0 and any integers; +1 is in every format.
            integers.extend(row.iter().map(|v| if step == 0.0 { 1 } else { (v / step).round() as i32 }));
        }
        Some(Grid { quant: format_of(&integers)?, integers, scales })
    }

    /// The grid of levels that may also be moved: `value = scale * integer + offset`. The offset is 0 unless one saves bits.
    pub fn of_levels(values: &[f32]) -> Option<(Grid, f32)> {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let two = values.iter().all(|v| *v == low || *v == high);
        // Two levels are -1 and +1 around their middle.
        let offset = if two { (low + high) / 2.0 } else { low };
        let moved: Vec<f32> = values.iter().map(|v| v - offset).collect();
        let plain = Grid::of_rows(values, values.len()).map(|grid| (grid, 0.0));
        let moved = Grid::of_rows(&moved, moved.len()).map(|grid| (grid, offset));
        // Of equals the first is taken.
        plain.into_iter().chain(moved).min_by_key(|(grid, _)| grid.quant.bits)
    }
}

/// The smallest format that holds all of `integers`, if one of at most 8 bits does.
pub fn format_of(integers: &[i32]) -> Option<Quant> {
    let (low, high) = integers.iter().fold((i32::MAX, i32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let formats = (1..=8u8).flat_map(|bits| {
        let signed = (bits > 1).then_some(Quant::new(bits, Encoding::Signed));
        let ternary = (bits == 2).then_some(Quant::TERNARY);
        [
            Some(Quant::new(bits, Encoding::Bipolar)),
            Some(Quant::new(bits, Encoding::Unsigned)),
            ternary,
            signed,
        ]
    });
    let odd = integers.iter().all(|v| v % 2 != 0);
    formats.flatten().find(|q| q.min() <= low && high <= q.max() && (q.step() == 1 || odd))
}

/// The step of which all of `row` are multiples by integers below 256, 0 for zeros, `None` when there is none.
fn step(row: &[f32]) -> Option<f32> {
    let nonzero = |m: f32| row.iter().map(|v| v.abs()).filter(move |v| *v > m);
    let largest = nonzero(0.0).fold(0.0, f32::max);
    if largest == 0.0 || !largest.is_finite() {
        return (largest == 0.0).then_some(0.0);
    }
    let tolerance = largest * TOLERANCE;
    // What is below the tolerance is a zero with an error.
    let smallest = nonzero(tolerance).fold(largest, f32::min);
    for divisor in 1..=128 {
        let rough = smallest / divisor as f32;
        let most = (largest / rough).round();
        if most > 255.0 {
            return None;
        }
        // The largest element tells the step most exactly.
        let step = largest / most;
        if row.iter().all(|v| (v - (v / step).round() * step).abs() <= tolerance) {
            return Some(step);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_signs_are_one_bit() {
        let grid = Grid::of_rows(&[0.3, -0.3, 0.3, -7.0, -7.0, 7.0], 3).unwrap();
        assert_eq!((grid.quant, grid.scales), (Quant::BIT, vec![0.3, 7.0]));
        assert_eq!(grid.integers, [1, -1, 1, -1, -1, 1]);
    }

    #[test]
    fn errors_of_rounding_do_not_hide_signs() {
        // What (alpha * sign - w) + w leaves of alpha.
        let alpha = 0.021_37_f32;
        let noisy: Vec<f32> =
            [0.9f32, -0.7, 0.01, 0.4].iter().map(|w| (alpha * w.signum() - w) + w).collect();
        assert_ne!(noisy, [alpha, -alpha, alpha, alpha]);
        assert_eq!(Grid::of_rows(&noisy, 4).unwrap().quant, Quant::BIT);
    }

    #[test]
    fn formats_are_the_smallest_that_hold_the_values() {
        let of = |values: &[f32]| Grid::of_rows(values, values.len()).map(|g| g.quant);
        assert_eq!(of(&[1.0, 0.0, -1.0]), Some(Quant::TERNARY));
        assert_eq!(of(&[-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0]), Some(Quant::new(2, Encoding::Bipolar)));
        assert_eq!(of(&[0.0, 0.5, 1.5]), Some(Quant::new(2, Encoding::Unsigned)));
        assert_eq!(of(&[-0.2, 0.1, 0.3]), Some(Quant::new(3, Encoding::Signed)));
        assert_eq!(of(&[0.0, 1.0]), Some(Quant::new(1, Encoding::Unsigned)));
        assert_eq!(of(&[0.123, 0.456, 0.789, 0.9112, 0.777]), None);
        assert_eq!(of(&[f32::NAN, 1.0]), None);
    }

    #[test]
    fn rows_of_zeros_fit_any_format() {
        let grid = Grid::of_rows(&[0.0, 0.0, 2.0, -2.0], 2).unwrap();
        assert_eq!((grid.quant, grid.scales), (Quant::BIT, vec![0.0, 2.0]));
    }

    #[test]
    fn levels_may_be_moved() {
        let (grid, offset) = Grid::of_levels(&[-0.9, 1.1]).unwrap();
        assert_eq!((grid.quant, grid.integers, offset), (Quant::BIT, vec![-1, 1], 0.100_000_024));
        let (grid, offset) = Grid::of_levels(&[0.1, 0.35, 0.6, 1.1]).unwrap();
        assert_eq!(
            (grid.quant, grid.integers, offset),
            (Quant::new(3, Encoding::Unsigned), vec![0, 1, 2, 4], 0.1)
        );
    }
}
