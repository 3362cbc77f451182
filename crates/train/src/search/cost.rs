//! What a network costs on a chip, before and after training.

use onebit::core::model::Model;
use onebit::error::Result;
use onebit::stats::stats;
use serde::{Deserialize, Serialize};

/// What one inference takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Constants and code.
    pub flash_bytes: u64,
    /// Working memory, scores and stack.
    pub ram_bytes: u64,
    /// Instructions; on AVR cycles.
    pub instructions: u64,
}

/// Finds out what a network costs.
pub trait Costs: Sync {
    /// The cost of a model.
    ///
    /// # Errors
    /// When no code can be made for it.
    fn cost(&self, model: &Model<'_>) -> Result<Cost>;
}

/// What the user has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Bytes of flash.
    pub flash_bytes: Option<u64>,
    /// Bytes of RAM.
    pub ram_bytes: Option<u64>,
    /// Instructions of an inference.
    pub instructions: Option<u64>,
}

impl Cost {
    /// The three costs in the order in which they are shown: RAM, flash, instructions.
    pub const fn axes(&self) -> [u64; 3] {
        [self.ram_bytes, self.flash_bytes, self.instructions]
    }
}

impl Budget {
    /// As [`Cost::axes`].
    pub const fn axes(&self) -> [Option<u64>; 3] {
        [self.ram_bytes, self.flash_bytes, self.instructions]
    }
    /// The largest share of a budget that is used; above 1 it is exceeded, 0 where there are none.
    pub fn used(&self, cost: &Cost) -> f64 {
        let share = |(cost, budget): (u64, Option<u64>)| budget.map_or(0.0, |b| cost as f64 / b.max(1) as f64);
        cost.axes().into_iter().zip(self.axes()).map(share).fold(0.0, f64::max)
    }
    /// Whether nothing is exceeded.
    pub fn allows(&self, cost: &Cost) -> bool {
        cost.axes().into_iter().zip(self.axes()).all(|(cost, budget)| budget.is_none_or(|b| cost <= b))
    }
}

/// Packed weights, two buffers in turn, and products.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packed;

impl Costs for Packed {
    fn cost(&self, model: &Model<'_>) -> Result<Cost> {
        let size = |v: usize| if v == 0 { 0 } else { model.types()[v].bytes() as u64 };
        let held = |(i, node): (usize, &onebit::core::model::Node<'_>)| {
            node.inputs.iter().map(|v| size(*v)).sum::<u64>() + size(i + 1)
        };
        let ram_bytes = model.nodes().iter().enumerate().map(held).max().unwrap_or(0);
        let stats = stats(model);
        let made: u64 = model.types()[1..].iter().map(|t| t.shape.elements() as u64).sum();
        let (flash_bytes, instructions) = (1000 + stats.weight_bytes, 12 * made + stats.binary_macs / 4);
        Ok(Cost { flash_bytes, ram_bytes: ram_bytes + 200, instructions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        let cost = Cost { flash_bytes: 100, ram_bytes: 50, instructions: 1000 };
        let budget = Budget { flash_bytes: Some(200), ram_bytes: Some(50), instructions: None };
        assert!(budget.allows(&cost) && budget.used(&cost) == 1.0);
        let budget = Budget { instructions: Some(500), ..budget };
        assert!(!budget.allows(&cost) && budget.used(&cost) == 2.0);
        assert!(Budget::default().allows(&cost) && Budget::default().used(&cost) == 0.0);
    }
}
