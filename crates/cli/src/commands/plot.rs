//! Time against work, as an SVG with one panel for each sweep.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// A curve: pairs of work and microseconds, both above 0.
pub struct Panel {
    /// What is swept.
    pub title: String,
    /// Work and microseconds.
    pub points: Vec<(f64, f64)>,
    /// The least microseconds for a unit of work.
    pub best: f64,
}

const COLUMNS: usize = 3;
/// Pixels of a panel.
const SIZE: (usize, usize) = (420, 340);

/// Draws the panels on logarithmic axes; a grey line is what the work would take if every unit cost the least.
pub fn svg(panels: &[Panel]) -> Result<String> {
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let mut out = String::new();
    draw(panels, rows, &mut out).map_err(|e| anyhow!("the plot cannot be drawn: {e}"))?;
    Ok(out)
}

fn draw(panels: &[Panel], rows: usize, out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let size = ((COLUMNS * SIZE.0) as u32, (rows * SIZE.1) as u32);
    let root = SVGBackend::with_string(out, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(root.split_evenly((rows, COLUMNS))) {
        let linear = |x: f64| x * panel.best;
        let x = range(panel.points.iter().map(|p| p.0));
        let y = range(panel.points.iter().flat_map(|p| [p.1, linear(p.0)]));
        let mut chart = ChartBuilder::on(&area)
            .caption(&panel.title, ("sans-serif", 15))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d((x.0..x.1).log_scale(), (y.0..y.1).log_scale())?;
        let number = |v: &f64| crate::text::significant(*v);
        let work = |v: &f64| crate::text::count(*v as u64);
        chart
            .configure_mesh()
            .x_desc("multiply-adds")
            .y_desc("µs")
            .x_labels(5)
            .y_labels(5)
            .x_label_formatter(&work)
            .y_label_formatter(&number)
            .light_line_style(WHITE)
            .draw()?;
        let ends = [x.0, x.1].map(|x| (x, linear(x)));
        chart.draw_series(LineSeries::new(ends, BLACK.mix(0.35)))?;
        let middle = (x.0 * x.1).sqrt();
        let at = (middle, linear(middle) / 1.5);
        chart.draw_series([Text::new("linear", at, ("sans-serif", 13))])?;
        chart.draw_series(LineSeries::new(panel.points.iter().copied(), BLUE.filled()).point_size(3))?;
    }
    root.present()?;
    Ok(())
}

/// A range with some room around the values.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (lo, hi) = values.fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)));
    (lo / 1.5, hi * 1.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_panel_is_drawn() {
        let panel =
            |title: &str| Panel { title: title.into(), points: vec![(1e3, 1.0), (1e6, 50.0)], best: 5e-5 };
        let text = svg(&[panel("first"), panel("second"), panel("third"), panel("fourth")]).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for word in ["first", "second", "third", "fourth", "multiply-adds", "µs", "linear"] {
            assert!(text.contains(word), "{word}");
        }
        // One line for the measurement and one for linear growth.
        assert!(text.matches("<polyline").count() >= 8 && text.matches("<circle").count() == 8);
    }
}
