//! Recipes: everything that decides how a network is trained, as one TOML file.

use crate::data::Augment;
use crate::network::Architecture;
use onebit::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A training run, but for where the data lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the network.
    pub name: String,
    /// What it is and where it comes from, in a sentence.
    #[serde(default)]
    pub about: String,
    /// The data it is meant for, in words; any data of the right shape can be given.
    #[serde(default)]
    pub data: String,
    /// The layers.
    pub network: Architecture,
    /// How it is trained.
    pub train: Train,
}

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Pictures in a step.
    pub batch: usize,
    /// Decides initial weights, the split, order and augmentation of the pictures.
    pub seed: u64,
    /// What is minimised.
    pub loss: Loss,
    /// Factor of the scores in the loss. Scores that are plain sums of signs are too large for a softmax; with `2 / sqrt(inputs)`
    /// of the last layer here, the network needs no BatchNorm behind it and its scores stay integers.
    #[serde(skip_serializing_if = "is_one")]
    pub score_factor: f32,
    /// Learning rate over time.
    pub schedule: Schedule,
    /// Steps over which the rate rises from 0 at the start, as a share of all.
    pub warmup: f32,
    /// Optimiser of everything that `latent` does not name.
    pub optimizer: Optimizer,
    /// Optimiser of the latent weights of quantised layers; the same as `optimizer` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent: Option<Optimizer>,
    /// Latent weights are clipped to `+-` this after each step; 0 does not clip.
    pub clip: f32,
    /// Random changes of the training pictures.
    pub augment: Augment,
    /// Share of the training pictures that is kept for choosing the best epoch; the test pictures never choose.
    pub validation: f32,
    /// Epochs without a better validation accuracy after which the run stops; 0 never stops early.
    pub patience: usize,
    /// First epochs in which weights stay float and only activations are quantised (two-stage training of Real-to-Binary and
    /// ReActNet).
    pub float_weight_epochs: usize,
    /// Decay of the moving average of all parameters that is evaluated and exported; 0 uses the parameters themselves.
    pub average: f32,
    /// Share of the loss that follows a teacher's outputs, if one is given.
    pub distill: f32,
    /// Temperature of the teacher's outputs.
    pub temperature: f32,
}

impl Default for Train {
    fn default() -> Self {
        Train {
            epochs: 20,
            batch: 128,
            seed: 0,
            loss: Loss::CrossEntropy { smoothing: 0.0 },
            score_factor: 1.0,
            schedule: Schedule::Cosine,
            warmup: 0.0,
            optimizer: Optimizer::default(),
            latent: None,
            clip: 1.0,
            augment: Augment::default(),
            validation: 0.1,
            patience: 0,
            float_weight_epochs: 0,
            average: 0.0,
            distill: 0.5,
            temperature: 1.0,
        }
    }
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// Cross-entropy of the softmax.
    CrossEntropy {
        /// Share of the target given to all classes alike.
        #[serde(default)]
        smoothing: f32,
    },
    /// Mean of `max(0, 1 - t y)^2` with `t` = +1 for the right class and -1 for the others (Courbariaux et al. 2016).
    SquaredHinge {},
}

/// Learning rate over time, as a factor of the optimiser's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Half a cosine from 1 to 0.
    Cosine,
    /// A straight line from 1 to 0.
    Linear,
    /// Falls by the same factor with every step, to `last` at the end.
    Exponential {
        /// Factor at the end.
        last: f32,
    },
    /// Multiplied by `factor` at each of these epochs.
    Steps {
        /// Epochs, counted from 0.
        epochs: Vec<usize>,
        /// Factor.
        factor: f32,
    },
}

/// An optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019) of float weights.
    Adam {
        /// Learning rate.
        rate: f32,
        /// Decay of the mean of gradients.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the mean of squared gradients.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the root.
        #[serde(default = "eps")]
        eps: f32,
        /// Weight decay of float weights.
        #[serde(default)]
        decay: f32,
    },
    /// Gradient descent with momentum.
    Sgd {
        /// Learning rate.
        rate: f32,
        /// Momentum.
        #[serde(default)]
        momentum: f32,
        /// Weight decay (L2) of float weights.
        #[serde(default)]
        decay: f32,
        /// Momentum after Nesterov.
        #[serde(default)]
        nesterov: bool,
    },
    /// Flips a weight whose mean gradient is larger than a threshold and points the same way; there are no latent weights
    /// (Bop, Helwegen et al. 2019). For `latent` only, and only for signs.
    Bop {
        /// Decay of the mean of gradients (gamma).
        #[serde(default = "bop_rate")]
        rate: f32,
        /// Threshold.
        #[serde(default = "bop_threshold")]
        threshold: f32,
    },
}

