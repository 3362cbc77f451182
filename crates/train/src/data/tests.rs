use super::*;
use onebit::core::types::{DType, Shape, ValueType};
use onebit::data::{Dataset, Part, npy};
use onebit::elements::{Elements, put_input};
use onebit::meta::Preprocessing;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const SHAPE: Shape = Shape::new(4, 5, 1);

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|s| all.extend_from_slice(&s.to_be_bytes()));
    all.extend_from_slice(bytes);
    all
}

/// `n` pictures of 4 x 5 whose pixels say which picture it is, of 3 classes in turn.
fn memory(n: usize) -> Source {
    let pixels: Vec<u8> = (0..n * 20).map(|i| (i / 20 * 7 + i % 20) as u8).collect();
    let labels: Vec<u8> = (0..n).map(|i| (i % 3) as u8).collect();
    Dataset::from_mnist(&idx(&[n as u32, 4, 5], &pixels), &idx(&[n as u32], &labels)).unwrap().into()
}

fn options() -> Options {
    Options::new(SHAPE, Preprocessing::default())
}

fn png(path: &Path, width: u32, height: u32, seed: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x: u32, y: u32| image::Rgb([seed, (x * 9) as u8, (y * 11) as u8]);
    image::RgbImage::from_fn(width, height, pixel).save(path).unwrap();
}

/// What a batch is made of, but for damage.
fn content(batches: impl Iterator<Item = Batch>) -> Vec<(Vec<f32>, Vec<u32>, Vec<usize>)> {
    batches.map(|b| (b.pixels, b.labels, b.indices)).collect()
}

fn all(source: &Source) -> Vec<usize> {
    (0..source.len()).collect()
}

#[test]
fn splits_are_stratified_disjoint_and_repeatable() {
    let labels: Vec<usize> = (0..997).map(|i| if i % 10 == 0 { 2 } else { i % 2 }).chain([5]).collect();
    let (train, valid) = split(&labels, 0.15, 3);
    let both: BTreeSet<usize> = train.iter().chain(&valid).copied().collect();
    assert_eq!((both.len(), train.len() + valid.len(), valid.len()), (998, 998, 150));
    assert!(train.is_sorted() && valid.is_sorted() && train.contains(&997));
    for class in 0..3 {
        let count = |of: &[usize]| of.iter().filter(|i| labels[**i] == class).count() as f64;
        let due = 0.15 * (count(&train) + count(&valid));
        assert!((count(&valid) - due).abs() <= 1.0, "class {class}: {} of {due}", count(&valid));
    }
    assert_eq!(split(&labels, 0.15, 3), (train.clone(), valid));
    assert_ne!(split(&labels, 0.15, 4).0, train);
    assert!(split(&labels, 0.0, 3).1.is_empty());
    assert_eq!(split(&[], 0.5, 3), (vec![], vec![]));
    assert_eq!(split(&[0, 1, 2], 0.9, 3), (vec![0, 1, 2], vec![]));
}

#[test]
fn a_last_picture_alone_joins_the_batch_before() {
    let cases = [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 1), (6, 4, 2), (9, 4, 2), (10, 4, 3), (5, 1, 5)];
    for (pictures, batch, expected) in cases {
        assert_eq!(steps(pictures, batch), expected, "{pictures} by {batch}");
        let source = Arc::new(memory(10));
        let indices: Vec<usize> = (0..pictures).collect();
        let batches = epoch(&source, &indices, &Options { batch, ..options() }).unwrap();
        assert_eq!(batches.len(), expected);
        let got: Vec<Vec<usize>> = batches.map(|b| b.indices).collect();
        assert_eq!((got.len(), got.concat()), (expected, indices));
        assert!(pictures < 2 || batch == 1 || got.iter().all(|b| b.len() > 1));
    }
}

