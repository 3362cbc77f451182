//! Pictures that tests train on.

use std::path::Path;

/// Pictures of `classes` noisy patterns as MNIST-layout files.
pub fn write_data(folder: &Path, size: usize, classes: usize, train: usize, test: usize) {
    let mut state = 88172645463325252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize
    };
    for (part, n) in [("train", train), ("t10k", test)] {
        let mut images = vec![0, 0, 8, 3];
        for d in [n, size, size] {
            images.extend((d as u32).to_be_bytes());
        }
        let mut labels = vec![0, 0, 8, 1];
        labels.extend((n as u32).to_be_bytes());
        for _ in 0..n {
            let class = random() % classes;
            labels.push(class as u8);
            for p in 0..size * size {
                let on = (p / size * (class + 1) + p % size * (classes - class)) / size % 2 == 1;
                let noise = random() % 100;
                images.push(if on { 255 - noise } else { noise } as u8);
            }
        }
        std::fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}
