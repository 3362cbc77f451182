//! What a run tells while it goes on, and what remains of it.

use serde::{Deserialize, Serialize};

/// One epoch of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number, from 1.
    pub epoch: usize,
    /// Steps of the whole run so far.
    pub steps: usize,
    /// Mean loss over the training pictures.
    pub train_loss: f64,
    /// Share of the (augmented) training pictures that was classified right while training.
    pub train_accuracy: f64,
    /// Mean loss over the validation pictures; absent without a validation part.
    pub valid_loss: Option<f64>,
    /// Share of the validation pictures classified right.
    pub valid_accuracy: Option<f64>,
    /// Learning rate of the optimiser at the end.
    pub learning_rate: f64,
    /// For each layer of binary weights, the share that changed sign in this epoch.
    pub flips: Vec<(String, f64)>,
    /// Training pictures in a second.
    pub images_per_second: f64,
    /// Wall seconds, with the validation.
    pub seconds: f64,
    /// Seconds of all cores together.
    pub cpu_seconds: f64,
    /// Whether it is the best so far.
    pub best: bool,
}

/// A moment within an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Steps done in this epoch.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Mean loss of this epoch so far.
    pub loss: f64,
    /// Training accuracy of this epoch so far.
    pub accuracy: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Share of all binary weights that changed sign since the epoch began.
    pub flips: f64,
    /// Pictures in a second.
    pub images_per_second: f64,
    /// Expected seconds to the end of the run.
    pub seconds_left: f64,
}

/// What a run tells its observer.
#[derive(Debug)]
pub enum Event<'a> {
    /// It begins, or goes on after `done` epochs.
    Start {
        /// What is trained.
        log: &'a Log,
    },
    /// A step is done.
    Step(&'a Step),
    /// An epoch is done and saved.
    Epoch(&'a Epoch),
    /// Something that the user should know, one sentence.
    Warning(&'a str),
    /// It is over.
    End {
        /// All of it.
        log: &'a Log,
    },
}

/// Sees what a run tells; returning `false` asks it to save and stop.
pub trait Observer {
    /// Called in the run's thread.
    fn see(&mut self, event: Event<'_>) -> bool;
}

/// Everything that is known of a run: kept as JSON beside its files, and what the report is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// Name of the recipe.
    pub name: String,
    /// The recipe, as TOML.
    pub recipe: String,
    /// Where the data came from.
    pub data: String,
    /// SHA-256 over pixels and labels of the training part.
    pub data_hash: String,
    /// Names of the classes; empty if unknown.
    pub classes: Vec<String>,
    /// Training, validation and test pictures.
    pub pictures: [usize; 3],
    /// Learned numbers in all, and those that are binary or k-bit.
    pub parameters: [usize; 2],
    /// `cpu`, or the name of the device.
    pub device: String,
    /// Threads.
    pub threads: usize,
    /// Version of the program.
    pub version: String,
    /// Epochs done.
    pub epochs: Vec<Epoch>,
    /// What was found at the end.
    pub result: Option<Outcome>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// What was found at the end of a run, on the best epoch's network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Epoch whose network it is.
    pub best_epoch: usize,
    /// Why the run ended: `all epochs done`, `no better for N epochs`, ...
    pub ended: String,
    /// Test pictures classified right by the exported network, and all.
    pub test: Option<(usize, usize)>,
    /// Test pictures of class (row) that were given class (column).
    pub confusion: Vec<Vec<usize>>,
    /// Test pictures on which the exported network and the training graph differ; must be empty but for ties.
    pub differences: Vec<String>,
    /// Bytes of the exported file.
    pub file_bytes: u64,
    /// Seconds of all cores together, for the whole run.
    pub cpu_seconds: f64,
    /// Wall seconds of the whole run.
    pub seconds: f64,
}
