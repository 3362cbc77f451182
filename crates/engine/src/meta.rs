//! What a model file says about its network besides the ops: how to feed it and where it came from.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Order of the axes of the source framework's tensors. Inside, everything is NHWC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Channels last.
    #[default]
    Nhwc,
    /// Channels first.
    Nchw,
}

/// Everything a user of the network needs to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Meta {
    /// Name of the network.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// Licence of the weights, if known.
    pub license: String,
    /// How pixels become the input.
    pub input: Preprocessing,
    /// Names of the classes; empty if unknown.
    pub classes: Vec<String>,
    /// Measured accuracy, if known.
    #[cfg(feature = "std")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// How onebit trained it.
    #[cfg(feature = "std")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// What only runs a network skips both.
    #[cfg(not(feature = "std"))]
    #[serde(skip_serializing)]
    accuracy: serde::de::IgnoredAny,
    #[cfg(not(feature = "std"))]
    #[serde(skip_serializing)]
    training: serde::de::IgnoredAny,
}

/// How pixels become the network's input: resize, crop, then `(pixel - mean) / std`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocessing {
    /// Axis order of tensors given by the user.
    pub layout: Layout,
    /// One value, or one for each channel; empty means 0. Unused where the network takes bytes.
    pub mean: Vec<f32>,
    /// One value, or one for each channel; empty means 1. Unused where the network takes bytes.
    pub std: Vec<f32>,
    /// Images are scaled so that their short side has this length, then the centre is cropped; 0 means the
    /// larger side of the input.
    pub resize: usize,
}

/// A measured accuracy.
#[cfg(feature = "std")]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accuracy {
    /// Data set and part of it.
    pub data: String,
    /// Images classified correctly.
    pub correct: usize,
    /// Images classified.
    pub total: usize,
}

/// All that it takes to train a network again, but for the pictures.
#[cfg(feature = "std")]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// The recipe, TOML.
    pub recipe: String,
    /// Seed of all that was random.
    pub seed: u64,
    /// Epochs that were run.
    pub epochs: usize,
    /// Hash of the training pictures and their labels.
    pub data: String,
}

impl Preprocessing {
    /// Mean and standard deviation of channel `c`.
    pub fn normalisation(&self, c: usize) -> (f32, f32) {
        let at = |v: &[f32], default| v.get(c).or(v.first()).copied().unwrap_or(default);
        (at(&self.mean, 0.0), at(&self.std, 1.0))
    }
}
