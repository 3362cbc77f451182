//! The network that is being trained: parameters, statistics, optimisers, and one step.

use crate::data::{Batch, Purpose, Random};
use crate::export::Values;
use crate::forward::{Form, Found, Mode, forward};
use crate::loss::{distillation, loss};
use crate::network::{Init, Network, NodeOp, Param};
use crate::ops::host::numbers;
use crate::ops::norm::Statistics;
use crate::optim::{Average, Optimizers, State};
use crate::recipe::{Optimizer, Recipe, Train};
use burn::tensor::{Device, Int, Tensor, TensorData};
use onebit::core::ops::argmax;
use onebit::error::{Error, Result};

/// Everything that a step changes.
pub struct Learner {
    /// The network.
    pub network: Network,
    form: Form,
    devices: Vec<Device>,
    train: Train,
    values: Vec<Tensor<4>>,
    statistics: Vec<Option<Statistics>>,
    optimizers: Optimizers,
    average: Option<Average>,
}

/// What a step found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stepped {
    /// Sum of the loss over the pictures.
    pub loss: f64,
    /// Pictures classified right.
    pub correct: usize,
    /// Pictures.
    pub pictures: usize,
}

impl std::ops::AddAssign for Stepped {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.pictures += other.pictures;
    }
}

/// What differs from step to step.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions<'a> {
    /// Factor of the learning rates.
    pub rate: f64,
    /// Weights are floats: the first of two stages.
    pub float_weights: bool,
    /// Decides what is dropped.
    pub seed: u64,
    /// Outputs of a teacher for the pictures of the batch.
    pub teacher: Option<&'a [f32]>,
}

/// What one device makes of its share of a batch.
struct Share {
    stepped: Stepped,
    gradients: Vec<Option<Tensor<4>>>,
    found: Found,
}

impl Learner {
    /// A network with random weights, decided by the recipe's seed.
    ///
    /// # Errors
    /// Names the layer that does not fit.
    pub fn new(recipe: &Recipe, form: Form, devices: Vec<Device>) -> Result<Self> {
        let network = Network::new(&recipe.network)?;
        let device = &devices[0];
        let bop = matches!(recipe.train.latent, Some(Optimizer::Bop { .. }));
        let values: Vec<Tensor<4>> = network
            .params
            .iter()
            .enumerate()
            .map(|(i, param)| {
                let mut start = initial(param, recipe.train.seed, i as u64);
                if bop && param.role == crate::network::Role::Latent {
                    start.iter_mut().for_each(|w| *w = if *w >= 0.0 { 1.0 } else { -1.0 });
                }
                Tensor::from_data(TensorData::new(start, param.shape), device)
            })
            .collect();
        let statistics = network
            .nodes
            .iter()
            .map(|n| matches!(n.op, NodeOp::Norm(_)).then(|| (vec![0.0; n.shape.c], vec![1.0; n.shape.c])))
            .collect();
        let optimizers = Optimizers::new(&network.params, &recipe.train);
        let decay = recipe.train.average;
        let average = (decay > 0.0).then(|| Average::new(&network.params, &values, decay));
        Ok(Learner {
            network,
            form,
            devices,
            train: recipe.train.clone(),
            values,
            statistics,
            optimizers,
            average,
        })
    }

    /// The parameters, on the first device.
    pub fn parameters(&self) -> &[Tensor<4>] {
        &self.values
    }

