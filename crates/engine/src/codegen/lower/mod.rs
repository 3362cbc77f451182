//! A [`Plan`] becomes a [`Program`]: one function for each stage that makes one row of its output, and one that runs them.
//!
//! Every shape is a constant in what is written. The stages of a segment take turns in the order that the plan simulated.

mod access;
mod binary;
mod moves;
mod numbers;
mod pointwise;
mod pool;
mod pooled;
mod sliced;
mod transform;

use super::build::Body;
use super::ir::*;
use super::plan::{Home, Plan, Stage};
use super::simplify::simplify;
use crate::error::{Error, Result};
use access::{Rows, Sink};
use binary::Binary;
use onebit_core::model::{Model, Node as Layer};
use onebit_core::ops::Op;
use sliced::Sliced;
use std::ops::Range;

/// Generates the program of a plan.
///
/// # Errors
/// Names the layer that cannot be generated, and why.
pub fn lower(model: &Model<'_>, plan: &Plan) -> Result<Program> {
    let mut program =
        Program { word: plan.target.word(), scratch: plan.scratch.max(4), ..Program::default() };
    let mut buffers = vec![None; plan.values.len()];
    for (v, value) in plan.values.iter().enumerate() {
        let kind = value.layout.kind();
        let bytes = value.bytes(value.rows, program.word);
        let name = plan.stages.iter().find(|s| s.output == v).map_or("value", |s| s.name.as_str());
        buffers[v] = match value.home {
            Home::None => None,
            Home::Input => {
                Some(program.buffer("input", Place::Input, kind, plan.input_bytes() / kind.bytes()))
            }
            Home::Scores => Some(program.buffer("scores", Place::Scores, kind, value.shape.elements())),
            Home::Scratch(at) => Some(program.buffer(name, Place::Scratch(at), kind, bytes / kind.bytes())),
        };
    }
    let mut lowering = Lowering { model, plan, program, buffers };
    let mut functions = Vec::new();
    for stage in &plan.stages {
        functions.push(lowering.stage(stage)?);
    }
    lowering.run(&functions);
    simplify(&mut lowering.program);
    Ok(lowering.program)
}

struct Lowering<'m> {
    model: &'m Model<'m>,
    plan: &'m Plan,
    program: Program,
    buffers: Vec<Option<BufferId>>,
}

/// What a stage's function sees.
struct Scope<'s> {
    layer: &'s Layer<'s>,
    inputs: Vec<Rows>,
    sink: Sink,
    /// The row of the output.
    row: Expr,
}

impl<'m> Lowering<'m> {
    /// The function that makes one row of a stage's output.
    fn stage(&mut self, stage: &Stage) -> Result<FunctionId> {
        let (model, plan) = (self.model, self.plan);
        let layer = &model.nodes()[stage.node];
        let out = &plan.values[stage.output];
        let at = |message: String| Error::layer(&layer.name, message);
        let types = |v: usize| model.types()[v];
        let about = format!(
            "'{}' ({}{}): a row of {} from {}",
            layer.name,
            layer.op.name(),
            if stage.pool.is_some() { ", pooled" } else { "" },
            types(stage.output),
            stage.inputs.iter().map(|v| types(*v).to_string()).collect::<Vec<_>>().join(" and "),
        );
        let mut b = Body::new(&mut self.program, &stage.name, about, out.shape.h);
        let row = if out.shape.h > 1 { b.param("row", 0, out.shape.h as i64 - 1) } else { Expr::int(0) };
        let mut inputs = Vec::new();
        for (v, needs) in stage.inputs.iter().zip(&stage.needs) {
            let value = &plan.values[*v];
            let buffer = self.buffers[*v].ok_or_else(|| at("reads a value that is not kept".into()))?;
            let slot = value.is_ring().then(|| b.param("from", 0, value.rows as i64 - 1));
            inputs.push(Rows::new(buffer, value, *needs, row.clone(), slot));
        }
        let slot = if out.is_ring() { b.param("to", 0, out.rows as i64 - 1) } else { row.clone() };
        let buffer = self.buffers[stage.output].ok_or_else(|| at("has no place for its output".into()))?;
        let sink = Sink::new(buffer, out, slot);
        let scope = Scope { layer, inputs, sink, row };
        let pool = stage.pool.map(|i| &model.nodes()[i]);
        match &layer.op {
            Op::BConv2d(_) | Op::BDense(_) => {
                let input = types(stage.inputs[0]).shape;
                if let Some(sliced) = Sliced::new(&scope, pool, input, plan.target.word()) {
                    sliced.lower(&mut b, &scope)
                } else if let Some(binary) = Binary::new(&scope, pool, input) {
                    binary.lower(&mut b, &scope)
                } else {
                    numbers::lower(&mut b, &scope, pool, input)
                }
            }
            Op::BPool2d(_) | Op::Pool2d(_) => pool::lower(&mut b, &scope),
            Op::Reshape(_) | Op::Slice(_) | Op::Pad(_) | Op::Concat => moves::lower(&mut b, &scope),
            _ => pointwise::lower(&mut b, &scope),
        }
        .map_err(at)?;
        Ok(b.finish())
    }

