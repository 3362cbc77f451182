//! Everything that a run needs to go on exactly where it was, as one safetensors file.
//!
//! Parameters, statistics and what optimisers remember are tensors; counters, progress, recipe and log are JSON in the
//! metadata. A file is written beside its place and renamed, so that a run that is killed leaves the last one whole.

use super::record::Log;
use crate::export::Values;
use crate::network::Network;
use crate::optim::State;
use onebit::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs that are done.
    pub epochs: usize,
    /// Steps done in the epoch after those.
    pub steps: usize,
    /// Sum of the loss over the pictures of these steps.
    pub loss: f64,
    /// Pictures of these steps that were classified right.
    pub correct: usize,
    /// Pictures of these steps.
    pub pictures: usize,
    /// Epoch with the best validation so far, and what it reached.
    pub best: Option<(usize, f64)>,
    /// Wall seconds so far.
    pub seconds: f64,
    /// Seconds of all cores so far.
    pub cpu_seconds: f64,
}

/// A run at one moment.
pub struct Checkpoint {
    /// Parameters and statistics.
    pub values: Values,
    /// What optimisers and averages remember.
    pub state: State,
    /// How far it is.
    pub progress: Progress,
    /// What is known of the run.
    pub log: Log,
}

#[derive(Serialize, Deserialize)]
struct Facts {
    counters: BTreeMap<String, u64>,
    progress: Progress,
    log: Log,
}

const FACTS: &str = "onebit-train";
/// Longest header of a file that is read, in bytes.
const MAX_HEADER: u64 = 16 << 20;

pub(super) fn statistic_names(node: &str) -> [String; 2] {
    [format!("{node}.mean"), format!("{node}.variance")]
}

impl Checkpoint {
    /// Writes the file.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn save(&self, network: &Network, path: &Path) -> Result<()> {
        let mut all: Vec<(String, &[f32])> = Vec::new();
        all.extend(network.params.iter().zip(&self.values.params).map(|(p, v)| (p.name.clone(), &v[..])));
        for (node, statistics) in network.nodes.iter().zip(&self.values.statistics) {
            if let Some((mean, variance)) = statistics {
                let [m, v] = statistic_names(&node.name);
                all.extend([(m, &mean[..]), (v, &variance[..])]);
            }
        }
        all.extend(self.state.tensors.iter().map(|(name, v)| (name.clone(), &v[..])));
        let bytes: Vec<(String, Vec<u8>)> =
            all.iter().map(|(n, v)| (n.clone(), v.iter().flat_map(|x| x.to_le_bytes()).collect())).collect();
        let wrong = |e: &dyn std::fmt::Display| Error::file(path, format!("cannot be written: {e}"));
        let views = bytes
            .iter()
            .map(|(name, b)| {
                Ok((name, TensorView::new(Dtype::F32, vec![b.len() / 4], b).map_err(|e| wrong(&e))?))
            })
            .collect::<Result<Vec<_>>>()?;
        let facts =
            Facts { counters: self.state.counters.clone(), progress: self.progress, log: self.log.clone() };
        let text = serde_json::to_string(&facts).map_err(|e| wrong(&e))?;
        let metadata = HashMap::from([(FACTS.to_owned(), text)]);
        let file = safetensors::serialize(views, Some(metadata)).map_err(|e| wrong(&e))?;
        onebit::atomic::replace(path, &file)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Says what is damaged or missing.
    pub fn load(network: &Network, path: &Path) -> Result<Self> {
        let (facts, mut tensors) = read(path)?;
        let mut take = |name: &str| {
            let missing = || Error::file(path, format!("lacks '{name}': it belongs to another recipe"));
            tensors.remove(name).ok_or_else(missing)
        };
        let params = network.params.iter().map(|p| take(&p.name)).collect::<Result<Vec<_>>>()?;
        let mut statistics = Vec::new();
        for node in &network.nodes {
            statistics.push(match node.op {
                crate::network::NodeOp::Norm(_) => {
                    let [m, v] = statistic_names(&node.name);
                    Some((take(&m)?, take(&v)?))
                }
                _ => None,
            });
        }
        let state = State { tensors: tensors.into_iter().collect(), counters: facts.counters };
        Ok(Checkpoint {
            values: Values { params, statistics },
            state,
            progress: facts.progress,
            log: facts.log,
        })
    }
}

/// Parameters and statistics of a checkpoint by name, to start another run from.
///
/// # Errors
/// As [`Checkpoint::load`].
pub fn named(path: &Path) -> Result<HashMap<String, Vec<f32>>> {
    Ok(read(path)?.1)
}

fn read(path: &Path) -> Result<(Facts, HashMap<String, Vec<f32>>)> {
    let bytes = onebit::data::read(path)?;
    let wrong =
        |e: &dyn std::fmt::Display| Error::file(path, format!("is no checkpoint of a training run: {e}"));
    let header = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    if header.is_none_or(|n| n > MAX_HEADER) {
        return Err(wrong(&"its header has an impossible length"));
    }
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(&e))?;
    let facts = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(FACTS))
        .ok_or_else(|| wrong(&"it says nothing of a run"))?;
    let facts: Facts = serde_json::from_str(facts).map_err(|e| wrong(&e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(&e))?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(wrong(&format!("'{name}' is not made of 32-bit floats")));
        }
        let (numbers, _) = view.data().as_chunks::<4>();
        tensors.insert(name, numbers.iter().map(|b| f32::from_le_bytes(*b)).collect());
    }
    Ok((facts, tensors))
}
