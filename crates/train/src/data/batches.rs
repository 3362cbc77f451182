//! Batches of an epoch, made by a thread ahead of time.

use super::random::{Purpose, Random};
use super::{Augment, Change, Source};
use onebit::core::types::Shape;
use onebit::error::{Error, Result};
use onebit::meta::Preprocessing;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Batches that wait for the network.
const AHEAD: usize = 2;

/// How pictures become batches.
#[derive(Clone, Debug)]
pub struct Options {
    /// Input of the network; pictures of another size are resized and cropped.
    pub shape: Shape,
    /// Resizing and normalisation, as the model file will say it; without mean and std pixels stay 0 to 255.
    pub input: Preprocessing,
    /// Classes of the network; pictures of other classes are left out as damaged. 0 takes all.
    pub classes: usize,
    /// Random changes.
    pub augment: Augment,
    /// Decides order and changes, together with `epoch`.
    pub seed: u64,
    /// Number of the epoch.
    pub epoch: usize,
    /// Pictures in a batch.
    pub batch: usize,
    /// Batches at the beginning of the epoch that are left out, because they were seen before the run was resumed.
    pub skip_steps: usize,
    /// Whether the order is random; otherwise it is that of the indices.
    pub shuffle: bool,
    /// Threads that decode and resize pictures; 0 means rayon's global pool.
    pub threads: usize,
}

impl Options {
    /// Batches of 128 in order and unchanged, for a network with this input.
    pub fn new(shape: Shape, input: Preprocessing) -> Self {
        Options {
            shape,
            input,
            classes: 0,
            augment: Augment::default(),
            seed: 0,
            epoch: 0,
            batch: 128,
            skip_steps: 0,
            shuffle: false,
            threads: 0,
        }
    }
}

/// Pictures as the network takes them, and their classes.
#[derive(Debug, Default)]
pub struct Batch {
    /// `[n, h, w, c]`.
    pub pixels: Vec<f32>,
    /// The classes, n.
    pub labels: Vec<u32>,
    /// Which pictures of the source they are, n.
    pub indices: Vec<usize>,
    /// Why pictures that belong to this batch are not in it: their file is missing or damaged, or their class unknown. With
    /// many of them a batch may even be empty.
    pub damaged: Vec<Error>,
}

impl Batch {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.indices.len()
    }
    /// True when all pictures are damaged.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
    /// The batch if nothing is missing in it.
    ///
    /// # Errors
    /// The first damage.
    pub fn whole(mut self) -> Result<Self> {
        if self.damaged.is_empty() { Ok(self) } else { Err(self.damaged.remove(0)) }
    }
}

/// Number of batches of an epoch. A last picture on its own joins the batch before, because BatchNorm cannot learn from one.
pub fn steps(pictures: usize, batch: usize) -> usize {
    let batch = batch.max(1);
    let alone = batch > 1 && pictures > batch && pictures % batch == 1;
    pictures.div_ceil(batch) - usize::from(alone)
}

/// The batches of an epoch over the pictures `indices` of a source.
///
/// Which pictures a batch has, in which order and how they are changed depends on the indices and on the options `seed`, `epoch`,
/// `batch`, `shuffle` and `augment` alone.
///
/// # Errors
/// When an option or an index does not make sense, or the network takes neither grey nor colour pictures.
pub fn epoch(source: &Arc<Source>, indices: &[usize], options: &Options) -> Result<Batches> {
    let maker = Maker::new(source, indices, options)?;
    let all = steps(indices.len(), options.batch);
    let steps = options.skip_steps.min(all)..all;
    let left = steps.len();
    let (sender, receiver) = sync_channel(AHEAD);
    let thread = std::thread::Builder::new()
        .name("batches".into())
        .spawn(move || maker.run(steps, all, &sender))
        .map_err(|e| Error::Input(format!("cannot start a thread: {e}")))?;
    Ok(Batches { receiver: Some(receiver), thread: Some(thread), left })
}

/// The batches of an epoch, see [`epoch`]. Dropping it ends its thread.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
    left: usize,
}

impl Iterator for Batches {
    type Item = Batch;

