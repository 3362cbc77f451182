//! Espresso's files of records: random networks, written here, against plain arithmetic; wrong and hostile bytes.

use onebit::import::espresso::parse;
use onebit::import::{Classes, ImportOptions, import};
use onebit::session::Elements;
use onebit::{Graph, Options, Session, passes};
use std::path::Path;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
    fn ints(&mut self, n: usize, spread: i64) -> Vec<f32> {
        (0..n).map(|_| (self.below(2 * spread as u64 + 1) as i64 - spread) as f32).collect()
    }
}

#[derive(Clone)]
enum Layer {
    /// Rows, columns.
    Dense(usize, usize, Vec<f32>),
    /// Padding, filters, rows, columns, channels, strides; weights `[filter][channel][y][x]` as Theano has them.
    Conv([usize; 7], Vec<f32>),
    /// Rows, columns, strides.
    Pool([usize; 4]),
    /// beta, gamma, mean, inv_std.
    Norm([Vec<f32>; 4]),
}

/// A file of these layers. Biases are written, because the format has them.
fn file(layers: &[Layer], bias: f32) -> Vec<u8> {
    let count = |f: fn(&Layer) -> bool| layers.iter().filter(|l| f(l)).count() as i32;
    let mut out = Vec::new();
    for (tag, n) in [
        (0x11u8, count(|l| matches!(l, Layer::Dense(..)))),
        (0x12, count(|l| matches!(l, Layer::Norm(_)))),
        (0x13, count(|l| matches!(l, Layer::Conv(..)))),
        (0x14, count(|l| matches!(l, Layer::Pool(_)))),
    ] {
        out.push(tag);
        out.extend(n.to_le_bytes());
    }
    out.push(0x20);
    let ints = |out: &mut Vec<u8>, v: &[usize]| v.iter().for_each(|v| out.extend((*v as i32).to_le_bytes()));
    let floats = |out: &mut Vec<u8>, v: &[f32]| v.iter().for_each(|v| out.extend(v.to_le_bytes()));
    for layer in layers {
        match layer {
            Layer::Dense(rows, columns, w) => {
                out.push(0x21);
                ints(&mut out, &[*rows, *columns]);
                floats(&mut out, w);
                floats(&mut out, &vec![bias; *rows]);
            }
            Layer::Conv(sizes, w) => {
                out.push(0x23);
                ints(&mut out, sizes);
                floats(&mut out, w);
                floats(&mut out, &vec![bias; sizes[1]]);
            }
            Layer::Pool(sizes) => {
                out.push(0x24);
                ints(&mut out, sizes);
            }
            Layer::Norm(all) => {
                out.push(0x22);
                ints(&mut out, &[all[0].len()]);
                all.iter().for_each(|v| floats(&mut out, v));
            }
        }
    }
    out
}

/// Whole and half numbers, so that signs of 0 occur.
fn norm(n: usize, rng: &mut Rng) -> Layer {
    let gamma = rng.ints(n, 1).iter().map(|g| if *g < 0.0 { -1.0 } else { 2.0 }).collect();
    Layer::Norm([rng.ints(n, 1), gamma, rng.ints(n, 2), vec![0.5; n]])
}

/// Espresso's arithmetic on a `(c, h, w)` map of bytes.
fn reference(layers: &[Layer], size: [usize; 3], pixels: &[u8]) -> Vec<f32> {
    let sign = |v: f32| if v > 0.0 { 1.0f32 } else { -1.0 };
    let [mut c, mut h, mut w] = size;
    let mut x: Vec<f32> = pixels.iter().map(|p| f32::from(*p) / 128.0 - 1.0).collect();
    let last = layers.iter().rposition(|l| matches!(l, Layer::Dense(..) | Layer::Conv(..))).unwrap();
    for (i, layer) in layers.iter().enumerate() {
        match layer {
            Layer::Dense(rows, columns, weights) => {
                assert_eq!(x.len(), *columns);
                x = weights
                    .chunks(*columns)
                    .map(|r| r.iter().zip(&x).map(|(w, x)| sign(*w) * x).sum())
                    .collect();
                (c, h, w) = (*rows, 1, 1);
            }
            Layer::Conv([pad, filters, rows, columns, channels, down, right], weights) => {
                assert_eq!(c, *channels);
                let (oh, ow) = ((h + 2 * pad - rows) / down + 1, (w + 2 * pad - columns) / right + 1);
                let mut y = Vec::new();
                for n in 0..*filters {
                    for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
                        let mut sum = 0.0;
                        for (k, ky, kx) in (0..c * rows * columns)
                            .map(|t| (t / (rows * columns), t / columns % rows, t % columns))
                        {
                            let (yy, xx) =
                                ((oy * down + ky).wrapping_sub(*pad), (ox * right + kx).wrapping_sub(*pad));
                            let value = if yy < h && xx < w { x[(k * h + yy) * w + xx] } else { -1.0 };
                            let flipped = (rows - 1 - ky) * columns + columns - 1 - kx;
                            sum += sign(weights[(n * c + k) * rows * columns + flipped]) * value;
                        }
                        y.push(sum);
                    }
                }
                (x, c, h, w) = (y, *filters, oh, ow);
            }
            Layer::Pool([rows, columns, down, right]) => {
                let (oh, ow) = ((h - rows) / down + 1, (w - columns) / right + 1);
                let at = |o: usize, ky: usize, kx: usize| {
                    x[o / (oh * ow) * h * w + (o / ow % oh * down + ky) * w + o % ow * right + kx]
                };
                let taps = |o: usize| {
                    let all = (0..*rows).flat_map(|ky| (0..*columns).map(move |kx| (ky, kx)));
                    all.map(|(ky, kx)| at(o, ky, kx)).fold(f32::MIN, f32::max)
                };
                x = (0..c * oh * ow).map(taps).collect();
                (h, w) = (oh, ow);
            }
            Layer::Norm([beta, gamma, mean, inv_std]) => {
                let one = |(i, v): (usize, &f32)| {
                    let k = i / (h * w);
                    (v - mean[k]) * (gamma[k] * inv_std[k]) + beta[k]
                };
                x = x.iter().enumerate().map(one).collect();
                if i < last {
                    x = x.into_iter().map(sign).collect();
                }
            }
        }
    }
    x
}

