//! Opening what the user calls a model: a model file, or a network of another framework.

use crate::text;
use anyhow::{Context, Result, bail};
use onebit::Error;
use onebit::file::{self, ModelFile};
use onebit::import::{self, IMPORTERS, ImportOptions};
use onebit::{Graph, passes};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Opens a model file; any other network is imported and optimised in memory, and what the import assumed is
/// said on stderr.
pub fn open(path: &Path) -> Result<ModelFile> {
    if is_model_file(path)? {
        return Ok(ModelFile::open(path)?);
    }
    if !IMPORTERS.iter().any(|i| i.detects(path)) {
        bail!(
            "{}: is neither a onebit model nor a network of a known format ({})",
            path.display(),
            formats()
        );
    }
    let imported = import(path, &ImportOptions::default())?;
    warn(&imported.notes);
    let mut graph = imported.graph;
    passes::optimize(&mut graph).with_context(|| path.display().to_string())?;
    warn(&graph.notes);
    let (model, meta) = graph.into_model()?;
    Ok(ModelFile::from_bytes(file::to_bytes(&model, &meta)?))
}

/// Imports a network of another framework.
pub fn import(path: &Path, options: &ImportOptions) -> Result<import::Imported> {
    if is_model_file(path)? {
        bail!("{} is a onebit model already; --quantize makes integers of its floats", path.display());
    }
    Ok(import::import(path, options)?)
}

/// The network of a model file, ready to be rewritten.
pub fn graph(path: &Path) -> Result<Graph> {
    let file = ModelFile::open(path)?;
    let (model, meta) = file.load()?;
    Ok(Graph::from_model(&model, meta))
}

/// Says what an import assumed.
pub fn warn(notes: &[String]) {
    for note in notes {
        text::note(&format!("warning: {note}"));
    }
}

/// Formats that can be imported.
pub fn formats() -> String {
    IMPORTERS.iter().map(|i| i.name()).collect::<Vec<_>>().join(", ")
}

/// Bytes of a file, or of the files right inside a folder; 0 where nothing can be read.
pub fn size(path: &Path) -> u64 {
    let file = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|e| file(&e.path())).sum(),
        Err(_) => file(path),
    }
}

/// True when both paths are one existing file.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Model files are safetensors files: the length of a JSON object, then the object.
pub fn is_model_file(path: &Path) -> Result<bool> {
    let kind = std::fs::metadata(path).map_err(Error::io(path))?;
    if kind.is_dir() {
        return Ok(false);
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(Error::io(path))?;
    file.take(9).read_to_end(&mut head).map_err(Error::io(path))?;
    Ok(head.len() == 9 && head[8] == b'{')
}
