//! A BNN-PYNQ folder of which one file is any bytes is either refused with one sentence or a network that can be optimised.
//!
//! ```text
//! cargo +nightly fuzz run finn
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit::import::bnn_pynq::BnnPynq;
use onebit::import::{ImportOptions, Importer};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Elements, and words of weights and thresholds of each, of the four layers of LFC.
const LAYERS: [(usize, usize, usize); 4] = [(32, 416, 32), (64, 512, 16), (32, 512, 32), (16, 512, 4)];

fuzz_target!(|data: &[u8]| {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(write);
    // Two bytes choose the file.
    let Some(([layer, kind], content)) = data.split_first_chunk::<2>() else { return };
    let (weights, thresholds) = (LAYERS[usize::from(layer % 4)].1, LAYERS[usize::from(layer % 4)].2);
    let (what, good) = if kind % 2 == 0 { ("weights", weights) } else { ("thres", thresholds) };
    let path = folder.join(format!("{}-0-{what}.bin", layer % 4));
    // A file of the right size shows more than how sizes are checked.
    let content = if kind & 2 == 0 { content.to_vec() } else { repeated(content, good * 8) };
    std::fs::write(&path, content).expect("the folder is writable");
    if let Err(e) = BnnPynq.import(folder, &ImportOptions::default()) {
        assert!(!e.to_string().contains(char::is_control), "{e:?}");
    }
    std::fs::write(&path, vec![0; good * 8]).expect("the folder is writable");
});

fn repeated(content: &[u8], length: usize) -> Vec<u8> {
    content.iter().copied().cycle().chain(std::iter::repeat(0)).take(length).collect()
}

/// A valid folder.
fn write() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("onebit-fuzz-finn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let file = |folder: &Path, name: String, words: usize| {
        std::fs::write(folder.join(name), vec![0; words * 8]).expect("the folder is writable");
    };
    for (layer, (elements, weights, thresholds)) in LAYERS.into_iter().enumerate() {
        for element in 0..elements {
            file(&folder, format!("{layer}-{element}-weights.bin"), weights);
            file(&folder, format!("{layer}-{element}-thres.bin"), thresholds);
        }
    }
    folder
}
