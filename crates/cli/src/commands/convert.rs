//! `onebit convert`: a network of another framework becomes a model file; float layers become integers.

use super::explain::{Explanation, explain, table};
use super::quantize::{Quantization, Quantized};
use super::verify::{Verification, verify};
use crate::text::{bytes, count, plural, print, print_json, significant, steps};
use crate::{Global, network};
use anyhow::{Context, Result, bail};
use clap::Args;
use onebit::import::{Classes, ImportOptions, Imported};
use onebit::stats::{Stats, stats};
use onebit::{file, passes};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Makes a model file of a network of another framework
#[derive(Args)]
#[command(after_help = format!("Formats: {}", network::formats()))]
pub struct Convert {
    /// File or folder; the format is detected
    source: PathBuf,
    /// Model file to write
    #[arg(short, long, value_name = "MODEL")]
    output: PathBuf,
    /// Format of the source
    #[arg(long, value_name = "FORMAT")]
    from: Option<String>,
    /// The network's input is (pixel - mean) / std with pixels 0..255: one value, or one for each channel
    #[arg(long, value_name = "M,..", value_delimiter = ',', allow_negative_numbers = true)]
    mean: Vec<f32>,
    /// See --mean
    #[arg(long, value_name = "S,..", value_delimiter = ',', allow_negative_numbers = true)]
    std: Vec<f32>,
    /// Keeps the first N outputs, or names them: a file with one name per line
    #[arg(long, value_name = "N|FILE")]
    classes: Option<String>,
    /// Scales the short side of pictures to this length before the centre is cropped
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// Size of the input, for sources that do not say it: rows, columns and channels
    #[arg(long, value_name = "HxWxC", value_parser = input_size)]
    input: Option<[usize; 3]>,
    /// Name of the network [default: that of the file]
    #[arg(long)]
    name: Option<String>,
    /// Shows every layer, the bits it runs at and its size, and says of those left in float why, and what would change it
    #[arg(long)]
    explain: bool,
    /// Runs the network on an array (first axis = batch, axes in the order of the source) and compares what it puts
    /// out with what the source put out; writes nothing where they differ
    #[arg(long, num_args = 2, value_names = ["INPUT.npy", "EXPECTED.npy"], conflicts_with = "quantize")]
    verify: Option<Vec<PathBuf>>,
    /// Largest difference allowed, as a part of the largest expected number (or of 1, if that is larger)
    #[arg(long, default_value_t = 1e-4, requires = "verify", value_name = "T", value_parser = tolerance, allow_negative_numbers = true)]
    tolerance: f64,
    #[command(flatten)]
    quantization: Quantization,
}

/// From this size on, in bytes, a source is large enough to show that something happens.
const LARGE: u64 = 8_000_000;

/// Longest file of class names.
const MAX_NAMES: u64 = 1 << 20;

#[derive(Serialize)]
struct Report<'a> {
    source: &'a Path,
    format: &'static str,
    output: &'a Path,
    name: &'a str,
    layers: usize,
    parameters: u64,
    binary_macs: u64,
    float_macs: u64,
    file_bytes: u64,
    float32_bytes: u64,
    compression: f64,
    passes: BTreeMap<&'static str, usize>,
    warnings: &'a [String],
    #[serde(flatten)]
    explanation: Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<Verification>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization: Option<Quantized>,
    #[serde(skip)]
    stats: Stats,
}

impl Convert {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let options = ImportOptions {
            from: self.from.clone(),
            mean: self.mean.clone(),
            std: self.std.clone(),
            classes: self.classes.as_deref().map_or(Ok(Classes::FromSource), classes)?,
            name: self.name.clone(),
            resize: self.resize,
            input: self.input,
        };
        if network::is_same_file(&self.source, &self.output) {
            bail!("{} would be overwritten; name another file with --output", self.source.display());
        }
        let large = network::size(&self.source) >= LARGE;
        let bar = if large { steps(4, "reading") } else { indicatif::ProgressBar::hidden() };
        if large {
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
        }
        let next = |message: &'static str| {
            bar.inc(1);
            bar.set_message(message);
        };
        let mut imported = self.read(&options)?;
        bar.suspend(|| network::warn(&imported.notes));
        next("fusing");
        let mut graph = imported.graph;
        let rewrites = passes::optimize(&mut graph).with_context(|| self.source.display().to_string())?;
        let (mut graph, quantization) = bar.suspend(|| self.quantization.run(graph, global))?;
        bar.suspend(|| network::warn(&graph.notes));
        imported.notes.append(&mut graph.notes);
        let (model, meta) = graph.into_model().with_context(|| self.source.display().to_string())?;
        let mut verification = None;
        if let Some([input, expected]) = self.verify.as_deref() {
            next("verifying");
            let done = bar.suspend(|| verify(&model, &meta, [input, expected], self.tolerance, global))?;
            done.demand(self.tolerance, &self.source, &self.output, global)?;
            verification = Some(done);
        }
        next("writing");
        file::save(&model, &meta, &self.output)?;
        bar.finish_and_clear();
        let file_bytes = std::fs::metadata(&self.output).map_err(onebit::Error::io(&self.output))?.len();
        let stats = stats(&model);
        let report = Report {
            source: &self.source,
            format: imported.format,
            output: &self.output,
            name: &meta.name,
            layers: model.nodes().len(),
            parameters: stats.parameters,
            binary_macs: stats.binary_macs,
            float_macs: stats.float_macs,
            file_bytes,
            float32_bytes: stats.float32_bytes,
            compression: stats.float32_bytes as f64 / file_bytes.max(1) as f64,
            passes: rewrites.into_iter().filter(|(_, n)| *n > 0).collect(),
            warnings: &imported.notes,
            explanation: explain(&model, &stats),
            verify: verification,
            quantization,
            stats,
        };
        if global.json { print_json(&report) } else { print(&report.text(self.explain)) }
    }
}

