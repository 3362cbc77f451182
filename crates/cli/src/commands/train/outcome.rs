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

#[cfg(test)]
mod tests {
    use super::*;
    use onebit_train::run::record::{Epoch, Outcome};

    #[test]
    fn results_as_lines_and_as_json() {
        let text = onebit_train::recipes::text(onebit_train::recipes::names()[0]).unwrap();
        let job = Job {
            recipe: onebit_train::recipe::Recipe::parse(text, &[("train.seed".into(), "7".into())]).unwrap(),
            data: "mnist".into(),
            folder: "runs/x".into(),
            resume: false,
            teacher: None,
            start: None,
            strict: false,
            limit: 0,
            test: true,
            devices: vec!["cpu".into()],
        };
        let epochs = [0.9, 0.95, 0.94];
        let epoch =
            |(i, a): (usize, &f64)| Epoch { epoch: i + 1, valid_accuracy: Some(*a), ..Epoch::default() };
        let result = Outcome {
            best_epoch: 2,
            ended: "all epochs done".into(),
            test: Some((9_500, 10_000)),
            file_bytes: 63_420,
            cpu_seconds: 90.0,
            seconds: 61.0,
            ..Outcome::default()
        };
        let mut log = Log {
            name: "lenet".into(),
            epochs: epochs.iter().enumerate().map(epoch).collect(),
            result: Some(result),
            ..Log::default()
        };
        let text = Report::new(&job, &log).text();
        for part in [
            "lenet, seed 7",
            "95.00 %   9,500 of 10,000",
            "as trained, on every",
            "3, best is 2",
            "1:01, 1.5",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        log.result.as_mut().unwrap().differences = vec!["picture 12: 3 or 5".into()];
        assert!(Report::new(&job, &log).text().contains("not as trained on 1 test picture: picture 12"));
        let json = serde_json::to_value(Report::new(&job, &log)).unwrap();
        assert_eq!(json["test"], serde_json::json!({ "correct": 9500, "total": 10_000, "accuracy": 0.95 }));
        assert_eq!(
            [&json["seed"], &json["epochs"], &json["best_epoch"], &json["file_bytes"]],
            [7, 3, 2, 63_420]
        );
        assert_eq!(
            (&json["valid_accuracy"], &json["differences"][0]),
            (&0.95.into(), &"picture 12: 3 or 5".into())
        );
        log.result = None;
        let json = serde_json::to_value(Report::new(&job, &log)).unwrap();
        assert!(json["test"].is_null() && json["best_epoch"].is_null());
        assert!(!Report::new(&job, &log).text().contains("as trained"));
    }
}
