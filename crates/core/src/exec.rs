//! Prepares a model for this machine and runs it.
//!
//! Preparation packs weights for the kernels and plans one arena for all values: a value's place is
//! reused after its last reader. Running touches only that arena and never allocates.

mod layout;

use crate::bits;
use crate::kernels::{Kernels, Pass};
use crate::model::{Error, Model, Node, Tensor};
use crate::ops::{self, Elementwise, Op, PoolKind};
use crate::team::{self, Cut, MAX_PARTS, Piece, Team};
use crate::types::{DType, Quant, Shape, ValueType};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytemuck::Pod;
use core::ops::Range;
use layout::Layout;

/// Largest arena that a model may need for one image, in bytes.
pub const MAX_ARENA_BYTES: usize = 1 << 31;

/// Most scratch memory of a layer, in bytes.
const MAX_SCRATCH_BYTES: usize = 1 << 28;

/// A model prepared for one machine. Weights are owned: the model can be dropped.
pub struct Executor {
    steps: Vec<Step>,
    input: Value,
    output: Value,
    /// Words of all values of one image.
    value_words: usize,
    scratch_words: usize,
    kernels: &'static Kernels,
}

/// A value and its place in the arena of a batch of one.
#[derive(Clone, Copy)]
struct Value {
    ty: ValueType,
    at: usize,
}

impl Value {
    fn range(&self, batch: usize) -> Range<usize> {
        self.at * batch..(self.at + self.ty.arena_words()) * batch
    }
}

/// One prepared op.
pub struct Step {
    /// Name of the node.
    pub name: String,
    /// The op as the model has it.
    pub op: Op,
    /// Type of the output.
    pub output: ValueType,
    inputs: Vec<Value>,
    place: Value,
    prepared: Prepared,
    /// About how long one image takes on one thread, in nanoseconds.
    estimate_ns: u64,
}

impl Step {
    /// Name of the kernel that runs, or of the op.
    pub fn kernel(&self) -> &'static str {
        match &self.prepared {
            Prepared::BConv(c) => c.kernel(),
            Prepared::Conv(c) => c.kernel(),
            _ => self.op.name(),
        }
    }
}

enum Numbers {
    F32(Vec<f32>),
    I32(Vec<i32>),
}

// One for each layer of a network, never moved: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
enum Prepared {
    Sign(ops::Sign),
    Threshold { quant: Quant, thresholds: Numbers, flips: Vec<u64> },
    Quantize(ops::Quantize),
    Decode,
    Lookup(Vec<i32>),
    BConv(ops::bconv2d::Prepared),
    Conv(ops::conv2d::Prepared),
    BPool { pool: ops::BPool2d, minimum: Vec<u64> },
    Pool(ops::Pool2d),
    Affine { center: Vec<f32>, scale: Vec<f32>, bias: Vec<f32> },
    Activation(ops::Activation),
    Prelu(Vec<f32>),
    Elementwise(Elementwise),
    Concat,
    Reshape,
    Layout(Layout),
    Softmax,
    Argmax,
}

