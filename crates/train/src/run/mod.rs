//! A training run: from a recipe and a folder of pictures to a model file.
//!
//! The folder of a run holds `recipe.toml`, `log.json`, `checkpoint.safetensors` (where to go on), `best.safetensors` (the
//! best epoch so far), and in the end `model.onebit` and `report.html`.

pub mod checkpoint;
mod device;
mod finish;
pub mod learner;
pub mod record;

use crate::data::{self, Batch, Source};
use crate::export;
use crate::network::{Network, Role};
use crate::optim::Flips;
use crate::recipe::{Recipe, Train};
use crate::schedule;
use checkpoint::{Checkpoint, Progress};
use cpu_time::ProcessTime;
use learner::{Learner, StepOptions, Stepped};
use onebit::error::{Error, Result};
use onebit::{Image, Session};
use record::{Epoch, Event, Log, Observer, Step};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to train, on what, and where the result goes.
#[derive(Clone, Debug)]
pub struct Job {
    /// The recipe, with all overrides applied.
    pub recipe: Recipe,
    /// Folder or file of labelled pictures, with a test part if possible.
    pub data: PathBuf,
    /// Folder of the run.
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
    /// Classifies the test pictures in the end; a search among networks does so for the last few only.
    pub test: bool,
    /// Devices: `cpu`, or as the features of this build allow `vulkan`, `wgpu`, `cuda` with a number (`cuda:0`).
    pub devices: Vec<String>,
}

/// Files of a run.
const RECIPE: &str = "recipe.toml";
const LOG: &str = "log.json";
pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
const BEST: &str = "best.safetensors";
pub(crate) const MODEL: &str = "model.onebit";
const REPORT: &str = "report.html";

/// Within an epoch a checkpoint is written after this time.
const SAVE_AFTER: Duration = Duration::from_secs(300);
/// Damaged pictures that are named; the others are counted.
const NAMED: usize = 20;
/// Pictures that are evaluated at a time.
const EVALUATED: usize = 256;

/// Trains, and writes everything into the folder of the run.
///
/// # Errors
/// Names the file, layer or number that is wrong, and what to do.
pub fn train(job: &Job, observer: &mut dyn Observer) -> Result<Log> {
    let mut run = Run::prepare(job)?;
    run.go(observer)?;
    Ok(run.log)
}

struct Run<'a> {
    job: &'a Job,
    learner: Learner,
    teacher: Option<Session>,
    source: Arc<Source>,
    test: Option<Arc<Source>>,
    parts: [Vec<usize>; 2],
    progress: Progress,
    log: Log,
    damaged: usize,
    clock: (Instant, ProcessTime),
    saved: Instant,
}

/// The log of the run in a folder.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn read_log(folder: &Path) -> Result<Log> {
    let path = folder.join(LOG);
    let bytes = onebit::data::read(&path)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::file(&path, format!("is no log of a run: {e}")))
}

/// The recipe of the run in a folder.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn read_recipe(folder: &Path) -> Result<Recipe> {
    let path = folder.join(RECIPE);
    let text =
        String::from_utf8(onebit::data::read(&path)?).map_err(|_| Error::file(&path, "is not UTF-8 text"))?;
    Recipe::parse(&text, &[]).map_err(|e| e.in_file(&path))
}

