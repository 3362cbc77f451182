//! Labelled pictures: MNIST-layout and CIFAR files, NumPy arrays, and folders of PNG and JPEG files.
//!
//! Small data sets are held in memory, picture files are decoded batch by batch on all threads. Sizes
//! written in files are never believed beyond what the files hold.

mod arrays;
mod cifar;
mod folder;
mod idx;
pub mod npy;

use crate::error::{Error, Result};
use crate::image::Image;
use onebit_core::types::Shape;
use rayon::prelude::*;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file, or content of a gzip file, that is read into memory, in bytes.
pub const MAX_BYTES: u64 = 1 << 31;

/// What can be read, for error messages.
const KNOWN: &str = "known are MNIST-layout folders (t10k-images-idx3-ubyte.gz and so on), CIFAR-10 and CIFAR-100 \
     binary files, folders of NumPy arrays (train_images.npy and train_labels.npy, or x_train.npy and y_train.npy), \
     folders with one subfolder of PNG or JPEG files per class, folders with a labels.csv, and folders of those two kinds \
     called train and test (or val) side by side";

/// Which part of a data set that has two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// The test pictures; where there are none, the training pictures.
    #[default]
    Test,
    /// The training pictures.
    Train,
}

/// Pictures and their classes.
#[derive(Debug)]
pub struct Dataset {
    format: &'static str,
    pictures: Pictures,
    labels: Vec<usize>,
    class_names: Vec<String>,
    is_test: bool,
}

#[derive(Debug)]
enum Pictures {
    /// `[n][h][w][c]` bytes.
    Memory { shape: Shape, pixels: Vec<u8> },
    /// Files that are decoded when they are needed.
    Files(Vec<PathBuf>),
}

/// Some pictures of a data set.
#[derive(Debug, Default)]
pub struct Batch {
    /// The pictures that could be decoded.
    pub images: Vec<Image>,
    /// Their classes.
    pub labels: Vec<usize>,
    /// Why the others could not; each names its file.
    pub damaged: Vec<Error>,
}

