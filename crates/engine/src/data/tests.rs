use super::*;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|s| all.extend_from_slice(&s.to_be_bytes()));
    all.extend_from_slice(bytes);
    all
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn png(path: &Path, width: u32, height: u32, colour: [u8; 3]) {
    image::RgbImage::from_pixel(width, height, image::Rgb(colour)).save(path).unwrap();
}

fn message(result: Result<Dataset>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn mnist_layout_plain_and_gzipped_prefers_the_test_part() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("train-images-idx3-ubyte.gz"), gz(&idx(&[1, 2, 2], &[9; 4]))).unwrap();
    std::fs::write(at("train-labels-idx1-ubyte.gz"), gz(&idx(&[1], &[7]))).unwrap();
    let train = Dataset::open(dir.path()).unwrap();
    assert_eq!((train.labels(), train.image(0).unwrap().pixels), (&[7][..], vec![9; 4]));

    std::fs::write(at("t10k-images-idx3-ubyte"), idx(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]))
        .unwrap();
    std::fs::write(at("t10k-labels-idx1-ubyte.gz"), gz(&idx(&[2], &[3, 4]))).unwrap();
    for path in [dir.path().to_owned(), at("t10k-images-idx3-ubyte")] {
        let test = Dataset::open(path).unwrap();
        assert_eq!((test.format(), test.labels(), test.classes()), ("MNIST layout", &[3, 4][..], 5));
        assert_eq!(test.shape(), Some(Shape::new(2, 3, 1)));
        assert_eq!(test.image(1).unwrap(), Image::new(3, 2, 1, vec![7, 8, 9, 10, 11, 12]).unwrap());
    }
    assert_eq!(Dataset::open_part(dir.path(), Part::Train).unwrap().labels(), [7]);
    let memory = Dataset::from_mnist(&gz(&idx(&[1, 1, 1], &[9])), &idx(&[1], &[7])).unwrap();
    assert_eq!((memory.labels(), memory.image(0).unwrap().pixels), (&[7][..], vec![9]));
}

#[test]
fn damaged_idx_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("t10k-images-idx3-ubyte.gz");
    std::fs::write(dir.path().join("t10k-labels-idx1-ubyte.gz"), gz(&idx(&[2], &[3, 4]))).unwrap();
    let good = idx(&[2, 2, 2], &[1; 8]);
    let zipped = gz(&good);
    for (bytes, expected) in [
        (good[..good.len() - 1].to_vec(), "truncated"),
        (idx(&[9, 2, 2], &[1; 8]), "cannot hold"),
        (gz(&good[..good.len() - 1]), "truncated"),
        (zipped[..zipped.len() - 9].to_vec(), "truncated"),
        (gz(&idx(&[3, 2, 2], &[1; 12])), "2 labels for the 3 pictures"),
        (gz(&idx(&[u32::MAX, 2, 2], &[1; 8])), "cannot hold"),
        (gz(&idx(&[u32::MAX; 3], &[1; 8])), "cannot hold"),
        (gz(&idx(&[0, 2, 2], &[])), "cannot hold"),
        (gz(&idx(&[2, 2, 2], &[1; 9])), "holds more"),
        // A small file that expands to 64 MiB is read no further than its header says.
        (gz(&idx(&[2, 2, 2], &vec![0; 64 << 20])), "holds more"),
        (gz(&idx(&[8], &[1; 8])), "not an idx file"),
        (Vec::new(), "truncated"),
    ] {
        std::fs::write(&images, bytes).unwrap();
        let error = message(Dataset::open(dir.path()));
        assert!(error.contains(expected) && error.contains("-ubyte.gz"), "{error}");
    }
    std::fs::write(&images, zipped).unwrap();
    std::fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte.gz")).unwrap();
    assert!(message(Dataset::open(dir.path())).contains("t10k-labels-idx1-ubyte.gz"));
}

fn cifar_record(labels: &[u8], rgb: [u8; 3]) -> Vec<u8> {
    let mut record = labels.to_vec();
    rgb.iter().for_each(|v| record.extend_from_slice(&[*v; 1024]));
    record
}

