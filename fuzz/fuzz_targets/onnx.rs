//! Any bytes are either refused as an ONNX file with one sentence or a network that can be optimised, and no node that is
//! evaluated on its own panics or makes more than it may.
//!
//! ```text
//! cargo +nightly fuzz run onnx fuzz/corpus/onnx crates/engine/tests/models
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit::import::onnx::evaluate::evaluate_within;
use onebit::import::onnx::proto::{self, Model};
use onebit::import::onnx::{Onnx, tensors::External};
use onebit::import::{ImportOptions, Importer};
use onebit::{Error, passes};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::OnceLock;

/// Elements of a constant, or of a map of the network.
const MOST: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let model = match proto::read(data) {
        Ok(model) => model,
        Err(e) => return one_sentence(&e),
    };
    nodes(&model);
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let name = || std::env::temp_dir().join(format!("onebit-fuzz-{}.onnx", std::process::id()));
    let path = PATH.get_or_init(name);
    std::fs::write(path, data).expect("the temporary folder is writable");
    match Onnx.import(path, &ImportOptions::default()) {
        Err(e) => one_sentence(&e),
        Ok(imported) => {
            let mut graph = imported.graph;
            if let Err(e) = passes::optimize(&mut graph) {
                one_sentence(&e);
            }
        }
    }
});

fn one_sentence(e: &Error) {
    let text = e.to_string();
    assert!(!text.contains(char::is_control) && text.len() < 10_000, "{text:?}");
}

/// Every node on those constants that its inputs name, whatever they are.
fn nodes(model: &Model<'_>) {
    let mut constants = HashMap::new();
    for tensor in &model.graph.initializers {
        match tensor.to_array(&External::none()) {
            Ok(array) => _ = constants.insert(tensor.name, Rc::new(array)),
            Err(e) => one_sentence(&e),
        }
    }
    for node in &model.graph.nodes {
        let inputs: Vec<_> = node.inputs.iter().map(|name| constants.get(name).cloned()).collect();
        for opset in [9, 18] {
            match evaluate_within(MOST, node.op, node.domain, opset, node, &inputs) {
                Err(e) => one_sentence(&e),
                Ok(made) => {
                    for (array, name) in made.into_iter().flatten().zip(&node.outputs) {
                        let before = inputs.iter().flatten().map(|a| a.len()).sum::<usize>();
                        assert!(array.len() <= MOST.max(before), "{} {:?}", node.op, array.shape);
                        constants.insert(name, Rc::new(array));
                    }
                }
            }
        }
    }
}
