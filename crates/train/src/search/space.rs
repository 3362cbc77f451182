//! The networks among which is searched: stacks of binary blocks, and the recipe of each.

use super::point::{Block, Input, Point, Scores};
use crate::data::Random;
use crate::recipe::{Optimizer, Train};
use onebit::core::types::Shape;
use onebit::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What may be chosen; a list that is left out of the TOML file is that of [`Space::default`]. Numbers are in rising order
/// or not, but a step to a similar network goes to the next of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Space {
    /// Rows, columns and channels of the pictures; those of the data if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<Shape>,
    /// What the first block reads.
    pub input: Vec<Input>,
    /// Number of blocks.
    pub depth: Vec<usize>,
    /// Filters of a block.
    pub filters: Vec<usize>,
    /// Rows and columns of its kernels.
    pub kernel: Vec<usize>,
    /// Step between windows of its first convolution.
    pub stride: Vec<usize>,
    /// Whether its first convolution keeps the size of the map.
    pub pad: Vec<bool>,
    /// Rows and columns of the max-pool behind it, which is its step too; 1 is none.
    pub pool: Vec<usize>,
    /// Whether it has a second convolution to which the sums of the first are added.
    pub residual: Vec<bool>,
    /// Units of a dense layer before the last; 0 is none.
    pub hidden: Vec<usize>,
    /// What follows the sums of the last layer.
    pub scores: Vec<Scores>,
    /// How networks are trained; `epochs`, `seed` and `score_factor` are the search's.
    pub train: Train,
}

impl Default for Space {
    fn default() -> Self {
        let train = Train {
            batch: 128,
            optimizer: Optimizer::Adam { rate: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.0 },
            augment: crate::data::Augment { shift: 2, ..Default::default() },
            ..Train::default()
        };
        Space {
            picture: None,
            input: vec![Input::Bits, Input::Bytes],
            depth: vec![1, 2, 3, 4],
            filters: vec![8, 16, 24, 32, 48, 64],
            kernel: vec![3, 5],
            stride: vec![1, 2],
            pad: vec![false, true],
            pool: vec![1, 2],
            residual: vec![false, true],
            hidden: vec![0, 32, 64, 128],
            scores: vec![Scores::Sums],
            train,
        }
    }
}

/// Blocks of a network at most.
const DEEPEST: usize = 16;

impl Space {
    /// Reads TOML.
    ///
    /// # Errors
    /// Names the line or the key that does not fit.
    pub fn parse(text: &str) -> Result<Self> {
        let space: Space = toml::from_str(text)
            .map_err(|e| Error::Input(format!("the space does not fit: {}", e.to_string().trim())))?;
        space.check()?;
        Ok(space)
    }