impl<'a> Run<'a> {
    fn prepare(job: &'a Job) -> Result<Self> {
        let recipe = &job.recipe;
        let at = |name: &str| job.folder.join(name);
        match (at(CHECKPOINT).exists(), job.resume) {
            (true, false) => {
                let text =
                    "holds a run already: give --resume to go on with it, or another folder with --out";
                return Err(Error::file(&job.folder, text));
            }
            (false, true) => {
                return Err(Error::file(at(CHECKPOINT), "is not there, so nothing can be resumed"));
            }
            _ => {}
        }
        let (form, devices) = device::choose(&job.devices)?;
        let mut learner = Learner::new(recipe, form, devices)?;
        // What cannot be exported is told now, not after the last epoch.
        finish::deploy(&learner.network, &learner.values(), export::meta(recipe))?;
        let network = &learner.network;
        let (mut source, mut test) = Source::open_parts(&job.data)?;
        if !job.test {
            test = None;
        }
        if job.limit > 0 {
            source.truncate(job.limit);
            test.iter_mut().for_each(|t| t.truncate(job.limit));
        }
        if source.classes() > network.classes() {
            let text = format!(
                "has {} classes, but the last layer of the recipe has {} outputs; change its units, for example with --set",
                source.classes(),
                network.classes()
            );
            return Err(Error::file(&job.data, text));
        }
        let train = &recipe.train;
        let (learn, valid) = data::split(source.labels(), train.validation, train.seed);
        if learn.len() < 2 {
            return Err(Error::file(&job.data, "has fewer than two training pictures"));
        }
        let log = Log {
            name: recipe.name.clone(),
            recipe: recipe.to_toml()?,
            data: job.data.display().to_string(),
            data_hash: source.hash(),
            classes: source.class_names().to_vec(),
            pictures: [learn.len(), valid.len(), test.as_ref().map_or(0, Source::len)],
            parameters: parameters(network),
            device: job.devices.join(", "),
            threads: rayon::current_num_threads(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Log::default()
        };
        std::fs::create_dir_all(&job.folder).map_err(Error::io(&job.folder))?;
        let mut progress = Progress::default();
        let log = if job.resume {
            let path = at(CHECKPOINT);
            let saved = Checkpoint::load(network, &path)?;
            let same = [
                (saved.log.recipe == log.recipe, "another recipe or other overrides"),
                (saved.log.data_hash == log.data_hash, "other pictures"),
            ];
            if let Some((_, what)) = same.iter().find(|(same, _)| !same) {
                return Err(Error::file(
                    &path,
                    format!("was trained with {what}; a run goes on with what it began with"),
                ));
            }
            learner.load(&saved.values, &saved.state).map_err(|e| e.in_file(&path))?;
            progress = saved.progress;
            saved.log
        } else {
            if let Some(path) = &job.start {
                start_from(&mut learner, path)?;
            }
            onebit::atomic::replace(&at(RECIPE), log.recipe.as_bytes())?;
            log
        };
        let teacher = job.teacher.as_ref().map(Session::open).transpose()?;
        if let Some(teacher) = &teacher {
            let [got, need] = [teacher.output().shape.elements(), learner.network.classes()];
            if got != need {
                let path = job.teacher.clone().unwrap_or_default();
                return Err(Error::file(
                    path,
                    format!("has {got} outputs, the network that learns from it has {need}"),
                ));
            }
        }
        Ok(Run {
            job,
            learner,
            teacher,
            source: Arc::new(source),
            test: test.map(Arc::new),
            parts: [learn, valid],
            progress,
            log,
            damaged: 0,
            clock: (Instant::now(), ProcessTime::now()),
            saved: Instant::now(),
        })
    }

    fn train(&self) -> &'a Train {
        &self.job.recipe.train
    }

    fn go(&mut self, observer: &mut dyn Observer) -> Result<()> {
        observer.see(Event::Start { log: &self.log });
        let train = self.train();
        let mut ended = "all epochs done".to_owned();
        while self.progress.epochs < train.epochs {
            let since = self.progress.best.map_or(0, |(epoch, _)| self.progress.epochs - epoch);
            if train.patience > 0 && since >= train.patience {
                ended = format!("no better for {since} epochs");
                break;
            }
            if !self.epoch(observer)? {
                return Ok(());
            }
        }
        self.finish(ended)?;
        observer.see(Event::End { log: &self.log });
        Ok(())
    }

    /// Options of a pass over pictures.
    fn options(&self, learning: bool) -> data::Options {
        let (recipe, train) = (&self.job.recipe, self.train());
        let input = recipe.network.preprocessing();
        let mut options = data::Options::new(self.learner.network.input, input);
        options.classes = self.learner.network.classes();
        options.seed = train.seed;
        options.epoch = self.progress.epochs;
        options.batch = EVALUATED;
        if learning {
            options.augment = train.augment.clone();
            options.batch = train.batch;
            options.shuffle = true;
            options.skip_steps = self.progress.steps;
        }
        options
    }