impl Prepared {
    fn new(node: &Node<'_>, x: ValueType, out: ValueType, kernels: &'static Kernels) -> Self {
        let p = &node.params;
        let floats = |t: &Option<Tensor<'_>>, default: f32| {
            t.as_ref().map_or_else(|| alloc::vec![default; out.shape.c], Tensor::to_f32)
        };
        let flips = || match p.flips.as_ref().and_then(|f| f.as_bits()) {
            Some((_, words)) => words.to_vec(),
            None => alloc::vec![0; bits::words(out.shape.c)],
        };
        match &node.op {
            // Above 0 is at least the smallest float above it.
            Op::Sign(s) if x.dtype == DType::F32 => {
                let t = if s.zero == ops::Zero::Positive { 0.0 } else { f32::from_bits(1) };
                Prepared::Threshold {
                    quant: Quant::BIT,
                    thresholds: Numbers::F32(alloc::vec![t; x.shape.c]),
                    flips: flips(),
                }
            }
            Op::Sign(s) => Prepared::Sign(*s),
            Op::Threshold(t) => {
                let thresholds = p.thresholds.as_ref().expect("checked by infer");
                Prepared::Threshold {
                    quant: t.output.quant().expect("checked by infer"),
                    thresholds: match thresholds.as_i32() {
                        Some(t) => Numbers::I32(t.to_vec()),
                        None => Numbers::F32(steps_first(thresholds)),
                    },
                    flips: flips(),
                }
            }
            Op::Quantize(q) => Prepared::Quantize(*q),
            Op::Decode => Prepared::Decode,
            Op::Lookup => {
                let table = p.weight.as_ref().and_then(Tensor::as_i32);
                Prepared::Lookup(table.expect("checked by infer").to_vec())
            }
            Op::BConv2d(c) => Prepared::BConv(ops::bconv2d::Prepared::new(*c, x, out, p, kernels)),
            Op::BDense(d) => {
                let conv = d.as_conv(x.shape);
                Prepared::BConv(ops::bconv2d::Prepared::new(conv, x, out, p, kernels))
            }
            Op::Conv2d(c) => Prepared::Conv(ops::conv2d::Prepared::new(*c, x, out, p, kernels)),
            Op::Dense => {
                let conv = ops::dense::as_conv(x.shape);
                Prepared::Conv(ops::conv2d::Prepared::new(conv, x, out, p, kernels))
            }
            Op::BPool2d(pool) => Prepared::BPool { pool: *pool, minimum: flips() },
            Op::Pool2d(pool) => Prepared::Pool(*pool),
            Op::Affine => Prepared::Affine {
                center: floats(&p.center, 0.0),
                scale: floats(&p.scale, 1.0),
                bias: floats(&p.bias, 0.0),
            },
            Op::Activation(a) => Prepared::Activation(*a),
            Op::Prelu => Prepared::Prelu(floats(&p.scale, 1.0)),
            Op::Add => Prepared::Elementwise(Elementwise::Add),
            Op::Mul => Prepared::Elementwise(Elementwise::Mul),
            Op::Div => Prepared::Elementwise(Elementwise::Div),
            Op::Max => Prepared::Elementwise(Elementwise::Max),
            Op::Min => Prepared::Elementwise(Elementwise::Min),
            Op::Concat => Prepared::Concat,
            Op::Reshape(_) => Prepared::Reshape,
            op @ (Op::Transpose(_) | Op::Slice(_) | Op::Pad(_) | Op::Resize(_) | Op::DepthToSpace(_)) => {
                Prepared::Layout(Layout::new(op, x).expect("these are its ops"))
            }
            Op::Softmax => Prepared::Softmax,
            Op::Argmax => Prepared::Argmax,
        }
    }
}

impl Executor {
    /// Prepares `model` for the instruction set of `kernels`.
    ///
    /// # Errors
    /// When the arena would be absurdly large.
    pub fn new(model: &Model<'_>, kernels: &'static Kernels) -> Result<Self, Error> {
        let places = plan(model)?;
        let value = |v: usize| Value { ty: model.types()[v], at: places[v] };
        let value_words =
            (0..places.len()).map(|v| places[v] + model.types()[v].arena_words()).max().unwrap_or(0);
        let mut scratch_words = 0;
        let steps: Vec<Step> = model
            .nodes()
            .iter()
            .enumerate()
            .map(|(i, node)| {
                let inputs: Vec<Value> = node.inputs.iter().map(|&v| value(v)).collect();
                let place = value(i + 1);
                let prepared = Prepared::new(node, inputs[0].ty, place.ty, kernels);
                let scratch = match &prepared {
                    Prepared::BConv(c) => c.scratch_words(),
                    Prepared::Conv(c) => c.scratch_words(),
                    _ => 0,
                };
                scratch_words = scratch_words.max(scratch);
                Step {
                    name: node.name.clone(),
                    op: node.op,
                    output: place.ty,
                    estimate_ns: estimate_ns(node, inputs[0].ty, place.ty, kernels),
                    inputs,
                    place,
                    prepared,
                }
            })
            .collect();
        // A window that is far larger than its map reads a band of nothing but padding.
        if scratch_words > MAX_SCRATCH_BYTES / 8 {
            return Err(Error(format!(
                "a convolution whose window reaches so far needs more than the limit of {} MiB of padding",
                MAX_SCRATCH_BYTES >> 20
            )));
        }
        let output = value(places.len() - 1);
        Ok(Executor { steps, input: value(0), output, value_words, scratch_words, kernels })
    }

