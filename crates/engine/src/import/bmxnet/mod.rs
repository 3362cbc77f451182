//! BMXNet: MXNet graphs with binary and k-bit layers (Yang et al. 2017).
//!
//! A network is a file `NAME-EPOCH.params` and its graph `NAME-symbol.json` beside it. Networks of float layers
//! only, plain MXNet, are read as well.

mod layers;
mod lower;
mod params;
mod shapes;
mod symbol;

use super::{ImportOptions, Imported, Importer, build};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::meta::{Layout, Meta};
use onebit_core::types::{DType, ValueType};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The importer.
pub struct BmxNet;

impl Importer for BmxNet {
    fn name(&self) -> &'static str {
        "bmxnet"
    }

    fn detects(&self, path: &Path) -> bool {
        let mut start = [0; 8];
        let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start));
        path.is_file() && read.is_ok() && u64::from_le_bytes(start) == params::MAGIC
    }

    fn import(&self, path: &Path, options: &ImportOptions) -> Result<Imported> {
        let (name, graph_path) = graph_beside(path);
        let text = std::fs::read(&graph_path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                let text = format!("its graph {} is missing: put it beside it", graph_path.display());
                Error::file(path, text)
            }
            _ => Error::io(&graph_path)(source),
        })?;
        let file = std::fs::read(path).map_err(Error::io(path))?;
        let arrays = params::parse(&file).map_err(|e| Error::file(path, e))?;
        let symbol = symbol::Symbol::parse(&text).map_err(|e| e.in_file(&graph_path))?;
        let mut imported = build_graph(&symbol, &arrays, options).map_err(|e| e.in_file(path))?;
        let meta = &mut imported.graph.meta;
        meta.name = build::name(options, &name);
        meta.source = format!("BMXNet network {}", build::file_name(path));
        Ok(imported)
    }
}

/// Name of the network and path of its graph: without the epoch.
fn graph_beside(path: &Path) -> (String, PathBuf) {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let name = match stem.rsplit_once('-') {
        Some((name, epoch)) if !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit()) => {
            name.to_owned()
        }
        _ => stem,
    };
    let graph = path.with_file_name(format!("{name}-symbol.json"));
    (name, graph)
}

fn build_graph(
    symbol: &symbol::Symbol,
    arrays: &std::collections::HashMap<&str, params::Array<'_>>,
    options: &ImportOptions,
) -> Result<Imported> {
    let layers = layers::read(symbol, arrays)?;
    let (shape, note) = shapes::input_shape(&layers)?;
    let mut notes = vec![note];
    let input = build::preprocessing(options, shape, Layout::Nchw, &mut notes)?;
    let meta = Meta { license: "Apache-2.0".into(), input, ..Meta::default() };
    let mut graph = Graph::new(ValueType::new(shape, DType::F32), meta);
    lower::lower(&layers, &mut graph)?;
    build::choose_classes(&mut graph, options)?;
    Ok(Imported { graph, notes, format: BmxNet.name() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_graph_lies_beside_the_parameters() {
        for (file, name) in
            [("a/net-0001.params", "net"), ("a/my-net-12.params", "my-net"), ("a/net-v.params", "net-v")]
        {
            let (found, graph) = graph_beside(Path::new(file));
            assert_eq!((found.as_str(), graph), (name, PathBuf::from(format!("a/{name}-symbol.json"))));
        }
    }
}
