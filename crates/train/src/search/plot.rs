//! The networks of a search as one SVG that needs nothing else: accuracy against RAM, flash and instructions.

use super::Found;
use super::cost::Cost;
use crate::report::text::{escape, grouped, percent};
use std::fmt::Write;

/// Pixels of a panel, and of the room left of, right of, above and below the points.
const SIZE: [f64; 2] = [380.0, 330.0];
const ROOM: [f64; 4] = [56.0, 14.0, 40.0, 46.0];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#5d6675}.title{font-weight:600;fill:#1c2330;font-size:14px}\
    .grid{stroke:#e3e6eb}.axis{stroke:#5d6675;fill:none}.budget{stroke:#d9480f;stroke-dasharray:5 4}.budget-text{fill:#d9480f}\
    .short{fill:#9aa4b2}.last{fill:#2563eb}.front{stroke:#2563eb;fill:none;stroke-width:1.6}\
    .x{text-anchor:middle}.y{text-anchor:end}";

/// A network in the panels.
struct Dot {
    name: String,
    accuracy: f64,
    cost: Cost,
    /// Trained to the end, and within the budget.
    last: bool,
    /// 0 after the shortest training, 1 after the longest.
    trained: f64,
}

/// The panels.
pub fn svg(found: &Found) -> String {
    let rungs = found.settings.rungs.len().max(1) as f64;
    let dots: Vec<Dot> = found
        .trials
        .iter()
        .filter_map(|t| {
            let trained = t.last.as_ref().or(t.rungs.last()).filter(|r| r.failed.is_none())?;
            let cost = trained.cost.unwrap_or(t.cost);
            Some(Dot {
                name: format!("{}: {}", t.name(), t.point),
                accuracy: trained.valid_accuracy,
                cost,
                last: t.last.is_some() && found.settings.budget.allows(&cost),
                trained: t.rungs.len() as f64 / rungs,
            })
        })
        .collect();
    let [width, height] = [3.0 * SIZE[0], SIZE[1]];
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <style>{STYLE}</style><rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let titles = ["RAM, bytes", "flash, bytes", "instructions"];
    for (axis, title) in titles.into_iter().enumerate() {
        let _ = write!(out, "<g transform=\"translate({} 0)\">", axis as f64 * SIZE[0]);
        panel(&dots, axis, found.settings.budget.axes()[axis], title, &mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// Accuracies are drawn by their errors, on a logarithmic axis.
fn height(accuracy: f64) -> f64 {
    -(1.0 - accuracy).max(5e-4).log10()
}

/// Ends of an axis with some room; a single value is in the middle.
fn range(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[l, h], v| [l.min(v), h.max(v)]);
    let room = (0.06 * (high - low)).max(0.02);
    (low <= high).then_some([low - room, high + room])
}

fn panel(dots: &[Dot], axis: usize, budget: Option<u64>, title: &str, out: &mut String) {
    let log = |n: u64| (n.max(1) as f64).log10();
    let costs = dots.iter().map(|d| log(d.cost.axes()[axis]));
    let (Some(xs), Some(ys)) =
        (range(costs.chain(budget.map(log))), range(dots.iter().map(|d| height(d.accuracy))))
    else {
        return;
    };
    let (left, right) = (ROOM[0], SIZE[0] - ROOM[1]);
    let (top, bottom) = (ROOM[2], SIZE[1] - ROOM[3]);
    let at_x = |v: f64| left + (v - xs[0]) / (xs[1] - xs[0]) * (right - left);
    let at_y = |v: f64| bottom - (v - ys[0]) / (ys[1] - ys[0]) * (bottom - top);
    let _ =
        write!(out, "<text class=\"title\" x=\"{left}\" y=\"22\">Validation accuracy against {title}</text>");
    for accuracy in [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.997, 0.999]
    {
        let v = height(accuracy);
        if (ys[0]..=ys[1]).contains(&v) {
            let y = at_y(v);
            let label = format!("{} %", (accuracy * 1000.0).round() / 10.0);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/><text class=\"y\" x=\"{}\" y=\"{:.1}\">{label}</text>",
                left - 6.0,
                y + 4.0
            );
        }
    }
    for power in 0..16 {
        for digit in [1u64, 2, 5] {
            let n = digit * 10u64.pow(power);
            if (xs[0]..=xs[1]).contains(&log(n)) {
                let x = at_x(log(n));
                let _ = write!(
                    out,
                    "<path class=\"axis\" d=\"M{x:.1} {bottom}v4\"/><text class=\"x\" x=\"{x:.1}\" y=\"{}\">{}</text>",
                    bottom + 18.0,
                    short(n)
                );
            }
        }
    }
    let _ = write!(out, "<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\"/>");
    if let Some(budget) = budget {
        let x = at_x(log(budget));
        let _ = write!(
            out,
            "<path class=\"budget\" d=\"M{x:.1} {top}V{bottom}\"/><text class=\"budget-text y\" x=\"{:.1}\" y=\"{}\">{}</text>",
            x + 6.0,
            top - 4.0,
            grouped(budget)
        );
    }
    out.push_str(&staircase(dots, axis, &|cost, accuracy| [at_x(log(cost)), at_y(height(accuracy))], right));
    for d in dots {
        let cost = d.cost.axes()[axis];
        let (class, radius, opacity) = if d.last {
            ("last", 4.5, 1.0)
        } else {
            ("short", 2.0 + 1.5 * d.trained, 0.35 + 0.5 * d.trained)
        };
        let _ = write!(
            out,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" opacity=\"{opacity:.2}\"><title>{} — {} — {}</title></circle>",
            at_x(log(cost)),
            at_y(height(d.accuracy)),
            escape(&d.name),
            percent(d.accuracy),
            grouped(cost)
        );
    }
}

/// The front of this axis alone: the best accuracy for at most so much.
fn staircase(dots: &[Dot], axis: usize, at: &dyn Fn(u64, f64) -> [f64; 2], right: f64) -> String {
    let mut last: Vec<&Dot> = dots.iter().filter(|d| d.last).collect();
    last.sort_by(|a, b| {
        a.cost.axes()[axis].cmp(&b.cost.axes()[axis]).then(b.accuracy.total_cmp(&a.accuracy))
    });
    let mut path = String::new();
    let mut best = f64::NEG_INFINITY;
    for d in last {
        if d.accuracy > best {
            best = d.accuracy;
            let [x, y] = at(d.cost.axes()[axis], d.accuracy);
            let _ =
                if path.is_empty() { write!(path, "M{x:.1} {y:.1}") } else { write!(path, "H{x:.1}V{y:.1}") };
        }
    }
    if path.is_empty() { path } else { format!("<path class=\"front\" d=\"{path}H{right}\"/>") }
}

/// `1500` as `1.5k`.
fn short(n: u64) -> String {
    let with = |size: f64, unit: &str| format!("{}{unit}", (n as f64 / size * 100.0).round() / 100.0);
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => with(1e3, "k"),
        _ => with(1e6, "M"),
    }
}
