//! BinCNN: a folder of random weights against the arithmetic of its program, and the published weights against their
//! float twins.
//!
//! The published ones lie in the folder that `ONEBIT_SHARED` names, or beside the workspace in `shared`; without it that
//! test is skipped.

use onebit::import::{Classes, ImportOptions, import};
use onebit::session::Elements;
use onebit::{Graph, Options, Session, passes};
use std::path::{Path, PathBuf};

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// Name, rows, words of a row, bits of a word.
const FILES: [(&str, usize, usize, usize); 5] = [
    ("pkwConv1.bin", 32, 3, 25),
    ("pkwConv2.bin", 32, 32, 25),
    ("pkwD1.bin", 100, 576, 32),
    ("pkwD2.bin", 100, 4, 25),
    ("pkwD3.bin", 4, 4, 25),
];

/// Random words; rows of few bits differ enough for all layers to matter.
fn write(folder: &Path, rng: &mut Rng) -> Vec<Vec<u32>> {
    let files = FILES.map(|(name, rows, words, bits)| {
        let all: Vec<u32> = (0..rows * words).map(|_| rng.below(1 << bits) as u32).collect();
        let bytes: Vec<u8> = all.iter().flat_map(|w| w.to_le_bytes()).collect();
        std::fs::write(folder.join(name), bytes).unwrap();
        all
    });
    files.into()
}

/// The program: 25 (or 32) inputs in a word, the first in its highest bit; maxima of sums; signs above 0.
fn program(files: &[Vec<u32>], pixels: &[u8]) -> Vec<i32> {
    let matches = |a: u32, b: u32, bits: u32| bits as i32 - 2 * (a ^ b).count_ones() as i32;
    let mut size = 96;
    // Planes of whole numbers, above 0 for bits that are set.
    let mut planes: Vec<Vec<i32>> = (0..3)
        .map(|c| (0..96 * 96).map(|p| i32::from(pixels[p * 3 + c]) - [127, 100, 70][c]).collect())
        .collect();
    for weights in &files[..2] {
        let channels = planes.len();
        let patch = |plane: &[i32], y: usize, x: usize| {
            (0..25).fold(0u32, |word, tap| {
                let (yy, xx) = ((y + tap / 5).wrapping_sub(2), (x + tap % 5).wrapping_sub(2));
                let inside = yy < size && xx < size;
                word << 1 | u32::from(inside && plane[yy * size + xx] > 0)
            })
        };
        let patches: Vec<Vec<u32>> = planes
            .iter()
            .map(|plane| (0..size * size).map(|p| patch(plane, p / size, p % size)).collect())
            .collect();
        let sum = |n: usize, p: usize| -> i32 {
            (0..channels).map(|c| matches(weights[n * channels + c], patches[c][p], 25)).sum()
        };
        let half = size / 2;
        planes = (0..32)
            .map(|n| {
                let sums: Vec<i32> = (0..size * size).map(|p| sum(n, p)).collect();
                let pooled = (0..half * half).map(|o| {
                    let first = o / half * 2 * size + o % half * 2;
                    sums[first].max(sums[first + 1]).max(sums[first + size]).max(sums[first + size + 1])
                });
                pooled.collect()
            })
            .collect();
        size = half;
    }
    let dense = |weights: &[u32], words: &[u32], bits: u32| -> Vec<i32> {
        let row = |row: &[u32]| row.iter().zip(words).map(|(w, x)| matches(*w, *x, bits)).sum();
        weights.chunks(words.len()).map(row).collect()
    };
    let pixel = |p: usize| planes.iter().fold(0u32, |word, plane| word << 1 | u32::from(plane[p] > 0));
    let mut x = dense(&files[2], &(0..size * size).map(pixel).collect::<Vec<_>>(), 32);
    for weights in &files[3..] {
        let pack = |x: &[i32]| x.iter().fold(0u32, |word, v| word << 1 | u32::from(*v > 0));
        x = dense(weights, &x.chunks(25).map(pack).collect::<Vec<_>>(), 25);
    }
    x
}

