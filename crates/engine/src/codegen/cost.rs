//! How many instructions a program takes, estimated from its text: loops have constant bounds, and of two branches the
//! dearer counts. Weights are those of code that GCC makes at `-O2`, fitted to counts of emulators; on AVR they are cycles.

use super::ir::*;
use super::target::Target;

/// What operations cost on a target.
struct Weights {
    /// An operation on an `int`, and one on 32 bits.
    int: [u64; 2],
    /// An operation on a word.
    word: u64,
    /// A load from a buffer, from a table.
    load: [u64; 2],
    /// A turn of a loop, a branch, a call.
    turn: u64,
    branch: u64,
    call: u64,
    /// A float operation.
    float: u64,
    /// Of mismatches: for each word, for each three words, and once.
    differ: [u64; 3],
}

impl Weights {
    fn of(target: Target) -> Weights {
        let base = Weights {
            int: [1, 1],
            word: 1,
            load: [1, 1],
            turn: 3,
            branch: 2,
            call: 8,
            float: 60,
            differ: [9, 6, 12],
        };
        match target {
            Target::CortexM4 => base,
            Target::CortexM0 => Weights { turn: 4, differ: [13, 7, 16], ..base },
            Target::Rv32imc => Weights { differ: [9, 5, 8], ..base },
            Target::Host => Weights { float: 2, differ: [4, 0, 8], ..base },
            Target::Avr => Weights {
                int: [3, 8],
                word: 1,
                load: [4, 6],
                turn: 6,
                branch: 4,
                call: 20,
                float: 120,
                differ: [20, 0, 30],
            },
        }
    }
}

/// Instructions of each function for one input, without those that it calls.
pub fn instructions(program: &Program, target: Target) -> Vec<u64> {
    let weights = Weights::of(target);
    let one = |f: &Function| (block(&weights, &f.body) + weights.call) * f.times as u64;
    program.functions.iter().map(one).collect()
}

fn block(w: &Weights, stmts: &[Stmt]) -> u64 {
    stmts.iter().map(|s| statement(w, s)).sum()
}

fn statement(w: &Weights, stmt: &Stmt) -> u64 {
    match stmt {
        Stmt::Let(_, e) | Stmt::Set(_, e) => expr(w, e).max(1),
        Stmt::Store(_, index, value) => index_cost(w, index) + expr(w, value) + w.load[0],
        Stmt::For(_, count, body) => *count as u64 * (block(w, body) + w.turn),
        Stmt::If(e, yes, no) => expr(w, e) + w.branch + block(w, yes).max(block(w, no)),
        // Functions that are called are counted by how often they run.
        Stmt::While(e, body) => expr(w, e) + w.branch + block(w, body),
        Stmt::Call(_, args) => args.iter().map(|a| expr(w, a)).sum(),
    }
}

/// Compilers step through memory: an index costs one operation at most.
fn index_cost(w: &Weights, e: &Expr) -> u64 {
    if e.constant().is_some() { 0 } else { w.int[0] }
}

fn expr(w: &Weights, e: &Expr) -> u64 {
    let op = |e: &Expr| match e.ty {
        Ty::Int if e.lo < -0x8000 || e.hi > 0x7FFF => w.int[1],
        Ty::Int => w.int[0],
        Ty::Word => w.word,
        Ty::Float => w.float,
    };
    match &*e.node {
        Node::Int(_) | Node::Float(_) | Node::Var(_) => 0,
        Node::Load(_, index) => w.load[0] + index_cost(w, index),
        Node::Table(_, index) => w.load[1] + index_cost(w, index),
        Node::Binary(_, a, b) => expr(w, a) + expr(w, b) + if a.ty == Ty::Float { w.float } else { op(e) },
        Node::Select(c, a, b) => expr(w, c) + expr(w, a).max(expr(w, b)) + w.branch,
        Node::Convert(a) => expr(w, a) + if e.ty == Ty::Float { w.float } else { 0 },
        Node::Mismatches { words, mask, from, .. } => {
            let words = *words as u64;
            let masked = if mask.is_some() { words * (w.load[0] + w.word) } else { 0 };
            index_cost(w, from) + words * w.differ[0] + words.div_ceil(3) * w.differ[1] + w.differ[2] + masked
        }
    }
}