    /// Type of the input.
    pub fn input(&self) -> ValueType {
        self.input.ty
    }
    /// Type of the output.
    pub fn output(&self) -> ValueType {
        self.output.ty
    }
    /// The prepared ops, in execution order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
    /// The kernels that run.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }
    /// Words of memory that `batch` images need.
    pub fn arena_words(&self, batch: usize) -> usize {
        self.value_words * batch + self.scratch_words
    }
    /// Where the input of `batch` images goes: [`ValueType::arena_words`] for each.
    pub fn input_mut<'m>(&self, arena: &'m mut [u64], batch: usize) -> &'m mut [u64] {
        &mut arena[self.input.range(batch)]
    }
    /// Where the output of `batch` images is after [`Executor::run`].
    pub fn output_of<'m>(&self, arena: &'m [u64], batch: usize) -> &'m [u64] {
        &arena[self.output.range(batch)]
    }

    /// Words of memory that one image needs on a team of `members`.
    pub fn team_arena_words(&self, members: usize) -> usize {
        self.value_words + self.scratch_words * self.parts(members)
    }

    /// Parts of a layer on a team of `members`: fewer where each needs a lot of memory.
    fn parts(&self, members: usize) -> usize {
        members.min(MAX_PARTS).min(MAX_ARENA_BYTES / 8 / self.scratch_words.max(1)).max(1)
    }

    /// Runs one image on a team, in an arena of at least [`Executor::team_arena_words`]. A layer is cut into parts where
    /// that saves more than handing them out costs; the result is the same. `after` is called as by [`Executor::run`].
    pub fn run_team(&self, team: &dyn Team, arena: &mut [u64], mut after: impl FnMut(usize)) {
        let (values, scratch) = arena.split_at_mut(self.value_words);
        let parts = self.parts(team.members());
        for (i, step) in self.steps.iter().enumerate() {
            let saved = step.estimate_ns / parts as u64 * (parts as u64 - 1);
            match step.cut() {
                Some(how) if parts > 1 && saved >= 2 * team.cost_ns() => {
                    step.run_team(self.kernels, team, how, values, scratch, self.scratch_words, parts);
                }
                _ => step.run(self.kernels, 1, values, scratch),
            }
            after(i);
        }
    }

    /// Runs `batch` images in an arena of at least [`Executor::arena_words`]; `after` is called with the
    /// index of each step when it is done.
    pub fn run(&self, batch: usize, arena: &mut [u64], mut after: impl FnMut(usize)) {
        let (values, scratch) = arena.split_at_mut(self.value_words * batch);
        for (i, step) in self.steps.iter().enumerate() {
            step.run(self.kernels, batch, values, scratch);
            after(i);
        }
    }
}

/// About how long a node takes on one thread: from its products at a rate that is usual for the kernels, and from
/// the bytes of its values. It only has to tell layers that are worth cutting from those that are not.
fn estimate_ns(node: &Node<'_>, x: ValueType, out: ValueType, kernels: &Kernels) -> u64 {
    let weight = node.params.weight.as_ref();
    let products = weight.map_or(0, |w| out.shape.pixels() as u64 * (w.rows * w.cols) as u64);
    let lanes = kernels.bgemm.nr as u64;
    let products_ns = match (weight.and_then(|w| w.as_bits()), x.dtype.quant()) {
        (Some((w, _)), Some(q)) => products * (w.planes() * q.planes()) as u64 / (64 * lanes),
        _ => products / (2 * kernels.fgemm.nr as u64),
    };
    let bytes = x.dtype.bytes(x.shape).saturating_add(out.dtype.bytes(out.shape));
    products_ns + bytes as u64 / 16
}

/// Place of every value: first fit among the values that live at the same time.
fn plan(model: &Model<'_>) -> Result<Vec<usize>, Error> {
    let types = model.types();
    let mut last_use: Vec<usize> = (0..types.len()).collect();
    for (i, node) in model.nodes().iter().enumerate() {
        for &v in &node.inputs {
            last_use[v] = i + 1;
        }
    }
    // The output is read after the last step.
    last_use[types.len() - 1] = types.len();
    let mut places = alloc::vec![0; types.len()];
    let mut live: Vec<(Range<usize>, usize)> = Vec::new();
    for v in 0..types.len() {
        live.retain(|(_, until)| *until >= v);
        crate::insertion_sort(&mut live, |(range, _)| range.start);
        // Whole cache lines, so that values never share one.
        let words = types[v].arena_words().next_multiple_of(8);
        let mut at = 0;
        for (range, _) in &live {
            if at + words <= range.start {
                break;
            }
            at = at.max(range.end);
        }
        // Every end is checked at once, so that no sum overflows on a 32-bit target.
        if words > MAX_ARENA_BYTES / 8 - at {
            return Err(Error(format!(
                "the values of one image need more than the limit of {} MiB",
                MAX_ARENA_BYTES >> 20
            )));
        }
        places[v] = at;
        live.push((at..at + words, last_use[v]));
    }
    Ok(places)
}

