//! `onebit search`: networks that fit a chip.
//!
//! The command is there in every build, so that its help and its errors are; the search itself is behind the feature `train`.

#[cfg(feature = "train")]
mod display;
#[cfg(feature = "train")]
mod job;

use crate::Global;
use anyhow::Result;
use clap::Args;
use onebit::codegen::Target;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  onebit search --data mnist/ --max-ram 2KB --max-flash 15KB --max-instructions 1.5M
  onebit search --data mnist/ --target avr --max-ram 2KB --max-instructions 4.8M --trials 100
  onebit search --print-space > space.toml
  onebit search --data photos/ --space space.toml --max-flash 32KB --out runs/photos
  onebit search --data photos/ --space space.toml --max-flash 32KB --out runs/photos --resume";

/// Finds networks that fit a microcontroller, and trains them
#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[cfg_attr(not(feature = "train"), allow(dead_code))]
pub struct Search {
    /// Pictures, as `onebit train` takes them
    #[arg(long, value_name = "PATH", required_unless_present = "print_space")]
    data: Option<PathBuf>,
    /// RAM for working memory, scores and stack: 2048, 2KB or 2KiB (both are 2048 bytes, as chip vendors count)
    #[arg(long, value_name = "BYTES", value_parser = size)]
    max_ram: Option<u64>,
    /// Flash for constants and code
    #[arg(long, value_name = "BYTES", value_parser = size)]
    max_flash: Option<u64>,
    /// Instructions of an inference, 1500000, 1500k or 1.5M; on avr cycles
    #[arg(long, value_name = "N", value_parser = number)]
    max_instructions: Option<u64>,
    /// The picture counts as RAM too
    #[arg(long)]
    ram_with_input: bool,
    /// Processor: cortex-m4, cortex-m0, avr, rv32imc
    #[arg(long, value_name = "TARGET", default_value = "cortex-m4")]
    target: Target,
    /// What networks there are, as TOML; see --print-space
    #[arg(long, value_name = "FILE")]
    space: Option<PathBuf>,
    /// Networks that are trained
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=9999))]
    trials: u32,
    /// Epochs of those that are trained to the end
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Networks that are trained to the end, at most
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    finals: u32,
    /// Folder of the search
    #[arg(long, value_name = "FOLDER", default_value = "runs/search")]
    out: PathBuf,
    /// Goes on with the search in the folder, or helps another program with it
    #[arg(long)]
    resume: bool,
    /// Decides what is drawn, and all that is random in training
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Uses the first N pictures of each part
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Where to train, as for `onebit train`
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
    /// Prints the space as TOML, and searches nothing
    #[arg(long)]
    print_space: bool,
}

impl Search {
    /// Runs the command.
    #[cfg(feature = "train")]
    pub fn run(&self, global: &Global) -> Result<()> {
        if self.print_space { job::print_space(self, global) } else { job::search(self, global) }
    }

    /// Says how to get what is missing.
    #[cfg(not(feature = "train"))]
    pub fn run(&self, _: &Global) -> Result<()> {
        anyhow::bail!(
            "this build cannot train, so it cannot search; `cargo install --path crates/cli --features train` in the sources of \
             onebit makes one that can"
        )
    }
}

/// Bytes: a number, or one of `KB`, `KiB`, `K` (1024) and `MB`, `MiB`, `M` (1024 * 1024).
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: 15360, 15KB and 15KiB are the same");
    with_unit(
        text,
        &[
            ("KiB", 1024.0),
            ("KB", 1024.0),
            ("MiB", 1048576.0),
            ("MB", 1048576.0),
            ("K", 1024.0),
            ("M", 1048576.0),
            ("B", 1.0),
        ],
    )
    .ok_or_else(wrong)
}

/// A count: a number, or one of thousands (`k`) or millions (`M`).
fn number(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number: 1500000, 1500k and 1.5M are the same");
    with_unit(text, &[("k", 1e3), ("M", 1e6), ("G", 1e9)]).ok_or_else(wrong)
}

/// A number above 0 with one of the units, in capitals or not.
fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<u64> {
    let text = text.trim();
    let ends = |unit: &str| {
        let at = text.len().checked_sub(unit.len())?;
        text.get(at..).filter(|end| end.eq_ignore_ascii_case(unit)).and_then(|_| text.get(..at))
    };
    let (digits, factor) = units.iter().find_map(|(u, f)| Some((ends(u)?, *f))).unwrap_or((text, 1.0));
    let digits = digits.trim_end();
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let n = (digits.parse::<f64>().ok()? * factor).floor();
    // Beyond this, floats are not exact.
    (1.0..9e15).contains(&n).then_some(n as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers() {
        for text in ["15360", "15KB", "15KiB", "15 kb", "15k", "15360B"] {
            assert_eq!(size(text), Ok(15360), "{text}");
        }
        assert_eq!((size("1.25KB"), size("1MB")), (Ok(1280), Ok(1 << 20)));
        for text in ["1500000", "1.5M", "1500k"] {
            assert_eq!(number(text), Ok(1_500_000), "{text}");
        }
        for text in ["", "KB", "-1", "0", "1e3", "nan", "inf", "1.2.3", "15XB", "ü", "99999999999999999999"]
        {
            assert!(size(text).is_err() && number(text).is_err(), "{text}");
        }
    }
}
