//! Drops locals that nothing reads: compilers warn of them. Expressions have no side effects, so nothing else changes.

use super::ir::*;

/// Simplifies every function.
pub fn simplify(program: &mut Program) {
    for function in &mut program.functions {
        loop {
            let mut read = vec![false; function.locals.len()];
            visit(&function.body, &mut |e| {
                if let Node::Var(v) = *e.node {
                    read[v] = true;
                }
            });
            if !drop_unread(&mut function.body, &read) {
                break;
            }
        }
    }
}

fn drop_unread(block: &mut Vec<Stmt>, read: &[bool]) -> bool {
    let before = block.len();
    block.retain(|s| !matches!(s, Stmt::Let(v, _) | Stmt::Set(v, _) if !read[*v]));
    let mut dropped = block.len() < before;
    for stmt in block.iter_mut() {
        dropped |= match stmt {
            Stmt::For(_, _, body) | Stmt::While(_, body) => drop_unread(body, read),
            Stmt::If(_, yes, no) => drop_unread(yes, read) | drop_unread(no, read),
            _ => false,
        };
    }
    let before = block.len();
    block.retain(|s| match s {
        Stmt::For(_, _, body) => !body.is_empty(),
        Stmt::If(_, yes, no) => !yes.is_empty() || !no.is_empty(),
        _ => true,
    });
    dropped || block.len() < before
}

/// Calls `f` for every expression of a block, inner ones too.
pub fn visit(block: &[Stmt], f: &mut impl FnMut(&Expr)) {
    for stmt in block {
        match stmt {
            Stmt::Let(_, e) | Stmt::Set(_, e) => expressions(e, f),
            Stmt::Store(_, index, value) => {
                expressions(index, f);
                expressions(value, f);
            }
            Stmt::For(_, _, body) => visit(body, f),
            Stmt::If(e, yes, no) => {
                expressions(e, f);
                visit(yes, f);
                visit(no, f);
            }
            Stmt::While(e, body) => {
                expressions(e, f);
                visit(body, f);
            }
            Stmt::Call(_, args) => args.iter().for_each(|e| expressions(e, f)),
        }
    }
}

fn expressions(e: &Expr, f: &mut impl FnMut(&Expr)) {
    f(e);
    match &*e.node {
        Node::Int(_) | Node::Float(_) | Node::Var(_) => {}
        Node::Load(_, a) | Node::Table(_, a) | Node::Convert(a) | Node::Mismatches { from: a, .. } => {
            expressions(a, f);
        }
        Node::Binary(_, a, b) => {
            expressions(a, f);
            expressions(b, f);
        }
        Node::Select(a, b, c) => {
            expressions(a, f);
            expressions(b, f);
            expressions(c, f);
        }
    }
}

/// Buffers that a block names, each once, in order.
pub fn buffers(block: &[Stmt]) -> Vec<BufferId> {
    let mut used = Vec::new();
    visit(block, &mut |e| match &*e.node {
        Node::Load(b, _) => used.push(*b),
        Node::Mismatches { buffer, mask, .. } => {
            used.push(*buffer);
            used.extend(mask);
        }
        _ => {}
    });
    stores(block, &mut used);
    used.sort_unstable();
    used.dedup();
    used
}

fn stores(block: &[Stmt], used: &mut Vec<BufferId>) {
    for stmt in block {
        match stmt {
            Stmt::Store(b, _, _) => used.push(*b),
            Stmt::For(_, _, body) | Stmt::While(_, body) => stores(body, used),
            Stmt::If(_, yes, no) => {
                stores(yes, used);
                stores(no, used);
            }
            _ => {}
        }
    }
}
