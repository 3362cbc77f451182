//! The ceilings of this machine, measured: what its vector units and its caches do at best, and how close a layer comes.
//!
//! A time of a layer has two lower bounds: its multiply-adds over the rate of a loop that does nothing else, and its
//! bytes over the rate of a loop that only reads. The larger bound is the limit, and the fraction of it that is reached says
//! how much is left to gain.

use onebit::core::kernels::limits::{BLOCK, Loop, Unit, loops, read};
use onebit::core::kernels::{self, Aligned, Kernels};
use serde::Serialize;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Time of one run of a loop: short, so that some runs are not interrupted.
const RUN: Duration = Duration::from_micros(40);
/// Largest buffer that is read, in bytes.
const MAX_BUFFER: usize = 1 << 30;

/// A cache, or the memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Level {
    /// L1, L2, L3 or memory.
    pub name: &'static str,
    /// Bytes that fit; no number where everything does.
    #[serde(serialize_with = "finite")]
    pub bytes: usize,
    /// Bytes per second of one thread, in 10^9.
    pub gb_per_second: f64,
}

fn finite<S: serde::Serializer>(bytes: &usize, s: S) -> Result<S::Ok, S::Error> {
    (*bytes < usize::MAX).then_some(*bytes).serialize(s)
}

/// The rate of a register-only loop.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// Rung.
    pub isa: &'static str,
    /// What is counted: binary, int8, f32.
    pub unit: &'static str,
    /// Instructions, in words.
    pub instructions: &'static str,
    /// Multiply-adds per second, in 10^9.
    pub gmacs_per_second: f64,
}

/// The ceilings of one rung, for one thread.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// Multiply-adds of single bits per second, in 10^9.
    pub binary_gmacs_per_second: Option<f64>,
    /// Multiply-adds of bytes per second, in 10^9.
    pub int8_gmacs_per_second: Option<f64>,
    /// Fused multiply-adds of floats per second, in 10^9.
    pub f32_gmacs_per_second: Option<f64>,
    /// Caches, fastest first.
    pub levels: Vec<Level>,
}

/// What a layer must do at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// What its multiply-adds are made of; none for a layer without a kernel.
    pub unit: Option<Unit>,
    /// Multiply-adds of that unit.
    pub macs: u64,
    /// Bytes of the weights. They come from the cache that holds the whole network.
    pub weight_bytes: usize,
    /// Bytes of inputs and outputs. They come from the cache that holds the layer.
    pub value_bytes: usize,
    /// Bytes of the network: all weights and the arena.
    pub network_bytes: usize,
}

/// How close something comes to a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fraction {
    /// 1 at the limit.
    pub part: f64,
    /// The limit: `compute`, or the name of a cache.
    pub of: &'static str,
}

impl Limits {
    /// Multiply-adds per second.
    pub fn macs(&self, unit: Unit) -> Option<f64> {
        let giga = match unit {
            Unit::Binary => self.binary_gmacs_per_second,
            Unit::Int8 => self.int8_gmacs_per_second,
            Unit::F32 => self.f32_gmacs_per_second,
            Unit::Clock => None,
        };
        giga.map(|g| g * 1e9)
    }

    /// The fastest level that holds `bytes`; the last if none does.
    pub fn level(&self, bytes: usize) -> Option<&Level> {
        self.levels.iter().find(|l| bytes <= l.bytes).or(self.levels.last())
    }

    /// The larger of the fractions of the two limits that `work` reaches in `seconds`.
    pub fn fraction(&self, work: &Work, seconds: f64) -> Option<Fraction> {
        let compute = work.unit.and_then(|u| self.macs(u)).map(|rate| work.macs as f64 / rate);
        let compute = compute.filter(|s| *s > 0.0).map(|s| Fraction { part: s / seconds, of: "compute" });
        let memory = || {
            let weights = self.level(work.network_bytes.max(work.weight_bytes))?;
            let values = self.level(work.weight_bytes + work.value_bytes)?;
            let needs = |bytes: usize, l: &Level| bytes as f64 / (l.gb_per_second * 1e9);
            let (w, v) = (needs(work.weight_bytes, weights), needs(work.value_bytes, values));
            Some(Fraction { part: (w + v) / seconds, of: if w > v { weights.name } else { values.name } })
        };
        [compute, memory()].into_iter().flatten().max_by(|a, b| a.part.total_cmp(&b.part))
    }
}

/// What a kernel's multiply-adds are made of, from its name; none for a name that is no kernel's.
pub fn unit_of(kernel: &str) -> Option<Unit> {
    let prefixes = [("bgemm", Unit::Binary), ("fgemm", Unit::F32), ("igemm", Unit::Int8)];
    prefixes.into_iter().find(|(prefix, _)| kernel.starts_with(prefix)).map(|(_, unit)| unit)
}

/// Word for a unit.
pub fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Binary => "binary",
        Unit::Int8 => "int8",
        Unit::F32 => "f32",
        Unit::Clock => "clock",
    }
}

