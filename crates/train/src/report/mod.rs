//! The report of a run: one HTML file that needs nothing else, no scripts and no network.
//!
//! A run that is not over has a report too, of what there is so far.

mod chart;
mod confusion;
pub(crate) mod text;

use crate::recipe::Recipe;
use crate::run::record::{Epoch, Log, Outcome};
use chart::{Chart, Scale, Series};
use onebit::error::Result;
use std::fmt::Write;
use std::path::Path;
use text::{bytes, duration, escape, grouped, percent, significant};

/// Differences, and warnings, that are shown.
const SHOWN: usize = 50;

/// Writes the report of a run. An existing file is replaced in one step, or left alone when anything fails.
///
/// # Errors
/// When the file cannot be written.
pub fn write(log: &Log, path: &Path) -> Result<()> {
    onebit::atomic::replace(path, html(log).as_bytes())
}

/// The report as HTML.
pub fn html(log: &Log) -> String {
    let name = if log.name.is_empty() { "a network" } else { &log.name };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{0} · onebit train</title>\n<style>{1}</style></head>\n\
         <body><main><h1>{0}</h1>\n",
        escape(name),
        include_str!("style.css")
    );
    header(log, &mut out);
    warnings(log, &mut out);
    charts(log, &mut out);
    if let Some(result) = &log.result {
        test(result, log, &mut out);
    }
    epochs(log, &mut out);
    about(log, &mut out);
    out.push_str("</main></body></html>\n");
    out
}

/// The epoch whose network is exported, or would be now.
fn best(log: &Log) -> Option<&Epoch> {
    match &log.result {
        Some(result) => log.epochs.iter().find(|e| e.epoch == result.best_epoch),
        None => log.epochs.iter().rev().find(|e| e.best),
    }
}

/// The numbers that matter, large.
fn header(log: &Log, out: &mut String) {
    let recipe = Recipe::parse(&log.recipe, &[]).ok();
    if let Some(about) = recipe.as_ref().map(|r| r.about.as_str()).filter(|a| !a.is_empty()) {
        let _ = writeln!(out, "<p class=\"about\">{}</p>", escape(about));
    }
    let done = log.epochs.len();
    let of = recipe.as_ref().map_or(String::new(), |r| format!(" of {}", grouped(r.train.epochs)));
    match &log.result {
        Some(result) => {
            let exact = match result.test {
                Some((_, n)) if n > 0 && result.differences.is_empty() => {
                    " The model file computes what was trained on every test picture."
                }
                _ => "",
            };
            let ended = escape(&sentence(&result.ended));
            let _ = writeln!(out, "<p>{ended} after epoch {}.{exact}</p>", grouped(done));
        }
        None => {
            let _ = writeln!(
                out,
                "<p class=\"open\">This run is not over: {}{of} epochs are done.</p>",
                grouped(done)
            );
        }
    }
    out.push_str("<dl class=\"tiles\">");
    let mut tile = |label: &str, value: String, more: String| {
        let _ = write!(out, "<div><dt>{label}</dt><dd>{value}<small>{more}</small></dd></div>");
    };
    let result = log.result.as_ref();
    if let Some((correct, total)) = result.and_then(|r| r.test) {
        let share = correct as f64 / total as f64;
        tile("test accuracy", percent(share), format!("{} of {}", grouped(correct), grouped(total)));
    }
    if let Some(epoch) = best(log) {
        if let Some(accuracy) = epoch.valid_accuracy {
            tile("best validation", percent(accuracy), format!("epoch {}", epoch.epoch));
        } else {
            tile("training accuracy", percent(epoch.train_accuracy), format!("epoch {}", epoch.epoch));
        }
    }
    if let Some(result) = result {
        tile("model file", bytes(result.file_bytes), String::new());
    }
    let sum = |f: fn(&Epoch) -> f64| log.epochs.iter().map(f).sum();
    let (cpu, wall): (f64, f64) =
        result.map_or_else(|| (sum(|e| e.cpu_seconds), sum(|e| e.seconds)), |r| (r.cpu_seconds, r.seconds));
    tile("cpu-minutes", significant(cpu / 60.0, 3), format!("{} on the clock", duration(wall)));
    let [all, quantised] = log.parameters;
    tile("parameters", grouped(all), format!("{} of them binary or k-bit", grouped(quantised)));
    if let Some(recipe) = &recipe {
        tile("seed", recipe.train.seed.to_string(), String::new());
    }
    let threads = format!("{} thread{}", log.threads, if log.threads == 1 { "" } else { "s" });
    tile("device", escape(&log.device), threads);
    out.push_str("</dl>\n");
}

/// The same text with a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(|| "Ended".into(), |first| first.to_uppercase().chain(letters).collect())
}

fn list(title: &str, class: &str, items: &[String], out: &mut String) {
    if items.is_empty() {
        return;
    }
    let _ = write!(out, "<section class=\"{class}\"><h2>{title}</h2><ul>");
    for item in items.iter().take(SHOWN) {
        let _ = write!(out, "<li>{}", escape(item));
    }
    if items.len() > SHOWN {
        let _ = write!(out, "<li>and {} more", items.len() - SHOWN);
    }
    out.push_str("</ul></section>\n");
}

fn warnings(log: &Log, out: &mut String) {
    list("Warnings", "warnings", &log.warnings, out);
    if let Some(result) = &log.result {
        let title = "Pictures on which the exported network and training differ";
        list(title, "warnings", &result.differences, out);
    }
}

