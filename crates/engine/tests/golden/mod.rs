//! Golden networks: models made by the tools of others, an input, and what those tools make of it.
//!
//! They lie in `fixtures` of the folder that `ONEBIT_SHARED` names, or of `shared` beside the workspace; without it they
//! are skipped.
#![allow(dead_code)] // Each test file uses a part.

use onebit::data::npy;
use onebit::import::{ImportOptions, import};
use onebit::meta::Layout;
use onebit::session::Elements;
use onebit::{Graph, Options, Session, passes};
use std::path::{Path, PathBuf};

/// The folders of a set, each with a model, `input.npy`, `expected.npy` and `meta.json`.
pub fn folders(set: &str) -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("ONEBIT_SHARED").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(shared.join("fixtures").join(set)) else {
        eprintln!("skipped: no networks of {set} in {} (set ONEBIT_SHARED)", shared.display());
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    folders.sort();
    folders
}

/// The outputs of all images, one after the other. All passes leave every bit of them as it is.
pub fn outputs(graph: &Graph, input: &[f32]) -> Vec<f32> {
    let run = |graph: Graph| -> Vec<f32> {
        let (model, meta) = graph.into_model().unwrap();
        let session = Session::new(&model, meta, &Options::default()).unwrap();
        session.run_elements(Elements::F32(input)).unwrap().into_iter().flat_map(|o| o.scores).collect()
    };
    let mut fused = graph.clone();
    passes::optimize(&mut fused).unwrap();
    let (plain, fused) = (run(graph.clone()), run(fused));
    assert_eq!(plain, fused, "the passes changed the output");
    fused
}

/// Elements of maps, `[image][h][w][c]` from `[image][c][h][w]`, or the other way round with `back`.
pub fn reordered(values: &[f32], [h, w, c]: [usize; 3], back: bool) -> Vec<f32> {
    let mut all = Vec::with_capacity(values.len());
    for image in values.chunks(h * w * c) {
        all.extend((0..h * w * c).map(|i| match back {
            false => image[(i % c) * h * w + i / c],
            true => image[(i % (h * w)) * c + i / (h * w)],
        }));
    }
    all
}

/// Everything that is wrong with the import of `model`: differences above `allowed` (as a part of the largest expected
/// number, at least 1), other classes.
pub fn faults(folder: &Path, model: &str, allowed: f32) -> Vec<String> {
    let name = format!("{}/{model}", folder.file_name().unwrap().to_string_lossy());
    let graph = match import(&folder.join(model), &ImportOptions::default()) {
        Ok(imported) => imported.graph,
        Err(e) => return vec![e.to_string()],
    };
    let nchw = graph.meta.input.layout == Layout::Nchw;
    let input = npy::open(folder.join("input.npy")).unwrap().values;
    let shape = graph.ty(Graph::INPUT).shape;
    let got = outputs(&graph, &if nchw { reordered(&input, shape.into(), false) } else { input });
    let shape = graph.ty(graph.output).shape;
    let got = if nchw { reordered(&got, shape.into(), true) } else { got };
    let expected = npy::open(folder.join("expected.npy")).unwrap();
    assert_eq!(got.len(), expected.values.len(), "{name}");
    let largest = expected.values.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let each = got.len() / expected.shape[0];
    let fault = |(i, (got, want)): (usize, (&[f32], &[f32]))| {
        let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let right = worst <= allowed * largest && (allowed >= 1e-2 || argmax(got) == argmax(want));
        (!right).then(|| format!("{name}, image {i}: off by {worst}"))
    };
    got.chunks(each).zip(expected.values.chunks(each)).enumerate().filter_map(fault).collect()
}

/// Index of the first largest score.
pub fn argmax(scores: &[f32]) -> usize {
    (0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
}
