//! Optimisers: how gradients change parameters. One page per rule; here, which parameter follows which rule.
//!
//! Every rule is there twice (`Rule` in `rule.rs`): in tensor operations for GPUs, and as one pass over slices on the CPU, which
//! works in place and takes about as long as reading and writing the memory.

mod adam;
mod average;
mod bop;
mod flips;
mod host;
mod rule;
mod sgd;
mod state;

pub use average::Average;
pub use flips::Flips;
pub use state::State;

use crate::network::{Param, Role};
use crate::ops::host::numbers;
use crate::recipe::{Optimizer, Train};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use host::Lane;
use onebit::error::{Error, Result};
use rule::{Rule, Step};

/// The optimisers of all parameters of a network.
///
/// [`Role::Latent`] follows `train.latent` where it is given, is never decayed, and is clipped to `+-train.clip`; with Bop its
/// values are signs. Everything else follows `train.optimizer`: float weights with its decay, ranges of PACT too (Choi et al.
/// 2018 decay them like weights), factors and terms without.
pub struct Optimizers {
    slots: Vec<Slot>,
}

/// One parameter's part.
struct Slot {
    name: String,
    shape: [usize; 4],
    rule: Box<dyn Rule>,
    clip: f32,
    /// Steps that changed the parameter.
    steps: u64,
    /// As many as the rule names; none before the first step.
    moments: Vec<Tensor<4>>,
}

/// Gradients of this size and above are refused, since their squares have no room in a float.
const LIMIT: f32 = (1u64 << 63) as f32;

/// Prefix of the names in a [`State`].
const PREFIX: &str = "optimizer.";

impl Optimizers {
    /// Optimisers for parameters that were never changed.
    pub fn new(params: &[Param], train: &Train) -> Self {
        let slot = |param: &Param| {
            let latent = param.role == Role::Latent;
            let optimizer = train.latent.filter(|_| latent).unwrap_or(train.optimizer);
            Slot {
                name: param.name.clone(),
                shape: param.shape,
                rule: rule(optimizer, matches!(param.role, Role::Weight | Role::Range)),
                clip: if latent && train.clip > 0.0 { train.clip } else { f32::INFINITY },
                steps: 0,
                moments: Vec::new(),
            }
        };
        Self { slots: params.iter().map(slot).collect() }
    }

    /// Changes the values, with the learning rates times `factor`. A parameter without a gradient stays as it is.
    ///
    /// On the CPU this happens in place as long as nobody else holds the tensors: clones of a value, the graph of its loss
    /// and the container of the gradients must be gone (take gradients with `grad_remove`).
    ///
    /// # Errors
    /// Names the parameter whose gradient is not finite, or is not like the parameter. Then nothing has changed.
    ///
    /// # Panics
    /// Where values or gradients are not as many as the parameters.
    pub fn step(
        &mut self,
        values: &mut Vec<Tensor<4>>,
        gradients: Vec<Option<Tensor<4>>>,
        factor: f64,
    ) -> Result<()> {
        let on_host = values.iter().all(|v| host::is_host(&v.device()));
        self.step_by(values, gradients, factor, on_host)
    }

    fn step_by(
        &mut self,
        values: &mut Vec<Tensor<4>>,
        gradients: Vec<Option<Tensor<4>>>,
        factor: f64,
        fused: bool,
    ) -> Result<()> {
        assert_eq!(self.slots.len(), values.len(), "a value for each parameter");
        assert_eq!(self.slots.len(), gradients.len(), "a gradient or none for each parameter");
        self.check(values, &gradients)?;
        let old = std::mem::take(values).into_iter().zip(gradients).zip(&mut self.slots);
        for ((value, gradient), slot) in old {
            values.push(match gradient {
                None => value,
                Some(gradient) => slot.step(value, gradient.inner(), factor, fused)?,
            });
        }
        Ok(())
    }

    fn check(&self, values: &[Tensor<4>], gradients: &[Option<Tensor<4>>]) -> Result<()> {
        let all = || {
            let some = |((slot, value), gradient)| Some((slot, value, Option::as_ref(gradient)?));
            self.slots.iter().zip(values).zip(gradients).filter_map(some)
        };
        for (slot, value, gradient) in all() {
            if value.dims() != slot.shape || gradient.dims() != slot.shape {
                let [a, b, c] = [slot.shape, value.dims(), gradient.dims()];
                return Err(Error::layer(
                    &slot.name,
                    format!("is {a:?}, its value {b:?} and its gradient {c:?}"),
                ));
            }
            if [value, gradient].iter().any(|t| t.dtype() != DType::F32) {
                return Err(Error::layer(
                    &slot.name,
                    "has a value or a gradient that is not made of 32-bit floats",
                ));
            }
        }
        match first_wild(all().map(|(slot, _, gradient)| (slot.name.as_str(), gradient)))? {
            Some(name) => Err(Error::layer(
                name,
                "has a gradient that is not finite: the training diverged; lower the learning rate or start it with a \
                 longer train.warmup",
            )),
            None => Ok(()),
        }
    }

    /// Everything that the optimisers remember, for a checkpoint.
    pub fn state(&self) -> State {
        let mut state = State::default();
        for slot in &self.slots {
            state.counters.insert(slot.counter(), slot.steps);
            for (name, moment) in slot.moment_names().zip(&slot.moments) {
                state.tensors.insert(name, numbers(moment));
            }
        }
        state
    }

