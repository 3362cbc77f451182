//! Any bytes are either refused with one sentence or a network of Espresso that can be optimised.
//!
//! ```text
//! cargo +nightly fuzz run espresso fuzz/corpus/espresso FOLDER_OF_ESP_FILES
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit::import::ImportOptions;
use onebit::import::espresso::parse;
use onebit::passes;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    for input in [None, Some([8, 8, 1])] {
        let options = ImportOptions { input, ..ImportOptions::default() };
        match parse(data, Path::new("fuzz.esp"), &options) {
            Ok(mut imported) => {
                passes::optimize(&mut imported.graph).expect("what was imported can be optimised");
            }
            Err(e) => assert!(!e.to_string().contains(char::is_control), "{e:?}"),
        }
    }
});
