//! `run` and `eval` with the networks that the program carries.

mod common;

use common::{assert_keys, asset, fail, json, run, succeed};
use image::{GrayImage, Luma, Rgb, RgbImage};
use onebit::data::npy;
use onebit::{Dataset, Image};
use std::path::{Path, PathBuf};

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn lfc() -> String {
    text(&asset("lfc-w1a1.onebit"))
}

fn cnv() -> String {
    text(&asset("cnv-w1a1.onebit"))
}

fn cifar() -> Dataset {
    Dataset::open(asset("cifar-10.bin")).unwrap()
}

fn rgb(image: &Image) -> RgbImage {
    RgbImage::from_raw(image.width as u32, image.height as u32, image.pixels.clone()).unwrap()
}

/// A folder with the bundled MNIST pictures under their usual names.
fn mnist_folder(dir: &Path) {
    for kind in ["images-idx3", "labels-idx1"] {
        let to = dir.join(format!("t10k-{kind}-ubyte.gz"));
        std::fs::copy(asset(&format!("mnist-{kind}-ubyte.gz")), to).unwrap();
    }
}

#[test]
fn pictures_of_any_kind_and_size() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let ship = cifar().labels().iter().position(|l| *l == 8).unwrap();
    let picture = rgb(&cifar().image(ship).unwrap());
    picture.save(at("ship.png")).unwrap();
    picture.save(at("ship.jpg")).unwrap();
    GrayImage::from_fn(40, 30, |x, y| Luma([(x * y) as u8])).save(at("grey.png")).unwrap();
    RgbImage::from_fn(8000, 8000, |x, y| Rgb([(x / 40) as u8, (y / 40) as u8, 9]))
        .save(at("huge.png"))
        .unwrap();
    RgbImage::from_pixel(60_000, 1, Rgb([9, 99, 199])).save(at("long.png")).unwrap();
    // The content decides, not the name.
    std::fs::copy(at("ship.png"), at("png.jpg")).unwrap();

    let names = ["ship.png", "ship.jpg", "grey.png", "huge.png", "long.png", "png.jpg"];
    let paths: Vec<String> = names.iter().map(|n| at(n)).collect();
    let args = ["run".to_owned(), cnv(), "--top".into(), "3".into()];
    let report = json(args.iter().chain(&paths));
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), names.len());
    for (result, path) in results.iter().zip(&paths) {
        assert_eq!(&result["input"], path);
        let top = result["top"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert!(top[0]["score"].as_f64() >= top[1]["score"].as_f64());
    }
    assert_eq!((&results[0]["top"][0]["class"], &results[0]["top"][0]["name"]), (&8.into(), &"ship".into()));
    assert_eq!(results[5]["top"], results[0]["top"]);

    let out = succeed(["run".to_owned(), cnv(), at("ship.png"), at("grey.png")]);
    assert_eq!(out.lines().filter(|l| l.contains("ship.png") || l.contains("grey.png")).count(), 2);
    assert!(out.contains(" 1  ship"), "{out}");
    // Colours for a grey network, more classes than there are.
    let report = json(["run".to_owned(), lfc(), at("ship.png"), "--top".into(), "99".into()]);
    assert_eq!(report["results"][0]["top"].as_array().unwrap().len(), 10);
}

#[test]
fn what_is_no_picture_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    std::fs::write(at("text.png"), "just text").unwrap();
    std::fs::write(at("empty.png"), "").unwrap();
    RgbImage::new(300, 300).save(at("good.png")).unwrap();
    let png = std::fs::read(at("good.png")).unwrap();
    std::fs::write(at("short.png"), &png[..png.len() / 2]).unwrap();
    std::fs::write(at("bomb.png"), bomb()).unwrap();
    for name in ["text.png", "empty.png", "short.png", "bomb.png", "missing.png"] {
        let error = fail(["run".to_owned(), cnv(), at(name)]);
        assert!(error.contains(name), "{error}");
        // The good picture before it is not printed as if all were well.
        fail(["run".to_owned(), cnv(), at("good.png"), at(name), "--json".into()]);
    }
    let folder = text(dir.path());
    assert!(fail(["run".to_owned(), cnv(), folder.clone()]).contains(&folder));
}

/// A PNG header that promises 65535 x 65535 pixels.
fn bomb() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 8, 2, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..]);
    png.extend_from_slice(&crc.sum().to_be_bytes());
    png
}

