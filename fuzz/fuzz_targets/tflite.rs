//! Any bytes are either refused with one sentence or a network of TensorFlow Lite that can be optimised.
//!
//! ```text
//! cargo +nightly fuzz run tflite
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit::import::ImportOptions;
use onebit::import::tflite::read;
use onebit::passes::optimize;

fuzz_target!(|data: &[u8]| {
    // The identifier alone would take long to find.
    let mut file = data.to_vec();
    if let Some(identifier) = file.get_mut(4..8) {
        identifier.copy_from_slice(b"TFL3");
    }
    match read(&file, "fuzz.tflite", &ImportOptions::default()) {
        // Thresholds of large maps take long.
        Ok(mut imported) if imported.graph.nodes.iter().all(|n| n.params.each().all(|(_, t)| t.bytes() < 1 << 16)) => {
            optimize(&mut imported.graph).expect("an imported network is valid");
        }
        Ok(_) => {}
        Err(e) => assert!(!e.to_string().contains(char::is_control), "{e:?}"),
    }
});
