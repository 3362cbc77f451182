//! The end of a run: export of the best epoch, and the proof that the engine computes what was trained.

use super::record::Outcome;
use super::{BEST, Checkpoint, MODEL, Run};
use crate::data;
use crate::export::{Values, line, lower, meta};
use crate::network::Network;
use onebit::core::model::Model;
use onebit::elements::Elements;
use onebit::error::{Error, Result};
use onebit::meta::{Accuracy, Meta, Training};
use onebit::{Session, file, passes, session};
use std::sync::Arc;

/// The model of a trained network.
pub(super) fn deploy(network: &Network, values: &Values, meta: Meta) -> Result<(Model<'static>, Meta)> {
    let mut graph = lower(network, values, meta)?;
    passes::optimize(&mut graph)?;
    graph.into_model()
}

impl Run<'_> {
    /// Exports the best epoch, evaluates it on the test pictures with engine and training graph, and writes model and log.
    pub(super) fn finish(&mut self, ended: String) -> Result<()> {
        let best = Checkpoint::load(&self.learner.network, &self.job.folder.join(BEST))?;
        let mut outcome = Outcome { best_epoch: best.progress.epochs, ended, ..Outcome::default() };
        let meta = Meta {
            classes: self.source.class_names().to_vec(),
            training: Some(Training {
                recipe: self.log.recipe.clone(),
                seed: self.job.recipe.train.seed,
                epochs: best.progress.epochs,
                data: self.log.data_hash.clone(),
            }),
            ..meta(&self.job.recipe)
        };
        let (model, mut meta) = deploy(&self.learner.network, &best.values, meta)?;
        // From here on the learner is the network that was exported.
        self.learner.export(&best.values)?;
        if let Some(test) = self.test.clone() {
            let session = Session::new(&model, meta.clone(), &session::Options::default())?;
            self.compare(&test, &session, &mut outcome)?;
            let (correct, total) = outcome.test.unwrap_or_default();
            let data = line(&format!("{}, test pictures", self.job.recipe.data));
            meta.accuracy = Some(Accuracy { data, correct, total });
        }
        let path = self.job.folder.join(MODEL);
        file::save(&model, &meta, &path)?;
        outcome.file_bytes = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        self.save()?;
        (outcome.seconds, outcome.cpu_seconds) = (self.progress.seconds, self.progress.cpu_seconds);
        self.log.result = Some(outcome);
        self.write_log()
    }

    /// Runs all test pictures through both, picture by picture.
    fn compare(&self, test: &Arc<data::Source>, session: &Session, outcome: &mut Outcome) -> Result<()> {
        let classes = self.learner.network.classes();
        let mut confusion = vec![vec![0; classes]; classes];
        let (mut correct, mut total, mut inexact) = (0, 0, 0);
        let mut differences = Vec::new();
        let all: Vec<usize> = (0..test.len()).collect();
        for batch in data::epoch(test, &all, &self.options(false))? {
            if batch.is_empty() {
                continue;
            }
            let trained = self.learner.evaluate(&batch.pixels);
            let run = session.run_elements(Elements::F32(&batch.pixels))?;
            let expected = self.learner.classes_of(&trained);
            let rows = trained.chunks_exact(classes).zip(expected);
            for ((output, (trained, expected)), (label, index)) in
                run.iter().zip(rows).zip(batch.labels.iter().zip(&batch.indices))
            {
                let class = output.class();
                confusion[*label as usize][class] += 1;
                correct += usize::from(class == *label as usize);
                total += 1;
                inexact += usize::from(output.scores != trained);
                if class != expected {
                    let margin = (trained[expected] - trained[class]).abs();
                    differences.push(format!(
                        "picture {index}: class {class}, in training {expected}; their scores there differ by {margin:e}"
                    ));
                }
            }
        }
        if inexact > 0 {
            differences
                .push(format!("the scores of {inexact} of {total} pictures differ in their last bits"));
        }
        outcome.test = Some((correct, total));
        outcome.confusion = confusion;
        outcome.differences = differences;
        Ok(())
    }
}
