//! Random changes of training pictures, decided by seed, epoch and picture alone.

use serde::{Deserialize, Serialize};

/// Which changes. All are drawn anew for each picture and epoch; 0 and `false` mean none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Moves by up to this many pixels along each axis; what comes in repeats `fill`.
    pub shift: usize,
    /// Mirrors every second picture left to right.
    pub flip: bool,
    /// Turns by up to this many degrees either way.
    pub rotate: f32,
    /// Grows or shrinks by up to this share.
    pub scale: f32,
    /// Side of a square that is blanked at a random place.
    pub cutout: usize,
}
