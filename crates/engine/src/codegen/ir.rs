//! The language between lowering and printers: a program of functions, constant tables and typed memory.
//!
//! It is imperative and small: loops have constant bounds, locals are integers, words or floats, and every expression
//! carries the bounds of its value, from which printers choose types. What is out of bounds is a mistake of the lowering,
//! which [`super::interpret`] reports. Nothing here is of one language.

use std::ops::{Add, BitAnd, BitOr, BitXor, Mul, Shl, Shr, Sub};

/// A local variable of a function.
pub type Var = usize;
/// An index into [`Program::buffers`].
pub type BufferId = usize;
/// An index into [`Program::tables`].
pub type TableId = usize;
/// An index into [`Program::functions`].
pub type FunctionId = usize;

/// Type of an element in memory, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Single precision.
    F32,
}

impl Kind {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
        }
    }
    /// Smallest and largest integer.
    pub const fn bounds(self) -> (i64, i64) {
        match self {
            Kind::U8 => (0, 0xFF),
            Kind::I8 => (-0x80, 0x7F),
            Kind::U16 => (0, 0xFFFF),
            Kind::I16 => (-0x8000, 0x7FFF),
            Kind::U32 => (0, 0xFFFF_FFFF),
            Kind::I32 | Kind::F32 => (-0x8000_0000, 0x7FFF_FFFF),
        }
    }
    /// The smallest kind that holds `lo..=hi`, of those that are not wider than an `i32`.
    pub fn holding(lo: i64, hi: i64) -> Option<Kind> {
        let fits = |k: &Kind| k.bounds().0 <= lo && hi <= k.bounds().1;
        [Kind::U8, Kind::I8, Kind::U16, Kind::I16, Kind::I32].into_iter().find(fits)
    }
    /// The unsigned kind of `bits` bits.
    pub const fn unsigned(bits: usize) -> Kind {
        match bits {
            8 => Kind::U8,
            16 => Kind::U16,
            _ => Kind::U32,
        }
    }
}

/// Type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    /// A signed integer; printers take 16 or 32 bits as its bounds say.
    Int,
    /// Bits, as many as [`Program::word`].
    Word,
    /// Single precision.
    Float,
}

/// Operation of two numbers of one type; comparisons give an integer, 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op2 {
    /// Sum; of words without overflow.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient of floats, or of integers that are not negative.
    Div,
    /// Bitwise.
    And,
    /// Bitwise.
    Or,
    /// Bitwise.
    Xor,
    /// By an integer below the width; bits that leave a word are lost.
    Shl,
    /// By an integer below the width; of words and of integers that are not negative.
    Shr,
    /// `a < b`.
    Lt,
    /// `a >= b`.
    Ge,
    /// `a == b`.
    Eq,
}

/// An expression with its type and, for integers, the bounds of its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What is computed.
    pub node: Box<Node>,
    /// Type of the value.
    pub ty: Ty,
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
}

/// What an [`Expr`] computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// An integer or a word.
    Int(i64),
    /// A float.
    Float(f32),
    /// A local.
    Var(Var),
    /// An element of a buffer.
    Load(BufferId, Expr),
    /// An element of a table.
    Table(TableId, Expr),
    /// An operation.
    Binary(Op2, Expr, Expr),
    /// The condition is an integer.
    Select(Expr, Expr, Expr),
    /// The same number in another type.
    Convert(Expr),
    /// Number of bits in which `words` words of a buffer, from `at`, differ from a table's, from `from`; with a mask, of
    /// those that are set in the words of another buffer, from 0.
    Mismatches {
        /// Words of activations.
        buffer: BufferId,
        /// Words of weights.
        table: TableId,
        /// First word of the weights.
        from: Expr,
        /// Number of words.
        words: usize,
        /// Bits that count.
        mask: Option<BufferId>,
    },
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// Declares a local.
    Let(Var, Expr),
    /// Changes a local.
    Set(Var, Expr),
    /// Writes an element of a buffer.
    Store(BufferId, Expr, Expr),
    /// `for var in 0..count`.
    For(Var, usize, Vec<Stmt>),
    /// Either or.
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    /// Loops while the condition holds.
    While(Expr, Vec<Stmt>),
    /// Runs a function.
    Call(FunctionId, Vec<Expr>),
}

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The caller's input.
    Input,
    /// The caller's scores.
    Scores,
    /// The scratch, from this byte on.
    Scratch(usize),
    /// The stack of one function.
    Local,
}

/// Typed memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Unique identifier.
    pub name: String,
    /// Where it lies.
    pub place: Place,
    /// Type of its elements.
    pub kind: Kind,
    /// Number of elements.
    pub len: usize,
}

/// Elements of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Constants {
    /// Integers that the table's kind holds.
    Int(Vec<i64>),
    /// Floats.
    Float(Vec<f32>),
}

