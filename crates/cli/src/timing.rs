//! Measuring: many runs, and what can be said of them.

use serde::Serialize;
use std::time::{Duration, Instant};

/// Latency of one run in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Shortest.
    pub min: f64,
    /// Half of the runs took no longer.
    pub median: f64,
    /// 99 of 100 runs took no longer.
    pub p99: f64,
}

/// Runs `f` for at least `time`, and at least five times after one warm-up.
pub fn latency<E>(time: Duration, f: impl FnMut() -> Result<(), E>) -> Result<Latency, E> {
    latency_beside(time, || {}, f)
}

/// As [`latency`], but some times on the way `beside` runs, for comparison under the same conditions. It is not
/// timed and may sweep the caches: `f` warms up again after it.
pub fn latency_beside<E>(
    time: Duration,
    mut beside: impl FnMut(),
    mut f: impl FnMut() -> Result<(), E>,
) -> Result<Latency, E> {
    const TURNS: u32 = 8;
    let mut seconds: Vec<f64> = Vec::new();
    let start = Instant::now();
    while seconds.len() < 5 || start.elapsed() < time {
        beside();
        f()?;
        let turn = Instant::now();
        while seconds.len() < 5 || turn.elapsed() < time / TURNS {
            let begin = Instant::now();
            f()?;
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    Ok(Latency::of(seconds))
}

impl Latency {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        // The smallest element that at least `percent` of all do not exceed.
        let rank = |percent: usize| 1e3 * seconds[(seconds.len() * percent).div_ceil(100).max(1) - 1];
        Latency { min: rank(0), median: rank(50), p99: rank(99) }
    }
}

/// Runs `f`, which does `n` pieces of work, as [`latency`] does; pieces per second in the median run, so that other
/// work on the machine does not count.
pub fn rate<E>(time: Duration, n: usize, f: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    Ok(n as f64 / (latency(time, f)?.median * 1e-3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let l = Latency::of((1..=200).rev().map(|i| f64::from(i) * 1e-3).collect());
        assert_eq!((l.min.round(), l.median.round(), l.p99.round()), (1.0, 100.0, 198.0));
        let l = Latency::of(vec![0.5]);
        assert_eq!((l.min, l.median, l.p99), (500.0, 500.0, 500.0));
    }

    #[test]
    fn failures_stop_the_measurement() {
        let mut runs = 0;
        let result = latency(Duration::from_secs(60), || {
            runs += 1;
            if runs == 3 { Err("stop") } else { Ok(()) }
        });
        assert_eq!((result.unwrap_err(), runs), ("stop", 3));
    }
}
