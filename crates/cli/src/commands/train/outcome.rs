//! What is printed of a run that is over.

use crate::text::{bytes, grouped, plural};
use onebit_train::run::Job;
use onebit_train::run::record::Log;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// The result, as `--json` prints it.
#[derive(Serialize)]
pub struct Report<'a> {
    recipe: &'a str,
    seed: u64,
    epochs: usize,
    best_epoch: Option<usize>,
    /// Why the run ended.
    ended: &'a str,
    test: Option<Test>,
    valid_accuracy: Option<f64>,
    file: PathBuf,
    file_bytes: u64,
    report: PathBuf,
    cpu_seconds: f64,
    seconds: f64,
    /// Test pictures on which the exported network and training differ.
    differences: &'a [String],
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Test {
    correct: usize,
    total: usize,
    accuracy: f64,
}

impl<'a> Report<'a> {
    /// The result of a run.
    pub fn new(job: &'a Job, log: &'a Log) -> Self {
        let result = log.result.as_ref();
        let best = result.and_then(|r| log.epochs.iter().find(|e| e.epoch == r.best_epoch));
        let test = result.and_then(|r| r.test).map(|(correct, total)| Test {
            correct,
            total,
            accuracy: if total == 0 { 0.0 } else { correct as f64 / total as f64 },
        });
        Report {
            recipe: &log.name,
            seed: job.recipe.train.seed,
            epochs: log.epochs.len(),
            best_epoch: result.map(|r| r.best_epoch),
            ended: result.map_or("", |r| &r.ended),
            test,
            valid_accuracy: best.and_then(|e| e.valid_accuracy),
            file: job.folder.join("model.onebit"),
            file_bytes: result.map_or(0, |r| r.file_bytes),
            report: job.folder.join("report.html"),
            cpu_seconds: result.map_or(0.0, |r| r.cpu_seconds),
            seconds: result.map_or(0.0, |r| r.seconds),
            differences: result.map_or(&[], |r| &r.differences),
            warnings: &log.warnings,
        }
    }

    /// The result as lines.
    pub fn text(&self) -> String {
        let mut text = format!("{}, seed {} -> {}\n", self.recipe, self.seed, self.file.display());
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<10} {value}");
        };
        if let Some(test) = &self.test {
            let [correct, total] = [test.correct, test.total].map(|n| grouped(n as u64));
            line("test", format!("{:.2} %   {correct} of {total}", 100.0 * test.accuracy));
        }
        if let Some(accuracy) = self.valid_accuracy {
            line("validation", format!("{:.2} %", 100.0 * accuracy));
        }
        match self.differences {
            [] if self.test.is_some() => line("exported", "as trained, on every test picture".into()),
            [] => {}
            [first, ..] => {
                let n = plural(self.differences.len(), "test picture");
                line("exported", format!("not as trained on {n}: {first}"));
            }
        }
        line("file", bytes(self.file_bytes));
        let best = self.best_epoch.map_or(String::new(), |n| format!(", best is {n}"));
        line("epochs", format!("{}{best} ({})", self.epochs, self.ended));
        let minutes = self.cpu_seconds / 60.0;
        line("time", format!("{}, {minutes:.1} cpu-minutes", super::display::clock(self.seconds)));
        line("report", self.report.display().to_string());
        text
    }
}
