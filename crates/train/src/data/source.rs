//! Labelled pictures of a training or a test part.

use onebit::core::types::Shape;
use onebit::data::{Dataset, Part};
use onebit::error::{Error, Result};
use onebit::meta::Preprocessing;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

/// Files that are hashed at a time.
const HASHED: usize = 256;

/// Labelled pictures of one part, in memory or in files that are read when they are needed.
#[derive(Debug)]
pub struct Source {
    data: Dataset,
    class_names: Vec<String>,
}

impl From<Dataset> for Source {
    fn from(data: Dataset) -> Self {
        Source { class_names: data.class_names().to_vec(), data }
    }
}

impl Source {
    /// Opens a part of the data at `path`, whose format is detected: MNIST-layout files, CIFAR-10 and CIFAR-100 binary
    /// files, NumPy arrays, a folder of pictures with a subfolder for each class or with a `labels.csv`, or two such
    /// folders called `train` and `test`. Where there is no test part, it is the training part, see [`Source::is_test`].
    ///
    /// Classes of folders are numbered by what this part holds; [`Source::open_parts`] makes parts agree.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, or lists the known formats. Picture files are not read yet.
    pub fn open(path: impl AsRef<Path>, part: Part) -> Result<Self> {
        Dataset::open_part(path, part).map(Source::from)
    }

    /// Opens the training part and, where there is one, the separate test part, with its classes numbered as those of the
    /// training part.
    ///
    /// # Errors
    /// As [`Source::open`]; also when the test part has a class that the training part lacks.
    pub fn open_parts(path: impl AsRef<Path>) -> Result<(Self, Option<Self>)> {
        let path = path.as_ref();
        let train = Source::open(path, Part::Train)?;
        let mut test = Source::open(path, Part::Test)?;
        if !test.is_test() {
            return Ok((train, None));
        }
        let names = &train.class_names;
        if !names.is_empty() && *names != test.class_names {
            let place = |name: &String| {
                names.iter().position(|n| n == name).ok_or_else(|| {
                    Error::file(
                        path,
                        format!("the test pictures have a class '{name}', the training pictures have not"),
                    )
                })
            };
            let places = test.class_names.iter().map(place).collect::<Result<Vec<usize>>>()?;
            test.data.relabel(|class| places.get(class).copied().unwrap_or(class));
            test.class_names.clone_from(names);
        }
        Ok((train, Some(test)))
    }

    /// True if this is a separate test part.
    pub fn is_test(&self) -> bool {
        self.data.is_test()
    }
    /// Name of the format.
    pub fn format(&self) -> &'static str {
        self.data.format()
    }
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.data.len()
    }
    /// True when there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
    /// The class of every picture.
    pub fn labels(&self) -> &[usize] {
        self.data.labels()
    }
    /// Number of classes that occur or have a name.
    pub fn classes(&self) -> usize {
        self.data.classes().max(self.class_names.len())
    }
    /// Names of the classes; empty where the data has none.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }
    /// Shape of the pictures; `None` where they are files, which may differ.
    pub fn shape(&self) -> Option<Shape> {
        self.data.shape()
    }
    /// Keeps the first `limit` pictures.
    pub fn truncate(&mut self, limit: usize) {
        self.data.truncate(limit);
    }

    /// Bytes `[h][w][c]` of picture `i` as a network with input `shape` sees it: resized and cropped as
    /// [`Image::fit`](onebit::Image::fit) does, if it has another size.
    ///
    /// # Errors
    /// Names the file that is missing or damaged.
    ///
    /// # Panics
    /// When there is no picture `i`.
    pub fn picture(&self, i: usize, shape: Shape, input: &Preprocessing) -> Result<Cow<'_, [u8]>> {
        match self.data.pixels(i) {
            Some(pixels) if self.shape() == Some(shape) => Ok(Cow::Borrowed(pixels)),
            _ => match self.data.image(i).and_then(|image| image.fit(shape, input)) {
                Ok(image) => Ok(Cow::Owned(image.pixels)),
                Err(e) => Err(self.about(i, e)),
            },
        }
    }

    /// The error said of picture `i`.
    pub(super) fn about(&self, i: usize, error: Error) -> Error {
        match (self.data.file(i), error) {
            (Some(file), error) => error.in_file(file),
            (None, error) => Error::Input(format!("picture {i}: {error}")),
        }
    }

    /// SHA-256, in hexadecimal, over the labels and the pixels, or the bytes of the files, of all pictures in order. Names of
    /// files and classes do not count. A file that cannot be read counts as such. Reads every file once.
    pub fn hash(&self) -> String {
        let mut all = Sha256::new();
        all.update((self.len() as u64).to_le_bytes());
        if let Some(s) = self.shape() {
            [s.h, s.w, s.c].iter().for_each(|n| all.update((*n as u64).to_le_bytes()));
        }
        for first in (0..self.len()).step_by(HASHED) {
            let some = first..(first + HASHED).min(self.len());
            let files: Vec<_> =
                some.clone().into_par_iter().map(|i| self.data.file(i).map(file_hash)).collect();
            for (i, file) in some.zip(files) {
                all.update((self.labels()[i] as u64).to_le_bytes());
                match file {
                    Some(Ok(digest)) => all.update(digest),
                    Some(Err(_)) => all.update(b"unreadable"),
                    None => all.update(self.data.pixels(i).unwrap_or_default()),
                }
            }
        }
        format!("{:x}", all.finalize())
    }
}

fn file_hash(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().into())
}
