//! What a network costs on a chip, before and after training.

use onebit::codegen::ir::{Expr, Node, Program, Stmt};
use onebit::codegen::{Plan, Report, Target, lower};
use onebit::core::model::Model;
use onebit::error::Result;
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
pub trait Costs {
    /// Of which chip, counted how.
    fn name(&self) -> String;
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
        let share =
            |(cost, budget): (u64, Option<u64>)| budget.map_or(0.0, |b| cost as f64 / b.max(1) as f64);
        cost.axes().into_iter().zip(self.axes()).map(share).fold(0.0, f64::max)
    }
    /// Whether nothing is exceeded.
    pub fn allows(&self, cost: &Cost) -> bool {
        cost.axes().into_iter().zip(self.axes()).all(|(cost, budget)| budget.is_none_or(|b| cost <= b))
    }
}

/// The plan of the code that `onebit codegen` writes.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// The chip.
    pub target: Target,
    /// Whether the picture counts as RAM; otherwise it lies with the caller, in a frame buffer or in a file.
    pub with_input: bool,
}

impl Costs for Planned {
    fn name(&self) -> String {
        format!("{}{}", self.target, if self.with_input { ", with the picture" } else { "" })
    }

    fn cost(&self, model: &Model<'_>) -> Result<Cost> {
        let plan = Plan::new(model, self.target)?;
        let program = lower::lower(model, &plan)?;
        let report = Report::new(model, &plan, &program);
        let scores = report.outputs * plan.values[plan.output].layout.kind().bytes();
        let arrays = report.stages.iter().map(|s| s.stack_bytes).max().unwrap_or(0);
        let input = if self.with_input { report.input_bytes } else { 0 };
        Ok(Cost {
            flash_bytes: (report.table_bytes + code_bytes(&program, self.target)) as u64,
            ram_bytes: (report.scratch_bytes + scores + arrays + frames(self.target) + input) as u64,
            instructions: report.instructions,
        })
    }
}

/// Stack for return addresses and saved registers of the functions that are within each other: what compilers take at most
/// for networks of every kind of layer.
const fn frames(target: Target) -> usize {
    match target {
        Target::Avr => 100,
        _ => 180,
    }
}

/// Bytes of the code that compilers make of a program at `-Os`: so many for each operation, found by compiling networks of
/// every kind of layer. Rather too many than too few.
fn code_bytes(program: &Program, target: Target) -> usize {
    let operations: usize = program.functions.iter().map(|f| 8 + block(&f.body)).sum();
    let tenths = match target {
        Target::CortexM4 => 35,
        Target::CortexM0 => 39,
        Target::Rv32imc => 42,
        Target::Avr => 70,
        Target::Host => 50,
    };
    operations * tenths / 10
}

fn block(stmts: &[Stmt]) -> usize {
    stmts.iter().map(statement).sum()
}

fn statement(stmt: &Stmt) -> usize {
    match stmt {
        Stmt::Let(_, e) | Stmt::Set(_, e) => expression(e).max(1),
        Stmt::Store(_, at, value) => 1 + expression(at) + expression(value),
        Stmt::For(_, _, body) => 3 + block(body),
        Stmt::If(e, yes, no) => 1 + expression(e) + block(yes) + block(no),
        Stmt::While(e, body) => 2 + expression(e) + block(body),
        Stmt::Call(_, args) => 1 + args.iter().map(|a| expression(a).max(1)).sum::<usize>(),
    }
}

fn expression(e: &Expr) -> usize {
    match &*e.node {
        Node::Int(_) | Node::Float(_) | Node::Var(_) => 0,
        Node::Load(_, a) | Node::Table(_, a) | Node::Convert(a) => 1 + expression(a),
        Node::Binary(_, a, b) => 1 + expression(a) + expression(b),
        Node::Select(a, b, c) => 2 + expression(a) + expression(b) + expression(c),
        Node::Mismatches { from, mask, .. } => 24 + 4 * usize::from(mask.is_some()) + expression(from),
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
