//! Small graphs of single operators in Rust: forms of them that the models of others do not have.
//!
//! The expected numbers are what onnxruntime 1.31 without optimisations puts out, and qonnx 1.0 for its operators.

mod golden;
mod onnx_file;

use Attribute::{Float, Int, Ints, Text};
use golden::{outputs, reordered};
use onebit::Graph;
use onebit::import::{ImportOptions, import};
use onebit::meta::Layout;
use onnx_file::{field, int};
use prost::encoding::{WireType, encode_key};

/// An attribute of a node.
enum Attribute {
    Int(i64),
    Float(f32),
    Ints(&'static [i64]),
    Text(&'static str),
}

/// Name, ONNX's number of its type, axes and elements.
type Constant = (&'static str, i64, &'static [i64], &'static [f32]);
/// Operator, inputs, output and attributes.
type Node = (&'static str, &'static str, &'static str, &'static [(&'static str, Attribute)]);

/// A graph from `x` to `y`.
struct Case {
    name: &'static str,
    opset: i64,
    /// Axes after the batch, and one sample.
    input: (&'static [i64], &'static [f32]),
    nodes: &'static [Node],
    /// Constants that are initializers.
    constants: &'static [Constant],
    /// Constants that nodes make.
    made: &'static [Constant],
    expected: &'static [f32],
}

fn tensor((name, kind, dims, values): &Constant) -> Vec<u8> {
    let bytes = |v: &f32| match *kind {
        1 => v.to_le_bytes().to_vec(),
        7 => (*v as i64).to_le_bytes().to_vec(),
        3 => (*v as i8).to_le_bytes().to_vec(),
        _ => vec![*v as u8],
    };
    let raw: Vec<u8> = values.iter().flat_map(bytes).collect();
    [dims.iter().flat_map(|d| int(1, *d)).collect(), int(2, *kind), field(8, name.as_bytes()), field(9, &raw)]
        .concat()
}

fn attribute((name, value): &(&str, Attribute)) -> Vec<u8> {
    let (kind, value) = match value {
        Int(v) => (2, int(3, *v)),
        Ints(v) => (7, v.iter().flat_map(|v| int(8, *v)).collect()),
        Text(v) => (3, field(4, v.as_bytes())),
        Float(v) => {
            let mut to = Vec::new();
            encode_key(2, WireType::ThirtyTwoBit, &mut to);
            to.extend_from_slice(&v.to_le_bytes());
            (1, to)
        }
    };
    [field(1, name.as_bytes()), value, int(20, kind)].concat()
}

fn node((op, inputs, output, attributes): &Node, domain: &str) -> Vec<u8> {
    let inputs = inputs.split_whitespace().flat_map(|i| field(1, i.as_bytes()));
    let attributes = attributes.iter().flat_map(|a| field(5, &attribute(a)));
    let names = [field(2, output.as_bytes()), field(4, op.as_bytes()), field(7, domain.as_bytes())].concat();
    inputs.chain(names).chain(attributes).collect()
}

/// A file with the graph of a case, all of whose operators are of one domain.
fn file(case: &Case, domain: &str) -> Vec<u8> {
    let value = |name: &str, dims: &[i64]| {
        let dims: Vec<u8> = [1].iter().chain(dims).flat_map(|d| field(1, &int(1, *d))).collect();
        [field(1, name.as_bytes()), field(2, &field(1, &[int(1, 1), field(2, &dims)].concat()))].concat()
    };
    let mut graph = Vec::new();
    for made in case.made {
        let value = [field(1, b"value"), field(5, &tensor(made)), int(20, 4)].concat();
        let node = [field(2, made.0.as_bytes()), field(4, b"Constant"), field(5, &value)].concat();
        graph.extend(field(1, &node));
    }
    graph.extend(case.nodes.iter().flat_map(|n| field(1, &node(n, domain))));
    graph.extend(case.constants.iter().flat_map(|c| field(5, &tensor(c))));
    graph.extend(field(11, &value("x", case.input.0)));
    graph.extend(field(12, &field(1, b"y")));
    [int(1, 8), field(7, &graph), field(8, &int(2, case.opset))].concat()
}

/// Runs all cases and says which are wrong.
fn check(cases: &[Case], domain: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("case.onnx");
    let mut wrong = Vec::new();
    for case in cases {
        std::fs::write(&path, file(case, domain)).unwrap();
        let graph = match import(&path, &ImportOptions::default()) {
            Ok(imported) => imported.graph,
            Err(e) => {
                wrong.push(format!("{}: {e}", case.name));
                continue;
            }
        };
        let nchw = graph.meta.input.layout == Layout::Nchw;
        let order = |values: &[f32], value: usize, back: bool| match nchw {
            true => reordered(values, graph.ty(value).shape.into(), back),
            false => values.to_vec(),
        };
        let got = outputs(&graph, &order(case.input.1, Graph::INPUT, false));
        let got = order(&got, graph.output, true);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
        if got.len() != case.expected.len() || !got.iter().zip(case.expected).all(near) {
            wrong.push(format!("{}: {got:?} instead of {:?}", case.name, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn operators_of_onnx_give_what_onnxruntime_makes_of_them() {
    check(ONNX, "");
}

#[test]
fn operators_of_qonnx_give_what_qonnx_makes_of_them() {
    for domain in ["qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas"] {
        check(QONNX, domain);
    }
}

#[test]
fn what_is_not_read_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("case.onnx");
    for (case, says) in REFUSED {
        std::fs::write(&path, file(case, "")).unwrap();
        let error = import(&path, &ImportOptions::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with(says), "{}: {error}", case.name);
    }
}

const REFUSED: &[(Case, &str)] = &[
    (
        Case {
            name: "a remainder by a constant",
            opset: 13,
            input: (&[3], &[]),
            nodes: &[("Mod", "x c", "y", &[("fmod", Int(1))])],
            constants: &[("c", 1, &[], &[1.5])],
            made: &[],
            expected: &[],
        },
        "(Mod) takes a remainder of what the network computes, which is not supported; write x - y * Cast(x / y, \
         to=INT64) where the quotient may be rounded",
    ),
    (
        Case {
            name: "maps that are normalised by themselves",
            opset: 13,
            input: (&[2, 1, 2], &[]),
            nodes: &[("InstanceNormalization", "x s b", "y", &[])],
            constants: &[("s", 1, &[2], &[1.0, 2.0]), ("b", 1, &[2], &[0.0, 1.0])],
            made: &[],
            expected: &[],
        },
        "(InstanceNormalization) takes mean and variance of each map while the network runs, which is not supported; \
         train with BatchNormalization, or write it with ReduceMean, Sub, Mul, Sqrt and Div",
    ),
];

const ONNX: &[Case] = &[
    Case {
        name: "logarithms of sums of powers over channels",
        opset: 13,
        input: (&[3, 2, 2], &[1.0, -2.0, 0.5, 100.0, 3.0, -2.0, -0.25, 101.0, -1.0, -2.0, 0.75, -100.0]),
        nodes: &[("ReduceLogSumExp", "x", "y", &[("axes", Ints(&[1])), ("keepdims", Int(1))])],
        constants: &[],
        made: &[],
        expected: &[3.142_931_7, -0.901_387_7, 1.513_922_7, 101.313_26],
    },
    Case {
        name: "logarithms of sums of powers over channels that an input names, without the axis",
        opset: 18,
        input: (&[3, 2, 2], &[1.0, -2.0, 0.5, 100.0, 3.0, -2.0, -0.25, 101.0, -1.0, -2.0, 0.75, -100.0]),
        nodes: &[("ReduceLogSumExp", "x a", "y", &[("keepdims", Int(0))])],
        constants: &[("a", 7, &[1], &[1.0])],
        made: &[],
        expected: &[3.142_931_7, -0.901_387_7, 1.513_922_7, 101.313_26],
    },
    Case {
        name: "logarithms of sums of powers over channels and columns",
        opset: 13,
        input: (&[3, 2, 2], &[1.0, -2.0, 0.5, 100.0, 3.0, -2.0, -0.25, 101.0, -1.0, -2.0, 0.75, -100.0]),
        nodes: &[("ReduceLogSumExp", "x", "y", &[("axes", Ints(&[-3, 3])), ("keepdims", Int(0))])],
        constants: &[],
        made: &[],
        expected: &[3.160_301_7, 101.313_26],
    },
    Case {
        name: "logarithms of sums of powers over rows and columns",
        opset: 13,
        input: (&[3, 2, 2], &[1.0, -2.0, 0.5, 100.0, 3.0, -2.0, -0.25, 101.0, -1.0, -2.0, 0.75, -100.0]),
        nodes: &[("ReduceLogSumExp", "x", "y", &[("axes", Ints(&[2, 3]))])],
        constants: &[],
        made: &[],
        expected: &[100.0, 101.0, 0.963_256_24],
    },
    Case {
        name: "logarithms of sums of powers over all axes",
        opset: 13,
        input: (&[3, 2, 2], &[1.0, -2.0, 0.5, 100.0, 3.0, -2.0, -0.25, 101.0, -1.0, -2.0, 0.75, -100.0]),
        nodes: &[("ReduceLogSumExp", "x", "y", &[("axes", Ints(&[1, 2, 3])), ("keepdims", Int(0))])],
        constants: &[],
        made: &[],
        expected: &[101.313_26],
    },
    Case {
        name: "logarithms of sums of powers of a vector that a float does not hold",
        opset: 13,
        input: (&[3], &[200.0, -200.0, 199.0]),
        nodes: &[("ReduceLogSumExp", "x", "y", &[("axes", Ints(&[-1])), ("keepdims", Int(0))])],
        constants: &[],
        made: &[],
        expected: &[200.313_26],
    },
    Case {
        name: "logarithms of sums of powers of a constant",
        opset: 13,
        input: (&[2], &[1.0, -1.0]),
        nodes: &[
            ("ReduceLogSumExp", "c", "l", &[("axes", Ints(&[0])), ("keepdims", Int(0))]),
            ("Add", "x l", "y", &[]),
        ],
        constants: &[("c", 1, &[3], &[200.0, -200.0, 199.0])],
        made: &[],
        expected: &[201.313_26, 199.313_26],
    },
    Case {
        name: "a remainder written with a cast",
        opset: 13,
        input: (&[4], &[4.0, -4.0, 1.25, -7.75]),
        nodes: &[
            ("Div", "x c", "q", &[]),
            ("Cast", "q", "i", &[("to", Int(7))]),
            ("Cast", "i", "t", &[("to", Int(1))]),
            ("Mul", "t c", "m", &[]),
            ("Sub", "x m", "y", &[]),
        ],
        constants: &[("c", 1, &[], &[1.5])],
        made: &[],
        expected: &[1.0, -1.0, 1.25, -0.25],
    },
    Case {
        name: "a quantiser whose zero point is an int8 constant of a node",
        opset: 13,
        input: (&[4], &[-3.0, 0.25, 9.0, 100.0]),
        nodes: &[("QuantizeLinear", "x s z", "q", &[]), ("DequantizeLinear", "q s z", "y", &[])],
        constants: &[("s", 1, &[], &[0.5])],
        made: &[("z", 3, &[], &[-3.0])],
        expected: &[-3.0, 0.0, 9.0, 65.0],
    },
    Case {
        name: "weights that the graph quantises with a zero point",
        opset: 13,
        input: (&[3], &[1.0, -2.0, 3.0]),
        nodes: &[
            ("QuantizeLinear", "w s z", "q", &[]),
            ("DequantizeLinear", "q s z", "v", &[]),
            ("MatMul", "x v", "y", &[]),
        ],
        constants: &[
            ("w", 1, &[3, 2], &[0.4, -1.0, 2.0, 3.0, -0.6, 7.0]),
            ("s", 1, &[], &[0.5]),
            ("z", 3, &[], &[3.0]),
        ],
        made: &[],
        expected: &[-5.0, 14.0],
    },
    Case {
        name: "a quantiser for each channel",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[
            ("QuantizeLinear", "x s z", "q", &[("axis", Int(1))]),
            ("DequantizeLinear", "q s z", "y", &[("axis", Int(1))]),
        ],
        constants: &[("s", 1, &[2], &[0.5, 2.0]), ("z", 2, &[2], &[0.0, 1.0])],
        made: &[],
        expected: &[1.0, 0.0, 3.0, 0.0, 0.0, 2.0, 0.0, -2.0, 4.0, 0.0, 0.0, 2.0],
    },
    Case {
        name: "a sum of channels that is exactly 0",
        opset: 13,
        input: (&[3, 1, 1], &[1.0, 2.0, -3.0]),
        nodes: &[("ReduceSum", "x a", "s", &[("keepdims", Int(1))]), ("Sign", "s", "y", &[])],
        constants: &[("a", 7, &[1], &[1.0])],
        made: &[],
        expected: &[0.0],
    },
    Case {
        name: "an average of channels that is exactly 0",
        opset: 13,
        input: (&[5, 1, 1], &[0.1, 0.2, -0.3, 0.7, -0.7]),
        nodes: &[
            ("Mul", "x k", "m", &[]),
            ("Round", "m", "r", &[]),
            ("ReduceMean", "r", "s", &[("axes", Ints(&[1]))]),
            ("Sign", "s", "y", &[]),
        ],
        constants: &[("k", 1, &[], &[10.0])],
        made: &[],
        expected: &[0.0],
    },
    Case {
        name: "the largest of channels and columns",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[("ReduceMax", "x", "y", &[("axes", Ints(&[1, 3])), ("keepdims", Int(0))])],
        constants: &[],
        made: &[],
        expected: &[4.0, 2.0],
    },
    Case {
        name: "channels that are padded",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[("Pad", "x p v", "y", &[])],
        constants: &[("p", 7, &[8], &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]), ("v", 1, &[], &[-1.0])],
        made: &[],
        expected: &[
            -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0, -2.0, 3.0, 0.0, -1.0, 2.0, -1.0, -1.0,
            -1.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0, -1.0, -1.0, -1.0,
        ],
    },
    Case {
        name: "a map that is cropped and padded",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[("Pad", "x p", "y", &[])],
        constants: &[("p", 7, &[8], &[0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0])],
        made: &[],
        expected: &[-2.0, 3.0, -1.0, 2.0, 0.0, 0.0, -3.0, 4.0, -0.5, 2.0, 0.0, 0.0],
    },
    Case {
        name: "constants beside a padded map",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[("Pad", "x p", "m", &[]), ("Add", "m c", "y", &[])],
        constants: &[
            ("p", 7, &[8], &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            ("c", 1, &[1, 3, 1], &[10.0, 20.0, 30.0]),
        ],
        made: &[],
        expected: &[
            10.0, 10.0, 10.0, 21.0, 18.0, 23.0, 30.0, 29.0, 32.0, 10.0, 10.0, 10.0, 20.5, 17.0, 24.0, 31.0,
            29.5, 32.0,
        ],
    },
    Case {
        name: "elements in another order",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[("Gather", "x i", "g", &[("axis", Int(3))]), ("Slice", "g a b c d", "y", &[])],
        constants: &[
            ("i", 7, &[4], &[2.0, 0.0, 0.0, -1.0]),
            ("a", 7, &[1], &[-1.0]),
            ("b", 7, &[1], &[-9.0]),
            ("c", 7, &[1], &[1.0]),
            ("d", 7, &[1], &[-1.0]),
        ],
        made: &[],
        expected: &[4.0, 0.5, 0.5, 4.0, 2.0, 1.0, 1.0, 2.0, 3.0, 1.0, 1.0, 3.0, 2.0, 0.0, 0.0, 2.0],
    },
    Case {
        name: "a matrix from the left",
        opset: 13,
        input: (&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        nodes: &[("MatMul", "a x", "y", &[])],
        constants: &[("a", 1, &[2, 3], &[1.0, 0.0, -1.0, 2.0, 1.0, 0.0])],
        made: &[],
        expected: &[-4.0, -4.0, 5.0, 8.0],
    },
    Case {
        name: "a grouped transposed convolution with a stride",
        opset: 13,
        input: (&[2, 1, 2], &[1.0, 2.0, 3.0, -1.0]),
        nodes: &[("ConvTranspose", "x w b", "y", &[("group", Int(2)), ("strides", Ints(&[1, 2]))])],
        constants: &[
            ("w", 1, &[2, 2, 1, 3], &[1.0, -1.0, 2.0, 0.0, 1.0, 1.0, 2.0, 1.0, 0.0, -1.0, 0.0, 1.0]),
            ("b", 1, &[4], &[0.0, 1.0, 2.0, 3.0]),
        ],
        made: &[],
        expected: &[
            1.0, -1.0, 4.0, -2.0, 4.0, 1.0, 2.0, 2.0, 3.0, 3.0, 8.0, 5.0, 0.0, 1.0, 2.0, 0.0, 3.0, 7.0, 3.0,
            2.0,
        ],
    },
    Case {
        name: "an average, a sum and a maximum of several values",
        opset: 13,
        input: (&[3], &[3.0, -6.0, 9.0]),
        nodes: &[("Mean", "c x d", "m", &[]), ("Max", "c d m", "y", &[])],
        constants: &[("c", 1, &[3], &[0.0, 3.0, 0.0]), ("d", 1, &[1], &[6.0])],
        made: &[],
        expected: &[6.0, 6.0, 6.0],
    },
    Case {
        name: "powers and roundings of floats",
        opset: 13,
        input: (&[4], &[1.5, -2.5, 0.5, -0.2]),
        nodes: &[
            ("Pow", "x p", "c", &[]),
            ("Cast", "c", "i", &[("to", Int(6))]),
            ("Cast", "i", "y", &[("to", Int(1))]),
        ],
        constants: &[("p", 1, &[], &[3.0])],
        made: &[],
        expected: &[3.0, -15.0, 0.0, 0.0],
    },
    Case {
        name: "a logarithm of a softmax that underflows",
        opset: 13,
        input: (&[3], &[0.0, 200.0, -50.0]),
        nodes: &[("LogSoftmax", "x", "y", &[])],
        constants: &[],
        made: &[],
        expected: &[-200.0, 0.0, -250.0],
    },
    Case {
        name: "a softmax over several axes together",
        opset: 11,
        input: (&[2, 2, 2], &[0.0, 1.0, 2.0, -1.0, 1.0, 1.0, 0.0, 0.0]),
        nodes: &[("Softmax", "x", "y", &[("axis", Int(2))])],
        constants: &[],
        made: &[],
        expected: &[
            0.087_144_32,
            0.236_882_84,
            0.643_914_3,
            0.032_058_604,
            0.365_529_3,
            0.365_529_3,
            0.134_470_72,
            0.134_470_72,
        ],
    },
    Case {
        name: "a gate for each channel of a transposed map",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[
            ("Transpose", "x", "t", &[("perm", Ints(&[0, 1, 3, 2]))]),
            ("MatMul", "t m", "v", &[]),
            ("ReduceMax", "v", "g", &[("axes", Ints(&[2, 3]))]),
            ("Mul", "g v", "y", &[]),
        ],
        constants: &[("m", 1, &[2, 2], &[1.0, 0.0, 0.0, 1.0])],
        made: &[],
        expected: &[3.0, 0.0, -6.0, -3.0, 9.0, 6.0, 2.0, 4.0, -12.0, -2.0, 16.0, 8.0],
    },
    Case {
        name: "values of both sides repeated",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[
            ("ReduceMax", "x", "a", &[("axes", Ints(&[3]))]),
            ("ReduceMin", "x", "b", &[("axes", Ints(&[2]))]),
            ("Sub", "a b", "y", &[]),
        ],
        constants: &[],
        made: &[],
        expected: &[3.0, 5.0, 1.0, 2.0, 4.0, 0.0, 3.5, 7.0, 2.0, 1.5, 5.0, 0.0],
    },
    Case {
        name: "blocks of pixels that become channels",
        opset: 13,
        input: (&[2, 2, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
        nodes: &[("SpaceToDepth", "x", "y", &[("blocksize", Int(2))])],
        constants: &[],
        made: &[],
        expected: &[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0],
    },
    Case {
        name: "many uneven levels",
        opset: 13,
        input: (&[4], &[-3.2, 0.3, 7.7, 1.1]),
        nodes: &[
            ("Mul", "x k", "m", &[]),
            ("Round", "m", "r", &[]),
            ("Clip", "r lo hi", "c", &[]),
            ("LeakyRelu", "c", "l", &[("alpha", Float(0.1))]),
            ("Softplus", "l", "y", &[]),
        ],
        constants: &[("k", 1, &[], &[10.0]), ("lo", 1, &[], &[-60.0]), ("hi", 1, &[], &[60.0])],
        made: &[],
        expected: &[0.039_953_332, 3.048_587_3, 60.0, 11.000_017],
    },
    Case {
        name: "repeated elements",
        opset: 13,
        input: (&[2], &[1.0, 2.0]),
        nodes: &[("Tile", "x t", "r", &[]), ("Neg", "r", "y", &[])],
        constants: &[("t", 7, &[2], &[1.0, 3.0])],
        made: &[],
        expected: &[-1.0, -2.0, -1.0, -2.0, -1.0, -2.0],
    },
];

const QONNX: &[Case] = &[
    Case {
        name: "a signed quantiser of one bit with a zero point",
        opset: 13,
        input: (&[4], &[-1.0, -0.4, 0.0, 3.0]),
        nodes: &[("Quant", "x s z b", "y", &[("signed", Int(1)), ("narrow", Int(0))])],
        constants: &[("s", 1, &[], &[0.5]), ("z", 1, &[], &[1.0]), ("b", 1, &[], &[1.0])],
        made: &[],
        expected: &[-1.0, 0.0, 0.0, 0.0],
    },
    Case {
        name: "thresholds without a layout, channels last",
        opset: 13,
        input: (&[3, 2], &[1.0, 5.0, 3.0, -2.0, 0.0, 4.0]),
        nodes: &[("MultiThreshold", "x t", "y", &[("out_dtype", Text("UINT2"))])],
        constants: &[("t", 1, &[2, 3], &[3.0, 1.0, 2.0, 0.0, 4.0, 5.0])],
        made: &[],
        expected: &[1.0, 3.0, 3.0, 0.0, 0.0, 2.0],
    },
    Case {
        name: "bits that are dropped, for each channel",
        opset: 13,
        input: (&[2, 2, 3], &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 0.5, -3.0, 4.0, 1.0, -0.5, 2.0]),
        nodes: &[(
            "Trunc",
            "x s z i o c",
            "y",
            &[("rounding_mode", Text("CEIL")), ("signed", Int(1)), ("narrow", Int(0))],
        )],
        constants: &[
            ("s", 1, &[1, 2, 1, 1], &[0.5, 0.25]),
            ("z", 1, &[], &[0.0]),
            ("i", 1, &[], &[8.0]),
            ("o", 1, &[], &[1.0]),
            ("c", 1, &[], &[3.0]),
        ],
        made: &[],
        expected: &[1.0, -2.0, 3.0, 0.0, -1.0, 2.0, 1.0, -3.0, 3.0, 1.0, -0.0, 2.0],
    },
    Case {
        name: "halves upwards of many bits",
        opset: 13,
        input: (&[4], &[0.5, -0.5, 1.25, -2.5]),
        nodes: &[(
            "Quant",
            "x s z b",
            "y",
            &[("signed", Int(1)), ("narrow", Int(0)), ("rounding_mode", Text("HALF_UP"))],
        )],
        constants: &[("s", 1, &[], &[1.0]), ("z", 1, &[], &[0.0]), ("b", 1, &[], &[16.0])],
        made: &[],
        expected: &[1.0, -1.0, 1.0, -3.0],
    },
];
