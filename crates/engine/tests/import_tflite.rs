//! Networks of TensorFlow Lite and Larq Compute Engine give what their own interpreters give.
//!
//! Those of `lce-tflite` are golden networks; the others are written here.

mod golden;
mod tflite_file;

use golden::{argmax, folders, outputs};
use onebit::core::model::Op;
use onebit::data::npy;
use onebit::import::tflite::read;
use onebit::import::{ImportOptions, import};
use std::path::Path;
use tflite_file::Field::{Absent, Byte, Float, Int};
use tflite_file::{BOOL, Code, F32, I8, I32, Network, Table, flexbuffer};

/// Largest difference that `meta.json` allows; float networks are held to 1e-4 without it.
fn tolerance(folder: &Path) -> f32 {
    let text = std::fs::read_to_string(folder.join("meta.json")).unwrap_or_default();
    let meta: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    // The integers of this network are those of its interpreter, whatever its author allows.
    let exact = folder.ends_with("int8_qat");
    meta["tolerance_abs"].as_f64().filter(|_| !exact).map_or(if exact { 0.0 } else { 1e-4 }, |t| t as f32)
}

#[test]
fn networks_of_lce_give_the_numbers_of_its_interpreter() {
    let mut failed = Vec::new();
    for folder in folders("lce-tflite") {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let imported = match import(&folder.join("model.tflite"), &ImportOptions::default()) {
            Ok(imported) => imported,
            Err(e) => {
                failed.push(format!("{name}: {e}"));
                continue;
            }
        };
        let input = npy::open(folder.join("input.npy")).unwrap();
        let expected = npy::open(folder.join("expected.npy")).unwrap();
        let got = outputs(&imported.graph, &input.values);
        let images = expected.shape[0];
        let (each, allowed) = (expected.values.len() / images, tolerance(&folder));
        for (i, (got, want)) in got.chunks(each).zip(expected.values.chunks(each)).enumerate() {
            let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let near = got.len() == want.len() && worst <= allowed;
            if !near || (allowed < 1e-2 && argmax(got) != argmax(want)) {
                failed.push(format!("{name}, image {i}: off by {worst}, {allowed} is allowed"));
            }
        }
        assert_eq!(got.len(), expected.values.len(), "{name}");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_is_binary_in_a_file_runs_on_bits() {
    for (name, layers) in [("dense_mlp", 2), ("bin_depthwise", 3), ("zoo_QuickNet", 16), ("ties", 3)] {
        let Some(folder) = folders("lce-tflite").into_iter().find(|f| f.ends_with(name)) else { return };
        let imported = import(&folder.join("model.tflite"), &ImportOptions::default()).unwrap();
        let binary = |op: &Op| matches!(op, Op::BConv2d(_) | Op::BDense(_));
        assert_eq!(imported.graph.nodes.iter().filter(|n| binary(&n.op)).count(), layers, "{name}");
    }
}

/// Imports a small network and runs it.
fn run(network: &Network, input: &[f32]) -> Vec<f32> {
    outputs(&read(&network.file(), "tiny.tflite", &ImportOptions::default()).unwrap().graph, input)
}

fn error(network: &Network) -> String {
    read(&network.file(), "tiny.tflite", &ImportOptions::default()).unwrap_err().to_string()
}

/// A network of one built-in op that reads the input, of shape `from`, and then constants.
fn builtin(
    code: u8,
    from: &[i32],
    to: &[i32],
    options: Table,
    constants: impl Fn(&mut Network) -> Vec<i32>,
) -> Network {
    let mut network = Network::new();
    let input = network.tensor(from, F32);
    let mut inputs = constants(&mut network);
    if !inputs.contains(&input) {
        inputs.insert(0, input);
    }
    let output = network.tensor(to, F32);
    network.op(Code::Builtin(code), &inputs, &[output], options, vec![]);
    network
}

#[test]
fn functions_of_one_number() {
    let input = [-4.0, -1.5, -0.5, 0.0, 0.5, 2.5, 7.0f32];
    type Case = (u8, Table, fn(f32) -> f32);
    let all: [Case; 17] = [
        (8, vec![], f32::floor),
        (14, vec![], |x| 1.0 / (1.0 + (-x).exp())),
        (19, vec![], |x| x.max(0.0)),
        (20, vec![], |x| x.clamp(-1.0, 1.0)),
        (21, vec![], |x| x.clamp(0.0, 6.0)),
        (28, vec![], f32::tanh),
        (47, vec![], f32::exp),
        (59, vec![], |x| -x),
        (92, vec![], |x| x * x),
        (98, vec![Float(0.25)], |x| if x < 0.0 { x / 4.0 } else { x }),
        (101, vec![], f32::abs),
        (111, vec![], |x| if x < 0.0 { x.exp() - 1.0 } else { x }),
        (116, vec![], f32::round_ties_even),
        (117, vec![], |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
        (150, vec![Byte(1)], |x| x / 2.0 * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh())),
        (150, vec![], |x| x / (1.0 + (-1.702 * x).exp())),
        (158, vec![], |x| if x == 0.0 { 0.0 } else { x.signum() }),
    ];
    for (code, options, f) in all {
        let network = builtin(code, &[1, 7], &[1, 7], options, |_| vec![]);
        for (x, got) in input.iter().zip(run(&network, &input)) {
            // The sigmoid above is an approximation of GELU's own.
            let tolerance = if code == 150 { 0.03 } else { 1e-6 * f(*x).abs() };
            assert!((f(*x) - got).abs() <= tolerance, "op {code} of {x}: {got}");
        }
    }
    // 1 / sqrt(|x|)
    let mut network = Network::new();
    let x = network.tensor(&[1, 2], F32);
    let [a, b] = [network.tensor(&[1, 2], F32), network.tensor(&[1, 2], F32)];
    network.op(Code::Builtin(101), &[x], &[a], vec![], vec![]);
    network.op(Code::Builtin(76), &[a], &[b], vec![], vec![]);
    assert_eq!(run(&network, &[-4.0, 0.25]), [0.5, 2.0]);
}

#[test]
fn functions_of_a_value_and_a_constant() {
    let relu = || vec![Byte(1)];
    let of = |code, options: Table, first: bool, shape: &[i32], c: &[f32]| {
        let constants = |n: &mut Network| {
            let c = n.floats(shape, c);
            if first { vec![c, 0] } else { vec![c] }
        };
        run(&builtin(code, &[1, 2, 1, 2], &[1, 2, 1, 2], options, constants), &[1.0, -2.0, 4.0, -8.0])
    };
    assert_eq!(of(0, vec![], false, &[2], &[1.0, 2.0]), [2.0, 0.0, 5.0, -6.0]);
    assert_eq!(of(0, relu(), false, &[2], &[1.0, 2.0]), [2.0, 0.0, 5.0, 0.0]);
    assert_eq!(of(41, relu(), true, &[], &[3.0]), [2.0, 5.0, 0.0, 11.0]);
    assert_eq!(of(18, vec![], false, &[1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]), [1.0, -4.0, 12.0, -32.0]);
    assert_eq!(of(42, vec![], true, &[2], &[8.0, 16.0]), [8.0, -8.0, 2.0, -2.0]);
    assert_eq!(of(55, vec![], false, &[1, 1, 1, 2], &[2.0, -4.0]), [2.0, -2.0, 4.0, -4.0]);
    assert_eq!(of(57, vec![], false, &[], &[0.0]), [0.0, -2.0, 0.0, -8.0]);
    assert_eq!(of(54, vec![], false, &[1, 1, 2], &[0.5, 0.25]), [1.0, -0.5, 4.0, -2.0]);
    assert_eq!(of(99, vec![], false, &[2], &[2.0, -3.0]), [1.0, 1.0, 4.0, 25.0]);
    assert_eq!(of(78, vec![], false, &[], &[2.0]), [1.0, 4.0, 16.0, 64.0]);
    assert_eq!(of(106, vec![], false, &[2], &[1.0, 2.0]), [2.0, 0.0, 5.0, -6.0]);
    let refused = builtin(0, &[1, 2, 1, 2], &[1, 2, 1, 2], vec![Byte(9)], |n| vec![n.floats(&[], &[1.0])]);
    assert!(error(&refused).contains("activation 9"));
}

#[test]
fn comparisons_choose() {
    // x >= 1 ? [5, 6] : -1
    for (code, want) in
        [(62, [-1.0, 6.0, 5.0, -1.0]), (61, [-1.0, -1.0, 5.0, -1.0]), (58, [5.0, -1.0, -1.0, 6.0])]
    {
        let mut network = Network::new();
        let x = network.tensor(&[1, 2, 1, 2], F32);
        let one = network.floats(&[], &[1.0]);
        let (yes, no) = (network.floats(&[2], &[5.0, 6.0]), network.floats(&[], &[-1.0]));
        let truth = network.tensor(&[1, 2, 1, 2], BOOL);
        let out = network.tensor(&[1, 2, 1, 2], F32);
        network.op(Code::Builtin(code), &[x, one], &[truth], vec![], vec![]);
        network.op(Code::Builtin(123), &[truth, yes, no], &[out], vec![], vec![]);
        for (got, want) in run(&network, &[0.0, 1.0, 2.0, -3.0]).iter().zip(want) {
            assert!((got - want).abs() < 1e-5, "op {code}: {got}, not {want}");
        }
    }
}

#[test]
fn convolutions_and_pools() {
    // SAME pads the odd pixel behind.
    let filter = |n: &mut Network| vec![n.floats(&[1, 1, 2, 1], &[10.0, 1.0]), n.floats(&[1], &[0.5])];
    let options = vec![Byte(0), Int(1), Int(1)];
    let network = builtin(3, &[1, 1, 3, 1], &[1, 1, 3, 1], options, filter);
    assert_eq!(run(&network, &[1.0, 2.0, 3.0]), [12.5, 23.5, 30.5]);
    let network = builtin(3, &[1, 1, 3, 1], &[1, 1, 2, 1], vec![Byte(1), Int(1), Int(1)], filter);
    assert_eq!(run(&network, &[1.0, 2.0, 3.0]), [12.5, 23.5]);
    // Stride 2 to the right, dilation 2: taps at 0 and 2.
    let options = vec![Byte(1), Int(2), Int(1), Byte(0), Int(2), Int(1)];
    let network = builtin(3, &[1, 1, 5, 1], &[1, 1, 2, 1], options, filter);
    assert_eq!(run(&network, &[1.0, 2.0, 3.0, 4.0, 5.0]), [13.5, 35.5]);

    let filter = |n: &mut Network| vec![n.floats(&[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0]), -1];
    let network = builtin(4, &[1, 1, 1, 2], &[1, 1, 1, 4], vec![Byte(1), Int(1), Int(1), Int(2)], filter);
    assert_eq!(run(&network, &[1.0, 10.0]), [1.0, 2.0, 30.0, 40.0]);

    let parts = |n: &mut Network| vec![n.ints(&[4], &[1, 1, 4, 1]), n.floats(&[1, 1, 2, 1], &[1.0, 10.0]), 0];
    let network = builtin(67, &[1, 1, 2, 1], &[1, 1, 4, 1], vec![Byte(1), Int(2), Int(1)], parts);
    assert_eq!(run(&network, &[1.0, 2.0]), [1.0, 10.0, 2.0, 20.0]);

    let options = || vec![Byte(0), Int(1), Int(1), Int(2), Int(1)];
    let network = |code| builtin(code, &[1, 1, 3, 1], &[1, 1, 3, 1], options(), |_| vec![]);
    assert_eq!(run(&network(1), &[1.0, 2.0, 4.0]), [1.5, 3.0, 4.0]);
    assert_eq!(run(&network(17), &[1.0, 5.0, -4.0]), [5.0, 5.0, -4.0]);
}

#[test]
fn sums_over_axes() {
    let weights = |n: &mut Network| vec![n.floats(&[2, 4], &[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, -1.0]), -1];
    // A map is flattened without a reshape.
    let network = builtin(9, &[1, 2, 1, 2], &[1, 2], vec![Byte(1)], weights);
    assert_eq!(run(&network, &[1.0, 10.0, 100.0, 1000.0]), [4321.0, 0.0]);
    let axes = |axes: &'static [i32]| move |n: &mut Network| vec![n.ints(&[axes.len() as i32], axes)];
    let x = [1.0, 2.0, 3.0, 6.0];
    assert_eq!(run(&builtin(40, &[1, 2, 1, 2], &[1, 2], vec![], axes(&[1, 2])), &x), [2.0, 4.0]);
    assert_eq!(run(&builtin(40, &[1, 2, 1, 2], &[1, 2, 1, 1], vec![Byte(1)], axes(&[-1])), &x), [1.5, 4.5]);
    assert_eq!(run(&builtin(56, &[1, 4], &[1], vec![], axes(&[-1])), &[1.0, 7.0, 7.0, 2.0]), [1.0]);
    assert_eq!(run(&builtin(74, &[1, 2, 1, 2], &[1, 2], vec![], axes(&[1, 2])), &x), [4.0, 8.0]);
    assert_eq!(run(&builtin(82, &[1, 2, 1, 2], &[1, 2], vec![], axes(&[1, 2])), &x), [3.0, 6.0]);
    assert_eq!(run(&builtin(89, &[1, 2, 1, 2], &[1, 1, 1, 2], vec![Byte(1)], axes(&[1, 2])), &x), [1.0, 2.0]);
    // Far below the smallest float whose logarithm could be taken.
    assert_eq!(run(&builtin(50, &[1, 2], &[1, 2], vec![], |_| vec![]), &[-100.0, 200.0]), [-300.0, 0.0]);
    let matrix = |n: &mut Network| vec![n.floats(&[1, 2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])];
    let product = [21.0, 42.0, 63.0, 63.0, 126.0, 189.0];
    assert_eq!(run(&builtin(126, &[1, 2, 2], &[1, 2, 3], vec![], matrix), &x), product);
    let soft = run(&builtin(25, &[1, 2], &[1, 2], vec![Float(2.0)], |_| vec![]), &[0.0, 0.5]);
    assert!((soft[1] - 1.0 / (1.0 + (-1f32).exp())).abs() < 1e-6, "{soft:?}");
}

#[test]
fn elements_are_moved() {
    let x: Vec<f32> = (0..6).map(|v| v as f32).collect();
    let moved = |code, to: &[i32], options: Table, rows: &[(&[i32], &[i32])]| {
        let constants = |n: &mut Network| rows.iter().map(|(shape, values)| n.ints(shape, values)).collect();
        run(&builtin(code, &[1, 2, 3, 1], to, options, constants), &x)
    };
    let pads = |v: &'static [i32]| [([4, 2].as_slice(), v)];
    let padded = [0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0];
    assert_eq!(moved(34, &[1, 2, 4, 1], vec![], &pads(&[0, 0, 0, 0, 1, 0, 0, 0])), padded);
    let mirrored = [1.0, 0.0, 1.0, 2.0, 4.0, 3.0, 4.0, 5.0];
    assert_eq!(moved(100, &[1, 2, 4, 1], vec![Byte(0)], &pads(&[0, 0, 0, 0, 1, 0, 0, 0])), mirrored);
    assert_eq!(moved(39, &[1, 3, 2, 1], vec![], &[(&[4], &[0, 2, 1, 3])]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(
        moved(65, &[1, 1, 2, 1], vec![], &[(&[4], &[0, 1, 1, 0]), (&[4], &[1, 1, -1, 1])]),
        [4.0, 5.0]
    );
    let [begin, end, steps] = [[0, 1, 0, 0], [1, 2, 0, 1], [1, 1, 2, 1]];
    let every_second = [(&[4][..], &begin[..]), (&[4], &end), (&[4], &steps)];
    // The end of the third axis is masked; the second goes away.
    let masks = vec![Int(0), Int(0b100), Int(0), Int(0), Int(0b10)];
    assert_eq!(moved(45, &[1, 2, 1], masks, &every_second), [3.0, 5.0]);
    let doubled = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0];
    assert_eq!(moved(97, &[1, 2, 6, 1], vec![], &[(&[2], &[2, 6])]), doubled);
    let between = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 3.5, 4.0, 4.5, 5.0];
    assert_eq!(moved(23, &[1, 2, 5, 1], vec![Absent, Absent, Byte(1)], &[(&[2], &[2, 5])]), between);

    // Blocks of pixels and channels.
    let x: Vec<f32> = (0..8).map(|v| v as f32).collect();
    let network = builtin(26, &[1, 2, 2, 2], &[1, 1, 1, 8], vec![Int(2)], |_| vec![]);
    assert_eq!(run(&network, &x), x);
    let network = builtin(26, &[1, 2, 4, 1], &[1, 1, 2, 4], vec![Int(2)], |_| vec![]);
    let blocks = [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0];
    assert_eq!(run(&network, &x), blocks);
    let network = builtin(5, &[1, 1, 2, 4], &[1, 2, 4, 1], vec![Int(2)], |_| vec![]);
    assert_eq!(run(&network, &blocks), x);
    // A channel is added on each side.
    let pads = |n: &mut Network| vec![n.ints(&[4, 2], &[0, 0, 1, 0, 0, 0, 1, 1])];
    let padded = run(&builtin(34, &[1, 1, 2, 1], &[1, 2, 2, 3], vec![], pads), &[5.0, 6.0]);
    assert_eq!(padded, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 6.0, 0.0]);

    // Halves of an axis, exchanged.
    let mut network = Network::new();
    let x = network.tensor(&[1, 2, 4], F32);
    let axis = network.ints(&[], &[2]);
    let halves = [network.tensor(&[1, 2, 2], F32), network.tensor(&[1, 2, 2], F32)];
    let out = network.tensor(&[1, 2, 4], F32);
    network.op(Code::Builtin(49), &[axis, x], &halves, vec![Int(2)], vec![]);
    network.op(Code::Builtin(2), &[halves[1], halves[0]], &[out], vec![Int(-1)], vec![]);
    let (x, want) = ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [2.0, 3.0, 0.0, 1.0, 6.0, 7.0, 4.0, 5.0]);
    assert_eq!(run(&network, &x), want);
}

