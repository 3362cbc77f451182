//! The reader of ONNX files: a file with every type of constant, and files that want to crash or flood it.
//!
//! `models/every_type.onnx` was written by the Python package onnx 1.19 and holds the values that the first test names.

#[path = "hostile/counting.rs"]
mod counting;
mod onnx_file;

use counting::peak;
use onebit::import::array::{Array, Elements};
use onebit::import::onnx::proto::{Dim, Model, Value, looks_like, read};
use onebit::import::onnx::tensors::External;
use onebit::import::{ImportOptions, import};
use onnx_file::{field, int};
use std::path::Path;

const FILE: &[u8] = include_bytes!("models/every_type.onnx");

fn constant(model: &Model, name: &str) -> Result<Array, String> {
    constant_beside(model, name, &External::none())
}

fn constant_beside(model: &Model, name: &str, external: &External) -> Result<Array, String> {
    let tensor = model.graph.initializers.iter().find(|t| t.name == name).unwrap();
    tensor.to_array(external).map_err(|e| e.to_string())
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let model = read(FILE).unwrap();
    assert_eq!((model.ir_version, model.producer.as_str(), model.functions), (10, "pytorch 2.1", 0));
    assert_eq!(model.opsets, [("", 17), ("qonnx.custom_op.general", 2)]);
    let graph = &model.graph;
    assert_eq!(graph.name, "tiny");
    assert_eq!((graph.inputs[0].name, graph.inputs[0].elem_type), ("x", 1));
    let dims = [Dim::Named("N"), Dim::Fixed(3), Dim::Fixed(8), Dim::Unknown];
    assert_eq!(graph.inputs[0].dims.as_deref(), Some(&dims[..]));
    assert_eq!((graph.outputs[0].name, &graph.outputs[0].dims), ("z", &None));

    let ops: Vec<_> = graph.nodes.iter().map(|n| (n.op, n.domain, n.label())).collect();
    let quant = ("BipolarQuant", "qonnx.custom_op.general", "z");
    assert_eq!(ops, [("Constant", "", "one"), ("Conv", "", "conv1"), ("LeakyRelu", "", "y"), quant]);
    let [constant_node, conv, relu, quant] = &graph.nodes[..] else { panic!() };
    assert_eq!((&conv.inputs[..], &conv.outputs[..]), (&["x", "w"][..], &["c"][..]));
    assert_eq!(conv.ints("pads").unwrap(), Some(&[1, 1, 1, 1][..]));
    assert_eq!((conv.int("group", 7).unwrap(), conv.int("dilation", 7).unwrap()), (1, 7));
    assert_eq!((relu.float("alpha", 0.0).unwrap(), relu.float("beta", 3.0).unwrap()), (0.25, 3.0));
    assert_eq!(quant.text("rounding_mode", "").unwrap(), "ROUND");
    assert_eq!(quant.floats("scales").unwrap(), Some(&[1.0, 2.0][..]));
    assert!(quant.has("scales") && !quant.has("scale"));
    let value = constant_node.tensor("value").unwrap().unwrap().to_array(&External::none()).unwrap();
    assert_eq!(value, Array::scalar(1.0));
    assert!(matches!(conv.attributes.last().unwrap().value, Value::Ints(_)));
    let wrong = conv.float("group", 0.0).unwrap_err().to_string();
    assert_eq!(wrong, "layer 'conv1': Conv: its attribute 'group' should be a float");
    for wrong in [conv.int("pads", 0).is_err(), conv.ints("group").is_err(), conv.text("group", "").is_err()]
    {
        assert!(wrong);
    }
    assert!(conv.tensor("group").is_err() && conv.floats("pads").is_err());
}

#[test]
fn constants_of_every_type_are_widened() {
    let model = read(FILE).unwrap();
    let floats = |name: &str, want: &[f32]| {
        let array = constant(&model, name).unwrap();
        assert_eq!(array.elements, Elements::F32(want.to_vec()), "{name}");
    };
    let ints = |name: &str, want: &[i64]| {
        assert_eq!(constant(&model, name).unwrap(), Array::ints(want.to_vec()), "{name}");
    };
    let w = constant(&model, "w").unwrap();
    assert_eq!(w.shape, [4, 3, 3, 3]);
    assert!(w.to_f32().iter().all(|v| v.abs() == 1.0));
    assert_eq!(constant(&model, "typed").unwrap().shape, [2, 2]);
    floats("typed", &[1.5, -2.0, 3.0, 4.0]);
    // The smallest half float is 2^-24.
    floats("half", &[1.0, -0.5, 2f32.powi(-24)]);
    floats("half_raw", &[1.0, -0.5, 2f32.powi(-24)]);
    floats("b16", &[1.0, -3.0]);
    floats("d", &[0.1, -2.0]);
    ints("i4", &[-8, 7, -1]);
    ints("i4_raw", &[-8, 7, -1]);
    ints("u4", &[15, 0, 9]);
    ints("i8", &[-128, 127]);
    ints("u8", &[200, 3]);
    ints("i16", &[-300]);
    ints("i16_raw", &[-300]);
    ints("u32", &[4_000_000_000]);
    ints("i64", &[-5, 1 << 40]);
    ints("u64", &[7]);
    assert_eq!(constant(&model, "flag").unwrap().elements, Elements::Bool(vec![true, false]));
    let text = constant(&model, "s").unwrap_err();
    assert!(text.contains("'s'") && text.contains("STRING"), "{text}");
}

