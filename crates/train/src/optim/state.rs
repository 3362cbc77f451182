//! What optimisers and averages remember, as named lists of numbers for a checkpoint.

use onebit::error::{Error, Result};
use std::collections::BTreeMap;

/// Named numbers: everything that a run needs to go on as if it had never stopped, but for the values themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Numbers of tensors.
    pub tensors: BTreeMap<String, Vec<f32>>,
    /// Numbers of steps.
    pub counters: BTreeMap<String, u64>,
}

impl State {
    /// Puts two states together, whose names differ.
    pub fn merge(&mut self, other: State) {
        self.tensors.extend(other.tensors);
        self.counters.extend(other.counters);
    }

    /// A tensor of a known size.
    pub(super) fn tensor(&self, name: &str, numbers: usize) -> Result<&[f32]> {
        let found = self.tensors.get(name).ok_or_else(|| missing(name))?;
        if found.len() != numbers {
            let text =
                format!("has {} numbers in the checkpoint, where this recipe needs {numbers}", found.len());
            return Err(Error::layer(name, text));
        }
        if !found.iter().all(|x| x.is_finite()) {
            return Err(Error::layer(name, "has a number in the checkpoint that is not finite"));
        }
        Ok(found)
    }

    pub(super) fn counter(&self, name: &str) -> Result<u64> {
        self.counters.get(name).copied().ok_or_else(|| missing(name))
    }

    /// Refuses names below `prefix` that are not among `known`: they belong to another recipe.
    pub(super) fn refuse_others(&self, prefix: &str, known: &State) -> Result<()> {
        let tensors = self.tensors.keys().filter(|name| !known.tensors.contains_key(*name));
        let counters = self.counters.keys().filter(|name| !known.counters.contains_key(*name));
        match tensors.chain(counters).find(|name| name.starts_with(prefix)) {
            Some(name) => Err(Error::layer(
                name,
                "is in the checkpoint, but this recipe has no use for it; continue with the recipe of the run",
            )),
            None => Ok(()),
        }
    }
}

fn missing(name: &str) -> Error {
    Error::layer(name, "is not in the checkpoint; continue with the recipe of the run")
}
