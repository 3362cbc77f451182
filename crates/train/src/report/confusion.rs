//! The confusion matrix as SVG, and the pairs of classes that are confused most.

use super::text::{escape, grouped, percent};
use std::fmt::Write;

/// Most classes whose matrix is drawn.
pub const MOST: usize = 100;
/// Pairs that are listed.
const PAIRS: usize = 12;

/// The name of a class, or its number.
fn name(classes: &[String], i: usize) -> String {
    classes.get(i).filter(|n| !n.is_empty()).map_or_else(|| i.to_string(), |n| escape(n))
}

/// Pictures of a class.
fn total(row: &[usize]) -> usize {
    row.iter().fold(0, |sum, n| sum.saturating_add(*n))
}

/// A part of `all`, 0 of nothing.
fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// A name of at most 12 characters, from which the middle is left out; escaped after cutting.
fn short(classes: &[String], i: usize) -> String {
    match classes.get(i).map(|n| n.chars().collect::<Vec<_>>()).filter(|n| n.len() > 12) {
        Some(n) => escape(&n[..6].iter().chain(&['…']).chain(&n[n.len() - 5..]).collect::<String>()),
        None => name(classes, i),
    }
}

/// The matrix: a row for each true class, with the share of it that was found.
pub fn matrix(confusion: &[Vec<usize>], classes: &[String]) -> String {
    let n = confusion.len();
    let columns = confusion.iter().map(Vec::len).max().unwrap_or(0);
    if n == 0 || columns == 0 {
        return String::new();
    }
    if n > MOST || columns > MOST {
        return format!(
            "<p>The matrix of {n} classes is not drawn; the pairs below say the most of it.</p>\n"
        );
    }
    let cell = match n.max(columns) {
        0..=10 => 46.0,
        11..=20 => 34.0,
        21..=50 => 24.0,
        // As wide as the page.
        n => (940.0 / n as f64).min(14.0),
    };
    let font = if cell < 30.0 { (cell * 0.75f64).min(10.0) } else { 12.0 };
    let longest = (0..n.max(columns)).map(|i| short(classes, i).chars().count()).max().unwrap_or(1);
    let names = (longest as f64 * font * 0.62).max(14.0) + 10.0;
    let upright = longest as f64 * font * 0.62 < cell;
    let (left, top) = (names + 18.0, 18.0 + if upright { font + 8.0 } else { names });
    let (width, height) = (left + cell * columns as f64 + 60.0, top + cell * n as f64 + 4.0);
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"confusion\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" style=\"font-size:{font}px\" role=\"img\" \
         aria-label=\"confusion matrix\">"
    );
    let middle = |start: f64, i: usize| start + cell * (i as f64 + 0.5);
    let _ = write!(
        out,
        "<text class=\"x\" x=\"{:.1}\" y=\"11\">network's answer</text>\
         <text class=\"x\" transform=\"translate(11 {:.1}) rotate(-90)\">truth</text>\
         <text class=\"recall\" x=\"{:.1}\" y=\"{:.1}\">found</text>",
        left + cell * columns as f64 / 2.0,
        top + cell * n as f64 / 2.0,
        left + cell * columns as f64 + 6.0,
        top - 6.0
    );
    for j in 0..columns {
        let x = middle(left, j);
        let place = if upright {
            format!("class=\"x\" x=\"{x:.1}\" y=\"{:.1}\"", top - 6.0)
        } else {
            format!("transform=\"translate({:.1} {:.1}) rotate(-90)\"", x + font * 0.35, top - 6.0)
        };
        let _ = write!(out, "<text {place}>{}</text>", short(classes, j));
    }
    for (i, row) in confusion.iter().enumerate() {
        let all = total(row);
        let y = middle(top, i) + font * 0.35;
        let _ = write!(
            out,
            "<text class=\"y\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            left - 6.0,
            short(classes, i)
        );
        if let Some(&right) = row.get(i).filter(|_| all > 0) {
            let x = left + cell * columns as f64 + 6.0;
            let _ = write!(
                out,
                "<text class=\"recall\" x=\"{x:.1}\" y=\"{y:.1}\">{:.1} %</text>",
                100.0 * share(right, all)
            );
        }
        for (j, &count) in row.iter().enumerate().filter(|(_, c)| **c > 0) {
            // Few mistakes should be seen beside many right answers.
            let depth =
                if i == j { 0.75 * share(count, all) } else { 0.15 + 0.75 * share(count, all).sqrt() };
            let kind = if i == j { "right" } else { "wrong" };
            let (x0, y0) = (left + cell * j as f64, top + cell * i as f64);
            let size = (cell * 0.38).min(1.7 * cell / count.to_string().len() as f64 * 0.8).min(13.0);
            let _ = write!(
                out,
                "<g><title>{} given {}: {} of {}</title>\
                 <rect class=\"{kind}\" x=\"{x0:.1}\" y=\"{y0:.1}\" width=\"{cell}\" height=\"{cell}\" fill-opacity=\"{depth:.3}\"/>\
                 <text class=\"x\" x=\"{:.1}\" y=\"{:.1}\" style=\"font-size:{size:.1}px\">{count}</text></g>",
                name(classes, i),
                name(classes, j),
                grouped(count),
                grouped(all),
                middle(left, j),
                middle(top, i) + size * 0.35
            );
        }
    }
    let (right, bottom) = (left + cell * columns as f64, top + cell * n as f64);
    let lines: String = (0..=n)
        .map(|i| format!("M{left:.1} {:.1}H{right:.1}", top + cell * i as f64))
        .chain((0..=columns).map(|j| format!("M{:.1} {top:.1}V{bottom:.1}", left + cell * j as f64)))
        .collect();
    let _ = writeln!(out, "<path class=\"grid\" d=\"{lines}\"/></svg></div>");
    out
}

