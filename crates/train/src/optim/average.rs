//! Moving averages of parameters (Polyak and Juditsky 1992), often better than the last values.

use super::host::{self, Lane};
use super::{State, tensor};
use crate::network::Param;
use crate::ops::host::numbers;
use burn::tensor::Tensor;
use onebit::error::Result;

/// `average <- d average + (1 - d) value` after every step; latent weights are averaged as they are, before their quantiser.
///
/// At first `d` is smaller, `(1 + t) / (10 + t)` at update `t` from 0, so that the initial values are soon forgotten.
#[derive(Debug)]
pub struct Average {
    decay: f64,
    names: Vec<String>,
    values: Vec<Tensor<4>>,
    updates: u64,
}

/// Prefix of the names in a [`State`].
const PREFIX: &str = "average.";

impl Average {
    /// Starts with the values of the parameters; `decay` is that of the recipe.
    pub fn new(params: &[Param], values: &[Tensor<4>], decay: f32) -> Self {
        Self {
            decay: decay.into(),
            names: params.iter().map(|p| p.name.clone()).collect(),
            values: values.iter().map(|v| v.clone().inner()).collect(),
            updates: 0,
        }
    }

    /// Takes in the values after a step, in place on the CPU.
    ///
    /// # Errors
    /// Names a parameter that is not made of 32-bit floats.
    pub fn update(&mut self, values: &[Tensor<4>]) -> Result<()> {
        let t = self.updates as f64;
        self.updates += 1;
        let new = (1.0 - self.decay.min((1.0 + t) / (10.0 + t))) as f32;
        let old = std::mem::take(&mut self.values).into_iter().zip(values).zip(&self.names);
        for ((average, value), name) in old {
            let device = average.device();
            self.values.push(if host::is_host(&device) {
                let mut data = host::take(average);
                let numbers = host::slice_mut(name, &mut data)?;
                host::read(name, value, |value| {
                    let lane = Lane { value: numbers, gradient: value, ..Lane::default() };
                    lane.run(&|lane| {
                        lane.value.iter_mut().zip(lane.gradient).for_each(|(a, v)| *a += (v - *a) * new)
                    });
                })?;
                Tensor::from_data(data, &device)
            } else {
                let by = (value.clone().inner() - average.clone()) * new;
                average + by
            });
        }
        Ok(())
    }

    /// The averages, one for each parameter.
    pub fn values(&self) -> &[Tensor<4>] {
        &self.values
    }

    /// Everything that it remembers, for a checkpoint.
    pub fn state(&self) -> State {
        let tensors = self.names.iter().map(|name| format!("{PREFIX}{name}"));
        State {
            tensors: tensors.zip(self.values.iter().map(numbers)).collect(),
            counters: [(format!("{PREFIX}steps"), self.updates)].into(),
        }
    }

    /// Goes on from a checkpoint, bit for bit.
    ///
    /// # Errors
    /// Names what is missing, too much, of the wrong size or not finite. Then nothing has changed.
    pub fn load(&mut self, state: &State) -> Result<()> {
        let updates = state.counter(&format!("{PREFIX}steps"))?;
        state.refuse_others(PREFIX, &self.state())?;
        let one = |(name, value): (&String, &Tensor<4>)| {
            let shape = value.dims();
            let found = state.tensor(&format!("{PREFIX}{name}"), shape.iter().product())?;
            Ok(tensor(found, shape).to_device(&value.device()))
        };
        self.values = self.names.iter().zip(&self.values).map(one).collect::<Result<_>>()?;
        self.updates = updates;
        Ok(())
    }
}
