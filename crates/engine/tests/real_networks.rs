//! Trained networks of other projects, imported and run on real data: the number of right answers is exact.
//!
//! The networks and data lie in the folder that `ONEBIT_SHARED` names, or beside the workspace in `shared`. Without
//! it the tests are skipped.

use flate2::read::GzDecoder;
use onebit::import::{Classes, ImportOptions, import};
use onebit::session::Elements;
use onebit::{Graph, Image, Options, Session, passes};
use std::io::Read;
use std::path::{Path, PathBuf};

fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("ONEBIT_SHARED").map_or(beside, PathBuf::from);
    if !folder.join("models").is_dir() {
        eprintln!("skipped: no networks in {} (set ONEBIT_SHARED)", folder.display());
        return None;
    }
    Some(folder)
}

/// Pixels `[image][y][x][c]` and labels.
struct Data {
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Data {
    fn mnist(shared: &Path) -> Data {
        let read = |name: &str, header: usize| {
            let file = std::fs::File::open(shared.join("data/mnist").join(name)).unwrap();
            let mut bytes = Vec::new();
            GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
            bytes.split_off(header)
        };
        Data { pixels: read("t10k-images-idx3-ubyte.gz", 16), labels: read("t10k-labels-idx1-ubyte.gz", 8) }
    }

    /// Records of a label and three planes.
    fn cifar(path: &Path) -> Data {
        let bytes = std::fs::read(path).unwrap();
        let mut data = Data { pixels: Vec::new(), labels: Vec::new() };
        for record in bytes.chunks_exact(3073) {
            data.labels.push(record[0]);
            data.pixels.extend((0..3072).map(|i| record[1 + i % 3 * 1024 + i / 3]));
        }
        data
    }

    fn first(mut self, n: usize) -> Data {
        let image = self.pixels.len() / self.labels.len();
        self.pixels.truncate(n * image);
        self.labels.truncate(n);
        self
    }
}

/// The network after all passes. The first images give the same scores as the network as it was imported, on every
/// rung and with any number of threads.
fn session(graph: Graph, pixels: &[u8]) -> Session {
    let run = |graph: &Graph, isa: Option<&str>, threads: usize, pixels: &[u8]| {
        let (model, meta) = graph.clone().into_model().unwrap();
        let isa = isa.map(String::from);
        let session = Session::new(&model, meta, &Options { threads, isa }).unwrap();
        let outputs = session.run_elements(Elements::Pixels(pixels)).unwrap();
        (session, outputs)
    };
    let mut fused = graph.clone();
    passes::optimize(&mut fused).unwrap();
    let image = graph.ty(Graph::INPUT).shape.elements();
    let few = &pixels[..image * if image > 10_000 { 1 } else { 5 }];
    let (_, want) = run(&graph, None, 1, few);
    for rung in onebit::core::kernels::available() {
        for threads in [1, 3] {
            assert_eq!(run(&fused, Some(rung.isa), threads, few).1, want, "{}", rung.isa);
        }
    }
    run(&fused, None, 0, few).0
}

/// Images classified correctly, and their number.
fn score(path: &Path, options: &ImportOptions, data: Data) -> (usize, usize) {
    let imported = import(path, options).unwrap();
    eprintln!("{}: {:?}", path.display(), imported.notes);
    let session = session(imported.graph, &data.pixels);
    let outputs = session.run_elements(Elements::Pixels(&data.pixels)).unwrap();
    assert_eq!(outputs.len(), data.labels.len());
    let correct = outputs.iter().zip(&data.labels).filter(|(o, l)| o.class() == usize::from(**l)).count();
    (correct, outputs.len())
}

fn normalised(mean: &[f32], std: &[f32]) -> ImportOptions {
    ImportOptions { mean: mean.to_vec(), std: std.to_vec(), ..ImportOptions::default() }
}

const RGB_MEAN: [f32; 3] = [123.68, 116.779, 103.939];

#[test]
fn bnn_pynq_lfc_w1a1() {
    let Some(shared) = shared() else { return };
    let path = shared.join("models/bnn-pynq/mnist/lfcW1A1");
    assert_eq!(score(&path, &ImportOptions::default(), Data::mnist(&shared)), (9834, 10000));
}

#[test]
fn bnn_pynq_class_names_and_counts() {
    let Some(shared) = shared() else { return };
    let path = shared.join("models/bnn-pynq/cifar10/cnvW1A1");
    let outputs = |classes| {
        let imported = import(&path, &ImportOptions { classes, ..ImportOptions::default() }).unwrap();
        let names = imported.graph.meta.classes.len();
        (imported.graph.ty(imported.graph.output).shape.c, names)
    };
    assert_eq!(outputs(Classes::FromSource), (10, 10));
    assert_eq!(outputs(Classes::First(44)), (44, 0));
    assert_eq!(outputs(Classes::Named(vec!["a".into(); 3])), (3, 3));
    let options = ImportOptions { classes: Classes::First(65), ..ImportOptions::default() };
    assert!(import(&path, &options).is_err());
}

fn cnv(shared: &Path, name: &str, n: usize) -> (usize, usize) {
    let data = Data::cifar(&shared.join("data/cifar-10/test_batch_2000.bin")).first(n);
    score(&shared.join("models/bnn-pynq/cifar10").join(name), &ImportOptions::default(), data)
}

#[test]
fn bnn_pynq_cnv() {
    let Some(shared) = shared() else { return };
    assert_eq!(cnv(&shared, "cnvW1A2", 1000), (849, 1000));
    assert_eq!(cnv(&shared, "cnvW1A1", 2000), (1606, 2000));
}

/// The sample above is the first fifth of it.
#[test]
fn bnn_pynq_cnv_w1a1_on_all_of_cifar() {
    let Some(shared) = shared() else { return };
    let file = shared.join("data/cifar-10/test_batch.bin");
    if !file.is_file() {
        return eprintln!("skipped: no {}", file.display());
    }
    let path = shared.join("models/bnn-pynq/cifar10/cnvW1A1");
    assert_eq!(score(&path, &ImportOptions::default(), Data::cifar(&file)), (7922, 10000));
}

fn lenet(shared: &Path, bits: usize, n: usize) -> (usize, usize) {
    let path = shared.join(format!("models/bmxnet/binarized_mnist_{bits}bit-0001.params"));
    score(&path, &normalised(&[], &[255.0]), Data::mnist(shared).first(n))
}

#[test]
fn bmxnet_lenet() {
    let Some(shared) = shared() else { return };
    assert_eq!(lenet(&shared, 64, 10000), (9740, 10000));
    assert_eq!(lenet(&shared, 32, 10000), (9740, 10000));
}

fn resnet_cifar(shared: &Path, n: usize) -> (usize, usize) {
    let data = Data::cifar(&shared.join("data/cifar-10/test_batch_2000.bin")).first(n);
    let path = shared.join("models/bmxnet/binarized_cifar10-resnet18-64bit-0000.params");
    score(&path, &normalised(&RGB_MEAN, &[]), data)
}

#[test]
fn bmxnet_resnet18_cifar() {
    let Some(shared) = shared() else { return };
    assert_eq!(resnet_cifar(&shared, 1000), (851, 1000));
}

/// Pictures among the first `n` of the sample whose class is the first, or one of the first five.
fn imagenet(shared: &Path, n: usize) -> (usize, usize) {
    let path = shared.join("models/bmxnet/binarized_imagenet-resnet18-64bit-0040.params");
    let graph = import(&path, &normalised(&RGB_MEAN, &[])).unwrap().graph;
    assert_eq!((graph.ty(Graph::INPUT).shape.h, graph.meta.input.resize), (224, 256));
    let folder = shared.join("data/imagenet-sample");
    let list = std::fs::read_to_string(folder.join("labels.csv")).unwrap();
    let rows: Vec<(usize, &str)> = list
        .lines()
        .filter_map(|l| l.split_once(',').and_then(|(c, f)| Some((c.parse().ok()?, f))))
        .take(n)
        .collect();
    let images: Vec<Image> = rows.iter().map(|(_, f)| Image::open(folder.join(f)).unwrap()).collect();
    let first = images[0].fit(graph.ty(Graph::INPUT).shape, &graph.meta.input).unwrap();
    let session = session(graph, &first.pixels);
    let outputs = session.run_images(&images).unwrap();
    let among = |k| outputs.iter().zip(&rows).filter(|(o, (class, _))| o.top(k).contains(class)).count();
    (among(1), among(5))
}

#[test]
fn bmxnet_resnet18_imagenet() {
    let Some(shared) = shared() else { return };
    // Decoders of JPEG may differ in the last bit, so a picture more or less is no error.
    let (top1, top5) = imagenet(&shared, 100);
    assert!((45..=50).contains(&top1) && (70..=75).contains(&top5), "{top1}, {top5} of 100");
}
