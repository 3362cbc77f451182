//! `onebit bench`: latency, throughput, and where the time goes.

use super::Device;
use super::conv::Conv;
use super::gemm::Gemm;
use super::kbit::Kbit;
use super::limits::LimitsCommand;
use super::sweep::Sweep;
use crate::diagnosis::{Kind, Row, diagnose};
use crate::limits::{Limits, Probe, Work, unit_of};
use crate::text::{Table, count, duration, grouped, percent, plural, print, print_json, significant};
use crate::timing::{Latency, latency, rate};
use crate::{Global, network};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use onebit::core::kernels::limits::Unit;
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
    Limits(LimitsCommand),
    Sweep(Sweep),
    Conv(Conv),
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
    /// Of the layers on the binary kernel: their speed over the limit of the rung; none where there are none.
    limit_fraction: Option<f64>,
    limits: Limits,
    layers: Vec<Layer>,
    diagnosis: String,
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
    /// The larger of the fractions of the limits of computing and of moving bytes.
    limit_fraction: Option<f64>,
    /// Which one that is: `compute` or a cache.
    limited_by: Option<&'static str>,
}

impl Bench {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        match &self.kernel {
            Some(Kernel::Gemm(gemm)) => return gemm.run(global),
            Some(Kernel::Limits(limits)) => return limits.run(global),
            Some(Kernel::Sweep(sweep)) => return sweep.run(global),
            Some(Kernel::Conv(conv)) => return conv.run(global),
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
        let stats = stats(model);
        let network_bytes = stats.weight_bytes as usize + session.executor().arena_words(1) * 8;
        let mut probe = Probe::new(&[session.executor().kernels()], network_bytes);
        let times = profile(&session, &mut probe)?;
        let limits = probe.limits(session.isa());
        let total: f64 = times.iter().sum();
        let (mut layers, mut rows) = (Vec::new(), Vec::new());
        // Multiply-adds and seconds of the layers on the binary kernel.
        let mut binary = (0.0, 0.0);
        for (i, (l, &seconds)) in stats.layers.iter().zip(&times).enumerate() {
            let kernel = session.executor().steps()[i].kernel();
            let input = model.types()[model.nodes()[i].inputs[0]];
            let work = work(model, i, l, kernel, network_bytes);
            let limit = limits.fraction(&work, seconds);
            let one_row = model.types()[i + 1].shape.pixels() == 1;
            if work.unit == Some(Unit::Binary) {
                binary = (binary.0 + work.macs as f64, binary.1 + seconds);
            }
            rows.push(Row {
                name: &l.name,
                op: l.op,
                kind: match work.unit {
                    None => Kind::Other,
                    Some(_) if l.float_macs > 0 => Kind::Float,
                    Some(_) if matches!(input.dtype, DType::U8 | DType::I8) => Kind::Bytes,
                    Some(_) => Kind::Bits,
                },
                seconds,
                macs: l.binary_macs + l.float_macs,
                products: u64::from(l.weight_bits.unwrap_or(1)) * u64::from(l.activation_bits),
                side_by_side: if one_row { input.shape.elements() } else { input.shape.c },
                one_row,
                weight_bytes: work.weight_bytes,
                limit,
            });
            layers.push(Layer {
                name: l.name.clone(),
                op: l.op,
                kernel,
                microseconds: seconds * 1e6,
                share: seconds / total,
                binary_macs: l.binary_macs,
                float_macs: l.float_macs,
                gmacs_per_second: (l.binary_macs + l.float_macs) as f64 / seconds / 1e9,
                limit_fraction: limit.map(|f| f.part),
                limited_by: limit.map(|f| f.of),
            });
        }
        let limit_fraction =
            limits.macs(Unit::Binary).filter(|_| binary.1 > 0.0).map(|limit| binary.0 / binary.1 / limit);
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
            limit_fraction,
            limits,
            layers,
            diagnosis: diagnose(&rows, limit_fraction),
        };
        if global.json { print_json(&report) } else { print(&report.text()) }
    }
}

/// What layer `i` of a model must do at least, for one image.
fn work(model: &Model<'_>, i: usize, l: &LayerStats, kernel: &str, network_bytes: usize) -> Work {
    let unit = unit_of(kernel);
    let types = model.types();
    let inputs = model.nodes()[i].inputs.iter().map(|&v| types[v].dtype.bytes(types[v].shape));
    Work {
        unit,
        macs: if unit == Some(Unit::Binary) { l.bit_macs() } else { l.binary_macs + l.float_macs },
        weight_bytes: l.weight_bytes as usize,
        value_bytes: inputs.sum::<usize>() + l.activation_bytes as usize,
        network_bytes,
    }
}

/// Shortest time of each layer for one image on one thread, in seconds; the limits take turns with it.
fn profile(session: &Session, probe: &mut Probe) -> onebit::Result<Vec<f64>> {
    /// Reads sweep the caches, so there are few, and the network warms up after each.
    const READS: usize = 4;
    const SLICE: Duration = Duration::from_millis(300);
    let inputs = Inputs::random(session, 1);
    let mut best = vec![f64::INFINITY; session.executor().steps().len()];
    for _ in 0..READS {
        probe.bandwidth();
        let (start, mut runs) = (Instant::now(), 0);
        while runs < 3 || start.elapsed() < SLICE {
            probe.compute();
            let turn = Instant::now();
            while turn.elapsed() < Duration::from_millis(1) {
                // The first layer's time includes the copying of the input, which is little.
                let mut last = Instant::now();
                session.profile(inputs.elements(), |step| {
                    best[step] = best[step].min(last.elapsed().as_secs_f64());
                    last = Instant::now();
                })?;
                runs += 1;
            }
        }
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
        let mut table =
            Table::new(&["layer", "op", "kernel", ">time", ">share", ">MACs", ">GMAC/s", ">limit", ""]);
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
                l.limit_fraction.map_or("·".into(), |f| format!("{:.0} %", 100.0 * f)),
                l.limited_by.unwrap_or_default().into(),
            ]);
        }
        let limit = match self.limit_fraction {
            Some(f) => format!(
                "binary layers run at {} of {} GMAC/s, what this machine does in registers on one thread",
                percent(f),
                grouped(self.limits.binary_gmacs_per_second.unwrap_or(0.0) as u64)
            ),
            None if self.limits.binary_gmacs_per_second.is_none() => {
                format!("this machine's limit for binary layers with {} is not measured", self.isa)
            }
            None => "no binary layers".to_owned(),
        };
        let ms = |v: f64| duration(v * 1e-3);
        format!(
            "{} · batch {} · {} · {}\n  latency     min {}, median {}, p99 {}\n  throughput  {} images/s\n  limit       {limit}\n\n\
             One image on one thread, shortest time of each layer:\n{}\n{}",
            self.model,
            self.batch,
            self.isa,
            plural(self.threads, "thread"),
            ms(self.latency_ms.min),
            ms(self.latency_ms.median),
            ms(self.latency_ms.p99),
            grouped(self.images_per_second as u64),
            table.render(),
            self.diagnosis,
        )
    }
}