/// A measurement in progress. Rounds are short, so that they can take turns with what is measured against them.
pub struct Probe {
    loops: Vec<Timed<&'static Loop>>,
    /// Rung of the reads.
    kernels: &'static Kernels,
    /// Name, bytes that fit, bytes that are read.
    levels: Vec<Timed<(&'static str, usize, usize)>>,
    buffer: Aligned,
}

/// The shortest time of one turn so far, in seconds; a run has several turns.
struct Timed<T> {
    what: T,
    turns: u64,
    best: f64,
}

impl<T> Timed<T> {
    fn new(what: T) -> Self {
        Timed { what, turns: 1, best: f64::INFINITY }
    }
    /// Runs `f` with a number of turns that takes about [`RUN`].
    fn run(&mut self, f: impl FnOnce(&T, u64)) {
        let start = Instant::now();
        f(&self.what, self.turns);
        let seconds = start.elapsed().as_secs_f64() / self.turns as f64;
        self.best = self.best.min(seconds);
        self.turns = ((RUN.as_secs_f64() / self.best.max(1e-12)) as u64).clamp(1, 1 << 40);
    }
}

impl Probe {
    /// Prepares the loops of some rungs, best first, and reads by the first one, from the caches up to the one that holds
    /// `bytes`.
    pub fn new(rungs: &[&'static Kernels], bytes: usize) -> Self {
        let caches = caches();
        let memory = ("memory", usize::MAX, (4 * caches[caches.len() - 1].1).min(MAX_BUFFER));
        let needed = caches.iter().take_while(|(_, size)| *size < bytes).count() + 1;
        // Four times the cache below: networks are small for a cache, and what is half of a large shared one competes
        // with the neighbours for it and for the table of pages.
        let inside = |i: usize, size: usize| (size / 2).min(if i == 0 { size } else { 4 * caches[i - 1].1 });
        let levels = caches.iter().enumerate().map(|(i, &(name, size))| (name, size, inside(i, size)));
        let levels = levels.chain([memory]).take(needed);
        let levels: Vec<_> = levels.map(Timed::new).collect();
        let largest = levels.iter().map(|l| l.what.2).max().unwrap_or(0);
        let is_mac = |l: &&Loop| l.unit != Unit::Clock;
        let clock = kernels::named("scalar").into_iter().flat_map(loops).filter(|l| l.unit == Unit::Clock);
        let mut buffer = Aligned::zeroed(largest / 8);
        // Pages of zeros may all be the same page.
        buffer.fill(1);
        Probe {
            loops: rungs.iter().flat_map(|k| loops(k)).filter(is_mac).chain(clock).map(Timed::new).collect(),
            kernels: rungs[0],
            levels,
            buffer,
        }
    }

    /// Runs every register-only loop once; it leaves the caches alone.
    pub fn compute(&mut self) {
        for l in &mut self.loops {
            l.run(|l, turns| l.run(turns));
        }
    }

    /// Reads from every cache once, and from memory.
    pub fn bandwidth(&mut self) {
        for l in &mut self.levels {
            let words = &self.buffer[..l.what.2 / 8 / BLOCK * BLOCK];
            let cached = l.what.1 < usize::MAX;
            if cached {
                read(self.kernels, words);
            }
            for _ in 0..if cached { 4 } else { 1 } {
                l.run(|_, turns| (0..turns).for_each(|_| read(self.kernels, black_box(words))));
            }
        }
    }

    /// Some runs of every loop, and one through the caches.
    pub fn round(&mut self) {
        (0..20).for_each(|_| self.compute());
        self.bandwidth();
    }

    /// The rates of all loops so far.
    pub fn rates(&self) -> Vec<Rate> {
        let macs = self.loops.iter().filter(|l| l.what.unit != Unit::Clock);
        macs.map(|l| Rate {
            isa: l.what.isa,
            unit: unit_name(l.what.unit),
            instructions: l.what.name,
            gmacs_per_second: giga(l),
        })
        .collect()
    }

    /// The ceilings of the rung called `isa` so far.
    pub fn limits(&self, isa: &str) -> Limits {
        let best = |unit| {
            let of_unit = self.loops.iter().filter(|l| l.what.isa == isa && l.what.unit == unit);
            of_unit.map(giga).max_by(f64::total_cmp)
        };
        let levels = self.levels.iter().map(|l| {
            let (name, bytes, read) = l.what;
            Level { name, bytes, gb_per_second: read as f64 / l.best / 1e9 }
        });
        Limits {
            binary_gmacs_per_second: best(Unit::Binary),
            int8_gmacs_per_second: best(Unit::Int8),
            f32_gmacs_per_second: best(Unit::F32),
            levels: levels.collect(),
        }
    }

    /// The clock in GHz, where there is a loop for it.
    pub fn clock_ghz(&self) -> Option<f64> {
        self.loops.iter().find(|l| l.what.unit == Unit::Clock).map(giga)
    }
}

fn giga(l: &Timed<&'static Loop>) -> f64 {
    l.what.per_turn as f64 / l.best / 1e9
}

/// Name and bytes of the data caches of the first core, smallest first; common sizes where the system does not tell.
fn caches() -> Vec<(&'static str, usize)> {
    let folder = std::path::Path::new("/sys/devices/system/cpu/cpu0/cache");
    let mut found: Vec<(&'static str, usize)> = (0..8)
        .filter_map(|i| {
            let text = |name| std::fs::read_to_string(folder.join(format!("index{i}")).join(name)).ok();
            cache(text("level")?.trim(), text("type")?.trim(), text("size")?.trim())
        })
        .collect();
    found.sort_by_key(|c| c.1);
    if found.is_empty() { vec![("L1", 32 << 10), ("L2", 512 << 10), ("L3", 8 << 20)] } else { found }
}

/// A cache as Linux describes it: `1`, `Data`, `32K`.
fn cache(level: &str, kind: &str, size: &str) -> Option<(&'static str, usize)> {
    let name = match (level, kind) {
        ("1", "Data" | "Unified") => "L1",
        ("2", "Data" | "Unified") => "L2",
        ("3", "Data" | "Unified") => "L3",
        _ => return None,
    };
    let (number, shift) = match size.as_bytes().last()? {
        b'K' => (&size[..size.len() - 1], 10),
        b'M' => (&size[..size.len() - 1], 20),
        _ => (size, 0),
    };
    let bytes = number.parse::<usize>().ok()?.checked_shl(shift)?;
    (4096..=1 << 32).contains(&bytes).then_some((name, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1000 GMAC/s of bits, 100 of bytes, 10 of floats; 100, 50 and 10 GB/s.
    pub fn example() -> Limits {
        let level = |name, bytes, gb_per_second| Level { name, bytes, gb_per_second };
        Limits {
            binary_gmacs_per_second: Some(1000.0),
            int8_gmacs_per_second: Some(100.0),
            f32_gmacs_per_second: Some(10.0),
            levels: vec![
                level("L1", 1000, 100.0),
                level("L2", 10_000, 50.0),
                level("memory", usize::MAX, 10.0),
            ],
        }
    }

    #[test]
    fn the_nearer_limit_counts() {
        let limits = example();
        let work = Work { unit: Some(Unit::Binary), macs: 1_000_000, ..Work::default() };
        assert_eq!(limits.fraction(&work, 2e-6), Some(Fraction { part: 0.5, of: "compute" }));
        let work = Work { unit: Some(Unit::F32), ..work };
        assert_eq!(limits.fraction(&work, 200e-6), Some(Fraction { part: 0.5, of: "compute" }));
        // 900 bytes from L1 in 9 ns; the same from memory when they are the weights of a large network.
        let work = Work { value_bytes: 900, network_bytes: 1 << 20, ..Work::default() };
        let f = limits.fraction(&work, 18e-9).unwrap();
        assert!(f.of == "L1" && (f.part - 0.5).abs() < 1e-9, "{f:?}");
        let work = Work { weight_bytes: 900, value_bytes: 0, ..work };
        let f = limits.fraction(&work, 180e-9).unwrap();
        assert!(f.of == "memory" && (f.part - 0.5).abs() < 1e-9, "{f:?}");
        // A rung without limits says nothing of its kernels, but of its bytes.
        let bare = Limits { binary_gmacs_per_second: None, ..limits };
        let work = Work { unit: Some(Unit::Binary), macs: 1 << 40, weight_bytes: 900, ..Work::default() };
        assert_eq!(bare.fraction(&work, 1.0).unwrap().of, "L1");
    }

    #[test]
    fn kernels_are_known_by_their_names() {
        assert_eq!(unit_of("bgemm_4x16_avx512"), Some(Unit::Binary));
        assert_eq!(unit_of("fgemm_4x32_avx512"), Some(Unit::F32));
        assert_eq!(unit_of("igemm_4x16_avx512"), Some(Unit::Int8));
        assert_eq!(unit_of("threshold"), None);
    }

    #[test]
    fn caches_are_read_as_linux_writes_them() {
        assert_eq!(cache("1", "Data", "32K"), Some(("L1", 32 << 10)));
        assert_eq!(cache("3", "Unified", "32768K"), Some(("L3", 32 << 20)));
        assert_eq!(cache("2", "Unified", "1M"), Some(("L2", 1 << 20)));
        for (level, kind, size) in
            [("1", "Instruction", "32K"), ("4", "Unified", "64M"), ("1", "Data", ""), ("1", "Data", "K")]
        {
            assert_eq!(cache(level, kind, size), None);
        }
        assert!(!caches().is_empty());
    }

    #[test]
    fn a_probe_measures_what_is_there() {
        let best = onebit::core::kernels::best();
        let mut probe = Probe::new(&[best], 1);
        assert_eq!(probe.levels.len(), 1);
        probe.compute();
        probe.bandwidth();
        let limits = probe.limits(best.isa);
        assert!(limits.macs(Unit::F32).is_none_or(|rate| rate > 1e6 && rate < 1e13), "{limits:?}");
        assert!(limits.levels[0].gb_per_second > 0.1, "{limits:?}");
        assert!(probe.limits("no such rung").binary_gmacs_per_second.is_none());
    }
}
