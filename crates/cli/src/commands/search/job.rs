//! From arguments to a search, and what is printed of it.

use super::Search;
use super::display::Display;
use crate::Global;
use crate::commands::train::job::{again, read};
use crate::text::{Table, bytes, count, plural, print, print_json};
use anyhow::{Context, Result, bail};
use onebit_train::search::cost::{Budget, Planned};
use onebit_train::search::space::Space;
use onebit_train::search::trial::Trial;
use onebit_train::search::{Found, Task, search as run};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Longest description of a space, in bytes.
const MAX_SPACE: u64 = 1 << 20;

/// The result, as `--json` prints it.
#[derive(Serialize)]
struct Outcome<'a> {
    folder: &'a Path,
    /// What costs are those of.
    costs: &'a str,
    budget: Budget,
    trials: usize,
    cpu_seconds: f64,
    /// Networks that none of the others beats in everything, most accurate first.
    front: Vec<Network>,
}

#[derive(Serialize)]
struct Network {
    trial: usize,
    network: String,
    valid_accuracy: f64,
    /// Test pictures classified right, and all; nothing without test pictures.
    test: Option<(usize, usize)>,
    ram_bytes: u64,
    flash_bytes: u64,
    instructions: u64,
    folder: PathBuf,
}

/// Searches.
pub fn search(args: &Search, global: &Global) -> Result<()> {
    let task = Task {
        data: args.data.clone().context("pictures are needed: --data PATH")?,
        folder: args.out.clone(),
        resume: args.resume,
        space: space(args)?,
        budget: Budget {
            flash_bytes: args.max_flash,
            ram_bytes: args.max_ram,
            instructions: args.max_instructions,
        },
        trials: args.trials as usize,
        epochs: args.epochs as usize,
        finals: args.finals as usize,
        seed: args.seed,
        limit: args.limit.map_or(0, |n| n as usize),
        devices: vec![args.device.clone()],
    };
    let costs = Planned { target: args.target, with_input: args.ram_with_input };
    let mut display = Display::new()?;
    let found = run(&task, &costs, &mut display);
    display.clear();
    let found = found?;
    if !found.done {
        let trained =
            found.trials.iter().map(|t| t.rungs.len() + usize::from(t.last.is_some())).sum::<usize>();
        bail!("stopped after {trained} trainings; go on with: {}", again());
    }
    let front = found.front.iter().filter_map(|n| network(&task.folder, found.trials.get(*n)?)).collect();
    let result = Outcome {
        folder: &task.folder,
        costs: &found.settings.costs,
        budget: found.settings.budget,
        trials: found.trials.len(),
        cpu_seconds: cpu_seconds(&found),
        front,
    };
    onebit::atomic::replace(&task.folder.join("front.md"), markdown(&result.front).as_bytes())?;
    if global.json {
        return print_json(&result);
    }
    if result.front.is_empty() {
        bail!("{}: no network could be trained to the end; search.json says why", task.folder.display());
    }
    let mut table =
        Table::new(&["network", ">validation", ">test", ">RAM", ">flash", ">instructions", "layers"]);
    result.front.iter().for_each(|n| table.row(cells(n)));
    print(&format!(
        "{}\n{} tried in {:.1} cpu-minutes; {}\nnext: onebit codegen {} --target {} -o src/\n",
        table.render(),
        plural(result.trials, "network"),
        result.cpu_seconds / 60.0,
        task.folder.join("pareto.svg").display(),
        result.front[0].folder.join("model.onebit").display(),
        args.target
    ))
}

/// Prints the space that would be searched.
pub fn print_space(args: &Search, global: &Global) -> Result<()> {
    let space = space(args)?;
    if global.json { print_json(&space) } else { print(&space.to_toml()?) }
}

fn space(args: &Search) -> Result<Space> {
    let Some(path) = &args.space else { return Ok(Space::default()) };
    Space::parse(&read(path, MAX_SPACE)?).with_context(|| path.display().to_string())
}

fn network(folder: &Path, trial: &Trial) -> Option<Network> {
    let last = trial.last.as_ref()?;
    let cost = last.cost?;
    Some(Network {
        trial: trial.number,
        network: trial.point.to_string(),
        valid_accuracy: last.valid_accuracy,
        test: last.test,
        ram_bytes: cost.ram_bytes,
        flash_bytes: cost.flash_bytes,
        instructions: cost.instructions,
        folder: folder.join("networks").join(trial.name()),
    })
}

fn cpu_seconds(found: &Found) -> f64 {
    found.trials.iter().flat_map(|t| t.rungs.iter().chain(&t.last)).map(|t| t.cpu_seconds).sum()
}

fn cells(n: &Network) -> Vec<String> {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let test = n.test.filter(|(_, all)| *all > 0);
    vec![
        format!("{:04}", n.trial),
        percent(n.valid_accuracy),
        test.map_or("–".into(), |(right, all)| percent(right as f64 / all as f64)),
        bytes(n.ram_bytes),
        bytes(n.flash_bytes),
        count(n.instructions),
        n.network.clone(),
    ]
}

fn markdown(front: &[Network]) -> String {
    let mut text = String::from(
        "| network | validation | test | RAM | flash | instructions | layers |\n|---|--:|--:|--:|--:|--:|---|\n",
    );
    for n in front {
        text.push_str(&format!("| {} |\n", cells(n).join(" | ")));
    }
    text
}
