//! `onebit bench`: latency, throughput, and where the time goes.

use super::Device;
use super::gemm::{Gemm, kernel_rate};
use super::kbit::Kbit;
use crate::text::{Table, count, duration, grouped, percent, plural, print, print_json, significant};
use crate::timing::{Latency, latency, rate};
use crate::{Global, network};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use onebit::core::model::Model;
use onebit::core::types::DType;
use onebit::session::Elements;
use onebit::stats::{LayerStats, stats};
use onebit::{Meta, Session, passes, zoo};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Measures latency, throughput and the time of every layer
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = architectures())]
pub struct Bench {
    /// Model file, a network that can be imported, or an architecture with random weights
    #[arg(required = true, value_name = "MODEL|ARCH")]
    target: Option<PathBuf>,
    /// Images of one run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Where to run
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    #[command(subcommand)]
    kernel: Option<Kernel>,
}

#[derive(Subcommand)]
enum Kernel {
    Gemm(Gemm),
    Kbit(Kbit),
}

fn architectures() -> String {
    format!("Architectures: {}", zoo::NAMES.join(", "))
}

#[derive(Serialize)]
struct Report {
    model: String,
    isa: &'static str,
    device: &'static str,
    threads: usize,
    batch: usize,
    latency_ms: Latency,
    images_per_second: f64,
    binary_macs: u64,
    float_macs: u64,
    /// Of the layers on the binary kernel: their speed over that of the kernel alone; none where there are none.
    limit_fraction: Option<f64>,
    kernel_gmacs_per_second: f64,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    op: &'static str,
    kernel: &'static str,
    microseconds: f64,
    share: f64,
    binary_macs: u64,
    float_macs: u64,
    gmacs_per_second: f64,
}

impl Bench {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        match &self.kernel {
            Some(Kernel::Gemm(gemm)) => return gemm.run(global),
            Some(Kernel::Kbit(kbit)) => return kbit.run(global),
            None => {}
        }
        self.device.check()?;
        // Clap requires a target where there is no subcommand.
        let target = self.target.as_deref().unwrap_or(Path::new(""));
        if !target.exists() {
            let name = target.display().to_string();
            let Some(graph) = zoo::build(&name) else {
                bail!("{name} is neither a file nor an architecture; {}", architectures().to_lowercase());
            };
            let mut graph = graph?;
            passes::optimize(&mut graph)?;
            let (model, meta) = graph.into_model()?;
            return self.measure(&model, meta, name, global);
        }
        let file = network::open(target)?;
        let (model, meta) = file.load()?;
        let name = if meta.name.is_empty() { target.display().to_string() } else { meta.name.clone() };
        self.measure(&model, meta, name, global)
    }

    fn measure(&self, model: &Model<'_>, meta: Meta, name: String, global: &Global) -> Result<()> {
        let session = Session::new(model, meta, &global.session())?;
        let batch = self.batch as usize;
        let inputs = Inputs::random(&session, batch);
        let mut out = vec![0.0; batch * session.output().shape.elements()];
        let latency_ms =
            latency(Duration::from_millis(1500), || session.run_into(inputs.elements(), &mut out))?;
        let many = batch.max(64 * session.threads());
        let images_per_second = {
            let inputs = Inputs::random(&session, many);
            let mut out = vec![0.0; many * session.output().shape.elements()];
            rate(Duration::from_secs(1), many, || session.run_into(inputs.elements(), &mut out))?
        };
        let times = profile(&session)?;
        let kernel_rate = kernel_rate(session.executor().kernels());
        let stats = stats(model);
        let total: f64 = times.iter().sum();
        let layers = stats.layers.iter().zip(session.executor().steps()).zip(&times);
        let layers: Vec<Layer> = layers
            .map(|((l, step), &seconds)| Layer {
                name: l.name.clone(),
                op: l.op,
                kernel: step.kernel(),
                microseconds: seconds * 1e6,
                share: seconds / total,
                binary_macs: l.binary_macs,
                float_macs: l.float_macs,
                gmacs_per_second: (l.binary_macs + l.float_macs) as f64 / seconds / 1e9,
            })
            .collect();
        let report = Report {
            model: name,
            isa: session.isa(),
            device: self.device.name(),
            threads: session.threads(),
            batch,
            latency_ms,
            images_per_second,
            binary_macs: stats.binary_macs,
            float_macs: stats.float_macs,
            limit_fraction: binary_rate(&session, &stats.layers, &times).map(|r| r / kernel_rate),
            kernel_gmacs_per_second: kernel_rate / 1e9,
            layers,
        };
        if global.json { print_json(&report) } else { print(&report.text()) }
    }
}

