//! Quantised networks of TensorFlow Lite give the codes of its built-in kernels.
//!
//! Those beside this file were converted by TensorFlow 2.15 from random weights; `x` and `y` are what its interpreter read and
//! put out. `ONEBIT_INT8` names a folder of more of them.

mod golden;

use golden::outputs;
use onebit::data::npy;
use onebit::import::{ImportOptions, import};
use std::path::{Path, PathBuf};

/// Networks of a folder that differ, and by how much; how many there are.
fn differences(folder: &Path) -> (Vec<String>, usize) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "tflite"));
    files.sort();
    let differing = files.iter().filter_map(|path| {
        let imported = match import(path, &ImportOptions::default()) {
            Ok(imported) => imported,
            Err(e) => return Some(e.to_string()),
        };
        let array = |end: &str| npy::open(path.with_extension(end)).unwrap().values;
        let (got, want) = (outputs(&imported.graph, &array("x.npy")), array("y.npy"));
        assert_eq!(got.len(), want.len(), "{}", path.display());
        let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).filter(|d| *d != 0.0);
        let (count, most) = off.fold((0, 0.0), |(n, most), d| (n + 1, d.max(most)));
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        (count > 0).then(|| format!("{name}: {count} of {} codes differ, by at most {most}", want.len()))
    });
    let differing = differing.collect();
    (differing, files.len())
}

#[test]
fn codes_are_those_of_the_built_in_kernels() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/int8");
    for folder in [own].into_iter().chain(std::env::var_os("ONEBIT_INT8").map(PathBuf::from)) {
        let (differing, all) = differences(&folder);
        assert!(differing.is_empty(), "{} of {all} networks: {differing:#?}", differing.len());
    }
}