#[test]
fn arrays_in_every_order_and_their_scores() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let data = cifar();
    let images: Vec<Image> = (0..4).map(|i| data.image(i).unwrap()).collect();
    let hwc: Vec<f32> = images.iter().flat_map(|i| &i.pixels).map(|p| f32::from(*p)).collect();
    let chw: Vec<f32> = (0..4 * 3072).map(|i| hwc[i / 3072 * 3072 + i % 1024 * 3 + i / 1024 % 3]).collect();
    npy::save(at("hwc.npy"), &[4, 32, 32, 3], &hwc).unwrap();
    npy::save(at("chw.npy"), &[4, 3, 32, 32], &chw).unwrap();
    npy::save(at("flat.npy"), &[4, 3072], &chw).unwrap();
    npy::save(at("one.npy"), &[3, 32, 32], &chw[..3072]).unwrap();
    let mut paths = Vec::new();
    for (i, image) in images.iter().enumerate() {
        paths.push(at(&format!("{i}.png")));
        rgb(image).save(&paths[i]).unwrap();
    }
    let args = ["run".to_owned(), cnv(), "--output".into(), at("pictures.npy")];
    json(args.iter().chain(&paths));
    let expected = npy::open(at("pictures.npy")).unwrap();
    assert_eq!(expected.shape, [4, 10]);
    for name in ["hwc.npy", "chw.npy", "flat.npy"] {
        let report = json(["run".to_owned(), cnv(), at(name), "--output".into(), at("out.npy")]);
        assert_eq!(npy::open(at("out.npy")).unwrap(), expected, "{name}");
        for (i, result) in report["results"].as_array().unwrap().iter().enumerate() {
            let best = result["top"][0]["class"].as_u64().unwrap() as usize;
            let scores = &expected.values[i * 10..][..10];
            assert_eq!(
                (&result["index"], scores[best]),
                (&i.into(), scores.iter().copied().fold(-1e9, f32::max))
            );
        }
    }
    // Several inputs follow each other in the output.
    json(["run".to_owned(), cnv(), at("one.npy"), paths[1].clone(), "--output".into(), at("out.npy")]);
    let out = npy::open(at("out.npy")).unwrap();
    assert_eq!((out.shape, &out.values[..]), (vec![2, 10], &expected.values[..20]));
    let out = succeed(["run".to_owned(), cnv(), at("hwc.npy")]);
    assert!(out.contains("hwc.npy: 4 samples") && out.contains("[3] "), "{out}");
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    npy::save(at("good.npy"), &[1, 28, 28], &[7.0; 784]).unwrap();
    let good = std::fs::read(at("good.npy")).unwrap();
    std::fs::write(at("short.npy"), &good[..good.len() - 4]).unwrap();
    std::fs::write(at("text.npy"), "text").unwrap();
    npy::save(at("shape.npy"), &[2, 5], &[0.0; 10]).unwrap();
    npy::save(at("none.npy"), &[0, 784], &[]).unwrap();
    npy::save(at("nan.npy"), &[784], &[f32::NAN; 784]).unwrap();
    npy::save(at("half.npy"), &[784], &[0.5; 784]).unwrap();
    for (name, expected) in [
        ("short.npy", "truncated"),
        ("text.npy", "no .npy array"),
        ("shape.npy", "has shape [2, 5], but the network takes [batch, 1, 28, 28]"),
        ("none.npy", "no samples"),
        ("nan.npy", "NaN"),
        ("half.npy", "0.5"),
        ("missing.npy", "no such file"),
    ] {
        let error = fail(["run".to_owned(), lfc(), at(name), "--output".into(), at("out.npy")]);
        assert!(error.contains(name) && error.contains(expected), "{error}");
        assert!(!dir.path().join("out.npy").exists());
    }
    let error = fail(["run".to_owned(), lfc(), at("good.npy"), "--output".into(), at("no/such/out.npy")]);
    assert!(error.contains("out.npy"), "{error}");
}