/// A table of the pairs that are confused most, by number of pictures.
pub fn pairs(confusion: &[Vec<usize>], classes: &[String]) -> String {
    let mut wrong: Vec<(usize, usize, usize, usize)> = Vec::new();
    for (i, row) in confusion.iter().enumerate() {
        let all = total(row);
        wrong
            .extend(row.iter().enumerate().filter(|(j, n)| *j != i && **n > 0).map(|(j, n)| (*n, i, j, all)));
    }
    wrong.sort_by_key(|&(n, i, j, _)| (std::cmp::Reverse(n), i, j));
    if wrong.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "<table><caption>Confused most</caption><tr><th>truth<th>answer<th class=\"n\">pictures<th class=\"n\">of the class</tr>\n",
    );
    for &(n, i, j, all) in wrong.iter().take(PAIRS) {
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}</tr>",
            name(classes, i),
            name(classes, j),
            grouped(n),
            percent(share(n, all))
        );
    }
    out.push_str("</table>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_truth() {
        let confusion = [vec![5, 2, 0], vec![0, 3, 1], vec![0, 0, 0]];
        let classes = ["a".into(), "a name that is long".into()];
        let drawn = matrix(&confusion, &classes);
        for part in [
            "a given a name that is long: 2 of 7",
            "long given 2: 1 of 4",
            ">a name… long<",
            ">71.4 %<",
            ">75.0 %<",
        ] {
            assert!(drawn.contains(part), "{part} is missing in {drawn}");
        }
        assert!(!drawn.contains("long given a:") && drawn.matches("class=\"wrong\"").count() == 2);
        // A class without pictures has no share that was found.
        assert_eq!(drawn.matches("class=\"recall\"").count(), 3);
        let listed = pairs(&confusion, &classes);
        let [first, second] = [
            "<td>a<td>a name that is long<td class=\"n\">2<td class=\"n\">28.57 %",
            "long<td>2<td class=\"n\">1",
        ];
        assert!(listed.find(first).unwrap() < listed.find(second).unwrap());
        assert_eq!(pairs(&[vec![3, 0], vec![0, 3]], &[]), "");
    }
}
