//! Model files keep networks exactly, survive damage, and are replaced in one step.

use onebit::core::cases::{self, Case, Rng};
use onebit::core::model::{Data, Model, Node, Params, Tensor};
use onebit::core::ops::{Activation, BConv2d, BDense, Conv2d, Op, Quantize, Reshape, Rounding, Window};
use onebit::core::reference;
use onebit::core::types::{DType, Quant, Shape};
use onebit::file::{save, to_bytes};
use onebit::meta::{Accuracy, Layout, Preprocessing, Training};
use onebit::session::Elements;
use onebit::{Meta, ModelFile, Options, Session};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

#[path = "hostile/cases.rs"]
#[allow(dead_code)]
mod hostile;

fn node(name: &str, op: Op, inputs: &[usize], params: Params<Tensor<'static>>) -> Node<'static> {
    Node { name: name.into(), op, inputs: inputs.into(), params }
}

/// The op of a case; inputs of another type than the first come from dense layers.
fn model(case: &Case, rng: &mut Rng) -> Option<Model<'static>> {
    if case.inputs.iter().all(|t| *t == case.inputs[0]) {
        let inputs = vec![0; case.inputs.len()];
        return Some(
            Model::new(case.inputs[0], vec![node("op", case.op, &inputs, case.params.clone())]).unwrap(),
        );
    }
    let source = cases::map(1, 1, 9, DType::BIT);
    let (mut nodes, mut ids) = (Vec::new(), Vec::new());
    for (i, t) in case.inputs.iter().enumerate() {
        let n = t.shape.elements();
        let mut params = Params { weight: Some(rng.weights(n, 9, Quant::BIT)), ..Params::default() };
        match t.dtype {
            DType::Bits(q) => params.thresholds = Some(rng.thresholds(n, q.levels() - 1, 4)),
            DType::U8 | DType::I8 => return None,
            _ => {}
        }
        nodes.push(node(&format!("dense {i}"), Op::BDense(BDense { output: t.dtype }), &[0], params));
        let shape = Op::Reshape(Reshape { shape: t.shape });
        nodes.push(node(&format!("reshape.{i}"), shape, &[nodes.len()], Params::default()));
        ids.push(nodes.len());
    }
    nodes.push(node("op", case.op, &ids, case.params.clone()));
    Some(Model::new(source, nodes).unwrap())
}

fn some_meta(channels: usize) -> Meta {
    Meta {
        name: "a \"name\" \\ with ü and \t".into(),
        source: "made up".into(),
        license: "CC0".into(),
        input: Preprocessing {
            layout: Layout::Nchw,
            mean: (0..channels).map(|c| 0.1 * c as f32).collect(),
            std: vec![1.0 / 3.0],
            resize: 256,
        },
        classes: vec!["".into(), "cat".into(), "猫".into()],
        accuracy: Some(Accuracy { data: "test".into(), correct: 9_876, total: 10_000 }),
        training: Some(Training {
            recipe: "name = \"a\"\n[train]\n\tepochs = 5\n".into(),
            seed: u64::MAX,
            epochs: 5,
            data: "0123abcd".into(),
        }),
    }
}

#[test]
fn every_op_round_trips_and_other_tools_can_open_it() {
    let mut rng = Rng::new(7);
    let mut done = 0;
    for case in onebit::core::ops::cases() {
        let Some(model) = model(&case, &mut rng) else { continue };
        let meta = some_meta(model.input().shape.c);
        let bytes = to_bytes(&model, &meta).unwrap();
        let plain = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(plain.len(), model.nodes().iter().map(|n| n.params.each().count()).sum::<usize>());
        let file = ModelFile::from_bytes(bytes);
        let (again, meta_again) = file.load().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!((&again, &meta_again), (&model, &meta), "{}", case.name);
        assert_eq!(to_bytes(&again, &meta_again).unwrap(), file.bytes(), "{}", case.name);
        done += 1;
    }
    assert!(done > 400, "only {done} cases");
}

