//! How many binary weights changed sign: whether a binary network still learns, and whether it will settle.

use super::host;
use crate::network::{Param, Role};
use burn::tensor::Tensor;
use onebit::error::Result;

/// Remembers the signs of latent weights, a bit for each.
#[derive(Debug)]
pub struct Flips {
    /// Names of layers, and their signs with their parameter's place.
    layers: Vec<(String, usize, Vec<u64>)>,
}

impl Flips {
    /// Remembers the signs of the latent weights among these values.
    ///
    /// # Errors
    /// Names a parameter that is not made of 32-bit floats.
    pub fn new(params: &[Param], values: &[Tensor<4>]) -> Result<Self> {
        let latent = params.iter().zip(values).enumerate().filter(|(_, (p, _))| p.role == Role::Latent);
        let layer = |(i, (param, value)): (usize, (&Param, &Tensor<4>))| {
            let layer = param.name.rsplit_once('.').map_or(param.name.as_str(), |(layer, _)| layer);
            let signs = host::read(&param.name, value, |x| x.chunks(64).map(signs).collect())?;
            Ok((layer.to_owned(), i, signs))
        };
        Ok(Self { layers: latent.map(layer).collect::<Result<_>>()? })
    }

    /// For each layer of latent weights, the share whose sign (0 counts as +1) is not the remembered one (`FlipRatio` of Larq).
    ///
    /// # Errors
    /// Names a layer whose weights are not made of 32-bit floats.
    pub fn since(&self, values: &[Tensor<4>]) -> Result<Vec<(String, f64)>> {
        let share = |(changed, weights): (u64, usize)| changed as f64 / weights.max(1) as f64;
        let counts = self.counts(values)?;
        Ok(self.layers.iter().zip(counts).map(|((layer, ..), count)| (layer.clone(), share(count))).collect())
    }

    /// The same for all layers together.
    ///
    /// # Errors
    /// See [`Flips::since`].
    pub fn total(&self, values: &[Tensor<4>]) -> Result<f64> {
        let counts = self.counts(values)?;
        let [changed, weights] = counts.iter().fold([0, 0], |[c, w], (a, b)| [c + a, w + *b as u64]);
        Ok(changed as f64 / weights.max(1) as f64)
    }

    /// Weights that changed sign, and all weights.
    fn counts(&self, values: &[Tensor<4>]) -> Result<Vec<(u64, usize)>> {
        let count = |(layer, i, old): &(String, usize, Vec<u64>)| {
            host::read(layer, &values[*i], |x| {
                let changed = x.chunks(64).zip(old).map(|(x, old)| u64::from((signs(x) ^ old).count_ones()));
                (changed.sum(), x.len())
            })
        };
        self.layers.iter().map(count).collect()
    }
}

/// The signs of up to 64 numbers: a bit is set where it is negative.
fn signs(numbers: &[f32]) -> u64 {
    numbers.iter().enumerate().fold(0, |bits, (i, x)| bits | u64::from(*x < 0.0) << i)
}