fn charts(log: &Log, out: &mut String) {
    if log.epochs.is_empty() {
        return;
    }
    let mark = best(log).map(|e| e.epoch as f64);
    let series = |name: &str, colour: &str, value: &dyn Fn(&Epoch) -> Option<f64>| Series {
        name: name.into(),
        // What is not there is drawn as what is no number: a gap.
        points: log.epochs.iter().map(|e| (e.epoch as f64, value(e).unwrap_or(f64::NAN))).collect(),
        colour: colour.into(),
    };
    let two = |train: fn(&Epoch) -> f64, valid: fn(&Epoch) -> Option<f64>| {
        let mut both = vec![series("training", "var(--one)", &|e| Some(train(e)))];
        if log.epochs.iter().any(|e| valid(e).is_some()) {
            both.push(series("validation", "var(--two)", &valid));
        }
        both
    };
    let flips = flips(&log.epochs);
    let charts = [
        Chart {
            title: "Accuracy",
            series: two(|e| e.train_accuracy, |e| e.valid_accuracy),
            scale: Scale::Percent,
            mark,
        },
        Chart { title: "Loss", series: two(|e| e.train_loss, |e| e.valid_loss), scale: Scale::Linear, mark },
        Chart {
            title: "Weights that changed sign in the epoch",
            series: flips,
            scale: Scale::LogPercent,
            mark: None,
        },
        Chart {
            title: "Learning rate at the end of the epoch",
            series: vec![series("learning rate", "var(--one)", &|e| Some(e.learning_rate))],
            scale: Scale::Linear,
            mark: None,
        },
    ];
    out.push_str("<section class=\"charts\">\n");
    for chart in &charts {
        out.push_str(&chart.html());
    }
    out.push_str("</section>\n");
}

/// A curve for each layer of binary weights, coloured by its place in the network.
fn flips(epochs: &[Epoch]) -> Vec<Series> {
    let mut layers: Vec<&str> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (name, _) in epochs.iter().flat_map(|e| &e.flips) {
        places.entry(name.as_str()).or_insert_with(|| {
            layers.push(name);
            layers.len() - 1
        });
    }
    let last = layers.len().saturating_sub(1).max(1) as f64;
    // From blue at the input to red at the output, by way of green and yellow.
    let colour = |i: usize| format!("hsl({:.0} 70% 48%)", 220.0 * (1.0 - i as f64 / last));
    let mut series: Vec<Series> = layers
        .iter()
        .enumerate()
        .map(|(i, name)| Series { name: (*name).into(), points: Vec::new(), colour: colour(i) })
        .collect();
    for epoch in epochs {
        for (name, share) in &epoch.flips {
            series[places[name.as_str()]].points.push((epoch.epoch as f64, *share));
        }
    }
    series
}

fn test(result: &Outcome, log: &Log, out: &mut String) {
    let matrix = confusion::matrix(&result.confusion, &log.classes);
    let pairs = confusion::pairs(&result.confusion, &log.classes);
    if matrix.is_empty() && pairs.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<section><h2>Test pictures, classified by the exported network</h2>\n<div class=\"beside\">{matrix}{pairs}</div></section>\n"
    );
}

fn epochs(log: &Log, out: &mut String) {
    let best = best(log).map(|e| e.epoch);
    if log.epochs.is_empty() {
        return;
    }
    out.push_str("<section><h2>Epochs</h2><div class=\"scroll\"><table><thead><tr>");
    let heads = [
        "epoch",
        "steps",
        "train loss",
        "train acc.",
        "valid loss",
        "valid acc.",
        "rate",
        "images/s",
        "time",
    ];
    for head in heads {
        let _ = write!(out, "<th class=\"n\">{head}");
    }
    out.push_str("</tr></thead>\n");
    for e in &log.epochs {
        let class = if best == Some(e.epoch) { " class=\"best\" title=\"the best\"" } else { "" };
        let cells = [
            e.epoch.to_string(),
            grouped(e.steps),
            significant(e.train_loss, 4),
            percent(e.train_accuracy),
            significant(e.valid_loss.unwrap_or(f64::NAN), 4),
            percent(e.valid_accuracy.unwrap_or(f64::NAN)),
            significant(e.learning_rate, 3),
            grouped(e.images_per_second.max(0.0) as u64),
            duration(e.seconds),
        ];
        let _ = write!(out, "<tr{class}>");
        for cell in cells {
            let _ = write!(out, "<td class=\"n\">{cell}");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div></section>\n");
}

/// What is needed to do it again.
fn about(log: &Log, out: &mut String) {
    let [train, valid, test] = log.pictures.map(grouped);
    let _ = write!(
        out,
        "<section><h2>Again</h2><table class=\"facts\">\
         <tr><th>data<td>{}</tr>\
         <tr><th>pictures<td>{train} training, {valid} validation, {test} test</tr>\
         <tr><th>SHA-256 of the training part<td><code>{}</code></tr>\
         <tr><th>made by<td>onebit {}</tr></table>\n<h3>Recipe</h3><pre>{}</pre></section>\n",
        escape(&log.data),
        escape(&log.data_hash),
        escape(&log.version),
        escape(&log.recipe)
    );
}

#[cfg(test)]
mod tests;