/// One part of three and the rest, in the other order; another output is left out.
#[test]
fn the_first_output_is_used() {
    let mut network = Network::new();
    let x = network.tensor(&[1, 1, 1, 3], F32);
    let (sizes, axis) = (network.ints(&[2], &[1, -1]), network.ints(&[], &[3]));
    let [a, b] = [1, 2].map(|n| network.tensor(&[1, 1, 1, n], F32));
    let (out, other) = (network.tensor(&[1, 1, 1, 3], F32), network.tensor(&[1, 1, 1, 1], F32));
    network.op(Code::Builtin(102), &[x, sizes, axis], &[a, b], vec![Int(2)], vec![]);
    network.op(Code::Builtin(2), &[b, a], &[out], vec![Int(3)], vec![]);
    network.op(Code::Custom("Unknown"), &[a], &[other], vec![], vec![]);
    network.outputs = vec![out, other];
    assert_eq!(run(&network, &[1.0, 2.0, 3.0]), [2.0, 3.0, 1.0]);
    let notes = read(&network.file(), "tiny.tflite", &ImportOptions::default()).unwrap().notes;
    assert!(notes.iter().any(|n| n.contains("2 outputs")), "{notes:?}");
}

/// Sequences: the padding lies before a reshape, and is a third value between -1 and +1.
#[test]
fn padded_sequences_run_on_bits() {
    let mut network = Network::new();
    let x = network.tensor(&[1, 4, 2], F32);
    let pads = network.ints(&[3, 2], &[0, 0, 2, 0, 0, 0]);
    let filter = network.floats(&[1, 1, 3, 2], &[1.0, 1.0, 1.0, -1.0, -1.0, -1.0]);
    let map = network.ints(&[4], &[1, 1, 6, 2]);
    let (bits, signs) = (network.tensor(&[1, 4, 1], I32), network.tensor(&[1, 4, 2], F32));
    let [padded, mapped, out] =
        [&[1, 6, 2][..], &[1, 1, 6, 2], &[1, 1, 4, 1]].map(|shape| network.tensor(shape, F32));
    network.op(Code::Custom("LceQuantize"), &[x], &[bits], vec![], vec![]);
    network.op(Code::Custom("LceDequantize"), &[bits], &[signs], vec![], vec![]);
    network.op(Code::Builtin(34), &[signs, pads], &[padded], vec![], vec![]);
    network.op(Code::Builtin(22), &[padded, map], &[mapped], vec![], vec![]);
    network.op(Code::Builtin(3), &[mapped, filter, -1], &[out], vec![Byte(1), Int(1), Int(1)], vec![]);
    assert_eq!(run(&network, &[1.0, -2.0, 3.0, 4.0, -5.0, -6.0, 7.0, -8.0]), [0.0, 0.0, 2.0, 2.0]);
    let graph = read(&network.file(), "tiny.tflite", &ImportOptions::default()).unwrap().graph;
    assert!(graph.nodes.iter().any(|n| matches!(n.op, Op::BConv2d(_))));
}

