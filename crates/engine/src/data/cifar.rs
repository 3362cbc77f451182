//! CIFAR binary files: records of one label byte (CIFAR-100: a coarse and a fine one) and 3 x 32 x 32
//! bytes, plane after plane.

use super::{Dataset, Part, entries, file_name, read};
use crate::error::{Error, Result};
use onebit_core::types::Shape;
use std::path::{Path, PathBuf};

const SHAPE: Shape = Shape::new(32, 32, 3);

/// The pictures of a folder, or `None` when it holds no `.bin` files.
pub fn folder(path: &Path, part: Part) -> Result<Option<Dataset>> {
    let all = entries(path)?.into_iter().filter(|p| file_name(p).ends_with(".bin") && p.is_file());
    let (test, train): (Vec<PathBuf>, Vec<PathBuf>) = all.partition(|p| file_name(p).starts_with("test"));
    let is_test = part == Part::Test && !test.is_empty();
    let chosen = if is_test { test } else { train };
    if chosen.is_empty() { Ok(None) } else { files(&chosen).map(|data| Some(data.of_test_part(is_test))) }
}

/// The pictures of some files, in order.
pub fn files(paths: &[PathBuf]) -> Result<Dataset> {
    let mut records = Records::default();
    for path in paths {
        records.add(path, &read(path)?)?;
    }
    Ok(records.into())
}

/// The pictures of a file in memory.
pub fn memory(bytes: &[u8]) -> Result<Dataset> {
    let mut records = Records::default();
    records.add(Path::new("file in memory"), bytes)?;
    Ok(records.into())
}

#[derive(Default)]
struct Records {
    pixels: Vec<u8>,
    labels: Vec<usize>,
    classes: Option<u8>,
}

impl Records {
    fn add(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let Some((label_bytes, classes)) = kind(bytes) else {
            return Err(Error::file(
                path,
                "is no CIFAR binary file: those are records of 1 label byte (below 10) or 2 label bytes (the second \
                 below 100) and 3072 bytes of pixels",
            ));
        };
        if *self.classes.get_or_insert(classes) != classes {
            return Err(Error::file(
                path,
                "mixes CIFAR-10 with CIFAR-100 files; keep them in separate folders",
            ));
        }
        for record in bytes.chunks_exact(label_bytes + SHAPE.elements()) {
            self.labels.push(usize::from(record[label_bytes - 1]));
            let planes = &record[label_bytes..];
            let n = SHAPE.pixels();
            self.pixels.extend((0..n).flat_map(|i| [planes[i], planes[n + i], planes[2 * n + i]]));
        }
        Ok(())
    }
}

impl From<Records> for Dataset {
    fn from(r: Records) -> Self {
        let format = if r.classes == Some(100) { "CIFAR-100" } else { "CIFAR-10" };
        Dataset::memory(format, SHAPE, r.pixels, r.labels)
    }
}

/// Label bytes of a record and number of classes.
fn kind(bytes: &[u8]) -> Option<(usize, u8)> {
    [(1, 10), (2, 100)].into_iter().find(|(label_bytes, classes)| {
        let record = label_bytes + SHAPE.elements();
        let whole = !bytes.is_empty() && bytes.len().is_multiple_of(record);
        whole && bytes.chunks_exact(record).all(|r| r[label_bytes - 1] < *classes)
    })
}
