//! Running stages row by row together: which rows are kept. The order that is simulated here is the one that
//! [`crate::codegen::lower`] writes.

use super::{Home, Stage, Value};
use std::ops::Range;

/// Rows of each value that must be kept when the stages of `segment` run row by row together: pairs of a value made by them
/// and its rows. `None` if they cannot.
///
/// The first stage makes a row, then every later stage as many as it can.
pub fn simulate(stages: &[Stage], segment: Range<usize>, values: &[Value]) -> Option<Vec<(usize, usize)>> {
    let stages = &stages[segment];
    let makes = |v: usize| stages.iter().position(|s| s.output == v);
    if stages.len() > 1 && stages[1..].iter().any(|s| s.inputs.iter().all(|v| makes(*v).is_none())) {
        return None;
    }
    let heights: Vec<usize> = stages.iter().map(|s| values[s.output].shape.h).collect();
    let mut made = vec![0; stages.len()];
    let mut keep = vec![1; stages.len()];
    // Stages that read a value of the segment: (reader, its input).
    let readers: Vec<Vec<(usize, usize)>> = stages
        .iter()
        .map(|s| {
            let reads = |k: usize| (0..stages[k].inputs.len()).map(move |i| (k, i));
            (0..stages.len()).flat_map(reads).filter(|(k, i)| stages[*k].inputs[*i] == s.output).collect()
        })
        .collect();
    for _ in 0..heights[0] {
        for k in 0..stages.len() {
            loop {
                let ready = |made: &[usize]| {
                    (0..stages[k].inputs.len()).all(|i| match makes(stages[k].inputs[i]) {
                        Some(p) => stages[k].needs[i].rows(made[k], heights[p]).end <= made[p],
                        None => true,
                    })
                };
                if made[k] == heights[k] || !ready(&made) {
                    break;
                }
                let oldest = readers[k].iter().filter(|(r, _)| made[*r] < heights[*r]);
                let oldest = oldest.map(|(r, i)| stages[*r].needs[*i].rows(made[*r], heights[k]).start).min();
                let oldest = oldest.unwrap_or(made[k]).min(made[k]);
                keep[k] = keep[k].max(made[k] - oldest + 1);
                made[k] += 1;
                if k == 0 {
                    break;
                }
            }
        }
    }
    if made != heights {
        return None;
    }
    Some(stages.iter().zip(keep).map(|(s, rows)| (s.output, rows)).collect())
}

/// The last segment that reads each value, and the one that makes it.
pub fn lifetimes(stages: &[Stage], segments: &[Range<usize>], values: usize) -> Vec<Option<(usize, usize)>> {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; values];
    for (t, segment) in segments.iter().enumerate() {
        for stage in &stages[segment.clone()] {
            lives[stage.output] = Some((t, t));
            for v in &stage.inputs {
                if let Some(life) = &mut lives[*v] {
                    life.1 = t;
                }
            }
        }
    }
    lives
}

/// Decides for each value whether it is kept whole or in a ring.
pub fn keep(stages: &[Stage], segments: &[Range<usize>], values: &mut [Value]) {
    let lives = lifetimes(stages, segments, values.len());
    for (t, segment) in segments.iter().enumerate() {
        for (v, rows) in simulate(stages, segment.clone(), values).unwrap_or_default() {
            let inside = lives[v] == Some((t, t)) && segment.len() > 1 && values[v].home != Home::Scores;
            let whole = values[v].shape.h;
            values[v].rows = if inside { rows.min(whole) } else { whole };
        }
    }
}
