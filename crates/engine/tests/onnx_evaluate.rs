//! Nodes on constants against onnxruntime and qonnx.
//!
//! `models/evaluate_*.onnx` hold nodes, their inputs, and the outputs that those programs gave for them;
//! `models/evaluate.py` writes the files.

use onebit::import::array::{Array, Elements};
use onebit::import::lower::unary::{Quantizer, Round, bounds};
use onebit::import::onnx::evaluate::{evaluate, evaluate_within};
use onebit::import::onnx::proto::{Attribute, Model, Node, Value, read};
use onebit::import::onnx::tensors::External;
use std::collections::HashMap;
use std::rc::Rc;

/// Functions whose last bits depend on the program.
const INEXACT: [&str; 7] = ["Exp", "Log", "Tanh", "Sigmoid", "Erf", "Softplus", "Softmax"];

/// Units in the last place between two floats.
fn distance(a: f32, b: f32) -> u32 {
    let order = |v: f32| if v < 0.0 { -i64::from(v.abs().to_bits()) } else { i64::from(v.abs().to_bits()) };
    if a.is_nan() && b.is_nan() {
        0
    } else {
        (order(a) - order(b)).unsigned_abs().try_into().unwrap_or(u32::MAX)
    }
}

fn check(bytes: &[u8]) -> usize {
    let model: Model = read(bytes).unwrap();
    let mut constants = HashMap::new();
    for tensor in &model.graph.initializers {
        constants.insert(tensor.name, Rc::new(tensor.to_array(&External::none()).unwrap()));
    }
    let opset = model.opsets[0].1;
    let mut wrong = Vec::new();
    for node in &model.graph.nodes {
        let inputs: Vec<_> = node.inputs.iter().map(|name| constants.get(name).cloned()).collect();
        let outputs = match evaluate(node.op, node.domain, opset, node, &inputs) {
            Ok(Some(outputs)) => outputs,
            other => {
                wrong.push(format!("{}: {other:?}", node.name));
                continue;
            }
        };
        assert_eq!(outputs.len(), node.outputs.len(), "{}", node.name);
        for (output, name) in outputs.iter().zip(&node.outputs) {
            let want = &constants[format!("{name}=").as_str()];
            let same = match (&output.elements, &want.elements) {
                (Elements::F32(a), Elements::F32(b)) => {
                    let allowed = if INEXACT.contains(&node.op) { 3 } else { 0 };
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| distance(*a, *b) <= allowed)
                }
                (a, b) => a == b,
            };
            if !same || output.shape != want.shape {
                wrong.push(format!("{}:\n  {output:?}\n  {want:?}", node.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    model.graph.nodes.len()
}

#[test]
fn nodes_give_what_onnxruntime_gives() {
    assert_eq!(check(include_bytes!("models/evaluate_9.onnx")), 17);
    assert_eq!(check(include_bytes!("models/evaluate_18.onnx")), 146);
}

#[test]
fn qonnx_nodes_give_what_qonnx_gives() {
    let bytes = include_bytes!("models/evaluate_qonnx.onnx");
    assert_eq!(check(bytes), 24);
}

fn run(node: &Node, inputs: &[Array]) -> Result<Option<Vec<Array>>, String> {
    let inputs: Vec<_> = inputs.iter().map(|a| Some(Rc::new(a.clone()))).collect();
    evaluate(node.op, node.domain, 18, node, &inputs).map_err(|e| e.to_string())
}

fn attribute<'a>(name: &'a str, value: Value<'a>) -> Attribute<'a> {
    Attribute { name, value }
}

#[test]
fn the_domains_of_qonnx_are_the_same_and_others_are_not_known() {
    let x = Array::new(vec![2], Elements::F32(vec![-0.5, 0.0])).unwrap();
    let mut node = Node { op: "BipolarQuant", ..Node::default() };
    for domain in ["onnx.brevitas", "finn.custom_op.general", "qonnx.custom_op.general"] {
        node.domain = domain;
        let result = run(&node, &[x.clone(), Array::scalar(2.0)]).unwrap().unwrap();
        assert_eq!(result[0].to_f32(), [-2.0, 2.0]);
    }
    node.domain = "com.example";
    assert_eq!(run(&node, &[x.clone(), Array::scalar(2.0)]), Ok(None));
    assert_eq!(run(&Node { op: "Conv", ..Node::default() }, &[x]), Ok(None));
}

#[test]
fn quantisers_have_bounds() {
    let quant = |bits, signed, narrow| {
        let (lowest, highest) = bounds(bits, signed, narrow);
        let q = Quantizer { scale: 0.5, zero: 0.0, lowest, highest, rounding: Round::HalfEven };
        // Large values end at the bounds.
        assert_eq!((q.apply(-1e9), q.apply(1e9)), (lowest * 0.5, highest * 0.5));
        (lowest, highest)
    };
    assert_eq!(quant(3, true, false), (-4.0, 3.0));
    assert_eq!(quant(3, true, true), (-3.0, 3.0));
    assert_eq!(quant(3, false, false), (0.0, 7.0));
    assert_eq!(quant(3, false, true), (0.0, 6.0));
    assert_eq!(quant(1, false, false), (0.0, 1.0));
    assert_eq!(quant(2, true, true), (-1.0, 1.0));
    assert!(Round::named("round_to_zero").is_some_and(|r| r.apply(-1.7) == -1.0));
    // The number below 0.5, as numpy adds it up.
    assert_eq!(Round::named("HALF_UP").map(|r| r.apply(-0.499_999_97)), Some(-1.0));
    assert_eq!(Round::named("nearest"), None);
}

#[test]
fn nodes_that_cannot_be_evaluated_are_refused() {
    let ints = |v: &[i64]| Array::ints(v.to_vec());
    let floats = |n: usize| Array::new(vec![n], Elements::F32(vec![1.0; n])).unwrap();
    let int = |v: i64| ints(&[v]).reshaped(vec![]).unwrap();
    let grid = |h: usize, w: usize| floats(h * w).reshaped(vec![h, w]).unwrap();
    let huge = 1 << 40;
    let none = || Vec::new();
    let axis = |v| vec![attribute("axis", Value::Int(v))];
    let cases: Vec<(&str, Vec<Attribute>, Vec<Array>, &str)> = vec![
        // Bombs.
        ("ConstantOfShape", none(), vec![ints(&[huge])], "too large"),
        ("ConstantOfShape", none(), vec![ints(&[huge, huge, 0])], "too large"),
        ("ConstantOfShape", none(), vec![ints(&[1; 100])], "100 axes"),
        ("Expand", none(), vec![floats(1), ints(&[huge])], "more than 268435456 elements"),
        ("Expand", none(), vec![floats(1), ints(&[1; 100])], "a constant of 100 axes"),
        ("Tile", none(), vec![floats(1), ints(&[huge])], "too large"),
        ("Range", none(), vec![int(0), int(i64::MAX), int(1)], "too large"),
        ("Range", none(), vec![int(i64::MIN), int(i64::MAX), int(0)], "steps of 0"),
        ("Range", none(), [0.0, 1e30, 1.0].map(Array::scalar).to_vec(), "too large"),
        ("Pad", none(), vec![floats(1), ints(&[huge, 0])], "too large"),
        ("Pad", none(), vec![floats(3), ints(&[-2, -2])], "too short"),
        ("Pad", none(), vec![floats(3), ints(&[i64::MIN, i64::MAX])], "too large"),
        ("Pad", none(), vec![floats(3), ints(&[1])], "1 paddings"),
        ("Add", none(), vec![grid(1 << 15, 1), grid(1, 1 << 15)], "elements"),
        ("Reshape", none(), vec![floats(4), ints(&[1; 100])], "more than 16 axes"),
        ("Reshape", none(), vec![floats(4), ints(&[3, -1])], "elements"),
        ("Reshape", none(), vec![floats(4), ints(&[-1, -1])], "cannot have the shape"),
        ("Reshape", none(), vec![floats(0), ints(&[0, -1])], "cannot have the shape"),
        ("Reshape", none(), vec![floats(4), ints(&[4, 0])], "cannot have the shape"),
        ("Unsqueeze", none(), vec![floats(1), ints(&[0, 0])], "twice"),
        ("Unsqueeze", none(), vec![floats(1), ints(&[9])], "no axis 9"),
        ("MatMul", none(), vec![grid(1, 1 << 12), grid(3, 5)], "do not fit"),
        // Indices and axes.
        ("Gather", none(), vec![floats(3), ints(&[3])], "no index 3"),
        ("Gather", none(), vec![floats(3), ints(&[i64::MIN])], "no index -9223372036854775808"),
        ("Gather", axis(1), vec![floats(3), ints(&[0])], "no axis 1"),
        ("Softmax", axis(-2), vec![floats(3)], "no axis -2"),
        ("ArgMax", none(), vec![floats(0)], "has no maximum"),
        ("ReduceMax", none(), vec![floats(0)], "without elements"),
        ("Flatten", axis(2), vec![floats(3)], "no axis 2"),
        ("Concat", axis(0), vec![grid(2, 3), grid(2, 2)], "cannot be joined"),
        ("Concat", axis(0), vec![], "its input 1 is missing"),
        ("Squeeze", none(), vec![floats(3), ints(&[0])], "cannot be squeezed"),
        ("Slice", none(), vec![floats(3), ints(&[0]), ints(&[1, 2])], "differ in number"),
        ("Slice", none(), vec![floats(3), ints(&[0]), ints(&[1]), ints(&[0]), ints(&[0])], "steps of 0"),
        (
            "Transpose",
            vec![attribute("perm", Value::Ints(vec![0, 0]))],
            vec![grid(2, 3)],
            "the order of axes",
        ),
        ("Split", none(), vec![floats(3)], "do not fill"),
        // Values and types.
        ("Add", none(), vec![floats(3), floats(2)], "do not fit each other"),
        ("Add", none(), vec![floats(1), ints(&[1])], "should have floats"),
        ("Div", none(), vec![ints(&[1]), ints(&[0])], "by 0"),
        ("Mod", none(), vec![ints(&[1]), ints(&[0])], "by 0"),
        ("Pow", none(), vec![ints(&[2]), ints(&[64])], "too large"),
        ("Cast", vec![attribute("to", Value::Int(7))], vec![Array::scalar(f32::NAN)], "NaN is no INT64"),
        ("Cast", vec![attribute("to", Value::Int(13))], vec![ints(&[-1])], "-1 is no UINT64"),
        ("ReduceSum", none(), vec![ints(&[i64::MAX, 1])], "too large"),
        ("Sqrt", none(), vec![ints(&[4])], "should have floats"),
        ("And", none(), vec![ints(&[1]), ints(&[1])], "should have truth values"),
        ("BatchNormalization", none(), vec![grid(2, 3); 5], "not one for each channel"),
    ];
    for (op, attributes, inputs, says) in cases {
        let node = Node {
            op,
            name: "n",
            attributes,
            outputs: vec!["y"; 1 + usize::from(op == "Split")],
            ..Node::default()
        };
        let node = if op == "Split" {
            Node { inputs: vec!["x"], attributes: vec![attribute("split", Value::Ints(vec![1, 1]))], ..node }
        } else {
            node
        };
        let error = run(&node, &inputs).expect_err(op);
        assert!(error.contains(says) && error.starts_with(&format!("layer 'n': {op}: ")), "{op}: {error}");
        assert!(error.len() < 1000, "{error}");
    }
    let bits = |bits: f32| {
        let node = Node { op: "Quant", name: "q", domain: "onnx.brevitas", ..Node::default() };
        run(&node, &[1.0, 1.0, 0.0, bits].map(Array::scalar)).unwrap_err()
    };
    for wrong in [0.0, 2.5, 33.0, f32::NAN] {
        assert!(bits(wrong).contains("no number of bits"), "{wrong}");
    }
}

/// A file with some of its bytes changed.
struct Damage(u64);

impl Damage {
    fn next(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
    fn of(&mut self, file: &[u8]) -> Vec<u8> {
        let mut bytes = file.to_vec();
        for _ in 0..1 + self.next(4) {
            let at = self.next(bytes.len());
            bytes[at] = [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff][self.next(8)];
        }
        bytes
    }
}

#[test]
fn nodes_of_damaged_files_do_no_harm() {
    let files: [&[u8]; 3] = [
        include_bytes!("models/evaluate_9.onnx"),
        include_bytes!("models/evaluate_18.onnx"),
        include_bytes!("models/evaluate_qonnx.onnx"),
    ];
    let mut damage = Damage(1);
    let (mut good, mut bad) = (0, 0);
    for round in 0..1000 {
        let bytes = damage.of(files[round % 3]);
        let Ok(model) = read(&bytes) else { continue };
        let tensors = model.graph.initializers.iter();
        let constants: HashMap<_, _> =
            tensors.filter_map(|t| Some((t.name, Rc::new(t.to_array(&External::none()).ok()?)))).collect();
        for node in &model.graph.nodes {
            // Sometimes in another order, so that types and ranks differ too.
            let mut inputs: Vec<_> = node.inputs.iter().map(|name| constants.get(name).cloned()).collect();
            if round % 4 == 0 && !inputs.is_empty() {
                inputs.rotate_left(1);
            }
            match evaluate_within(1 << 16, node.op, node.domain, 18 - 9 * (round as i64 % 2), node, &inputs) {
                Ok(outputs) => {
                    good += 1;
                    for output in outputs.iter().flatten() {
                        assert!(output.len() <= 1 << 16, "{} {:?}", node.name, output.shape);
                    }
                }
                Err(error) => {
                    bad += 1;
                    assert!(error.to_string().len() < 1000, "{error}");
                }
            }
        }
    }
    assert!(good > 1000 && bad > 500, "{good} {bad}");
}
