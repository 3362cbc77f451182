//! `onebit convert --verify`: what a converted network puts out beside what its source put out.

use super::tensor;
use crate::text::{note, plural, print_json};
use crate::{Global, network};
use anyhow::{Result, bail};
use onebit::core::cases::Rng;
use onebit::core::model::Model;
use onebit::core::types::Shape;
use onebit::data::npy;
use onebit::meta::Layout;
use onebit::session::Elements;
use onebit::{Error, Meta, Session};
use serde::Serialize;
use std::path::Path;

/// Most samples that are named one by one.
const MOST_LINES: usize = 10;
/// By how much inputs are changed to see whether a sample is a near tie.
const NUDGE: f32 = 1e-6;

/// How outputs compare with expected ones.
#[derive(Serialize)]
pub struct Verification {
    /// Samples compared.
    samples: usize,
    /// Largest difference.
    max_abs: f64,
    /// The same as a part of the largest expected number, or of 1 if that is larger.
    max_rel: f64,
    /// Where it is.
    at: Place,
    /// Samples whose largest output is at the expected place.
    argmax_equal: usize,
    /// Whether no sample differs by more than the tolerance.
    ok: bool,
    /// Samples that do, worst first.
    beyond: Vec<Sample>,
}

#[derive(Serialize)]
struct Place {
    sample: usize,
    /// Axes as in the source.
    index: Vec<usize>,
}

#[derive(Serialize)]
struct Sample {
    sample: usize,
    max_rel: f64,
    argmax_equal: bool,
    /// Changing its input by a millionth moves the output as far.
    near_tie: bool,
}

/// Compares the outputs for the samples of one file with those of another. Differences beyond the tolerance are said
/// on stderr, sample by sample.
///
/// # Errors
/// When a file cannot be read or has the wrong shape; not when numbers differ.
pub fn verify(
    model: &Model<'_>,
    meta: &Meta,
    [input, expected]: [&Path; 2],
    tolerance: f64,
    global: &Global,
) -> Result<Verification> {
    let session = Session::new(model, meta.clone(), &global.session())?;
    let layout = meta.input.layout;
    let read = |path: &Path, shape, role| {
        let array = npy::open(path)?;
        tensor::samples(array, shape, layout, role).map_err(|e| Error::file(path, e))
    };
    let x = read(input, session.input().shape, "takes")?;
    let want = read(expected, session.output().shape, "puts out")?;
    let (size, width) = (session.input().shape.elements(), session.output().shape.elements());
    if x.len() / size != want.len() / width {
        bail!(
            "{}: has {}, but {} has {}",
            expected.display(),
            plural(want.len() / width, "sample"),
            input.display(),
            plural(x.len() / size, "sample")
        );
    }
    let run = |x: &[f32]| -> Result<Vec<f32>> {
        let outputs = session.run_elements(Elements::F32(x)).map_err(|e| e.in_file(input))?;
        Ok(outputs.into_iter().flat_map(|o| o.scores).collect())
    };
    let got = run(&x)?;
    let largest = want.iter().filter(|v| v.is_finite()).fold(1f64, |m, v| m.max(f64::from(v.abs())));
    let pairs = got.chunks_exact(width).zip(want.chunks_exact(width)).enumerate();
    let (mut worst, mut argmax_equal, mut beyond) = ((0.0, 0, 0), 0, Vec::new());
    for (sample, (got, want)) in pairs {
        let (difference, index) = furthest(got, want);
        if difference > worst.0 {
            worst = (difference, sample, index);
        }
        let same = argmax(got) == argmax(want);
        argmax_equal += usize::from(same);
        let max_rel = difference / largest;
        if max_rel > tolerance {
            beyond.push(Sample { sample, max_rel, argmax_equal: same, near_tie: false });
        }
    }
    beyond.sort_by(|a, b| b.max_rel.total_cmp(&a.max_rel));
    for b in beyond.iter_mut().take(MOST_LINES) {
        let place = b.sample * width..(b.sample + 1) * width;
        let moved = run(&nudged(&x[b.sample * size..][..size])).ok();
        b.near_tie = moved.is_some_and(|moved| {
            let moves = moved.chunks_exact(width).map(|m| furthest(m, &got[place.clone()]).0 / largest);
            moves.fold(0.0, f64::max) > tolerance
        });
    }
    let shape = session.output().shape;
    let result = Verification {
        samples: want.len() / width,
        max_abs: worst.0,
        max_rel: worst.0 / largest,
        at: Place { sample: worst.1, index: axes(worst.2, shape, layout) },
        argmax_equal,
        ok: beyond.is_empty(),
        beyond,
    };
    result.complain();
    Ok(result)
}

impl Verification {
    /// Ends the command where numbers differ by more than the tolerance; with `--json` the numbers are printed first.
    ///
    /// # Errors
    /// Then.
    pub fn demand(&self, tolerance: f64, source: &Path, output: &Path, global: &Global) -> Result<()> {
        if self.ok {
            return Ok(());
        }
        if global.json {
            print_json(&serde_json::json!({ "source": source, "verify": self }))?;
        }
        bail!(
            "{}: {} of {} differ from what is expected by more than {tolerance} of the largest output, at most by {:.2e} of it in sample {} at {:?}; {} is not written",
            source.display(),
            self.beyond.len(),
            plural(self.samples, "sample"),
            self.max_rel,
            self.at.sample,
            self.at.index,
            output.display()
        )
    }

