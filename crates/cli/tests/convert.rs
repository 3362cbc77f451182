//! `convert` with published networks, where they are at hand.

mod common;

use common::{assert_keys, asset, fail, json, misuse, run, shared, succeed};
use onebit::data::npy;
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
    assert!(fail(["convert", &vgg, "-o", &model, "--input", "20x20x3"]).contains("--input"));
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

/// Writes a bundled network in ONNX; what every reader of networks can read.
fn exported(model: &str, to: &str) {
    succeed(["export", &text(&asset(model)), "-o", to]);
}

/// Inputs of the bundled LeNet and what it puts out for them.
fn lenet_arrays(input: &str, expected: &str) -> Vec<f32> {
    let x: Vec<f32> = (0..4 * 784).map(|i| (i * 7919 % 1000) as f32 / 1000.0).collect();
    npy::save(Path::new(input), &[4, 1, 28, 28], &x).unwrap();
    succeed(["run", &text(&asset("bmxnet-lenet.onebit")), input, "--output", expected]);
    npy::open(expected).unwrap().values
}

#[test]
fn exported_networks_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let report = json(["export", &text(&asset("lfc-w1a1.onebit")), "-o", &at("lfc.onnx")]);
    assert_keys(&report, &["model", "output", "format", "name", "layers", "file_bytes"]);
    assert_eq!(report["file_bytes"], std::fs::metadata(at("lfc.onnx")).unwrap().len());
    // A byte for each weight, not four.
    assert!(report["file_bytes"].as_u64().unwrap() < 3_000_000);
    let out =
        succeed(["export", &text(&asset("lfc-w1a1.onebit")), "-o", &at("lfc.qonnx"), "--format", "qonnx"]);
    assert!(out.contains("5 layers"), "{out}");
    let x: Vec<f32> = (0..3 * 784).map(|i| (i * 7919 % 256) as f32).collect();
    npy::save(Path::new(&at("x.npy")), &[3, 784], &x).unwrap();
    succeed(["run", &text(&asset("lfc-w1a1.onebit")), &at("x.npy"), "--output", &at("y.npy")]);
    let (x, y) = (at("x.npy"), at("y.npy"));
    for name in ["lfc.onnx", "lfc.qonnx"] {
        let convert =
            ["convert", &at(name), "-o", &at("back.onebit"), "--verify", &x, &y, "--tolerance", "0"];
        let report = json(convert);
        assert_eq!(report["verify"]["ok"], true, "{name}");
        assert_eq!(
            (&report["verify"]["max_abs"], &report["verify"]["argmax_equal"]),
            (&0.0.into(), &3.into())
        );
        assert_eq!(report["binary_mac_fraction"], 1.0, "{name}");
    }
    assert!(fail(["export", &at("lfc.onnx"), "-o", &at("lfc.onnx")]).contains("overwritten"));
    assert!(fail(["export", &at("none.onebit"), "-o", &at("new.onnx")]).contains("none.onebit"));
    assert!(!Path::new(&at("new.onnx")).exists());
    misuse(["export", &at("lfc.onnx"), "-o", &at("new.onnx"), "--format", "caffe"]);
}