/// Thresholds `[channel][step]` as `[step][channel]`.
fn steps_first(thresholds: &Tensor<'_>) -> Vec<f32> {
    let t = thresholds.to_f32();
    (0..t.len()).map(|i| t[i % thresholds.rows * thresholds.cols + i / thresholds.rows]).collect()
}

fn view<T: Pod>(words: &[u64], n: usize) -> &[T] {
    &bytemuck::cast_slice(words)[..n]
}

fn view_mut<T: Pod>(words: &mut [u64], n: usize) -> &mut [T] {
    &mut bytemuck::cast_slice_mut(words)[..n]
}

/// The places of an input and of the output. They never overlap: `plan` keeps inputs alive.
fn pair(values: &mut [u64], input: Range<usize>, output: Range<usize>) -> (&[u64], &mut [u64]) {
    let [x, out] = values.get_disjoint_mut([input, output]).expect("the planner keeps live values apart");
    (x, out)
}

/// The places of two inputs, which may be one, and of the output.
fn inputs_and_output(
    values: &mut [u64],
    [a, b]: [Value; 2],
    output: Value,
    batch: usize,
) -> ([&[u64]; 2], &mut [u64]) {
    if a.at == b.at {
        let (x, out) = pair(values, a.range(batch), output.range(batch));
        return ([x, x], out);
    }
    let ranges = [a.range(batch), b.range(batch), output.range(batch)];
    let [a, b, out] = values.get_disjoint_mut(ranges).expect("the planner keeps live values apart");
    ([a, b], out)
}

/// One image of a step with one input.
struct Image<'a> {
    step: &'a Step,
    kernels: &'a Kernels,
    ty: ValueType,
    /// Shape of the output.
    to: Shape,
    x: &'a [u64],
    out: &'a mut [u64],
}

impl Pass for Image<'_> {
    #[inline(always)]
    fn run(self) {
        self.step.image(self.kernels, self.ty, self.to, self.x, self.out);
    }
}

/// One image of a function of two values, of `an` and `bn` elements.
struct Pair<'a> {
    op: Elementwise,
    dtype: DType,
    an: usize,
    bn: usize,
    /// Elements of `a` for each of `b`.
    length: usize,
    a: &'a [u64],
    b: &'a [u64],
    out: &'a mut [u64],
}

impl Pass for Pair<'_> {
    #[inline(always)]
    fn run(self) {
        let Pair { op, an, bn, length, a, b, out, .. } = self;
        match self.dtype {
            DType::F32 => op.run_f32(view(a, an), view(b, bn), length, view_mut(out, an)),
            _ => op.run_i32(view(a, an), view(b, bn), length, view_mut(out, an)),
        }
    }
}

impl Step {
    fn run(&self, kernels: &Kernels, batch: usize, values: &mut [u64], scratch: &mut [u64]) {
        let first = self.inputs[0];
        match &self.prepared {
            Prepared::BConv(conv) => {
                let (x, out) = pair(values, first.range(batch), self.place.range(batch));
                conv.run(batch, x, out, scratch);
            }
            Prepared::Conv(conv) => {
                let (x, out) = pair(values, first.range(batch), self.place.range(batch));
                conv.run(batch, x, out, scratch);
            }
            Prepared::Elementwise(op) => self.elementwise(kernels, *op, batch, values),
            Prepared::Concat => self.concat(batch, values),
            _ => {
                let (x, out) = pair(values, first.range(batch), self.place.range(batch));
                let images = x.chunks_exact(first.ty.arena_words());
                for (x, out) in images.zip(out.chunks_exact_mut(self.output.arena_words())) {
                    kernels.run(Image { step: self, kernels, ty: first.ty, to: self.output.shape, x, out });
                }
            }
        }
    }

    /// How one image can be cut into pieces.
    fn cut(&self) -> Option<Cut> {
        match &self.prepared {
            Prepared::BConv(conv) => Some(conv.cut()),
            Prepared::Conv(conv) => Some(conv.cut()),
            // Each pixel of the output is made of the same pixel of every input.
            Prepared::Sign(_)
            | Prepared::Threshold { .. }
            | Prepared::Quantize(_)
            | Prepared::Decode
            | Prepared::Lookup(_)
            | Prepared::Affine { .. }
            | Prepared::Activation(_)
            | Prepared::Prelu(_) => {
                Some(Cut { pixels: team::whole_words(self.inputs[0].ty), channels: false })
            }
            Prepared::Elementwise(_) if self.inputs[0].ty.shape == self.inputs[1].ty.shape => {
                Some(Cut { pixels: 1, channels: false })
            }
            _ => None,
        }
    }

