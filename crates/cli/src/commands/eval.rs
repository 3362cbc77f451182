//! `onebit eval`: accuracy on labelled pictures.

use super::Device;
use crate::text::{duration, grouped, note, percent, print, print_json, progress};
use crate::{Global, network};
use anyhow::{Result, bail};
use clap::Args;
use onebit::core::Shape;
use onebit::core::ops::Op;
use onebit::session::{Elements, top};
use onebit::{Dataset, Image, Session};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Measures accuracy on labelled pictures
#[derive(Args)]
pub struct Eval {
    /// Model file, or a network that can be imported
    model: PathBuf,
    /// MNIST-layout folder, CIFAR binary files, folder of NumPy arrays (x_test.npy, y_test.npy), or a folder of PNG and
    /// JPEG files with one subfolder per class or a labels.csv (`class,file`); parts may lie in folders train and test
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Uses the first N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Pictures in memory at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
    /// Where to run
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
}

/// Damaged pictures that are named.
const NAMED: usize = 5;

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    data: &'a Path,
    data_format: &'static str,
    correct: usize,
    total: usize,
    accuracy: f64,
    /// None where the network puts out a class and no scores.
    top5_accuracy: Option<f64>,
    damaged: usize,
    images_per_second: f64,
    threads: usize,
    device: &'static str,
    isa: &'static str,
}

/// What was counted.
#[derive(Default)]
struct Counts {
    correct: usize,
    top5: usize,
    total: usize,
    damaged: usize,
    /// In the network, without reading and resizing.
    time: Duration,
}

impl Eval {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        self.device.check()?;
        let file = network::open(&self.model)?;
        let (model, meta) = file.load()?;
        let puts_out_class = matches!(model.nodes().last().map(|n| n.op), Some(Op::Argmax));
        let session = Session::new(&model, meta, &global.session())?;
        let mut data = Dataset::open(&self.data)?;
        match_classes(&mut data, &session.meta().classes);
        if let Some(limit) = self.limit {
            data.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        check_labels(&session, &data, &self.data, puts_out_class)?;
        let counts = count(&session, &data, self.batch as usize, puts_out_class)?;
        if counts.total == 0 {
            bail!("{}: none of the {} pictures could be decoded", self.data.display(), counts.damaged);
        }
        let part = |n: usize| n as f64 / counts.total as f64;
        let report = Report {
            model: &session.meta().name,
            data: &self.data,
            data_format: data.format(),
            correct: counts.correct,
            total: counts.total,
            accuracy: part(counts.correct),
            top5_accuracy: (!puts_out_class).then(|| part(counts.top5)),
            damaged: counts.damaged,
            images_per_second: counts.total as f64 / counts.time.as_secs_f64(),
            threads: session.threads(),
            device: self.device.name(),
            isa: session.isa(),
        };
        if global.json { print_json(&report) } else { print(&text(&report, counts.time)) }
    }
}

/// Refuses a network that puts out no classes, and data with classes that it does not have.
pub(super) fn check_labels(
    session: &Session,
    data: &Dataset,
    path: &Path,
    puts_out_class: bool,
) -> Result<()> {
    let shape = session.output().shape;
    if shape.pixels() > 1 {
        bail!("the network puts out a map of {shape}, not one score per class");
    }
    if let Some(label) = data.labels().iter().find(|l| !puts_out_class && **l >= shape.c) {
        let classes = shape.c;
        bail!(
            "{}: contains class {label}, but the network has {classes} outputs, numbered from 0",
            path.display()
        );
    }
    Ok(())
}

/// Numbers the classes as the network does, if the data names only classes that the network knows; a number names the
/// class of that number where the network has no names.
pub(super) fn match_classes(data: &mut Dataset, names: &[String]) {
    let place = |name: &String| match names {
        [] => name.parse().ok(),
        _ => names.iter().position(|n| n == name),
    };
    let places: Option<Vec<usize>> = data.class_names().iter().map(place).collect();
    let unknown = data.class_names().iter().find(|n| place(n).is_none());
    match places.filter(|p| !p.is_empty()) {
        Some(places) => data.relabel(|class| places[class]),
        None => {
            if let (Some(name), false) = (unknown, names.is_empty()) {
                note(&format!(
                    "warning: the network has no class called '{name}'; classes of the data are numbered in their order"
                ));
            }
        }
    }
}

/// Small pictures of another size or colour than the network's are likely the wrong data.
pub(super) fn say_if_resized(shape: Shape, image: &Image) {
    let same = (image.height, image.width, image.channels) == (shape.h, shape.w, shape.c);
    if !same
        && (image.height < shape.h || image.width < shape.w || image.channels != shape.c || shape.h <= 64)
    {
        note(&format!(
            "warning: pictures of {} x {} x {} are resized to the network's input, {} x {} x {}",
            image.height, image.width, image.channels, shape.h, shape.w, shape.c
        ));
    }
}

fn count(session: &Session, data: &Dataset, batch: usize, puts_out_class: bool) -> Result<Counts> {
    let mut counts = Counts::default();
    let bar = progress(data.len() as u64);
    for batch in data.batches(batch) {
        for damage in &batch.damaged {
            counts.damaged += 1;
            if counts.damaged <= NAMED {
                bar.suspend(|| note(&format!("warning: {damage}; left out")));
            }
        }
        if let (0, Some(image)) = (counts.total, batch.images.first()) {
            say_if_resized(session.input().shape, image);
        }
        let pixels = session.fit_images(&batch.images)?;
        let start = Instant::now();
        let outputs = session.run_elements(Elements::Pixels(&pixels))?;
        counts.time += start.elapsed();
        for (output, label) in outputs.iter().zip(&batch.labels) {
            if puts_out_class {
                counts.correct += usize::from(output.scores[0] as usize == *label);
            } else {
                let best = top(&output.scores, 5);
                counts.correct += usize::from(best[0] == *label);
                counts.top5 += usize::from(best.contains(label));
            }
        }
        counts.total += outputs.len();
        bar.set_position((counts.total + counts.damaged) as u64);
        bar.set_message(format!("· {} correct", percent(counts.correct as f64 / counts.total.max(1) as f64)));
    }
    bar.finish_and_clear();
    if counts.damaged > NAMED {
        note(&format!("warning: {} more pictures could not be decoded", counts.damaged - NAMED));
    }
    Ok(counts)
}

fn text(r: &Report<'_>, time: Duration) -> String {
    let grouped = |n: usize| grouped(n as u64);
    let name = if r.model.is_empty() { "network" } else { r.model };
    let mut text = format!(
        "{name} on {} ({})\n  accuracy   {}   {} of {}\n",
        r.data.display(),
        r.data_format,
        percent(r.accuracy),
        grouped(r.correct),
        grouped(r.total)
    );
    if let Some(top5) = r.top5_accuracy {
        text.push_str(&format!("  top 5      {}\n", percent(top5)));
    }
    if r.damaged > 0 {
        let pictures = if r.damaged == 1 { "picture" } else { "pictures" };
        text.push_str(&format!("  damaged    {} {pictures} left out\n", grouped(r.damaged)));
    }
    let threads = if r.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", r.threads) };
    let speed = grouped(r.images_per_second as usize);
    text.push_str(&format!(
        "  speed      {speed} images/s in the network ({}, {threads}, {})\n",
        duration(time.as_secs_f64()),
        r.isa
    ));
    text
}