/// Scores of pictures in `(c, h, w)` order, as imported and after all passes.
fn scores(graph: &Graph, pixels: &[u8]) -> Vec<Vec<f32>> {
    let shape = graph.ty(0).shape;
    let n = shape.elements();
    let hwc: Vec<u8> = (0..pixels.len())
        .map(|i| pixels[i / n * n + i % n % shape.c * shape.pixels() + i % n / shape.c])
        .collect();
    let mut fused = graph.clone();
    passes::optimize(&mut fused).unwrap();
    let run = |graph: Graph| -> Vec<Vec<f32>> {
        let (model, meta) = graph.into_model().unwrap();
        let session = Session::new(&model, meta, &Options::default()).unwrap();
        session.run_elements(Elements::Pixels(&hwc)).unwrap().into_iter().map(|o| o.scores).collect()
    };
    let (plain, fused) = (run(graph.clone()), run(fused));
    assert_eq!(plain, fused);
    fused
}

fn dense(sizes: &[usize], rng: &mut Rng) -> Vec<Layer> {
    let mut all = Vec::new();
    for pair in sizes.windows(2) {
        all.push(Layer::Dense(pair[1], pair[0], rng.ints(pair[0] * pair[1], 9)));
        all.push(norm(pair[1], rng));
    }
    all
}

/// Convolutions of several forms on 3 x 13 x 11, and two dense layers.
fn cnn(rng: &mut Rng) -> Vec<Layer> {
    let mut conv =
        |sizes: [usize; 7]| Layer::Conv(sizes, rng.ints(sizes[1] * sizes[2] * sizes[3] * sizes[4], 9));
    // 13 x 11, then 7 x 11, 7 x 11, 3 x 5, 3 x 5, 2 x 3.
    let (a, b, c) = (conv([1, 6, 3, 3, 3, 2, 1]), conv([1, 8, 3, 3, 6, 1, 1]), conv([2, 5, 5, 3, 8, 2, 3]));
    let mut all = vec![a, norm(6, rng), b, Layer::Pool([3, 2, 2, 2]), norm(8, rng), c, norm(5, rng)];
    all.extend(dense(&[5 * 2 * 3, 9, 4], rng));
    all
}

fn options(input: Option<[usize; 3]>) -> ImportOptions {
    ImportOptions { input, ..ImportOptions::default() }
}

#[test]
fn files_equal_plain_arithmetic() {
    let mut rng = Rng(1);
    let dir = tempfile::tempdir().unwrap();
    let mut bare = dense(&[36, 9, 5], &mut rng);
    bare.pop();
    let cases = [
        (dense(&[50, 20, 70, 6], &mut rng), [50, 1, 1]),
        (dense(&[81, 7], &mut rng), [1, 9, 9]),
        (bare, [1, 6, 6]),
        (cnn(&mut rng), [3, 13, 11]),
        // Sums of the first layer themselves show its padding.
        (vec![Layer::Conv([1, 1, 3, 3, 3, 1, 1], rng.ints(27, 9))], [3, 5, 4]),
    ];
    for (i, (layers, [c, h, w])) in cases.into_iter().enumerate() {
        let path = dir.path().join(format!("net{i}.esp"));
        std::fs::write(&path, file(&layers, 0.0)).unwrap();
        let said = ImportOptions { input: (i >= 3).then_some([h, w, c]), ..ImportOptions::default() };
        let imported = import(&path, &said).unwrap();
        assert_eq!((imported.format, imported.graph.meta.name.clone()), ("espresso", format!("net{i}")));
        assert_eq!(imported.graph.ty(0).shape.elements(), c * h * w);
        let pixels: Vec<u8> =
            (0..8 * c * h * w).map(|i| (rng.below(100) as usize + i / (c * h * w) * 20) as u8).collect();
        let want: Vec<Vec<f32>> =
            pixels.chunks(c * h * w).map(|p| reference(&layers, [c, h, w], p)).collect();
        assert!(want.iter().any(|v| v != &want[0]), "pictures matter in network {i}");
        assert_eq!(scores(&imported.graph, &pixels), want, "network {i}");
    }
}