#[test]
fn accuracy_of_every_layout_of_data() {
    let dir = tempfile::tempdir().unwrap();
    mnist_folder(dir.path());
    let folder = text(dir.path());
    let report = json(["eval".to_owned(), lfc(), "--data".into(), folder.clone()]);
    assert_keys(&report, &["accuracy", "top5_accuracy", "images_per_second", "threads", "device", "isa"]);
    assert_eq!(
        (&report["correct"], &report["total"], &report["device"]),
        (&296.into(), &300.into(), &"cpu".into())
    );
    assert!((report["accuracy"].as_f64().unwrap() - 296.0 / 300.0).abs() < 1e-9);
    let args = ["--batch", "7", "--threads", "1", "--isa", "scalar"].map(str::to_owned);
    let small = json(["eval".to_owned(), lfc(), "--data".into(), folder.clone()].into_iter().chain(args));
    assert_eq!(
        (&small["correct"], &small["threads"], &small["isa"]),
        (&296.into(), &1.into(), &"scalar".into())
    );
    let out =
        succeed(["eval".to_owned(), lfc(), "--data".into(), folder.clone(), "--limit".into(), "10".into()]);
    assert!(out.contains("of 10"), "{out}");

    let file = text(&asset("cifar-10.bin"));
    let report = json(["eval".to_owned(), cnv(), "--data".into(), file.clone()]);
    assert_eq!((&report["correct"], &report["total"]), (&243.into(), &300.into()));
    // Colours of CIFAR-10 are fitted to the grey 28 x 28 input.
    assert_eq!(json(["eval".to_owned(), lfc(), "--data".into(), file])["total"], 300);
    for device in ["cuda", "wgpu"] {
        let args =
            ["eval".to_owned(), lfc(), "--data".into(), folder.clone(), "--device".into(), device.into()];
        assert!(fail(args).contains(&format!("no {device} backend")));
    }
}

/// Writes the first pictures as PNG files in one folder for each class.
fn class_folders(dir: &Path, names: &[&str], n: usize) -> usize {
    let data = cifar();
    let mut written = 0;
    for i in 0..n {
        if let Some(name) = names.get(data.labels()[i]) {
            let folder = dir.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            rgb(&data.image(i).unwrap()).save(folder.join(format!("{i}.png"))).unwrap();
            written += 1;
        }
    }
    written
}

#[test]
fn folders_of_pictures_and_lists_of_labels() {
    let names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let eval = |path: &Path| json(["eval".to_owned(), cnv(), "--data".into(), text(path)]);
    let data = asset("cifar-10.bin");
    let limited =
        json(["eval".to_owned(), cnv(), "--data".into(), text(&data), "--limit".into(), "40".into()]);

    let dir = tempfile::tempdir().unwrap();
    assert_eq!(class_folders(dir.path(), &names, 40), 40);
    assert_eq!(eval(dir.path())["correct"], limited["correct"]);
    // Some of the classes: names that the network knows count, not the order of the folders.
    std::fs::remove_dir_all(dir.path().join("airplane")).unwrap();
    let some = eval(dir.path());
    assert!(some["accuracy"].as_f64().unwrap() > 0.6, "{some}");
    // A damaged picture is named and counted, not fatal.
    std::fs::write(dir.path().join("ship/0.png"), "text").unwrap();
    let output = run(["eval".to_owned(), cnv(), "--data".into(), text(dir.path()), "--json".into()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("warning: ") && stderr.contains("0.png"), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["damaged"], &report["total"]), (&1.into(), &some["total"]));

    let list = tempfile::tempdir().unwrap();
    class_folders(list.path(), &names, 40);
    let lines: Vec<String> = (0..40)
        .map(|i| (i, cifar().labels()[i]))
        .map(|(i, label)| format!("{label},{}/{i}.png", names[label]))
        .collect();
    std::fs::write(list.path().join("labels.csv"), lines.join("\n")).unwrap();
    assert_eq!(eval(list.path())["correct"], limited["correct"]);
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let eval = |path: PathBuf| fail(["eval".to_owned(), cnv(), "--data".into(), text(&path)]);
    assert!(eval(at("")).contains("labels.csv"));
    assert!(eval(at("missing")).contains("missing"));
    let bytes = std::fs::read(asset("cifar-10.bin")).unwrap();
    std::fs::write(at("short.bin"), &bytes[..5000]).unwrap();
    assert!(eval(at("short.bin")).contains("short.bin"));
    std::fs::write(at("labels.csv"), "10,a.png").unwrap();
    assert!(eval(at("")).contains("class 10, but the network has 10 outputs"));
    std::fs::write(at("labels.csv"), "1,a.png\n2,b.png").unwrap();
    let output = run(["eval".to_owned(), cnv(), "--data".into(), text(&at(""))]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("none of the 2 pictures"));
}
