//! `convert --quantize` with the networks and pictures that the program carries.

mod common;

use common::{asset, fail, json, misuse, succeed};
use std::path::Path;

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A folder with the MNIST pictures that the program carries, which are of the test part.
fn pictures(dir: &Path) -> String {
    for kind in ["images-idx3", "labels-idx1"] {
        let from = asset(&format!("mnist-{kind}-ubyte.gz"));
        std::fs::copy(from, dir.join(format!("t10k-{kind}-ubyte.gz"))).unwrap();
    }
    text(dir)
}

#[test]
fn a_network_of_floats_becomes_one_of_integers() {
    let dir = tempfile::tempdir().unwrap();
    let data = pictures(dir.path());
    let lenet = text(&asset("bmxnet-lenet.onebit"));
    let out = text(&dir.path().join("integers.onebit"));
    let report = json(["convert", &lenet, "-o", &out, "--quantize", "--data", &data]);
    let done = &report["quantization"];
    assert_eq!((&report["format"], &done["input"]), (&"onebit".into(), &true.into()));
    let layers = done["layers"].as_array().unwrap();
    let formats: Vec<(u64, &str)> =
        layers.iter().map(|l| (l["bits"].as_u64().unwrap(), l["input"].as_str().unwrap())).collect();
    assert_eq!(formats, [(8, "bytes-u8"), (8, "s4")]);
    assert!(layers.iter().all(|l| (0.0..0.005).contains(&l["rounding"].as_f64().unwrap())));
    assert_eq!(done["floats"], serde_json::json!([]));
    assert!(done["scores"]["largest"].as_u64().unwrap() < 1 << 24);

    // What it says of both networks is what `eval` counts.
    let compared = &done["comparison"];
    for (model, key) in [(&lenet, "correct_before"), (&out, "correct_after")] {
        let eval = json(["eval", model, "--data", &data]);
        assert_eq!((&eval["correct"], &eval["total"]), (&compared[key], &compared["total"]));
    }
    let (changed, total) = (compared["changed"].as_u64().unwrap(), compared["total"].as_u64().unwrap());
    assert!(0 < changed && changed < total / 20, "{changed} of {total}");
    let info = json(["info", &out]);
    assert_eq!(info["input"]["format"], "bytes-u8");

    let again = text(&dir.path().join("again.onebit"));
    let said = succeed(["convert", &out, "-o", &again, "--quantize"]);
    assert!(said.contains("nothing to do") && said.contains("accuracy not measured"), "{said}");
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&again).unwrap());
    let few = ["convert", &lenet, "-o", &again, "--quantize", "4", "--activation-bits", "2", "--data", &data];
    let said = succeed(few.into_iter().chain(["--limit", "50", "--name", "small"]));
    for part in ["convolution0: 4 bits x bytes-u8", "4 bits x s2", "no layer is left", "of 50 pictures"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert_eq!(json(["info", &again])["name"], "small");
}

#[test]
fn wrong_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lenet = text(&asset("bmxnet-lenet.onebit"));
    let out = text(&dir.path().join("out.onebit"));
    let convert = |more: &[&'static str]| {
        let args = ["convert", &lenet, "-o", &out].map(str::to_owned);
        args.into_iter().chain(more.iter().map(|m| (*m).to_owned())).collect::<Vec<_>>()
    };
    assert!(fail(convert(&[])).contains("--quantize"));
    assert!(fail(convert(&["--quantize", "--std", "255"])).contains("only --name applies"));
    assert!(fail(convert(&["--quantize", "--data", "nowhere"])).contains("nowhere"));
    misuse(convert(&["--quantize", "9"]));
    misuse(convert(&["--quantize", "--activation-bits", "1"]));
    misuse(convert(&["--data", "x"]));
    misuse(convert(&["--quantize", "--limit", "5"]));
    misuse(convert(&["--quantize", "--verify", "a", "b"]));
    assert!(!Path::new(&out).exists());
}
