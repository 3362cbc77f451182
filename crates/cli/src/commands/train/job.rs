//! From arguments to a run, and what is printed of it.

use super::Train;
use super::display::Display;
use super::outcome::Report;
use crate::Global;
use crate::text::{print, print_json};
use anyhow::{Context, Result, bail};
use onebit_train::network::Network;
use onebit_train::recipe::{Optimizer, Recipe};
use onebit_train::run::record::Log;
use onebit_train::run::{self, Job};
use onebit_train::{recipes, report};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Files of a run; any of them shows that a folder holds one.
const RECIPE: &str = "recipe.toml";
const LOG: &str = "log.json";
const CHECKPOINT: &str = "checkpoint.safetensors";

/// Longest recipe and longest log, in bytes.
const MAX_RECIPE: u64 = 1 << 20;
const MAX_LOG: u64 = 1 << 28;

/// Trains.
pub fn train(args: &Train, global: &Global) -> Result<()> {
    if let Some(isa) = &global.isa {
        bail!("--isa {isa}: training always takes the best instructions of this CPU; leave it out");
    }
    let recipe = recipe(args)?;
    let folder = folder(args, &recipe);
    let there = [RECIPE, LOG, CHECKPOINT].iter().any(|file| folder.join(file).exists());
    if there && !args.resume {
        bail!(
            "{}: holds a run already; go on with it with --resume, or name another folder with --out",
            folder.display()
        );
    }
    if args.resume && !there {
        bail!(
            "{}: holds no run to go on with; leave out --resume, or name its folder with --out",
            folder.display()
        );
    }
    let job = Job {
        data: args.data.clone().context("pictures are needed: --data PATH")?,
        folder,
        resume: args.resume,
        teacher: args.teacher.clone(),
        start: args.start.clone(),
        strict: args.strict,
        limit: args.limit.map_or(0, |n| n as usize),
        test: true,
        devices: if args.devices.is_empty() { vec![args.device.clone()] } else { args.devices.clone() },
        recipe,
    };
    let mut display = Display::new(&job);
    display.stop_at_signals()?;
    let log = run::train(&job, &mut display);
    display.clear();
    let log = log?;
    let report = Report::new(&job, &log);
    if display.is_stopped() && log.result.is_none() {
        bail!(
            "stopped after {} of {} epochs; go on with: {}",
            log.epochs.len(),
            job.recipe.train.epochs,
            again()
        );
    }
    if global.json { print_json(&report) } else { print(&report.text()) }
}

/// Prints the recipe with everything that was replaced.
pub fn print_recipe(args: &Train, global: &Global) -> Result<()> {
    let recipe = recipe(args)?;
    if global.json { print_json(&recipe) } else { print(&recipe.to_toml()?) }
}

/// Writes the report of a run once more.
pub fn report(args: &Train, global: &Global) -> Result<()> {
    #[derive(Serialize)]
    struct Written<'a> {
        report: &'a Path,
        epochs: usize,
    }
    let folder = args.out.clone().map_or_else(|| Ok(folder(args, &recipe(args)?)), Ok::<_, anyhow::Error>)?;
    let path = folder.join(LOG);
    let log: Log = serde_json::from_str(&read(&path, MAX_LOG)?)
        .with_context(|| format!("{}: is no log of a run", path.display()))?;
    let to = folder.join("report.html");
    report::write(&log, &to)?;
    let epochs = log.epochs.len();
    if global.json { print_json(&Written { report: &to, epochs }) } else { print(&to.display().to_string()) }
}

/// The recipe named, with everything replaced that the arguments replace.
fn recipe(args: &Train) -> Result<Recipe> {
    let (source, text) = source(args)?;
    let parse = |overrides: &[(String, String)]| {
        Recipe::parse(&text, overrides).with_context(|| format!("recipe {source}"))
    };
    let mut overrides = args.set.clone();
    let mut set = |key: &str, value: Option<String>| overrides.extend(value.map(|v| (key.to_owned(), v)));
    set("train.epochs", args.epochs.map(|n| n.to_string()));
    set("train.batch", args.batch.map(|n| n.to_string()));
    set("train.seed", args.seed.map(|n| n.to_string()));
    set("network.weights", args.weights.clone());
    set("network.act", args.act.clone());
    let mut recipe = parse(&overrides)?;
    if let Some(rate) = args.rate {
        // The key has the optimiser's name in it, which only the recipe knows.
        let optimizer = match recipe.train.optimizer {
            Optimizer::Adam { .. } => "adam",
            Optimizer::Sgd { .. } => "sgd",
            Optimizer::Bop { .. } => "bop",
        };
        overrides.push((format!("train.optimizer.{optimizer}.rate"), rate.to_string()));
        recipe = parse(&overrides)?;
    }
    // Layers that do not fit together are told before any picture is read.
    Network::new(&recipe.network).with_context(|| format!("recipe {source}"))?;
    Ok(recipe)
}

/// Name and TOML of the recipe.
fn source(args: &Train) -> Result<(String, String)> {
    let Some(name) = &args.recipe else {
        // Clap asks for one of both.
        let path = args.out.clone().unwrap_or_default().join(RECIPE);
        if !path.exists() {
            bail!("{}: there is no such run; name a recipe to begin one", path.display());
        }
        return Ok((path.display().to_string(), read(&path, MAX_RECIPE)?));
    };
    if let Some(text) = recipes::text(name) {
        return Ok((name.clone(), text.into()));
    }
    let path = Path::new(name);
    if !path.exists() {
        bail!("{name}: is neither a built-in recipe nor a file; onebit train --list shows the built-in ones");
    }
    Ok((name.clone(), read(path, MAX_RECIPE)?))
}

/// A text file that should be short.
pub(crate) fn read(path: &Path, most: u64) -> Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|f| f.take(most + 1).read_to_string(&mut text));
    read.with_context(|| format!("{}: cannot be read", path.display()))?;
    if text.len() as u64 > most {
        bail!("{}: is larger than {}", path.display(), crate::text::bytes(most));
    }
    Ok(text)
}

/// The folder of the run.
fn folder(args: &Train, recipe: &Recipe) -> PathBuf {
    let name = || format!("{}-{}", plain(&recipe.name), recipe.train.seed);
    args.out.clone().unwrap_or_else(|| Path::new("runs").join(name()))
}

/// A name, which can be anything, as one visible part of a path.
fn plain(name: &str) -> String {
    let letter = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.chars().map(letter).collect();
    match name.trim_start_matches('.') {
        "" => "run".into(),
        name => name.into(),
    }
}

/// The command line that goes on with this run.
pub(crate) fn again() -> String {
    let mut words: Vec<String> = std::env::args_os().skip(1).map(|a| quoted(&a.to_string_lossy())).collect();
    if !words.iter().any(|w| w == "--resume") {
        words.push("--resume".into());
    }
    format!("onebit {}", words.join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_paths() {
        let names = ["lenet", "../../etc", "..", "", "a b/c"].map(plain);
        assert_eq!(names, ["lenet", "-..-etc", "run", "run", "a-b-c"]);
    }

    #[test]
    fn words_are_quoted_for_shells() {
        assert_eq!(quoted("runs/a-1"), "runs/a-1");
        assert_eq!(quoted("my photos"), "'my photos'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
