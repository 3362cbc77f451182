//! Runs a model: batches, threads, and memory that is reused.

use crate::driver::team::Threads;
use crate::elements::{put_input, read_output};
use crate::error::{Error, Result};
use crate::file::ModelFile;
use crate::image::Image;
use crate::meta::Meta;
use onebit_core::exec::Executor;
use onebit_core::kernels::{self, Kernels};
use onebit_core::model::Model;
use onebit_core::types::ValueType;
use rayon::prelude::*;
use std::path::Path;
use std::sync::Mutex;

pub use crate::elements::{Elements, top};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads; 0 means one for each core.
    pub threads: usize,
    /// Name of a kernel rung; otherwise the variable `ONEBIT_ISA`, otherwise the best of this CPU.
    pub isa: Option<String>,
}

/// The scores of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// One score for each class.
    pub scores: Vec<f32>,
}

impl Output {
    /// Index of the first largest score.
    pub fn class(&self) -> usize {
        top(&self.scores, 1)[0]
    }
    /// Indices of the `k` largest scores, best first; ties go to the lower index.
    pub fn top(&self, k: usize) -> Vec<usize> {
        top(&self.scores, k)
    }
}

/// A network ready to run. It can be shared between threads.
pub struct Session {
    executor: Executor,
    meta: Meta,
    /// Images that one thread runs at a time.
    chunk: usize,
    /// For images on different cores.
    pool: Option<rayon::ThreadPool>,
    /// For one image on several cores.
    team: Option<Threads>,
    arenas: Mutex<Vec<Vec<u64>>>,
}

