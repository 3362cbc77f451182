//! `onebit convert --quantize`: float layers become integers, and what that costs on pictures.

use super::eval::{check_labels, match_classes, say_if_resized};
use crate::Global;
use crate::text::{grouped, note, plural, progress, significant};
use anyhow::{Result, bail};
use clap::Args;
use onebit::core::ops::Op;
use onebit::meta::Accuracy;
use onebit::quantize::{self, Options};
use onebit::session::Elements;
use onebit::{Dataset, Graph, Session, data};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Options of `convert` that make integers of floats.
#[derive(Args)]
pub struct Quantization {
    /// Makes integers of float layers, for chips without floats: weights of BITS, 2 to 8 [default: 8]; the source may be
    /// a model file
    #[arg(long, value_name = "BITS", num_args = 0..=1, default_missing_value = "8", value_parser = clap::value_parser!(u8).range(2..=8))]
    quantize: Option<u8>,
    /// Bits of floats between layers
    #[arg(long, value_name = "BITS", default_value_t = 4, requires = "quantize", value_parser = clap::value_parser!(u8).range(2..=8))]
    activation_bits: u8,
    /// Labelled pictures, as `eval` takes them: compares accuracy before and after, and measures the range of floats
    /// between layers (on training pictures where there are any)
    #[arg(long, value_name = "PATH", requires = "quantize")]
    data: Option<PathBuf>,
    /// Uses the first N pictures of --data
    #[arg(long, value_name = "N", requires = "data", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// Pictures that the range of floats is measured on.
const CALIBRATION: usize = 256;
/// Pictures in memory at a time.
const BATCH: usize = 256;

/// What was made integers, and what it changed.
#[derive(Serialize)]
pub struct Quantized {
    #[serde(flatten)]
    report: quantize::Report,
    /// None where it was not measured.
    comparison: Option<Comparison>,
}

/// The network before and after, on the same pictures.
#[derive(Serialize)]
struct Comparison {
    data: PathBuf,
    total: usize,
    correct_before: usize,
    correct_after: usize,
    accuracy_before: f64,
    accuracy_after: f64,
    /// Pictures that are in another class now.
    changed: usize,
    /// Those of them that are not if the scores stay floats.
    changed_by_scores: usize,
    damaged: usize,
}

impl Quantization {
    /// Whether floats are to become integers.
    pub fn is_asked_for(&self) -> bool {
        self.quantize.is_some()
    }

    /// The network with integers in place of floats, if that is asked for.
    pub fn run(&self, graph: Graph, global: &Global) -> Result<(Graph, Option<Quantized>)> {
        let Some(weight_bits) = self.quantize else { return Ok((graph, None)) };
        let before = self.data.is_some().then(|| session(&graph, global)).transpose()?;
        let pixels = match &before {
            Some(session) => self.calibration(session)?,
            None => Vec::new(),
        };
        let options = Options {
            weight_bits,
            activation_bits: self.activation_bits,
            integer_scores: true,
            pixels: &pixels,
        };
        let (mut after, report) = quantize::quantize(&graph, &options)?;
        let mut comparison = None;
        if let (Some(before), Some(path)) = (before, &self.data) {
            let mut data = Dataset::open(path)?;
            if let Some(limit) = self.limit {
                data.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            }
            match_classes(&mut data, &graph.meta.classes);
            check_labels(&before, &data, path, puts_out_class(&graph))?;
            let (float_scores, _) =
                quantize::quantize(&graph, &Options { integer_scores: false, ..options })?;
            let sessions = [before, session(&float_scores, global)?, session(&after, global)?];
            let compared = compare(&sessions, &data, path.clone(), puts_out_class(&graph))?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let (correct, total) = (compared.correct_after, compared.total);
            if report.changed() {
                after.meta.accuracy = Some(Accuracy { data: name, correct, total });
            }
            comparison = Some(compared);
        }
        Ok((after, Some(Quantized { report, comparison })))
    }