#[test]
fn epochs_are_shuffled_and_go_on_where_they_were_left() {
    let source = Arc::new(memory(50));
    let indices: Vec<usize> = (0..50).filter(|i| i % 4 != 0).collect();
    let augment = Augment { shift: 1, rotate: 10.0, flip: true, cutout: 2, ..Augment::default() };
    let options = Options { shuffle: true, augment, batch: 6, seed: 5, ..options() };
    let whole = content(epoch(&source, &indices, &options).unwrap());
    let order = whole.iter().flat_map(|b| b.2.clone()).collect::<Vec<_>>();
    assert_ne!(order, indices);
    assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), indices.iter().copied().collect());
    for skip_steps in [1, 4, whole.len() - 1, whole.len(), 99] {
        let rest = epoch(&source, &indices, &Options { skip_steps, ..options.clone() }).unwrap();
        assert_eq!(content(rest), whole[skip_steps.min(whole.len())..], "from {skip_steps}");
    }
    for other in [Options { epoch: 1, ..options.clone() }, Options { seed: 6, ..options.clone() }] {
        assert_ne!(content(epoch(&source, &indices, &other).unwrap()), whole);
    }
    // The changes of a picture do not depend on its place.
    let ordered = epoch(&source, &indices, &Options { shuffle: false, batch: 50, ..options }).unwrap();
    let (pixels, labels, _) = content(ordered).remove(0);
    let (first, label, i) = (&whole[0].0[..20], whole[0].1[0], whole[0].2[0]);
    let place = indices.iter().position(|j| *j == i).unwrap();
    assert_eq!((&pixels[place * 20..][..20], labels[place]), (first, label));
    assert_eq!(label as usize, i % 3);
}

#[test]
fn inputs_are_those_of_the_engine_bit_for_bit() {
    let pixels: Vec<u8> = (0..=255).flat_map(|v| [v, 255 - v, v ^ 0x5a]).collect();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let floats: Vec<f32> = pixels.iter().map(|p| f32::from(*p)).collect();
    npy::save(at("train_images.npy"), &[1, 16, 16, 3], &floats).unwrap();
    npy::save(at("train_labels.npy"), &[1], &[0.0]).unwrap();
    let source = Arc::new(Source::open(folder.path(), Part::Train).unwrap());
    let shape = Shape::new(16, 16, 3);
    for (mean, std) in [
        (vec![], vec![]),
        (vec![127.5], vec![127.5]),
        (vec![123.675, 116.28, 103.53], vec![58.395, 57.12, 57.375]),
        (vec![33.3], vec![61.7, 3.1]),
    ] {
        let input = Preprocessing { mean, std, ..Default::default() };
        let ty = ValueType { shape, dtype: DType::F32 };
        let mut words = vec![0; ty.arena_words()];
        put_input(ty, &input, Elements::Pixels(&pixels), &mut words).unwrap();
        let expected: Vec<u32> =
            words.iter().flat_map(|w| [*w as u32, (*w >> 32) as u32]).take(768).collect();
        let batch = epoch(&source, &[0], &Options::new(shape, input)).unwrap().next().unwrap();
        assert_eq!(batch.pixels.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected);
    }
    let zero = Preprocessing { std: vec![0.0], ..Default::default() };
    assert!(epoch(&source, &[0], &Options::new(shape, zero)).unwrap_err().to_string().contains("std"));
}

#[test]
fn what_comes_in_is_the_mean() {
    let source = Arc::new(memory(3));
    let input = Preprocessing { mean: vec![100.0], std: vec![2.0], ..Default::default() };
    let augment = Augment { cutout: 100, ..Augment::default() };
    let options = Options { augment, ..Options::new(SHAPE, input) };
    assert_eq!(epoch(&source, &[0], &options).unwrap().next().unwrap().pixels, [0.0; 20]);
}

