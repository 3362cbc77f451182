//! `onebit bench limits`: what this machine can do at best.

use crate::Global;
use crate::limits::{Level, Probe, Rate};
use crate::text::{Table, bytes, print, print_json, significant, steps};
use anyhow::Result;
use clap::Args;
use onebit::core::kernels::{self, Kernels};
use onebit::session;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Measures what one thread of this machine can do at best: multiply-adds in registers, and reads
#[derive(Args)]
pub struct LimitsCommand {}

/// How long the loops take turns; the preparation comes on top.
const TIME: Duration = Duration::from_millis(2500);

#[derive(Serialize)]
struct Report {
    clock_ghz: Option<f64>,
    multiply_adds: Vec<Rate>,
    reads: Vec<Level>,
}

impl LimitsCommand {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let wanted = session::kernels(global.isa.as_deref())?;
        // A rung that was asked for, or all.
        let asked = global.isa.is_some() || std::env::var_os("ONEBIT_ISA").is_some_and(|v| !v.is_empty());
        let rungs: Vec<&'static Kernels> = if asked { vec![wanted] } else { kernels::available().collect() };
        let mut probe = Probe::new(&rungs, usize::MAX);
        let bar = steps(TIME.as_millis() as u64, "limits of this machine");
        let start = Instant::now();
        while start.elapsed() < TIME {
            probe.round();
            bar.set_position(start.elapsed().as_millis() as u64);
        }
        bar.finish_and_clear();
        let report = Report {
            clock_ghz: probe.clock_ghz(),
            multiply_adds: probe.rates(),
            reads: probe.limits(wanted.isa).levels,
        };
        if global.json { print_json(&report) } else { print(&report.text()) }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut macs = Table::new(&["isa", "multiply-adds", "instructions", ">GMAC/s", ">a cycle"]);
        for r in &self.multiply_adds {
            let cycle = self.clock_ghz.map_or("·".into(), |ghz| significant(r.gmacs_per_second / ghz));
            macs.row(vec![
                r.isa.into(),
                r.unit.into(),
                r.instructions.into(),
                significant(r.gmacs_per_second),
                cycle,
            ]);
        }
        let mut reads = Table::new(&["reads from", ">size", ">GB/s"]);
        for l in &self.reads {
            let size = if l.bytes == usize::MAX { "·".into() } else { bytes(l.bytes as u64) };
            reads.row(vec![l.name.into(), size, significant(l.gb_per_second)]);
        }
        let clock = self.clock_ghz.map_or(String::new(), |ghz| format!(", at {} GHz", significant(ghz)));
        format!(
            "Limits of one thread{clock}: the best of many short runs, nothing but registers or reads\n\n{}\n{}",
            macs.render(),
            reads.render()
        )
    }
}