    fn calibration(&self, session: &Session) -> Result<Vec<u8>> {
        let Some(path) = &self.data else { return Ok(Vec::new()) };
        let mut data = Dataset::open_part(path, data::Part::Train).or_else(|_| Dataset::open(path))?;
        data.truncate(CALIBRATION);
        let mut pixels = Vec::new();
        for batch in data.batches(BATCH) {
            pixels.extend(session.fit_images(&batch.images)?);
        }
        Ok(pixels)
    }
}

fn session(graph: &Graph, global: &Global) -> Result<Session> {
    let (model, meta) = graph.clone().into_model()?;
    Ok(Session::new(&model, meta, &global.session())?)
}

fn puts_out_class(graph: &Graph) -> bool {
    graph.producer(graph.output).is_some_and(|node| node.op == Op::Argmax)
}

/// Classes by the network before, with float scores, and after.
fn compare(
    sessions: &[Session; 3],
    data: &Dataset,
    path: PathBuf,
    puts_out_class: bool,
) -> Result<Comparison> {
    let (mut correct, mut total, mut damaged) = ([0; 3], 0, 0);
    let (mut changed, mut changed_by_scores) = (0, 0);
    let bar = progress(data.len() as u64);
    for batch in data.batches(BATCH) {
        damaged += batch.damaged.len();
        if let (0, Some(image)) = (total, batch.images.first()) {
            say_if_resized(sessions[0].input().shape, image);
        }
        let pixels = sessions[0].fit_images(&batch.images)?;
        let mut classes = Vec::new();
        for session in sessions {
            let outputs = session.run_elements(Elements::Pixels(&pixels))?;
            let class = |o: &onebit::Output| if puts_out_class { o.scores[0] as usize } else { o.class() };
            classes.push(outputs.iter().map(class).collect::<Vec<usize>>());
        }
        for (i, label) in batch.labels.iter().enumerate() {
            for (correct, classes) in correct.iter_mut().zip(&classes) {
                *correct += usize::from(classes[i] == *label);
            }
            changed += usize::from(classes[0][i] != classes[2][i]);
            changed_by_scores +=
                usize::from(classes[0][i] == classes[1][i] && classes[1][i] != classes[2][i]);
        }
        total += batch.labels.len();
        bar.set_position((total + damaged) as u64);
    }
    bar.finish_and_clear();
    if total == 0 {
        bail!("{}: none of the {damaged} pictures could be decoded", path.display());
    }
    if damaged > 0 {
        note(&format!("warning: {} could not be decoded", plural(damaged, "picture")));
    }
    let [correct_before, _, correct_after] = correct;
    let part = |n: usize| n as f64 / total as f64;
    Ok(Comparison {
        data: path,
        total,
        correct_before,
        correct_after,
        accuracy_before: part(correct_before),
        accuracy_after: part(correct_after),
        changed,
        changed_by_scores,
        damaged,
    })
}

impl Quantized {
    /// Every layer that was made integers or not, and the accuracy.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<8} {value}");
        };
        let quantize::Report { input, layers, scores, floats } = &self.report;
        let input = if *input { "; the input is bytes now, without mean and std" } else { "" };
        match self.report.changed() {
            false => line("integers", "nothing to do".into()),
            true => line("integers", format!("{} with float weights{input}", plural(layers.len(), "layer"))),
        }
        for l in layers {
            let (rounding, bound) = (100.0 * l.rounding, significant(l.bound));
            let rounded = match l.rounding {
                0.0 => "as they were".to_owned(),
                _ => format!("rounded by up to {} %, outputs by up to {bound}", significant(rounding)),
            };
            line("", format!("{}: {} bits x {}, weights {rounded}", l.name, l.bits, l.input));
        }
        if let Some(s) = scores {
            let (factor, bound) = (significant(s.factor), significant(s.bound));
            line(
                "scores",
                format!(
                    "integers up to {}, {factor} times what they were, rounded by up to {bound}",
                    s.largest
                ),
            );
        }
        match floats.len() {
            0 => line("float", "no layer is left in float".into()),
            n => line("float", format!("{} left", plural(n, "layer"))),
        }
        for f in floats {
            line("", format!("{} ({}): {}", f.name, f.op, f.reason));
        }
        match &self.comparison {
            None => line("accuracy", "not measured: --data names labelled pictures".into()),
            Some(c) => {
                let one = |part: f64, n: usize| format!("{:.2} % ({})", 100.0 * part, grouped(n as u64));
                let (before, after) =
                    (one(c.accuracy_before, c.correct_before), one(c.accuracy_after, c.correct_after));
                line(
                    "accuracy",
                    format!("{before} before, {after} after, of {}", plural(c.total, "picture")),
                );
                let by_scores = grouped(c.changed_by_scores as u64);
                let changed = plural(c.changed, "picture");
                line("", format!("{changed} in another class, {by_scores} by integer scores alone"));
            }
        }
        text
    }
}