    /// The space as TOML.
    ///
    /// # Errors
    /// When a number cannot be written.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Input(format!("the space cannot be written: {e}")))
    }

    /// Whether something can be chosen everywhere.
    ///
    /// # Errors
    /// Names the list that is empty or has a number that makes no sense.
    pub fn check(&self) -> Result<()> {
        let numbers = |list: &[usize], least: usize, most: usize| {
            !list.is_empty() && list.iter().all(|n| (least..=most).contains(n))
        };
        let checks = [
            (!self.input.is_empty(), "input must name bits or bytes".to_owned()),
            (numbers(&self.depth, 0, DEEPEST), format!("depth must be numbers of blocks up to {DEEPEST}")),
            (numbers(&self.filters, 1, 4096), "filters must be numbers from 1 to 4096".into()),
            (numbers(&self.kernel, 1, 31), "kernel must be sizes from 1 to 31".into()),
            (numbers(&self.stride, 1, 31), "stride must be steps from 1 to 31".into()),
            (!self.pad.is_empty(), "pad must name false or true".into()),
            (numbers(&self.pool, 1, 31), "pool must be sizes from 1, which is none, to 31".into()),
            (!self.residual.is_empty(), "residual must name false or true".into()),
            (numbers(&self.hidden, 0, 1 << 16), "hidden must be numbers of units up to 65536".into()),
            (!self.scores.is_empty(), "scores must name sums or norm".into()),
            (
                self.train.validation > 0.0 && self.train.validation < 1.0,
                "train.validation must be above 0 and below 1: validation pictures choose among the networks"
                    .into(),
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, text)) => Err(Error::Input(format!("the space does not fit: {text}"))),
            None => Ok(()),
        }
    }

    /// A network, each choice as likely as any other of its list.
    pub(crate) fn sample(&self, random: &mut Random) -> Point {
        let blocks = (0..pick(&self.depth, random)).map(|_| self.block(random)).collect();
        Point {
            input: pick(&self.input, random),
            blocks,
            hidden: pick(&self.hidden, random),
            scores: pick(&self.scores, random),
        }
    }

    fn block(&self, random: &mut Random) -> Block {
        Block {
            filters: pick(&self.filters, random),
            kernel: pick(&self.kernel, random),
            stride: pick(&self.stride, random),
            pad: pick(&self.pad, random),
            pool: pick(&self.pool, random),
            residual: pick(&self.residual, random),
        }
    }

    /// A network that differs in one choice: the next or the one before of a list, or one block more or less.
    pub(crate) fn neighbour(&self, from: &Point, random: &mut Random) -> Point {
        let mut point = from.clone();
        // Blocks have six choices each, so most steps are within them.
        match random.below(3 + 6 * point.blocks.len()) {
            0 if random.below(2) == 0 => point.input = step(&self.input, point.input, random),
            0 => point.scores = step(&self.scores, point.scores, random),
            1 => point.hidden = step(&self.hidden, point.hidden, random),
            2 => {
                let depth = step(&self.depth, point.blocks.len(), random);
                while point.blocks.len() > depth {
                    point.blocks.remove(random.below(point.blocks.len()));
                }
                while point.blocks.len() < depth {
                    let block = self.block(random);
                    point.blocks.insert(random.below(point.blocks.len() + 1), block);
                }
            }
            choice => {
                let block = &mut point.blocks[(choice - 3) / 6];
                match (choice - 3) % 6 {
                    0 => block.filters = step(&self.filters, block.filters, random),
                    1 => block.kernel = step(&self.kernel, block.kernel, random),
                    2 => block.stride = step(&self.stride, block.stride, random),
                    3 => block.pad = step(&self.pad, block.pad, random),
                    4 => block.pool = step(&self.pool, block.pool, random),
                    _ => block.residual = step(&self.residual, block.residual, random),
                }
            }
        }
        point
    }
}

fn pick<T: Copy>(list: &[T], random: &mut Random) -> T {
    list[random.below(list.len())]
}

/// The one before or after in the list; the only one has none.
fn step<T: Copy + PartialEq>(list: &[T], now: T, random: &mut Random) -> T {
    let up = random.below(2) == 1;
    let Some(i) = list.iter().position(|x| *x == now) else { return list[0] };
    match (i, up) {
        (0, _) => list[1.min(list.len() - 1)],
        (i, true) if i + 1 < list.len() => list[i + 1],
        (i, _) => list[i - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Purpose;

    #[test]
    fn spaces_are_toml() {
        let space = Space::parse("depth = [2]\nfilters = [4, 8]\n[train]\nbatch = 16\n").unwrap();
        assert_eq!(
            (space.depth.clone(), space.filters.clone(), space.train.batch),
            (vec![2], vec![4, 8], 16)
        );
        assert_eq!(space.kernel, Space::default().kernel);
        assert_eq!(Space::parse(&space.to_toml().unwrap()).unwrap(), space);
        for (text, part) in [
            ("filter = [1]", "filter"),
            ("filters = []", "filters"),
            ("kernel = [0]", "kernel"),
            ("depth = [1000]", "depth"),
            ("input = [\"floats\"]", "floats"),
            ("[train]\nvalidation = 0.0", "validation"),
        ] {
            let error = Space::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn neighbours_differ_in_one_choice_and_stay_in_the_space() {
        let space = Space::default();
        let mut random = Random::of(Purpose::Search, &[1]);
        let mut point = space.sample(&mut random);
        let mut same = 0;
        for _ in 0..2000 {
            let next = space.neighbour(&point, &mut random);
            assert!(space.depth.contains(&next.blocks.len()) && space.hidden.contains(&next.hidden));
            for b in &next.blocks {
                assert!(space.filters.contains(&b.filters) && space.kernel.contains(&b.kernel));
            }
            if next.blocks.len() == point.blocks.len() {
                let changed = next.blocks.iter().zip(&point.blocks).filter(|(a, b)| a != b).count();
                let others =
                    [next.input != point.input, next.hidden != point.hidden, next.scores != point.scores];
                assert!(changed + others.iter().filter(|c| **c).count() <= 1);
            } else {
                assert_eq!(next.blocks.len().abs_diff(point.blocks.len()), 1);
            }
            same += usize::from(next == point);
            point = next;
        }
        // Only the list with a single entry has no other.
        assert!(same < 100, "{same}");
    }
}