impl Session {
    /// Opens a model file, on all cores.
    ///
    /// # Errors
    /// As [`Session::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Session::open_with(path, &Options::default())
    }

    /// Opens a model file. The file is closed again afterwards: the session owns what it needs.
    ///
    /// # Errors
    /// One sentence that names the file when it is not a valid model; otherwise as [`Session::new`].
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let file = ModelFile::open(path)?;
        let (model, meta) = file.load()?;
        Session::new(&model, meta, options).map_err(|e| match e {
            Error::Input(_) => e,
            other => other.in_file(path),
        })
    }

    /// Prepares a model.
    ///
    /// # Errors
    /// When the rung is unknown here, or threads cannot be started.
    pub fn new(model: &Model<'_>, meta: Meta, options: &Options) -> Result<Self> {
        let executor = Executor::new(model, kernels(options.isa.as_deref())?)?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = if options.threads == 0 { cores } else { options.threads };
        let pool = (threads > 1)
            .then(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build())
            .transpose()
            .map_err(|e| Error::Input(format!("cannot start {threads} threads: {e}")))?;
        let team = (threads > 1)
            .then(|| Threads::start(threads))
            .transpose()
            .map_err(|e| Error::Input(format!("cannot start {threads} threads: {e}")))?;
        // Images that share weights while those are in cache, in arenas that stay in cache.
        let image_bytes = (executor.arena_words(2) - executor.arena_words(1)) * 8;
        let chunk = ((256 << 10) / image_bytes.max(1)).clamp(1, 64);
        Ok(Session { executor, meta, chunk, pool, team, arenas: Mutex::new(Vec::new()) })
    }

    /// Type of the network's input.
    pub fn input(&self) -> ValueType {
        self.executor.input()
    }
    /// Type of the network's output.
    pub fn output(&self) -> ValueType {
        self.executor.output()
    }
    /// Facts about the network.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }
    /// The prepared ops.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }
    /// Name of the kernel rung.
    pub fn isa(&self) -> &'static str {
        self.executor.kernels().isa
    }
    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }
    /// Name of class `i`, or its number.
    pub fn class_name(&self, i: usize) -> String {
        self.meta.classes.get(i).cloned().unwrap_or_else(|| i.to_string())
    }

    /// Classifies one picture.
    ///
    /// # Errors
    /// When the network does not take pictures.
    pub fn run(&self, image: &Image) -> Result<Output> {
        Ok(self.run_images(std::slice::from_ref(image))?.remove(0))
    }

    /// Classifies pictures of any size, on all threads.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_images(&self, images: &[Image]) -> Result<Vec<Output>> {
        self.run_elements(Elements::Pixels(&self.fit_images(images)?))
    }

    /// Makes pictures of any size the network's input, on all threads; `[h][w][c]` bytes one after the other.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn fit_images(&self, images: &[Image]) -> Result<Vec<u8>> {
        let shape = self.input().shape;
        let mut pixels = vec![0; images.len() * shape.elements()];
        let fit = |(image, out): (&Image, &mut [u8])| -> Result<()> {
            out.copy_from_slice(&image.fit(shape, &self.meta.input)?.pixels);
            Ok(())
        };
        match &self.pool {
            Some(pool) if images.len() > 1 => pool.install(|| {
                images.par_iter().zip(pixels.par_chunks_exact_mut(shape.elements())).try_for_each(fit)
            })?,
            _ => images.iter().zip(pixels.chunks_exact_mut(shape.elements())).try_for_each(fit)?,
        }
        Ok(pixels)
    }

    /// Runs network inputs, on all threads.
    ///
    /// # Errors
    /// When the elements are not a whole number of inputs, or do not fit the input's format.
    pub fn run_elements(&self, inputs: Elements<'_>) -> Result<Vec<Output>> {
        let classes = self.output().shape.elements();
        let images = inputs.count() / self.input().shape.elements();
        let mut scores = vec![0.0; images * classes];
        self.run_into(inputs, &mut scores)?;
        Ok(scores.chunks(classes).map(|s| Output { scores: s.to_vec() }).collect())
    }

    /// Runs network inputs and writes the outputs one after the other. With one thread, this allocates
    /// nothing after the first call.
    ///
    /// # Errors
    /// As [`Session::run_elements`]; also when `out` has the wrong length.
    pub fn run_into(&self, inputs: Elements<'_>, out: &mut [f32]) -> Result<()> {
        let (per_image, scores) = (self.input().shape.elements(), self.output().shape.elements());
        if !inputs.count().is_multiple_of(per_image) {
            return Err(Error::Input(format!(
                "{} elements are not a whole number of {} inputs",
                inputs.count(),
                self.input().shape
            )));
        }
        let images = inputs.count() / per_image;
        if out.len() != images * scores {
            return Err(Error::Input(format!(
                "{} outputs need {} elements, not {}",
                images,
                images * scores,
                out.len()
            )));
        }
        // Fewer images than threads: all threads work on each.
        let alone = images < self.threads();
        let piece = if alone { 1 } else { self.chunk.min(images.div_ceil(self.threads())).max(1) };
        let run = |i: usize, out: &mut [f32]| {
            let n = out.len() / scores;
            let first = i * piece;
            self.run_chunk(inputs.slice(first * per_image..(first + n) * per_image), n, alone, out)
        };
        match &self.pool {
            Some(pool) if !alone => pool.install(|| {
                out.par_chunks_mut(piece * scores).enumerate().try_for_each(|(i, out)| run(i, out))
            }),
            _ => out.chunks_mut(piece * scores).enumerate().try_for_each(|(i, out)| run(i, out)),
        }
    }

    /// Runs `n` images on this thread, or the only one with the team.
    fn run_chunk(&self, inputs: Elements<'_>, n: usize, alone: bool, out: &mut [f32]) -> Result<()> {
        self.with_arena(|arena| {
            self.put_inputs(inputs, n, arena)?;
            match &self.team {
                Some(team) if alone => self.executor.run_team(team, arena, |_| {}),
                _ => self.executor.run(n, arena, |_| {}),
            }
            let ty = self.output();
            let values = self.executor.output_of(arena, n).chunks_exact(ty.arena_words());
            for (words, out) in values.zip(out.chunks_exact_mut(ty.shape.elements())) {
                read_output(ty, words, out);
            }
            Ok(())
        })
    }

    /// Runs one input on this thread and calls `after` with the index of each step when it is done.
    ///
    /// # Errors
    /// As [`Session::run_elements`].
    pub fn profile(&self, inputs: Elements<'_>, mut after: impl FnMut(usize)) -> Result<()> {
        self.with_arena(|arena| {
            self.put_inputs(inputs, 1, arena)?;
            self.executor.run(1, arena, &mut after);
            Ok(())
        })
    }

    fn with_arena<T>(&self, f: impl FnOnce(&mut [u64]) -> T) -> T {
        let lock = || self.arenas.lock().unwrap_or_else(|e| e.into_inner());
        let taken = lock().pop();
        let words =
            || self.executor.arena_words(self.chunk).max(self.executor.team_arena_words(self.threads()));
        let mut arena = taken.unwrap_or_else(|| vec![0; words()]);
        let result = f(&mut arena);
        lock().push(arena);
        result
    }

    fn put_inputs(&self, inputs: Elements<'_>, n: usize, arena: &mut [u64]) -> Result<()> {
        let ty = self.input();
        let per_image = ty.shape.elements();
        let place = self.executor.input_mut(arena, n).chunks_exact_mut(ty.arena_words());
        for (i, words) in place.enumerate() {
            put_input(ty, &self.meta.input, inputs.slice(i * per_image..(i + 1) * per_image), words)
                .map_err(|e| Error::Input(e.0))?;
        }
        Ok(())
    }
}

/// The rung called `isa`, else the one that `ONEBIT_ISA` names, else the best.
///
/// # Errors
/// When this build or CPU has no such rung.
pub fn kernels(isa: Option<&str>) -> Result<&'static Kernels> {
    let variable = std::env::var("ONEBIT_ISA").ok().filter(|v| !v.is_empty());
    let Some(name) = isa.or(variable.as_deref()) else {
        return Ok(kernels::best());
    };
    kernels::named(name).ok_or_else(|| {
        let known: Vec<&str> = kernels::available().map(|k| k.isa).collect();
        Error::Input(format!("no kernels called '{name}' here; this machine runs {}", known.join(", ")))
    })
}