/// Constants in flash.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Unique identifier.
    pub name: String,
    /// Type of its elements.
    pub kind: Kind,
    /// The elements.
    pub data: Constants,
}

impl Table {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Constants::Int(v) => v.len(),
            Constants::Float(v) => v.len(),
        }
    }
    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes in flash.
    pub fn bytes(&self) -> usize {
        self.len() * self.kind.bytes()
    }
}

/// A local variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Identifier, unique in its function.
    pub name: String,
    /// Type.
    pub ty: Ty,
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
}

/// A function; the first locals are its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Unique identifier.
    pub name: String,
    /// What it does, in one line.
    pub about: String,
    /// Number of parameters, all integers.
    pub params: usize,
    /// Locals, parameters first.
    pub locals: Vec<Local>,
    /// Arrays on the stack.
    pub arrays: Vec<BufferId>,
    /// Statements.
    pub body: Vec<Stmt>,
    /// How often it runs for one input.
    pub times: usize,
}

/// A whole program; the last function is the entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Bits of a word, 8 or 32.
    pub word: usize,
    /// All memory.
    pub buffers: Vec<Buffer>,
    /// All constants.
    pub tables: Vec<Table>,
    /// All functions, callees first.
    pub functions: Vec<Function>,
    /// Bytes of scratch.
    pub scratch: usize,
}

impl Program {
    /// Largest word.
    pub fn word_max(&self) -> i64 {
        (1 << self.word) - 1
    }
    /// Bytes of all tables.
    pub fn table_bytes(&self) -> usize {
        self.tables.iter().map(Table::bytes).sum()
    }
}

impl Expr {
    fn new(node: Node, ty: Ty, (lo, hi): (i64, i64)) -> Expr {
        Expr { node: Box::new(node), ty, lo, hi }
    }
    /// An integer.
    pub fn int(v: impl TryInto<i64>) -> Expr {
        let v = v.try_into().unwrap_or(i64::MAX);
        Expr::new(Node::Int(v), Ty::Int, (v, v))
    }
    /// A word.
    pub fn word(v: u32) -> Expr {
        Expr::new(Node::Int(v.into()), Ty::Word, (v.into(), v.into()))
    }
    /// A float.
    pub fn float(v: f32) -> Expr {
        Expr::new(Node::Float(v), Ty::Float, (0, 0))
    }
    /// A local.
    pub fn var(var: Var, local: &Local) -> Expr {
        Expr::new(Node::Var(var), local.ty, (local.lo, local.hi))
    }
    /// An element of memory or of a table.
    pub fn element(node: Node, ty: Ty, bounds: (i64, i64)) -> Expr {
        Expr::new(node, ty, bounds)
    }
    /// The integer that it is, if it is constant.
    pub fn constant(&self) -> Option<i64> {
        match *self.node {
            Node::Int(v) => Some(v),
            _ => None,
        }
    }
    /// `self < other`, 0 or 1.
    pub fn lt(self, other: Expr) -> Expr {
        binary(Op2::Lt, self, other)
    }
    /// `self >= other`, 0 or 1.
    pub fn ge(self, other: Expr) -> Expr {
        binary(Op2::Ge, self, other)
    }
    /// `self == other`, 0 or 1.
    pub fn equals(self, other: Expr) -> Expr {
        binary(Op2::Eq, self, other)
    }
    /// Quotient, see [`Op2::Div`].
    pub fn over(self, other: Expr) -> Expr {
        binary(Op2::Div, self, other)
    }
    /// `self ? yes : no`.
    pub fn select(self, yes: Expr, no: Expr) -> Expr {
        match self.constant() {
            Some(0) => return no,
            Some(_) => return yes,
            None => {}
        }
        let (ty, bounds) = (yes.ty, (yes.lo.min(no.lo), yes.hi.max(no.hi)));
        Expr::new(Node::Select(self, yes, no), ty, bounds)
    }
    /// The same number as another type; of integers as words, the low bits.
    pub fn to(self, ty: Ty, word_max: i64) -> Expr {
        if self.ty == ty {
            return self;
        }
        match (self.constant(), ty) {
            (Some(v), Ty::Float) => Expr::float(v as f32),
            (Some(v), Ty::Word) => Expr::word((v & word_max) as u32),
            (Some(v), Ty::Int) => Expr::int(v),
            (None, _) => {
                let bounds = match ty {
                    Ty::Word if self.lo >= 0 && self.hi <= word_max => (self.lo, self.hi),
                    Ty::Word => (0, word_max),
                    Ty::Int | Ty::Float => (self.lo, self.hi),
                };
                Expr::new(Node::Convert(self), ty, bounds)
            }
        }
    }
    /// The same value with bounds that are known to be tighter.
    pub fn within(mut self, lo: i64, hi: i64) -> Expr {
        (self.lo, self.hi) = (self.lo.max(lo), self.hi.min(hi));
        self
    }
}

