//! Pictures and labels as NumPy arrays: two `.npy` files for each part.

use super::folder::MAX_CLASS;
use super::{Dataset, Part, file_name, npy, read};
use crate::error::{Error, Result};
use onebit_core::types::Shape;
use std::path::Path;

/// How the files of pictures and labels are called around the name of their part.
const NAMES: [[[&str; 2]; 2]; 4] = [
    [["", "_images.npy"], ["", "_labels.npy"]],
    [["x_", ".npy"], ["y_", ".npy"]],
    [["X_", ".npy"], ["y_", ".npy"]],
    [["", "_x.npy"], ["", "_y.npy"]],
];

/// The pictures of a folder, or `None` when it holds no such arrays.
pub fn folder(path: &Path, part: Part) -> Result<Option<Dataset>> {
    let parts: &[(&str, bool)] = match part {
        Part::Test => &[("test", true), ("train", false)],
        Part::Train => &[("train", false)],
    };
    for (part, is_test) in parts {
        for names in NAMES {
            let [images, labels] = names.map(|[before, after]| path.join(format!("{before}{part}{after}")));
            if images.is_file() {
                return files(&images, &labels).map(|data| Some(data.of_test_part(*is_test)));
            }
        }
    }
    Ok(None)
}

fn files(images: &Path, labels: &Path) -> Result<Dataset> {
    let (shape, pixels) = pictures(images)?;
    let numbers = npy::open(labels)?;
    let n = pixels.len() / shape.elements();
    if !(matches!(numbers.shape[..], [_] | [_, 1]) && numbers.values.len() == n) {
        return Err(Error::file(
            labels,
            format!(
                "has the shape {:?}, but the {n} pictures of {} need one number each, shape [{n}]; of one-hot labels \
                 save y.argmax(1)",
                numbers.shape,
                file_name(images)
            ),
        ));
    }
    let class = |v: &f32| {
        let fits = (0.0..=MAX_CLASS as f32).contains(v) && v.fract() == 0.0;
        if fits {
            Ok(*v as usize)
        } else {
            Err(Error::file(labels, format!("{v} is not the number of a class")))
        }
    };
    let labels = numbers.values.iter().map(class).collect::<Result<_>>()?;
    Ok(Dataset::memory("NumPy arrays", shape, pixels, labels))
}

/// `[n, h, w]` or `[n, h, w, c]`.
fn pictures(path: &Path) -> Result<(Shape, Vec<u8>)> {
    let content = read(path)?;
    let wrong = |e: String| Error::file(path, e);
    let (sizes, pixels) = match npy::bytes(&content).map_err(wrong)? {
        Some((sizes, bytes)) => (sizes, bytes.to_vec()),
        None => {
            let array = npy::parse(&content).map_err(wrong)?;
            let pixels = pixels(&array.values).ok_or_else(|| {
                wrong(
                    "holds numbers that are no pixels, which are whole from 0 to 255, or such divided by 255; save it \
                     as uint8"
                        .into(),
                )
            })?;
            (array.shape, pixels)
        }
    };
    let shape = match sizes[..] {
        [_, h, w] => Shape::new(h, w, 1),
        [_, c @ (1 | 3), h, w] if !matches!(w, 1 | 3 | 4) => {
            return Err(wrong(format!(
                "has channels before rows, {c} x {h} x {w}; save x.transpose(0, 2, 3, 1)"
            )));
        }
        [_, h, w, c] => Shape::new(h, w, c),
        _ => {
            return Err(wrong(format!(
                "has the shape {sizes:?}; pictures are [n, height, width, channels] or [n, height, width]"
            )));
        }
    };
    if pixels.is_empty() { Err(wrong("contains no pictures".into())) } else { Ok((shape, pixels)) }
}

/// Numbers that are bytes, or bytes divided by 255, as bytes.
fn pixels(values: &[f32]) -> Option<Vec<u8>> {
    let whole = |factor: f32, slack: f32| {
        let byte = |v: &f32| {
            let v = v * factor;
            let near = v.round();
            ((0.0..=255.0).contains(&near) && (v - near).abs() <= slack).then_some(near as u8)
        };
        values.iter().map(byte).collect::<Option<Vec<u8>>>()
    };
    // Pictures of nothing but 0 and 1 are bits, or black and white divided by 255; the latter is far more likely.
    whole(255.0, 1e-3).or_else(|| whole(1.0, 0.0))
}