#[test]
fn cifar_files_become_interleaved_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = cifar_record(&[3], [1, 2, 3]);
    // The second pixel of the red plane.
    first[2] = 200;
    std::fs::write(dir.path().join("data_batch_1.bin"), cifar_record(&[5], [0; 3])).unwrap();
    std::fs::write(dir.path().join("data_batch_2.bin"), cifar_record(&[6], [0; 3])).unwrap();
    assert_eq!(Dataset::open(dir.path()).unwrap().labels(), [5, 6]);
    let test = dir.path().join("test_batch.bin");
    std::fs::write(&test, [first, cifar_record(&[9], [4, 5, 6])].concat()).unwrap();
    let memory = Dataset::from_cifar(&std::fs::read(&test).unwrap());
    for data in [Dataset::open(dir.path()), Dataset::open(&test), memory].map(Result::unwrap) {
        assert_eq!((data.format(), data.labels()), ("CIFAR-10", &[3, 9][..]));
        assert_eq!(data.image(0).unwrap().pixels[..9], [1, 2, 3, 200, 2, 3, 1, 2, 3]);
        assert_eq!(data.image(1).unwrap().pixels[3069..], [4, 5, 6]);
    }
    assert_eq!(Dataset::open_part(dir.path(), Part::Train).unwrap().labels(), [5, 6]);

    std::fs::write(&test, [cifar_record(&[19, 99], [1; 3]), cifar_record(&[1, 42], [1; 3])].concat())
        .unwrap();
    let data = Dataset::open(&test).unwrap();
    assert_eq!((data.format(), data.labels()), ("CIFAR-100", &[99, 42][..]));

    for bad in [vec![0; 3072], cifar_record(&[10], [0; 3]), Vec::new()] {
        std::fs::write(&test, bad).unwrap();
        assert!(message(Dataset::open(&test)).contains("test_batch.bin: is no CIFAR"));
    }
}

#[test]
fn class_folders_take_turns_and_damaged_pictures_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["b", "a", "c", ".hidden"] {
        std::fs::create_dir(dir.path().join(class)).unwrap();
    }
    png(&dir.path().join("a/1.png"), 4, 3, [1, 2, 3]);
    png(&dir.path().join("a/2.PNG"), 4, 3, [1, 2, 3]);
    png(&dir.path().join("c/9.png"), 5, 3, [1, 2, 3]);
    std::fs::write(dir.path().join("a/notes.txt"), "no picture").unwrap();
    std::fs::write(dir.path().join("b/broken.jpg"), "no picture").unwrap();
    let mut data = Dataset::open(dir.path()).unwrap();
    assert_eq!(
        (data.labels(), data.class_names()),
        (&[0, 1, 2, 0][..], &["a", "b", "c"].map(String::from)[..])
    );
    let batches: Vec<Batch> = data.batches(3).collect();
    assert_eq!(batches.iter().map(|b| b.labels.clone()).collect::<Vec<_>>(), [vec![0, 2], vec![0]]);
    assert_eq!(batches[0].images[1].width, 5);
    assert!(batches[0].damaged[0].to_string().contains("broken.jpg"));
    data.truncate(2);
    assert_eq!((data.len(), data.classes()), (2, 3));
}

#[test]
fn lists_of_labels_take_numbers_and_names() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("labels.csv");
    png(&dir.path().join("x, y.png"), 2, 2, [7; 3]);
    std::fs::write(&list, "class,file\r\n10,x, y.png\r\n\r\n2,missing.png\r\n").unwrap();
    for path in [dir.path(), &list] {
        let data = Dataset::open(path).unwrap();
        assert_eq!((data.labels(), data.classes()), (&[10, 2][..], 11));
        let batch = data.batches(8).next().unwrap();
        assert_eq!((batch.labels, batch.images[0].pixels.clone()), (vec![10], vec![7; 12]));
        assert!(batch.damaged[0].to_string().contains("missing.png"));
    }
    std::fs::write(&list, "dog,a.png\ncat,b.png\ndog,c.png\n").unwrap();
    let data = Dataset::open(&list).unwrap();
    assert_eq!((data.labels(), data.class_names()), (&[1, 0, 1][..], &["cat", "dog"].map(String::from)[..]));
    for (text, expected) in [
        ("just text\n", "line 1 is not"),
        ("99999999,a.png", "larger"),
        ("", "no pictures"),
        ("class,file\n", "no pictures"),
    ] {
        std::fs::write(&list, text).unwrap();
        assert!(message(Dataset::open(&list)).contains(expected), "{text}");
    }
}

#[test]
fn unknown_data_lists_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    assert!(message(Dataset::open(dir.path())).contains("labels.csv"));
    let file = dir.path().join("data.zip");
    std::fs::write(&file, "PK").unwrap();
    assert!(message(Dataset::open(&file)).contains("CIFAR-10"));
    assert!(message(Dataset::open(dir.path().join("nothing"))).contains("nothing"));
}