/// The smallest `2^n - 1` that is not below `v`.
fn ones_above(v: i64) -> i64 {
    (1i64 << (64 - v.max(0).leading_zeros())) - 1
}

/// An operation, folded where its operands are constant or change nothing. Words keep the width that their bounds say:
/// the lowering masks what could leave it.
pub fn binary(op: Op2, a: Expr, b: Expr) -> Expr {
    let int = |v: i64, ty| if ty == Ty::Word { Expr::word(v as u32) } else { Expr::int(v) };
    if a.ty == Ty::Float {
        let ty = if matches!(op, Op2::Lt | Op2::Ge | Op2::Eq) { Ty::Int } else { Ty::Float };
        return Expr::new(Node::Binary(op, a, b), ty, (0, i64::from(ty == Ty::Int)));
    }
    let ends = |f: fn(i64, i64) -> i64| {
        let all = [f(a.lo, b.lo), f(a.lo, b.hi), f(a.hi, b.lo), f(a.hi, b.hi)];
        (all.into_iter().fold(i64::MAX, i64::min), all.into_iter().fold(i64::MIN, i64::max))
    };
    let truth = |always: bool, never: bool| match (always, never) {
        (true, _) => (1, 1),
        (_, true) => (0, 0),
        _ => (0, 1),
    };
    match (op, a.constant(), b.constant()) {
        (Op2::Add | Op2::Or | Op2::Xor, Some(0), _) => return b,
        (Op2::Add | Op2::Sub | Op2::Or | Op2::Xor | Op2::Shl | Op2::Shr, _, Some(0)) => return a,
        (Op2::Mul, Some(1), _) => return b,
        (Op2::Mul | Op2::Div, _, Some(1)) => return a,
        (Op2::Mul | Op2::And, _, Some(0)) | (Op2::Mul | Op2::And, Some(0), _) => return int(0, a.ty),
        (Op2::And, Some(1), _) if b.lo >= 0 && b.hi <= 1 => return b,
        (Op2::And, _, Some(1)) if a.lo >= 0 && a.hi <= 1 => return a,
        (Op2::Or, Some(1), _) if b.lo >= 0 && b.hi <= 1 => return a,
        (Op2::Or, _, Some(1)) if a.lo >= 0 && a.hi <= 1 => return b,
        (Op2::And, Some(c), Some(d)) => return int(c & d, a.ty),
        (Op2::Or, Some(c), Some(d)) => return int(c | d, a.ty),
        (Op2::Xor, Some(c), Some(d)) => return int(c ^ d, a.ty),
        // (x + c) + d
        (Op2::Add, None, Some(d)) => {
            if let Node::Binary(Op2::Add, x, c) = &*a.node
                && let Some(c) = c.constant()
            {
                return binary(Op2::Add, x.clone(), int(c + d, a.ty));
            }
        }
        _ => {}
    }
    let bounds = match op {
        Op2::Add => ends(|a, b| a + b),
        Op2::Sub => ends(|a, b| a - b),
        Op2::Mul => ends(|a, b| a * b),
        Op2::And => (0, a.hi.min(b.hi)),
        Op2::Or | Op2::Xor => (0, ones_above(a.hi.max(b.hi))),
        Op2::Shl => (0, a.hi << b.hi),
        Op2::Shr => (a.lo >> b.hi, a.hi >> b.lo),
        Op2::Lt => truth(a.hi < b.lo, a.lo >= b.hi),
        Op2::Ge => truth(a.lo >= b.hi, a.hi < b.lo),
        Op2::Eq => truth(a.lo == a.hi && b.lo == b.hi && a.lo == b.lo, a.hi < b.lo || b.hi < a.lo),
        Op2::Div => (a.lo / b.hi.max(1), a.hi / b.lo.max(1)),
    };
    let ty = if matches!(op, Op2::Lt | Op2::Ge | Op2::Eq) { Ty::Int } else { a.ty };
    // Words lose what leaves them.
    let bounds = match (ty, op) {
        (Ty::Word, Op2::Sub | Op2::Add | Op2::Mul) => (0, 0xFFFF_FFFF),
        (Ty::Word, _) => (0, bounds.1.clamp(0, 0xFFFF_FFFF)),
        _ => bounds,
    };
    if bounds.0 == bounds.1 && ty == Ty::Int {
        return int(bounds.0, ty);
    }
    Expr::new(Node::Binary(op, a, b), ty, bounds)
}

macro_rules! operator {
    ($($trait:ident $method:ident $op:ident),*) => {
        $(impl $trait for Expr {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr {
                binary(Op2::$op, self, other)
            }
        })*
    };
}
operator!(Add add Add, Sub sub Sub, Mul mul Mul, BitAnd bitand And, BitOr bitor Or, BitXor bitxor Xor, Shl shl Shl, Shr shr Shr);
