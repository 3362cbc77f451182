//! `demo`, `info` and `bench`, and what all commands have in common.

mod common;

use common::{assert_keys, asset, fail, json, misuse, onebit, run, succeed};
use onebit::meta::Training;
use std::process::Stdio;

#[test]
fn demo_classifies_its_pictures() {
    let report = json(["demo"]);
    assert_keys(&report, &["isa", "threads", "networks"]);
    let networks = report["networks"].as_array().unwrap();
    let counts: Vec<(&str, u64)> =
        networks.iter().map(|n| (n["name"].as_str().unwrap(), n["correct"].as_u64().unwrap())).collect();
    // What the unmodified networks score on these pictures.
    assert_eq!(counts, [("LFC-W1A1", 296), ("BMXNet LeNet", 291), ("CNV-W1A1", 243)]);
    for n in networks {
        assert_eq!((&n["total"], &n["float32_agrees"]), (&300.into(), &300.into()));
        for key in ["latency_ms", "images_per_second", "float32_latency_ms", "speedup"] {
            assert!(n[key].as_f64().unwrap() > 0.0, "{key}");
        }
        assert!(n["model_bytes"].as_u64().unwrap() * 20 < n["float32_bytes"].as_u64().unwrap());
    }
}

#[test]
fn info_counts_what_is_in_the_network() {
    let path = asset("lfc-w1a1.onebit");
    let report = json(["info".as_ref(), path.as_os_str()]);
    let weights = 784 * 1024 + 2 * 1024 * 1024 + 10240;
    assert_eq!(report["binary_macs"], weights);
    assert_eq!(report["float_macs"], 0);
    // The threshold of the pixels, and those of three layers.
    assert_eq!(report["parameters"], weights + 1 + 3 * 1024);
    assert_eq!(report["float32_bytes"], 4 * (weights + 1 + 3 * 1024));
    assert_eq!(report["file_bytes"], std::fs::metadata(&path).unwrap().len());
    assert_keys(&report, &["arena_bytes", "name", "input", "output", "classes", "compression", "license"]);
    let layers = report["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 5);
    assert_keys(
        &layers[1],
        &[
            "name",
            "op",
            "output",
            "weight_bits",
            "activation_bits",
            "parameters",
            "binary_macs",
            "weight_bytes",
        ],
    );
    let text = succeed(["info".as_ref(), path.as_os_str()]);
    assert!(text.contains("BSD-3-Clause") && text.contains("b_dense") && text.contains("30.3x"), "{text}");
}

#[test]
fn info_says_how_a_network_was_trained() {
    let file = onebit::ModelFile::open(&asset("lfc-w1a1.onebit")).unwrap();
    let (model, mut meta) = file.load().unwrap();
    let recipe = "name = \"lfc\"\n".to_owned();
    meta.training = Some(Training { recipe, seed: 7, epochs: 40, data: "5f0c".into() });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trained.onebit");
    onebit::file::save(&model, &meta, &path).unwrap();
    let text = succeed(["info".as_ref(), path.as_os_str()]);
    assert!(text.contains("trained   40 epochs, seed 7, data 5f0c"), "{text}");
    assert_eq!(json(["info".as_ref(), path.as_os_str()])["training"]["recipe"], "name = \"lfc\"\n");
}

#[test]
fn bench_measures_networks_and_the_kernel() {
    for target in [asset("cnv-w1a1.onebit").into_os_string(), "bmxnet-lenet".into()] {
        let report = json(["bench".as_ref(), target.as_os_str(), "--batch".as_ref(), "2".as_ref()]);
        assert_keys(
            &report,
            &[
                "latency_ms",
                "layers",
                "limit_fraction",
                "limits",
                "diagnosis",
                "images_per_second",
                "isa",
                "threads",
            ],
        );
        assert_keys(&report["layers"][0], &["name", "kernel", "share", "limit_fraction", "limited_by"]);
        assert!(report["diagnosis"].as_str().unwrap().ends_with('.'));
        let ms = |key: &str| report["latency_ms"][key].as_f64().unwrap();
        assert!(0.0 < ms("min") && ms("min") <= ms("median") && ms("median") <= ms("p99"));
        let shares = report["layers"].as_array().unwrap().iter().map(|l| l["share"].as_f64().unwrap());
        assert!((shares.sum::<f64>() - 1.0).abs() < 1e-6);
        let fraction = report["limit_fraction"].as_f64().unwrap();
        assert!(0.0 < fraction && fraction < 1.5, "{fraction}");
        assert_eq!(report["batch"], 2);
    }
    let report = json(["bench", "gemm", "5", "70", "100"]);
    assert_keys(&report, &["latency_ms", "gmacs_per_second", "limit_fraction", "limits", "kernel", "isa"]);
    let text = succeed(["bench", "gemm", "4", "16", "1", "--isa", "scalar"]);
    assert!(text.contains("4 x 16 x 1") && text.contains("scalar"), "{text}");
    assert!(fail(["bench", "gemm", "16777216", "16777216", "1"]).contains("too large"));
    for sums in [&[][..], &["--sums"]] {
        let report =
            json([&["bench", "conv", "6", "7", "65", "10", "3", "--milliseconds", "1"], sums].concat());
        assert_keys(
            &report,
            &["binarize_microseconds", "conv_microseconds", "gmacs_per_second", "kernel", "isa"],
        );
        assert_eq!(report["binary_macs"], 6 * 7 * 65 * 10 * 9);
    }
    assert!(
        succeed(["bench", "conv", "4", "4", "64", "8", "1", "--milliseconds", "1"]).contains("4 x 4 x 64")
    );
    assert!(fail(["bench", "conv", "65536", "65536", "1", "1", "1"]).contains("too large"));
    assert!(fail(["bench", "conv", "1000", "1000", "3", "64", "255"]).contains("10^12"));
    assert!(fail(["bench", "conv", "2", "2", "1", "1", "5", "--pad", "0"]).contains("conv"));
    let report = json(["bench", "kbit", "--map", "3", "--channels", "5", "--filters", "7", "--kernel", "2"]);
    let combinations = report["combinations"].as_array().unwrap();
    assert_eq!((combinations.len(), combinations[0]["of_bits"].as_f64()), (36, Some(1.0)));
    assert_keys(&combinations[35], &["weights", "activations", "kernel", "latency_ms", "gmacs_per_second"]);
    assert!(fail(["bench", "kbit", "--map", "512", "--channels", "4096"]).contains("2^26"));
    assert!(fail(["bench", "no-such-thing"]).contains("binarynet-vgg"));
}

#[test]
fn bench_measures_the_limits_of_the_machine() {
    let report = json(["bench", "limits"]);
    let macs = report["multiply_adds"].as_array().unwrap();
    let of = |isa: &str, unit: &str| {
        let rates = macs.iter().filter(|m| m["isa"] == isa && m["unit"] == unit);
        rates.map(|m| m["gmacs_per_second"].as_f64().unwrap()).fold(0.0, f64::max)
    };
    // The best rung comes first; bits are many times faster than floats on every one.
    for isa in [macs[0]["isa"].as_str().unwrap(), "scalar"] {
        assert!(of(isa, "binary") > 4.0 * of(isa, "f32") && of(isa, "f32") > 0.0, "{report}");
    }
    let reads = report["reads"].as_array().unwrap();
    assert_eq!(reads.last().unwrap()["name"], "memory");
    assert!(reads.iter().all(|r| r["gb_per_second"].as_f64().unwrap() > 0.01), "{report}");
    // One rung, if it is asked for.
    let text = succeed(["bench", "limits", "--isa", "scalar"]);
    assert!(text.contains("scalar") && text.contains("L1") && !text.contains("avx"), "{text}");
}

#[test]
fn bench_sweeps_the_sizes_of_a_layer() {
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("sweep.svg");
    let report = json(["bench".as_ref(), "sweep".as_ref(), "--plot".as_ref(), plot.as_os_str()]);
    let sweeps = report["sweeps"].as_array().unwrap();
    assert_eq!(sweeps.len(), 5);
    for point in sweeps.iter().flat_map(|s| s["points"].as_array().unwrap()) {
        assert!(point["microseconds"].as_f64().unwrap() > 0.0);
        // A high cost has a reason, and nothing else has.
        assert_eq!(point["cost"].as_f64().unwrap() > 1.5, point["reason"].is_string(), "{point}");
    }
    assert!(std::fs::read_to_string(&plot).unwrap().contains("activation bits"));
    let nowhere = dir.path().join("missing").join("sweep.svg");
    let nowhere = nowhere.to_str().unwrap();
    assert!(fail(["bench", "sweep", "--isa", "mmx"]).contains("'mmx'"));
    assert!(fail(["bench", "sweep", "--plot", nowhere]).contains("sweep.svg"));
}

#[test]
fn wrong_usage_is_refused() {
    for args in [
        &[][..],
        &["fly"],
        &["bench"],
        &["bench", "gemm", "1", "2"],
        &["bench", "gemm", "1", "2", "0"],
        &["bench", "sweep", "--plot"],
        &["bench", "limits", "8"],
        &["bench", "conv", "1", "2", "3", "4"],
        &["bench", "conv", "1", "2", "3", "4", "0"],
        &["demo", "--threads", "0"],
        &["demo", "--fast"],
        &["run", "model"],
        &["run", "model", "x.png", "--top", "0"],
        &["eval", "model"],
        &["eval", "model", "--data", "x", "--device", "abacus"],
        &["eval", "model", "--data", "x", "--limit", "0"],
        &["convert", "source"],
        &["convert", "source", "-o", "x", "--mean", "blue"],
    ] {
        misuse(args);
    }
    assert!(succeed(["--help"]).contains("Examples"));
    assert!(succeed(["--version"]).starts_with("onebit "));
}

#[test]
fn instruction_sets_and_threads_are_checked() {
    let model = asset("lfc-w1a1.onebit");
    let path = model.to_str().unwrap();
    assert!(fail(["info", path, "--isa", "mmx"]).contains("'mmx'"));
    let output = onebit().args(["info", path]).env("ONEBIT_ISA", "sse9").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("'sse9'"));
    let report = json(["bench", path, "--threads", "1", "--isa", "scalar"]);
    assert_eq!((&report["threads"], &report["isa"]), (&1.into(), &"scalar".into()));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = onebit()
        .args(["info".as_ref(), asset("cnv-w1a1.onebit").as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn what_is_no_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let good = std::fs::read(asset("lfc-w1a1.onebit")).unwrap();
    std::fs::write(at("short.onebit"), &good[..good.len() / 2]).unwrap();
    std::fs::write(at("text.onebit"), "this is no model").unwrap();
    std::fs::write(at("empty.onebit"), "").unwrap();
    std::fs::write(at("braces.onebit"), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, b'{']).unwrap();
    for name in ["short.onebit", "text.onebit", "empty.onebit", "braces.onebit", "missing.onebit"] {
        for command in ["info", "bench"] {
            let path = at(name);
            assert!(fail([command, path.as_str()]).contains(name));
        }
    }
    // A folder that is no network: the formats are listed.
    let folder = at("");
    assert!(fail(["info", folder.as_str()]).contains("bnn-pynq"));
    assert_eq!(run(["info", &at("missing.onebit"), "--json"]).stdout, b"");
}