    /// Runs one image in pieces.
    fn run_team(
        &self,
        kernels: &Kernels,
        team: &dyn Team,
        how: Cut,
        values: &mut [u64],
        scratch: &mut [u64],
        scratch_words: usize,
        parts: usize,
    ) {
        let first = self.inputs[0];
        let other = self.inputs.get(1).copied().unwrap_or(first);
        let ([x, other], out) = inputs_and_output(values, [first, other], self.place, 1);
        team::run(team, parts, self.output, how, out, scratch, scratch_words, &|part| match &self.prepared {
            Prepared::BConv(conv) => conv.run_piece(&part.piece, x, part.out, part.scratch),
            Prepared::Conv(conv) => conv.run_piece(&part.piece, x, part.out, part.scratch),
            _ => self.run_pixels(kernels, &part.piece, [x, other], part.out),
        });
    }

    /// Runs a pointwise op on a piece of one image, as an image of one row.
    fn run_pixels(&self, kernels: &Kernels, piece: &Piece, inputs: [&[u64]; 2], out: &mut [u64]) {
        let Piece::Pixels(pixels) = piece else { unreachable!("pointwise ops are cut by pixels") };
        let ty = self.inputs[0].ty;
        let row = ValueType::new(Shape::new(1, pixels.len(), ty.shape.c), ty.dtype);
        let [x, b] = inputs.map(|x| &x[piece.first_word(ty)..][..row.arena_words()]);
        if let Prepared::Elementwise(op) = &self.prepared {
            let n = row.shape.elements();
            kernels.run(Pair { op: *op, dtype: self.output.dtype, an: n, bn: n, length: 1, a: x, b, out });
        } else {
            kernels.run(Image { step: self, kernels, ty: row, to: row.shape, x, out });
        }
    }

    /// Runs an op with one input on one image.
    #[inline(always)]
    fn image(&self, kernels: &Kernels, ty: ValueType, to: Shape, x: &[u64], out: &mut [u64]) {
        let (c, n) = (ty.shape.c, ty.shape.elements());
        let outputs = to.elements();
        match (&self.prepared, ty.dtype) {
            (Prepared::Sign(s), _) => ops::sign::run::<i32>(*s, c, view(x, n), out),
            (Prepared::Threshold { quant, thresholds, flips }, dtype) => match thresholds {
                Numbers::F32(t) => {
                    ops::threshold::run_floats(&kernels.fgemm, *quant, c, view(x, n), t, flips, out);
                }
                Numbers::I32(t) => match dtype {
                    DType::U8 => {
                        ops::threshold::run(*quant, c, view::<u8>(x, n), i32::from, t, flips, out);
                    }
                    DType::I8 => {
                        ops::threshold::run(*quant, c, view::<i8>(x, n), i32::from, t, flips, out);
                    }
                    _ => ops::threshold::run(*quant, c, view::<i32>(x, n), |v| v, t, flips, out),
                },
            },
            (Prepared::Quantize(q), DType::F32) => {
                self.quantize(q, c, view::<f32>(x, n), |v| v, out);
            }
            (Prepared::Quantize(q), DType::U8) => {
                self.quantize(q, c, view::<u8>(x, n), f32::from, out);
            }
            (Prepared::Quantize(q), DType::I8) => {
                self.quantize(q, c, view::<i8>(x, n), f32::from, out);
            }
            (Prepared::Quantize(q), _) => {
                self.quantize(q, c, view::<i32>(x, n), |v| v as f32, out);
            }
            (Prepared::Decode, DType::Bits(q)) => {
                ops::decode::run_bits(q, ty.shape, x, view_mut(out, n), |v| v as f32);
            }
            (Prepared::Decode, dtype) => {
                let out: &mut [f32] = view_mut(out, n);
                match dtype {
                    DType::U8 => ops::decode::run(view::<u8>(x, n), f32::from, out),
                    DType::I8 => ops::decode::run(view::<i8>(x, n), f32::from, out),
                    _ => ops::decode::run(view::<i32>(x, n), |v| v as f32, out),
                }
            }
            (Prepared::Lookup(table), _) => ops::lookup::run(ty, table, x, out),
            (Prepared::BPool { pool, minimum }, DType::Bits(q)) => {
                ops::bpool2d::run(pool, q, ty.shape, to, x, minimum, out);
            }
            (Prepared::Pool(pool), dtype) => match (pool.kind, dtype) {
                (PoolKind::Max, DType::I32) => {
                    ops::pool2d::run_max::<i32>(pool, ty.shape, to, view(x, n), view_mut(out, outputs));
                }
                (PoolKind::Max, _) => {
                    ops::pool2d::run_max::<f32>(pool, ty.shape, to, view(x, n), view_mut(out, outputs));
                }
                (PoolKind::Average, _) => {
                    ops::pool2d::run_average(pool, ty.shape, to, view(x, n), view_mut(out, outputs));
                }
            },
            (Prepared::Affine { center, scale, bias }, DType::F32) => {
                let out = view_mut(out, n);
                ops::affine::run(view::<f32>(x, n), |v| v, center, scale, bias, out);
            }
            (Prepared::Affine { center, scale, bias }, _) => {
                let out = view_mut(out, n);
                ops::affine::run(view::<i32>(x, n), |v| v as f32, center, scale, bias, out);
            }
            (Prepared::Activation(a), _) => ops::activation::run(*a, view(x, n), view_mut(out, n)),
            (Prepared::Prelu(scale), _) => ops::prelu::run(view(x, n), scale, view_mut(out, n)),
            (Prepared::Reshape, DType::Bits(q)) => {
                ops::reshape::run_bits(q.planes(), ty.shape, to, x, out);
            }
            (Prepared::Reshape, _) => out.copy_from_slice(x),
            (Prepared::Layout(layout), _) => layout.run(ty, to, x, out),
            (Prepared::Softmax, _) => ops::softmax::run(c, view(x, n), view_mut(out, n)),
            (Prepared::Argmax, DType::I32) => {
                ops::argmax::run::<i32>(c, view(x, n), view_mut(out, outputs));
            }
            (Prepared::Argmax, _) => ops::argmax::run::<f32>(c, view(x, n), view_mut(out, outputs)),
            _ => unreachable!("infer has refused this input"),
        }
    }

