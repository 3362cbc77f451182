//! What the user sees: tables, numbers with units, and stdout that may be closed.

use anyhow::Result;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// Writes to stdout; one line feed is added.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.trim_end().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Writes one JSON object to stdout.
pub fn print_json(object: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(object)?)
}

/// Writes a line to stderr; when that is closed, nobody wants to know.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// True when the reader of stdout has gone away, which is no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three significant digits.
pub fn significant(x: f64) -> String {
    let decimals = if x == 0.0 { 0 } else { (2 - x.abs().log10().floor() as i32).clamp(0, 6) };
    format!("{x:.*}", decimals as usize)
}

fn with_unit(x: f64, units: &[(f64, &str)]) -> String {
    let (size, unit) = units.iter().find(|(size, _)| x >= *size).unwrap_or(&units[units.len() - 1]);
    format!("{} {unit}", significant(x / size))
}

/// Bytes as B, kB, MB or GB.
pub fn bytes(n: u64) -> String {
    if n < 1000 {
        return format!("{n} B");
    }
    with_unit(n as f64, &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB")])
}

/// A count as k, M or G.
pub fn count(n: u64) -> String {
    if n < 1000 {
        return n.to_string();
    }
    with_unit(n as f64, &[(1e9, "G"), (1e6, "M"), (1e3, "k")])
}

/// Seconds as s, ms or µs.
pub fn duration(seconds: f64) -> String {
    with_unit(seconds, &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")])
}

/// A part as percent.
pub fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

/// `1 layer`, `2 layers`.
pub fn plural(n: usize, word: &str) -> String {
    format!("{} {word}{}", grouped(n as u64), if n == 1 { "" } else { "s" })
}

/// A table with aligned columns.
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; a column whose heading starts with `>` is aligned to the right.
    pub fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|h| h.starts_with('>')).collect();
        let first = headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        Table { right, rows: vec![first] }
    }
    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
    /// The table as lines; a line of dashes follows the headings.
    pub fn render(&self) -> String {
        let width = |c: usize| self.rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut out = String::new();
        for (i, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).zip(&self.right).map(|((cell, &w), &right)| {
                if right { format!("{cell:>w$}") } else { format!("{cell:<w$}") }
            });
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
            if i == 0 {
                out.push_str(&"─".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
                out.push('\n');
            }
        }
        out
    }
}

/// A progress bar on a terminal, nothing elsewhere.
pub fn progress(total: u64) -> indicatif::ProgressBar {
    let template = "{bar:40} {human_pos}/{human_len} images, {eta} left {msg}";
    // The template is a constant and valid, so the default never shows.
    let style = indicatif::ProgressStyle::with_template(template)
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(total).with_style(style)
}

/// A progress bar of any work on a terminal, nothing elsewhere.
pub fn steps(total: u64, what: &'static str) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{bar:40} {msg}")
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(total).with_style(style).with_message(what)
}

/// A sign of life on a terminal, nothing elsewhere.
pub fn spinner() -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(11_648_000), "11.6 MB");
        assert_eq!(count(2_913_280), "2.91 M");
        assert_eq!(duration(0.000_012_34), "12.3 µs");
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!(duration(3e-8), "0.0300 µs");
        assert_eq!(significant(0.0), "0");
        assert_eq!(significant(1234.5), "1234");
        assert_eq!(significant(-0.5), "-0.500");
        assert_eq!(plural(1, "layer") + &plural(1000, "layer"), "1 layer1,000 layers");
    }

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&["name", ">n"]);
        table.row(vec!["ä".into(), "100".into()]);
        table.row(vec!["long".into(), "1".into()]);
        assert_eq!(table.render(), "name    n\n─────────\nä     100\nlong    1\n");
    }
}
