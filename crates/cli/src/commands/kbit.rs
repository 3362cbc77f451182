//! `onebit bench kbit`: one convolution in every combination of widths of weights and activations.

use crate::Global;
use crate::text::{Table, duration, print, print_json, significant};
use crate::timing::{Latency, latency};
use anyhow::{Result, bail};
use clap::Args;
use onebit::core::cases::{Rng, pack};
use onebit::core::exec::Executor;
use onebit::core::model::{Model, Node, Params};
use onebit::core::ops::{BConv2d, Op, Window};
use onebit::core::types::{DType, Encoding, Quant, Shape, ValueType};
use onebit::session;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;

/// Runs a padded convolution with weights and activations of 1 to 8 bits, on one thread
#[derive(Args)]
pub struct Kbit {
    /// Height and width of the map
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = size(512))]
    map: u64,
    /// Input channels
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = size(4096))]
    channels: u64,
    /// Output channels
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = size(4096))]
    filters: u64,
    /// Height and width of the window
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = size(15))]
    kernel: u64,
}

fn size(largest: u64) -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=largest)
}

/// Most elements of the map and of the weights.
const MAX_ELEMENTS: usize = 1 << 26;

#[derive(Serialize)]
struct Report {
    map: usize,
    channels: usize,
    filters: usize,
    kernel: usize,
    isa: &'static str,
    threads: usize,
    combinations: Vec<Combination>,
}

#[derive(Serialize)]
struct Combination {
    weights: String,
    activations: String,
    kernel: &'static str,
    latency_ms: Latency,
    gmacs_per_second: f64,
    /// Speed over that of bits times bits.
    of_bits: f64,
}

impl Kbit {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let (map, channels) = (self.map as usize, self.channels as usize);
        let (filters, kernel) = (self.filters as usize, self.kernel as usize);
        let weights = kernel * kernel * channels * filters;
        if weights.max(map * map * channels.max(filters)) > MAX_ELEMENTS {
            bail!("the map or the weights have more than 2^26 elements");
        }
        let mut combinations: Vec<Combination> = Vec::new();
        for wq in widths(Encoding::Signed) {
            for xq in widths(Encoding::Unsigned) {
                let (name, latency_ms) = self.measure(wq, xq, global)?;
                let speed = (map * map * weights) as f64 / latency_ms.min / 1e6;
                let bits = combinations.first().map_or(speed, |c| c.gmacs_per_second);
                combinations.push(Combination {
                    weights: DType::Bits(wq).to_string(),
                    activations: DType::Bits(xq).to_string(),
                    kernel: name,
                    latency_ms,
                    gmacs_per_second: speed,
                    of_bits: speed / bits,
                });
            }
        }
        let isa = session::kernels(global.isa.as_deref())?.isa;
        let report = Report { map, channels, filters, kernel, isa, threads: 1, combinations };
        if global.json { print_json(&report) } else { print(&report.text()) }
    }

    /// Times one combination; its output has the format of its input, as inside of a network.
    fn measure(&self, wq: Quant, xq: Quant, global: &Global) -> Result<(&'static str, Latency)> {
        let (size, n, kernel) = (self.map as usize, self.filters as usize, self.kernel as usize);
        let input = ValueType::new(Shape::new(size, size, self.channels as usize), DType::Bits(xq));
        let mut rng = Rng::new(1);
        let params = Params {
            weight: Some(rng.weights(n, kernel * kernel * input.shape.c, wq)),
            thresholds: Some(rng.thresholds(n, xq.levels() - 1, 1000)),
            ..Params::default()
        };
        let output = input.dtype;
        // Outputs are as large as the map.
        let window = Window {
            pad: [(kernel - 1) / 2, (kernel - 1) / 2, kernel / 2, kernel / 2],
            ..Window::square(kernel, 1, 0)
        };
        let op = Op::BConv2d(BConv2d { window, groups: 1, pad_value: 0, output });
        let node = Node { name: "conv".into(), op, inputs: vec![0], params };
        let model = Model::new(input, vec![node]).map_err(onebit::Error::from)?;
        let kernels = session::kernels(global.isa.as_deref())?;
        let executor = Executor::new(&model, kernels).map_err(onebit::Error::from)?;
        let mut arena = vec![0; executor.arena_words(1)];
        executor.input_mut(&mut arena, 1).copy_from_slice(&pack(input, &rng.values(input)));
        let measured: Result<_, Infallible> = latency(Duration::from_millis(200), || {
            executor.run(1, &mut arena, |_| {});
            Ok(())
        });
        match measured {
            Ok(latency) => Ok((executor.steps()[0].kernel(), latency)),
            Err(never) => match never {},
        }
    }
}

/// One bit, three values, and 2 to 8 bits with this reading.
fn widths(encoding: Encoding) -> impl Iterator<Item = Quant> {
    let wider = [2, 3, 4, 8].map(|bits| Quant::new(bits, encoding));
    [Quant::BIT, Quant::TERNARY].into_iter().chain(wider)
}

impl Report {
    fn text(&self) -> String {
        let mut table = Table::new(&["weights", "activations", "kernel", ">time", ">GMAC/s", ">of bits"]);
        for c in &self.combinations {
            table.row(vec![
                c.weights.clone(),
                c.activations.clone(),
                c.kernel.into(),
                duration(c.latency_ms.min * 1e-3),
                significant(c.gmacs_per_second),
                significant(c.of_bits),
            ]);
        }
        let Report { map, channels, filters, kernel, isa, .. } = self;
        format!(
            "{kernel}x{kernel} convolution, {channels} to {filters} channels at {map}x{map} · {isa} · 1 thread, shortest time of each\n{}",
            table.render()
        )
    }
}
