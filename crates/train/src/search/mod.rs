//! Search for networks that fit a chip (the network discovery of eBNN, done with exact costs).
//!
//! ```text
//! Space --sample, or a neighbour of the best--> Point --lowered untrained--> Cost --over the budget--> another
//!                                                                             |
//!                                 rungs of 1, 3, 9, .. epochs <---------------+
//!                                 the front of all trials ----> trained to the end, then tested
//! ```
//! A network is lowered and costed before anything is trained, so no training is spent on what does not fit. Validation
//! pictures alone choose; test pictures are classified by the last few networks, at the very end.
//!
//! With one program a seed decides everything. Several programs may share a folder, see [`trial`].

pub mod cost;
pub mod halving;
mod plot;
pub mod point;
pub mod propose;
pub mod space;
pub mod trial;

use crate::data::Source;
use crate::run::record::{self, Log, Observer, Step};
use crate::run::{self, Job};
use cost::{Budget, Cost, Costs};
use onebit::core::types::Shape;
use onebit::error::{Error, Result};
use onebit::{ModelFile, atomic};
use propose::Proposer;
use serde::{Deserialize, Serialize};
use space::Space;
use std::path::PathBuf;
use std::time::Duration;
use trial::{Claim, Stage, Store, Trained, Trial};

/// What to search, on what, and where the result goes.
#[derive(Clone, Debug)]
pub struct Task {
    /// Folder or file of labelled pictures.
    pub data: PathBuf,
    /// Folder of the search.
    pub folder: PathBuf,
    /// Goes on with the search in the folder, or joins it.
    pub resume: bool,
    /// What networks there are.
    pub space: Space,
    /// What they must fit.
    pub budget: Budget,
    /// Networks that are trained.
    pub trials: usize,
    /// Epochs of the last trainings.
    pub epochs: usize,
    /// Networks that are trained to the end, at most.
    pub finals: usize,
    /// Decides everything that is random.
    pub seed: u64,
    /// Uses only the first pictures of each part; 0 uses all.
    pub limit: usize,
    /// Devices, as those of a training.
    pub devices: Vec<String>,
}

/// Everything that decides the result: who goes on with a search must ask for the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What networks there are.
    pub space: Space,
    /// What they must fit.
    pub budget: Budget,
    /// What costs are those of, [`Costs::name`].
    pub costs: String,
    /// Networks that are trained.
    pub trials: usize,
    /// Epochs of the rungs.
    pub rungs: Vec<usize>,
    /// Epochs of the last trainings.
    pub epochs: usize,
    /// Networks that are trained to the end, at most.
    pub finals: usize,
    /// Decides everything that is random.
    pub seed: u64,
    /// First pictures that are used; 0 is all.
    pub limit: usize,
    /// Shape of the pictures.
    pub picture: Shape,
    /// Number of classes.
    pub classes: usize,
    /// SHA-256 of the training pictures.
    pub data_hash: String,
}

/// What a search found so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// What was asked for.
    pub settings: Settings,
    /// Networks that were trained to the end, fit, and are beaten by none of the others in everything: most accurate first.
    pub front: Vec<usize>,
    /// All networks.
    pub trials: Vec<Trial>,
    /// Whether everything is trained.
    pub done: bool,
}