/// A chain of random layers on a random map.
fn random_model(rng: &mut Rng, all: &[Case]) -> Model<'static> {
    let pick = |rng: &mut Rng, n| 1 + rng.below(n);
    let input = cases::map(pick(rng, 6), pick(rng, 6), pick(rng, 70), DType::F32);
    let (mut types, mut nodes) = (vec![input], Vec::<Node<'static>>::new());
    while nodes.len() < 12 {
        let value = rng.below(types.len());
        let x = types[value];
        let mut op = all[rng.below(all.len())].op;
        let mut params = Params::default();
        let rows = pick(rng, 9);
        let affine = |rng: &mut Rng, c| Some(Tensor::f32(rng.floats(c, -1e9, 1e9)));
        let mut inputs = vec![value];
        match &mut op {
            Op::BDense(d) => {
                params.weight = Some(rng.weights(rows, x.shape.elements(), Quant::TERNARY));
                if let DType::Bits(q) = d.output {
                    params.thresholds = Some(rng.thresholds(rows, q.levels() - 1, 30));
                    params.flips = Some(rng.flags(rows));
                }
            }
            Op::BConv2d(BConv2d { window, output, groups, .. }) => {
                (*window, *groups, *output) = (Window::square(pick(rng, 3), 1, 1), 1, DType::I32);
                params.weight = Some(rng.weights(rows, window.taps() * x.shape.c, Quant::BIT));
            }
            Op::Conv2d(c) => {
                *c = Conv2d {
                    window: Window::square(pick(rng, 3), 2, 1),
                    groups: 1,
                    pad_value: rng.float(-1.0, 1.0),
                };
                let k = c.window.taps() * x.shape.c;
                params.weight = Some(Tensor::f32_matrix(rows, k, rng.floats(rows * k, -1.0, 1.0)));
            }
            Op::Threshold(t) => {
                let q = t.output.quant().unwrap();
                let t = rng.thresholds(x.shape.c, q.levels() - 1, 9);
                params.thresholds = Some(match x.dtype {
                    DType::F32 => Tensor::f32_matrix(t.rows, t.cols, t.to_f32()),
                    _ => t,
                });
            }
            Op::Affine => {
                params.center = affine(rng, x.shape.c);
                params.scale = affine(rng, x.shape.c);
            }
            Op::Quantize(q) => (q.scale, q.offset) = (rng.float(-1e-3, 1e3), rng.float(-1.0, 1.0)),
            Op::Activation(a) if rng.below(2) == 0 => {
                *a = Activation::Clip { low: rng.float(-9.0, 0.0), high: 3e-44 }
            }
            Op::Reshape(r) => r.shape = Shape::vector(x.shape.elements()),
            Op::Concat | Op::Add | Op::Mul => inputs.push(value),
            _ => {}
        }
        if let Ok(out) = op.infer(&inputs.iter().map(|&v| types[v]).collect::<Vec<_>>(), &params) {
            nodes.push(node(&format!("n{}.weight", nodes.len()), op, &inputs, params));
            types.push(out);
        }
    }
    Model::new(input, nodes).unwrap()
}

#[test]
fn random_models_round_trip() {
    let (mut rng, all) = (Rng::new(8), onebit::core::ops::cases());
    for _ in 0..200 {
        let model = random_model(&mut rng, &all);
        let meta = some_meta(model.input().shape.c);
        let file = ModelFile::from_bytes(to_bytes(&model, &meta).unwrap());
        assert_eq!(file.load().unwrap(), (model, meta));
    }
}

