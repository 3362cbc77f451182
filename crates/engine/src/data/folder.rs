//! Folders of PNG and JPEG files: one subfolder per class, or a list of labels; training and test part in two of them.

use super::{Dataset, Part, Pictures, entries, file_name, read};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Name of a list of labels.
pub const LABELS: &str = "labels.csv";
/// Larger class numbers are typing errors.
pub const MAX_CLASS: usize = 1 << 20;

/// The pictures of one of two subfolders, `train` and `test` (or `val` and the like, where there is no `test`); `None` when
/// they hold pictures themselves, which makes them classes, or nothing that is known.
pub fn parts(path: &Path, part: Part) -> Result<Option<Dataset>> {
    let folders = entries(path)?;
    let test = ["test", "testing", "val", "valid", "validation"].map(|name| (name, true));
    let train = ["train", "training"].map(|name| (name, false));
    let wanted = test.into_iter().filter(|_| part == Part::Test).chain(train);
    for (name, is_test) in wanted {
        let named = folders.iter().find(|f| f.is_dir() && file_name(f).eq_ignore_ascii_case(name));
        let Some(folder) = named else { continue };
        let list = folder.join(LABELS);
        let data = if list.is_file() { Some(labelled(&list)?) } else { classes(folder)? };
        if let Some(data) = data {
            return Ok(Some(data.of_test_part(is_test)));
        }
    }
    Ok(None)
}

/// The pictures of a folder whose subfolders, sorted by name, are the classes; `None` when there are no
/// pictures in subfolders. Classes take turns, so that the first few pictures are of as many as possible.
pub fn classes(path: &Path) -> Result<Option<Dataset>> {
    let folders: Vec<PathBuf> = entries(path)?.into_iter().filter(|p| p.is_dir()).collect();
    let mut pictures = Vec::new();
    for (class, folder) in folders.iter().enumerate() {
        let files = entries(folder)?.into_iter().filter(|p| is_picture(p));
        pictures.extend(files.enumerate().map(|(i, file)| (i, class, file)));
    }
    if pictures.is_empty() {
        return Ok(None);
    }
    pictures.sort_unstable();
    let (labels, files) = pictures.into_iter().map(|(_, class, file)| (class, file)).unzip();
    let class_names = folders.iter().map(|f| file_name(f)).collect();
    let pictures = Pictures::Files(files);
    Ok(Some(Dataset { format: "image folder", pictures, labels, class_names, is_test: false }))
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg")
}

/// The pictures that a list names: one `class,file` per line, files relative to the list, classes all numbers or
/// all names. The header `class,file` may be there.
pub fn labelled(list: &Path) -> Result<Dataset> {
    let text = String::from_utf8(read(list)?).map_err(|_| Error::file(list, "is not UTF-8 text"))?;
    let folder = list.parent().unwrap_or(Path::new(""));
    let mut files: Vec<PathBuf> = Vec::new();
    let mut classes: Vec<&str> = Vec::new();
    for (i, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || (i == 0 && line.replace(' ', "") == "class,file") {
            continue;
        }
        let Some((class, file)) = line.split_once(',').filter(|(c, f)| !c.is_empty() && !f.is_empty()) else {
            return Err(Error::file(list, format!("line {} is not `class,file`", i + 1)));
        };
        classes.push(class.trim());
        files.push(folder.join(file.trim()));
    }
    let numbers: Option<Vec<usize>> = classes.iter().map(|c| c.parse().ok()).collect();
    let (labels, class_names) = match numbers {
        Some(numbers) => (numbers, Vec::new()),
        None => {
            let mut names = classes.clone();
            names.sort_unstable();
            names.dedup();
            let labels = classes.iter().map(|c| names.binary_search(c).unwrap_or_default()).collect();
            (labels, names.into_iter().map(str::to_owned).collect())
        }
    };
    if let Some(line) = labels.iter().position(|l| *l > MAX_CLASS) {
        return Err(Error::file(list, format!("class {} is larger than {MAX_CLASS}", labels[line])));
    }
    let pictures = Pictures::Files(files);
    Ok(Dataset { format: "labels.csv", pictures, labels, class_names, is_test: false })
}