fn scores(graph: &Graph, pixels: &[u8]) -> Vec<Vec<f32>> {
    let mut fused = graph.clone();
    passes::optimize(&mut fused).unwrap();
    let run = |graph: Graph| -> Vec<Vec<f32>> {
        let (model, meta) = graph.into_model().unwrap();
        let session = Session::new(&model, meta, &Options::default()).unwrap();
        session.run_elements(Elements::Pixels(pixels)).unwrap().into_iter().map(|o| o.scores).collect()
    };
    let (plain, fused) = (run(graph.clone()), run(fused));
    assert_eq!(plain, fused);
    fused
}

/// Noise, each picture brighter than the one before: random filters tell those apart.
fn pictures(n: usize, rng: &mut Rng) -> Vec<u8> {
    let pixels = 96 * 96 * 3;
    (0..n * pixels).map(|i| (rng.below(100) as usize + i / pixels * 150 / n) as u8).collect()
}

#[test]
fn folders_equal_the_program() {
    let mut rng = Rng(1);
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), &mut rng);
    let pixels = pictures(6, &mut rng);
    let imported = import(dir.path(), &ImportOptions::default()).unwrap();
    assert_eq!((imported.format, imported.notes.len()), ("bincnn", 1));
    let want: Vec<Vec<f32>> =
        pixels.chunks(96 * 96 * 3).map(|p| program(&files, p).iter().map(|v| *v as f32).collect()).collect();
    assert_eq!(scores(&imported.graph, &pixels), want);
    assert!(want.iter().any(|w| w != &want[0]), "pictures matter");
    let two = ImportOptions { classes: Classes::First(2), ..ImportOptions::default() };
    let cut = import(dir.path(), &two).unwrap();
    assert_eq!(scores(&cut.graph, &pixels)[0], want[0][..2]);
    let wrong = ImportOptions { input: Some([32, 32, 3]), ..ImportOptions::default() };
    assert!(import(dir.path(), &wrong).unwrap_err().to_string().contains("96"));
}

#[test]
fn wrong_files_are_named() {
    let mut rng = Rng(2);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &mut rng);
    let error = || import(dir.path(), &ImportOptions::default()).unwrap_err().to_string();
    for (name, .., bits) in FILES.iter().skip(1) {
        let path = dir.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(error().contains(name), "{}", error());
        for n in [0, 1, bytes.len() - 4, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..n]).unwrap();
            assert!(error().contains(name) && error().contains("expected"), "{}", error());
        }
        if *bits < 32 {
            let mut wrong = bytes.clone();
            wrong[3] = 0x80;
            std::fs::write(&path, wrong).unwrap();
            assert!(error().contains(name) && error().contains("25 bits"), "{}", error());
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(import(dir.path(), &ImportOptions::default()).is_ok());
}

fn published() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("ONEBIT_SHARED").map_or(beside, PathBuf::from).join("models/bincnn");
    if !folder.is_dir() {
        eprintln!("skipped: no networks in {} (set ONEBIT_SHARED)", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn published_weights_equal_their_float_twins() {
    let Some(folder) = published() else { return };
    let imported = import(&folder, &ImportOptions::default()).unwrap();
    // Twins are `[filter][channel][tap]` and `[row][input]`; ours are `[filter][tap][channel]`.
    for (layer, twin, channels) in
        [("conv1", "fwConv1", 3), ("conv2", "fwConv2", 32), ("fc2", "fwD2", 1), ("fc3", "fwD3", 1)]
    {
        let bytes = std::fs::read(folder.join("float").join(format!("{twin}.bin"))).unwrap();
        let twin: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let node = imported.graph.nodes.iter().find(|n| n.name == layer).unwrap();
        let weight = node.params.weight.as_ref().unwrap();
        let ours = weight.to_f32();
        assert_eq!(ours.len(), twin.len(), "{layer}");
        let taps = weight.cols / channels;
        for (i, w) in ours.iter().enumerate() {
            let (row, tap, c) = (i / weight.cols, i % weight.cols / channels, i % channels);
            assert_eq!(*w, twin[(row * channels + c) * taps + tap], "{layer} {i}");
        }
    }
    let words = FILES.map(|(name, ..)| {
        let bytes = std::fs::read(folder.join("packed").join(name)).unwrap();
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<u32>>()
    });
    let pixels = pictures(3, &mut Rng(3));
    let want: Vec<Vec<f32>> =
        pixels.chunks(96 * 96 * 3).map(|p| program(&words, p).iter().map(|v| *v as f32).collect()).collect();
    assert_eq!(scores(&imported.graph, &pixels), want);
}