    /// One epoch, or what is left of it; false if the observer asked to stop.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        let train = self.train();
        let number = self.progress.epochs + 1;
        let steps = data::steps(self.parts[0].len(), train.batch);
        let all_steps = steps * train.epochs;
        let began = Instant::now();
        let (first_step, mut seen) = (self.progress.steps, 0);
        let cpu = ProcessTime::now();
        let flips = Flips::new(&self.learner.network.params, self.learner.parameters())?;
        let mut rate = 0.0;
        for batch in data::epoch(&self.source, &self.parts[0], &self.options(true))? {
            self.damage(&batch, observer)?;
            let step = self.progress.epochs * steps + self.progress.steps;
            let factor = schedule::factor(&train.schedule, train.warmup, step, all_steps, steps);
            rate = factor * f64::from(base_rate(train));
            if batch.len() > 1 {
                let teacher = self.teacher.as_ref().map(|t| self.outputs_of(t, &batch)).transpose()?;
                let options = StepOptions {
                    rate: factor,
                    float_weights: self.progress.epochs < train.float_weight_epochs,
                    seed: train.seed ^ (step as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                    teacher: teacher.as_deref(),
                };
                let stepped = self.learner.step(&batch, &options)?;
                self.progress.loss += stepped.loss;
                self.progress.correct += stepped.correct;
                self.progress.pictures += stepped.pictures;
                seen += stepped.pictures;
            }
            self.progress.steps += 1;
            let seconds = began.elapsed().as_secs_f64();
            let done = self.progress.steps - first_step;
            // Counting flips reads all weights.
            let flipped = if self.progress.steps % 50 == 1 || self.progress.steps == steps {
                flips.total(self.learner.parameters())?
            } else {
                f64::NAN
            };
            let now = Step {
                epoch: number,
                epochs: train.epochs,
                step: self.progress.steps,
                steps,
                loss: self.progress.loss / self.progress.pictures.max(1) as f64,
                accuracy: share(self.progress.correct, self.progress.pictures),
                learning_rate: rate,
                flips: flipped,
                images_per_second: seen as f64 / seconds,
                seconds_left: seconds / done as f64 * (all_steps - step - 1) as f64,
            };
            if !observer.see(Event::Step(&now)) && self.progress.steps < steps {
                self.save()?;
                return Ok(false);
            }
            if self.saved.elapsed() > SAVE_AFTER {
                self.save()?;
            }
        }
        let images_per_second = seen as f64 / began.elapsed().as_secs_f64();
        let valid = if self.parts[1].is_empty() { None } else { Some(self.validate(observer)?) };
        let valid_accuracy = valid.map(|v| share(v.correct, v.pictures));
        let better = match (valid_accuracy, self.progress.best) {
            (None, _) | (_, None) => true,
            (Some(now), Some((_, best))) => now > best,
        };
        let p = &self.progress;
        let epoch = Epoch {
            epoch: number,
            steps: number * steps,
            train_loss: p.loss / p.pictures.max(1) as f64,
            train_accuracy: share(p.correct, p.pictures),
            valid_loss: valid.map(|v| v.loss / v.pictures.max(1) as f64),
            valid_accuracy,
            learning_rate: rate,
            flips: flips.since(self.learner.parameters())?,
            images_per_second,
            seconds: began.elapsed().as_secs_f64(),
            cpu_seconds: cpu.elapsed().as_secs_f64(),
            best: better,
        };
        let Progress { best, seconds, cpu_seconds, .. } = *p;
        self.progress = Progress { epochs: number, best, seconds, cpu_seconds, ..Progress::default() };
        if better {
            self.progress.best = Some((number, valid_accuracy.unwrap_or(0.0)));
            self.log.epochs.iter_mut().for_each(|e| e.best = false);
        }
        self.log.epochs.push(epoch.clone());
        if better {
            let best = Checkpoint {
                values: self.learner.exported(),
                state: crate::optim::State::default(),
                progress: self.progress,
                log: self.log.clone(),
            };
            best.save(&self.learner.network, &self.job.folder.join(BEST))?;
        }
        self.save()?;
        Ok(observer.see(Event::Epoch(&epoch)) || number == train.epochs)
    }

