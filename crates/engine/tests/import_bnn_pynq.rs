//! BNN-PYNQ folders of random weights in all precisions, against the arithmetic of the hardware: padded rows,
//! matches or signed sums, fixed-point first layer.

use onebit::import::{Classes, ImportOptions, import};
use onebit::session::Elements;
use onebit::{Options, Session};
use std::path::Path;

/// Rows, columns, neurons at once, inputs at once.
type Fold = (usize, usize, usize, usize);

const LFC: [Fold; 4] = [(1024, 832, 32, 64), (1024, 1024, 64, 32), (1024, 1024, 32, 64), (64, 1024, 16, 8)];
/// A word holds 32 weights of two bits.
const LFC_W2: [Fold; 4] =
    [(1024, 832, 64, 32), (1024, 1024, 32, 32), (1024, 1024, 64, 16), (64, 1024, 16, 8)];
const CNV_W1: [Fold; 9] = [
    (64, 27, 16, 3),
    (64, 576, 32, 32),
    (128, 576, 16, 32),
    (128, 1152, 16, 32),
    (256, 1152, 4, 32),
    (256, 2304, 1, 32),
    (512, 256, 1, 4),
    (512, 512, 1, 8),
    (64, 512, 4, 1),
];
/// Two-bit weights are folded differently.
const CNV_W2: [Fold; 9] = [
    (64, 27, 8, 3),
    (64, 576, 16, 16),
    (128, 576, 8, 16),
    (128, 1152, 8, 16),
    (256, 1152, 4, 8),
    (256, 2304, 1, 8),
    (512, 256, 1, 2),
    (512, 512, 2, 2),
    (64, 512, 4, 1),
];

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n) as i64
    }
}

struct Layer {
    fold: Fold,
    weights: Vec<i64>,
    /// `[row][level]`.
    thresholds: Vec<i64>,
}

/// Layers of weights that are +-1 (one bit), or at least `lowest` and at most 1 (two bits).
fn random_layers(
    folds: &[Fold],
    weight_bits: usize,
    lowest: i64,
    levels: usize,
    rng: &mut Rng,
) -> Vec<Layer> {
    let layers = folds.iter().enumerate().map(|(i, &fold)| {
        let (rows, cols, ..) = fold;
        let mut weight = |_| match weight_bits {
            1 => 2 * rng.below(2) - 1,
            _ => rng.below((2 - lowest) as u64) + lowest,
        };
        let weights: Vec<i64> = (0..rows * cols).map(&mut weight).collect();
        let last = i + 1 == folds.len();
        let spread = (cols as f64).sqrt() as i64 + 1;
        let per_row = if last { 1 } else { levels };
        let mut thresholds = Vec::new();
        for _ in 0..rows {
            let centre = rng.below(2 * spread as u64) - spread;
            for l in 0..per_row as i64 {
                let t = centre + (2 * l - 1) * (per_row as i64 - 1) * spread / 4;
                let popcount = weight_bits == 1 && levels == 1;
                thresholds.push(match (i == 0 && cols == 27, popcount) {
                    // Fixed point: 256ths, of inputs in 128ths.
                    (true, _) => t * 128 + rng.below(256),
                    (_, true) => (cols as i64 + t) / 2,
                    _ => t,
                });
            }
        }
        Layer { fold, weights, thresholds }
    });
    layers.collect()
}

fn write(folder: &Path, layers: &[Layer], weight_bits: usize, cnv: bool) {
    for (i, layer) in layers.iter().enumerate() {
        let (rows, cols, pe, simd) = layer.fold;
        let levels = layer.thresholds.len() / rows;
        for p in 0..pe {
            let (mut words, mut thresholds) = (Vec::new(), Vec::new());
            for row in (p..rows).step_by(pe) {
                for group in layer.weights[row * cols..][..cols].chunks(simd) {
                    let code = |w: i64| if weight_bits == 1 { (w > 0) as u64 } else { w as u64 & 3 };
                    words.push(group.iter().rev().fold(0, |word, w| word << weight_bits | code(*w)));
                }
                thresholds.extend(layer.thresholds[row * levels..][..levels].iter().map(|t| *t as u64));
            }
            let bytes = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
            std::fs::write(folder.join(format!("{i}-{p}-weights.bin")), bytes(&words)).unwrap();
            if !(cnv && i == 8) {
                std::fs::write(folder.join(format!("{i}-{p}-thres.bin")), bytes(&thresholds)).unwrap();
            }
        }
    }
}