    /// # Panics
    /// When the thread has.
    fn next(&mut self) -> Option<Batch> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let batch = self.receiver.as_ref().and_then(|r| r.recv().ok());
        if batch.is_none() {
            // The thread ended early, which it never does by itself: an epoch must not end unnoticed.
            self.left = 0;
            if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
        }
        batch
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        // Without a receiver the thread's next `send` fails.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes batches.
struct Maker {
    source: Arc<Source>,
    order: Vec<usize>,
    options: Options,
    /// The float of every byte, for each channel, or once if they are the same.
    floats: Vec<[f32; 256]>,
    /// The pixel that comes in from outside.
    fill: Vec<u8>,
    /// Whether pictures are decoded or resized, which is worth more than one thread.
    parallel: bool,
    pool: Option<rayon::ThreadPool>,
}

impl Maker {
    fn new(source: &Arc<Source>, indices: &[usize], options: &Options) -> Result<Self> {
        let wrong = |text: String| Err(Error::Input(text));
        let (shape, input) = (options.shape, &options.input);
        options.augment.check()?;
        if options.batch == 0 || shape.elements() == 0 {
            return wrong(format!("batches of {} pictures of {shape} have nothing in them", options.batch));
        }
        if let Some(i) = indices.iter().find(|i| **i >= source.len()) {
            return wrong(format!("there is no picture {i}; there are {}", source.len()));
        }
        let same = source.shape().is_some_and(|s| s.c == shape.c);
        let convertible = matches!(shape.c, 1 | 3) && source.shape().is_none_or(|s| matches!(s.c, 1 | 3));
        if !same && !convertible {
            let given = source.shape().map_or("1 or 3".into(), |s| s.c.to_string());
            return wrong(format!("pictures with {given} channels cannot feed a network with {}", shape.c));
        }
        let tables = if input.mean.len().max(input.std.len()) > 1 { shape.c } else { 1 };
        let floats: Vec<[f32; 256]> = (0..tables)
            .map(|c| {
                let (mean, std) = input.normalisation(c);
                // As the engine's `elements::put_input`.
                std::array::from_fn(|pixel| (pixel as f32 - mean) / std)
            })
            .collect();
        if floats.iter().flatten().any(|v| !v.is_finite()) {
            return wrong("mean and std must be finite numbers, and std not 0".into());
        }
        let fill = (0..shape.c).map(|c| input.normalisation(c).0.round() as u8).collect();
        let mut order = indices.to_vec();
        if options.shuffle {
            Random::of(Purpose::Shuffle, &[options.seed, options.epoch as u64]).shuffle(&mut order);
        }
        let parallel = options.threads != 1 && source.shape() != Some(shape);
        let pool = (parallel && options.threads > 1)
            .then(|| rayon::ThreadPoolBuilder::new().num_threads(options.threads).build())
            .transpose()
            .map_err(|e| Error::Input(format!("cannot start {} threads: {e}", options.threads)))?;
        Ok(Maker { source: source.clone(), order, options: options.clone(), floats, fill, parallel, pool })
    }

    /// Makes some batches of `all`, until nobody takes them.
    fn run(&self, steps: Range<usize>, all: usize, to: &SyncSender<Batch>) {
        let size = self.options.batch;
        for step in steps {
            let end = if step + 1 == all { self.order.len() } else { (step + 1) * size };
            let batch = || self.batch(&self.order[step * size..end]);
            let batch = match &self.pool {
                Some(pool) => pool.install(batch),
                None => batch(),
            };
            if to.send(batch).is_err() {
                return;
            }
        }
    }

    fn batch(&self, picks: &[usize]) -> Batch {
        let size = self.options.shape.elements();
        let mut pixels = vec![0.0; picks.len() * size];
        let done: Vec<Result<()>> = if self.parallel {
            let each = picks.par_iter().zip(pixels.par_chunks_exact_mut(size));
            each.map_init(Vec::new, |scratch, (i, to)| self.picture(*i, scratch, to)).collect()
        } else {
            let mut scratch = Vec::new();
            let each = picks.iter().zip(pixels.chunks_exact_mut(size));
            each.map(|(i, to)| self.picture(*i, &mut scratch, to)).collect()
        };
        let mut batch = Batch::default();
        for (place, (i, done)) in picks.iter().zip(done).enumerate() {
            match done {
                Ok(()) => {
                    // Those after a damaged picture move up.
                    if place > batch.len() {
                        pixels.copy_within(place * size..(place + 1) * size, batch.len() * size);
                    }
                    batch.indices.push(*i);
                    batch.labels.push(self.source.labels()[*i] as u32);
                }
                Err(e) => batch.damaged.push(e),
            }
        }
        pixels.truncate(batch.len() * size);
        Batch { pixels, ..batch }
    }

    /// Writes picture `i` as the network takes it.
    fn picture(&self, i: usize, scratch: &mut Vec<u8>, to: &mut [f32]) -> Result<()> {
        let Options { shape, input, classes, augment, seed, epoch, .. } = &self.options;
        let class = self.source.labels()[i];
        if class >= *classes && *classes > 0 {
            let text = format!("has class {class}, but the network has {classes}, numbered from 0");
            return Err(self.source.about(i, Error::Input(text)));
        }
        let plain = self.source.picture(i, *shape, input)?;
        let bytes = if augment.is_none() {
            &plain[..]
        } else {
            scratch.resize(plain.len(), 0);
            let change = Change { seed: *seed, epoch: *epoch, picture: i };
            augment.apply(change, *shape, &self.fill, &plain, scratch);
            &scratch[..]
        };
        match &self.floats[..] {
            [floats] => to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = floats[usize::from(*byte)]),
            floats => {
                let c = shape.c;
                for (to, bytes) in to.chunks_exact_mut(c).zip(bytes.chunks_exact(c)) {
                    for ((to, byte), floats) in to.iter_mut().zip(bytes).zip(floats) {
                        *to = floats[usize::from(*byte)];
                    }
                }
            }
        }
        Ok(())
    }
}
