//! `onebit train`: from a recipe and labelled pictures to a model file.
//!
//! The command is there in every build, so that its help and its errors are; training itself is behind the feature `train`.

#[cfg(feature = "train")]
pub(crate) mod display;
#[cfg(feature = "train")]
pub(crate) mod job;
#[cfg(feature = "train")]
mod list;
#[cfg(feature = "train")]
mod outcome;

use crate::Global;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  onebit train --list
  onebit train mnist-mlp --data mnist/
  onebit train mnist-mlp --data mnist/ --weights dorefa:2 --act dorefa:2 --epochs 5 --out runs/two-bits
  onebit train mine.toml --data photos/ --set train.patience=5 --seed 7
  onebit train --out runs/two-bits --data mnist/ --resume";

/// Trains a 1-bit or k-bit network
#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[cfg_attr(not(feature = "train"), allow(dead_code))]
pub struct Train {
    /// Name of a built-in recipe (see --list), or a TOML file; that of the run in --out if absent
    #[arg(required_unless_present_any = ["list", "out"])]
    recipe: Option<String>,
    /// MNIST-layout folder, CIFAR binary files, or a folder of PNG and JPEG files with one subfolder per class or a
    /// labels.csv (`class,file`)
    #[arg(long, value_name = "PATH", required_unless_present_any = ["list", "print_recipe", "report_only"])]
    data: Option<PathBuf>,
    /// Folder of the run [default: runs/NAME-SEED]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Replaces a value of the recipe (`train.clip=1.5`, `network.layers.0.conv.filters=32`); may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Passes over the training pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Pictures in a step
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Option<u32>,
    /// Learning rate of the recipe's optimiser
    #[arg(long, value_name = "R", value_parser = rate, allow_negative_numbers = true)]
    rate: Option<f32>,
    /// Decides initial weights, and the split, order and changes of the pictures
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Quantiser of weights where layers name none: sign, sign:approx, xnor, magnitude, ternary, dorefa:BITS, float
    #[arg(long, value_name = "Q")]
    weights: Option<String>,
    /// Quantiser of activations where layers name none: sign, sign:approx, rsign, dorefa:BITS, pact:BITS, relu
    #[arg(long, value_name = "Q")]
    act: Option<String>,
    /// Goes on with the run in the folder
    #[arg(long)]
    resume: bool,
    /// Model file whose outputs the network learns to follow
    #[arg(long, value_name = "MODEL")]
    teacher: Option<PathBuf>,
    /// Checkpoint of another run (best.safetensors) whose parameters are the start
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "resume")]
    start: Option<PathBuf>,
    /// A damaged picture ends the run instead of being left out
    #[arg(long)]
    strict: bool,
    /// Uses the first N pictures of each part
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Where to train: cpu, or as this build allows cuda, vulkan or wgpu, with a number where there are several (cuda:1)
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
    /// Several devices, each of which takes a part of every batch
    #[arg(long, value_name = "D,D", value_delimiter = ',', conflicts_with = "device")]
    devices: Vec<String>,
    /// Lists the built-in recipes
    #[arg(long)]
    list: bool,
    /// Prints the recipe with everything that was replaced, and trains nothing
    #[arg(long)]
    print_recipe: bool,
    /// Writes report.html of the run in the folder once more, and trains nothing
    #[arg(long, conflicts_with_all = ["resume", "print_recipe"])]
    report_only: bool,
}

impl Train {
    /// Runs the command.
    #[cfg(feature = "train")]
    pub fn run(&self, global: &Global) -> Result<()> {
        if self.list {
            list::print(global)
        } else if self.print_recipe {
            job::print_recipe(self, global)
        } else if self.report_only {
            job::report(self, global)
        } else {
            onebit_train::driver::memory::keep();
            job::train(self, global)
        }
    }

    /// Says how to get what is missing.
    #[cfg(not(feature = "train"))]
    pub fn run(&self, _: &Global) -> Result<()> {
        anyhow::bail!(
            "this build cannot train; `cargo install --path crates/cli --features train` in the sources of onebit makes one that can"
        )
    }
}

/// What `--set` says.
fn assignment(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    let parts = parts.filter(|(key, _)| key.split('.').all(|k| !k.is_empty()));
    let parts = parts.ok_or("a key and a value are needed, such as train.clip=1.5")?;
    Ok((parts.0.into(), parts.1.into()))
}

/// What `--rate` says.
fn rate(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|r: &f32| r.is_finite() && *r > 0.0);
    number.ok_or_else(|| "a number above 0 is needed".into())
}
