//! MNIST-layout files: `[0, 0, 8, dimensions]`, big-endian sizes, bytes; plain or gzipped.

use super::{Dataset, MAX_BYTES, Part, file_name};
use crate::error::{Error, Result};
use flate2::read::GzDecoder;
use onebit_core::types::Shape;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Deflate cannot expand more than this, so a larger size in a header is a lie.
const MAX_EXPANSION: u64 = 1032;

/// The pictures of a folder, or `None` when it holds no such files.
pub fn folder(path: &Path, part: Part) -> Result<Option<Dataset>> {
    let prefixes: &[&str] = match part {
        Part::Test => &["t10k", "train"],
        Part::Train => &["train"],
    };
    for prefix in prefixes {
        for dot in ["-", "."] {
            for gz in ["", ".gz"] {
                let images = path.join(format!("{prefix}-images{dot}idx3-ubyte{gz}"));
                if images.is_file() {
                    return file(&images).map(|data| Some(data.of_test_part(*prefix == "t10k")));
                }
            }
        }
    }
    Ok(None)
}

/// The pictures of one file; their labels lie beside it.
pub fn file(images: &Path) -> Result<Dataset> {
    let labels = labels_of(images)?;
    dataset(images, open(images)?, &labels, open(&labels)?)
}

/// The pictures of two files in memory.
pub fn memory(images: &[u8], labels: &[u8]) -> Result<Dataset> {
    let size = |bytes: &[u8]| bytes.len() as u64;
    let (images, labels) = ((images, size(images)), (labels, size(labels)));
    dataset(Path::new("images in memory"), images, Path::new("labels in memory"), labels)
}

/// A reader and the number of bytes it has.
type Source<R> = (R, u64);

fn open(path: &Path) -> Result<Source<BufReader<File>>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    Ok((BufReader::new(file), size))
}

fn dataset(
    images: &Path,
    image_source: Source<impl BufRead>,
    labels: &Path,
    label_source: Source<impl BufRead>,
) -> Result<Dataset> {
    let (sizes, pixels) = read(images, image_source, 3)?;
    let (label_sizes, bytes) = read(labels, label_source, 1)?;
    if sizes[0] != label_sizes[0] {
        return Err(Error::file(
            labels,
            format!("has {} labels for the {} pictures of {}", label_sizes[0], sizes[0], file_name(images)),
        ));
    }
    let shape = Shape::new(sizes[1], sizes[2], 1);
    Ok(Dataset::memory("MNIST layout", shape, pixels, bytes.into_iter().map(usize::from).collect()))
}

/// The label file beside an image file, gzipped or not.
fn labels_of(images: &Path) -> Result<PathBuf> {
    let name = file_name(images).replace("images", "labels").replace("idx3", "idx1");
    let plain = name.trim_end_matches(".gz");
    let candidates = [images.with_file_name(&name), images.with_file_name(plain)];
    let gz = images.with_file_name(format!("{plain}.gz"));
    candidates
        .into_iter()
        .chain([gz])
        .find(|p| p != images && p.is_file())
        .ok_or_else(|| Error::file(images, format!("its labels, {name}, are not in the same folder")))
}

/// Sizes and bytes of a file with `dimensions` dimensions.
fn read(
    path: &Path,
    (mut from, size): Source<impl BufRead>,
    dimensions: usize,
) -> Result<(Vec<usize>, Vec<u8>)> {
    let gzipped = from.fill_buf().map_err(Error::io(path))?.starts_with(&[0x1f, 0x8b]);
    if gzipped {
        parse(path, GzDecoder::new(from), size.saturating_mul(MAX_EXPANSION), dimensions)
    } else {
        parse(path, from, size, dimensions)
    }
}

fn parse(
    path: &Path,
    mut from: impl Read,
    available: u64,
    dimensions: usize,
) -> Result<(Vec<usize>, Vec<u8>)> {
    let damaged = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::file(path, "is truncated; get the file again"),
        _ => Error::file(path, format!("is damaged ({e}); get the file again")),
    };
    let mut header = vec![0u8; 4 + 4 * dimensions];
    from.read_exact(&mut header).map_err(damaged)?;
    if header[..3] != [0, 0, 8] || usize::from(header[3]) != dimensions {
        return Err(Error::file(path, format!("is not an idx file of bytes with {dimensions} dimensions")));
    }
    let sizes = header[4..].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let sizes: Vec<usize> = sizes.collect();
    let expected = sizes.iter().try_fold(1u64, |n, s| n.checked_mul(*s as u64));
    let Some(expected) = expected.filter(|n| *n > 0 && *n <= available && *n <= MAX_BYTES) else {
        return Err(Error::file(path, format!("its header says {sizes:?}, which the file cannot hold")));
    };
    let mut bytes = Vec::new();
    from.take(expected + 1).read_to_end(&mut bytes).map_err(damaged)?;
    match (bytes.len() as u64).cmp(&expected) {
        std::cmp::Ordering::Equal => Ok((sizes, bytes)),
        std::cmp::Ordering::Less => Err(Error::file(path, "is truncated; get the file again")),
        std::cmp::Ordering::Greater => {
            Err(Error::file(path, format!("holds more than its header, {sizes:?}")))
        }
    }
}
