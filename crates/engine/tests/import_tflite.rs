//! Networks of TensorFlow Lite and Larq Compute Engine give what their own interpreters give.
//!
//! The networks of `lce-tflite` lie in `fixtures` of the folder that `ONEBIT_SHARED` names, or of `shared` beside the
//! workspace; without it they are skipped.

use onebit::core::model::Op;
use onebit::data::npy;
use onebit::import::{ImportOptions, import};
use onebit::session::Elements;
use onebit::{Graph, Options, Session, passes};
use std::path::{Path, PathBuf};

/// Folders with `model.tflite`, `input.npy` and `expected.npy`.
fn fixtures() -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("ONEBIT_SHARED").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(shared.join("fixtures/lce-tflite")) else {
        eprintln!("skipped: no networks in {} (set ONEBIT_SHARED)", shared.display());
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    folders.sort();
    folders
}

fn outputs(graph: Graph, input: &[f32]) -> Vec<f32> {
    let (model, meta) = graph.into_model().unwrap();
    let session = Session::new(&model, meta, &Options::default()).unwrap();
    session.run_elements(Elements::F32(input)).unwrap().into_iter().flat_map(|o| o.scores).collect()
}

#[test]
fn networks_of_lce_give_the_numbers_of_its_interpreter() {
    for folder in fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let imported = import(&folder.join("model.tflite"), &ImportOptions::default()).unwrap();
        assert_eq!(imported.format, "tflite");
        let input = npy::open(folder.join("input.npy")).unwrap();
        let expected = npy::open(folder.join("expected.npy")).unwrap();
        let mut fused = imported.graph.clone();
        passes::optimize(&mut fused).unwrap();
        let got = outputs(fused.clone(), &input.values);
        assert_eq!(got.len(), expected.values.len(), "{name}");
        let worst = got.iter().zip(&expected.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let count =
            |g: &Graph| g.nodes.iter().filter(|n| matches!(n.op, Op::BConv2d(_) | Op::BDense(_))).count();
        eprintln!("{name}: {worst:e} {} binary of {} layers", count(&fused), fused.nodes.len());
    }
}
#[test]
fn probe() {
    for folder in fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if std::env::var("PROBE").is_ok_and(|p| name.contains(&p)) {
            let imported = import(&folder.join("model.tflite"), &ImportOptions::default()).unwrap();
            println!("{name} {:?}", imported.notes);
            let mut g = imported.graph.clone();
            passes::optimize(&mut g).unwrap();
            for (i, n) in g.nodes.iter().enumerate() {
                println!(
                    "{:3} {:?} {} {:?} {:?} -> {} roles {:?}",
                    i + 1,
                    n.inputs,
                    n.op.name(),
                    n.name,
                    match n.op {
                        Op::BConv2d(c) => format!("{} {}", c.output, c.pad_value),
                        _ => String::new(),
                    },
                    g.ty(i + 1),
                    n.params
                        .each()
                        .map(|(r, t)| format!("{r} {}x{} {}", t.rows, t.cols, t.dtype()))
                        .collect::<Vec<_>>()
                );
            }
        }
    }
}
