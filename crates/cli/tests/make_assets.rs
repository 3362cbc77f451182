//! Makes what `onebit demo` shows, from the published networks and data sets; see `assets/README.md`.

use flate2::{Compression, write::GzEncoder};
use onebit::import::{Classes, ImportOptions, import};
use onebit::meta::Accuracy;
use onebit::{Dataset, Options, Session, file, passes};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bundled pictures of each data set.
const PICTURES: usize = 300;

fn save_network(shared: &Path, source: &str, name: &str, options: ImportOptions, license: &str, data: &str) {
    let options = ImportOptions { name: Some(name.into()), ..options };
    let mut graph = import(&shared.join("models").join(source), &options).unwrap().graph;
    passes::optimize(&mut graph).unwrap();
    let (model, mut meta) = graph.into_model().unwrap();
    meta.license = license.into();
    let session = Session::new(&model, meta.clone(), &Options::default()).unwrap();
    let test = Dataset::open(shared.join("data").join(data)).unwrap();
    let mut correct = 0;
    for batch in test.batches(500) {
        let outputs = session.run_images(&batch.images).unwrap();
        correct += outputs.iter().zip(&batch.labels).filter(|(o, l)| o.class() == **l).count();
    }
    let data = match test.format() {
        "CIFAR-10" => format!("CIFAR-10 test, first {}", test.len()),
        _ => "MNIST t10k".to_owned(),
    };
    println!("{name}: {correct} of {} on {data}", test.len());
    meta.accuracy = Some(Accuracy { data, correct, total: test.len() });
    file::save(&model, &meta, &assets().join(format!("{}.onebit", name.to_lowercase().replace(' ', "-"))))
        .unwrap();
}

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets")
}

fn save_idx(name: &str, sizes: &[u32], bytes: &[u8]) {
    let mut content = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|s| content.extend_from_slice(&s.to_be_bytes()));
    content.extend_from_slice(bytes);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&content).unwrap();
    std::fs::write(assets().join(name), encoder.finish().unwrap()).unwrap();
}

#[test]
#[ignore = "writes crates/cli/assets; needs the published networks and data in ONEBIT_SHARED"]
fn make_assets() {
    let shared = PathBuf::from(std::env::var_os("ONEBIT_SHARED").expect("ONEBIT_SHARED names a folder"));
    let bsd = "BSD-3-Clause";
    let cifar_names =
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let named = ImportOptions {
        classes: Classes::Named(cifar_names.map(str::to_owned).to_vec()),
        ..ImportOptions::default()
    };
    let bytes = ImportOptions { std: vec![255.0], ..ImportOptions::default() };
    let lenet = "bmxnet/binarized_mnist_64bit-0001.params";
    save_network(&shared, "bnn-pynq/mnist/lfcW1A1", "LFC-W1A1", ImportOptions::default(), bsd, "mnist");
    save_network(&shared, "bnn-pynq/cifar10/cnvW1A1", "CNV-W1A1", named, bsd, "cifar-10");
    save_network(&shared, lenet, "BMXNet LeNet", bytes, "Apache-2.0", "mnist");
    for (family, name) in [("bnn-pynq", "LICENSE-BNN-PYNQ"), ("bmxnet", "LICENSE-BMXNET")] {
        // Read and written, not copied: the source may be read-only.
        let text = std::fs::read(shared.join("models").join(family).join("LICENSE")).unwrap();
        std::fs::write(assets().join(name), text).unwrap();
    }

    let mnist = Dataset::open(shared.join("data/mnist")).unwrap();
    let chosen: Vec<usize> = (0..PICTURES).map(|i| i * mnist.len() / PICTURES).collect();
    let pixels: Vec<u8> = chosen.iter().flat_map(|&i| mnist.image(i).unwrap().pixels).collect();
    let labels: Vec<u8> = chosen.iter().map(|&i| mnist.labels()[i] as u8).collect();
    save_idx("mnist-images-idx3-ubyte.gz", &[PICTURES as u32, 28, 28], &pixels);
    save_idx("mnist-labels-idx1-ubyte.gz", &[PICTURES as u32], &labels);

    let cifar = std::fs::read_dir(shared.join("data/cifar-10")).unwrap().map(|e| e.unwrap().path());
    let test =
        cifar.into_iter().find(|p| p.file_name().unwrap().to_string_lossy().starts_with("test")).unwrap();
    let records = std::fs::read(test).unwrap();
    std::fs::write(assets().join("cifar-10.bin"), &records[..PICTURES * 3073]).unwrap();
}
