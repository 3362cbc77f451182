//! `onebit bench gemm`: one binary matrix multiplication, beside the limits of the machine.

use super::single::Layer;
use crate::Global;
use crate::limits::{Limits, Probe};
use crate::text::{grouped, percent, print, print_json, significant};
use crate::timing::{Latency, latency_beside};
use anyhow::{Result, bail};
use clap::Args;
use onebit::core::kernels::limits::Unit;
use onebit::core::types::{Quant, Shape};
use onebit::session;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;

/// Multiplies a binary M x K matrix with a binary K x N matrix, on one thread
#[derive(Args)]
pub struct Gemm {
    /// Rows of the activations: the batch
    #[arg(value_parser = size())]
    m: u64,
    /// Columns of the weights: output channels
    #[arg(value_parser = size())]
    n: u64,
    /// Elements of one sum
    #[arg(value_parser = size())]
    k: u64,
}

fn size() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=1 << 24)
}

/// Most elements of each of the three matrices.
const MAX_ELEMENTS: usize = 1 << 28;

#[derive(Serialize)]
struct Report {
    m: usize,
    n: usize,
    k: usize,
    isa: &'static str,
    kernel: &'static str,
    threads: usize,
    latency_ms: Latency,
    gmacs_per_second: f64,
    /// Over the rate of the rung in registers; none for a rung without limits.
    limit_fraction: Option<f64>,
    /// What is nearest to its limit: `compute` or a cache, and how near.
    limited_by: Option<&'static str>,
    limited_by_fraction: Option<f64>,
    limits: Limits,
}

impl Gemm {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let (m, n, k) = (self.m as usize, self.n as usize, self.k as usize);
        if [m * k, n * k, m * n].iter().any(|e| *e > MAX_ELEMENTS) {
            bail!("matrices of {m} x {k}, {n} x {k} and {m} x {n} are too large; the limit is 2^28 elements");
        }
        let kernels = session::kernels(global.isa.as_deref())?;
        let shape = Shape::vector(k);
        let layer = Layer { batch: m, shape, quant: Quant::BIT, filter: 1, channels: n, bits: false };
        let mut layer = layer.prepare(kernels)?;
        let mut probe = Probe::new(&[kernels], layer.work.network_bytes);
        let Ok(latency_ms) = latency_beside(
            Duration::from_millis(2000),
            || probe.round(),
            || {
                layer.run();
                Ok::<(), Infallible>(())
            },
        );
        let limits = probe.limits(kernels.isa);
        let gmacs = layer.work.macs as f64 / latency_ms.min / 1e6;
        let nearer = limits.fraction(&layer.work, latency_ms.min * 1e-3);
        let report = Report {
            m,
            n,
            k,
            isa: kernels.isa,
            kernel: layer.kernel(),
            threads: 1,
            latency_ms,
            gmacs_per_second: gmacs,
            limit_fraction: limits.macs(Unit::Binary).map(|limit| gmacs * 1e9 / limit),
            limited_by: nearer.map(|f| f.of),
            limited_by_fraction: nearer.map(|f| f.part),
            limits,
        };
        if global.json { print_json(&report) } else { print(&report.text()) }
    }
}

impl Report {
    fn text(&self) -> String {
        let of_limit = match (self.limit_fraction, self.limits.binary_gmacs_per_second) {
            (Some(part), Some(limit)) => {
                format!(", {} of {} GMAC/s in registers", percent(part), grouped(limit as u64))
            }
            _ => String::new(),
        };
        let nearer = match (self.limited_by, self.limited_by_fraction) {
            (Some("compute") | None, _) | (_, None) => String::new(),
            (Some(level), Some(part)) => {
                format!("  bytes     {} of what one thread reads from {level}\n", percent(part))
            }
        };
        format!(
            "binary GEMM {} x {} x {} · {} · 1 thread\n  \
             latency   min {} ms, median {} ms, p99 {} ms\n  \
             speed     {} GMAC/s with packing{of_limit}\n{nearer}  kernel    {}\n",
            self.m,
            self.n,
            self.k,
            self.isa,
            significant(self.latency_ms.min),
            significant(self.latency_ms.median),
            significant(self.latency_ms.p99),
            grouped(self.gmacs_per_second as u64),
            self.kernel,
        )
    }
}