/// Activations of one neuron's level.
fn fire(layer: &Layer, row: usize, sum: i64, first_cnv: bool, popcount: bool) -> i64 {
    let (rows, cols, ..) = layer.fold;
    let levels = layer.thresholds.len() / rows;
    let sum = if first_cnv {
        2 * sum
    } else if popcount {
        (sum + cols as i64) / 2
    } else {
        sum
    };
    let above = layer.thresholds[row * levels..][..levels].iter().filter(|t| sum > **t).count() as i64;
    if levels == 1 { 2 * above - 1 } else { above - 1 }
}

fn dot(layer: &Layer, row: usize, x: &[i64]) -> i64 {
    let cols = layer.fold.1;
    assert_eq!(x.len(), cols);
    layer.weights[row * cols..][..cols].iter().zip(x).map(|(w, x)| w * x).sum()
}

fn run_lfc(layers: &[Layer], popcount: bool, pixels: &[u8]) -> Vec<i64> {
    let mut x: Vec<i64> = pixels.iter().map(|p| if *p >= 128 { 1 } else { -1 }).collect();
    x.resize(832, -1);
    for (i, layer) in layers.iter().enumerate() {
        let sums = (0..layer.fold.0).map(|r| dot(layer, r, &x));
        if i == 3 {
            return sums.collect();
        }
        x = sums.enumerate().map(|(r, s)| fire(layer, r, s, false, popcount)).collect();
    }
    unreachable!()
}

fn run_cnv(layers: &[Layer], popcount: bool, pixels: &[u8]) -> Vec<i64> {
    let fixed =
        |p: &u8| ((2.0 * f64::from(*p) / 255.0 - 1.0) * 128.0 + 0.5).floor().clamp(-128.0, 127.0) as i64;
    let mut x: Vec<i64> = pixels.iter().map(fixed).collect();
    let (mut size, mut c) = (32, 3);
    for (i, layer) in layers.iter().enumerate() {
        let rows = layer.fold.0;
        if i >= 6 {
            let sums = (0..rows).map(|r| dot(layer, r, &x));
            if i == 8 {
                return sums.collect();
            }
            x = sums.enumerate().map(|(r, s)| fire(layer, r, s, false, popcount)).collect();
            continue;
        }
        let mut out = Vec::new();
        for y in 0..size - 2 {
            for left in 0..size - 2 {
                let patch: Vec<i64> =
                    (0..3).flat_map(|dy| x[((y + dy) * size + left) * c..][..3 * c].to_vec()).collect();
                out.extend((0..rows).map(|r| fire(layer, r, dot(layer, r, &patch), i == 0, popcount)));
            }
        }
        (x, size, c) = (out, size - 2, rows);
        if i == 1 || i == 3 {
            let at = |y: usize, x_: usize, ch: usize| x[(y * size + x_) * c + ch];
            let half = size / 2;
            let pooled = (0..half * half * c).map(|o| {
                let (y, left, ch) = (o / c / half * 2, o / c % half * 2, o % c);
                at(y, left, ch).max(at(y, left + 1, ch)).max(at(y + 1, left, ch)).max(at(y + 1, left + 1, ch))
            });
            (x, size) = (pooled.collect(), half);
        }
    }
    unreachable!()
}

fn check(folds: &[Fold], weight_bits: usize, levels: usize, classes: usize, seed: u64) {
    check_weights(folds, weight_bits, -1, levels, classes, seed);
}

fn check_weights(folds: &[Fold], weight_bits: usize, lowest: i64, levels: usize, classes: usize, seed: u64) {
    let mut rng = Rng(seed);
    let cnv = folds.len() == 9;
    let layers = random_layers(folds, weight_bits, lowest, levels, &mut rng);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &layers, weight_bits, cnv);
    let options = ImportOptions { classes: Classes::First(classes), ..ImportOptions::default() };
    let imported = import(dir.path(), &options).unwrap();
    assert_eq!(imported.format, "bnn-pynq");
    let (model, meta) = imported.graph.into_model().unwrap();
    let session = Session::new(&model, meta, &Options::default()).unwrap();
    let n = if cnv { 3072 } else { 784 };
    let pixels: Vec<u8> = (0..n).map(|_| rng.below(256) as u8).collect();
    let popcount = weight_bits == 1 && levels == 1;
    let mut expected =
        if cnv { run_cnv(&layers, popcount, &pixels) } else { run_lfc(&layers, popcount, &pixels) };
    expected.truncate(classes);
    let scores = session.run_elements(Elements::Pixels(&pixels)).unwrap().remove(0).scores;
    assert_eq!(scores, expected.iter().map(|v| *v as f32).collect::<Vec<f32>>());
    let differs = scores.windows(2).any(|w| w[0] != w[1]);
    assert!(differs, "the network is not degenerate");
}