impl Dataset {
    /// Opens the test part of the data at `path`, whose format is detected.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, or lists the known formats.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_part(path, Part::Test)
    }

    /// Opens a part of the data at `path`, whose format is detected.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_part(path: impl AsRef<Path>, part: Part) -> Result<Self> {
        let path = path.as_ref();
        let kind = std::fs::metadata(path).map_err(Error::io(path))?;
        let data = if kind.is_dir() { Self::open_folder(path, part)? } else { Self::open_file(path)? };
        match data {
            Some(data) if data.is_empty() => Err(Error::file(path, "contains no pictures")),
            Some(data) => Ok(data),
            None => Err(Error::file(path, format!("no data set was recognised here; {KNOWN}"))),
        }
    }

    /// A data set of two MNIST-layout files in memory, gzipped or not.
    ///
    /// # Errors
    /// When they are damaged.
    pub fn from_mnist(images: &[u8], labels: &[u8]) -> Result<Self> {
        idx::memory(images, labels)
    }

    /// A data set of a CIFAR binary file in memory.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn from_cifar(bytes: &[u8]) -> Result<Self> {
        cifar::memory(bytes)
    }

    fn open_folder(path: &Path, part: Part) -> Result<Option<Self>> {
        if path.join(folder::LABELS).is_file() {
            return folder::labelled(&path.join(folder::LABELS)).map(Some);
        }
        if let Some(data) = idx::folder(path, part)? {
            return Ok(Some(data));
        }
        if let Some(data) = cifar::folder(path, part)? {
            return Ok(Some(data));
        }
        if let Some(data) = arrays::folder(path, part)? {
            return Ok(Some(data));
        }
        if let Some(data) = folder::parts(path, part)? {
            return Ok(Some(data));
        }
        folder::classes(path)
    }

    fn open_file(path: &Path) -> Result<Option<Self>> {
        let name = file_name(path);
        if name.ends_with(".csv") {
            folder::labelled(path).map(Some)
        } else if name.contains("idx3") {
            idx::file(path).map(Some)
        } else if name.ends_with(".bin") {
            cifar::files(&[path.to_owned()]).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A data set in memory: `pixels` is `[n][h][w][c]`.
    fn memory(format: &'static str, shape: Shape, pixels: Vec<u8>, labels: Vec<usize>) -> Self {
        let pictures = Pictures::Memory { shape, pixels };
        Dataset { format, pictures, labels, class_names: Vec::new(), is_test: false }
    }

    fn of_test_part(self, is_test: bool) -> Self {
        Dataset { is_test, ..self }
    }

    /// Name of the format.
    pub fn format(&self) -> &'static str {
        self.format
    }
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }
    /// True when there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
    /// The class of every picture.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }
    /// Names of the classes; empty where the data has none.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }
    /// Number of classes that occur or have a name.
    pub fn classes(&self) -> usize {
        self.labels.iter().max().map_or(0, |l| l + 1).max(self.class_names.len())
    }
    /// True if these are the pictures of a test part that lies beside a training part or in its place; false where a
    /// path has one part only, or that of training was opened.
    pub fn is_test(&self) -> bool {
        self.is_test
    }
    /// The `[h][w][c]` bytes of picture `i`, if it is in memory.
    pub fn pixels(&self, i: usize) -> Option<&[u8]> {
        match &self.pictures {
            Pictures::Memory { shape, pixels } => pixels.chunks_exact(shape.elements()).nth(i),
            Pictures::Files(_) => None,
        }
    }
    /// The file of picture `i`, if it has one of its own.
    pub fn file(&self, i: usize) -> Option<&Path> {
        match &self.pictures {
            Pictures::Memory { .. } => None,
            Pictures::Files(files) => files.get(i).map(PathBuf::as_path),
        }
    }
    /// Shape of the pictures, if all have the same.
    pub fn shape(&self) -> Option<Shape> {
        match &self.pictures {
            Pictures::Memory { shape, .. } => Some(*shape),
            Pictures::Files(_) => None,
        }
    }
    /// Keeps the first `limit` pictures.
    pub fn truncate(&mut self, limit: usize) {
        self.labels.truncate(limit);
        match &mut self.pictures {
            Pictures::Memory { shape, pixels } => pixels.truncate(self.labels.len() * shape.elements()),
            Pictures::Files(files) => files.truncate(limit),
        }
    }
    /// Gives every picture the class `class_of(its class)`, for networks that number classes in another way.
    pub fn relabel(&mut self, class_of: impl Fn(usize) -> usize) {
        self.labels.iter_mut().for_each(|l| *l = class_of(*l));
        self.class_names.clear();
    }

    /// Picture `i`, decoded if it is a file.
    ///
    /// # Errors
    /// When the file cannot be decoded.
    pub fn image(&self, i: usize) -> Result<Image> {
        match &self.pictures {
            Pictures::Memory { shape: s, pixels } => {
                let n = s.elements();
                Image::new(s.w, s.h, s.c, pixels[i * n..(i + 1) * n].to_vec())
            }
            Pictures::Files(files) => open_picture(&files[i]),
        }
    }

    /// The pictures in order, up to `size` at a time, decoded on the threads of the current pool.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Batch> + '_ {
        let size = size.max(1);
        (0..self.len()).step_by(size).map(move |first| {
            let range = first..(first + size).min(self.len());
            let decoded: Vec<Result<Image>> = range.clone().into_par_iter().map(|i| self.image(i)).collect();
            let mut batch = Batch::default();
            for (i, image) in range.zip(decoded) {
                match image {
                    Ok(image) => {
                        batch.images.push(image);
                        batch.labels.push(self.labels[i]);
                    }
                    Err(e) => batch.damaged.push(e),
                }
            }
            batch
        })
    }
}

#[cfg(feature = "images")]
fn open_picture(path: &Path) -> Result<Image> {
    Image::open(path)
}

#[cfg(not(feature = "images"))]
fn open_picture(path: &Path) -> Result<Image> {
    Err(Error::file(path, "this build cannot decode pictures; build it with the feature `images`"))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The content of a file, which may not be larger than [`MAX_BYTES`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::file(path, format!("is larger than the limit of {} GiB", MAX_BYTES >> 30)));
    }
    Ok(bytes)
}

/// The entries of a folder, sorted by name, without hidden ones.
fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let entry = entry.map_err(Error::io(path))?.path();
        if !file_name(&entry).starts_with('.') {
            all.push(entry);
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(all(test, feature = "images"))]
mod tests;
