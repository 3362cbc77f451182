//! `onebit bench sweep`: how the time of a binary layer grows with its work, and where it stops being linear.

use super::plot::{Panel, svg};
use super::single::{Layer, Prepared};
use crate::Global;
use crate::limits::{Fraction, Limits, Probe, Work};
use crate::text::{Table, count, duration, print, print_json, significant, steps};
use anyhow::{Context, Result};
use clap::Args;
use onebit::core::types::{Encoding, Quant, Shape};
use onebit::session;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Measures how the time of a binary layer grows with each of its sizes, on one thread
#[derive(Args)]
pub struct Sweep {
    /// Also draws time against work
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Rounds in which all points take turns, and the time of a point in each of them.
const ROUNDS: u64 = 6;
const TURN: Duration = Duration::from_millis(8);
/// A unit of work that costs more than this many times the least cost of the sweep is no longer linear.
const LINEAR: f64 = 1.5;
/// Sums of fewer elements than this are short: 16 words.
const SHORT: usize = 1024;
/// A tile of the kernels has at most this many rows.
const TILE: usize = 4;

#[derive(Serialize)]
struct Report {
    isa: &'static str,
    limits: Limits,
    sweeps: Vec<Curve>,
}

#[derive(Serialize)]
struct Curve {
    name: &'static str,
    layer: &'static str,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    /// The size that is swept.
    size: usize,
    macs: u64,
    microseconds: f64,
    gmacs_per_second: f64,
    limit_fraction: Option<f64>,
    limited_by: Option<&'static str>,
    /// Time for a unit of work over the least one of the sweep.
    cost: f64,
    /// Why the cost is high, where it is.
    reason: Option<String>,
}

/// A sweep: its name, what the layer is, and the layer for each size.
type Plan = (&'static str, &'static str, Vec<(usize, Layer)>);

fn plans() -> Vec<Plan> {
    let powers = |from: u32, to: u32| (from..=to).map(|e| 1usize << e);
    let map = |size: usize, c: usize, quant: Quant| Layer {
        batch: 1,
        shape: Shape::new(size, size, c),
        quant,
        filter: 3,
        channels: c,
        bits: true,
    };
    let dense = |batch: usize, k: usize, n: usize| Layer {
        batch,
        shape: Shape::vector(k),
        quant: Quant::BIT,
        filter: 1,
        channels: n,
        bits: true,
    };
    let quant = |b: u8| if b == 1 { Quant::BIT } else { Quant::new(b, Encoding::Unsigned) };
    let bits = (1..=8).map(|b| (b, map(14, 128, quant(b as u8))));
    vec![
        ("K", "64 x 256 x K", powers(6, 16).map(|k| (k, dense(64, k, 256))).collect()),
        ("channels", "3x3, C to C, 14 x 14", powers(4, 10).map(|c| (c, map(14, c, Quant::BIT))).collect()),
        ("image size", "3x3, 64 to 64", powers(1, 7).map(|s| (s, map(s, 64, Quant::BIT))).collect()),
        ("batch", "dense, 4096 to 4096", powers(0, 8).map(|b| (b, dense(b, 4096, 4096))).collect()),
        ("activation bits", "3x3, 128 to 128, 14 x 14", bits.collect()),
    ]
}

impl Sweep {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let kernels = session::kernels(global.isa.as_deref())?;
        // Now, so that a name that cannot be written does not cost the time of the measurement.
        let create = |path: &PathBuf| File::create(path).with_context(|| path.display().to_string());
        let plot = self.plot.as_ref().map(create).transpose()?;
        let plans = plans();
        let mut layers: Vec<(Layer, Prepared, f64)> = Vec::new();
        for (_, layer) in plans.iter().flat_map(|p| &p.2) {
            layers.push((*layer, layer.prepare(kernels)?, f64::INFINITY));
        }
        let bytes = layers.iter().map(|l| l.1.work.network_bytes).max().unwrap_or(0);
        let mut probe = Probe::new(&[kernels], bytes);
        let bar = steps(ROUNDS * layers.len() as u64, "layers");
        for _ in 0..ROUNDS {
            probe.round();
            for (_, layer, best) in &mut layers {
                probe.compute();
                layer.run();
                let (turn, mut runs) = (Instant::now(), 0);
                while runs < 2 || turn.elapsed() < TURN {
                    let start = Instant::now();
                    layer.run();
                    *best = best.min(start.elapsed().as_secs_f64());
                    runs += 1;
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let limits = probe.limits(kernels.isa);
        let mut measured = layers.iter();
        let sweeps = plans.iter().map(|(name, layer, sizes)| {
            let layers = measured.by_ref().take(sizes.len());
            let points = sizes.iter().zip(layers).map(|((size, _), (l, p, s))| (*size, *l, p.work, *s));
            Curve { name, layer, points: judge(&points.collect::<Vec<_>>(), &limits) }
        });
        let report = Report { isa: kernels.isa, sweeps: sweeps.collect(), limits: limits.clone() };
        if let Some(mut file) = plot {
            let panels: Vec<Panel> = report.sweeps.iter().map(Curve::panel).collect();
            file.write_all(svg(&panels)?.as_bytes())?;
        }
        if global.json { print_json(&report) } else { print(&report.text()) }
    }
}

/// What is to be said of the measured layers of one sweep.
fn judge(points: &[(usize, Layer, Work, f64)], limits: &Limits) -> Vec<Point> {
    let per_mac = |work: &Work, seconds: f64| seconds / work.macs as f64;
    let best = points.iter().map(|(_, _, w, s)| per_mac(w, *s)).fold(f64::INFINITY, f64::min);
    let point = |&(size, ref layer, ref work, seconds): &(usize, Layer, Work, f64)| {
        let limit = limits.fraction(work, seconds);
        let cost = per_mac(work, seconds) / best;
        Point {
            size,
            macs: work.macs,
            microseconds: seconds * 1e6,
            gmacs_per_second: work.macs as f64 / seconds / 1e9,
            limit_fraction: limit.map(|f| f.part),
            limited_by: limit.map(|f| f.of),
            cost,
            reason: (cost > LINEAR).then(|| reason(layer, work, limit, limits)),
        }
    };
    points.iter().map(point).collect()
}

/// Why a unit of this layer's work is expensive.
fn reason(layer: &Layer, work: &Work, limit: Option<Fraction>, limits: &Limits) -> String {
    let rows = layer.batch * layer.shape.pixels();
    let l2 = limits.levels.iter().find(|l| l.name == "L2").map_or(usize::MAX, |l| l.bytes);
    match limit {
        Some(f) if f.of != "compute" && rows < TILE => {
            format!("{}: weights from {} are used once each", crate::text::plural(rows, "row"), f.of)
        }
        _ if rows < TILE => "fewer rows than a tile of the kernel".into(),
        _ if layer.filter > 1 && layer.shape.c < 128 => {
            format!("rows of {} channels are too short for the kernel", layer.shape.c)
        }
        _ if layer.taps() < SHORT => format!("sums of {} bits are too short", layer.taps()),
        Some(f) if f.of != "compute" => format!("bytes from {}", f.of),
        _ if work.weight_bytes > l2 => "the weights leave L2".into(),
        _ if layer.quant.bits > 1 => "planes are lowered and combined".into(),
        _ => "what surrounds the kernel".into(),
    }
}

impl Curve {
    fn panel(&self) -> Panel {
        let points: Vec<(f64, f64)> = self.points.iter().map(|p| (p.macs as f64, p.microseconds)).collect();
        let best = points.iter().map(|(work, time)| time / work).fold(f64::INFINITY, f64::min);
        Panel { title: format!("{} ({})", self.name, self.layer), points, best }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut out = format!(
            "Time against work on one thread, {}: shortest of many runs; cost is time for a multiply-add over the least of the sweep\n",
            self.isa
        );
        for curve in &self.sweeps {
            let name = format!(">{}", curve.name);
            let mut table = Table::new(&[
                &name,
                ">MACs",
                ">time",
                ">GMAC/s",
                ">limit",
                "",
                ">cost",
                "not linear because",
            ]);
            for p in &curve.points {
                table.row(vec![
                    p.size.to_string(),
                    count(p.macs),
                    duration(p.microseconds * 1e-6),
                    significant(p.gmacs_per_second),
                    p.limit_fraction.map_or("·".into(), |f| format!("{:.0} %", 100.0 * f)),
                    p.limited_by.unwrap_or_default().into(),
                    format!("{:.2}", p.cost),
                    p.reason.clone().unwrap_or_default(),
                ]);
            }
            out.push_str(&format!("\n{}\n{}", curve.layer, table.render()));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Level;

    #[test]
    fn costs_that_are_not_linear_have_a_reason() {
        let level = |name, bytes, gb_per_second| Level { name, bytes, gb_per_second };
        let limits = Limits {
            binary_gmacs_per_second: Some(1000.0),
            int8_gmacs_per_second: None,
            f32_gmacs_per_second: None,
            levels: vec![
                level("L1", 1 << 15, 200.0),
                level("L2", 1 << 20, 100.0),
                level("L3", 1 << 25, 50.0),
            ],
        };
        let layer = |batch: usize, k: usize| Layer {
            batch,
            shape: Shape::vector(k),
            quant: Quant::BIT,
            filter: 1,
            channels: 64,
            bits: true,
        };
        let work = |macs: u64, weight_bytes: usize| Work {
            unit: Some(onebit::core::kernels::limits::Unit::Binary),
            macs,
            weight_bytes,
            value_bytes: 0,
            network_bytes: weight_bytes,
        };
        let points = [
            (1, layer(64, 1024), work(1_000_000, 0), 2e-6),
            (2, layer(64, 64), work(1_000_000, 0), 4e-6),
            (3, layer(1, 4096), work(100_000, 1 << 21), 50e-6),
            (4, layer(1, 4096), work(1_000_000, 0), 4e-6),
            (5, layer(64, 1024), work(1_000_000, 1 << 21), 500e-6),
            (6, layer(64, 1024), work(10_000_000, 1 << 21), 200e-6),
        ];
        let points = judge(&points, &limits);
        let reasons: Vec<&str> = points.iter().map(|p| p.reason.as_deref().unwrap_or("")).collect();
        assert_eq!(reasons[0], "");
        assert!(
            reasons[1].contains("64 bits are too short") && reasons[2].contains("1 row: weights from L3")
        );
        assert!(reasons[3].contains("fewer rows") && reasons[4].contains("from L3"), "{reasons:?}");
        assert!(reasons[5].contains("bytes from L3") || reasons[5].contains("leave L2"), "{reasons:?}");
        assert_eq!((points[0].cost, points[1].cost), (1.0, 2.0));
        assert_eq!(points[0].limit_fraction, Some(0.5));
    }

    #[test]
    fn every_planned_layer_can_be_prepared() {
        for (name, _, sizes) in plans() {
            assert!(sizes.windows(2).all(|w| w[0].0 < w[1].0), "{name}");
            // The small ones: the large ones take long to pack in a test build.
            for (_, layer) in sizes.iter().take(3) {
                let mut prepared = layer.prepare(onebit::core::kernels::best()).unwrap();
                prepared.run();
                assert!(prepared.work.macs > 0 && prepared.work.value_bytes > 0);
            }
        }
    }
}
