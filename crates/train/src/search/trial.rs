//! The state of a search: a folder that survives any end of the program, and that several programs may share.
//!
//! | file | what it is |
//! |---|---|
//! | `settings.json` | what was asked for; whoever goes on must ask for the same |
//! | `trials/0007.json` | a network, what it costs, and what its trainings found; replaced in one step by who trained it |
//! | `trials/0007.rung-1.0` | the claim of the program that trains it now; its time is renewed while the program lives |
//! | `runs/0007.rung-1/` | the training that goes on, an ordinary run |
//! | `networks/0007/` | a network that was trained to the end, an ordinary run |
//!
//! A claim is taken by creating its file, which only one program can. A claim whose program is gone is not deleted but
//! followed by one with the next number, so that of several programs that notice it again only one succeeds.

use super::cost::Cost;
use super::point::Point;
use onebit::atomic;
use onebit::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A network, and all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Its number, from 0.
    pub number: usize,
    /// The network.
    pub point: Point,
    /// The trial from which it differs in a few choices; drawn at random if absent.
    pub like: Option<usize>,
    /// What it costs before training, with thresholds as wide as they can be.
    pub cost: Cost,
    /// Short trainings, shortest first.
    pub rungs: Vec<Trained>,
    /// The training to the end.
    pub last: Option<Trained>,
}

/// What a training found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Epochs of the training.
    pub epochs: usize,
    /// Share of the validation pictures that the best epoch classifies right; -1 where the training failed.
    pub valid_accuracy: f64,
    /// Why it failed.
    pub failed: Option<String>,
    /// Test pictures classified right, and all; never of a short training.
    pub test: Option<(usize, usize)>,
    /// What the trained network costs; of the last training only.
    pub cost: Option<Cost>,
    /// Seconds of all cores together.
    pub cpu_seconds: f64,
}

/// A training of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A short one.
    Rung(usize),
    /// The one to the end.
    Last,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Rung(n) => write!(f, "rung-{n}"),
            Stage::Last => f.write_str("last"),
        }
    }
}

impl Trial {
    /// Validation accuracy of a rung.
    pub fn accuracy(&self, rung: usize) -> Option<f64> {
        self.rungs.get(rung).map(|r| r.valid_accuracy)
    }
    /// Validation accuracy of its longest short training.
    pub fn newest(&self) -> Option<f64> {
        self.rungs.last().map(|r| r.valid_accuracy)
    }
    /// What was found in a stage.
    pub fn stage(&self, stage: Stage) -> Option<&Trained> {
        match stage {
            Stage::Rung(n) => self.rungs.get(n),
            Stage::Last => self.last.as_ref(),
        }
    }
    /// Name of the network.
    pub fn name(&self) -> String {
        format!("{:04}", self.number)
    }
}

/// A program that has not renewed its claim for so long is gone.
const STALE: Duration = Duration::from_secs(180);
/// How often a claim is renewed.
const RENEW: Duration = Duration::from_secs(5);
const SETTINGS: &str = "settings.json";
const TRIALS: &str = "trials";

/// The folder of a search.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the folder: a new search, or with `resume` one that is there.
    ///
    /// # Errors
    /// When there is a search that should not go on, none that should, or one with other settings.
    pub fn open(folder: &Path, settings: &impl Serialize, resume: bool) -> Result<Self> {
        let path = folder.join(SETTINGS);
        if resume && !path.exists() {
            return Err(Error::file(
                folder,
                "holds no search to go on with; leave out --resume, or name its folder with --out",
            ));
        }
        std::fs::create_dir_all(folder.join(TRIALS)).map_err(Error::io(folder))?;
        if !atomic::create(&path, &json(settings)?)? {
            if !resume {
                let text =
                    "holds a search already: give --resume to go on with it, or another folder with --out";
                return Err(Error::file(folder, text));
            }
            let there: serde_json::Value = read(&path)?;
            // Read back too: floats are then as they are in the file.
            let here: serde_json::Value =
                serde_json::from_slice(&json(settings)?).map_err(|e| Error::file(&path, e.to_string()))?;
            if let Some(key) = difference(&there, &here) {
                let text =
                    format!("was begun with another `{key}`; a search goes on with what it began with");
                return Err(Error::file(&path, text));
            }
        }
        Ok(Store { folder: folder.to_owned() })
    }

    /// All trials, in order.
    ///
    /// # Errors
    /// Names a file that is damaged.
    pub fn trials(&self) -> Result<Vec<Trial>> {
        let mut trials: Vec<Trial> = Vec::new();
        while self.path(trials.len()).exists() {
            trials.push(self.trial(trials.len())?);
        }
        Ok(trials)
    }

    /// One trial.
    ///
    /// # Errors
    /// As [`Store::trials`].
    pub fn trial(&self, number: usize) -> Result<Trial> {
        let path = self.path(number);
        let trial: Trial = read(&path)?;
        if trial.number != number {
            return Err(Error::file(&path, format!("is trial {}", trial.number)));
        }
        Ok(trial)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(TRIALS).join(format!("{number:04}.json"))
    }

    /// Adds a trial; false if another program has added one with this number.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&self, trial: &Trial) -> Result<bool> {
        atomic::create(&self.path(trial.number), &json(trial)?)
    }

    /// Writes what was found.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, trial: &Trial) -> Result<()> {
        atomic::replace(&self.path(trial.number), &json(trial)?)
    }

    /// The folder of a training.
    pub fn run(&self, trial: &Trial, stage: Stage) -> PathBuf {
        match stage {
            Stage::Rung(_) => self.folder.join("runs").join(format!("{}.{stage}", trial.name())),
            Stage::Last => self.folder.join("networks").join(trial.name()),
        }
    }

    /// Claims a training; `None` where another program is at it, or has done it.
    ///
    /// # Errors
    /// When claims cannot be read or written.
    pub fn claim(&self, number: usize, stage: Stage) -> Result<Option<Claim>> {
        let path = |n: usize| self.folder.join(TRIALS).join(format!("{number:04}.{stage}.{n}"));
        let next = (0..).find(|n| !path(*n).exists()).unwrap_or(0);
        if next > 0 && !is_gone(&path(next - 1)) {
            return Ok(None);
        }
        if !atomic::create(&path(next), &json(&Owner::this())?)? {
            return Ok(None);
        }
        let claim = Claim { path: path(next), follower: path(next + 1), renewed: Instant::now() };
        // Between the reading of the trials and now another program may have finished it.
        Ok(if self.trial(number)?.stage(stage).is_some() { None } else { Some(claim) })
    }
}