/// What a search tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// It begins or goes on.
    Start(&'a Settings, &'a [Trial]),
    /// A network is trained for some epochs.
    Begin(&'a Trial, Stage, usize),
    /// A step of the training.
    Step(&'a Step),
    /// The training is over.
    End(&'a Trial, Stage),
    /// Other programs are at everything that can be trained now.
    Wait,
}

/// Sees what a search tells; returning `false` asks it to save and stop.
pub trait Watch {
    /// Called in the search's thread.
    fn see(&mut self, event: Event<'_>) -> bool;
}

/// Looks again for what can be trained after this time.
const PAUSE: Duration = Duration::from_millis(500);

/// Searches, and writes everything into the folder.
///
/// # Errors
/// When nothing of the space fits the budget, it says what the smallest network needs. Otherwise names the file or the number
/// that is wrong, and what to do.
pub fn search(task: &Task, costs: &dyn Costs, watch: &mut dyn Watch) -> Result<Found> {
    let settings = settings(task, costs)?;
    let mut proposer = Proposer::new(&settings, costs);
    if !task.resume {
        // Before there is a folder that would have to be removed.
        proposer.propose(&[]).ok_or_else(|| proposer.nothing_fits())?;
    }
    let store = Store::open(&task.folder, &settings, task.resume)?;
    let search = Search { task, settings: &settings, costs, store };
    watch.see(Event::Start(&settings, &search.store.trials()?));
    let mut exhausted = false;
    loop {
        let trials = search.store.trials()?;
        let all = exhausted || trials.len() >= settings.trials;
        let open = halving::open(&trials, settings.rungs.len(), settings.finals, all);
        if all && open.is_empty() {
            return search.write(all);
        }
        match search.train_one(&open, watch)? {
            Did::Trained => drop(search.write(all)?),
            Did::Stopped => return search.write(all),
            Did::Nothing if !all => match proposer.propose(&trials) {
                Some(trial) => {
                    search.store.add(&trial)?;
                }
                None if trials.is_empty() => return Err(proposer.nothing_fits()),
                None => exhausted = true,
            },
            Did::Nothing => {
                if !watch.see(Event::Wait) {
                    return search.write(all);
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn settings(task: &Task, costs: &dyn Costs) -> Result<Settings> {
    task.space.check()?;
    let wrong = |text: &str| Err(Error::Input(text.into()));
    if task.trials == 0 || task.epochs == 0 || task.finals == 0 {
        return wrong(
            "a search needs at least one trial, one epoch, and one network that is trained to the end",
        );
    }
    if task.budget == Budget::default() {
        return wrong("a search needs a budget: --max-ram, --max-flash or --max-instructions");
    }
    let (mut source, _) = Source::open_parts(&task.data)?;
    if task.limit > 0 {
        source.truncate(task.limit);
    }
    let Some(picture) = task.space.picture.or(source.shape()) else {
        let text = "holds picture files, which may differ in size: say `picture = [ROWS, COLUMNS, CHANNELS]` in a file for --space";
        return Err(Error::file(&task.data, text));
    };
    Ok(Settings {
        space: task.space.clone(),
        budget: task.budget,
        costs: costs.name(),
        trials: task.trials,
        rungs: halving::rungs(task.epochs),
        epochs: task.epochs,
        finals: task.finals,
        seed: task.seed,
        limit: task.limit,
        picture,
        classes: source.classes(),
        data_hash: source.hash(),
    })
}

enum Did {
    Trained,
    Stopped,
    Nothing,
}

struct Search<'a> {
    task: &'a Task,
    settings: &'a Settings,
    costs: &'a dyn Costs,
    store: Store,
}

impl Search<'_> {
    /// Trains the first that no other program is at.
    fn train_one(&self, open: &[(usize, Stage)], watch: &mut dyn Watch) -> Result<Did> {
        for (number, stage) in open {
            if let Some(claim) = self.store.claim(*number, *stage)? {
                let mut trial = self.store.trial(*number)?;
                let done = self.train(&mut trial, *stage, claim, watch)?;
                return Ok(if done { Did::Trained } else { Did::Stopped });
            }
        }
        Ok(Did::Nothing)
    }

    /// Trains a network and writes what was found; false if the training was stopped.
    fn train(&self, trial: &mut Trial, stage: Stage, claim: Claim, watch: &mut dyn Watch) -> Result<bool> {
        let settings = self.settings;
        let epochs = match stage {
            Stage::Rung(n) => settings.rungs[n],
            Stage::Last => settings.epochs,
        };
        let name = format!("network-{}", trial.name());
        let mut recipe = trial.point.recipe(&settings.space, &name, settings.picture, settings.classes)?;
        (recipe.train.epochs, recipe.train.seed) = (epochs, settings.seed);
        let folder = self.store.run(trial, stage);
        let job = Job {
            recipe,
            data: self.task.data.clone(),
            resume: folder.join(run::CHECKPOINT).exists(),
            folder,
            teacher: None,
            start: None,
            strict: false,
            limit: settings.limit,
            test: stage == Stage::Last,
            devices: self.task.devices.clone(),
        };
        if !watch.see(Event::Begin(trial, stage, epochs)) {
            return Ok(false);
        }
        let mut inner = Inner { watch, claim };
        let trained = match run::train(&job, &mut inner) {
            Ok(log) if log.result.is_none() => return Ok(false),
            Ok(log) => self.trained(&job, &log)?,
            // What has to do with files concerns every training.
            Err(e @ (Error::Io { .. } | Error::File { .. })) => return Err(e),
            Err(e) => {
                Trained { epochs, valid_accuracy: -1.0, failed: Some(e.to_string()), ..Trained::default() }
            }
        };
        match stage {
            Stage::Rung(_) => trial.rungs.push(trained),
            Stage::Last => trial.last = Some(trained),
        }
        self.store.save(trial)?;
        if let Stage::Rung(_) = stage {
            // If it cannot be removed it is only in the way.
            let _ = std::fs::remove_dir_all(&job.folder);
        }
        inner.watch.see(Event::End(trial, stage));
        Ok(true)
    }

    fn trained(&self, job: &Job, log: &Log) -> Result<Trained> {
        let best = log.epochs.iter().rev().find(|e| e.best).and_then(|e| e.valid_accuracy);
        let result = log.result.as_ref();
        let cost = if job.test {
            let file = ModelFile::open(&job.folder.join(run::MODEL))?;
            Some(self.costs.cost(&file.load()?.0)?)
        } else {
            None
        };
        Ok(Trained {
            epochs: log.epochs.len(),
            valid_accuracy: best.unwrap_or(0.0),
            failed: None,
            test: result.and_then(|r| r.test),
            cost,
            cpu_seconds: result.map_or(0.0, |r| r.cpu_seconds),
        })
    }

    /// Writes what there is so far: `search.json` and `pareto.svg`.
    fn write(&self, all: bool) -> Result<Found> {
        let trials = self.store.trials()?;
        let finals = trials.iter().filter_map(|t| Some((t.number, t.last.as_ref()?)));
        let fit = finals.filter_map(|(n, last)| {
            let cost = last.cost.filter(|c| last.failed.is_none() && self.settings.budget.allows(c))?;
            Some((n, last.valid_accuracy, cost))
        });
        let fit: Vec<(usize, f64, Cost)> = fit.collect();
        let points: Vec<(f64, Cost)> = fit.iter().map(|(_, a, c)| (*a, *c)).collect();
        let mut front = halving::front(&points);
        front.sort_by(|a, b| points[*b].0.total_cmp(&points[*a].0).then(a.cmp(b)));
        let open = halving::open(&trials, self.settings.rungs.len(), self.settings.finals, all);
        let found = Found {
            settings: self.settings.clone(),
            front: front.into_iter().map(|i| fit[i].0).collect(),
            done: all && open.is_empty(),
            trials,
        };
        let json = serde_json::to_vec_pretty(&found)
            .map_err(|e| Error::Input(format!("the search cannot be written: {e}")))?;
        atomic::replace(&self.task.folder.join("search.json"), &json)?;
        atomic::replace(&self.task.folder.join("pareto.svg"), plot::svg(&found).as_bytes())?;
        Ok(found)
    }
}

/// Passes on what a training tells, and keeps its claim.
struct Inner<'a> {
    watch: &'a mut dyn Watch,
    claim: Claim,
}

impl Observer for Inner<'_> {
    fn see(&mut self, event: record::Event<'_>) -> bool {
        self.claim.renew();
        match event {
            record::Event::Step(step) => self.watch.see(Event::Step(step)),
            _ => true,
        }
    }
}
