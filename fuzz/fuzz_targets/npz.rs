//! Any bytes are either refused with one sentence or a network of BinaryNet that can be optimised.
//!
//! They are tried as an archive, and as the arrays of one: a ZIP archive has checksums, which random changes break.
//!
//! ```text
//! cargo +nightly fuzz run npz fuzz/corpus/npz FOLDER_OF_NPZ_FILES
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit::import::ImportOptions;
use onebit::import::binarynet::parse;
use onebit::passes;
use std::io::Write;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&archive(data));
});

fn check(bytes: &[u8]) {
    match parse(bytes, Path::new("fuzz.npz"), &ImportOptions::default()) {
        Ok(mut imported) => {
            passes::optimize(&mut imported.graph).expect("what was imported can be optimised");
        }
        Err(e) => assert!(!e.to_string().contains(char::is_control), "{e:?}"),
    }
}

/// An archive of the arrays in `data`, each of which begins with the magic of one.
fn archive(data: &[u8]) -> Vec<u8> {
    let magic = b"\x93NUMPY";
    let starts: Vec<usize> = (0..data.len()).filter(|i| data[*i..].starts_with(magic)).collect();
    let mut bytes = Vec::new();
    let mut writer = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (i, start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(data.len());
        let name = format!("arr_{i}.npy");
        let (mut entry, config) = writer.new_file(name.as_str()).start().expect("the name is short");
        let mut out = config.wrap(&mut entry);
        out.write_all(&data[*start..end]).expect("memory takes all");
        let (_, descriptor) = out.finish().expect("memory takes all");
        entry.finish(descriptor).expect("memory takes all");
    }
    writer.finish().expect("memory takes all");
    bytes
}