impl Convert {
    /// The source; a model file only where there is something to do with it.
    fn read(&self, options: &ImportOptions) -> Result<Imported> {
        if !self.quantization.is_asked_for() || !network::is_model_file(&self.source)? {
            return network::import(&self.source, options);
        }
        let unused = ImportOptions { name: options.name.clone(), ..ImportOptions::default() };
        if *options != unused {
            bail!(
                "{} is a onebit model, which says itself how it is fed: of the options for sources only --name applies",
                self.source.display()
            );
        }
        let mut graph = network::graph(&self.source)?;
        if let Some(name) = &options.name {
            graph.meta.name.clone_from(name);
        }
        Ok(Imported { graph, format: "onebit", notes: Vec::new() })
    }
}

/// What `--tolerance` says.
fn tolerance(value: &str) -> Result<f64, String> {
    let number = value.parse().ok().filter(|t: &f64| t.is_finite() && *t >= 0.0);
    number.ok_or_else(|| "a number that is not negative is needed".into())
}

/// What `--input` says.
fn input_size(value: &str) -> Result<[usize; 3], String> {
    let sizes: Option<Vec<usize>> = value.split('x').map(|n| n.parse().ok().filter(|n| *n > 0)).collect();
    let sizes = sizes.and_then(|s| <[usize; 3]>::try_from(s).ok());
    sizes.ok_or_else(|| "rows, columns and channels are needed, such as 32x32x3 or 1x1x784".into())
}

/// What `--classes` says: a number, else a file of names.
fn classes(value: &str) -> Result<Classes> {
    if let Ok(n) = value.parse::<usize>() {
        return Ok(Classes::First(n));
    }
    let mut text = String::new();
    let open = std::fs::File::open(value);
    let read = open.and_then(|f| f.take(MAX_NAMES + 1).read_to_string(&mut text));
    read.with_context(|| format!("--classes {value} is no number, and no text file of names"))?;
    if text.len() as u64 > MAX_NAMES {
        bail!("{value}: is larger than 1 MiB; it should contain one class name per line");
    }
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        bail!("{value}: contains no class names; it should contain one per line");
    }
    Ok(Classes::Named(names))
}

impl Report<'_> {
    fn text(&self, explain: bool) -> String {
        let mut text = format!("{} -> {} ({})\n", self.source.display(), self.output.display(), self.format);
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<8} {value}");
        };
        let macs = self.binary_macs + self.float_macs;
        line("layers", format!("{}, {} parameters", self.layers, count(self.parameters)));
        line("MACs", format!("{}: {}", count(macs), self.explanation.summary));
        let than = bytes(self.float32_bytes);
        line(
            "size",
            match self.file_bytes {
                // A device.
                0 => format!("written to no file; {than} of float32"),
                n => {
                    format!("{}, {}x smaller than {than} of float32", bytes(n), significant(self.compression))
                }
            },
        );
        let passes: Vec<String> = self.passes.iter().map(|(name, n)| format!("{name} {n}")).collect();
        line("passes", if passes.is_empty() { "nothing to do".into() } else { passes.join(", ") });
        if let Some(verify) = &self.verify {
            line("verified", verify.text());
        }
        if let Some(quantization) = &self.quantization {
            text.push_str(&quantization.text());
        }
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<8} {value}");
        };
        let float = &self.explanation.float_layers;
        match float.len() {
            _ if self.quantization.is_some() && !explain => {}
            0 => line("float", "no layer is left in float".into()),
            n if !explain => line("float", format!("{}; --explain says why", plural(n, "layer"))),
            n => {
                line("float", plural(n, "layer"));
                text.push_str(&self.explanation.list());
            }
        }
        if explain {
            let _ = write!(text, "\n{}", table(&self.stats));
        }
        text
    }
}