    /// The numbers in one line.
    pub fn text(&self) -> String {
        if self.max_abs == 0.0 {
            return format!("{}, every number is equal", plural(self.samples, "sample"));
        }
        format!(
            "{}, same class in {}; largest difference {:.2e}, {:.2e} of the largest output, in sample {} at {:?}",
            plural(self.samples, "sample"),
            self.argmax_equal,
            self.max_abs,
            self.max_rel,
            self.at.sample,
            self.at.index
        )
    }

    fn complain(&self) {
        for b in self.beyond.iter().take(MOST_LINES) {
            let class = if b.argmax_equal { "same class" } else { "another class" };
            let tie = match b.near_tie {
                true => {
                    "; a near tie: a sign flips when its input changes by a millionth, so sums rounded in another order may explain it"
                }
                false => "",
            };
            network::warn(&[format!(
                "sample {} differs by {:.2e} of the largest output, {class}{tie}",
                b.sample, b.max_rel
            )]);
        }
        if self.beyond.len() > MOST_LINES {
            note(&format!("warning: so do {} more", plural(self.beyond.len() - MOST_LINES, "sample")));
        }
    }
}

/// Largest difference and where it is; what is no number differs from all numbers.
fn furthest(got: &[f32], want: &[f32]) -> (f64, usize) {
    let difference =
        |(a, b): (&f32, &f32)| match (a == b || (a.is_nan() && b.is_nan()), a.is_nan() || b.is_nan()) {
            (true, _) => 0.0,
            (_, true) => f64::INFINITY,
            _ => (f64::from(*a) - f64::from(*b)).abs(),
        };
    let all = got.iter().zip(want).map(difference).enumerate();
    all.fold((0.0, 0), |worst, (i, d)| if d > worst.0 { (d, i) } else { worst })
}

/// Place of the first largest number.
fn argmax(v: &[f32]) -> usize {
    (1..v.len()).fold(0, |best, i| if v[i] > v[best] { i } else { best })
}

/// Copies of a sample with every number changed a little, up or down.
fn nudged(x: &[f32]) -> Vec<f32> {
    let mut rng = Rng::new(1);
    let signs = move || if rng.word() & 1 == 0 { NUDGE } else { -NUDGE };
    x.iter().cycle().take(8 * x.len()).zip(std::iter::repeat_with(signs)).map(|(x, s)| x + x * s).collect()
}

/// Axes of element `i` of `[h][w][c]`, in the order of the source.
fn axes(i: usize, shape: Shape, layout: Layout) -> Vec<usize> {
    let (y, x, c) = (i / shape.c / shape.w, i / shape.c % shape.w, i % shape.c);
    match layout {
        _ if shape.pixels() == 1 => vec![c],
        Layout::Nchw => vec![c, y, x],
        Layout::Nhwc => vec![y, x, c],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit::Graph;
    use onebit::core::model::{Op, Params, Tensor};
    use onebit::core::ops::{Sign, Zero};
    use onebit::core::types::{DType, ValueType};

    #[test]
    fn differences_of_numbers_and_of_what_is_none() {
        assert_eq!(furthest(&[1.0, 2.0], &[1.0, -2.0]), (4.0, 1));
        assert_eq!(furthest(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY]), (0.0, 0));
        assert_eq!(furthest(&[1.0, f32::NAN], &[1.0, 1.0]), (f64::INFINITY, 1));
        assert_eq!(furthest(&[f32::INFINITY], &[1.0]), (f64::INFINITY, 0));
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }

    #[test]
    fn places_have_the_axes_of_the_source() {
        let shape = Shape::new(2, 3, 5);
        assert_eq!(axes(5 * 4 + 2, shape, Layout::Nhwc), [1, 1, 2]);
        assert_eq!(axes(5 * 4 + 2, shape, Layout::Nchw), [2, 1, 1]);
        assert_eq!(axes(7, Shape::vector(9), Layout::Nchw), [7]);
    }

    #[test]
    fn near_ties_are_told_from_wrong_numbers() {
        let mut graph = Graph::new(ValueType::new(Shape::vector(2), DType::F32), Meta::default());
        let weight = Some(Tensor::f32_matrix(1, 2, vec![1.0, -1.0]));
        let x = graph.add("sum", Op::Dense, &[0], Params { weight, ..Params::default() }).unwrap();
        let sign = Op::Sign(Sign { zero: Zero::Positive });
        let x = graph.add("sign", sign, &[x], Params::default()).unwrap();
        graph.add("number", Op::Decode, &[x], Params::default()).unwrap();
        let (model, meta) = graph.into_model().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (x, y) = (dir.path().join("x.npy"), dir.path().join("y.npy"));
        npy::save(&x, &[3, 2], &[7.0, 7.0, 3.0, 1.0, 1.0, 3.0]).unwrap();
        npy::save(&y, &[3, 1], &[-1.0, 1.0, 1.0]).unwrap();
        let global = Global { threads: None, isa: None, json: false };
        let result = verify(&model, &meta, [&x, &y], 1e-4, &global).unwrap();
        let beyond: Vec<_> = result.beyond.iter().map(|b| (b.sample, b.near_tie)).collect();
        assert_eq!(beyond, [(0, true), (2, false)]);
        assert_eq!((result.samples, result.max_abs, result.ok), (3, 2.0, false));
        assert!(result.demand(1e-4, &x, &y, &global).unwrap_err().to_string().contains("2 of 3 samples"));
    }
}
