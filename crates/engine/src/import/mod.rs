//! Makes a [`Graph`] of a network that another framework trained.
//!
//! An importer writes down the plain maths of its source, one op after the other; passes fuse it. What
//! a source does not say (the input's size, the normalisation of pixels) is assumed, and each assumption
//! is a note.

pub mod array;
pub mod binarynet;
pub mod bincnn;
pub mod bmxnet;
pub mod bnn_pynq;
pub mod build;
pub mod chain;
pub mod espresso;
pub mod lower;
pub mod onnx;
pub mod tflite;

use crate::error::{Error, Result};
use crate::graph::Graph;
use std::path::Path;

/// What the user says about a network that is imported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportOptions {
    /// Name of the format; otherwise it is detected.
    pub from: Option<String>,
    /// Subtracted from pixels: one value, or one for each channel; empty means 0.
    pub mean: Vec<f32>,
    /// Pixels are divided by it: one value, or one for each channel; empty means 1.
    pub std: Vec<f32>,
    /// Which outputs are classes, and what they are called.
    pub classes: Classes,
    /// Name of the network; otherwise that of the file or folder.
    pub name: Option<String>,
    /// Length to which the short side of a picture is scaled before the centre is cropped.
    pub resize: Option<usize>,
    /// Rows, columns and channels of the input, for sources that do not say; otherwise it is assumed, and noted.
    pub input: Option<[usize; 3]>,
}

/// Which outputs are classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Classes {
    /// As the source says.
    #[default]
    FromSource,
    /// The first so many.
    First(usize),
    /// As many as there are names.
    Named(Vec<String>),
}

/// An imported network.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network.
    pub graph: Graph,
    /// What was assumed, one sentence each.
    pub notes: Vec<String>,
    /// Name of the format.
    pub format: &'static str,
}

/// Reads one format.
pub trait Importer: Sync {
    /// Name of the format.
    fn name(&self) -> &'static str;
    /// True if `path` is probably such a source. Reads no more than a few bytes or names.
    fn detects(&self, path: &Path) -> bool;
    /// Reads the network.
    ///
    /// # Errors
    /// Names the file and the layer.
    fn import(&self, path: &Path, options: &ImportOptions) -> Result<Imported>;
}

/// All importers, in the order in which they are asked whether they know a source.
pub static IMPORTERS: &[&dyn Importer] = &[
    &onnx::Onnx,
    &tflite::TfLite,
    &bmxnet::BmxNet,
    &bnn_pynq::BnnPynq,
    &binarynet::BinaryNet,
    &espresso::Espresso,
    &bincnn::BinCnn,
];

/// Reads a network of any known format.
///
/// # Errors
/// When no importer knows the source, with the list of formats, and as [`Importer::import`].
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported> {
    if let Some(name) = &options.from {
        let name = match name.to_ascii_lowercase().as_str() {
            "qonnx" => "onnx".to_owned(),
            "lce" => "tflite".to_owned(),
            lower => lower.to_owned(),
        };
        let named = IMPORTERS.iter().find(|i| i.name() == name);
        let importer =
            named.ok_or_else(|| Error::Input(format!("there is no format '{name}'; {}", known())))?;
        return importer.import(path, options);
    }
    std::fs::metadata(path).map_err(Error::io(path))?;
    match IMPORTERS.iter().find(|i| i.detects(path)) {
        Some(importer) => importer.import(path, options),
        None => Err(Error::file(path, format!("is in no known format; {}", known()))),
    }
}

fn known() -> String {
    let names: Vec<&str> = IMPORTERS.iter().map(|i| i.name()).collect();
    format!("known formats are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_sources_and_formats_get_the_list_of_formats() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path, from: Option<&str>| {
            let options = ImportOptions { from: from.map(str::to_owned), ..ImportOptions::default() };
            import(path, &options).unwrap_err().to_string()
        };
        let file = dir.path().join("model.xyz");
        std::fs::write(&file, b"hello").unwrap();
        for text in [message(&file, None), message(dir.path(), None), message(&file, Some("caffe"))] {
            assert!(IMPORTERS.iter().all(|i| text.contains(i.name())), "{text}");
        }
        assert!(message(&dir.path().join("absent"), None).contains("absent"));
    }
}
