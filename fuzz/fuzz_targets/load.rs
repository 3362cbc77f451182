//! Any bytes are either refused or a model that can be saved, loaded again, prepared, and run on every
//! kernel rung with the bits of the reference.
//!
//! ```text
//! cargo test -p onebit --test file -- --ignored write_fuzz_seeds
//! cargo +nightly fuzz run load fuzz/corpus/load crates/engine/tests/hostile crates/engine/tests/models
//! ```
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use onebit::ModelFile;
use onebit::core::cases::{Rng, pack, special_values};
use onebit::core::exec::Executor;
use onebit::core::kernels;
use onebit::core::model::{Model, Op};
use onebit::core::reference::{self, Values};
use onebit::file::to_bytes;

/// Multiplications and bytes that one run may cost.
const LARGEST: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let file = ModelFile::from_bytes(data.to_vec());
    let (model, meta) = match file.load() {
        Ok(loaded) => loaded,
        Err(e) => {
            assert!(!e.to_string().contains(char::is_control), "{e:?}");
            return;
        }
    };
    let again = ModelFile::from_bytes(to_bytes(&model, &meta).expect("what was loaded can be saved"));
    let (same, same_meta) = again.load().expect("what was saved can be loaded");
    assert!(same == model && same_meta == meta, "a round trip changes the model");
    if cost(&model) <= LARGEST {
        run(&model);
    }
});

/// Upper bound of the work of the reference and of the size of all values and tables.
fn cost(model: &Model<'_>) -> u64 {
    let bytes: u64 = model.types().iter().map(|t| t.arena_words() as u64 * 8).sum();
    let work = model.nodes().iter().enumerate().map(|(i, node)| {
        let out = model.types()[i + 1].shape.elements() as u64;
        let weight = node.params.weight.as_ref().map_or(1, |w| w.cols as u64);
        let taps = match &node.op {
            Op::BPool2d(p) => p.window.taps() as u64,
            Op::Pool2d(p) => p.window.taps() as u64,
            Op::BConv2d(c) => c.window.taps() as u64,
            Op::Conv2d(c) => c.window.taps() as u64,
            _ => 1,
        };
        out.saturating_mul(weight.max(taps))
    });
    work.fold(bytes, u64::saturating_add)
}

fn run(model: &Model<'_>) {
    let input = model.input();
    let mut images = vec![Rng::new(1).values(input)];
    images.extend(special_values(input));
    // Overflow to infinity and NaN is outside of what the ops promise.
    let results: Vec<_> =
        images.iter().map(|v| reference::run_all(model, v.clone()).expect("the input fits")).collect();
    let finite = results.iter().flatten().all(|v| match v {
        Values::F32(v) => v.iter().all(|x| x.is_finite()),
        Values::Int(_) => true,
    });
    if !finite {
        return;
    }
    let output = model.output();
    let packed: Vec<u64> = images.iter().flat_map(|v| pack(input, v)).collect();
    let want: Vec<u64> =
        results.iter().flat_map(|all| pack(output, all.last().expect("a model has nodes"))).collect();
    for rung in kernels::available() {
        let executor = Executor::new(model, rung).expect("it is small");
        let mut arena = vec![u64::MAX; executor.arena_words(images.len())];
        executor.input_mut(&mut arena, images.len()).copy_from_slice(&packed);
        executor.run(images.len(), &mut arena, |_| {});
        let mut got = executor.output_of(&arena, images.len()).to_vec();
        clear_slack(model, &mut got);
        assert!(got == want, "{} differs from the reference", rung.isa);
    }
}

/// Bytes after the last element of an image are unspecified unless the value is bit-packed.
fn clear_slack(model: &Model<'_>, words: &mut [u64]) {
    let output = model.output();
    for image in words.chunks_mut(output.arena_words()) {
        let used = output.dtype.bytes(output.shape) % 8;
        if let (Some(last), 1..) = (image.last_mut(), used) {
            *last &= u64::MAX >> (64 - 8 * used);
        }
    }
}

// Random changes of the file seldom survive the header, which is JSON in JSON after a length. So change the
// network's text or the tensors alone, and put them back into a consistent file.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let edited = if seed % 8 == 0 { None } else { edit(&data[..size], max_size, seed) };
    match edited {
        Some(bytes) if bytes.len() <= max_size => {
            data[..bytes.len()].copy_from_slice(&bytes);
            bytes.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});

