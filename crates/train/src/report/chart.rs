//! Curves over epochs, as SVG.
//!
//! Colours come from the page: series `i` has the class `s0`, `s1`, ... or an own colour, axes the class `axis`.

use super::text::{escape, significant};
use std::fmt::Write;

/// One curve.
pub struct Series {
    /// What it is, for the legend.
    pub name: String,
    /// Pairs of epoch and value; what is no number leaves a gap.
    pub points: Vec<(f64, f64)>,
    /// Any CSS colour.
    pub colour: String,
}

/// How values are laid out and written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From the smallest to the largest value.
    Linear,
    /// The same, with values written as percent.
    Percent,
    /// Powers of ten, written as percent; values that are not above 0 leave a gap.
    LogPercent,
}

/// A diagram with a title, a legend below, and an epoch marked by a line.
pub struct Chart {
    /// Title.
    pub title: &'static str,
    /// The curves.
    pub series: Vec<Series>,
    /// How values are laid out.
    pub scale: Scale,
    /// Epoch to mark.
    pub mark: Option<f64>,
}

/// Pixels of a diagram, and of the room left of, right of, above and below the curves.
const SIZE: [f64; 2] = [520.0, 260.0];
const ROOM: [f64; 4] = [58.0, 14.0, 10.0, 34.0];
/// With more points than this a curve has no dots.
const DOTS: usize = 60;

impl Chart {
    /// The diagram as a `figure`, or nothing where no value is a number.
    pub fn html(&self) -> String {
        let Some(frame) = Frame::new(self) else { return String::new() };
        let mut out = format!("<figure><h3>{}</h3>", escape(self.title));
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
            SIZE[0],
            SIZE[1],
            escape(self.title)
        );
        frame.axes(&mut out);
        if let Some(x) = self.mark.filter(|x| (frame.x[0]..=frame.x[1]).contains(x)) {
            let x = frame.at_x(x);
            let (top, bottom) = (ROOM[2], SIZE[1] - ROOM[3]);
            let _ = write!(
                out,
                "<path class=\"mark\" d=\"M{x:.1} {top}V{bottom}\"><title>best epoch</title></path>"
            );
        }
        for series in &self.series {
            frame.curve(series, &mut out);
        }
        out.push_str("</svg><figcaption>");
        for series in &self.series {
            let _ = write!(
                out,
                "<span><i style=\"background:{}\"></i>{}</span>",
                series.colour,
                escape(&series.name)
            );
        }
        out.push_str("</figcaption></figure>\n");
        out
    }
}

/// The ranges shown; values are those of the axis (logarithms on a logarithmic one).
struct Frame {
    scale: Scale,
    x: [f64; 2],
    y: [f64; 2],
}

impl Frame {
    /// None where there is nothing to show.
    fn new(chart: &Chart) -> Option<Self> {
        let scale = chart.scale;
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold([f64::INFINITY, f64::NEG_INFINITY], |r, v| [r[0].min(v), r[1].max(v)])
        };
        let points = || chart.series.iter().flat_map(|s| &s.points);
        // Epochs of gaps count too, so that all diagrams of a run have the same axis.
        let x = range(&mut points().map(|p| p.0));
        let y = range(&mut points().filter_map(|p| axis(scale, p.1)));
        if y[0] > y[1] {
            return None;
        }
        // A single epoch, or values that are all the same, are drawn in the middle.
        let x = if x[1] - x[0] < 1.0 { [x[0] - 0.5, x[1] + 0.5] } else { x };
        let room = 0.05 * (y[1] - y[0]);
        let room = if room > 1e-12 { room } else { (0.05 * y[0].abs()).max(1e-3) };
        // What cannot be negative has no axis below 0.
        let least = if y[0] >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        Some(Frame { scale, x, y: [(y[0] - room).max(least), y[1] + room] })
    }
    fn at_x(&self, x: f64) -> f64 {
        ROOM[0] + (x - self.x[0]) / (self.x[1] - self.x[0]) * (SIZE[0] - ROOM[0] - ROOM[1])
    }
    fn at_y(&self, y: f64) -> f64 {
        SIZE[1] - ROOM[3] - (y - self.y[0]) / (self.y[1] - self.y[0]) * (SIZE[1] - ROOM[2] - ROOM[3])
    }

    fn axes(&self, out: &mut String) {
        let (left, right, bottom) = (ROOM[0], SIZE[0] - ROOM[1], SIZE[1] - ROOM[3]);
        let least = if self.scale == Scale::LogPercent { 1.0 } else { 0.0 };
        let marks = ticks(self.y, 6, least);
        let step = if marks.len() > 1 { marks[1] - marks[0] } else { 1.0 };
        for tick in marks {
            let y = self.at_y(tick);
            let label = match self.scale {
                Scale::Linear => decimals(tick, step),
                Scale::Percent => format!("{} %", decimals(100.0 * tick, 100.0 * step)),
                Scale::LogPercent => format!("{} %", significant(10f64.powf(tick + 2.0), 1)),
            };
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/><text class=\"y\" x=\"{}\" y=\"{:.1}\">{label}</text>",
                left - 6.0,
                y + 3.5
            );
        }
        for tick in ticks(self.x, 8, 1.0) {
            let x = self.at_x(tick);
            let _ = write!(
                out,
                "<path class=\"axis\" d=\"M{x:.1} {bottom}v4\"/><text class=\"x\" x=\"{x:.1}\" y=\"{}\">{tick:.0}</text>",
                bottom + 16.0
            );
        }
        let _ = write!(out, "<path class=\"axis\" d=\"M{left} {bottom}H{right}\"/>");
        let _ = write!(
            out,
            "<text class=\"x\" x=\"{}\" y=\"{}\">epoch</text>",
            (left + right) / 2.0,
            SIZE[1] - 3.0
        );
    }

    fn curve(&self, series: &Series, out: &mut String) {
        let mut path = String::new();
        let mut dots = String::new();
        let mut pen = 'M';
        let seen = || series.points.iter().filter(|p| axis(self.scale, p.1).is_some());
        let single = seen().count() == 1;
        for &(x, value) in &series.points {
            let Some(y) = axis(self.scale, value) else {
                pen = 'M';
                continue;
            };
            let (px, py) = (self.at_x(x), self.at_y(y));
            let _ = write!(path, "{pen}{px:.1} {py:.1}");
            pen = 'L';
            if series.points.len() <= DOTS {
                let shown = match self.scale {
                    Scale::Linear => significant(value, 4),
                    _ => format!("{} %", significant(100.0 * value, 4)),
                };
                let _ = write!(
                    dots,
                    "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"{}\"><title>{}, epoch {x:.0}: {shown}</title></circle>",
                    if single { 4.0 } else { 2.0 },
                    escape(&series.name)
                );
            }
        }
        let _ = write!(
            out,
            "<g style=\"stroke:{0};fill:{0}\"><path class=\"curve\" d=\"{path}\"/>{dots}</g>",
            series.colour
        );
    }
}

