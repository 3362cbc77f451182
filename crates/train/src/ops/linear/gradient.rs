//! From the gradient of quantised weights to that of latent weights.

use crate::layer::{Estimator, Weights};
use crate::ops::act::{scale_by_slope, slope};
use crate::weights::quantize_weights;

/// `q'` of the table in [`super`], times `dq`; `rows` filters.
pub fn of_latent(weights: Weights, w: &[f32], mut dq: Vec<f32>, rows: usize) -> Vec<f32> {
    let cols = (w.len() / rows).max(1);
    let inside = |w: f32| slope(Estimator::Clip(1.0), w);
    match weights {
        Weights::Default | Weights::Float => {}
        Weights::Sign(estimator) => scale_by_slope(estimator, w, &mut dq),
        Weights::Ternary => dq.iter_mut().zip(w).for_each(|(d, w)| *d *= inside(*w)),
        Weights::Xnor | Weights::Magnitude => {
            let (_, scales) = quantize_weights(weights, w, rows).expect("quantises to bits");
            for ((dq, w), scale) in dq.chunks_exact_mut(cols).zip(w.chunks_exact(cols)).zip(scales) {
                let sign = |w: f32| if w >= 0.0 { 1.0f32 } else { -1.0 };
                let of_scale = match weights {
                    Weights::Xnor => dq.iter().zip(w).map(|(d, w)| d * sign(*w)).sum::<f32>() / cols as f32,
                    _ => 0.0,
                };
                for (d, w) in dq.iter_mut().zip(w) {
                    *d = *d * scale * inside(*w) + of_scale * sign(*w);
                }
            }
        }
        Weights::Dorefa(_) => {
            let max = w.iter().fold(0f32, |m, w| m.max(w.tanh().abs()));
            if max > 0.0 {
                dq.iter_mut().zip(w).for_each(|(d, w)| *d *= (1.0 - w.tanh() * w.tanh()) / max);
            }
        }
    }
    dq
}