#[test]
fn train_and_test_folders_are_parts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["Train/a", "Train/b", "val/a", "test"] {
        std::fs::create_dir_all(at(folder)).unwrap();
    }
    for (name, side) in [("Train/a/1.png", 2), ("Train/b/1.png", 3), ("val/a/1.png", 4), ("test/x.png", 5)] {
        png(&at(name), side, side, [1; 3]);
    }
    let labels = |part| {
        let data = Dataset::open_part(dir.path(), part).unwrap();
        (data.labels().to_vec(), data.image(0).unwrap().width, data.is_test())
    };
    // Pictures right in `test` make it a class, so that it is no part.
    assert_eq!(labels(Part::Train), (vec![0, 1], 2, false));
    assert_eq!(labels(Part::Test), (vec![0], 4, true));
    std::fs::write(at("test/labels.csv"), "3,x.png\n").unwrap();
    assert_eq!(labels(Part::Test), (vec![3], 5, true));
    let data = Dataset::open(dir.path()).unwrap();
    assert_eq!((data.file(0), data.file(1), data.pixels(0)), (Some(&*at("test/x.png")), None, None));
    std::fs::remove_dir_all(at("Train")).unwrap();
    assert_eq!(labels(Part::Test).0, [3]);
    assert!(message(Dataset::open_part(at("val/a"), Part::Train)).contains("val/a"));
}

/// A folder with these pictures and labels as arrays, opened.
fn arrays(images: (&str, &[usize], &[f32]), labels: (&str, &[usize], &[f32])) -> Result<Dataset> {
    let dir = tempfile::tempdir().unwrap();
    for (name, shape, values) in [images, labels] {
        super::npy::save(dir.path().join(name), shape, values)?;
    }
    Dataset::open(dir.path())
}

#[test]
fn arrays_of_bytes_and_floats_become_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 2, 3), }";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(1..=12);
    std::fs::write(dir.path().join("x_test.npy"), &bytes).unwrap();
    super::npy::save(dir.path().join("y_test.npy"), &[2, 1], &[4.0, 0.0]).unwrap();
    super::npy::save(dir.path().join("train_images.npy"), &[1, 1, 1], &[1.0]).unwrap();
    super::npy::save(dir.path().join("train_labels.npy"), &[1], &[2.0]).unwrap();
    let test = Dataset::open(dir.path()).unwrap();
    assert_eq!((test.format(), test.labels(), test.is_test()), ("NumPy arrays", &[4, 0][..], true));
    assert_eq!((test.shape(), test.pixels(1)), (Some(Shape::new(1, 2, 3)), Some(&[7, 8, 9, 10, 11, 12][..])));
    assert_eq!((test.pixels(2), test.file(0)), (None, None));
    let train = Dataset::open_part(dir.path(), Part::Train).unwrap();
    assert_eq!((train.labels(), train.is_test(), train.pixels(0)), (&[2][..], false, Some(&[255][..])));
    std::fs::remove_file(dir.path().join("train_images.npy")).unwrap();
    assert!(message(Dataset::open_part(dir.path(), Part::Train)).contains("test pictures only"));
    std::fs::write(dir.path().join("x_test.npy"), &bytes[..bytes.len() - 1]).unwrap();
    assert!(message(Dataset::open(dir.path())).contains("x_test.npy: is truncated"));

    let label = ("train_y.npy", &[1][..], &[1.0][..]);
    let pixels = |values: &[f32]| {
        arrays(("train_x.npy", &[1, 2, 2], values), label).map(|data| data.pixels(0).unwrap().to_vec())
    };
    assert_eq!(pixels(&[0.0, 7.0, 254.0, 255.0]).unwrap(), [0, 7, 254, 255]);
    assert_eq!(pixels(&[0.0, 7.0 / 255.0, 254.0 / 255.0, 1.0]).unwrap(), [0, 7, 254, 255]);
    for bad in [[0.0, 7.5, 1.0, 2.0], [-1.0, 0.0, 1.0, 0.0], [0.0, 0.5, 1.0, f32::NAN], [256.0; 4]] {
        assert!(pixels(&bad).unwrap_err().to_string().contains("save it as uint8"));
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let (x, y) = ("train_images.npy", "train_labels.npy");
    let one: (&str, &[usize], &[f32]) = (y, &[1], &[1.0]);
    for (images, labels, expected) in [
        ((x, &[1, 3, 8, 8][..], &[0.0; 192][..]), one, "transpose(0, 2, 3, 1)"),
        ((x, &[4], &[0.0; 4]), one, "has the shape [4]"),
        ((x, &[0, 4, 4], &[]), one, "no pictures"),
        ((x, &[2, 0, 4], &[]), one, "no pictures"),
        ((x, &[2, 1, 1], &[0.0; 2]), one, "shape [2]"),
        ((x, &[2, 1, 1], &[0.0; 2]), (y, &[2, 2], &[0.0, 1.0, 1.0, 0.0]), "argmax"),
        ((x, &[1, 1, 1], &[0.0]), (y, &[1], &[0.5]), "0.5 is not the number of a class"),
        ((x, &[1, 1, 1], &[0.0]), (y, &[1], &[-1.0]), "-1 is not"),
        ((x, &[1, 1, 1], &[0.0]), (y, &[1], &[f32::NAN]), "NaN is not"),
        ((x, &[1, 1, 1], &[0.0]), ("other.npy", &[1], &[0.0]), "train_labels.npy: there is no such file"),
    ] {
        let error = message(arrays(images, labels));
        assert!(error.contains(expected) && error.contains("train_"), "{error}, not {expected}");
    }
}