    /// Loss and accuracy on the validation part.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Stepped> {
        let mut sum = Stepped::default();
        for batch in data::epoch(&self.source, &self.parts[1], &self.options(false))? {
            self.damage(&batch, observer)?;
            if batch.is_empty() {
                continue;
            }
            let scores = self.learner.evaluate(&batch.pixels);
            let found = self.learner.classes_of(&scores);
            let correct = found.iter().zip(&batch.labels).filter(|(c, l)| **c == **l as usize).count();
            sum += Stepped {
                loss: self.learner.loss_of(&scores, &batch.labels),
                correct,
                pictures: batch.len(),
            };
        }
        Ok(sum)
    }

    /// Names damaged pictures, or ends the run with the first.
    fn damage(&mut self, batch: &Batch, observer: &mut dyn Observer) -> Result<()> {
        for e in &batch.damaged {
            if self.job.strict {
                return Err(Error::Input(e.to_string()));
            }
            // Each picture is met again in every epoch.
            if self.progress.epochs == 0 {
                self.damaged += 1;
                if self.damaged <= NAMED {
                    self.warn(format!("left out: {e}"), observer);
                } else if self.damaged == NAMED + 1 {
                    self.warn("more damaged pictures are left out without being named".into(), observer);
                }
            }
        }
        Ok(())
    }

    fn warn(&mut self, text: String, observer: &mut dyn Observer) {
        observer.see(Event::Warning(&text));
        self.log.warnings.push(text);
    }

    /// Outputs of the teacher for a batch, which it sees with its own preprocessing.
    fn outputs_of(&self, teacher: &Session, batch: &Batch) -> Result<Vec<f32>> {
        let shape = self.learner.network.input;
        let input = self.job.recipe.network.preprocessing();
        let normalised = self.learner.network.input_quant.is_none();
        let images = batch
            .pixels
            .chunks_exact(shape.elements())
            .map(|pixels| {
                let bytes = pixels.iter().enumerate().map(|(i, v)| {
                    let (mean, std) = if normalised { input.normalisation(i % shape.c) } else { (0.0, 1.0) };
                    (v * std + mean).round() as u8
                });
                Image::new(shape.w, shape.h, shape.c, bytes.collect())
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(teacher.run_images(&images)?.into_iter().flat_map(|o| o.scores).collect())
    }

    /// Writes the checkpoint, the log and the report.
    fn save(&mut self) -> Result<()> {
        let (wall, cpu) = &self.clock;
        self.progress.seconds += wall.elapsed().as_secs_f64();
        self.progress.cpu_seconds += cpu.elapsed().as_secs_f64();
        self.clock = (Instant::now(), ProcessTime::now());
        let checkpoint = Checkpoint {
            values: self.learner.values(),
            state: self.learner.state(),
            progress: self.progress,
            log: self.log.clone(),
        };
        checkpoint.save(&self.learner.network, &self.job.folder.join(CHECKPOINT))?;
        self.saved = Instant::now();
        self.write_log()
    }

    fn write_log(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.log)
            .map_err(|e| Error::Input(format!("the log cannot be written: {e}")))?;
        onebit::atomic::replace(&self.job.folder.join(LOG), &text)?;
        crate::report::write(&self.log, &self.job.folder.join(REPORT))
    }
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}

fn base_rate(train: &Train) -> f32 {
    use crate::recipe::Optimizer::{Adam, Bop, Sgd};
    match train.optimizer {
        Adam { rate, .. } | Sgd { rate, .. } | Bop { rate, .. } => rate,
    }
}

/// Learned numbers in all, and those of quantised layers.
fn parameters(network: &Network) -> [usize; 2] {
    let count = |latent: bool| {
        let of = network.params.iter().filter(|p| !latent || p.role == Role::Latent);
        of.map(|p| p.shape.iter().product::<usize>()).sum()
    };
    [count(false), count(true)]
}

/// Takes what has the same name and size from another run.
fn start_from(learner: &mut Learner, path: &Path) -> Result<()> {
    let mut named = checkpoint::named(path)?;
    let mut values = learner.values();
    let mut taken = 0;
    let mut put = |name: &str, to: &mut Vec<f32>| {
        if let Some(from) = named.remove(name).filter(|from| from.len() == to.len()) {
            *to = from;
            taken += 1;
        }
    };
    for (param, to) in learner.network.params.iter().zip(&mut values.params) {
        put(&param.name, to);
    }
    for (node, to) in learner.network.nodes.iter().zip(&mut values.statistics) {
        if let Some((mean, variance)) = to {
            let [m, v] = checkpoint::statistic_names(&node.name);
            put(&m, mean);
            put(&v, variance);
        }
    }
    if taken == 0 {
        return Err(Error::file(path, "has nothing whose name and size fit this recipe"));
    }
    learner.set(&values)
}