/// Where a value is on its axis, if it can be shown.
fn axis(scale: Scale, value: f64) -> Option<f64> {
    let y = if scale == Scale::LogPercent { value.log10() } else { value };
    // Beyond this, differences of numbers are no longer finite.
    (y.is_finite() && y.abs() < 1e100).then_some(y)
}

/// Round numbers in a range, about `n` of them, at least `least` apart.
fn ticks(range: [f64; 2], n: usize, least: f64) -> Vec<f64> {
    let wanted = (range[1] - range[0]) / n as f64;
    let power = 10f64.powf(wanted.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= wanted * 0.999);
    let step = step.unwrap_or(wanted).max(least);
    let first = (range[0] / step).ceil();
    (0..=2 * n).map(|i| (first + i as f64) * step).take_while(|t| *t <= range[1]).collect()
}

/// A number with the decimals that multiples of `step` need.
fn decimals(x: f64, step: f64) -> String {
    if x.abs() >= 1e7 || (step < 1e-4 && x != 0.0) {
        return significant(x, 3);
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    // Not `-0`.
    format!("{:.decimals$}", if x.abs() < step / 1e3 { 0.0 } else { x })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, values: &[f64]) -> String {
        let points = values.iter().enumerate().map(|(i, v)| (i as f64 + 1.0, *v)).collect();
        let series = vec![Series { name: "<s>".into(), points, colour: "red".into() }];
        Chart { title: "t", series, scale, mark: Some(2.0) }.html()
    }

    #[test]
    fn numbers_on_axes_are_round() {
        assert_eq!(ticks([0.0, 1.0], 5, 0.0).len(), 6);
        assert_eq!(ticks([1.0, 20.0], 8, 1.0), [5.0, 10.0, 15.0, 20.0]);
        assert_eq!(ticks([0.5, 1.5], 8, 1.0), [1.0]);
        assert_eq!(decimals(0.30000000000000004, 0.1), "0.3");
        assert_eq!(decimals(-1e-17, 0.1), "0.0");
    }

    #[test]
    fn values_that_are_no_numbers_leave_gaps() {
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -f64::MAX];
        for scale in [Scale::Linear, Scale::Percent, Scale::LogPercent] {
            let gaps = chart(scale, &[0.5, bad[0], 0.25, 0.125, bad[1], bad[2], 0.1]);
            assert!(!gaps.contains("NaN") && !gaps.contains("inf"), "{gaps}");
            let path = gaps.split("class=\"curve\" d=\"").nth(1).unwrap().split('"').next().unwrap();
            assert_eq!(path.matches('M').count(), 3, "{path}");
            assert_eq!(gaps.matches("<circle").count(), 4);
            assert!(gaps.contains("&lt;s&gt;") && !gaps.contains("<s>"));
            assert_eq!(chart(scale, &bad[..3]), "");
            assert_eq!(chart(scale, &[]), "");
        }
        for scale in [Scale::Linear, Scale::Percent, Scale::LogPercent] {
            for values in [&[0.3][..], &[0.3, 0.3, 0.3], &[1e-300, 1.0, 1e99], &[1e-30, 2e-30]] {
                let text = chart(scale, values);
                assert!(text.contains("<svg") && !text.contains("NaN") && !text.contains("inf"), "{text}");
            }
        }
    }

    #[test]
    fn zeros_are_left_out_of_logarithms() {
        assert_eq!(chart(Scale::LogPercent, &[0.0, 0.01, 0.001, 0.0]).matches("<circle").count(), 2);
        assert!(chart(Scale::LogPercent, &[0.01, 0.001]).contains("0.1 %"));
    }
}