mod npy {
    use crate::data::npy::{Array, open, parse, save, to_bytes};

    /// A file of version `version` with this header and these elements.
    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend_from_slice(&[version, 0]);
        if version == 1 {
            bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        } else {
            bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        }
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}          \n")
    }

    #[test]
    fn every_type_and_version_is_read() {
        let cases: [(&str, Vec<u8>, [f32; 2]); 9] = [
            ("<f4", [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect(), [1.5, -2.0]),
            ("<f8", [1.5f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect(), [1.5, -2.0]),
            ("<i8", [7i64, -2].iter().flat_map(|v| v.to_le_bytes()).collect(), [7.0, -2.0]),
            ("<i4", [7i32, -2].iter().flat_map(|v| v.to_le_bytes()).collect(), [7.0, -2.0]),
            ("<i2", [7i16, -2].iter().flat_map(|v| v.to_le_bytes()).collect(), [7.0, -2.0]),
            ("<u2", [7u16, 65535].iter().flat_map(|v| v.to_le_bytes()).collect(), [7.0, 65535.0]),
            ("|i1", vec![7, 0xfe], [7.0, -2.0]),
            ("|u1", vec![7, 0xfe], [7.0, 254.0]),
            ("|b1", vec![1, 0], [1.0, 0.0]),
        ];
        for (descr, data, expected) in cases {
            for version in 1..=3 {
                let array = parse(&file(version, &header(descr, "False", "(2,)"), &data)).unwrap();
                assert_eq!(array, Array { shape: vec![2], values: expected.to_vec() }, "{descr}");
            }
        }
    }

    #[test]
    fn fortran_order_scalars_and_empty_arrays() {
        let array = parse(&file(1, &header("|u1", "True", "(2, 3)"), &[0, 10, 1, 11, 2, 12])).unwrap();
        assert_eq!(array.values, [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        let array = parse(&file(1, &header("|u1", "True", "(2, 1, 2)"), &[0, 10, 1, 11])).unwrap();
        assert_eq!(array.values, [0.0, 1.0, 10.0, 11.0]);
        assert_eq!(parse(&file(1, &header("|u1", "False", "()"), &[9])).unwrap().values, [9.0]);
        assert!(parse(&file(1, &header("|u1", "True", "(0, 5)"), &[])).unwrap().values.is_empty());
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = header("<f4", "False", "(2, 2)");
        for (bytes, expected) in [
            (file(1, &good, &[0; 15]), "truncated: its shape [2, 2] needs 16 bytes, but 15 follow"),
            (file(1, &good, &[0; 17]), "does not match"),
            (file(4, &good, &[0; 16]), "version 4"),
            (file(1, &header("<f4", "False", "(18446744073709551615, 2)"), &[0; 16]), "does not match"),
            (file(1, &header("<f4", "False", "(4611686018427387905,)"), &[0; 4]), "does not match"),
            (file(1, &header(">f4", "False", "(2, 2)"), &[0; 16]), "astype"),
            (file(1, &header("<c8", "False", "(2,)"), &[0; 16]), "astype"),
            (file(1, &header("|O", "False", "(2,)"), &[0; 16]), "pickled"),
            (
                file(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", &[0; 4]),
                "structured",
            ),
            (file(1, "{'descr': '<f4', 'shape': (1,)}", &[0; 4]), "not a NumPy header"),
            (file(1, "{'descr': '<f4", &[0; 4]), "not a NumPy header"),
            (file(1, &header("<f4", "Maybe", "(1,)"), &[0; 4]), "not a NumPy header"),
            (file(1, &header("<f4", "False", "(-1,)"), &[0; 4]), "not a NumPy header"),
            (file(2, &good, &[0; 16])[..11].to_vec(), "truncated"),
            (b"\x93NUMPY".to_vec(), "truncated"),
            (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "truncated"),
            (b"PNG".to_vec(), "no .npy array"),
        ] {
            let error = parse(&bytes).unwrap_err();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        for shape in [vec![], vec![6], vec![2, 3], vec![1, 2, 1, 3], vec![0, 4]] {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = (0..n).map(|v| v as f32 - 1.5).collect();
            assert_eq!((to_bytes(&shape, &values).len() - 4 * n) % 64, 0);
            save(&path, &shape, &values).unwrap();
            assert_eq!(open(&path).unwrap(), Array { shape, values });
        }
        std::fs::write(&path, b"text").unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("x.npy: is no .npy array"));
        assert!(save(dir.path().join("none/x.npy"), &[0], &[]).is_err());
    }
}
