//! A training run: from a recipe and a folder of pictures to a model file.

pub mod record;

use crate::recipe::Recipe;
use onebit::error::Result;
use record::{Log, Observer};
use std::path::PathBuf;

/// What to train, on what, and where the result goes.
#[derive(Clone, Debug)]
pub struct Job {
    /// The recipe, with all overrides applied.
    pub recipe: Recipe,
    /// Folder or file of labelled pictures, with a test part if possible.
    pub data: PathBuf,
    /// Folder of the run: `recipe.toml`, `log.json`, `checkpoint.safetensors`, `best.safetensors`, `model.onebit`, `report.html`.
    pub folder: PathBuf,
    /// Goes on with the run that is in the folder; otherwise a folder with a run is refused.
    pub resume: bool,
    /// A model file whose outputs the network learns to follow.
    pub teacher: Option<PathBuf>,
    /// A checkpoint of a run whose parameters of the same name and shape are the start.
    pub start: Option<PathBuf>,
    /// A damaged picture ends the run; otherwise it is left out, counted and named.
    pub strict: bool,
    /// Uses only the first pictures of each part; 0 uses all.
    pub limit: usize,
    /// Devices: `cpu`, or as the features of this build allow `vulkan`, `wgpu`, `cuda` with a number (`cuda:0`).
    pub devices: Vec<String>,
}

/// Trains, and writes everything into the folder of the run.
///
/// # Errors
/// Names the file, layer or number that is wrong, and what to do.
pub fn train(job: &Job, observer: &mut dyn Observer) -> Result<Log> {
    let _ = (job, observer);
    Err(onebit::Error::Input("training is not there yet".into()))
}