#[test]
fn files_are_fitted_and_damage_is_named_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..9u32 {
        png(&folder.path().join(format!("{}/{i}.png", ["cat", "dog"][i as usize % 2])), 6 + i, 9, i as u8);
    }
    let broken = folder.path().join("cat/5.png");
    let bytes = std::fs::read(folder.path().join("cat/4.png")).unwrap();
    std::fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let source = Arc::new(Source::open(folder.path(), Part::Train).unwrap());
    std::fs::remove_file(folder.path().join("dog/1.png")).unwrap();
    assert_eq!(
        (source.class_names(), source.classes(), source.shape()),
        (&["cat".into(), "dog".into()][..], 2, None)
    );
    let shape = Shape::new(8, 7, 3);
    let input = Preprocessing { resize: 10, ..Default::default() };
    let augment = Augment { shift: 2, scale: 0.1, ..Augment::default() };
    let plain = Options { batch: 4, shuffle: true, ..Options::new(shape, input.clone()) };
    for augment in [Augment::default(), augment] {
        let run = |threads| {
            let options = Options { threads, augment: augment.clone(), ..plain.clone() };
            let batches: Vec<Batch> = epoch(&source, &all(&source), &options).unwrap().collect();
            let damage: Vec<String> =
                batches.iter().flat_map(|b| &b.damaged).map(ToString::to_string).collect();
            (content(batches.into_iter()), damage)
        };
        let (batches, damage) = run(1);
        assert_eq!(damage.len(), 2);
        assert!(["cat/5.png", "dog/1.png"].iter().all(|name| damage.iter().any(|d| d.contains(name))));
        assert_eq!(batches.iter().map(|b| b.2.len()).sum::<usize>(), 8);
        for (pixels, labels, indices) in &batches {
            assert_eq!((pixels.len(), labels.len()), (indices.len() * shape.elements(), indices.len()));
            for (i, (pixels, label)) in indices.iter().zip(pixels.chunks(shape.elements()).zip(labels)) {
                assert_eq!(*label as usize, source.labels()[*i]);
                let expected = source.picture(*i, shape, &input).unwrap();
                if augment.is_none() {
                    assert!(pixels.iter().zip(&expected[..]).all(|(p, e)| *p == f32::from(*e)));
                }
                assert!(pixels.iter().all(|p| p.fract() == 0.0 && (0.0..=255.0).contains(p)));
            }
        }
        for threads in [0, 2, 3] {
            assert_eq!(run(threads), (batches.clone(), damage.clone()), "{threads} threads");
        }
    }
    let strict = epoch(&source, &all(&source), &Options { batch: 100, ..plain }).unwrap().next().unwrap();
    assert!(strict.whole().is_err());
}

#[test]
fn classes_that_the_network_lacks_are_damage() {
    let source = Arc::new(memory(6));
    let batch = epoch(&source, &all(&source), &Options { classes: 2, ..options() }).unwrap().next().unwrap();
    assert_eq!((batch.indices, batch.labels), (vec![0, 1, 3, 4], vec![0, 1, 0, 1]));
    assert_eq!(batch.damaged.len(), 2);
    let text = batch.damaged[1].to_string();
    assert!(text.contains("picture 5") && text.contains("class 2"), "{text}");
    assert_eq!(batch.pixels[2 * 20], 21.0);
}

#[test]
fn parts_agree_on_their_classes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (i, name) in
        ["train/ant/1.png", "train/bee/2.png", "train/cat/3.png", "val/cat/4.png"].iter().enumerate()
    {
        png(&at(name), 5, 4, i as u8);
    }
    let (train, test) = Source::open_parts(folder.path()).unwrap();
    let test = test.unwrap();
    assert_eq!((train.labels(), train.is_test(), test.is_test()), (&[0, 1, 2][..], false, true));
    assert_eq!((test.labels(), test.class_names(), test.classes()), (&[2][..], train.class_names(), 3));
    assert_eq!(Source::open(folder.path(), Part::Test).unwrap().labels(), [0]);
    png(&at("val/dog/5.png"), 5, 4, 9);
    assert!(Source::open_parts(folder.path()).unwrap_err().to_string().contains("'dog'"));
    // Without a test part there is none.
    let (train, test) = Source::open_parts(at("train")).unwrap();
    assert_eq!((train.len(), test.is_none()), (3, true));
}

