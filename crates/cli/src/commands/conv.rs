//! `onebit bench conv`: one binary convolution, and the making of its input's bits, alone.

use crate::Global;
use crate::text::{duration, grouped, print, print_json};
use anyhow::{Result, bail};
use clap::Args;
use onebit::core::cases::Rng;
use onebit::core::exec::Executor;
use onebit::core::model::{Params, Tensor};
use onebit::core::ops::{BConv2d, Op, Sign, Window, Zero};
use onebit::core::types::{DType, Quant, Shape, ValueType};
use onebit::{Graph, Meta, passes, session};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Convolves one binary H x W x C map with N square filters, on one thread
#[derive(Args)]
pub struct Conv {
    /// Rows of the input
    #[arg(value_parser = size())]
    h: u32,
    /// Columns of the input
    #[arg(value_parser = size())]
    w: u32,
    /// Channels of the input
    #[arg(value_parser = size())]
    c: u32,
    /// Filters: channels of the output
    #[arg(value_parser = size())]
    n: u32,
    /// Rows and columns of a filter
    #[arg(value_parser = clap::value_parser!(u32).range(1..=255))]
    kernel: u32,
    /// Distance of neighbouring windows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    stride: u32,
    /// Zeros around the input [default: KERNEL / 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=255))]
    pad: Option<u32>,
    /// Writes sums of 32 bits instead of their signs
    #[arg(long)]
    sums: bool,
    /// Time to measure for; at least five runs
    #[arg(long, value_name = "N", default_value_t = 1500)]
    milliseconds: u32,
}

fn size() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 16)
}

/// Most elements of the input, the output and the filters.
const MAX_ELEMENTS: u64 = 1 << 28;
/// Most multiply-adds: about a second on a fast machine, of which five runs are made.
const MAX_MACS: u64 = 1_000_000_000_000;

/// Shortest times. The parts that are taken on their own: floats to bits, then bits to bits or sums.
#[derive(Serialize)]
struct Report {
    isa: &'static str,
    kernel: &'static str,
    threads: usize,
    binary_macs: u64,
    binarize_microseconds: f64,
    conv_microseconds: f64,
    gmacs_per_second: f64,
}

impl Conv {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let mut graph = self.graph()?;
        let shape = graph.ty(graph.output).shape;
        let taps = u64::from(self.kernel).pow(2) * u64::from(self.c);
        let macs = taps * shape.elements() as u64;
        passes::optimize(&mut graph)?;
        let (model, _) = graph.into_model()?;
        let kernels = session::kernels(global.isa.as_deref())?;
        let executor = Executor::new(&model, kernels).map_err(onebit::Error::from)?;
        let [binarize, conv] = self.measure(&executor);
        let report = Report {
            isa: kernels.isa,
            kernel: executor.steps()[1].kernel(),
            threads: 1,
            binary_macs: macs,
            binarize_microseconds: binarize * 1e6,
            conv_microseconds: conv * 1e6,
            gmacs_per_second: macs as f64 / conv / 1e9,
        };
        if global.json {
            return print_json(&report);
        }
        print(&format!(
            "binary convolution {}x{}, {} x {} x {} to {} · {} · 1 thread\n  \
             floats to bits  {}\n  \
             convolution     {}, {} GMAC/s ({})\n",
            self.kernel,
            self.kernel,
            self.h,
            self.w,
            self.c,
            shape,
            report.isa,
            duration(binarize),
            duration(conv),
            grouped(report.gmacs_per_second as u64),
            report.kernel,
        ))
    }

    /// Floats, their signs, the convolution, and the signs of its sums unless they are asked for themselves.
    fn graph(&self) -> Result<Graph> {
        let [h, w, c, n, kernel] = [self.h, self.w, self.c, self.n, self.kernel].map(|v| v as usize);
        let taps = u64::from(self.kernel).pow(2) * u64::from(self.c);
        let map = u64::from(self.h) * u64::from(self.w);
        if [map * u64::from(self.c), map * u64::from(self.n), taps * u64::from(self.n)]
            .iter()
            .any(|e| *e > MAX_ELEMENTS)
        {
            bail!(
                "a {h} x {w} x {c} map with {n} filters of {kernel} x {kernel} is too large; the limit is 2^28 elements"
            );
        }
        if map.saturating_mul(u64::from(self.n)).saturating_mul(taps) > MAX_MACS {
            bail!("this convolution has more than 10^12 multiply-adds; measure a smaller one");
        }
        let mut rng = Rng::new(7);
        let mut graph = Graph::new(ValueType::new(Shape::new(h, w, c), DType::F32), Meta::default());
        let sign = || Op::Sign(Sign { zero: Zero::Positive });
        let bits = graph.add("binarize", sign(), &[Graph::INPUT], Params::default())?;
        let window =
            Window::square(kernel, self.stride as usize, self.pad.map_or(kernel / 2, |p| p as usize));
        let weight = Some(rng.weights(n, taps as usize, Quant::BIT));
        let op = Op::BConv2d(BConv2d { window, groups: 1, pad_value: 0, output: DType::I32 });
        let sums = graph.add("conv", op, &[bits], Params { weight, ..Params::default() })?;
        if !self.sums {
            let mut random = |lo, hi| Some(Tensor::f32(rng.floats(n, lo, hi)));
            let params = Params {
                center: random(-8.0, 8.0),
                scale: random(-0.1, 0.2),
                bias: random(-0.5, 0.5),
                ..Params::default()
            };
            let normalized = graph.add("norm", Op::Affine, &[sums], params)?;
            graph.add("sign", sign(), &[normalized], Params::default())?;
        }
        Ok(graph)
    }

    /// Shortest seconds of each of the two steps.
    fn measure(&self, executor: &Executor) -> [f64; 2] {
        let mut arena = vec![0u64; executor.arena_words(1)];
        let mut rng = Rng::new(3);
        // Pairs of finite floats of either sign. Later runs may find other values there, which takes as long.
        executor.input_mut(&mut arena, 1).fill_with(|| rng.word() & 0xBFFF_FFFF_BFFF_FFFF);
        let time = Duration::from_millis(self.milliseconds.into());
        let (start, mut best, mut runs) = (Instant::now(), [f64::INFINITY; 2], 0);
        // The first run warms up.
        while runs < 6 || start.elapsed() < time {
            let mut last = Instant::now();
            executor.run(1, &mut arena, |step| {
                if runs > 0 {
                    best[step] = best[step].min(last.elapsed().as_secs_f64());
                }
                last = Instant::now();
            });
            runs += 1;
        }
        best
    }
}
