//! The files of a BNN-PYNQ folder: `LAYER-ELEMENT-weights.bin` and `LAYER-ELEMENT-thres.bin`.
//!
//! ```text
//! weights: u64 words, word f * (cols / simd) + s of element p holds inputs s * simd .. (s + 1) * simd of
//!          neuron f * elements + p, from the lowest bit; each input takes one bit (+-1) or two (signed)
//! thres:   i64, the thresholds of neuron f * elements + p
//! ```
//! How many inputs a word holds follows from the size of the file, how many bits an input takes from the
//! highest bit that is set.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Numbers of the files in a folder: for each layer, the highest processing element.
pub fn layers(folder: &Path) -> Result<Vec<usize>> {
    let mut highest: BTreeMap<usize, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if let Some((layer, element)) = numbers(&entry.file_name().to_string_lossy()) {
            let e = highest.entry(layer).or_default();
            *e = element.max(*e);
        }
    }
    for (i, layer) in highest.keys().enumerate() {
        if i != *layer {
            return Err(Error::file(folder.join(file(i, 0, "weights")), "is missing"));
        }
    }
    Ok(highest.into_values().collect())
}

fn file(layer: usize, element: usize, what: &str) -> String {
    format!("{layer}-{element}-{what}.bin")
}

/// Layer and element of a file name; small numbers only, so that they can be counted up to.
fn numbers(name: &str) -> Option<(usize, usize)> {
    let (layer, rest) =
        name.strip_suffix("-weights.bin").or(name.strip_suffix("-thres.bin"))?.split_once('-')?;
    let number = |t: &str| t.parse::<usize>().ok().filter(|n| *n < 4096 && *t == n.to_string());
    Some((number(layer)?, number(rest)?))
}

/// The parameters of a layer.
pub struct LayerFiles {
    /// Weights, `[neuron][input]`.
    pub weights: Vec<i8>,
    /// Bits of a weight, 1 or 2.
    pub weight_bits: usize,
    /// Thresholds, `[neuron][level]`; empty if the layer has none.
    pub thresholds: Vec<i64>,
}

/// Reads layer `layer` with `elements` processing elements and a `rows` x `cols` matrix.
///
/// # Errors
/// Names the file that is missing or has a wrong size.
pub fn read(
    folder: &Path,
    layer: usize,
    elements: usize,
    rows: usize,
    cols: usize,
    with_thresholds: bool,
) -> Result<LayerFiles> {
    let mut words = Vec::new();
    let mut thresholds = Vec::new();
    for element in 0..elements {
        words.push(read_words(folder.join(file(layer, element, "weights")), rows * cols)?);
        if with_thresholds {
            thresholds.push(read_words(folder.join(file(layer, element, "thres")), rows * 4)?);
        }
    }
    if !rows.is_multiple_of(elements) {
        let text = format!(
            "would be the last of {elements} files for layer {layer}, but they cannot share {rows} neurons: \
             are some missing?"
        );
        return Err(Error::file(folder.join(file(layer, elements - 1, "weights")), text));
    }
    let (count, per_element) = (words[0].1.len(), rows * cols / elements);
    same_size(&words, "weights")?;
    let simd = per_element.checked_div(count).unwrap_or(0);
    if simd == 0 || simd > 64 || count * simd != per_element || !cols.is_multiple_of(simd) {
        let text = format!(
            "holds {count} words, which do not make {per_element} weights ({rows} neurons of {cols} inputs on \
             {elements} processing elements)"
        );
        return Err(Error::file(&words[0].0, text));
    }
    let used = words.iter().flat_map(|(_, w)| w).fold(0, |a, w| a | w);
    let highest = 64 - used.leading_zeros() as usize;
    let weight_bits = if highest <= simd { 1 } else { 2 };
    if highest > simd * weight_bits {
        let text = format!("has weights of more than two bits ({simd} inputs, {highest} bits in a word)");
        return Err(Error::file(&words[0].0, text));
    }
    let mut weights = vec![0i8; rows * cols];
    for (row, weights) in weights.chunks_exact_mut(cols).enumerate() {
        let words = &words[row % elements].1[row / elements * (cols / simd)..];
        for (col, weight) in weights.iter_mut().enumerate() {
            let code = words[col / simd] >> (col % simd * weight_bits);
            *weight = match weight_bits {
                1 => 2 * (code & 1) as i8 - 1,
                _ => ((code & 3) as i8) << 6 >> 6,
            };
        }
    }
    Ok(LayerFiles { weights, weight_bits, thresholds: interleaved(&thresholds, rows / elements)? })
}