#[test]
fn the_hash_sees_every_pixel_and_label() {
    let hash = |pixels: &[u8], shape: [u32; 3], labels: &[u8]| {
        let data = Dataset::from_mnist(&idx(&shape, pixels), &idx(&[labels.len() as u32], labels)).unwrap();
        Source::from(data).hash()
    };
    let first = hash(&[1, 2, 3, 4], [2, 1, 2], &[0, 1]);
    assert!(first.len() == 64 && first.chars().all(|c| c.is_ascii_hexdigit()));
    assert_eq!(first, hash(&[1, 2, 3, 4], [2, 1, 2], &[0, 1]));
    let others = [
        hash(&[1, 2, 3, 5], [2, 1, 2], &[0, 1]),
        hash(&[1, 2, 3, 4], [2, 1, 2], &[0, 2]),
        hash(&[1, 2, 3, 4], [2, 2, 1], &[0, 1]),
        hash(&[1, 2], [1, 1, 2], &[0]),
    ];
    assert!(others.iter().all(|other| *other != first));

    let folder = tempfile::tempdir().unwrap();
    for (i, name) in ["a/1.png", "b/2.png"].iter().enumerate() {
        png(&folder.path().join(name), 5, 4, i as u8);
    }
    let hash = || Source::open(folder.path(), Part::Train).unwrap().hash();
    let first = hash();
    assert_eq!(hash(), first);
    png(&folder.path().join("b/2.png"), 5, 4, 77);
    let changed = hash();
    assert_ne!(changed, first);
    std::fs::rename(folder.path().join("b/2.png"), folder.path().join("a/2.png")).unwrap();
    assert!(![first, changed].contains(&hash()));
}

#[test]
fn dropping_an_epoch_ends_its_thread() {
    let source = Arc::new(memory(60));
    let mut batches = epoch(&source, &all(&source), &Options { batch: 2, ..options() }).unwrap();
    assert_eq!(batches.next().unwrap().indices, [0, 1]);
    drop(batches);
    // The thread held the other reference.
    assert_eq!(Arc::strong_count(&source), 1);
}

#[test]
fn senseless_options_are_refused() {
    let source = Arc::new(memory(4));
    let refused =
        |indices: &[usize], options: Options| epoch(&source, indices, &options).unwrap_err().to_string();
    assert!(refused(&[4], options()).contains("no picture 4"));
    assert!(refused(&[0], Options { batch: 0, ..options() }).contains("nothing"));
    assert!(refused(&[0], Options::new(Shape::new(4, 5, 2), Preprocessing::default())).contains("2"));
    let augment = Augment { scale: 2.0, ..Augment::default() };
    assert!(refused(&[0], Options { augment, ..options() }).contains("train.augment.scale"));
}

/// `cargo test -p onebit-train --lib data::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "prints times"]
fn speed() {
    let n = 20_000;
    let pixels: Vec<u8> = (0..n * 784).map(|i| (i * 31 % 251) as u8).collect();
    let data =
        Dataset::from_mnist(&idx(&[n as u32, 28, 28], &pixels), &idx(&[n as u32], &vec![1; n])).unwrap();
    let source = Arc::new(Source::from(data));
    let shift = Augment { shift: 2, ..Augment::default() };
    let turn = Augment { rotate: 10.0, scale: 0.1, ..shift.clone() };
    let bend = Augment { elastic: 4.0, ..turn.clone() };
    for (name, augment) in [("plain", Augment::default()), ("shift", shift), ("turn", turn), ("bend", bend)] {
        let input = Preprocessing { mean: vec![33.0], std: vec![78.0], ..Default::default() };
        let options = Options { augment, shuffle: true, ..Options::new(Shape::new(28, 28, 1), input) };
        let start = std::time::Instant::now();
        let count: usize = epoch(&source, &all(&source), &options).unwrap().map(|b| b.len()).sum();
        println!("{name}: {:.2} us a picture", start.elapsed().as_secs_f64() * 1e6 / count as f64);
    }
    let start = std::time::Instant::now();
    source.hash();
    println!("hash: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
}
