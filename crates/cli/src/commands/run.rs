//! `onebit run`: what a network says about pictures and arrays.

use super::tensor;
use crate::text::{plural, print, print_json, significant};
use crate::{Global, network};
use anyhow::{Result, bail};
use clap::Args;
use onebit::core::types::Shape;
use onebit::data::npy;
use onebit::session::Elements;
use onebit::{Error, Image, Output, Session};
use serde::Serialize;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Classifies PNG and JPEG pictures, or runs .npy arrays
#[derive(Args)]
pub struct Run {
    /// Model file, or a network that can be imported
    model: PathBuf,
    /// Pictures, or .npy arrays: first axis = batch, axes in the order of the source framework, numbers given
    /// to the network as they are
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Classes shown for each input
    #[arg(long, default_value_t = 5, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Writes the scores of all inputs to an .npy file, in the same order
    #[arg(long, value_name = "OUT.npy")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    isa: &'static str,
    results: Vec<Sample<'a>>,
}

#[derive(Serialize)]
struct Sample<'a> {
    input: &'a Path,
    /// Place in the array; pictures have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    /// One score per class.
    Classes { top: Vec<Class> },
    /// Scores on a map are no classes.
    Map { shape: [usize; 3], min: f32, max: f32 },
}

#[derive(Serialize)]
struct Class {
    class: usize,
    /// None where the network does not name its classes.
    name: Option<String>,
    score: f32,
}

impl Run {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let file = network::open(&self.model)?;
        let (model, meta) = file.load()?;
        let session = Session::new(&model, meta, &global.session())?;
        let mut results = Vec::new();
        let mut scores = Vec::new();
        for input in &self.inputs {
            let outputs = run_input(&session, input)?;
            let single = outputs.is_picture;
            for (i, output) in outputs.samples.iter().enumerate() {
                let index = (!single).then_some(i);
                results.push(Sample { input, index, answer: self.answer(&session, output) });
            }
            if self.output.is_some() {
                outputs.samples.into_iter().for_each(|o| scores.extend(o.scores));
            }
        }
        if let Some(path) = &self.output {
            let (shape, layout) = (session.output().shape, session.meta().input.layout);
            let axes = tensor::output_shape(results.len(), shape, layout);
            npy::save(path, &axes, &tensor::outputs(scores, shape, layout))?;
        }
        if global.json {
            return print_json(&Report { model: &session.meta().name, isa: session.isa(), results });
        }
        print(&text(&results, session.output().shape))
    }

    fn answer(&self, session: &Session, output: &Output) -> Answer {
        let shape = session.output().shape;
        if shape.pixels() > 1 {
            let fold = |f: fn(f32, f32) -> f32, start| output.scores.iter().copied().fold(start, f);
            let (min, max) = (fold(f32::min, f32::INFINITY), fold(f32::max, f32::NEG_INFINITY));
            return Answer::Map { shape: shape.into(), min, max };
        }
        let top = output.top(self.top as usize);
        let names = &session.meta().classes;
        let named = |class| Class { class, name: names.get(class).cloned(), score: output.scores[class] };
        Answer::Classes { top: top.into_iter().map(named).collect() }
    }
}

struct Outputs {
    is_picture: bool,
    samples: Vec<Output>,
}

fn run_input(session: &Session, path: &Path) -> Result<Outputs> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    file.take(8).read_to_end(&mut head).map_err(Error::io(path))?;
    if !npy::is_npy(&head) && path.extension().is_none_or(|e| e != "npy") {
        let output = session.run(&Image::open(path)?).map_err(|e| e.in_file(path))?;
        return Ok(Outputs { is_picture: true, samples: vec![output] });
    }
    let array = npy::open(path)?;
    let shape = session.input().shape;
    let values = tensor::inputs(array, shape, session.meta().input.layout);
    let values = values.map_err(|e| Error::file(path, e))?;
    let samples = session.run_elements(Elements::F32(&values)).map_err(|e| e.in_file(path))?;
    if samples.is_empty() {
        bail!("{}: contains no samples", path.display());
    }
    Ok(Outputs { is_picture: false, samples })
}

/// One block for each input: a table for a picture, one line per sample for an array.
fn text(results: &[Sample<'_>], shape: Shape) -> String {
    let mut text = String::new();
    for block in results.chunk_by(|a, b| a.input == b.input && b.index.is_some_and(|i| i > 0)) {
        let samples = match block[0].index {
            Some(_) => format!(": {}", plural(block.len(), "sample")),
            None => String::new(),
        };
        let _ = writeln!(text, "{}{samples}", block[0].input.display());
        for sample in block {
            match &sample.answer {
                Answer::Map { min, max, .. } => {
                    let index = sample.index.map_or(String::new(), |i| format!("[{i}] "));
                    let range = format!("{} to {}", significant((*min).into()), significant((*max).into()));
                    let _ = writeln!(text, "  {index}a map of {shape}, {range}; --output FILE.npy keeps it");
                }
                Answer::Classes { top } => match sample.index {
                    None => text.push_str(&classes(top)),
                    Some(i) => {
                        let best =
                            top.iter().map(|c| format!("{} ({})", c.label(), significant(c.score.into())));
                        let _ = writeln!(text, "  [{i}] {}", best.collect::<Vec<_>>().join("  "));
                    }
                },
            }
        }
        text.push('\n');
    }
    text
}

impl Class {
    fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("class {}", self.class))
    }
}

/// Classes with their scores, best first.
fn classes(top: &[Class]) -> String {
    let labels: Vec<String> = top.iter().map(Class::label).collect();
    let scores: Vec<String> = top.iter().map(|c| significant(c.score.into())).collect();
    let width = |cells: &[String]| cells.iter().map(|c| c.chars().count()).max().unwrap_or(0);
    let (label_width, score_width) = (width(&labels), width(&scores));
    let mut text = String::new();
    for (i, (label, score)) in labels.iter().zip(&scores).enumerate() {
        let _ = writeln!(text, "  {:>2}  {label:<label_width$}  {score:>score_width$}", i + 1);
    }
    text
}
