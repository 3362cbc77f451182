//! A BMXNet network of any bytes, the graph before the first 0 byte and the parameters behind it, is either refused with one
//! sentence or a network that can be optimised.
//!
//! ```text
//! cargo +nightly fuzz run bmxnet
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit::import::bmxnet::BmxNet;
use onebit::import::{ImportOptions, Importer};
use onebit::passes;
use std::path::PathBuf;
use std::sync::OnceLock;

fuzz_target!(|data: &[u8]| {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("onebit-fuzz-bmxnet-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        folder
    });
    let Some(end) = data.iter().position(|b| *b == 0) else { return };
    let network = folder.join("net-0000.params");
    std::fs::write(folder.join("net-symbol.json"), &data[..end]).expect("the folder is writable");
    std::fs::write(&network, &data[end + 1..]).expect("the folder is writable");
    match BmxNet.import(&network, &ImportOptions::default()) {
        Ok(mut imported) => drop(passes::optimize(&mut imported.graph)),
        Err(e) => assert!(!e.to_string().contains(char::is_control), "{e:?}"),
    }
});