#[test]
fn lfc_w1a1() {
    check(&LFC, 1, 1, 10, 1);
}

#[test]
fn lfc_w1a2() {
    check(&LFC, 1, 2, 62, 2);
}

#[test]
fn cnv_w1a1_with_44_classes() {
    check(&CNV_W1, 1, 1, 44, 3);
}

#[test]
fn cnv_w1a2() {
    check(&CNV_W1, 1, 2, 10, 4);
}

#[test]
fn cnv_w2a2() {
    check(&CNV_W2, 2, 2, 10, 5);
}

#[test]
fn lfc_w2a2() {
    check(&LFC_W2, 2, 2, 10, 7);
}

#[test]
fn all_weights_of_two_bits() {
    check_weights(&LFC_W2, 2, -2, 2, 62, 8);
    check_weights(&CNV_W2, 2, -2, 2, 44, 9);
}

/// Scores of a folder for random pixels, all outputs.
fn scores(folder: &Path, pixels: &[u8]) -> Vec<f32> {
    let options = ImportOptions { classes: Classes::First(64), ..ImportOptions::default() };
    let (model, meta) = import(folder, &options).unwrap().graph.into_model().unwrap();
    let session = Session::new(&model, meta, &Options::default()).unwrap();
    session.run_elements(Elements::Pixels(pixels)).unwrap().remove(0).scores
}

#[test]
fn the_same_weights_in_one_and_two_bits_are_the_same_network() {
    let mut rng = Rng(10);
    for (folds, n) in [(&LFC_W2[..], 784), (&CNV_W1[..], 3072)] {
        let layers = random_layers(folds, 1, -1, 2, &mut rng);
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(one.path(), &layers, 1, n == 3072);
        write(two.path(), &layers, 2, n == 3072);
        let pixels: Vec<u8> = (0..n).map(|_| rng.below(256) as u8).collect();
        assert_eq!(scores(one.path(), &pixels), scores(two.path(), &pixels));
    }
}

#[test]
fn damaged_folders_give_a_sentence_that_names_the_file() {
    let mut rng = Rng(11);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &random_layers(&LFC, 1, -1, 1, &mut rng), 1, false);
    let mut names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    // Thresholds of the last layer are not read.
    names.retain(|n| !(n.starts_with("3-") && n.ends_with("-thres.bin")));
    names.sort();
    for _ in 0..40 {
        let name = &names[rng.below(names.len() as u64) as usize];
        let path = dir.path().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bytes = good.clone();
        let truncated = rng.below(2) == 0;
        if truncated {
            bytes.truncate(rng.below(good.len() as u64) as usize);
        } else {
            bytes.extend(vec![255; rng.below(4) as usize * good.len()]);
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
        std::fs::write(&path, &bytes).unwrap();
        match import(dir.path(), &ImportOptions::default()) {
            Ok(_) => assert!(!truncated, "{name} with {} bytes", bytes.len()),
            Err(e) => assert!(e.to_string().contains(".bin"), "{e}"),
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert!(import(dir.path(), &ImportOptions::default()).is_ok());
}

#[test]
fn class_counts_come_from_the_folder_and_missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let layers = random_layers(&LFC, 1, -1, 1, &mut Rng(6));
    write(dir.path(), &layers, 1, false);
    let outputs = || {
        let imported = import(dir.path(), &ImportOptions::default()).unwrap();
        (imported.graph.ty(imported.graph.output).shape.c, imported.graph.meta.classes, imported.notes.len())
    };
    assert_eq!(outputs(), (10, vec![], 1));
    let wrong = ImportOptions { input: Some([32, 32, 3]), ..ImportOptions::default() };
    assert!(import(dir.path(), &wrong).unwrap_err().to_string().contains("28x28x1"));
    std::fs::write(dir.path().join("classes.txt"), "a\nb c\r\n\nd\n").unwrap();
    assert_eq!(outputs(), (3, vec!["a".to_string(), "b c".into(), "d".into()], 0));
    for name in ["1-17-weights.bin", "2-0-thres.bin", "1-63-weights.bin"] {
        let path = dir.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        let error = || import(dir.path(), &ImportOptions::default()).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error().contains(name), "{}", error());
        std::fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
        assert!(error().contains(name), "{}", error());
        std::fs::write(&path, bytes).unwrap();
    }
}