#[test]
fn conversions_are_verified_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let (source, out, x, y) = (at("lenet.onnx"), at("lenet.onebit"), at("x.npy"), at("y.npy"));
    exported("bmxnet-lenet.onebit", &source);
    let want = lenet_arrays(&x, &y);
    let convert = |x: &str, y: &str| ["convert", &source, "-o", &out, "--verify", x, y].map(str::to_owned);
    let report = json(convert(&x, &y));
    let verify = &report["verify"];
    assert_eq!(
        (&verify["samples"], &verify["argmax_equal"], &verify["ok"]),
        (&4.into(), &4.into(), &true.into())
    );
    assert!(
        verify["max_rel"].as_f64().unwrap() <= 1e-5
            && verify["max_abs"].as_f64() >= verify["max_rel"].as_f64()
    );
    let text = succeed(convert(&x, &y));
    assert!(text.contains("verified") && text.contains("4 samples, same class in 4"), "{text}");

    // One number of one sample is wrong: it is named, and the old file stays.
    std::fs::write(&out, "old").unwrap();
    let mut wrong = want.clone();
    wrong[2 * 10 + 7] += 100.0;
    npy::save(Path::new(&at("wrong.npy")), &[4, 10], &wrong).unwrap();
    let failed = run(convert(&x, &at("wrong.npy")));
    let notes = String::from_utf8(failed.stderr).unwrap();
    assert_eq!((failed.status.code(), failed.stdout.len()), (Some(1), 0));
    assert!(notes.contains("warning: sample 2 differs") && notes.contains("another class"), "{notes}");
    assert!(!notes.contains("near tie"), "{notes}");
    assert!(notes.contains("1 of 4 samples") && notes.contains("in sample 2 at [7]"), "{notes}");
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
    let failed = run(convert(&x, &at("wrong.npy")).into_iter().chain(["--json".into()]));
    let report: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(
        (&report["verify"]["ok"], &report["verify"]["beyond"][0]["sample"]),
        (&false.into(), &2.into())
    );
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
    // Enough tolerance lets it pass.
    succeed(convert(&x, &at("wrong.npy")).into_iter().chain(["--tolerance".into(), "10".into()]));

    std::fs::remove_file(&out).unwrap();
    npy::save(Path::new(&at("few.npy")), &[3, 10], &want[..30]).unwrap();
    npy::save(Path::new(&at("wide.npy")), &[2, 20], &want).unwrap();
    assert!(fail(convert(&x, &at("few.npy"))).contains("3 samples"));
    let message = fail(convert(&x, &at("wide.npy")));
    assert!(message.contains("wide.npy") && message.contains("puts out [batch, 10]"), "{message}");
    assert!(fail(convert(&at("few.npy"), &y)).contains("takes [batch, 1, 28, 28]"));
    assert!(fail(convert(&at("none.npy"), &y)).contains("none.npy"));
    assert!(!Path::new(&out).exists());
    misuse(["convert", &source, "-o", &out, "--tolerance", "1"]);
    misuse(convert(&x, &y).iter().map(String::as_str).chain(["--tolerance", "-1"]));
    assert!(fail(["convert", &source, "-o", &source]).contains("overwritten"));
}

#[test]
fn float_layers_are_explained_with_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    exported("bmxnet-lenet.onebit", &at("lenet.onnx"));
    let out = succeed(["convert", &at("lenet.onnx"), "-o", &at("lenet.onebit"), "--explain"]);
    for part in [
        "of MACs binary",
        "of the bytes are the float stem and head",
        "its weights are floats",
        "-> binarise its weights (one scale for each filter) and let the network take bytes",
        "-> under 1 % of the MACs: leave it",
        "bits w x a",
        "1 x 1  binary",
        "32 x 32  float",
    ] {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    let short = succeed(["convert", &at("lenet.onnx"), "-o", &at("lenet.onebit")]);
    assert!(short.contains("--explain says why") && !short.contains("-> binarise"), "{short}");
    let info = succeed(["info", &at("lenet.onebit")]);
    assert!(info.contains("in short") && info.contains("-> under 1 %"), "{info}");
    let report = json(["info", &at("lenet.onebit")]);
    assert_keys(&report, &["binary_mac_fraction", "float_bytes_fraction", "summary", "float_layers"]);
    let part = report["binary_mac_fraction"].as_f64().unwrap();
    let (binary, float) = (report["binary_macs"].as_f64().unwrap(), report["float_macs"].as_f64().unwrap());
    assert!((part - binary / (binary + float)).abs() < 1e-9 && 0.5 < part && part < 1.0);
    let kinds: Vec<_> =
        report["layers"].as_array().unwrap().iter().filter_map(|l| l["kind"].as_str()).collect();
    assert_eq!(kinds, ["float", "binary", "binary", "float"]);
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