impl Optimizer {
    fn check(self, key: &str) -> Result<()> {
        let share = |name, x: f32| (name, (0.0..1.0).contains(&x), "must be from 0 to below 1");
        let positive = |name, x: f32| (name, x > 0.0 && x.is_finite(), "must be above 0");
        let natural = |name, x: f32| (name, x >= 0.0 && x.is_finite(), "must not be negative");
        let checks = match self {
            Optimizer::Adam { rate, beta1, beta2, eps, decay } => vec![
                positive("adam.rate", rate),
                share("adam.beta1", beta1),
                share("adam.beta2", beta2),
                positive("adam.eps", eps),
                natural("adam.decay", decay),
            ],
            Optimizer::Sgd { rate, momentum, decay, .. } => {
                vec![positive("sgd.rate", rate), share("sgd.momentum", momentum), natural("sgd.decay", decay)]
            }
            Optimizer::Bop { rate, threshold } => {
                vec![positive("bop.rate", rate), natural("bop.threshold", threshold)]
            }
        };
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((name, _, text)) => Err(Error::Input(format!("{key}.{name} {text}"))),
            None => Ok(()),
        }
    }
}

fn is_one(x: &f32) -> bool {
    *x == 1.0
}
fn beta1() -> f32 {
    0.9
}
fn beta2() -> f32 {
    0.999
}
fn eps() -> f32 {
    1e-8
}
fn bop_rate() -> f32 {
    1e-4
}
fn bop_threshold() -> f32 {
    1e-8
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::Adam { rate: 1e-3, beta1: beta1(), beta2: beta2(), eps: eps(), decay: 0.0 }
    }
}

impl Recipe {
    /// Reads TOML after applying overrides (`train.epochs=5`, `network.layers.0.conv.filters=32`).
    ///
    /// # Errors
    /// Names the line or the key that does not fit.
    pub fn parse(text: &str, overrides: &[(String, String)]) -> Result<Self> {
        let wrong = |e: &dyn std::fmt::Display| {
            Error::Input(format!("the recipe does not fit: {}", e.to_string().trim()))
        };
        let mut value: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(&e))?;
        for (key, new) in overrides {
            set(&mut value, key, new)?;
        }
        let recipe: Recipe = value.try_into().map_err(|e: toml::de::Error| wrong(&e))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    ///
    /// # Errors
    /// When a number cannot be written.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Input(format!("the recipe cannot be written: {e}")))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let t = &self.train;
        let share = |x: f32| (0.0..1.0).contains(&x);
        let checks = [
            (t.epochs > 0, "train.epochs must be at least 1"),
            (t.batch > 0 && t.batch <= 1 << 16, "train.batch must be from 1 to 65536"),
            (t.score_factor > 0.0 && t.score_factor.is_finite(), "train.score_factor must be above 0"),
            (share(t.warmup), "train.warmup must be from 0 to below 1"),
            (t.clip >= 0.0, "train.clip must not be negative"),
            (share(t.validation), "train.validation must be from 0 to below 1"),
            (share(t.average), "train.average must be from 0 to below 1"),
            ((0.0..=1.0).contains(&t.distill), "train.distill must be from 0 to 1"),
            (t.temperature > 0.0, "train.temperature must be above 0"),
            (
                !matches!(t.optimizer, Optimizer::Bop { .. }),
                "train.optimizer cannot be bop; give it as train.latent",
            ),
        ];
        if let Some((_, text)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(Error::Input((*text).into()));
        }
        t.optimizer.check("train.optimizer")?;
        t.latent.map_or(Ok(()), |latent| latent.check("train.latent"))?;
        t.augment.check()
    }
}

/// Sets a value by its dotted path; numbers are places in a list.
fn set(table: &mut toml::Table, path: &str, new: &str) -> Result<()> {
    let wrong = |what: &str| Error::Input(format!("--set {path}={new}: {what}"));
    // A text that is no TOML value is taken as a string, so that quotes need not be escaped in a shell.
    let new: toml::Value = match format!("v = {new}").parse::<toml::Table>() {
        Ok(mut t) => t.remove("v").ok_or_else(|| wrong("is no value"))?,
        Err(_) => toml::Value::String(new.into()),
    };
    let mut keys = path.split('.').peekable();
    let first = keys.next().unwrap_or_default();
    let mut place = table.entry(first).or_insert(toml::Value::Table(toml::Table::new()));
    for key in keys {
        place = match place {
            toml::Value::Table(t) => t.entry(key).or_insert(toml::Value::Table(toml::Table::new())),
            toml::Value::Array(list) => {
                let n = list.len();
                let i = key.parse::<usize>().ok().filter(|i| *i < n);
                let i = i.ok_or_else(|| {
                    Error::Input(format!("--set {path}: `{key}` is no place in a list of {n}"))
                })?;
                &mut list[i]
            }
            _ => return Err(Error::Input(format!("--set {path}: there is nothing below `{key}`'s parent"))),
        };
    }
    *place = new;
    Ok(())
}
