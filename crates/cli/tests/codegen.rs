//! `codegen` and `info --target`.

mod common;

use common::{assert_keys, asset, fail, json, misuse, succeed};
use std::path::Path;

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_header_and_an_example_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = text(&dir.path().join("new"));
    let lfc = text(&asset("lfc-w1a1.onebit"));
    let arguments = ["codegen", lfc.as_str(), "-o", out.as_str(), "--name", "mnist"];
    let report = json(arguments);
    let keys = ["model", "lang", "name", "files", "target", "input_bytes", "input_bits", "outputs"];
    assert_keys(&report, &keys);
    assert_keys(&report, &["scratch_bytes", "table_bytes", "instructions", "stages", "notes"]);
    assert_eq!(report["scratch_bytes"], 256);
    let plan = json(["info", lfc.as_str(), "--target", "cortex-m4"]);
    assert_eq!(plan["stages"], report["stages"]);
    let header = std::fs::read(dir.path().join("new/mnist.h")).unwrap();
    let source = String::from_utf8(header.clone()).unwrap();
    assert!(source.contains("#define MNIST_INPUT_BYTES   784\n") && source.contains("void mnist_run("));
    assert!(source.contains("#define MNIST_SCRATCH_BYTES 256\n"));
    // The same again gives the same bytes, and leaves an example that was changed alone.
    let example = dir.path().join("new/main.c");
    assert!(std::fs::read_to_string(&example).unwrap().contains("mnist.h"));
    std::fs::write(&example, "mine").unwrap();
    succeed(arguments);
    assert_eq!(std::fs::read(dir.path().join("new/mnist.h")).unwrap(), header);
    assert_eq!(std::fs::read_to_string(&example).unwrap(), "mine");
    // Weights of eight-bit words.
    let plan = succeed(["info", lfc.as_str(), "--target", "avr"]);
    assert!(plan.contains("cycles") && plan.contains("fc3"));
}

#[test]
fn what_cannot_be_generated_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = text(dir.path());
    let lenet = text(&asset("bmxnet-lenet.onebit"));
    assert!(fail(["codegen", lenet.as_str(), "-o", &out]).contains("--quantize"));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
    let lfc = text(&asset("lfc-w1a1.onebit"));
    for name in ["Mnist", "1st", "a b", ""] {
        assert!(
            fail(["codegen", lfc.as_str(), "-o", &out, "--name", name]).contains("name of functions"),
            "{name}"
        );
    }
    let file = text(&dir.path().join("file"));
    std::fs::write(&file, "x").unwrap();
    assert!(fail(["codegen", lfc.as_str(), "-o", &file]).contains("no folder"));
    misuse(["codegen", lfc.as_str(), "-o", &out, "--target", "z80"]);
}
