//! How much may be computed from the constants of a file: a few bytes can ask for gigabytes, many times.

/// Elements of evaluated constants, counted while a graph is walked through.
#[derive(Default)]
pub(super) struct Budget {
    kept: usize,
    made: usize,
}

impl Budget {
    /// Elements that the next result may have if the file and its files of weights have so many bytes. A byte holds at
    /// most two elements, and no exporter needs thirty passes over its weights.
    pub(super) fn room(&self, bytes: usize) -> usize {
        let most = bytes.saturating_mul(2).saturating_add(1 << 22);
        most.saturating_sub(self.kept).min(most.saturating_mul(32).saturating_sub(self.made))
    }
    /// Counts elements that were made.
    pub(super) fn make(&mut self, elements: usize) {
        self.made = self.made.saturating_add(elements);
    }
    /// Counts elements that are kept.
    pub(super) fn keep(&mut self, elements: usize) {
        self.kept = self.kept.saturating_add(elements);
    }
    /// Counts elements that are freed.
    pub(super) fn free(&mut self, elements: usize) {
        self.kept = self.kept.saturating_sub(elements);
    }
}
