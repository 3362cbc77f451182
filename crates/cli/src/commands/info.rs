//! `onebit info`: what a network is and costs.

use super::codegen;
use super::explain::{Explanation, explain, precision, table};
use crate::text::{bytes, count, grouped, percent, print, print_json, significant};
use crate::{Global, network};
use anyhow::{Context, Result};
use clap::Args;
use onebit::codegen::Target;
use onebit::core::exec::Executor;
use onebit::core::types::ValueType;
use onebit::meta::{Accuracy, Meta, Preprocessing, Training};
use onebit::session;
use onebit::stats::{Stats, stats};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Shows what a network is and costs, layer by layer
#[derive(Args)]
pub struct Info {
    /// Model file, or a network that can be imported
    model: PathBuf,
    /// Shows instead what code for a microcontroller would need: cortex-m4, cortex-m0, avr, rv32imc or host
    #[arg(long, value_name = "TARGET")]
    target: Option<Target>,
}

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    source: &'a str,
    license: &'a str,
    input: Input<'a>,
    output: Value,
    classes: &'a [String],
    accuracy: &'a Option<Accuracy>,
    training: &'a Option<Training>,
    #[serde(flatten)]
    stats: &'a Stats,
    #[serde(flatten)]
    explanation: Explanation,
    file_bytes: u64,
    compression: f64,
    arena_bytes: u64,
}

#[derive(Serialize)]
struct Value {
    shape: [usize; 3],
    format: String,
}

#[derive(Serialize)]
struct Input<'a> {
    #[serde(flatten)]
    value: Value,
    #[serde(flatten)]
    preprocessing: &'a Preprocessing,
}

impl From<ValueType> for Value {
    fn from(t: ValueType) -> Self {
        Value { shape: t.shape.into(), format: t.dtype.to_string() }
    }
}

impl Info {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let file = network::open(&self.model)?;
        let (model, meta) = file.load()?;
        if let Some(target) = self.target {
            let generated = onebit::codegen::generate(&model, &meta, target, Some("network"))
                .with_context(|| self.model.display().to_string())?;
            let report = &generated.report;
            return match global.json {
                true => print_json(report),
                false => print(&format!("{}\n{}", codegen::stages(report), codegen::totals(report))),
            };
        }
        let stats = stats(&model);
        let executor =
            Executor::new(&model, session::kernels(global.isa.as_deref())?).map_err(onebit::Error::from)?;
        let file_bytes = file.len() as u64;
        let report = Report {
            name: &meta.name,
            source: &meta.source,
            license: &meta.license,
            input: Input { value: model.input().into(), preprocessing: &meta.input },
            output: model.output().into(),
            classes: &meta.classes,
            accuracy: &meta.accuracy,
            training: &meta.training,
            file_bytes,
            compression: stats.float32_bytes as f64 / file_bytes as f64,
            arena_bytes: 8 * executor.arena_words(1) as u64,
            explanation: explain(&model, &stats),
            stats: &stats,
        };
        if global.json {
            return print_json(&report);
        }
        let mut text = head(&meta, model.input(), model.output());
        text.push_str(&table(&stats));
        if !report.explanation.float_layers.is_empty() {
            let _ = write!(text, "\nwork on floats:\n{}", report.explanation.list());
        }
        text.push_str(&totals(&report));
        print(&text)
    }
}

/// Name, origin, input and output.
fn head(meta: &Meta, input: ValueType, output: ValueType) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{label:<9} {value}");
        }
    };
    line("name", meta.name.clone());
    line("source", meta.source.clone());
    line("licence", meta.license.clone());
    let pre = &meta.input;
    let plain = pre.mean.iter().all(|m| *m == 0.0) && pre.std.iter().all(|s| *s == 1.0);
    let list = |v: &[f32], default: &str| match v {
        [] => default.to_owned(),
        [one] => one.to_string(),
        many => format!("({})", many.iter().map(f32::to_string).collect::<Vec<_>>().join(", ")),
    };
    let scaled = if plain {
        "pixels 0..255".to_owned()
    } else {
        format!("(pixel - {}) / {}", list(&pre.mean, "0"), list(&pre.std, "1"))
    };
    line("input", format!("{input}, {scaled}"));
    let classes = match meta.classes.len() {
        0 => String::new(),
        n => {
            let dots = if n > 5 { ", ..." } else { "" };
            format!(": {}{dots}", meta.classes[..n.min(5)].join(", "))
        }
    };
    line("output", format!("{output}{classes}"));
    if let Some(a) = &meta.accuracy {
        let part = percent(a.correct as f64 / a.total.max(1) as f64);
        line("accuracy", format!("{part} ({} of {}) on {}", a.correct, a.total, a.data));
    }
    if let Some(t) = &meta.training {
        line(
            "trained",
            format!("{} epochs, seed {}, data {} (--json shows the recipe)", t.epochs, t.seed, t.data),
        );
        line("simulated", simulated(&t.recipe));
    }
    text.push('\n');
    text
}

/// Quantisers of a recipe that have too many bits for integers, in words.
fn simulated(recipe: &str) -> String {
    let mut found: Vec<&str> = Vec::new();
    for quantiser in recipe.split('"') {
        let bits =
            ["dorefa:", "pact:"].iter().find_map(|kind| quantiser.strip_prefix(kind)?.parse::<u8>().ok());
        if bits.is_some_and(|bits| bits > 8) && !found.contains(&quantiser) {
            found.push(quantiser);
        }
    }
    match found.is_empty() {
        true => String::new(),
        false => format!("{} in floats: integers have up to 8 bits", found.join(" and ")),
    }
}

fn totals(report: &Report<'_>) -> String {
    let s = report.stats;
    let mut text = String::from("\n");
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<11} {value}");
    };
    line("layers", s.layers.len().to_string());
    line("parameters", format!("{} ({})", count(s.parameters), grouped(s.parameters)));
    let mut kinds: Vec<(String, u64)> = Vec::new();
    for l in &s.layers {
        let macs = l.binary_macs + l.float_macs;
        if let Some(kind) = precision(l).filter(|_| macs > 0) {
            match kinds.iter_mut().find(|(k, _)| *k == kind) {
                Some((_, n)) => *n += macs,
                None => kinds.push((kind, macs)),
            }
        }
    }
    let all = s.binary_macs + s.float_macs;
    let parts: Vec<String> = kinds
        .iter()
        .map(|(kind, n)| format!("{} at {kind} bits ({})", count(*n), percent(*n as f64 / all as f64)))
        .collect();
    line("MACs", format!("{}: {}", count(all), parts.join(", ")));
    line("in short", report.explanation.summary.clone());
    line("file", bytes(report.file_bytes));
    line("float32", format!("{}, {}x the file", bytes(s.float32_bytes), significant(report.compression)));
    line("arena", format!("{} of working memory for one image", bytes(report.arena_bytes)));
    text
}