#[test]
fn what_is_assumed_is_noted_and_options_count() {
    let mut rng = Rng(2);
    let layers = dense(&[784, 6, 5], &mut rng);
    let path = Path::new("m.esp");
    let imported = parse(&file(&layers, 0.0), path, &options(None)).unwrap();
    assert_eq!(imported.graph.ty(0).shape.to_string(), "28x28x1");
    assert_eq!(imported.notes.len(), 2);
    let said = ImportOptions {
        std: vec![255.0],
        input: Some([1, 1, 784]),
        classes: Classes::First(3),
        ..ImportOptions::default()
    };
    let imported = parse(&file(&layers, 0.5), path, &said).unwrap();
    assert_eq!(imported.graph.ty(imported.graph.output).shape.c, 3);
    for part in ["Mean and std", "biases", "sign of 0"] {
        assert!(imported.notes.iter().any(|n| n.contains(part)), "{part}: {:?}", imported.notes);
    }
}

#[test]
fn wrong_records_are_named() {
    let mut rng = Rng(3);
    let layers = cnn(&mut rng);
    let with = |change: &dyn Fn(&mut Vec<Layer>)| {
        let mut layers = layers.clone();
        change(&mut layers);
        parse(&file(&layers, 0.0), Path::new("m.esp"), &options(Some([13, 11, 3]))).unwrap_err().to_string()
    };
    assert!(with(&|l| l.clear()).contains("does not begin"));
    assert!(
        with(&|l| {
            l.remove(0);
        })
        .contains("does not begin")
    );
    assert!(
        with(&|l| {
            l.remove(1);
        })
        .contains("'conv1': is followed by another layer")
    );
    assert!(
        with(&|l| {
            l.remove(3);
        })
        .contains("'fc1'")
    );
    assert!(with(&|l| l[4] = norm(7, &mut Rng(1))).contains("conv2_norm"));
    assert!(
        with(&|l| l[2] = Layer::Conv([1, 8, 3, 3, 5, 1, 1], vec![1.0; 360])).contains("takes 5 channels")
    );
    assert!(with(&|l| l[2] = Layer::Conv([0, 8, 9, 3, 6, 1, 1], vec![1.0; 1296])).contains("does not fit"));
    // Maps that would grow until they had more elements than there are numbers.
    let grow = Layer::Conv([1 << 16, 1, 1, 1, 1, 1, 1], vec![1.0]);
    let text = with(&|l| {
        let first = Layer::Conv([1, 1, 1, 1, 3, 1, 1], vec![1.0; 3]);
        let pair = |conv: Layer| [conv, Layer::Norm([vec![1.0], vec![1.0], vec![1.0], vec![1.0]])];
        *l = std::iter::repeat_n(grow.clone(), 9).flat_map(pair).collect();
        l.splice(0..0, pair(first));
    });
    assert!(text.contains("padding"), "{text}");
    assert!(with(&|l| l[3] = Layer::Pool([3, 2, 0, 2])).contains("size of 0"));
    assert!(with(&|l| l[7] = Layer::Dense(9, 30, vec![f32::NAN; 270])).contains("NaN"));
    let message = |bytes: &[u8]| parse(bytes, Path::new("m.esp"), &options(None)).unwrap_err().to_string();
    let mut bytes = file(&dense(&[9, 4], &mut rng), 0.0);
    bytes[1] = 7;
    assert!(message(&bytes).contains("announces 7 dense layers, but holds 1"));
    bytes[22..26].copy_from_slice(&i32::MAX.to_le_bytes());
    assert!(message(&bytes).contains("bytes follow"), "{}", message(&bytes));
    bytes[22..26].copy_from_slice(&(-1i32).to_le_bytes());
    assert!(message(&bytes).contains("size of -1"));
    bytes[21] = 0x33;
    assert!(message(&bytes).contains("0x33 at 21"), "{}", message(&bytes));
}

#[test]
fn damaged_files_give_a_sentence() {
    let mut rng = Rng(4);
    let good = file(&cnn(&mut rng), 0.0);
    let said = options(Some([13, 11, 3]));
    for n in (0..good.len()).step_by(7) {
        assert!(parse(&good[..n], Path::new("m.esp"), &said).is_err(), "{n} bytes");
    }
    // Bytes of tags and sizes matter most: they lie in the first thirty, and before each array.
    for i in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(if i % 2 == 0 { 60 } else { bytes.len() as u64 }) as usize;
            bytes[at] = [0, 1, 127, 255, rng.below(256) as u8][rng.below(5) as usize];
        }
        if let Err(e) = parse(&bytes, Path::new("m.esp"), &said) {
            assert!(!e.to_string().contains(char::is_control), "{e:?}");
        }
    }
}
