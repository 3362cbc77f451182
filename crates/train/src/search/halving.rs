//! Which networks are trained next, and for how long: successive halving (Jamieson and Talwalkar 2016), of thirds.
//!
//! All trials are trained for one epoch, the better third of them for three, the better third of those for nine, and so on.
//! Every rung trains anew from random weights with the whole schedule in its epochs: the learning rate has fallen to 0 when
//! trials are compared. Going on from the checkpoint of the rung below would save up to a third of the epochs, but only with
//! a rate that does not fall; binary networks then jump by more from epoch to epoch than trials differ.

use super::cost::Cost;
use super::trial::{Stage, Trial};

/// Times as many epochs in the next rung, and one trial of so many goes there.
const FACTOR: usize = 3;

/// Epochs of the rungs of a search whose last trainings have `epochs`.
pub fn rungs(epochs: usize) -> Vec<usize> {
    let all = std::iter::successors(Some(1usize), |n| n.checked_mul(FACTOR));
    let rungs: Vec<usize> = all.take_while(|n| *n < epochs).collect();
    if rungs.is_empty() { vec![1] } else { rungs }
}

/// Trials of a rung, best of the rung below first; `None` while that is not over.
fn members(trials: &[Trial], rung: usize) -> Option<Vec<usize>> {
    let mut members: Vec<usize> = (0..trials.len()).collect();
    for below in 0..rung {
        let scores: Option<Vec<f64>> = members.iter().map(|t| trials[*t].accuracy(below)).collect();
        let mut ranked: Vec<(usize, f64)> = members.iter().copied().zip(scores?).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let kept = ranked.len().div_ceil(FACTOR);
        // What failed is worth no more epochs.
        members = ranked.into_iter().take(kept).filter(|(_, score)| *score >= 0.0).map(|(t, _)| t).collect();
    }
    Some(members)
}

/// Trainings that can begin now, in the order in which they should. `all`: no more trials will come.
pub fn open(trials: &[Trial], rungs: usize, finals: usize, all: bool) -> Vec<(usize, Stage)> {
    let lacking = |members: Vec<usize>, rung| -> Vec<(usize, Stage)> {
        let lacks = |t: &usize| trials[*t].rungs.len() <= rung;
        members.into_iter().filter(lacks).map(|t| (t, Stage::Rung(rung))).collect()
    };
    for rung in 0..if all { rungs } else { 1 } {
        let Some(members) = members(trials, rung) else { return Vec::new() };
        let lacking = lacking(members, rung);
        if !lacking.is_empty() {
            return lacking;
        }
    }
    if !all {
        return Vec::new();
    }
    let chosen = chosen(trials, finals);
    chosen.into_iter().filter(|t| trials[*t].last.is_none()).map(|t| (t, Stage::Last)).collect()
}

/// Trials that are trained to the end: the most accurate of those that no other beats in everything.
pub fn chosen(trials: &[Trial], finals: usize) -> Vec<usize> {
    let trained: Vec<usize> =
        (0..trials.len()).filter(|t| trials[*t].newest().is_some_and(|a| a >= 0.0)).collect();
    let points: Vec<(f64, Cost)> =
        trained.iter().map(|t| (trials[*t].newest().unwrap_or(-1.0), trials[*t].cost)).collect();
    let mut front: Vec<usize> = front(&points);
    front.sort_by(|a, b| points[*b].0.total_cmp(&points[*a].0).then(a.cmp(b)));
    front.into_iter().take(finals).map(|i| trained[i]).collect()
}

/// Those of which no other is at least as good in accuracy, RAM, flash and instructions, and better in one.
pub fn front(points: &[(f64, Cost)]) -> Vec<usize> {
    let beats = |a: &(f64, Cost), b: &(f64, Cost)| {
        let costs = || a.1.axes().into_iter().zip(b.1.axes());
        let no_worse = a.0 >= b.0 && costs().all(|(a, b)| a <= b);
        no_worse && (a.0 > b.0 || costs().any(|(a, b)| a < b))
    };
    (0..points.len()).filter(|i| !points.iter().any(|other| beats(other, &points[*i]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::trial::{Trained, tests::trial};

    fn trained(accuracy: f64) -> Trained {
        Trained { valid_accuracy: accuracy, ..Trained::default() }
    }

    #[test]
    fn epochs_grow_threefold() {
        assert_eq!(rungs(30), [1, 3, 9, 27]);
        assert_eq!(rungs(27), [1, 3, 9]);
        assert_eq!(rungs(1), [1]);
    }

    #[test]
    fn the_better_third_goes_on() {
        let accuracies = [0.5, 0.9, 0.7, 0.9, 0.1, 0.8, 0.2];
        let mut trials: Vec<Trial> = (0..7).map(trial).collect();
        assert_eq!(open(&trials, 2, 2, false).len(), 7);
        for (t, a) in trials.iter_mut().zip(accuracies).take(6) {
            t.rungs.push(trained(a));
        }
        assert_eq!(open(&trials, 2, 2, true), [(6, Stage::Rung(0))], "the rung is not over");
        trials[6].rungs.push(trained(accuracies[6]));
        assert_eq!(open(&trials, 2, 2, false), [], "more trials may come");
        let third = [(1, Stage::Rung(1)), (3, Stage::Rung(1)), (5, Stage::Rung(1))];
        assert_eq!(open(&trials, 2, 2, true), third);
        trials[3].rungs.push(trained(0.95));
        assert_eq!(open(&trials, 2, 2, true), [third[0], third[2]]);
        trials[1].rungs.push(trained(-1.0));
        trials[5].rungs.push(trained(0.85));
        // One of three goes on to a third rung; one failed, and costs are the same.
        assert_eq!(open(&trials, 3, 2, true), [(3, Stage::Rung(2))]);
        assert_eq!(open(&trials, 2, 2, true), [(3, Stage::Last)]);
        trials[3].last = Some(trained(0.97));
        assert_eq!(open(&trials, 2, 2, true), []);
    }

    #[test]
    fn fronts_hold_what_nothing_beats() {
        let cost = |ram_bytes, flash_bytes| Cost { ram_bytes, flash_bytes, instructions: 10 };
        let points = [
            (0.9, cost(10, 10)),
            (0.8, cost(10, 10)),
            (0.8, cost(5, 10)),
            (0.9, cost(10, 9)),
            (0.9, cost(10, 9)),
        ];
        assert_eq!(front(&points), [2, 3, 4]);
        assert_eq!(front(&[]), [0; 0]);
    }
}
