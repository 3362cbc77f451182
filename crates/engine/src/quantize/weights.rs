//! Float weights as integers of few bits: symmetric, one step for each filter or one for all.

use onebit_core::model::Tensor;
use onebit_core::types::{Encoding, Quant};

/// Integers that stand for the weights of a layer: row `n` is about `steps[n]` times its integers.
pub struct Rounded {
    /// The integers, one row for each filter.
    pub weight: Tensor<'static>,
    /// What a weight of 1 stands for, one for each row.
    pub steps: Vec<f64>,
    /// Largest rounding error, as a part of the largest weight of its row.
    pub error: f64,
    /// For each row the sum of all rounding errors, which bounds what they add to a product with inputs up to 1.
    pub row_errors: Vec<f64>,
}

/// Rounds a matrix of finite numbers to `bits` (2 to 8): `w / step`, halves away from 0, where the largest weight of
/// a row becomes `2^(bits-1) - 1`. With `common`, all rows have one step, so that what they sum up to can be compared.
///
/// Source: symmetric per-channel weights, as in Jacob et al. 2018 (arXiv 1712.05877).
pub fn round(rows: usize, values: &[f64], bits: u8, common: bool) -> Rounded {
    let quant = Quant::new(bits, Encoding::Signed);
    let cols = values.len() / rows.max(1);
    let largest = |row: &[f64]| row.iter().fold(0f64, |m, w| m.max(w.abs()));
    let all = largest(values);
    let mut rounded = Vec::with_capacity(values.len());
    let (mut steps, mut row_errors, mut error) = (Vec::new(), Vec::new(), 0f64);
    for row in values.chunks_exact(cols.max(1)) {
        let most = if common { all } else { largest(row) };
        // The step is a float of the model: weights are rounded to multiples of that very number.
        let step = f64::from((most / f64::from(quant.max())) as f32);
        // Weights below the smallest floats count as 0.
        let step = if step >= f64::from(f32::MIN_POSITIVE) { step } else { 1.0 };
        let mut sum = 0.0;
        for w in row {
            let q = (w / step).round().clamp(f64::from(-quant.max()), f64::from(quant.max()));
            let missed = (w - q * step).abs();
            sum += missed;
            if most > 0.0 {
                error = error.max(missed / most);
            }
            rounded.push(q as i32);
        }
        steps.push(step);
        row_errors.push(sum);
    }
    let weight = Tensor::bits(rows, cols, quant, |r, c| rounded[r * cols + c]);
    Rounded { weight, steps, error, row_errors }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_step_or_all_have_one() {
        let values = [1.27, -0.633, 0.004, 0.0, 0.0, 0.0, -12.7, 0.06, 0.04];
        let r = round(3, &values, 8, false);
        assert_eq!(r.weight.to_i32().unwrap(), [127, -63, 0, 0, 0, 0, -127, 1, 0]);
        assert_eq!(r.steps[1], 1.0);
        assert!((r.steps[0] - 0.01).abs() < 1e-8 && (r.steps[2] - 0.1).abs() < 1e-7);
        assert!((r.row_errors[2] - 0.08).abs() < 1e-5 && r.row_errors[1] == 0.0);
        assert!(r.error <= 0.5 / 127.0 + 1e-6 && r.error > 0.003, "{}", r.error);
        let r = round(3, &values, 8, true);
        assert_eq!(r.weight.to_i32().unwrap(), [13, -6, 0, 0, 0, 0, -127, 1, 0]);
        assert!(r.steps.iter().all(|s| *s == r.steps[2]));
        let r = round(1, &[0.3, -1.0, 0.6], 2, false);
        assert_eq!((r.weight.to_i32().unwrap(), r.error), (vec![0, -1, 1], 0.4));
    }

    #[test]
    fn weights_below_all_floats_are_zero() {
        let r = round(1, &[1e-60, -1e-60], 8, false);
        assert_eq!((r.weight.to_i32().unwrap(), r.steps[0]), (vec![0, 0], 1.0));
    }
}
