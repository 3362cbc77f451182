//! Offsets in the scratch: values that live at the same time do not overlap. Largest first, each in the tightest gap; a few
//! orders are tried.

use super::rows::lifetimes;
use super::{Home, Stage, Value};
use crate::codegen::target::Target;
use std::ops::Range;

/// Gives every value that needs one its place and returns the bytes of all.
pub fn place(stages: &[Stage], segments: &[Range<usize>], values: &mut [Value], target: Target) -> usize {
    let lives = lifetimes(stages, segments, values.len());
    let mut blocks: Vec<Block> = Vec::new();
    for (v, life) in lives.iter().enumerate() {
        if let (Some((from, to)), Home::Scratch(_)) = (life, values[v].home) {
            let (align, bytes) = align(&values[v], target);
            blocks.push(Block { value: v, from: *from, to: *to, bytes, align });
        }
    }
    type Key = fn(&Block) -> (usize, usize);
    let orders: [Key; 4] = [
        |b| (usize::MAX - b.bytes, b.from),
        |b| (usize::MAX - b.bytes * (b.to - b.from + 1), b.from),
        |b| (b.from, usize::MAX - b.bytes),
        |b| (usize::MAX - b.to, usize::MAX - b.bytes),
    ];
    let mut best: Option<(usize, Vec<(usize, usize)>)> = None;
    for order in orders {
        blocks.sort_by_key(order);
        let placed = fit(&blocks);
        if best.as_ref().is_none_or(|(bytes, _)| placed.0 < *bytes) {
            best = Some(placed);
        }
    }
    let (bytes, offsets) = best.unwrap_or_default();
    for (v, offset) in offsets {
        values[v].home = Home::Scratch(offset);
    }
    bytes.next_multiple_of(4)
}

fn align(value: &Value, target: Target) -> (usize, usize) {
    let word = target.word();
    let bytes = value.bytes(value.rows, word);
    (value.layout.kind().bytes().max(word / 8), bytes)
}

struct Block {
    value: usize,
    from: usize,
    to: usize,
    bytes: usize,
    align: usize,
}

/// Bytes of all, and the offset of each value.
fn fit(blocks: &[Block]) -> (usize, Vec<(usize, usize)>) {
    let mut placed: Vec<(usize, &Block)> = Vec::new();
    for block in blocks {
        let mut busy: Vec<Range<usize>> = placed
            .iter()
            .filter(|(_, other)| block.from <= other.to && other.from <= block.to)
            .map(|(at, other)| *at..at + other.bytes)
            .collect();
        busy.sort_by_key(|r| r.start);
        // The tightest gap, else the end.
        let (mut end, mut gap) = (0usize, None::<(usize, usize)>);
        for taken in &busy {
            let at = end.next_multiple_of(block.align);
            if at + block.bytes <= taken.start {
                let room = taken.start - end;
                gap = Some(gap.map_or((room, at), |g: (usize, usize)| g.min((room, at))));
            }
            end = end.max(taken.end);
        }
        placed.push((gap.map_or(end.next_multiple_of(block.align), |(_, at)| at), block));
    }
    let bytes = placed.iter().map(|(at, b)| at + b.bytes).max().unwrap_or(0);
    (bytes, placed.iter().map(|(at, b)| (b.value, *at)).collect())
}
