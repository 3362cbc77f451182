//! Training and validation part of the training pictures.

use super::random::{Purpose, Random};

/// Splits pictures with these labels into training and validation indices, both ascending and together all of them.
///
/// Every class gives its `share` to the validation part, rounded so that the sum over all classes is right; the last
/// training picture of a class is never taken. The same labels, share and seed give the same split.
pub fn split(labels: &[usize], share: f32, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let share = f64::from(share.clamp(0.0, 1.0));
    let mut by_class: Vec<usize> = (0..labels.len()).collect();
    by_class.sort_by_key(|i| labels[*i]);
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    let mut seen = 0;
    for class in by_class.chunk_by_mut(|a, b| labels[*a] == labels[*b]) {
        Random::of(Purpose::Split, &[seed, labels[class[0]] as u64]).shuffle(class);
        seen += class.len();
        let due = (share * seen as f64).round() as usize;
        let (kept, rest) = class.split_at(due.saturating_sub(valid.len()).min(class.len() - 1));
        valid.extend_from_slice(kept);
        train.extend_from_slice(rest);
    }
    train.sort_unstable();
    valid.sort_unstable();
    (train, valid)
}
