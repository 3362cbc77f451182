//! `onebit demo`: trained networks and real pictures that are part of the program.

use crate::Global;
use crate::text::{
    Table, bytes, duration, grouped, percent, plural, print, print_json, significant, spinner,
};
use crate::timing::{latency, rate};
use anyhow::{Result, bail};
use clap::Args;
use onebit::passes::float_twin;
use onebit::session::Elements;
use onebit::stats::stats;
use onebit::{Dataset, Graph, ModelFile, Output, Session, session};
use serde::Serialize;
use std::time::Duration;

/// Classifies bundled real pictures with bundled trained networks, and measures
#[derive(Args)]
pub struct Demo {}

/// Time of one measurement; there are three for each network.
const TIME: Duration = Duration::from_millis(700);

/// A network and the pictures it is shown.
struct Show {
    model: &'static [u8],
    pictures: fn() -> onebit::Result<Dataset>,
    /// Name of the data set.
    data: &'static str,
}

macro_rules! asset {
    ($name:literal) => {
        include_bytes!(concat!("../../assets/", $name))
    };
}

const SHOWS: [Show; 3] = [
    Show { model: asset!("lfc-w1a1.onebit"), pictures: mnist, data: "MNIST" },
    Show { model: asset!("bmxnet-lenet.onebit"), pictures: mnist, data: "MNIST" },
    Show { model: asset!("cnv-w1a1.onebit"), pictures: cifar, data: "CIFAR-10" },
];

fn mnist() -> onebit::Result<Dataset> {
    Dataset::from_mnist(asset!("mnist-images-idx3-ubyte.gz"), asset!("mnist-labels-idx1-ubyte.gz"))
}

fn cifar() -> onebit::Result<Dataset> {
    Dataset::from_cifar(asset!("cifar-10.bin"))
}

#[derive(Serialize)]
struct Report {
    isa: &'static str,
    threads: usize,
    networks: Vec<Network>,
}

#[derive(Serialize)]
struct Network {
    name: String,
    data: &'static str,
    correct: usize,
    total: usize,
    accuracy: f64,
    /// Batch 1, one thread, median.
    latency_ms: f64,
    /// All threads.
    images_per_second: f64,
    /// The same network in float32, batch 1, one thread, median.
    float32_latency_ms: f64,
    speedup: f64,
    /// Pictures for which the float32 network puts out the same class.
    float32_agrees: usize,
    model_bytes: u64,
    float32_bytes: u64,
    compression: f64,
}

impl Demo {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let bar = spinner();
        let mut networks = Vec::new();
        for show in &SHOWS {
            bar.set_message(format!("measuring on {}", show.data));
            networks.push(show.measure(global)?);
        }
        bar.finish_and_clear();
        let report =
            Report { isa: session::kernels(global.isa.as_deref())?.isa, threads: global.threads(), networks };
        if global.json {
            print_json(&report)?;
        } else {
            print(&report.text())?;
        }
        match report.networks.iter().find(|n| n.float32_agrees != n.total) {
            Some(n) => {
                let differ = n.total - n.float32_agrees;
                bail!("{}: the float32 network gives another class for {}", n.name, plural(differ, "picture"))
            }
            None => Ok(()),
        }
    }
}

impl Show {
    fn measure(&self, global: &Global) -> Result<Network> {
        let file = ModelFile::from_static(self.model);
        let (model, meta) = file.load()?;
        let (name, stats) = (meta.name.clone(), stats(&model));
        let twin = float_twin(&Graph::from_model(&model, meta.clone()))?.into_model()?.0;
        let all = Session::new(&model, meta.clone(), &global.session())?;
        let one = Session::new(&model, meta.clone(), &global.one_thread())?;
        let float = Session::new(&twin, meta.clone(), &global.one_thread())?;
        let float_all = Session::new(&twin, meta, &global.session())?;

        let data = (self.pictures)()?;
        let batch = data.batches(data.len()).next().unwrap_or_default();
        let pixels = all.fit_images(&batch.images)?;
        let per_image = all.input().shape.elements();
        let answers = classes(&all.run_elements(Elements::Pixels(&pixels))?);
        let floats = classes(&float_all.run_elements(Elements::Pixels(&pixels))?);
        let correct = answers.iter().zip(&batch.labels).filter(|(a, b)| a == b).count();
        let float32_agrees = answers.iter().zip(&floats).filter(|(a, b)| a == b).count();

        let mut out = vec![0.0; all.output().shape.elements()];
        let single = Elements::Pixels(&pixels[..per_image]);
        let latency_ms = latency(TIME, || one.run_into(single, &mut out))?.median;
        let float32_latency_ms = latency(TIME, || float.run_into(single, &mut out))?.median;
        let mut out = vec![0.0; batch.images.len() * out.len()];
        let images = batch.images.len();
        let images_per_second = rate(TIME, images, || all.run_into(Elements::Pixels(&pixels), &mut out))?;
        let total = batch.labels.len();
        Ok(Network {
            name,
            data: self.data,
            correct,
            total,
            accuracy: correct as f64 / total as f64,
            latency_ms,
            images_per_second,
            float32_latency_ms,
            speedup: float32_latency_ms / latency_ms,
            float32_agrees,
            model_bytes: file.len() as u64,
            float32_bytes: stats.float32_bytes,
            compression: stats.float32_bytes as f64 / file.len() as f64,
        })
    }
}

fn classes(outputs: &[Output]) -> Vec<usize> {
    outputs.iter().map(Output::class).collect()
}

impl Report {
    fn text(&self) -> String {
        let headings = [
            "network",
            "pictures",
            ">correct",
            ">one image",
            ">float32 twin",
            ">faster",
            ">images/s",
            ">model",
            ">as float32",
            ">smaller",
        ];
        let mut table = Table::new(&headings);
        for n in &self.networks {
            table.row(vec![
                n.name.clone(),
                format!("{} {}", n.total, n.data),
                percent(n.accuracy),
                duration(n.latency_ms * 1e-3),
                duration(n.float32_latency_ms * 1e-3),
                format!("{}x", significant(n.speedup)),
                grouped(n.images_per_second as u64),
                bytes(n.model_bytes),
                bytes(n.float32_bytes),
                format!("{}x", significant(n.compression)),
            ]);
        }
        let agree: usize = self.networks.iter().map(|n| n.float32_agrees).sum();
        let total: usize = self.networks.iter().map(|n| n.total).sum();
        format!(
            "Trained 1-bit networks on real test pictures, measured here and now ({}):\n\n{}\n\
             one image     median latency on one thread, from pixels to scores\n\
             float32 twin  the same network with weights and activations as floats, likewise on one thread;\n              \
             it gives the same class for {agree} of {total} pictures\n\
             images/s      all pictures at once on {}\n\n\
             Next: onebit convert NETWORK -o MODEL, onebit run MODEL PICTURE, onebit eval MODEL --data FOLDER\n",
            self.isa,
            table.render(),
            plural(self.threads, "thread"),
        )
    }
}
