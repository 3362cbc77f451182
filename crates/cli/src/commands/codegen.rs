//! `onebit codegen`: a network as source code for microcontrollers.

use crate::text::{Table, count, grouped, plural, print, print_json};
use crate::{Global, network};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use onebit::codegen::{self, Report, Target};
use onebit::{Error, atomic};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Writes a network as source code for microcontrollers: one header without dependencies, and an example
#[derive(Args)]
pub struct Codegen {
    /// Model file, or a network that can be imported
    model: PathBuf,
    /// Language
    #[arg(long, value_enum, default_value = "c")]
    lang: Language,
    /// Folder to write to; it is made where it is missing
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Prefix of all names, and name of the header [default: that of the network]
    #[arg(long)]
    name: Option<String>,
    /// Processor: cortex-m4, cortex-m0, avr, rv32imc, host. The code runs on all; this is what it is made for
    #[arg(long, value_name = "TARGET", default_value = "cortex-m4")]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Language {
    C,
}

#[derive(Serialize)]
struct Written<'a> {
    model: &'a Path,
    lang: Language,
    name: &'a str,
    files: &'a [PathBuf],
    #[serde(flatten)]
    report: &'a Report,
}

impl Codegen {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<()> {
        let file = network::open(&self.model)?;
        let (model, meta) = file.load()?;
        let generated = codegen::generate(&model, &meta, self.target, self.name.as_deref())
            .with_context(|| self.model.display().to_string())?;
        if self.output.exists() && !self.output.is_dir() {
            bail!("{} is no folder; name one with --output", self.output.display());
        }
        std::fs::create_dir_all(&self.output).map_err(Error::io(&self.output))?;
        let header = self.output.join(format!("{}.h", generated.name));
        atomic::replace(&header, generated.header.as_bytes())?;
        let mut files = vec![header];
        let example = self.output.join("main.c");
        // An example that is there may have been changed.
        if !example.exists() {
            atomic::replace(&example, generated.example.as_bytes())?;
            files.push(example);
        }
        let report = &generated.report;
        if global.json {
            let name = &generated.name;
            return print_json(&Written { model: &self.model, lang: self.lang, name, files: &files, report });
        }
        let mut text = format!("{} -> ", self.model.display());
        text.push_str(&files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "));
        let _ = write!(text, "\n{}", totals(report));
        print(&text)
    }
}

/// What the code needs, in lines.
pub fn totals(report: &Report) -> String {
    let unit = if report.target == "avr" { "cycles" } else { "instructions" };
    let input = if report.input_bits { "one bit for each element" } else { "one byte for each element" };
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "  {label:<8} {value}");
    };
    line("target", report.target.clone());
    line("input", format!("{} bytes, {input}", grouped(report.input_bytes as u64)));
    line("flash", format!("{} bytes of constants, and the code", grouped(report.table_bytes as u64)));
    line("RAM", format!("{} bytes of scratch, and the stack", grouped(report.scratch_bytes as u64)));
    line("time", format!("about {} {unit}", count(report.instructions)));
    for note in &report.notes {
        line("note", note.clone());
    }
    text
}

/// The stages of a plan.
pub fn stages(report: &Report) -> String {
    let unit = if report.target == "avr" { ">cycles" } else { ">instructions" };
    let mut table = Table::new(&[
        "layer",
        "op",
        "output",
        ">group",
        ">rows kept",
        ">bytes",
        ">at",
        ">constants",
        ">stack",
        unit,
    ]);
    for s in &report.stages {
        table.row(vec![
            s.layer.clone(),
            s.op.clone(),
            s.output.clone(),
            (s.group + 1).to_string(),
            s.rows.to_string(),
            if s.offset.is_some() { grouped(s.bytes as u64) } else { "scores".into() },
            s.offset.map_or(String::new(), |at| at.to_string()),
            grouped(s.table_bytes as u64),
            grouped(s.stack_bytes as u64),
            grouped(s.instructions),
        ]);
    }
    let groups = report.stages.iter().map(|s| s.group + 1).max().unwrap_or(0);
    format!("{}\n{}; the stages of one run row by row together\n", table.render(), plural(groups, "group"))
}
