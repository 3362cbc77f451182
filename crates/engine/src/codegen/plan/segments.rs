//! Which stages run row by row together: those for which the peak of memory is smallest, found by dynamic programming
//! over the places where the list of stages can be cut.

use super::rows::{lifetimes, simulate};
use super::{Home, Stage, Value};
use crate::codegen::target::Target;
use crate::error::{Error, Result};
use std::ops::Range;

/// Most stages that run together.
const LONGEST: usize = 24;

/// Cuts the stages into segments.
pub fn choose(stages: &[Stage], values: &[Value], target: Target) -> Result<Vec<Range<usize>>> {
    if stages.is_empty() {
        return Err(Error::Model("the network has no layers that compute its scores".into()));
    }
    let alone: Vec<Range<usize>> = (0..stages.len()).map(|i| i..i + 1).collect();
    let lives = lifetimes(stages, &alone, values.len());
    // Bytes while the stages of a segment run.
    let peak = |segment: Range<usize>| -> Option<usize> {
        let rings = simulate(stages, segment.clone(), values)?;
        let mut bytes = 0;
        for (v, life) in lives.iter().enumerate() {
            let Some((made, last)) = life else { continue };
            if values[v].home == Home::Scores || *made >= segment.end || *last < segment.start {
                continue;
            }
            let inside = segment.len() > 1 && segment.contains(made) && segment.contains(last);
            let ring = rings.iter().find(|(r, _)| inside && *r == v).map(|(_, rows)| *rows);
            let rows = ring.unwrap_or(values[v].shape.h).min(values[v].shape.h);
            bytes += values[v].bytes(rows, target.word());
        }
        Some(bytes)
    };
    // For each number of stages: the smallest peak, then the fewest stages that run together; and the last cut.
    let mut best: Vec<(usize, usize, usize)> = vec![(0, 0, 0)];
    for end in 1..=stages.len() {
        let mut least = (usize::MAX, usize::MAX, 0);
        for start in end.saturating_sub(LONGEST)..end {
            if let Some(bytes) = peak(start..end) {
                let together = if end - start > 1 { end - start } else { 0 };
                let (before, others, _) = best[start];
                least = least.min((before.max(bytes), others + together, start));
            }
        }
        best.push(least);
    }
    let mut segments = Vec::new();
    let mut end = stages.len();
    while end > 0 {
        let start = best[end].2;
        segments.push(start..end);
        end = start;
    }
    segments.reverse();
    Ok(segments)
}
