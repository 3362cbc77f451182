//! Exported ONNX files: what is in them, and cases of every op for `scripts/check-export.py` to run.

use onebit::data::npy;
use onebit::export::onnx::{Dialect, export};
use onebit::session::Elements;
use onebit::{Graph, Meta, Options, Session, passes, zoo};
use onebit_core::cases::{Case, Rng};
use onebit_core::model::{Model, Params, Tensor};
use onebit_core::ops::{self, *};
use onebit_core::types::{DType, Quant, Shape, ValueType};
use std::path::Path;

/// Fields of a protocol-buffer message: number, and a number or bytes.
fn fields(mut m: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(m: &mut &[u8]) -> u64 {
        let n = m.iter().position(|b| b & 0x80 == 0).unwrap() + 1;
        let v = m[..n].iter().rev().fold(0, |v, b| v << 7 | u64::from(b & 0x7f));
        *m = &m[n..];
        v
    }
    let mut all = Vec::new();
    while !m.is_empty() {
        let key = varint(&mut m);
        let (number, bytes) = match key & 7 {
            0 => (varint(&mut m), 0),
            2 => (0, varint(&mut m) as usize),
            5 => (0, 4),
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, number, &m[..bytes]));
        m = &m[bytes..];
    }
    all
}
fn messages(m: &[u8], field: u64) -> Vec<&[u8]> {
    fields(m).into_iter().filter(|f| f.0 == field).map(|f| f.2).collect()
}
fn text(m: &[u8], field: u64) -> String {
    messages(m, field).first().map_or(String::new(), |t| String::from_utf8(t.to_vec()).unwrap())
}
/// Name and axes of a `ValueInfoProto`.
fn described(v: &[u8]) -> (String, Vec<String>) {
    let tensor = messages(messages(v, 2)[0], 1)[0];
    let dim = |d: &&[u8]| match fields(d)[0] {
        (1, n, _) => n.to_string(),
        (_, _, name) => String::from_utf8(name.to_vec()).unwrap(),
    };
    (text(v, 1), messages(messages(tensor, 2)[0], 1).iter().map(dim).collect())
}

/// Two binary convolutions, a pool and a dense layer on pixels.
fn network() -> (Model<'static>, Meta) {
    let mut rng = Rng::new(5);
    let meta = Meta { name: "small".into(), classes: vec!["a".into(), "b".into()], ..Meta::default() };
    let mut graph = Graph::new(ValueType::new(Shape::new(6, 6, 3), DType::U8), meta);
    let conv = BConv2d { window: Window::square(3, 1, 1), groups: 1, pad_value: 1, output: DType::BIT };
    let params = Params {
        weight: Some(rng.weights(8, 27, Quant::BIT)),
        thresholds: Some(rng.thresholds(8, 1, 40)),
        flips: Some(rng.flags(8)),
        ..Params::default()
    };
    let x = graph.add("conv", Op::BConv2d(conv), &[Graph::INPUT], params).unwrap();
    let pool = Op::BPool2d(BPool2d { window: Window::square(2, 2, 0) });
    let x = graph.add("pool", pool, &[x], Params::default()).unwrap();
    let params = Params {
        weight: Some(rng.weights(2, 72, Quant::BIT)),
        scale: Some(Tensor::f32(vec![0.5, -0.25])),
        ..Params::default()
    };
    graph.add("dense", Op::BDense(BDense { output: DType::F32 }), &[x], params).unwrap();
    graph.into_model().unwrap()
}

