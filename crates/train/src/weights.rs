//! What a layer computes with in place of its latent weights: the one definition that training and export share.
//!
//! A quantised weight is `scale[filter] * integer`. All steps are f32 unless said otherwise; sums and means of
//! magnitudes are f64, element after element in the order of the filter, and rounded to f32 once. NaN counts as -1, 0 or
//! the smallest level; who exports refuses it before.

use crate::layer::Weights;
use crate::network::MAX_BITS;
use onebit::core::ops::Activation;

/// Weights as integers with a scale for each filter: `rows` filters of `latent.len() / rows` weights each. `None` for
/// quantisers whose weights are floats: [`Weights::Float`], [`Weights::Default`] and more than [`MAX_BITS`] bits.
///
/// | quantiser | integer | scale |
/// |---|---|---|
/// | sign | +1 where `w >= 0`, else -1 | 1 |
/// | xnor, magnitude | as sign | mean of `\|w\|` over the filter |
/// | ternary | sign where `\|w\| > 0.7 mean \|w\|` (in f64, over the filter), else 0 | mean of those `\|w\|`; 0 if there are none |
/// | dorefa with k bits, `n = 2^k - 1` | `2 round((t / 2m + 1/2) n) - n`, halves to even | `1 / n` |
///
/// with `t = tanh(w)` (of the engine: f64, rounded once) and `m = max |t|` over *all* filters; `t / 2m` is 0 if `m` is.
pub fn quantize_weights(weights: Weights, latent: &[f32], rows: usize) -> Option<(Vec<i32>, Vec<f32>)> {
    let filters = || latent.chunks_exact((latent.len() / rows.max(1)).max(1));
    let sign = |w: &f32| if *w >= 0.0 { 1 } else { -1 };
    let signs = || latent.iter().map(sign).collect();
    Some(match weights {
        Weights::Sign(_) => (signs(), vec![1.0; rows]),
        Weights::Xnor | Weights::Magnitude => (signs(), filters().map(|f| mean(f) as f32).collect()),
        Weights::Ternary => {
            let mut ints = Vec::with_capacity(latent.len());
            let mut scale = Vec::with_capacity(rows);
            for filter in filters() {
                let delta = 0.7 * mean(filter);
                let large = |w: &&f32| f64::from(w.abs()) > delta;
                ints.extend(filter.iter().map(|w| if large(&w) { sign(w) } else { 0 }));
                scale.push(mean(filter.iter().filter(large)) as f32);
            }
            (ints, scale)
        }
        Weights::Dorefa(bits) if bits <= MAX_BITS => {
            let n = levels(bits);
            let ints = dorefa(latent, n).map(|q| 2 * q as i32 - n as i32).collect();
            (ints, vec![1.0 / n; rows])
        }
        Weights::Default | Weights::Float | Weights::Dorefa(_) => return None,
    })
}

/// Weights as the floats that a layer of float inputs computes with: `scale * integer`, the latent weights themselves,
/// or `2 (q / n) - 1` for more than [`MAX_BITS`] bits.
pub fn real_weights(weights: Weights, latent: &[f32], rows: usize) -> Vec<f32> {
    if let Weights::Sign(_) = weights {
        return latent.iter().map(|w| if *w >= 0.0 { 1.0 } else { -1.0 }).collect();
    }
    match (quantize_weights(weights, latent, rows), weights) {
        (Some((ints, scale)), _) => {
            let cols = (latent.len() / rows.max(1)).max(1);
            let filters = ints.chunks_exact(cols).zip(scale);
            filters.flat_map(|(filter, s)| filter.iter().map(move |i| s * *i as f32)).collect()
        }
        (None, Weights::Dorefa(bits)) => {
            let n = levels(bits);
            dorefa(latent, n).map(|q| 2.0 * (q / n) - 1.0).collect()
        }
        (None, _) => latent.to_vec(),
    }
}