#[test]
fn floats_round_trip_exactly() {
    let mut rng = Rng::new(9);
    let special = [0.0, -0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, f32::MIN, f32::EPSILON, 0.1];
    let mut floats = special
        .into_iter()
        .chain(std::iter::repeat_with(move || f32::from_bits(rng.word() as u32)).filter(|x| x.is_finite()));
    let input = cases::map(1, 1, 100, DType::F32);
    for _ in 0..300 {
        let mut params =
            Params { bias: Some(Tensor::f32(floats.by_ref().take(100).collect())), ..Params::default() };
        params.scale = Some(Tensor::f32(floats.by_ref().take(100).collect()));
        let mut next = || floats.next().unwrap();
        let quantize = |scale, offset| {
            let (lowest, highest) = (0, 255);
            Op::Quantize(Quantize {
                scale,
                offset,
                rounding: Rounding::Floor,
                output: DType::U8,
                lowest,
                highest,
            })
        };
        let nodes = vec![
            node("affine", Op::Affine, &[0], params),
            node("quantize", quantize(next(), next()), &[1], Params::default()),
        ];
        let model = Model::new(input, nodes).unwrap();
        let mut meta = some_meta(1);
        meta.input.mean = floats.by_ref().take(100).collect();
        meta.input.std = floats.by_ref().filter(|x| *x != 0.0).take(100).collect();
        let file = ModelFile::from_bytes(to_bytes(&model, &meta).unwrap());
        // The text of floats with a sign of zero tells -0 from 0.
        assert_eq!(format!("{:?}", file.load().unwrap()), format!("{:?}", (model, meta)));
    }
}

/// What a network of format version 1 computes, for as long as version 1 is read.
#[test]
fn the_committed_file_loads_and_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/version-1.onebit");
    let session = Session::open_with(&path, &Options { threads: 1, isa: None }).unwrap();
    assert_eq!(session.meta().classes, ["cat", "dog"]);
    let output = session.run_elements(Elements::F32(&[1.0, -2.0, 0.0, -0.5])).unwrap();
    // Signs + - + -; sums 0, -2 and 2 reach their thresholds, but the second is flipped: bits + - +; the
    // ternary rows - 0 + and + - + give 0 and 3; scales 0.5 and -1.5.
    let file = ModelFile::open(&path).unwrap();
    let (model, meta) = file.load().unwrap();
    let want = reference::run(&model, reference::Values::F32(vec![1.0, -2.0, 0.0, -0.5])).unwrap();
    assert_eq!(output[0].scores, want.f32());
    assert_eq!(output[0].scores, [0.0, -4.5]);
    assert_eq!(to_bytes(&model, &meta).unwrap(), file.bytes(), "writing has changed: is it still version 1?");
}

#[test]
#[ignore = "writes into the source tree"]
fn regenerate() {
    let file = ModelFile::from_bytes(hostile::valid().bytes());
    let (model, meta) = file.load().unwrap();
    save(&model, &meta, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/version-1.onebit"))
        .unwrap();
}

/// Seeds for the fuzzer, one for each small case.
#[test]
#[ignore = "writes into the source tree"]
fn write_fuzz_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/load");
    std::fs::create_dir_all(&folder).unwrap();
    let (mut rng, all) = (Rng::new(10), onebit::core::ops::cases());
    for (i, case) in all.iter().enumerate() {
        let Some(model) = model(case, &mut rng) else { continue };
        let bytes = to_bytes(&model, &Meta::default()).unwrap();
        if bytes.len() < 8 << 10 {
            std::fs::write(folder.join(format!("case-{i}")), bytes).unwrap();
        }
    }
    for i in 0..50 {
        let bytes = to_bytes(&random_model(&mut rng, &all), &Meta::default()).unwrap();
        std::fs::write(folder.join(format!("random-{i}")), bytes).unwrap();
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_harmless() {
    let good = hostile::valid().bytes();
    let (mut accepted, mut refused) = (0, 0);
    let mut try_load = |bytes: Vec<u8>| {
        let file = ModelFile::from_bytes(bytes);
        match file.load() {
            Ok((model, meta)) => {
                to_bytes(&model, &meta).unwrap();
                Session::new(&model, meta, &Options { threads: 1, isa: None }).unwrap();
                accepted += 1;
            }
            Err(e) => {
                assert!(!e.to_string().contains(char::is_control), "{e:?}");
                refused += 1;
            }
        }
    };
    for i in 0..good.len() {
        try_load(good[..i].to_vec());
        for change in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[i] ^= change;
            try_load(bad);
        }
    }
    // Numbers of constants and letters of names may change; the structure may not.
    assert!(accepted > 200 && refused > 5 * accepted, "{accepted} accepted, {refused} refused");
}

#[test]
fn constants_are_borrowed_where_they_are_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.onebit");
    std::fs::write(&path, hostile::valid().bytes()).unwrap();
    let file = ModelFile::open(&path).unwrap();
    let (model, _) = file.load().unwrap();
    let mut constants = 0;
    for (_, tensor) in model.nodes().iter().flat_map(|n| n.params.each()) {
        let borrowed = match &tensor.data {
            Data::Bits(_, v) => matches!(v, Cow::Borrowed(_)),
            Data::F32(v) => matches!(v, Cow::Borrowed(_)),
            Data::I32(v) => matches!(v, Cow::Borrowed(_)),
        };
        assert_eq!(borrowed, cfg!(target_endian = "little"));
        constants += 1;
    }
    assert_eq!(constants, 5);

    // The same bytes, off by one: copied, and equal.
    let shifted: &'static [u8] = [&[0][..], file.bytes()].concat().leak();
    let (one, two) = (ModelFile::from_static(&shifted[1..]), ModelFile::from_static(shifted));
    assert_eq!(one.load().unwrap().0, model);
    assert!(two.load().is_err());
}