    /// Learns from a batch.
    ///
    /// # Errors
    /// Names the parameter whose gradient is not finite, or says that the loss is not.
    pub fn step(&mut self, batch: &Batch, options: &StepOptions<'_>) -> Result<Stepped> {
        let all = batch.len();
        let per = all.div_ceil(self.devices.len());
        let bounds = |i: usize| (i * per).min(all)..((i + 1) * per).min(all);
        let shares: Vec<Share> = if self.devices.len() == 1 {
            vec![self.share(0, batch, 0..all, options)]
        } else {
            let this = &*self;
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..this.devices.len())
                    .filter(|i| bounds(*i).len() > 1)
                    .map(|i| scope.spawn(move || this.share(i, batch, bounds(i), options)))
                    .collect();
                threads.into_iter().map(|t| t.join().expect("a share does not panic")).collect()
            })
        };
        let mut stepped = Stepped::default();
        let total: usize = shares.iter().map(|s| s.stepped.pictures).sum();
        let mut gradients: Vec<Option<Tensor<4>>> = Vec::new();
        let mut found: Found = Vec::new();
        for (i, share) in shares.into_iter().enumerate() {
            stepped += share.stepped;
            let weight = share.stepped.pictures as f32 / total as f32;
            if total == share.stepped.pictures {
                (gradients, found) = (share.gradients, share.found);
                break;
            }
            let device = &self.devices[0];
            let weighted = share.gradients.into_iter().map(|g| g.map(|g| g.to_device(device) * weight));
            if i == 0 {
                gradients = weighted.collect();
                found = share.found;
                found.iter_mut().for_each(|(_, s)| scale(s, weight));
            } else {
                for (sum, g) in gradients.iter_mut().zip(weighted) {
                    *sum = match (sum.take(), g) {
                        (Some(a), Some(b)) => Some(a + b),
                        (a, b) => a.or(b),
                    };
                }
                for ((_, sum), (_, s)) in found.iter_mut().zip(share.found) {
                    add(sum, &s, weight);
                }
            }
        }
        if !stepped.loss.is_finite() {
            return Err(Error::Input(
                "the loss is not finite: the training diverged; lower the learning rate (--rate) or start it with a longer \
                 train.warmup"
                    .into(),
            ));
        }
        self.optimizers.step(&mut self.values, gradients, options.rate)?;
        self.remember(found);
        if let Some(average) = &mut self.average {
            average.update(&self.values)?;
        }
        Ok(stepped)
    }

    /// Forward and backward pass of some pictures on device `i`.
    fn share(
        &self,
        i: usize,
        batch: &Batch,
        pictures: std::ops::Range<usize>,
        options: &StepOptions<'_>,
    ) -> Share {
        let device = self.devices[i].clone();
        let n = pictures.len();
        let size = self.network.input.elements();
        let classes = self.network.classes();
        let on_device = |t: &Tensor<4>| if i == 0 { t.clone() } else { t.clone().to_device(&device) };
        let leaves: Vec<Tensor<4>> =
            self.values.iter().map(|v| on_device(v).autodiff().require_grad()).collect();
        let shape = self.network.input;
        let pixels = batch.pixels[pictures.start * size..pictures.end * size].to_vec();
        let x = Tensor::<4>::from_data(TensorData::new(pixels, [n, shape.h, shape.w, shape.c]), &device)
            .autodiff();
        let labels: Vec<i64> = batch.labels[pictures.clone()].iter().map(|l| i64::from(*l)).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [n]), &device).autodiff();
        let mode = Mode::Train { float_weights: options.float_weights, seed: options.seed };
        let (logits, found) = forward(&self.network, self.form, mode, &leaves, &self.statistics, x);
        let scores: Vec<f32> = logits.clone().inner().into_data().try_into_vec().expect("floats");
        let answers = self.classes_of(&scores);
        let correct = answers.iter().zip(&labels).filter(|(class, label)| **class as i64 == **label).count();
        let logits = logits * self.train.score_factor;
        let mut objective = loss(self.train.loss, logits.clone(), targets);
        if let Some(teacher) = options.teacher {
            let teacher = teacher[pictures.start * classes..pictures.end * classes].to_vec();
            let teacher = Tensor::<2>::from_data(TensorData::new(teacher, [n, classes]), &device).autodiff();
            let share = self.train.distill;
            objective =
                objective * (1.0 - share) + distillation(logits, teacher, self.train.temperature) * share;
        }
        let value: Vec<f32> = objective.clone().inner().into_data().try_into_vec().expect("a float");
        let mut all = objective.backward();
        let gradients = leaves.iter().map(|leaf| leaf.grad_remove(&mut all)).collect();
        let stepped = Stepped { loss: f64::from(value[0]) * n as f64, correct, pictures: n };
        Share { stepped, gradients, found }
    }

    /// Running statistics follow those of a batch.
    fn remember(&mut self, found: Found) {
        for (node, batch) in found {
            let NodeOp::Norm(norm) = &self.network.nodes[node].op else { continue };
            if let Some(running) = &mut self.statistics[node] {
                scale(running, 1.0 - norm.momentum);
                add(running, &batch, norm.momentum);
            }
        }
    }

    /// Outputs `[n][classes]` of the network as it will be exported, computed by the training graph.
    pub fn evaluate(&self, pixels: &[f32]) -> Vec<f32> {
        let values = self.average.as_ref().map_or(&self.values[..], Average::values);
        let shape = self.network.input;
        let n = pixels.len() / shape.elements();
        let data = TensorData::new(pixels.to_vec(), [n, shape.h, shape.w, shape.c]);
        let x = Tensor::from_data(data, &self.devices[0]);
        let (logits, _) = forward(&self.network, self.form, Mode::Evaluate, values, &self.statistics, x);
        logits.into_data().try_into_vec().expect("floats")
    }

    /// The class of each row of outputs: its first largest.
    pub fn classes_of(&self, scores: &[f32]) -> Vec<usize> {
        let classes = self.network.classes();
        let mut found = vec![0; scores.len() / classes];
        argmax::run(classes, scores, &mut found);
        found.into_iter().map(|class| class as usize).collect()
    }

    /// The sum of the loss of some outputs.
    pub fn loss_of(&self, scores: &[f32], labels: &[u32]) -> f64 {
        let (n, device) = (labels.len(), &self.devices[0]);
        let logits = Tensor::from_data(TensorData::new(scores.to_vec(), [n, self.network.classes()]), device);
        let labels: Vec<i64> = labels.iter().map(|l| i64::from(*l)).collect();
        let targets = Tensor::from_data(TensorData::new(labels, [n]), device);
        let value: Vec<f32> = loss(self.train.loss, logits * self.train.score_factor, targets)
            .into_data()
            .try_into_vec()
            .expect("a float");
        f64::from(value[0]) * n as f64
    }

    /// The numbers that are exported: moving averages where the recipe has them.
    pub fn exported(&self) -> Values {
        let values = self.average.as_ref().map_or(&self.values[..], Average::values);
        Values { params: values.iter().map(numbers).collect(), statistics: self.statistics.clone() }
    }

    /// The numbers that learn.
    pub fn values(&self) -> Values {
        Values { params: self.values.iter().map(numbers).collect(), statistics: self.statistics.clone() }
    }

    /// Takes the numbers of an export, and evaluates them from now on.
    ///
    /// # Errors
    /// As [`Learner::set`].
    pub fn export(&mut self, values: &Values) -> Result<()> {
        self.average = None;
        self.set(values)
    }

    /// What optimisers and averages remember.
    pub fn state(&self) -> State {
        let mut state = self.optimizers.state();
        if let Some(average) = &self.average {
            state.merge(average.state());
        }
        state
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// Names what does not fit this recipe.
    pub fn load(&mut self, values: &Values, state: &State) -> Result<()> {
        self.set(values)?;
        self.optimizers.load(state)?;
        match &mut self.average {
            Some(average) => average.load(state),
            None => Ok(()),
        }
    }

    /// Takes parameters and statistics.
    ///
    /// # Errors
    /// Names what has the wrong size.
    pub fn set(&mut self, values: &Values) -> Result<()> {
        let wrong = |name: &str| Error::layer(name, "has another size in the checkpoint than in this recipe");
        if values.params.len() != self.values.len() || values.statistics.len() != self.statistics.len() {
            return Err(Error::Input("the checkpoint belongs to another recipe".into()));
        }
        let mut new = Vec::new();
        for (param, numbers) in self.network.params.iter().zip(&values.params) {
            if numbers.len() != param.shape.iter().product::<usize>() {
                return Err(wrong(&param.name));
            }
            new.push(Tensor::from_data(TensorData::new(numbers.clone(), param.shape), &self.devices[0]));
        }
        for ((node, old), new) in self.network.nodes.iter().zip(&self.statistics).zip(&values.statistics) {
            let size = |s: &Option<Statistics>| s.as_ref().map(|(m, v)| (m.len(), v.len()));
            if size(old) != size(new) {
                return Err(wrong(&node.name));
            }
        }
        self.values = new;
        self.statistics.clone_from(&values.statistics);
        Ok(())
    }
}