/// The right to train a trial, given back when dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// The claim of who believes that this program is gone.
    follower: PathBuf,
    renewed: Instant,
}

impl Claim {
    /// Shows other programs that this one lives; cheap enough for every step.
    pub fn renew(&mut self) {
        if self.renewed.elapsed() > RENEW {
            self.renewed = Instant::now();
            // If it cannot be renewed the worst is that another program trains the same.
            let _ =
                File::options().append(true).open(&self.path).and_then(|f| f.set_modified(SystemTime::now()));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.follower.exists() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Who holds a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Owner {
    pid: u32,
    /// The boot of the machine and the name space of `pid`; empty where that is not known.
    machine: String,
}

impl Owner {
    fn this() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let known = !boot.is_empty() && space != Path::new("");
        let machine = if known { format!("{} {}", boot.trim(), space.display()) } else { String::new() };
        Owner { pid: std::process::id(), machine }
    }
}

/// Whether the program that made a claim no longer runs.
fn is_gone(claim: &Path) -> bool {
    let this = Owner::this();
    // A claim that vanishes now was given back: next time.
    let Ok(owner) = read::<Owner>(claim) else { return false };
    if !this.machine.is_empty() && owner.machine == this.machine {
        return !Path::new(&format!("/proc/{}", owner.pid)).exists();
    }
    let age = claim.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age > STALE)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Input(format!("the search cannot be written: {e}")))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = onebit::data::read(path)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::file(path, format!("is not of a search: {e}")))
}

/// The first key whose values differ.
fn difference(a: &serde_json::Value, b: &serde_json::Value) -> Option<String> {
    match (a, b) {
        (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
            let keys = a.keys().chain(b.keys());
            keys.into_iter().find(|key| a.get(*key) != b.get(*key)).cloned()
        }
        _ => (a != b).then(|| "settings".into()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::search::point::{Input, Scores};

    pub(crate) fn trial(number: usize) -> Trial {
        let point = Point { input: Input::Bits, blocks: Vec::new(), hidden: number, scores: Scores::Sums };
        Trial { number, point, like: None, cost: Cost::default(), rungs: Vec::new(), last: None }
    }

    #[derive(Serialize)]
    struct Asked {
        share: f32,
        seed: u64,
    }

    fn open(folder: &Path, seed: u64, resume: bool) -> Result<Store> {
        Store::open(folder, &Asked { share: 0.1, seed }, resume)
    }

    #[test]
    fn folders_with_and_without_searches() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("search");
        assert!(open(&folder, 1, true).unwrap_err().to_string().contains("--resume"));
        let store = open(&folder, 1, false).unwrap();
        assert!(open(&folder, 1, false).unwrap_err().to_string().contains("--resume"));
        assert!(open(&folder, 2, true).unwrap_err().to_string().contains("`seed`"));
        open(&folder, 1, true).unwrap();
        assert!(
            store.add(&trial(0)).unwrap() && store.add(&trial(1)).unwrap() && !store.add(&trial(1)).unwrap()
        );
        assert_eq!(store.trials().unwrap(), [trial(0), trial(1)]);
        std::fs::write(folder.join("trials/0001.json"), "{").unwrap();
        assert!(store.trials().unwrap_err().to_string().contains("0001.json"));
    }

    #[test]
    fn a_training_is_claimed_once_until_its_program_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1, false).unwrap();
        store.add(&trial(0)).unwrap();
        let stage = Stage::Rung(0);
        let claim = store.claim(0, stage).unwrap().unwrap();
        assert!(store.claim(0, stage).unwrap().is_none());
        assert!(store.claim(0, Stage::Last).unwrap().is_some());
        drop(claim);
        let files = || std::fs::read_dir(dir.path().join("trials")).unwrap().count();
        assert_eq!(files(), 1);
        // The claim of a program of this machine that does not run any more.
        let path = dir.path().join("trials/0000.rung-0.0");
        let write = |owner: &Owner| std::fs::write(&path, serde_json::to_vec(owner).unwrap()).unwrap();
        if !Owner::this().machine.is_empty() {
            write(&Owner { pid: u32::MAX, ..Owner::this() });
            let claim = store.claim(0, stage).unwrap().unwrap();
            assert!(store.claim(0, stage).unwrap().is_none(), "taken over once");
            drop(claim);
        }
        // That of another machine counts until it is old.
        write(&Owner { pid: 1, machine: "another".into() });
        assert!(store.claim(0, stage).unwrap().is_none());
        let old = SystemTime::now() - STALE - Duration::from_secs(1);
        File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(store.claim(0, stage).unwrap().is_some());
        // What is done is not done again.
        std::fs::remove_file(&path).unwrap();
        store.save(&Trial { rungs: vec![Trained::default()], ..trial(0) }).unwrap();
        assert!(store.claim(0, stage).unwrap().is_none());
    }
}
