//! Which network is tried next: one that fits, that has not been tried, and for the last third one that is like the best.

use super::Settings;
use super::cost::{Cost, Costs};
use super::point::{Point, untrained};
use super::trial::Trial;
use crate::data::{Purpose, Random};
use onebit::error::Error;
use std::collections::HashMap;

/// Networks that are looked at before the space counts as exhausted.
const ATTEMPTS: usize = 200;
/// Steps from a network that does not fit to smaller ones.
const STEPS: usize = 24;
/// Of so many trials the last one is like one of the best.
const EXPLORED: usize = 3;

/// Finds networks to try.
pub struct Proposer<'a> {
    settings: &'a Settings,
    costs: &'a dyn Costs,
    /// By description; `None` where layers do not fit the pictures or no code can be made.
    known: HashMap<String, Option<Cost>>,
    /// The network that needs the least of the budget, and the share it needs.
    smallest: Option<(f64, Point, Cost)>,
    /// Why a network cannot be costed.
    refused: Option<String>,
}

impl<'a> Proposer<'a> {
    /// For a search.
    pub fn new(settings: &'a Settings, costs: &'a dyn Costs) -> Self {
        Proposer { settings, costs, known: HashMap::new(), smallest: None, refused: None }
    }

    /// The next trial; `None` if no other network is found that fits.
    pub fn propose(&mut self, trials: &[Trial]) -> Option<Trial> {
        let number = trials.len();
        let mut random = Random::of(Purpose::Search, &[self.settings.seed, number as u64]);
        let best = self.best(trials);
        let like_best = number >= self.settings.trials - self.settings.trials / EXPLORED;
        for _ in 0..ATTEMPTS {
            let like = (like_best && !best.is_empty()).then(|| best[random.below(best.len())]);
            let point = match like {
                Some(t) => self.settings.space.neighbour(&trials[t].point, &mut random),
                None => self.settings.space.sample(&mut random),
            };
            let Some((point, cost)) = self.fitting(point, &mut random) else { continue };
            if !trials.iter().any(|t| t.point == point) {
                return Some(Trial { number, point, like, cost, rungs: Vec::new(), last: None });
            }
        }
        None
    }

    /// The better quarter of what has been trained.
    fn best(&self, trials: &[Trial]) -> Vec<usize> {
        let score = |t: usize| trials[t].accuracy(0).filter(|a| *a >= 0.0);
        let mut best: Vec<usize> = (0..trials.len()).filter(|t| score(*t).is_some()).collect();
        best.sort_by(|a, b| score(*b).unwrap_or(-1.0).total_cmp(&score(*a).unwrap_or(-1.0)).then(a.cmp(b)));
        best.truncate(best.len().div_ceil(4));
        best
    }

    /// The network itself if it fits, else one that is found by steps to smaller ones.
    fn fitting(&mut self, mut point: Point, random: &mut Random) -> Option<(Point, Cost)> {
        let mut now = self.cost(&point);
        for _ in 0..STEPS {
            if let Some(cost) = now.filter(|c| self.settings.budget.allows(c)) {
                return Some((point, cost));
            }
            let next = self.settings.space.neighbour(&point, random);
            let cost = self.cost(&next);
            let used = |c: Option<Cost>| c.map_or(f64::INFINITY, |c| self.settings.budget.used(&c));
            if used(cost) <= used(now) {
                (point, now) = (next, cost);
            }
        }
        None
    }

    fn cost(&mut self, point: &Point) -> Option<Cost> {
        let name = point.to_string();
        if let Some(known) = self.known.get(&name) {
            return *known;
        }
        let s = self.settings;
        let cost = point
            .recipe(&s.space, "network", s.picture, s.classes)
            .and_then(|recipe| self.costs.cost(&untrained(&recipe)?));
        let cost = cost.map_err(|e| self.refused = Some(e.to_string())).ok();
        if let Some(cost) = cost {
            let used = s.budget.used(&cost);
            if self.smallest.as_ref().is_none_or(|(least, ..)| used < *least) {
                self.smallest = Some((used, point.clone(), cost));
            }
        }
        self.known.insert(name, cost);
        cost
    }

    /// Says that nothing fits, and what the smallest network needs that was found.
    pub fn nothing_fits(&self) -> Error {
        Error::Input(match &self.smallest {
            Some((_, point, cost)) => {
                let [ram, flash, instructions] = cost.axes();
                format!(
                    "no network of the space fits the budget: the smallest that was found ({point}) needs {ram} bytes of RAM, \
                     {flash} of flash and {instructions} instructions; raise --max-ram, --max-flash or --max-instructions, or \
                     allow smaller networks with --space"
                )
            }
            None => format!(
                "no network of the space can be built for these pictures{}; change it with --space",
                self.refused.as_ref().map_or(String::new(), |why| format!(" ({why})"))
            ),
        })
    }
}