/// Single-bit multiply-adds per second of the layers that run on the binary kernel.
fn binary_rate(session: &Session, layers: &[LayerStats], times: &[f64]) -> Option<f64> {
    let executor = session.executor();
    let kernel = executor.kernels().bgemm.name;
    let all = layers.iter().zip(times).zip(executor.steps());
    let binary = all.filter(|(_, step)| step.kernel() == kernel);
    let (macs, seconds) = binary.fold((0, 0.0), |(m, s), ((l, t), _)| (m + l.bit_macs(), s + t));
    (macs > 0).then(|| macs as f64 / seconds)
}

/// Shortest time of each layer for one image on one thread, in seconds.
fn profile(session: &Session) -> onebit::Result<Vec<f64>> {
    let inputs = Inputs::random(session, 1);
    let mut best = vec![f64::INFINITY; session.executor().steps().len()];
    let (start, mut runs) = (Instant::now(), 0);
    while runs < 5 || start.elapsed() < Duration::from_secs(1) {
        // The first layer's time includes the copying of the input, which is little.
        let mut last = Instant::now();
        session.profile(inputs.elements(), |step| {
            best[step] = best[step].min(last.elapsed().as_secs_f64());
            last = Instant::now();
        })?;
        runs += 1;
    }
    Ok(best)
}

/// Random inputs of a network.
pub enum Inputs {
    /// For networks that take floats.
    F32(Vec<f32>),
    /// For networks that take pixels.
    Pixels(Vec<u8>),
}

impl Inputs {
    /// `n` inputs of `session`.
    pub fn random(session: &Session, n: usize) -> Self {
        let mut state = 1u32;
        let bytes = (0..n * session.input().shape.elements()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        match session.input().dtype {
            DType::F32 => Inputs::F32(bytes.map(|b| f32::from(b) / 127.5 - 1.0).collect()),
            _ => Inputs::Pixels(bytes.collect()),
        }
    }
    /// The elements.
    pub fn elements(&self) -> Elements<'_> {
        match self {
            Inputs::F32(v) => Elements::F32(v),
            Inputs::Pixels(v) => Elements::Pixels(v),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut table = Table::new(&["layer", "op", "kernel", ">time", ">share", ">MACs", ">GMAC/s"]);
        for l in &self.layers {
            let macs = l.binary_macs + l.float_macs;
            let some = |text: String| if macs == 0 { "·".to_owned() } else { text };
            table.row(vec![
                l.name.clone(),
                l.op.into(),
                l.kernel.into(),
                duration(l.microseconds * 1e-6),
                percent(l.share),
                some(count(macs)),
                some(significant(l.gmacs_per_second)),
            ]);
        }
        let limit = match self.limit_fraction {
            Some(f) => format!(
                "binary layers run at {} of the kernel's speed in L1 ({} GMAC/s of single bits on one thread)",
                percent(f),
                grouped(self.kernel_gmacs_per_second as u64)
            ),
            None => "no binary layers".to_owned(),
        };
        let ms = |v: f64| duration(v * 1e-3);
        format!(
            "{} · batch {} · {} · {}\n  latency     min {}, median {}, p99 {}\n  throughput  {} images/s\n  limit       {limit}\n\n\
             One image on one thread, shortest time of each layer:\n{}",
            self.model,
            self.batch,
            self.isa,
            plural(self.threads, "thread"),
            ms(self.latency_ms.min),
            ms(self.latency_ms.median),
            ms(self.latency_ms.p99),
            grouped(self.images_per_second as u64),
            table.render(),
        )
    }
}