    /// Goes on from a checkpoint: the next steps are bit for bit those that would have followed. Names of others are ignored.
    ///
    /// # Errors
    /// Names what is missing, too much, of the wrong size or not finite. Then nothing has changed.
    pub fn load(&mut self, state: &State) -> Result<()> {
        let mut loaded = Vec::new();
        let mut known = State::default();
        for slot in &self.slots {
            let steps = state.counter(&slot.counter())?;
            let mut moments = Vec::new();
            known.counters.insert(slot.counter(), 0);
            for name in slot.moment_names().filter(|_| steps > 0) {
                moments.push(tensor(state.tensor(&name, slot.shape.iter().product())?, slot.shape));
                known.tensors.insert(name, Vec::new());
            }
            loaded.push((steps, moments));
        }
        state.refuse_others(PREFIX, &known)?;
        for (slot, (steps, moments)) in self.slots.iter_mut().zip(loaded) {
            (slot.steps, slot.moments) = (steps, moments);
        }
        Ok(())
    }
}

impl Slot {
    fn step(&mut self, value: Tensor<4>, gradient: Tensor<4>, factor: f64, fused: bool) -> Result<Tensor<4>> {
        self.steps += 1;
        let step = Step { factor, count: self.steps, clip: self.clip };
        let (device, learned) = (value.device(), value.is_require_grad());
        let inner = device.clone().inner();
        if self.moments.is_empty() {
            self.moments = self.rule.moments().iter().map(|_| Tensor::zeros(self.shape, &inner)).collect();
        }
        let new = if fused {
            let mut value = host::take(value);
            let mut moments: Vec<TensorData> = self.moments.drain(..).map(host::take).collect();
            let mut slices = moments.iter_mut();
            let mut moment =
                || slices.next().map_or(Ok(Default::default()), |m| host::slice_mut(&self.name, m));
            let moments_of_lane = [moment()?, moment()?];
            let value_of_lane = host::slice_mut(&self.name, &mut value)?;
            host::read(&self.name, &gradient, |gradient| {
                Lane { value: value_of_lane, gradient, moments: moments_of_lane }
                    .run(&|lane| self.rule.fused(step, lane));
            })?;
            self.moments = moments.into_iter().map(|m| Tensor::from_data(m, &inner)).collect();
            Tensor::from_data(value, &inner)
        } else {
            for moment in self.moments.iter_mut().filter(|m| m.device() != inner) {
                *moment = moment.clone().to_device(&inner);
            }
            let new = self.rule.tensors(step, value.inner(), gradient, &mut self.moments);
            if self.clip.is_finite() { new.clamp(-self.clip, self.clip) } else { new }
        };
        Ok(if device.is_autodiff() { new.autodiff().set_require_grad(learned) } else { new })
    }

    fn counter(&self) -> String {
        format!("{PREFIX}{}.steps", self.name)
    }
    fn moment_names(&self) -> impl Iterator<Item = String> {
        self.rule.moments().iter().map(|moment| format!("{PREFIX}{}.{moment}", self.name))
    }
}

/// The rule of an optimiser, with its decay or without.
fn rule(optimizer: Optimizer, decays: bool) -> Box<dyn Rule> {
    let used = |decay| if decays { decay } else { 0.0 };
    match optimizer {
        Optimizer::Adam { rate, beta1, beta2, eps, decay } => {
            Box::new(adam::Adam { rate, beta1, beta2, eps, decay: used(decay) })
        }
        Optimizer::Sgd { rate, momentum, decay, nesterov } => {
            Box::new(sgd::Sgd { rate, momentum, decay: used(decay), nesterov })
        }
        Optimizer::Bop { rate, threshold } => Box::new(bop::Bop { rate, threshold }),
    }
}

/// Refuses values that are not finite or so large that they will not be for long.
///
/// # Errors
/// Names the parameter.
pub fn check_values(params: &[Param], values: &[Tensor<4>]) -> Result<()> {
    match first_wild(params.iter().map(|p| p.name.as_str()).zip(values))? {
        Some(name) => Err(Error::layer(name, "has a value that is not finite; lower the learning rate")),
        None => Ok(()),
    }
}

/// The first tensor with a number that is not below [`LIMIT`] (as NaN never is).
fn first_wild<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor<4>)>) -> Result<Option<&'a str>> {
    let mut names = Vec::new();
    let mut tame: Vec<Tensor<1, Bool>> = Vec::new();
    for (name, tensor) in tensors {
        if !host::is_host(&tensor.device()) {
            names.push(name);
            tame.push(tensor.clone().inner().abs().lower_elem(LIMIT).all());
        } else if host::read(name, tensor, |numbers| !all_tame(numbers))? {
            return Ok(Some(name));
        }
    }
    if tame.is_empty() {
        return Ok(None);
    }
    // One transfer for all of them.
    let tame = Tensor::cat(tame, 0).into_data();
    Ok(tame.iter::<bool>().position(|tame| !tame).and_then(|i| names.get(i).copied()))
}

fn all_tame(numbers: &[f32]) -> bool {
    // Whole chunks without a branch become vector instructions.
    numbers.chunks(4096).all(|chunk| chunk.iter().fold(true, |tame, x| tame & (x.abs() < LIMIT)))
}

/// A tensor on the CPU.
fn tensor(numbers: &[f32], shape: [usize; 4]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), shape), &Device::flex())
}

#[cfg(test)]
mod tests;
