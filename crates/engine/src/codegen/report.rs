//! The figures of a plan, for people and tools.

use super::cost;
use super::ir::{Node, Program};
use super::plan::{Home, Plan};
use super::simplify::{buffers, visit};
use onebit_core::model::Model;
use serde::Serialize;

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageReport {
    /// Name of the layer.
    pub layer: String,
    /// What it computes; a pool that is computed with it after a plus.
    pub op: String,
    /// Type of its output.
    pub output: String,
    /// Stages with the same number run row by row together.
    pub group: usize,
    /// Rows of the output that are kept at a time.
    pub rows: usize,
    /// Bytes of these rows in the scratch.
    pub bytes: usize,
    /// Where they begin in the scratch; nothing for scores.
    pub offset: Option<usize>,
    /// Bytes of its constants.
    pub table_bytes: usize,
    /// Bytes of its arrays on the stack.
    pub stack_bytes: usize,
    /// Estimated instructions for one input; cycles on AVR.
    pub instructions: u64,
}

/// A plan in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// For what.
    pub target: String,
    /// Bytes of an input.
    pub input_bytes: usize,
    /// Whether the input is one bit for each element.
    pub input_bits: bool,
    /// Number of scores.
    pub outputs: usize,
    /// Bytes of the scratch.
    pub scratch_bytes: usize,
    /// Bytes of all constants.
    pub table_bytes: usize,
    /// Estimated instructions for one input; cycles on AVR.
    pub instructions: u64,
    /// In order.
    pub stages: Vec<StageReport>,
    /// What the user of the code should know.
    pub notes: Vec<String>,
}

impl Report {
    /// The figures of a generated program.
    pub fn new(model: &Model<'_>, plan: &Plan, program: &Program) -> Report {
        let costs = cost::instructions(program, plan.target);
        let mut counted = vec![false; program.tables.len()];
        let mut stages = Vec::new();
        for (i, stage) in plan.stages.iter().enumerate() {
            let function = &program.functions[i];
            let mut table_bytes = 0;
            visit(&function.body, &mut |e| {
                if let Node::Table(t, _) | Node::Mismatches { table: t, .. } = *e.node
                    && !std::mem::replace(&mut counted[t], true)
                {
                    table_bytes += program.tables[t].bytes();
                }
            });
            let nodes = model.nodes();
            let value = &plan.values[stage.output];
            let pool = stage.pool.map(|p| format!(" + {}", nodes[p].op.name())).unwrap_or_default();
            let offset = match value.home {
                Home::Scratch(at) => Some(at),
                _ => None,
            };
            let arrays = buffers(&function.body).into_iter().filter(|b| function.arrays.contains(b));
            stages.push(StageReport {
                layer: nodes[stage.node].name.clone(),
                op: format!("{}{pool}", nodes[stage.node].op.name()),
                output: model.types()[stage.output].to_string(),
                group: plan.segments.iter().position(|s| s.contains(&i)).unwrap_or(0),
                rows: value.rows,
                bytes: offset.map_or(0, |_| value.bytes(value.rows, program.word)),
                offset,
                table_bytes,
                stack_bytes: arrays.map(|b| program.buffers[b].len * program.buffers[b].kind.bytes()).sum(),
                instructions: costs[i],
            });
        }
        Report {
            target: plan.target.to_string(),
            input_bytes: plan.input_bytes(),
            input_bits: plan.input_is_bits(),
            outputs: plan.outputs(),
            scratch_bytes: program.scratch,
            table_bytes: program.table_bytes(),
            instructions: costs.iter().sum(),
            stages,
            notes: plan.notes.clone(),
        }
    }
}