fn scale((mean, variance): &mut Statistics, factor: f32) {
    mean.iter_mut().chain(variance).for_each(|v| *v *= factor);
}

fn add(to: &mut Statistics, from: &Statistics, factor: f32) {
    let add = |to: &mut [f32], from: &[f32]| to.iter_mut().zip(from).for_each(|(t, f)| *t += f * factor);
    add(&mut to.0, &from.0);
    add(&mut to.1, &from.1);
}

/// Random start of parameter `i`.
fn initial(param: &Param, seed: u64, i: u64) -> Vec<f32> {
    let n = param.shape.iter().product();
    let mut random = Random::of(Purpose::Initial, &[seed, i]);
    let [filters, kh, kw, c] = param.shape.map(|n| n as f32);
    let mut fill = |mut f: Box<dyn FnMut(&mut Random) -> f32>| (0..n).map(|_| f(&mut random)).collect();
    match param.init {
        Init::Constant(value) => vec![value; n],
        Init::Glorot => {
            let limit = (6.0 / (kh * kw * (c + filters))).sqrt();
            fill(Box::new(move |r| r.symmetric() * limit))
        }
        Init::He => {
            let deviation = (2.0 / (kh * kw * c)).sqrt();
            fill(Box::new(move |r| r.normal() * deviation))
        }
    }
}