/// A dilated convolution as TensorFlow writes it: even and odd pixels become a batch of two.
#[test]
fn pixels_in_the_batch_are_dilation() {
    let mut network = Network::new();
    let x = network.tensor(&[1, 1, 4, 1], F32);
    let block = network.ints(&[2], &[1, 2]);
    let pads = network.ints(&[2, 2], &[0, 0, 2, 2]);
    let crops = network.ints(&[2, 2], &[0, 0, 0, 1]);
    let filter = network.floats(&[1, 1, 3, 1], &[1.0, 10.0, 100.0]);
    let [apart, made, out] =
        [[2, 1, 4, 1], [2, 1, 2, 1], [1, 1, 3, 1]].map(|shape| network.tensor(&shape, F32));
    network.op(Code::Builtin(38), &[x, block, pads], &[apart], vec![], vec![]);
    network.op(Code::Builtin(3), &[apart, filter, -1], &[made], vec![Byte(1), Int(1), Int(1)], vec![]);
    network.op(Code::Builtin(37), &[made, block, crops], &[out], vec![], vec![]);
    assert_eq!(run(&network, &[1.0, 2.0, 3.0, 4.0]), [310.0, 420.0, 31.0]);
    // What would mix the pixels of different places is refused.
    let mut network = Network::new();
    let x = network.tensor(&[1, 1, 4, 1], F32);
    let (block, pads) = (network.ints(&[2], &[1, 2]), network.ints(&[2, 2], &[0, 0, 0, 0]));
    let (apart, out) = (network.tensor(&[2, 1, 2, 1], F32), network.tensor(&[2, 1, 2, 1], F32));
    network.op(Code::Builtin(38), &[x, block, pads], &[apart], vec![], vec![]);
    network.op(Code::Builtin(25), &[apart], &[out], vec![Float(1.0)], vec![]);
    assert!(error(&network).contains("in the batch"));
}

