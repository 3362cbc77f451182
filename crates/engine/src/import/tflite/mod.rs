//! TensorFlow Lite files, with and without the custom ops of Larq Compute Engine (0.4 or later).
//!
//! The file is read where it lies (`flatbuffer`, `flexbuffer`, `schema`); its ops are applied one after the other to
//! values of a [`Lowerer`](super::lower::Lowerer) (`network`, and one file for each kind of op). Ops from codes of
//! 8 bits to such codes are computed in the integers of the source (`codes`, `fixed`); for all others quantised tensors
//! are the real numbers that their codes stand for, rounded to codes where the source rounds them. What goes in and comes
//! out of the network are the codes themselves, as in the source.

mod blocks;
mod codes;
mod fixed;
mod flatbuffer;
mod flexbuffer;
mod layers;
mod lce;
mod network;
mod pointwise;
mod schema;
mod shapes;

use super::{ImportOptions, Imported, Importer, build};
use crate::driver::map::map;
use crate::error::{Error, Result};
use network::Network;
use schema::Model;
use std::io::Read;
use std::path::Path;

/// The importer.
pub struct TfLite;

/// Name of the format.
const NAME: &str = "tflite";

impl Importer for TfLite {
    fn name(&self) -> &'static str {
        NAME
    }
    fn detects(&self, path: &Path) -> bool {
        let mut start = [0; 8];
        std::fs::File::open(path)
            .and_then(|mut f| f.read_exact(&mut start))
            .is_ok_and(|()| schema::is_tflite(&start))
    }
    fn import(&self, path: &Path, options: &ImportOptions) -> Result<Imported> {
        let bytes = map(path).map_err(Error::io(path))?;
        read(&bytes, &build::file_name(path), options).map_err(|e| e.in_file(path))
    }
}

/// Reads the network of a file called `file_name` from its content.
///
/// # Errors
/// Names the layer and the op when one cannot be translated.
pub fn read(bytes: &[u8], file_name: &str, options: &ImportOptions) -> Result<Imported> {
    let model = Model::read(bytes)?;
    let mut network = Network::new(&model, bytes.len(), file_name, options)?;
    for op in model.needed()? {
        network.translate(op)?;
    }
    let (graph, notes) = network.finish(options)?;
    Ok(Imported { graph, notes, format: NAME })
}
