//! What is seen of a search while it goes on: a line for each training, and on a terminal a bar below them.

use crate::commands::train::display::{clock, stop_at_signals};
use crate::text::{bytes, count, grouped, note, plural};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use onebit_train::search::cost::Cost;
use onebit_train::search::trial::{Stage, Trial};
use onebit_train::search::{Event, Settings, Watch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const HEADINGS: &str =
    "  network  epochs  validation       RAM     flash  instructions  cpu-time  best              layers";

/// Shows a search, and tells it to stop when asked to.
pub struct Display {
    /// Hidden where stderr is no terminal.
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    told: bool,
    waits: bool,
    doing: String,
    /// Epochs of the longest training so far, and the best of those with its network.
    best: Option<(usize, f64, String)>,
}

impl Display {
    /// From now on the first Ctrl-C or SIGTERM asks the search to stop, and the second ends the program.
    pub fn new() -> Result<Self> {
        let stop: Arc<AtomicBool> = Arc::default();
        stop_at_signals(&stop)?;
        // The template is a constant and valid, so the default never shows.
        let style = ProgressStyle::with_template("{bar:32} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        Ok(Display { bar, stop, told: false, waits: false, doing: String::new(), best: None })
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| note(line));
    }

    fn start(&mut self, s: &Settings, trials: &[Trial]) {
        let limits = ["bytes of RAM", "bytes of flash", "instructions"].into_iter().zip(s.budget.axes());
        let limits = limits.filter_map(|(what, most)| most.map(|n| (what, grouped(n))));
        let limits: Vec<String> = limits.map(|(what, n)| format!("{n} {what}")).collect();
        self.say(&format!("{} for {}, at most {}", plural(s.trials, "network"), s.costs, limits.join(", ")));
        if !trials.is_empty() {
            self.say(&format!("goes on with {} of before", plural(trials.len(), "network")));
        }
        self.say(HEADINGS);
        for t in trials {
            for trained in t.rungs.iter().chain(&t.last) {
                self.remember(trained.epochs, trained.valid_accuracy, t);
            }
        }
    }

    /// Accuracies are compared after as many epochs.
    fn remember(&mut self, epochs: usize, accuracy: f64, trial: &Trial) {
        let better = match &self.best {
            Some((most, best, _)) => epochs > *most || (epochs == *most && accuracy > *best),
            None => true,
        };
        if better {
            self.best = Some((epochs, accuracy, trial.name()));
        }
    }

    fn end(&mut self, trial: &Trial, stage: Stage) {
        let Some(trained) = trial.stage(stage) else { return };
        if let Some(why) = &trained.failed {
            self.say(&format!("  {}     could not be trained: {why}", trial.name()));
            return;
        }
        self.remember(trained.epochs, trained.valid_accuracy, trial);
        let Cost { flash_bytes, ram_bytes, instructions } = trained.cost.unwrap_or(trial.cost);
        let best =
            self.best.as_ref().map_or(String::new(), |(_, a, name)| format!("{} ({name})", percent(*a)));
        self.say(&format!(
            "  {:<7} {:>7} {:>11} {:>9} {:>9} {:>13} {:>9}  {best:<16}  {}",
            trial.name(),
            trained.epochs,
            percent(trained.valid_accuracy),
            bytes(ram_bytes),
            bytes(flash_bytes),
            count(instructions),
            clock(trained.cpu_seconds),
            trial.point
        ));
    }
}

impl Watch for Display {
    fn see(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Start(settings, trials) => self.start(settings, trials),
            Event::Begin(trial, stage, epochs) => {
                self.waits = false;
                let what = if stage == Stage::Last { "to the end, " } else { "" };
                self.doing = format!("network {} {what}{epochs} epochs: {}", trial.name(), trial.point);
                self.bar.set_position(0);
                self.bar.set_message(self.doing.clone());
            }
            Event::Step(step) => {
                self.bar.set_length((step.epochs * step.steps) as u64);
                self.bar.set_position(((step.epoch - 1) * step.steps + step.step) as u64);
                self.bar.set_message(format!("{}, {} left", self.doing, clock(step.seconds_left)));
            }
            Event::End(trial, stage) => self.end(trial, stage),
            Event::Wait if !self.waits => {
                self.waits = true;
                self.say("waits for other programs that train networks of this search");
            }
            Event::Wait => {}
        }
        let stop = self.stop.load(Ordering::SeqCst);
        if stop && !self.told {
            self.told = true;
            self.say("stopping: the training is saved first; once more stops at once");
        }
        !stop
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
