//! Damaged TensorFlow Lite files are refused, or read as another network: without a panic, and without memory that the
//! size of the file does not explain.

#[path = "hostile/counting.rs"]
mod counting;
mod tflite_file;

use counting::peak;
use onebit::import::ImportOptions;
use onebit::import::tflite::read;
use std::sync::{Mutex, PoisonError};
use tflite_file::Field::{Byte, Float, Int};
use tflite_file::{BOOL, Code, F32, I32, Network, flexbuffer};

/// Bytes that a file of two kilobytes may take: sizes that are changed by a bit or two ask for some more than it has.
const MOST: usize = 1 << 20;

/// Memory is counted for all threads, so tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A convolution, one on bits, a pool, a quantised dense layer: every table that is read.
fn network() -> Vec<u8> {
    let mut n = Network::new();
    let x = n.tensor(&[1, 2, 3, 1], F32);
    let (filter, bias) = (n.floats(&[2, 1, 2, 1], &[1.0, 2.0, 3.0, 4.0]), n.floats(&[2], &[0.5, 1.0]));
    let a = n.tensor(&[1, 2, 3, 2], F32);
    n.op(Code::Builtin(3), &[x, filter, bias], &[a], vec![Byte(0), Int(1), Int(1), Byte(1)], vec![]);
    let b = n.tensor(&[1, 2, 3, 1], I32);
    n.op(Code::Custom("LceQuantize"), &[a], &[b], vec![], vec![]);
    let (filter, limits) = (n.ints(&[2, 1, 1, 1], &[1, 2]), n.ints(&[2], &[0, 1]));
    let c = n.tensor(&[1, 2, 3, 1], I32);
    let options = [
        ("channels_in", 2),
        ("dilation_height_factor", 1),
        ("dilation_width_factor", 1),
        ("fused_activation_function", 0),
        ("pad_values", 1),
        ("padding", 0),
        ("stride_height", 1),
        ("stride_width", 1),
    ];
    n.op(Code::Custom("LceBconv2d"), &[b, filter, -1, -1, limits], &[c], vec![], flexbuffer(&options));
    let d = n.tensor(&[1, 2, 3, 2], F32);
    n.op(Code::Custom("LceDequantize"), &[c], &[d], vec![], vec![]);
    let e = n.quantised(&[1, 1, 1, 2], 0.1, 3);
    let pool = vec![Byte(1), Int(1), Int(1), Int(3), Int(2)];
    n.op(Code::Builtin(1), &[d], &[e], pool, vec![]);
    let weights = n.bytes(&[2, 2], &[1, -2, 3, 4], &[0.5, 0.25]);
    let f = n.quantised(&[1, 2], 0.5, -1);
    n.op(Code::Builtin(9), &[e, weights, -1], &[f], vec![Byte(1)], vec![]);
    n.file()
}

fn check(file: &[u8]) -> bool {
    let (result, bytes) = peak(|| read(file, "hostile.tflite", &ImportOptions::default()).map(|_| ()));
    assert!(bytes <= MOST, "{bytes} bytes");
    if let Err(e) = &result {
        let text = e.to_string();
        assert!(text.len() < 2000 && !text.contains(char::is_control), "{text:?}");
    }
    result.is_ok()
}

#[test]
fn damage_is_refused_or_harmless() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let file = network();
    assert!(check(&file), "{:?}", read(&file, "hostile.tflite", &ImportOptions::default()).err());
    for length in 0..file.len() {
        assert!(!check(&file[..length]), "cut to {length} bytes");
    }
    let mut worst = 0;
    for at in 0..file.len() {
        for flip in [1, 2, 0x40, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            let (_, bytes) = peak(|| check(&damaged));
            worst = worst.max(bytes);
        }
    }
    eprintln!("{} bytes, at most {worst} in use", file.len());
}

/// Small files that ask for much: layers of many channels, one upon the other, from a shape in four bytes.
#[test]
fn shapes_do_not_ask_for_memory() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let most = 400 << 20;
    let refused = |shape: &[i32], quantised: bool| {
        let mut n = Network::new();
        let mut x = if quantised { n.quantised(shape, 1.0, 0) } else { n.tensor(shape, F32) };
        for _ in 0..100 {
            let next = if quantised { n.quantised(shape, 0.5, 0) } else { n.tensor(shape, F32) };
            n.op(Code::Builtin(98), &[x], &[next], vec![Float(0.5)], vec![]);
            x = next;
        }
        let (result, bytes) =
            peak(|| read(&n.file(), "hostile.tflite", &ImportOptions::default()).map(|_| ()));
        assert!(bytes < most, "{shape:?}: {bytes} bytes");
        result.unwrap_err().to_string()
    };
    assert!(refused(&[1, 1 << 24], false).contains("far larger than the file"));
    assert!(refused(&[1, 1 << 20], true).contains("far larger than the file"));
    for shape in [
        [1, i32::MAX, i32::MAX, i32::MAX],
        [1, 0, 1, 1],
        [1, 1 << 13, 1 << 12, 1],
        [1, -1, 1, 1],
        [i32::from(BOOL), 1, 1, 1],
    ] {
        refused(&shape, false);
    }
}
