//! BinaryNet's `.npz`: archives of all forms against plain arithmetic, published fixtures, and hostile bytes.
//!
//! Fixtures lie in the folder that `ONEBIT_SHARED` names, or beside the workspace in `shared`; without it their test is
//! skipped.

use onebit::data::npy;
use onebit::import::binarynet::{npz, parse};
use onebit::import::{Classes, ImportOptions, Imported, import};
use onebit::session::Elements;
use onebit::{Options, Session, passes};
use rawzip::{CompressionMethod, ZipArchiveWriter};
use std::io::Write;
use std::path::{Path, PathBuf};

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n) as i64
    }
    fn ints(&mut self, n: usize, spread: i64) -> Vec<f32> {
        (0..n).map(|_| (self.below(2 * spread as u64 + 1) - spread) as f32).collect()
    }
}

/// An archive of these entries.
fn archive(entries: &[(String, Vec<u8>)], deflate: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ZipArchiveWriter::new(&mut bytes);
    for (name, content) in entries {
        let method = if deflate { CompressionMethod::DEFLATE } else { CompressionMethod::STORE };
        let (mut entry, config) = writer.new_file(name.as_str()).compression_method(method).start().unwrap();
        let descriptor = if deflate {
            let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default());
            let mut out = config.wrap(encoder);
            out.write_all(content).unwrap();
            let (encoder, descriptor) = out.finish().unwrap();
            encoder.finish().unwrap();
            descriptor
        } else {
            let mut out = config.wrap(&mut entry);
            out.write_all(content).unwrap();
            out.finish().unwrap().1
        };
        entry.finish(descriptor).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

type Arrays = Vec<(Vec<usize>, Vec<f32>)>;

fn numbered(arrays: &Arrays) -> Vec<(String, Vec<u8>)> {
    let one = |(i, (shape, values)): (usize, &(Vec<usize>, Vec<f32>))| {
        (format!("arr_{i}.npy"), npy::to_bytes(shape, values))
    };
    arrays.iter().enumerate().map(one).collect()
}

/// The same array as `f8` in Fortran order.
fn fortran_doubles(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(|s| format!("{s},")).collect();
    let header = format!("{{'descr': '<f8', 'fortran_order': True, 'shape': ({}), }}\n", sizes.join(" "));
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for i in 0..values.len() {
        let (mut at, mut rest, mut stride) = (0, i, values.len());
        let index: Vec<usize> = shape
            .iter()
            .map(|s| {
                let x = rest % s;
                rest /= s;
                x
            })
            .collect();
        for (s, x) in shape.iter().zip(index) {
            stride /= s;
            at += x * stride;
        }
        bytes.extend(f64::from(values[at]).to_le_bytes());
    }
    bytes
}

/// Blocks of whole numbers, so that zeros are met before signs; gamma of both signs, weights that are exactly 0.
fn blocks(convs: &[[usize; 4]], dense: &[[usize; 2]], bias: bool, rng: &mut Rng) -> Arrays {
    let mut arrays = Arrays::new();
    let matrices = convs.iter().map(|s| s.to_vec()).chain(dense.iter().map(|s| s.to_vec()));
    for (i, shape) in matrices.enumerate() {
        let out = if shape.len() == 4 { shape[0] } else { shape[1] };
        let n = shape.iter().product();
        arrays.push((shape, rng.ints(n, 2)));
        // Vectors may be written as rows.
        let row = if i == 0 { vec![1, out] } else { vec![out] };
        if bias {
            arrays.push((row.clone(), rng.ints(out, 1)));
        }
        arrays.push((row.clone(), rng.ints(out, 1)));
        arrays.push((
            row.clone(),
            rng.ints(out, 1).iter().map(|g| if *g < 0.0 { -1.0 } else { 2.0 }).collect(),
        ));
        arrays.push((row.clone(), rng.ints(out, 2)));
        arrays.push((row, vec![0.5; out]));
    }
    arrays
}

/// BinaryNet's arithmetic on a `(c, h, w)` map: convolution with flipped kernels, zeros around; maximum; BatchNorm; sign.
fn reference(arrays: &Arrays, bias: bool, pools: &[usize], size: [usize; 3], input: &[f32]) -> Vec<f32> {
    let sign = |v: f32| if v >= 0.0 { 1.0f32 } else { -1.0 };
    let [_, mut h, mut w] = size;
    let mut c;
    let mut x = input.to_vec();
    let per = if bias { 6 } else { 5 };
    let layers = arrays.len() / per;
    for (i, block) in arrays.chunks(per).enumerate() {
        let (shape, weight) = &block[0];
        let mut y = Vec::new();
        if let [out, channels, rows, columns] = shape[..] {
            let at = |k: usize, yy: i64, xx: i64| match (0..h as i64).contains(&yy)
                && (0..w as i64).contains(&xx)
            {
                true => x[(k * h + yy as usize) * w + xx as usize],
                false => 0.0,
            };
            for n in 0..out {
                for (oy, ox) in (0..h).flat_map(|oy| (0..w).map(move |ox| (oy, ox))) {
                    let mut sum = 0.0;
                    for k in 0..channels {
                        for (ky, kx) in (0..rows).flat_map(|ky| (0..columns).map(move |kx| (ky, kx))) {
                            let weight = sign(weight[((n * channels + k) * rows + ky) * columns + kx]);
                            let (dy, dx) = (rows as i64 / 2 - ky as i64, columns as i64 / 2 - kx as i64);
                            sum += weight * at(k, oy as i64 + dy, ox as i64 + dx);
                        }
                    }
                    y.push(sum);
                }
            }
            c = out;
            if pools.contains(&(i + 1)) {
                let (ph, pw) = (h / 2, w / 2);
                let pooled = (0..c * ph * pw).map(|o| {
                    let first = o / (ph * pw) * h * w + o / pw % ph * 2 * w + o % pw * 2;
                    y[first].max(y[first + 1]).max(y[first + w]).max(y[first + w + 1])
                });
                y = pooled.collect();
                (h, w) = (ph, pw);
            }
        } else {
            let (inputs, out) = (shape[0], shape[1]);
            assert_eq!(x.len(), inputs);
            y = (0..out).map(|n| (0..inputs).map(|k| x[k] * sign(weight[k * out + n])).sum()).collect();
            (c, h, w) = (out, 1, 1);
        }
        let constant = |at: usize, v: usize| block[per - 4 + at].1[v / (h * w)];
        x = (0..c * h * w)
            .map(|v| {
                let b = if bias { block[1].1[v / (h * w)] } else { 0.0 };
                (y[v] + b - constant(2, v)) * (constant(1, v) * constant(3, v)) + constant(0, v)
            })
            .collect();
        if i + 1 < layers {
            x = x.into_iter().map(sign).collect();
        }
    }
    x
}

/// Scores for inputs in `(c, h, w)` order, as imported and after all passes.
fn scores(imported: &Imported, inputs: &[f32]) -> Vec<Vec<f32>> {
    let shape = imported.graph.ty(0).shape;
    let (pixels, n) = (shape.pixels(), shape.elements());
    let hwc: Vec<f32> =
        (0..inputs.len()).map(|i| inputs[i / n * n + i % n % shape.c * pixels + i % n / shape.c]).collect();
    let mut fused = imported.graph.clone();
    passes::optimize(&mut fused).unwrap();
    let run = |graph: onebit::Graph| -> Vec<Vec<f32>> {
        let (model, meta) = graph.into_model().unwrap();
        let session = Session::new(&model, meta, &Options::default()).unwrap();
        session.run_elements(Elements::F32(&hwc)).unwrap().into_iter().map(|o| o.scores).collect()
    };
    let (plain, fused) = (run(imported.graph.clone()), run(fused));
    assert_eq!(plain, fused);
    fused
}

fn options(input: Option<[usize; 3]>) -> ImportOptions {
    ImportOptions { input, ..ImportOptions::default() }
}

fn message(bytes: &[u8], input: Option<[usize; 3]>) -> String {
    parse(bytes, Path::new("p.npz"), &options(input)).unwrap_err().to_string()
}

#[test]
fn archives_of_all_forms_equal_plain_arithmetic() {
    let mut rng = Rng(1);
    // Rows and columns that differ, kernels of three forms, maxima that leave a row and a column out.
    let convs = [[5, 2, 3, 3], [6, 5, 3, 1], [7, 6, 5, 3], [3, 7, 1, 1]];
    let size = [2, 10, 7];
    let dense = [[3 * 2, 9], [9, 4]];
    for bias in [true, false] {
        let arrays = blocks(&convs, &dense, bias, &mut rng);
        let input = rng.ints(2 * 10 * 7 * 3, 3);
        let want: Vec<Vec<f32>> =
            input.chunks(140).map(|x| reference(&arrays, bias, &[2, 4], size, x)).collect();
        assert!(want.iter().any(|w| w != &want[0]));
        let named: Vec<(String, Vec<u8>)> = arrays
            .iter()
            .enumerate()
            .map(|(i, (shape, values))| {
                (format!("{}{}.npy", ["z", "a"][i % 2], i), fortran_doubles(shape, values))
            })
            .collect();
        let mut shuffled = numbered(&arrays);
        shuffled.reverse();
        for (entries, deflate) in [(numbered(&arrays), false), (named, true), (shuffled, true)] {
            let bytes = archive(&entries, deflate);
            let imported = parse(&bytes, Path::new("p.npz"), &options(Some([10, 7, 2]))).unwrap();
            assert_eq!(scores(&imported, &input), want);
            assert!(imported.notes.iter().any(|n| n.contains("2, 4")), "{:?}", imported.notes);
        }
    }
}

#[test]
fn what_is_assumed_is_noted_and_options_count() {
    let mut rng = Rng(2);
    let bytes = archive(&numbered(&blocks(&[], &[[784, 8], [8, 5]], false, &mut rng)), false);
    let path = Path::new("folder/mnist_parameters.npz");
    let imported = parse(&bytes, path, &ImportOptions::default()).unwrap();
    assert_eq!(imported.graph.ty(0).shape.to_string(), "28x28x1");
    assert_eq!((imported.notes.len(), imported.graph.meta.name.as_str()), (2, "mnist_parameters"));
    assert_eq!(
        (&imported.graph.meta.input.mean[..], &imported.graph.meta.input.std[..]),
        (&[127.5][..], &[127.5][..])
    );
    let said = ImportOptions {
        std: vec![255.0],
        mean: vec![0.0],
        input: Some([1, 1, 784]),
        classes: Classes::First(3),
        name: Some("n".into()),
        ..ImportOptions::default()
    };
    let imported = parse(&bytes, path, &said).unwrap();
    assert_eq!(imported.graph.ty(0).shape.to_string(), "784");
    assert_eq!(imported.graph.ty(imported.graph.output).shape.c, 3);
    assert_eq!((imported.notes.len(), imported.graph.meta.name.as_str()), (0, "n"));
    assert!(message(&bytes, Some([1, 1, 783])).contains("784"));
    let convs = archive(&numbered(&blocks(&[[4, 3, 3, 3]], &[[4 * 16 * 16, 2]], true, &mut rng)), false);
    let imported = parse(&convs, path, &ImportOptions::default()).unwrap();
    assert_eq!(imported.graph.ty(0).shape.to_string(), "32x32x3");
    assert!(imported.notes[0].contains("32 x 32"), "{:?}", imported.notes);
    let uneven = [[4, 3, 3, 3], [4, 4, 3, 3], [4, 4, 3, 3]];
    let uneven = archive(&numbered(&blocks(&uneven, &[[4 * 8 * 8, 2]], true, &mut rng)), false);
    let imported = parse(&uneven, path, &ImportOptions::default()).unwrap();
    assert!(imported.notes[1].contains("after convolutions 2, 3 was"), "{:?}", imported.notes);
    assert!(message(&convs, Some([20, 20, 3])).contains("--input"));
    assert!(message(&convs, Some([32, 32, 1])).contains("3 channels"));
}

#[test]
fn wrong_arrays_are_named() {
    let mut rng = Rng(3);
    let arrays = blocks(&[[4, 3, 3, 3]], &[[4, 5]], true, &mut rng);
    let with = |change: &dyn Fn(&mut Arrays)| {
        let mut arrays = arrays.clone();
        change(&mut arrays);
        message(&archive(&numbered(&arrays), false), Some([2, 2, 3]))
    };
    assert!(
        with(&|a| {
            a.pop();
        })
        .contains("11 arrays")
    );
    assert!(with(&|a| a.clear()).contains("archive") || with(&|a| a.clear()).contains("0 arrays"));
    assert!(
        with(&|a| a[9] = (vec![4], vec![1.0; 4]))
            .contains("'arr_9' should be the gamma of the 5 outputs of layer 1")
    );
    assert!(with(&|a| a[6].0 = vec![20]).contains("'arr_6' should be the weights"));
    assert!(with(&|a| a[6] = (vec![3, 5], vec![1.0; 15])).contains("first dense layer reads 3"));
    assert!(with(&|a| a[0].1[7] = f32::NAN).contains("'arr_0' contains NaN"));
    assert!(with(&|a| a[11].1[0] = f32::INFINITY).contains("fc1_norm"));
    assert!(with(&|a| a[1].1[0] = f32::NAN).contains("conv1_bias"));
    assert!(with(&|a| a.rotate_left(6)).contains("behind a dense layer"));
    assert!(with(&|a| a[0] = (vec![4, 3, 2, 2], vec![1.0; 48])).contains("2 x 2"));
    assert!(with(&|a| a.truncate(6)).contains("no dense layer"));
    let mut deep = vec![[5, 1, 1, 1]];
    deep.extend([[5, 5, 1, 1]; 12]);
    let deep = archive(&numbered(&blocks(&deep, &[[5 * 2 * 2, 2]], false, &mut rng)), false);
    let text = message(&deep, Some([1 << 14, 1 << 14, 1]));
    assert!(text.contains("'conv1'") && text.contains("would have an impossible shape"), "{text}");
    let mut objects = numbered(&arrays);
    objects[2].1 = b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }             \n\x80\x04K\x01.".to_vec();
    let text = message(&archive(&objects, false), None);
    assert!(text.contains("arr_2") && text.contains("pickled"), "{text}");
    objects[2] = ("data.pkl".into(), vec![0; 9]);
    assert!(message(&archive(&objects, false), None).contains("data.pkl"));
    let mut twice = numbered(&arrays);
    twice[3].0 = "arr_2.npy".into();
    assert!(message(&archive(&twice, false), None).contains("twice"));
}