#[test]
fn saving_replaces_a_file_or_leaves_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("net.onebit");
    let small = ModelFile::from_bytes(hostile::valid().bytes());
    let (model, meta) = small.load().unwrap();
    save(&model, &meta, &path).unwrap();
    let old = ModelFile::open(&path).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert!(mode & 0o077 != 0, "others cannot read the file: {mode:o}");
    }

    // What cannot be saved: a name twice, a name on two lines, the name of the input.
    let relu = Op::Activation(Activation::Relu);
    let x = cases::map(1, 1, 4, DType::F32);
    let plain = |name, op| node(name, op, &[0], Params::default());
    for (nodes, says) in [
        (vec![plain("c", relu), plain("c", relu)], "two layers called 'c'"),
        (vec![plain("c\n", relu)], "control character"),
        (vec![plain("input", relu)], "impossible name"),
    ] {
        let error = save(&Model::new(x, nodes).unwrap(), &Meta::default(), &path).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("net.onebit: "), "{error}");
    }
    let recipe = Training { recipe: "name\n\x1b[2J".into(), ..Training::default() };
    for meta in [
        Meta { name: "two\nlines".into(), ..Meta::default() },
        Meta { training: Some(recipe), ..Meta::default() },
    ] {
        let error = save(&model, &meta, &path).unwrap_err();
        assert!(error.to_string().contains("control character"), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), old.bytes());

    // A new file in its place; the old one lives on in the mapping.
    let again = old.load().unwrap();
    save(&model, &Meta::default(), &path).unwrap();
    assert_eq!(old.load().unwrap(), again);
    assert_ne!(std::fs::read(&path).unwrap(), old.bytes());

    let nowhere = folder.path().join("no/net.onebit");
    assert!(save(&model, &meta, &nowhere).unwrap_err().to_string().contains("no/net.onebit"));
    assert!(save(&model, &meta, folder.path()).is_err());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["net.onebit"], "temporary files are left");
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none.onebit"), "/dev/zero".into()] {
        let error = Session::open(&path).err().unwrap().to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}

/// All keys of a value, however deep.
fn keys(value: &serde_json::Value, all: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        all.push(key.clone());
        keys(value, all);
    }
}

#[test]
fn the_specification_names_every_op_attribute_and_role() {
    let text = include_str!("../../../docs/format.md");
    let named = |word: &str| text.contains(&format!("`{word}`")) || text.contains(&format!("`{word} ["));
    let mut words: Vec<String> = Params::<()>::ROLES.map(String::from).to_vec();
    for case in onebit::core::ops::cases() {
        words.push(case.op.name().into());
        keys(&serde_json::to_value(case.op).unwrap(), &mut words);
    }
    // Windows are written among the attributes of their op.
    words.retain(|word| word != "window");
    words.retain(|word| !named(word));
    assert!(words.is_empty(), "docs/format.md does not name {words:?}");
}