/// A file and its words.
type Words = (PathBuf, Vec<u64>);

fn same_size(files: &[Words], what: &str) -> Result<()> {
    let n = files[0].1.len();
    match files.iter().find(|(_, w)| w.len() != n) {
        None => Ok(()),
        Some((path, w)) => {
            let text = format!("holds {} words of {what}, but {} holds {n}", w.len(), files[0].0.display());
            Err(Error::file(path, text))
        }
    }
}

/// Thresholds of all neurons in order; `share` is the number of neurons of one element.
fn interleaved(files: &[Words], share: usize) -> Result<Vec<i64>> {
    let Some((path, first)) = files.first() else {
        return Ok(Vec::new());
    };
    same_size(files, "thresholds")?;
    let levels = first.len() / share;
    if first.len() != levels * share || !(1..=2).contains(&levels) {
        let text = format!(
            "holds {} thresholds, but one or two for each of {share} neurons are needed",
            first.len()
        );
        return Err(Error::file(path, text));
    }
    let neurons =
        (0..share * files.len()).map(|n| &files[n % files.len()].1[n / files.len() * levels..][..levels]);
    Ok(neurons.flatten().map(|t| *t as i64).collect())
}

/// Words of a file of no more than `most` words.
fn read_words(path: PathBuf, most: usize) -> Result<Words> {
    let size = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
    if size == 0 || !size.is_multiple_of(8) || size > most as u64 * 8 {
        let text = format!("has {size} bytes: at most {most} words of 8 bytes were expected");
        return Err(Error::file(path, text));
    }
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    let words = bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
    Ok((path, words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        assert_eq!(numbers("3-12-weights.bin"), Some((3, 12)));
        assert_eq!(numbers("0-0-thres.bin"), Some((0, 0)));
        for name in
            ["a-1-weights.bin", "1-weights.bin", "1-2-3-thres.bin", "01-0-thres.bin", "1-9999-thres.bin"]
        {
            assert_eq!(numbers(name), None, "{name}");
        }
    }

    fn write(folder: &Path, name: &str, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    #[test]
    fn neurons_are_dealt_to_elements_and_inputs_to_words() {
        let dir = tempfile::tempdir().unwrap();
        // 4 neurons of 4 inputs, two elements, two inputs a word, two bits an input.
        write(dir.path(), "0-0-weights.bin", &[0b01_11, 0b00_00, 0b10_01, 0b00_01]);
        write(dir.path(), "0-1-weights.bin", &[0b00_01, 0b11_11, 0b01_01, 0b01_00]);
        write(dir.path(), "0-0-thres.bin", &[5, 6, -7i64 as u64, 8]);
        write(dir.path(), "0-1-thres.bin", &[1, 2, 3, 4]);
        let files = read(dir.path(), 0, 2, 4, 4, true).unwrap();
        assert_eq!(files.weight_bits, 2);
        assert_eq!(files.weights, [-1, 1, 0, 0, 1, 0, -1, -1, 1, -2, 1, 0, 1, 1, 0, 1]);
        assert_eq!(files.thresholds, [5, 6, 1, 2, -7, 8, 3, 4]);
    }

    #[test]
    fn missing_and_wrong_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "0-0-weights.bin", &[1, 2, 3, 0]);
        write(dir.path(), "0-1-weights.bin", &[1, 2, 3, 0]);
        write(dir.path(), "0-0-thres.bin", &[1, 2]);
        let error = || read(dir.path(), 0, 2, 4, 4, true).err().unwrap().to_string();
        assert!(error().contains("0-1-thres.bin"));
        write(dir.path(), "0-1-thres.bin", &[1, 2, 3]);
        assert!(error().contains("0-1-thres.bin: holds 3 words"));
        write(dir.path(), "0-1-thres.bin", &[1, 2]);
        write(dir.path(), "0-1-weights.bin", &[1, 2, 3]);
        assert!(error().contains("0-1-weights.bin: holds 3 words"));
        write(dir.path(), "0-1-weights.bin", &[1, 2, 3, 16]);
        assert!(error().contains("more than two bits"));
        std::fs::write(dir.path().join("0-1-weights.bin"), [0; 9]).unwrap();
        assert!(error().contains("9 bytes"));
        assert!(read(dir.path(), 0, 2, 5, 4, false).is_err());
        write(dir.path(), "2-0-weights.bin", &[1]);
        assert!(layers(dir.path()).unwrap_err().to_string().contains("1-0-weights.bin"));
    }
}