/// A network whose only content are these constants.
fn with_constants(tensors: &[Vec<u8>]) -> Vec<u8> {
    field(7, &tensors.iter().map(|t| field(5, t)).collect::<Vec<_>>().concat())
}

fn float_tensor(dims: &[i64], data: Vec<u8>) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|d| int(1, *d)).collect();
    [dims, int(2, 1), field(8, b"t"), data].concat()
}

fn place(key: &str, value: &str) -> Vec<u8> {
    field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
}

#[test]
fn constants_that_are_not_packed_and_constants_beside_the_file() {
    // Protobuf allows lists one element at a time.
    let loose: Vec<u8> =
        [1f32, 2.0].iter().flat_map(|v| [vec![4 << 3 | 5], v.to_le_bytes().into()].concat()).collect();
    let bytes = with_constants(&[float_tensor(&[2], loose)]);
    assert_eq!(constant(&read(&bytes).unwrap(), "t").unwrap().to_f32(), [1.0, 2.0]);

    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    std::fs::create_dir_all(folder.join("weights")).unwrap();
    let data: Vec<u8> = [0f32, 1.0, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join("weights/w.bin"), &data).unwrap();
    std::fs::write(dir.path().join("secret"), &data).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
    let load = |external: &External, places: &[(&str, &str)]| {
        let places: Vec<u8> = places.iter().flat_map(|(k, v)| place(k, v)).collect();
        let bytes = with_constants(&[float_tensor(&[2], [places, int(14, 1)].concat())]);
        constant_beside(&read(&bytes).unwrap(), "t", external).map(|a| a.to_f32())
    };
    let beside = External::beside(&folder.join("m.onnx"));
    let weights = ("location", "weights/w.bin");
    assert_eq!(load(&beside, &[weights]).unwrap(), [0.0, 1.0]);
    assert_eq!(load(&beside, &[weights, ("offset", "8"), ("length", "8")]).unwrap(), [2.0, 3.0]);
    let absolute = dir.path().join("secret");
    let refused = [
        (vec![weights, ("offset", "12")], "are not in the file"),
        (vec![weights, ("offset", "18446744073709551615")], "are not in the file"),
        (vec![weights, ("length", "12")], "needs 8 bytes"),
        (vec![weights, ("offset", "-1")], "no place"),
        (vec![("location", "../secret")], "outside"),
        (vec![("location", absolute.to_str().unwrap())], "outside"),
        (vec![("location", "")], "outside"),
        (vec![("location", "weights")], "is not a file"),
        (vec![("location", "absent.bin")], "there is no such file"),
        #[cfg(unix)]
        (vec![("location", "link")], "outside"),
    ];
    for (places, says) in refused {
        let error = load(&beside, &places).unwrap_err();
        assert!(error.contains(says), "{places:?}: {error}");
    }
    assert!(load(&External::none(), &[weights]).unwrap_err().contains("outside"));
}

/// Reads all that the importer may ask of a file.
fn read_all(bytes: &[u8]) -> Result<usize, String> {
    let model = read(bytes).map_err(|e| e.to_string())?;
    let external = External::none();
    let mut read = 0;
    let attributes = model.graph.nodes.iter().flat_map(|n| &n.attributes);
    let values = attributes.filter_map(|a| match &a.value {
        Value::Tensor(t) => Some(t),
        _ => None,
    });
    for tensor in model.graph.initializers.iter().chain(values) {
        read += tensor.to_array(&external).map_err(|e| e.to_string())?.len();
    }
    Ok(read)
}

/// 16 times the file, and as much again twice while a list grows.
fn budget(bytes: &[u8]) -> usize {
    (3 << 20) + 48 * bytes.len()
}