#[test]
fn archives_that_claim_or_hold_too_much_are_refused() {
    // A megabyte of zeros deflates to a thousandth.
    let zeros = npy::to_bytes(&[16 << 20], &vec![0.0; 16 << 20]);
    let bomb = archive(&[("arr_0.npy".into(), zeros)], true);
    assert!(bomb.len() < 1 << 17);
    assert!(message(&bomb, None).contains("claims to hold"), "{}", message(&bomb, None));
    // What inflates to more than its header says.
    let mut longer = npy::to_bytes(&[4], &[1.0; 4]);
    longer.extend([0; 4000]);
    assert!(message(&archive(&[("arr_0.npy".into(), longer)], true), None).contains("by its header"));
    // What claims less than it holds, in both places that say it.
    let honest = npy::to_bytes(&[5000], &vec![1.0; 5000]);
    let bytes = archive(&[("arr_0.npy".into(), honest.clone())], true);
    let size = (honest.len() as u32).to_le_bytes();
    let lying = npy::to_bytes(&[16], &[1.0; 16]).len() as u32;
    let mut liar = bytes;
    for at in (0..liar.len() - 4).filter(|i| liar[*i..*i + 4] == size).collect::<Vec<_>>() {
        liar[at..at + 4].copy_from_slice(&lying.to_le_bytes());
    }
    assert!(message(&liar, None).contains("damaged"), "{}", message(&liar, None));
}