#[test]
fn files_hold_layers_shapes_constants_and_the_description() {
    let (model, meta) = network();
    let file = export(&model, &meta, Dialect::Onnx).unwrap();
    let graph = messages(&file, 7)[0];
    let nodes: Vec<(String, String)> = messages(graph, 1).iter().map(|n| (text(n, 4), text(n, 3))).collect();
    let ops: Vec<&str> = nodes.iter().map(|(op, _)| op.as_str()).collect();
    let want = [
        "Cast",
        "Transpose",
        "Pad",
        "Cast",
        "Conv",
        "GreaterOrEqual",
        "Where",
        "MaxPool",
        "Cast",
        "Flatten",
        "MatMul",
        "Mul",
    ];
    let mut sorted = (ops.clone(), want.to_vec());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1);
    for (op, name) in [("Where", "conv"), ("MaxPool", "pool"), ("Mul", "dense")] {
        assert!(nodes.contains(&(op.into(), name.into())), "{nodes:?}");
    }
    let shapes: Vec<_> = [11, 12, 13].iter().flat_map(|f| messages(graph, *f)).map(described).collect();
    let shape = |name: &str| shapes.iter().find(|s| s.0 == name).unwrap().1.join(" ");
    assert_eq!((shape("input"), shape("conv")), ("N 6 6 3".into(), "N 8 6 6".into()));
    assert_eq!((shape("pool"), shape("dense")), ("N 8 3 3".into(), "N 2".into()));
    assert_eq!(shapes.len(), nodes.len() + 1);
    // Weights are bytes, one for each.
    let weight = messages(graph, 5).into_iter().find(|t| text(t, 8) == "conv.weight").unwrap();
    assert_eq!(messages(weight, 9)[0].len(), 8 * 27);
    let properties: Vec<_> = messages(&file, 14).iter().map(|p| (text(p, 1), text(p, 2))).collect();
    assert!(properties.contains(&("onebit.classes".into(), r#"["a","b"]"#.into())), "{properties:?}");

    let file = export(&model, &meta, Dialect::Qonnx).unwrap();
    let graph = messages(&file, 7)[0];
    let ops: Vec<String> = messages(graph, 1).iter().map(|n| text(n, 4)).collect();
    let count = |op: &str| ops.iter().filter(|o| *o == op).count();
    assert_eq!((count("BipolarQuant"), count("Quant"), count("MultiThreshold")), (2, 1, 1), "{ops:?}");
    assert_eq!(described(messages(graph, 11)[0]).1.join(" "), "1 6 6 3");
}

#[test]
fn what_floats_cannot_hold_is_refused_with_the_layer() {
    let eight = Quant::new(8, onebit_core::types::Encoding::Signed);
    let mut graph = Graph::new(ValueType::new(Shape::vector(1100), DType::U8), Meta::default());
    let params = Params { weight: Some(Tensor::bits(1, 1100, eight, |_, _| 127)), ..Params::default() };
    graph.add("wide", Op::BDense(BDense { output: DType::I32 }), &[Graph::INPUT], params).unwrap();
    let (model, meta) = graph.into_model().unwrap();
    for dialect in [Dialect::Onnx, Dialect::Qonnx] {
        let message = export(&model, &meta, dialect).unwrap_err().to_string();
        assert!(message.contains("'wide'") && message.contains("35623500"), "{message}");
    }
}

/// A value of type `ty` made of the network's input.
fn source(graph: &mut Graph, ty: ValueType, name: &str) -> onebit::Result<usize> {
    let mut x = Graph::INPUT;
    if graph.ty(x) == ty {
        return Ok(x);
    }
    if graph.ty(x).dtype != DType::F32 {
        x = graph.add(format!("{name} decoded"), Op::Decode, &[x], Params::default())?;
    }
    if graph.ty(x).shape.pixels() > ty.shape.pixels() {
        let window = Window::whole(graph.ty(x).shape);
        let pool = Op::Pool2d(Pool2d { kind: PoolKind::Max, window, count_pad: false });
        x = graph.add(format!("{name} pooled"), pool, &[x], Params::default())?;
    }
    let c = graph.ty(x).shape.c;
    if graph.ty(x).shape != ty.shape {
        let conv = Conv2d { window: Window::square(1, 1, 0), groups: 1, pad_value: 0.0 };
        let weight = Rng::new(11).weights(ty.shape.c, c, Quant::TERNARY);
        x = graph.add(
            format!("{name} mixed"),
            Op::Conv2d(conv),
            &[x],
            Params { weight: Some(weight), ..Params::default() },
        )?;
    }
    let c = ty.shape.c;
    let bytes = |output, lowest, highest| {
        let (scale, offset) = (4.0, 0.5);
        Op::Quantize(Quantize { scale, offset, rounding: Rounding::Floor, output, lowest, highest })
    };
    match ty.dtype {
        DType::F32 => Ok(x),
        DType::U8 => graph.add(name, bytes(DType::U8, 0, 255), &[x], Params::default()),
        DType::I8 => graph.add(name, bytes(DType::I8, -128, 127), &[x], Params::default()),
        DType::Bits(q) => {
            let step = |i: usize| 24.0 * (i + 1) as f32 / q.levels() as f32 - 12.0;
            let row: Vec<f32> = (0..q.levels() - 1).map(step).collect();
            let thresholds = Some(Tensor::f32_matrix(c, row.len(), row.repeat(c)));
            let op = Op::Threshold(Threshold { output: ty.dtype });
            graph.add(name, op, &[x], Params { thresholds, ..Params::default() })
        }
        DType::I32 => {
            let x =
                graph.add(format!("{name} bytes"), bytes(DType::I8, -128, 127), &[x], Params::default())?;
            let conv =
                BConv2d { window: Window::square(1, 1, 0), groups: c, pad_value: 0, output: DType::I32 };
            let weight = Some(Tensor::bits(c, 1, Quant::TERNARY, |_, _| 1));
            graph.add(name, Op::BConv2d(conv), &[x], Params { weight, ..Params::default() })
        }
    }
}

/// The case behind an input that can be given to a network.
fn model_of(case: Case) -> (Model<'static>, Meta) {
    let first = case.inputs[0];
    let input = if first.dtype == DType::U8 { first } else { ValueType::new(first.shape, DType::F32) };
    let mut graph = Graph::new(input, Meta { name: case.name, ..Meta::default() });
    let inputs: Vec<usize> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(i, ty)| source(&mut graph, *ty, &format!("x{i}")).unwrap())
        .collect();
    graph.add("case", case.op, &inputs, case.params).unwrap();
    graph.into_model().unwrap()
}

/// Writes what the script reads; false where the model is refused.
fn write(folder: &Path, name: &str, model: &Model<'_>, meta: Meta, dialect: Dialect, samples: usize) -> bool {
    let Ok(bytes) = export(model, &meta, dialect) else { return false };
    let path = |end: &str| folder.join(format!("{name}.{end}"));
    let end = if dialect == Dialect::Onnx { "onnx" } else { "qonnx" };
    std::fs::write(path(end), bytes).unwrap();
    let Shape { h, w, c } = model.input().shape;
    let mut rng = Rng::new(3);
    // Quarters: their sums are exact.
    let number = |r: &mut Rng| match model.input().dtype {
        DType::U8 => r.below(256) as f32,
        _ => r.below(129) as f32 / 4.0 - 16.0,
    };
    let x: Vec<f32> = (0..samples * h * w * c).map(|_| number(&mut rng)).collect();
    let axes = |n: usize, s: Shape| match s.pixels() {
        1 => vec![n, s.c],
        _ => vec![n, s.h, s.w, s.c],
    };
    npy::save(path("input.npy"), &axes(samples, model.input().shape), &x).unwrap();
    let session = Session::new(model, meta, &Options::default()).unwrap();
    let y: Vec<f32> =
        session.run_elements(Elements::F32(&x)).unwrap().into_iter().flat_map(|o| o.scores).collect();
    npy::save(path("expected.npy"), &axes(samples, model.output().shape), &y).unwrap();
    true
}

/// Files for `scripts/check-export.py --cases`, in the folder that ONEBIT_EXPORT_CASES names.
#[test]
#[ignore = "writes files for scripts/check-export.py"]
fn write_cases() {
    let folder = std::env::var_os("ONEBIT_EXPORT_CASES").expect("ONEBIT_EXPORT_CASES names a folder");
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).unwrap();
    let mut refused = Vec::new();
    for (i, case) in ops::cases().into_iter().enumerate() {
        let title = case.name.clone();
        let letters: String =
            title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let (model, meta) = model_of(case);
        for (dialect, tag) in [(Dialect::Onnx, "o"), (Dialect::Qonnx, "q")] {
            if !write(folder, &format!("{i:03}{tag}-{letters}"), &model, meta.clone(), dialect, 2) {
                refused.push(format!("{title} ({dialect:?})"));
            }
        }
    }
    // Only products of bytes are too large.
    assert!(refused.iter().all(|r| r.contains("beyond")), "{refused:?}");
    for name in zoo::NAMES {
        let mut graph = zoo::build(name).unwrap().unwrap();
        passes::optimize(&mut graph).unwrap();
        let (model, meta) = graph.into_model().unwrap();
        if matches!(model.input().dtype, DType::Bits(_)) {
            // No other program takes bits.
            continue;
        }
        assert!(write(folder, name, &model, meta.clone(), Dialect::Onnx, 1), "{name}");
        if model.input().shape.h <= 32 {
            assert!(write(folder, &format!("{name}-q"), &model, meta, Dialect::Qonnx, 1), "{name}");
        }
    }
}
