//! A model file on disk or in memory.

use super::load;
use crate::driver::map::map;
use crate::error::{Error, Result};
use crate::meta::Meta;
use memmap2::Mmap;
use onebit_core::model::Model;
use std::path::{Path, PathBuf};

/// An opened model file. Models borrow from it.
pub struct ModelFile {
    bytes: Bytes,
    path: Option<PathBuf>,
}

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

impl ModelFile {
    /// Maps a file. It must not be changed in place while it is open; replacing it is fine (see
    /// [`save`](super::save)).
    ///
    /// # Errors
    /// When the file cannot be read. Its contents are checked by [`ModelFile::load`].
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = map(path).map_err(Error::io(path))?;
        Ok(ModelFile { bytes: Bytes::Mapped(bytes), path: Some(path.to_owned()) })
    }
    /// A file that is in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        ModelFile { bytes: Bytes::Owned(bytes), path: None }
    }
    /// A file that is part of the program.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        ModelFile { bytes: Bytes::Static(bytes), path: None }
    }

    /// The contents.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(m) => m,
            Bytes::Owned(v) => v,
            Bytes::Static(s) => s,
        }
    }
    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }
    /// True for a file of 0 bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks everything and gives the network.
    ///
    /// # Errors
    /// One sentence that names the file, if it has a name, and the layer.
    pub fn load(&self) -> Result<(Model<'_>, Meta)> {
        load(self.bytes()).map_err(|e| match &self.path {
            Some(path) => Error::file(path, e.0),
            None => Error::Model(format!("model file in memory: {e}")),
        })
    }
}
