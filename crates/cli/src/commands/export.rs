//! `onebit export`: a model for the tools of others.

use crate::text::{bytes, print, print_json};
use crate::{Global, network};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use onebit::export::onnx::{self, Dialect};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Writes a network as an ONNX file
#[derive(Args)]
pub struct Export {
    /// Model file, or a network that can be imported
    model: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// Ops that the file may use: those of ONNX, or those of QONNX too, one input at a time, for the tools of FINN
    #[arg(long, value_enum, default_value = "onnx")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Format {
    Onnx,
    Qonnx,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    output: &'a Path,
    format: Format,
    name: &'a str,
    layers: usize,
    file_bytes: u64,
}

impl Export {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let file = network::open(&self.model)?;
        if network::is_same_file(&self.model, &self.output) {
            bail!("{} would be overwritten; name another file with --output", self.model.display());
        }
        let (model, meta) = file.load()?;
        let dialect = match self.format {
            Format::Onnx => Dialect::Onnx,
            Format::Qonnx => Dialect::Qonnx,
        };
        let file_bytes = onnx::save(&model, &meta, dialect, &self.output)?;
        let report = Report {
            model: &self.model,
            output: &self.output,
            format: self.format,
            name: &meta.name,
            layers: model.nodes().len(),
            file_bytes,
        };
        if global.json {
            return print_json(&report);
        }
        let (from, to) = (self.model.display(), self.output.display());
        print(&format!("{from} -> {to}\n  {} layers, {}", report.layers, bytes(file_bytes)))
    }
}