#[test]
fn damaged_files_are_refused_cheaply() {
    few_bytes_cannot_ask_for_much_memory_or_time();
    let mut errors = 0;
    let mut check = |bytes: &[u8], what: &str| {
        let (result, used) = peak(|| read_all(bytes));
        assert!(used < budget(bytes), "{what}: {used} bytes");
        if let Err(text) = result {
            assert!(text.len() < 1000 && !text.contains(char::is_control), "{what}: {text}");
            errors += 1;
        }
    };
    for end in 0..FILE.len() {
        check(&FILE[..end], "cut");
        for flip in [1, 0x80, 0xff, 0x08] {
            let mut bytes = FILE.to_vec();
            bytes[end] ^= flip;
            check(&bytes, "flipped");
        }
    }
    assert!(errors > FILE.len(), "{errors}");

    let hostile = [
        // Empty messages: nodes, constants, inputs, attributes, names, dimensions, sets of operators.
        (field(7, &field(1, b"").repeat(500_000)), "more than 100000 nodes"),
        (field(7, &field(1, b"").repeat(90_000)), "far more"),
        (field(7, &field(5, b"").repeat(500_000)), "far more"),
        (field(7, &field(11, b"").repeat(500_000)), "far more"),
        (field(7, &field(1, &field(5, b"").repeat(500_000))), "far more"),
        (field(7, &field(5, &[int(1, 1).repeat(500_000), int(2, 1)].concat())), "a constant of 500000 axes"),
        (field(8, b"").repeat(500_000), "no graph"),
        // Lengths beyond the end, and wrong types.
        (vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "has only 0"),
        (vec![0x3a, 0x80], "varint"),
        (int(7, 3), "should be a message"),
        (field(7, &field(2, &[0xff])), "UTF-8"),
        (field(7, &field(2, b"a\nb")), "UTF-8"),
        // Groups within groups, without end.
        (vec![0x53; 1 << 20], "recursion"),
        (vec![0x54], "group"),
        (Vec::new(), "no graph"),
        ([field(7, b""), field(7, b"")].concat(), "two graphs"),
        (field(7, &field(15, b"")), "sparse"),
        // Shapes.
        (with_constants(&[float_tensor(&[1 << 40], vec![])]), "more than 268435456 elements"),
        (with_constants(&[float_tensor(&[1 << 32, 1 << 32], vec![])]), "more than 268435456 elements"),
        (with_constants(&[float_tensor(&[-1], vec![])]), "the length -1"),
        (with_constants(&[[int(2, 8), field(8, &[b'n'; 5000])].concat()]), "nnn': constants of type STRING"),
        (with_constants(&[float_tensor(&[1 << 28], vec![])]), "has 0 elements"),
        (with_constants(&[float_tensor(&[1 << 28], field(9, &[0; 8]))]), "needs 1073741824 bytes"),
        (with_constants(&[float_tensor(&[1], field(9, &[0; 8]))]), "needs 4 bytes"),
        (with_constants(&[float_tensor(&[1], field(4, &[0; 8]))]), "more than 1 elements"),
        (with_constants(&[float_tensor(&[1], field(4, &[0; 7]))]), "whole floats"),
        (with_constants(&[[int(2, 3), int(5, 128)].concat()]), "that INT8 does not have"),
        (with_constants(&[[int(2, 13), int(11, -1)].concat()]), "that UINT64 does not have"),
        (with_constants(&[[int(2, 13), field(9, &[255; 8])].concat()]), "63 bits"),
        (with_constants(&[[int(2, 99), field(8, b"t")].concat()]), "an unknown type"),
    ];
    for (bytes, says) in &hostile {
        let (result, used) = peak(|| read_all(bytes));
        let error = result.expect_err(says);
        assert!(error.contains(says) && error.len() < 1000, "{says}: {error}");
        assert!(used < budget(bytes), "{says}: {used} bytes for {}", bytes.len());
    }
}

/// Part of the test before, because allocations are counted per process.
fn few_bytes_cannot_ask_for_much_memory_or_time() {
    let node = |op: &str, inputs: &[&str], output: &str| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|i| field(1, i.as_bytes())).collect();
        field(1, &[inputs, field(2, output.as_bytes()), field(4, op.as_bytes())].concat())
    };
    let value = |tag: u32, name: &str| {
        let dims: Vec<u8> = [1, 4].iter().flat_map(|d| field(1, &int(1, *d))).collect();
        let kind = [int(1, 1), field(2, &dims)].concat();
        field(tag, &[field(1, name.as_bytes()), field(2, &field(1, &kind))].concat())
    };
    let size =
        field(5, &[int(1, 1), int(2, 7), field(8, b"n"), field(7, &[0x80, 0x80, 0x80, 0x01])].concat());
    let names: Vec<String> = (0..1000).map(|i| format!("c{i}")).collect();
    // A thousand constants of eight megabytes, each made of the one before: all kept to the end, or freed at once.
    let mut nodes = node("ConstantOfShape", &["n"], "c0");
    nodes.extend(names.windows(2).flat_map(|pair| node("Exp", &[&pair[0]], &pair[1])));
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.insert(0, "x");
    for end in [node("Sum", &all, "y"), node("Add", &["x", "c999"], "y")] {
        let bytes = field(7, &[size.clone(), nodes.clone(), end, value(11, "x"), value(12, "y")].concat());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bomb.onnx");
        std::fs::write(&path, &bytes).unwrap();
        let (result, used) = peak(|| import(&path, &ImportOptions::default()));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("too large for the constants"), "{error}");
        assert!(used < 64 << 20, "{used} bytes for {}", bytes.len());
    }
}

#[test]
fn files_are_recognised() {
    let any = Path::new("model.bin");
    assert!(looks_like(FILE, any) && looks_like(b"", Path::new("m.ONNX")));
    assert!(!looks_like(b"", any) && !looks_like(&[0x08, 0x0a], any) && !looks_like(b"\x1c\0\0\0TFL3", any));
}
