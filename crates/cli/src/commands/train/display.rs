//! What is seen of a run while it goes on: on a terminal a live display below a line for each epoch, elsewhere the lines.

use crate::text::{count, grouped, note, significant};
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use onebit_train::run::Job;
use onebit_train::run::record::{Epoch, Event, Log, Observer, Step};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Epochs whose validation accuracy is drawn.
const DRAWN: usize = 40;

/// The headings over the lines of epochs.
const HEADINGS: &str = "  epoch     loss    train  valid loss   valid      rate    flips  images/s     time";

/// Shows a run, and tells it to stop when asked to.
pub struct Display {
    /// Hidden where stderr is no terminal.
    screen: MultiProgress,
    /// Progress of the epoch, numbers of the epoch, validation; there is nothing to see before the first step.
    bars: Option<[ProgressBar; 3]>,
    stop: Arc<AtomicBool>,
    /// Whether the user knows that it stops.
    told: bool,
    folder: PathBuf,
    epochs: usize,
    /// Validation accuracies so far, and the best with its epoch.
    valid: Vec<f64>,
    best: Option<(f64, usize)>,
    /// Changed signs up to the newest step.
    flips: f64,
}

impl Display {
    /// For a run that is about to begin.
    pub fn new(job: &Job) -> Self {
        Display {
            screen: MultiProgress::new(),
            bars: None,
            stop: Arc::default(),
            told: false,
            folder: job.folder.clone(),
            epochs: job.recipe.train.epochs,
            valid: Vec::new(),
            best: None,
            flips: f64::NAN,
        }
    }

    /// From now on the first Ctrl-C or SIGTERM asks the run to stop, and the second ends the program.
    pub fn stop_at_signals(&self) -> Result<()> {
        stop_at_signals(&self.stop)
    }

    /// Whether the run was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Takes the live display away.
    pub fn clear(&mut self) {
        for bar in self.bars.take().into_iter().flatten() {
            bar.finish_and_clear();
        }
    }

    fn start(&mut self, log: &Log) {
        say(&self.screen, &introduction(log));
        if !log.epochs.is_empty() {
            let done = log.epochs.len();
            say(
                &self.screen,
                &format!("goes on after epoch {done} of {} in {}", self.epochs, self.folder.display()),
            );
        }
        say(&self.screen, HEADINGS);
        for epoch in &log.epochs {
            self.remember(epoch);
        }
    }

    fn step(&mut self, step: &Step) {
        self.flips = step.flips;
        if self.screen.is_hidden() {
            return;
        }
        if self.bars.is_none() {
            let bar = |template: &str| {
                // The templates are constants and valid, so the default never shows.
                let style =
                    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                self.screen.add(ProgressBar::new(0).with_style(style.progress_chars("█▉▊▋▌▍▎▏ ")))
            };
            self.bars = Some([bar("{prefix} {bar:32} {wide_msg}"), bar("{wide_msg}"), bar("{wide_msg}")]);
        }
        let Some([progress, numbers, validation]) = &self.bars else { return };
        progress.set_length(step.steps as u64);
        progress.set_prefix(format!("epoch {}/{}", step.epoch, step.epochs));
        progress.set_position(step.step as u64);
        progress.set_message(format!(
            "{}/{} steps, {} left",
            step.step,
            step.steps,
            clock(step.seconds_left)
        ));
        numbers.set_message(numbers_line(step));
        validation.set_message(self.validation_line());
    }

    fn epoch(&mut self, epoch: &Epoch) {
        self.remember(epoch);
        say(&self.screen, &epoch_line(epoch, self.epochs, self.flips));
    }

    fn remember(&mut self, epoch: &Epoch) {
        if let Some(accuracy) = epoch.valid_accuracy {
            self.valid.push(accuracy);
            if epoch.best {
                self.best = Some((accuracy, epoch.epoch));
            }
        }
    }

    fn validation_line(&self) -> String {
        let Some(last) = self.valid.last() else { return String::new() };
        let drawn = &self.valid[self.valid.len().saturating_sub(DRAWN)..];
        let best =
            self.best.map_or(String::new(), |(share, n)| format!(", best {} in epoch {n}", percent(share)));
        format!("validation {} {}{best}", sparkline(drawn), percent(*last))
    }
}

impl Observer for Display {
    fn see(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Start { log } => self.start(log),
            Event::Step(step) => self.step(step),
            Event::Epoch(epoch) => self.epoch(epoch),
            Event::Warning(text) => say(&self.screen, &format!("warning: {text}")),
            Event::End { .. } => self.clear(),
        }
        if self.is_stopped() && !self.told {
            self.told = true;
            say(&self.screen, "stopping: the run is saved first; once more stops at once");
        }
        !self.is_stopped()
    }
}

/// From now on the first Ctrl-C or SIGTERM sets the flag, and the second ends the program.
pub fn stop_at_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset and sets it, the second finds it set.
        flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    Ok(())
}

/// A line that stays, above a live display.
fn say(screen: &MultiProgress, line: &str) {
    screen.suspend(|| note(line));
}

/// What is trained, on what, where.
fn introduction(log: &Log) -> String {
    let [train, valid, test] = log.pictures.map(|n| grouped(n as u64));
    let [all, quantised] = log.parameters.map(|n| count(n as u64));
    let threads = if log.threads == 1 { "1 thread".into() } else { format!("{} threads", log.threads) };
    format!(
        "{}: {all} parameters, {quantised} of them binary or k-bit, on {} ({threads})\n\
         {}: {train} pictures to train, {valid} to validate, {test} to test",
        log.name, log.device, log.data
    )
}

fn epoch_line(e: &Epoch, epochs: usize, flips: f64) -> String {
    let valid_loss = e.valid_loss.map_or("–".into(), |x| format!("{x:.4}"));
    let valid = e.valid_accuracy.map_or("–".into(), percent);
    format!(
        "{:>7} {:>8.4} {:>8} {valid_loss:>11} {valid:>7} {:>9} {:>8} {:>9} {:>8}{}",
        format!("{}/{epochs}", e.epoch),
        e.train_loss,
        percent(e.train_accuracy),
        rate(e.learning_rate),
        if flips.is_finite() { format!("{} %", significant(100.0 * flips)) } else { "–".into() },
        grouped(e.images_per_second.max(0.0) as u64),
        clock(e.seconds),
        if e.best { "  best" } else { "" }
    )
}

fn numbers_line(s: &Step) -> String {
    format!(
        "loss {:.4} · accuracy {} · rate {} · flips {} % · {} images/s",
        s.loss,
        percent(s.accuracy),
        rate(s.learning_rate),
        significant(100.0 * s.flips),
        grouped(s.images_per_second.max(0.0) as u64)
    )
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A learning rate: three significant digits.
fn rate(x: f64) -> String {
    if x > 0.0 && x < 1e-3 { format!("{x:.2e}") } else { significant(x) }
}

/// Seconds as `1:05` or `2:03:04`.
pub fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".into();
    }
    let s = seconds.max(0.0).round() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// One block for each value, as high as it is between the least and the largest.
fn sparkline(values: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let numbers = || values.iter().copied().filter(|v| v.is_finite());
    let (lo, hi) = numbers().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let block = |v: f64| match v {
        v if !v.is_finite() => ' ',
        _ if hi <= lo => BLOCKS[7],
        v => BLOCKS[((v - lo) / (hi - lo) * 7.0).round().clamp(0.0, 7.0) as usize],
    };
    values.iter().map(|v| block(*v)).collect()
}

#[cfg(test)]
mod tests;