    #[inline(always)]
    fn quantize<X: Copy>(
        &self,
        q: &ops::Quantize,
        c: usize,
        x: &[X],
        widen: impl Fn(X) -> f32,
        out: &mut [u64],
    ) {
        match q.output {
            DType::Bits(_) => ops::quantize::run_bits(q, c, x, widen, out),
            _ => ops::quantize::run_bytes(q, x, widen, view_mut(out, x.len())),
        }
    }

    fn elementwise(&self, kernels: &Kernels, op: Elementwise, batch: usize, values: &mut [u64]) {
        let (a, b) = (self.inputs[0], self.inputs[1]);
        let (a_words, b_words) = (a.ty.arena_words(), b.ty.arena_words());
        let (an, bn) = (a.ty.shape.elements(), b.ty.shape.elements());
        let length = ops::elementwise::run_length(a.ty.shape, b.ty.shape).expect("checked by infer");
        let ([x, y], out) = inputs_and_output(values, [a, b], self.place, batch);
        let inputs = x.chunks_exact(a_words).zip(y.chunks_exact(b_words));
        for ((a, b), out) in inputs.zip(out.chunks_exact_mut(a_words)) {
            kernels.run(Pair { op, dtype: self.output.dtype, an, bn, length, a, b, out });
        }
    }

    fn concat(&self, batch: usize, values: &mut [u64]) {
        let (c, out_words) = (self.output.shape.c, self.output.arena_words());
        if matches!(self.output.dtype, DType::Bits(_)) {
            values[self.place.range(batch)].fill(0);
        }
        let mut at = 0;
        for input in &self.inputs {
            let (cx, n) = (input.ty.shape.c, input.ty.shape.elements());
            let total = self.output.shape.elements();
            let (x, out) = pair(values, input.range(batch), self.place.range(batch));
            let images = x.chunks_exact(input.ty.arena_words()).zip(out.chunks_exact_mut(out_words));
            for (x, out) in images {
                match input.ty.dtype {
                    DType::Bits(q) => ops::concat::run_bits(q.planes(), cx, x, at, c, out),
                    DType::U8 | DType::I8 => {
                        ops::concat::run::<u8>(cx, view(x, n), at, c, view_mut(out, total));
                    }
                    DType::I32 | DType::F32 => {
                        ops::concat::run::<u32>(cx, view(x, n), at, c, view_mut(out, total));
                    }
                }
            }
            at += cx;
        }
    }
}
