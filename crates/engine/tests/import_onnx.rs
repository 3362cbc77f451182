//! ONNX networks of PyTorch, Keras and Brevitas give what onnxruntime and QONNX's executor make of them, and what is
//! exported gives the same when it is imported again.

mod golden;

use golden::{faults, folders, outputs, reordered};
use onebit::core::ops::Op;
use onebit::core::types::DType;
use onebit::data::npy;
use onebit::export::onnx::{Dialect, export};
use onebit::import::{ImportOptions, import};
use onebit::{Graph, zoo};

/// Runs all models of a set; those whose name says so are about ties and must be exact.
fn check(set: &str) {
    let mut all = Vec::new();
    for folder in folders(set) {
        for model in ["model.onnx", "model_clean.onnx", "model_qcdq.onnx"] {
            if folder.join(model).is_file() {
                let exact = set != "qonnx-brevitas" && folder.to_string_lossy().contains("ties");
                all.extend(faults(&folder, model, if exact { 0.0 } else { 1e-5 }));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn networks_of_larq_give_what_onnxruntime_makes_of_them() {
    check("larq-keras-onnx");
}

#[test]
fn networks_of_pytorch_give_what_onnxruntime_makes_of_them() {
    check("torch-onnx");
}

#[test]
fn networks_of_brevitas_give_what_qonnx_makes_of_them() {
    check("qonnx-brevitas");
}

/// All convolutions and dense layers of a network that read bits, and all there are.
fn on_bits(graph: &Graph) -> (usize, usize) {
    let binary = graph.nodes.iter().filter(|n| matches!(n.op, Op::BConv2d(_) | Op::BDense(_))).count();
    let float = graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv2d(_) | Op::Dense)).count();
    (binary, binary + float)
}

#[test]
fn exported_networks_come_back_on_bits_with_the_same_output() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["binarynet-mlp", "binarynet-vgg", "bmxnet-lenet"] {
        let mut graph = zoo::build(name).unwrap().unwrap();
        onebit::passes::optimize(&mut graph).unwrap();
        let input = graph.ty(Graph::INPUT);
        let n = input.shape.elements();
        let numbers: Vec<f32> = (0..n).map(|i| ((i * 2_654_435_761) % 256) as f32).collect();
        let numbers: Vec<f32> = match input.dtype {
            DType::F32 => numbers.iter().map(|v| v / 128.0 - 1.0).collect(),
            _ => numbers,
        };
        let (model, meta) = graph.clone().into_model().unwrap();
        for dialect in [Dialect::Onnx, Dialect::Qonnx] {
            let path = dir.path().join(format!("{name}.onnx"));
            std::fs::write(&path, export(&model, &meta, dialect).unwrap()).unwrap();
            let again = import(&path, &ImportOptions::default()).unwrap().graph;
            assert_eq!(on_bits(&again), on_bits(&graph), "{name} {dialect:?}");
            let (want, got) = (outputs(&graph, &numbers), outputs(&again, &numbers));
            for (a, b) in want.iter().zip(&got) {
                assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{name} {dialect:?}: {a} became {b}");
            }
        }
    }
}

/// What training code writes in many ways comes out right and on bits; `models/idioms/make.py` says what each model is.
#[test]
fn idioms_of_training_code_run_on_bits() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/idioms");
    let input = npy::open(dir.join("input.npy")).unwrap().values;
    let mut models = 0;
    for path in std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()) {
        if path.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        models += 1;
        let graph = import(&path, &ImportOptions::default()).unwrap().graph;
        assert_eq!(on_bits(&graph), (1, 1), "{}", path.display());
        let shape = graph.ty(Graph::INPUT).shape;
        let got = outputs(&graph, &reordered(&input, shape.into(), false));
        let got = reordered(&got, graph.ty(graph.output).shape.into(), true);
        let want = npy::open(path.with_extension("npy")).unwrap().values;
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 1e-5, "{}: {got}, not {want}", path.display());
        }
    }
    assert_eq!(models, 9);
}