    /// The entry: every segment after the other.
    fn run(&mut self, functions: &[FunctionId]) {
        let plan = self.plan;
        let mut b = Body::new(&mut self.program, "run", "all stages".into(), 1);
        for segment in &plan.segments {
            if segment.len() == 1 {
                let stage = segment.start;
                b.repeat("row", plan.values[plan.stages[stage].output].shape.h, |b, row| {
                    let args =
                        if plan.values[plan.stages[stage].output].shape.h > 1 { vec![row] } else { vec![] };
                    b.call(functions[stage], args);
                });
            } else {
                Together { plan, functions, segment: segment.clone() }.lower(&mut b);
            }
        }
        b.finish();
    }
}

/// Stages that run row by row together.
struct Together<'p> {
    plan: &'p Plan,
    functions: &'p [FunctionId],
    segment: Range<usize>,
}

/// Counters of a stage in a segment.
struct Counters {
    /// Rows made.
    made: Expr,
    /// For each input in a ring: the slot of the first row that the next row reads.
    from: Vec<Option<Expr>>,
    /// Slot of the next row.
    to: Option<Expr>,
}

impl Together<'_> {
    fn lower(&self, b: &mut Body<'_>) {
        let (plan, start) = (self.plan, self.segment.start);
        let height = |k: usize| plan.values[plan.stages[k].output].shape.h;
        let mut counters: Vec<Counters> = Vec::new();
        for k in self.segment.clone() {
            let stage = &plan.stages[k];
            let name = |what: &str| format!("{}_{what}", stage.name);
            let made = if k == start {
                Expr::int(0)
            } else {
                b.counter(&name("made"), Expr::int(0), 0, height(k) as i64)
            };
            let mut from = Vec::new();
            for (v, needs) in stage.inputs.iter().zip(&stage.needs) {
                let value = &plan.values[*v];
                let first = needs.first.rem_euclid(value.rows as i64);
                from.push(
                    value
                        .is_ring()
                        .then(|| b.counter(&name("from"), Expr::int(first), 0, value.rows as i64 - 1)),
                );
            }
            let out = &plan.values[stage.output];
            let to = out.is_ring().then(|| b.counter(&name("to"), Expr::int(0), 0, out.rows as i64 - 1));
            counters.push(Counters { made, from, to });
        }
        b.repeat("row", height(start), |b, row| {
            // The first stage counts with the loop: it has made one more row than its index.
            counters[0].made = row.clone();
            self.one(b, start, &counters[0]);
            for k in start + 1..self.segment.end {
                let ready = self.ready(k, &counters, &row);
                let this = &counters[k - start];
                b.while_(ready, |b| {
                    self.one(b, k, this);
                    b.set(&this.made, this.made.clone() + Expr::int(1));
                });
            }
        });
    }

    /// Whether stage `k` can make its next row.
    fn ready(&self, k: usize, counters: &[Counters], row: &Expr) -> Expr {
        let (plan, start) = (self.plan, self.segment.start);
        let stage = &plan.stages[k];
        let rows = plan.values[stage.output].shape.h;
        let made = &counters[k - start].made;
        let mut ready = Expr::int(1);
        let mut ends = true;
        for (v, needs) in stage.inputs.iter().zip(&stage.needs) {
            let Some(p) = self.segment.clone().find(|p| plan.stages[*p].output == *v) else { continue };
            let h = plan.values[*v].shape.h as i64;
            let there =
                if p == start { row.clone() + Expr::int(1) } else { counters[p - start].made.clone() };
            let end = |o: usize| needs.first + (o * needs.stride + needs.extent) as i64;
            let needed = made.clone() * Expr::int(needs.stride) + Expr::int(end(0));
            let enough = there.clone().ge(needed);
            // Rows whose window reaches below the map wait for the last row only.
            let below = end(rows - 1) > h;
            ready = ready & if below { enough | there.equals(Expr::int(h)) } else { enough };
            ends &= below || end(rows) <= h;
        }
        // Without a row that is never there, the last must be counted.
        if ends { made.clone().lt(Expr::int(rows)) & ready } else { ready }
    }

    /// Makes a row and moves the slots.
    fn one(&self, b: &mut Body<'_>, k: usize, counters: &Counters) {
        let plan = self.plan;
        let stage = &plan.stages[k];
        let mut args = Vec::new();
        if plan.values[stage.output].shape.h > 1 {
            args.push(counters.made.clone());
        }
        args.extend(counters.from.iter().flatten().cloned());
        args.extend(counters.to.clone());
        b.call(self.functions[k], args);
        let moves = stage.inputs.iter().zip(&stage.needs).zip(&counters.from);
        for ((v, needs), from) in moves {
            if let Some(from) = from {
                step(b, from, needs.stride, plan.values[*v].rows);
            }
        }
        if let Some(to) = &counters.to {
            step(b, to, 1, plan.values[stage.output].rows);
        }
    }
}

/// Moves a slot on by `steps`, in a ring of `rows`.
fn step(b: &mut Body<'_>, slot: &Expr, steps: usize, rows: usize) {
    let steps = steps % rows;
    if steps == 0 {
        return;
    }
    let next = slot.clone() + Expr::int(steps);
    let wrapped = next.clone().ge(Expr::int(rows)).select(next.clone() - Expr::int(rows), next);
    b.set(slot, wrapped.within(0, rows as i64 - 1));
}