/// Mean magnitude; 0 of nothing.
fn mean<'a>(values: impl IntoIterator<Item = &'a f32>) -> f64 {
    let (sum, n) = values.into_iter().fold((0.0, 0usize), |(sum, n), w| (sum + f64::from(w.abs()), n + 1));
    if n == 0 { 0.0 } else { sum / n as f64 }
}

/// `2^bits - 1`, rounded to f32.
pub fn levels(bits: u8) -> f32 {
    ((1u64 << bits) - 1) as f32
}

/// Levels from 0 to `n`.
fn dorefa(latent: &[f32], n: f32) -> impl Iterator<Item = f32> {
    let tanh = |w: &f32| Activation::Tanh.apply(*w);
    let max = latent.iter().map(tanh).fold(0f32, |m, t| m.max(t.abs()));
    let share = move |t: f32| if max > 0.0 { t / (2.0 * max) } else { 0.0 };
    latent.iter().map(move |w| ((share(tanh(w)) + 0.5) * n).round_ties_even())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Estimator;

    const LATENT: [f32; 6] = [0.5, -0.25, 0.0, -1.0, 0.125, 2.0];

    fn quantized(weights: Weights) -> (Vec<i32>, Vec<f32>) {
        quantize_weights(weights, &LATENT, 2).unwrap()
    }

    #[test]
    fn signs_take_zero_for_positive() {
        let sign = Weights::Sign(Estimator::Approx);
        assert_eq!(quantized(sign), (vec![1, -1, 1, -1, 1, 1], vec![1.0, 1.0]));
        assert_eq!(quantize_weights(sign, &[-0.0], 1).unwrap().0, [1]);
    }

    #[test]
    fn scales_are_mean_magnitudes_of_the_filter() {
        for weights in [Weights::Xnor, Weights::Magnitude] {
            assert_eq!(quantized(weights), (vec![1, -1, 1, -1, 1, 1], vec![0.25, 3.125 / 3.0]));
        }
    }

    #[test]
    fn ternary_drops_weights_below_the_threshold() {
        // Thresholds 0.175 and 0.729.
        assert_eq!(quantized(Weights::Ternary), (vec![1, -1, 0, -1, 0, 1], vec![0.375, 1.5]));
        assert_eq!(quantize_weights(Weights::Ternary, &[0.0; 3], 1).unwrap(), (vec![0; 3], vec![0.0]));
    }

    #[test]
    fn dorefa_is_relative_to_the_largest_of_all_filters() {
        // tanh / max: 0.479, -0.254, 0, -0.790, 0.129, 1; two bits: (that + 1) * 1.5 rounded.
        assert_eq!(quantized(Weights::Dorefa(2)), (vec![1, -1, 1, -3, 1, 3], vec![1.0 / 3.0; 2]));
        // Half of one step goes to the even level, which is the lower.
        assert_eq!(quantized(Weights::Dorefa(1)).0, [1, -1, -1, -1, 1, 1]);
        assert_eq!(quantize_weights(Weights::Dorefa(2), &[0.0, -0.0], 1).unwrap().0, [1, 1]);
        assert_eq!(quantize_weights(Weights::Dorefa(8), &[0.1, -0.1], 1).unwrap().0, [255, -255]);
    }

    #[test]
    fn many_bits_are_floats() {
        for weights in [Weights::Float, Weights::Default, Weights::Dorefa(9)] {
            assert_eq!(quantize_weights(weights, &LATENT, 2), None);
        }
        assert_eq!(real_weights(Weights::Float, &LATENT, 2), LATENT);
        let fine = real_weights(Weights::Dorefa(16), &LATENT, 2);
        for (w, q) in LATENT.iter().zip(fine) {
            assert!((w.tanh() / 2f32.tanh() - q).abs() < 2e-5, "{w} {q}");
        }
        let third = 1.0 / 3.0;
        assert_eq!(real_weights(Weights::Dorefa(2), &LATENT, 2), [third, -third, third, -1.0, third, 1.0]);
    }
}