fn edit(file: &[u8], max_size: usize, seed: u32) -> Option<Vec<u8>> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    let (header, tensors) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let mut header: serde_json::Value = serde_json::from_slice(header).ok()?;
    let mut tensors = tensors.to_vec();
    match seed / 8 % 4 {
        0 if !tensors.is_empty() => {
            let size = tensors.len();
            let after = fuzzer_mutate(&mut tensors, size, size);
            // The size stays, or the header would be wrong.
            tensors.resize(after, 0);
            tensors.resize(size, 0);
        }
        1 => {
            let mut document: serde_json::Value =
                serde_json::from_str(header["__metadata__"]["onebit"].as_str()?).ok()?;
            number(&mut document, seed)?;
            header["__metadata__"]["onebit"] = document.to_string().into();
        }
        2 => {
            let text = header["__metadata__"]["onebit"].as_str()?;
            let mut bytes = text.as_bytes().to_vec();
            let size = bytes.len();
            bytes.resize(size + 64, 0);
            let after = fuzzer_mutate(&mut bytes, size, size + 64);
            bytes.truncate(after);
            header["__metadata__"]["onebit"] = String::from_utf8(bytes).ok()?.into();
        }
        _ => node(&mut header, seed)?,
    }
    let mut text = header.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    out.extend(tensors);
    (out.len() <= max_size).then_some(out)
}

/// Changes one number anywhere in the network.
fn number(document: &mut serde_json::Value, seed: u32) -> Option<()> {
    fn all<'a>(v: &'a mut serde_json::Value, found: &mut Vec<&'a mut serde_json::Value>) {
        match v {
            serde_json::Value::Array(a) => a.iter_mut().for_each(|v| all(v, found)),
            serde_json::Value::Object(o) => o.values_mut().for_each(|v| all(v, found)),
            serde_json::Value::Number(_) => found.push(v),
            _ => {}
        }
    }
    let mut found = Vec::new();
    all(document, &mut found);
    let mut rng = Rng::new(seed.into());
    let at = rng.below(found.len().max(1));
    let old = found.get(at)?.as_f64()?;
    let new = match rng.below(6) {
        0 => old + 1.0,
        1 => old - 1.0,
        2 => old * 2.0,
        3 => (old / 2.0).trunc(),
        4 => rng.below(9) as f64,
        _ => rng.below(3) as f64 - 1.0,
    };
    *found.swap_remove(at) = match new == new.trunc() && new.abs() < 1e15 {
        true => (new as i64).into(),
        false => new.into(),
    };
    Some(())
}

/// Appends a node without constants that reads one or two random values.
fn node(header: &mut serde_json::Value, seed: u32) -> Option<()> {
    let mut document: serde_json::Value =
        serde_json::from_str(header["__metadata__"]["onebit"].as_str()?).ok()?;
    let mut rng = Rng::new(seed.into());
    let nodes = document.get_mut("nodes")?.as_array_mut()?;
    let mut names: Vec<String> = vec!["input".into()];
    names.extend(nodes.iter().filter_map(|n| Some(n["name"].as_str()?.to_owned())));
    let window = serde_json::json!({"kernel": [1 + rng.below(3), 1 + rng.below(3)],
        "stride": [1 + rng.below(2), 1 + rng.below(2)], "dilation": [1, 1 + rng.below(2)],
        "pad": [rng.below(2), rng.below(2), rng.below(2), rng.below(2)]});
    let mut new = serde_json::json!({"inputs": [names[rng.below(names.len())]]});
    let op = [
        "sign",
        "decode",
        "add",
        "mul",
        "concat",
        "softmax",
        "argmax",
        "activation",
        "quantize",
        "b_pool2d",
        "pool2d",
        "affine",
    ][rng.below(12)];
    new["op"] = op.into();
    new["name"] = format!("x{}", names.len()).into();
    match op {
        "sign" => new["zero"] = ["positive", "negative"][rng.below(2)].into(),
        "add" | "mul" | "concat" => {
            let other = names[rng.below(names.len())].clone();
            new["inputs"].as_array_mut()?.push(other.into());
        }
        "activation" => new["function"] = ["relu", "tanh", "sigmoid"][rng.below(3)].into(),
        "quantize" => {
            new["scale"] = rng.float(-2.0, 2.0).into();
            new["offset"] = rng.float(-2.0, 2.0).into();
            new["rounding"] = ["half_even", "half_up", "floor"][rng.below(3)].into();
            new["output"] = ["bytes-u8", "bytes-i8", "u2", "s3", "ternary"][rng.below(5)].into();
            new["lowest"] = 0.into();
            new["highest"] = 1.into();
        }
        _ => {}
    }
    if op.ends_with("pool2d") {
        new.as_object_mut()?.extend(window.as_object()?.clone());
    }
    if op == "pool2d" {
        new["kind"] = ["max", "average"][rng.below(2)].into();
        new["count_pad"] = (rng.below(2) == 1).into();
    }
    nodes.push(new);
    header["__metadata__"]["onebit"] = document.to_string().into();
    Some(())
}