/// Two groups of two channels: for a while there are four axes.
#[test]
fn channels_are_shuffled() {
    let mut network = Network::new();
    let x = network.tensor(&[1, 1, 2, 4], F32);
    let [apart, order, joined] = [vec![1, 1, 2, 2, 2], vec![0, 1, 2, 4, 3], vec![1, 1, 2, 4]]
        .map(|v| network.ints(&[v.len() as i32], &v));
    let [a, b] = [(); 2].map(|()| network.tensor(&[1, 1, 2, 2, 2], F32));
    let out = network.tensor(&[1, 1, 2, 4], F32);
    network.op(Code::Builtin(22), &[x, apart], &[a], vec![], vec![]);
    network.op(Code::Builtin(39), &[a, order], &[b], vec![], vec![]);
    network.op(Code::Builtin(22), &[b, joined], &[out], vec![], vec![]);
    let x: Vec<f32> = (0..8).map(|v| v as f32).collect();
    assert_eq!(run(&network, &x), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
}

/// Flattening as Keras writes it for batches of any size.
#[test]
fn shapes_are_computed_from_shapes() {
    let mut network = Network::new();
    let x = network.tensor(&[1, 2, 1, 2], F32);
    let [zero, one] = [[0], [1]].map(|v| network.ints(&[1], &v));
    let rest = network.ints(&[], &[-1]);
    let (shape, batch) = (network.tensor(&[4], I32), network.tensor(&[], I32));
    let (target, flat) = (network.tensor(&[2], I32), network.tensor(&[1, 4], F32));
    let weights = network.floats(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let out = network.tensor(&[1, 1], F32);
    network.op(Code::Builtin(77), &[x], &[shape], vec![], vec![]);
    let masks = vec![Int(0), Int(0), Int(0), Int(0), Int(1)];
    network.op(Code::Builtin(45), &[shape, zero, one, one], &[batch], masks, vec![]);
    network.op(Code::Builtin(83), &[batch, rest], &[target], vec![Int(2)], vec![]);
    network.op(Code::Builtin(22), &[x, target], &[flat], vec![], vec![]);
    network.op(Code::Builtin(9), &[flat, weights, -1], &[out], vec![], vec![]);
    assert_eq!(run(&network, &[1.0, 10.0, 100.0, 1000.0]), [4321.0]);
}

#[test]
fn quantised_layers_round_to_codes() {
    let mut network = Network::new();
    let x = network.quantised(&[1, 1, 1, 1], 0.5, 1);
    let filter = network.bytes(&[2, 1, 1, 1], &[2, -3], &[1.0, 0.5]);
    let out = network.quantised(&[1, 1, 1, 2], 4.0, -2);
    network.op(Code::Builtin(3), &[x, filter, -1], &[out], vec![Byte(1), Int(1), Int(1)], vec![]);
    // Real inputs 1 and -1, 2 and -1.5 times; halves are rounded up, then the zero point is added.
    assert_eq!(run(&network, &[3.0]), [-1.0, -2.0]);
    assert_eq!(run(&network, &[-1.0]), [-2.0, -2.0]);
    assert_eq!(run(&network, &[127.0]), [30.0, -26.0]);
    let notes = read(&network.file(), "tiny.tflite", &ImportOptions::default()).unwrap().notes;
    assert!(notes.iter().any(|n| n.contains("0.5 * (c - 1)")), "{notes:?}");
}

#[test]
fn quantised_values_keep_their_channels_apart() {
    // Slopes of each channel, and a function that falls and rises, on 256 codes.
    let quantised = |code, constants: fn(&mut Network) -> Vec<i32>| {
        let mut network = Network::new();
        let x = network.quantised(&[1, 1, 1, 2], 0.5, 0);
        let mut inputs = vec![x];
        inputs.extend(constants(&mut network));
        let out = network.quantised(&[1, 1, 1, 2], 0.25, 0);
        network.op(Code::Builtin(code), &inputs, &[out], vec![], vec![]);
        run(&network, &[-4.0, -5.0])
    };
    assert_eq!(quantised(54, |n| vec![n.floats(&[1, 1, 2], &[0.5, -1.0])]), [-4.0, 10.0]);
    assert_eq!(quantised(18, |n| vec![n.floats(&[2], &[1.0, 3.0])]), [-8.0, -30.0]);
    // x * (x + 3) / 6 of -2 and -2.5 is -1/3 and -0.2083.
    assert_eq!(quantised(117, |_| vec![]), [-1.0, -1.0]);
}

/// `LceQuantize`, an op on bits, and `LceDequantize` if that puts out bits.
fn on_bits(
    op: &'static str,
    from: [i32; 4],
    to: [i32; 4],
    constants: impl Fn(&mut Network) -> Vec<i32>,
    options: &[(&str, i16)],
    format: Option<u8>,
) -> Network {
    let mut network = Network::new();
    let x = network.tensor(&from, F32);
    let words = |mut shape: [i32; 4]| {
        shape[3] = (shape[3] + 31) / 32;
        shape
    };
    let bits = network.tensor(&words(from), I32);
    network.op(Code::Custom("LceQuantize"), &[x], &[bits], vec![], vec![]);
    let mut inputs = vec![bits];
    inputs.extend(constants(&mut network));
    let made = match format {
        Some(I8) => network.quantised(&to, 2.0, 3),
        Some(format) => network.tensor(&to, format),
        None => network.tensor(&words(to), I32),
    };
    network.op(Code::Custom(op), &inputs, &[made], vec![], flexbuffer(options));
    if format.is_none() {
        let out = network.tensor(&to, F32);
        network.op(Code::Custom("LceDequantize"), &[made], &[out], vec![], vec![]);
    }
    network
}

/// Options of a binary convolution with strides and dilations of 1, in the order of their names.
fn bconv_options(channels: i16, activation: i16, pads: i16, padding: i16) -> [(&'static str, i16); 8] {
    [
        ("channels_in", channels),
        ("dilation_height_factor", 1),
        ("dilation_width_factor", 1),
        ("fused_activation_function", activation),
        ("pad_values", pads),
        ("padding", padding),
        ("stride_height", 1),
        ("stride_width", 1),
    ]
}

/// A row of three pixels, three taps `+1 -1 +1`.
fn row(padding: i16, pads: i16, activation: i16, format: Option<u8>, limit: Option<i32>) -> Network {
    let width = if padding == 0 { 3 } else { 1 };
    let options = bconv_options(1, activation, pads, padding);
    let constants = |n: &mut Network| {
        let filter = n.ints(&[1, 1, 3, 1], &[0, 1, 0]);
        match limit {
            Some(limit) => vec![filter, -1, -1, n.ints(&[1], &[limit])],
            None => vec![filter, n.floats(&[1], &[-2.0]), n.floats(&[1], &[10.0]), -1],
        }
    };
    on_bits("LceBconv2d", [1, 1, 3, 1], [1, 1, width, 1], constants, &options, format)
}

#[test]
fn binary_convolutions_of_lce() {
    // The sign of 0 is +1, so the pixels are - + +.
    let x = [-1.0, 0.0, 2.0];
    // Sums are 3, -1, 1 with a border of +1, and 2, -1, 0 with one of 0.
    assert_eq!(run(&row(0, 1, 0, Some(F32), None), &x), [4.0, 12.0, 8.0]);
    assert_eq!(run(&row(0, 0, 0, Some(F32), None), &x), [6.0, 12.0, 10.0]);
    assert_eq!(run(&row(1, 0, 0, Some(F32), None), &x), [12.0]);
    // The activation comes before the multiplier.
    assert_eq!(run(&row(0, 1, 1, Some(F32), None), &x), [4.0, 10.0, 8.0]);
    assert_eq!(run(&row(0, 1, 2, Some(F32), None), &x), [8.0, 12.0, 8.0]);
    assert_eq!(run(&row(0, 1, 3, Some(F32), None), &x), [4.0, 10.0, 8.0]);
    // Codes of scale 2 and zero point 3.
    assert_eq!(run(&row(0, 1, 0, Some(I8), None), &x), [5.0, 9.0, 7.0]);
    // There are 0, 2 and 1 products of -1; with a border of 0, half a one more where it is.
    for (limit, want) in [
        (-1, [-1.0, -1.0, -1.0]),
        (0, [1.0, -1.0, -1.0]),
        (1, [1.0, -1.0, 1.0]),
        (2, [1.0, 1.0, 1.0]),
        (i32::MAX, [1.0, 1.0, 1.0]),
        (i32::MIN, [-1.0, -1.0, -1.0]),
    ] {
        assert_eq!(run(&row(0, 1, 0, None, Some(limit)), &x), want, "threshold {limit}");
    }
    assert_eq!(run(&row(0, 0, 0, None, Some(1)), &x), [1.0, -1.0, -1.0]);
}

#[test]
fn words_of_lce_hold_32_channels() {
    // Channels 31 and 32 have the weight -1.
    let options = bconv_options(33, 0, 0, 1);
    let constants = |n: &mut Network| {
        vec![n.ints(&[1, 1, 1, 2], &[i32::MIN, 1]), n.floats(&[1], &[1.0]), n.floats(&[1], &[0.0]), -1]
    };
    let network = on_bits("LceBconv2d", [1, 1, 1, 33], [1, 1, 1, 1], constants, &options, Some(F32));
    let mut x = [1.0; 33];
    assert_eq!(run(&network, &x), [29.0]);
    (x[0], x[32]) = (-1.0, -1.0);
    assert_eq!(run(&network, &x), [29.0]);
    x[31] = -1.0;
    assert_eq!(run(&network, &x), [31.0]);
}

#[test]
fn groups_of_lce_are_whole_words() {
    let options = bconv_options(64, 0, 0, 1);
    let constants = |n: &mut Network| {
        vec![n.ints(&[2, 1, 1, 1], &[1, 0]), n.floats(&[2], &[1.0, 1.0]), n.floats(&[2], &[0.0, 0.0]), -1]
    };
    let network = on_bits("LceBconv2d", [1, 1, 1, 64], [1, 1, 1, 2], constants, &options, Some(F32));
    let mut x = [1.0; 64];
    assert_eq!(run(&network, &x), [30.0, 32.0]);
    x[32..36].fill(-1.0);
    assert_eq!(run(&network, &x), [30.0, 24.0]);
    x[0] = -1.0;
    assert_eq!(run(&network, &x), [32.0, 24.0]);
}

/// What Larq's `DoReFa` quantiser becomes: rounded thirds of the range from 0 to 1.
#[test]
fn rounded_activations_run_on_bits() {
    let mut network = Network::new();
    let x = network.tensor(&[1, 1, 1, 3], F32);
    let [one, three, third] = [1.0, 3.0, 1.0 / 3.0].map(|v| network.floats(&[], &[v]));
    let filter = network.floats(&[1, 1, 1, 3], &[0.5, -0.5, 0.5]);
    let [a, b, c, d, e] = [(); 5].map(|()| network.tensor(&[1, 1, 1, 3], F32));
    let out = network.tensor(&[1, 1, 1, 1], F32);
    network.op(Code::Builtin(57), &[x, one], &[a], vec![], vec![]);
    network.op(Code::Builtin(19), &[a], &[b], vec![], vec![]);
    network.op(Code::Builtin(18), &[b, three], &[c], vec![], vec![]);
    network.op(Code::Builtin(116), &[c], &[d], vec![], vec![]);
    network.op(Code::Builtin(18), &[d, third], &[e], vec![], vec![]);
    network.op(Code::Builtin(3), &[e, filter, -1], &[out], vec![Byte(1), Int(1), Int(1)], vec![]);
    // 1/2 is 3/2 thirds, which is rounded to 2; 1/6 is half a third, which is rounded to 0.
    let got = run(&network, &[0.5, 2.0, 1.0 / 6.0]);
    assert!((got[0] - (2.0 / 3.0 - 1.0) / 2.0).abs() < 1e-6, "{got:?}");
    let graph = read(&network.file(), "tiny.tflite", &ImportOptions::default()).unwrap().graph;
    assert!(graph.nodes.iter().any(|n| matches!(n.op, Op::BConv2d(_))), "{:?}", graph.nodes);
}

#[test]
fn bits_are_pooled_without_the_border() {
    let options = [
        ("filter_height", 1),
        ("filter_width", 2),
        ("padding", 0),
        ("stride_height", 1),
        ("stride_width", 1),
    ];
    let network = on_bits("LceBMaxPool2d", [1, 1, 3, 1], [1, 1, 3, 1], |_| vec![], &options, None);
    assert_eq!(run(&network, &[-1.0, -2.0, 0.0]), [-1.0, 1.0, 1.0]);
    assert_eq!(run(&network, &[1.0, -2.0, -3.0]), [1.0, -1.0, -1.0]);
}

#[test]
fn what_cannot_be_imported_is_named() {
    let unknown = builtin(16, &[1, 2], &[1, 2], vec![], |_| vec![]);
    for text in ["layer 'a'", "LSTM", "recurrent"] {
        assert!(error(&unknown).contains(text), "{}", error(&unknown));
    }
    let unknown = builtin(119, &[1, 2], &[1, 2], vec![], |_| vec![]);
    assert!(error(&unknown).contains("(WHILE)"), "{}", error(&unknown));

    let mut network = Network::new();
    let x = network.tensor(&[1, 2], F32);
    let out = network.tensor(&[1, 2], F32);
    network.op(Code::Custom("LceBsign"), &[x], &[out], vec![], vec![]);
    assert!(error(&network).contains("0.4 or later"), "{}", error(&network));

    let mut network = Network::new();
    let x = network.tensor(&[1, 2], F32);
    let (shape, out) = (network.tensor(&[2], I32), network.tensor(&[1, 2], F32));
    network.op(Code::Builtin(53), &[x], &[shape], vec![], vec![]);
    network.op(Code::Builtin(22), &[x, shape], &[out], vec![], vec![]);
    assert!(error(&network).contains("make it constant"), "{}", error(&network));

    let mut network = Network::new();
    let x = network.tensor(&[1, 2], F32);
    let bits = network.tensor(&[1, 1], I32);
    network.op(Code::Custom("LceQuantize"), &[x], &[bits], vec![], vec![]);
    assert!(error(&network).contains("LceDequantize"), "{}", error(&network));

    let batch = builtin(19, &[4, 2, 2, 1], &[4, 2, 2, 1], vec![], |_| vec![]);
    assert!(error(&batch).contains("batch of 1"), "{}", error(&batch));
}
