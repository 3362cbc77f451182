//! `convert` with published networks, where they are at hand.

mod common;

use common::{assert_keys, asset, fail, json, misuse, run, shared, succeed};
use std::path::Path;

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn published_networks_become_models_that_score_the_same() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = text(&dir.path().join("m.onebit"));
    let mnist = text(&shared.join("data/mnist"));
    let cifar = text(&shared.join("data/cifar-10"));
    for (source, options, data, limit, correct) in [
        ("bnn-pynq/mnist/lfcW1A1", &[][..], &mnist, "10000", 9834),
        ("bmxnet/binarized_mnist_64bit-0001.params", &["--std", "255"], &mnist, "10000", 9740),
        ("bnn-pynq/cifar10/cnvW1A2", &[], &cifar, "1000", 849),
    ] {
        let source = text(&shared.join("models").join(source));
        let convert = ["convert", source.as_str(), "-o", model.as_str()];
        let report = json(convert.iter().chain(options));
        let keys = ["source", "format", "output", "layers", "parameters", "binary_macs", "float_macs"];
        assert_keys(&report, &keys);
        assert_keys(
            &report,
            &["file_bytes", "float32_bytes", "compression", "passes", "warnings", "float_layers"],
        );
        assert_eq!(report["file_bytes"], std::fs::metadata(&model).unwrap().len());
        assert!(report["compression"].as_f64().unwrap() > 20.0);
        let report = json(["eval", &model, "--data", data, "--limit", limit]);
        assert_eq!(report["correct"], correct, "{source}");
        // The source itself is accepted where a model is; only its pixels may need options.
        if options.is_empty() {
            let direct = json(["eval", &source, "--data", data, "--limit", limit]);
            assert_eq!(direct["correct"], correct);
            assert_eq!(json(["info", &source])["file_bytes"], json(["info", &model])["file_bytes"]);
        }
    }
}

#[test]
fn classic_formats_are_detected_and_sizes_are_taken_from_the_command_line() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = text(&dir.path().join("m.onebit"));
    let vgg = text(&shared.join("fixtures/binarynet-npz/cifar_vgg_32/params.npz"));
    let bincnn = text(&shared.join("models/bincnn"));
    for (source, options, format, input, outputs) in [
        (&vgg, &[][..], "binarynet", [32, 32, 3], 10),
        (&vgg, &["--input", "33x34x3", "--classes", "4"], "binarynet", [33, 34, 3], 4),
        (&bincnn, &[], "bincnn", [96, 96, 3], 4),
    ] {
        let report = json(["convert", source.as_str(), "-o", &model].iter().chain(options));
        assert_eq!(report["format"], format);
        assert!(!report["warnings"].as_array().unwrap().is_empty());
        let report = json(["info", &model]);
        assert_eq!(report["input"]["shape"], serde_json::json!(input));
        assert_eq!(report["output"]["shape"][2], outputs);
    }
    assert!(fail(["convert", &vgg, "-o", &model, "--input", "64x64x3"]).contains("--input"));
}

#[test]
fn summaries_warnings_and_explanations() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let resnet = text(&shared.join("models/bmxnet/binarized_cifar10-resnet18-64bit-0000.params"));
    let model = at("m.onebit");
    let output = run(["convert", &resnet, "-o", &model, "--explain"]);
    let (out, notes) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0));
    assert!(notes.lines().count() > 0 && notes.lines().all(|l| l.starts_with("warning: ")), "{notes}");
    assert!(notes.contains("mean"), "{notes}");
    for part in ["smaller", "fold_thresholds", "conv0", "its weights are floats", "fc1"] {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    let means = "123.68,116.779,103.939";
    succeed(["convert", &resnet, "-o", &model, "--mean", means, "--classes", "7", "--name", "seven"]);
    let report = json(["info", &model]);
    assert_eq!((&report["output"]["shape"][2], &report["name"]), (&7.into(), &"seven".into()));
    std::fs::write(at("names.txt"), "a\nb\n\n c \n").unwrap();
    succeed([
        "convert",
        &resnet,
        "-o",
        &model,
        "--mean",
        means,
        "--classes",
        &at("names.txt"),
        "--resize",
        "36",
    ]);
    let report = json(["info", &model]);
    assert_eq!((&report["classes"][2], &report["input"]["resize"]), (&"c".into(), &36.into()));
}

#[test]
fn what_cannot_be_converted_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let model = text(&asset("lfc-w1a1.onebit"));
    std::fs::write(at("source.xyz"), "no network").unwrap();
    let out = at("out.onebit");
    assert!(fail(["convert", &at("source.xyz"), "-o", &out]).contains("bmxnet"));
    assert!(fail(["convert", &at("missing"), "-o", &out]).contains("missing"));
    assert!(fail(["convert", &text(dir.path()), "-o", &out]).contains("bnn-pynq"));
    assert!(fail(["convert", &model, "-o", &out]).contains("already"));
    assert!(fail(["convert", &at("source.xyz"), "-o", &out, "--from", "caffe"]).contains("caffe"));
    assert!(
        fail(["convert", &at("source.xyz"), "-o", &out, "--classes", &at("none.txt")]).contains("none.txt")
    );
    for size in ["32x32", "0x32x3", "32x32x3x1", "axbxc"] {
        misuse(["convert", &at("source.xyz"), "-o", &out, "--input", size]);
    }
    std::fs::write(at("names.txt"), "\n\n").unwrap();
    assert!(
        fail(["convert", &at("source.xyz"), "-o", &out, "--classes", &at("names.txt")]).contains("names.txt")
    );
    if let Some(shared) = shared() {
        let lfc = text(&shared.join("models/bnn-pynq/mnist/lfcW1A1"));
        assert!(fail(["convert", &lfc, "-o", &at("no/such/folder.onebit")]).contains("folder.onebit"));
        assert!(fail(["convert", &lfc, "-o", &out, "--classes", "0"]).contains("classes"));
        assert!(fail(["convert", &lfc, "-o", &out, "--classes", "65"]).contains("65"));
        let lenet = text(&shared.join("models/bmxnet/binarized_mnist_64bit-0001.params"));
        assert!(fail(["convert", &lenet, "-o", &out, "--std", "0"]).contains("std"));
        assert!(fail(["convert", &lenet, "-o", &out, "--mean", "1,2"]).contains("mean"));
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