#[test]
fn damaged_archives_give_a_sentence() {
    let mut rng = Rng(4);
    let arrays = blocks(&[[4, 3, 3, 3], [2, 4, 3, 3]], &[[2 * 4, 5]], true, &mut rng);
    let said = options(Some([4, 4, 3]));
    for deflate in [false, true] {
        let good = archive(&numbered(&arrays), deflate);
        assert!(parse(&good, Path::new("p.npz"), &said).is_ok());
        let check = |bytes: &[u8]| {
            if let Err(e) = parse(bytes, Path::new("p.npz"), &said) {
                let text = e.to_string();
                assert!(!text.contains(char::is_control) && text.len() < 2000, "{text:?}");
            }
        };
        for n in (0..good.len()).step_by(13) {
            assert!(parse(&good[..n], Path::new("p.npz"), &said).is_err(), "{n} bytes");
        }
        for _ in 0..2000 {
            let mut bytes = good.clone();
            for _ in 0..1 + rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = [0, 1, 255, rng.below(256) as u8][rng.below(4) as usize];
            }
            check(&bytes);
        }
    }
    assert!(!npz::is_npz(b"PK\x03\x04") && !npz::is_npz(b"") && !npz::is_npz(&[0; 64]));
}

fn fixtures() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder =
        std::env::var_os("ONEBIT_SHARED").map_or(beside, PathBuf::from).join("fixtures/binarynet-npz");
    if !folder.is_dir() {
        eprintln!("skipped: no fixtures in {} (set ONEBIT_SHARED)", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn fixtures_equal_their_outputs() {
    let Some(folder) = fixtures() else { return };
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let folder = entry.unwrap().path();
        let array = |name: &str| npy::open(folder.join(name)).unwrap();
        let imported = import(&folder.join("params.npz"), &ImportOptions::default()).unwrap();
        assert_eq!(imported.format, "binarynet");
        let got = scores(&imported, &array("input.npy").values);
        let want = array("expected.npy").values;
        let want: Vec<&[f32]> = want.chunks(got[0].len()).collect();
        assert_eq!(got.len(), want.len());
        let exact = folder.ends_with("mnist_mlp_ties");
        let best = |v: &[f32]| v.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        for (got, want) in got.iter().zip(want) {
            for (g, w) in got.iter().zip(want) {
                assert!(
                    (g - w).abs() <= if exact { 0.0 } else { 1e-4 * w.abs().max(1.0) },
                    "{folder:?}: {g} {w}"
                );
            }
            assert_eq!(best(got), best(want), "{folder:?}");
        }
        found += 1;
    }
    assert!(found >= 4);
}
