//! Expressions in C: types are chosen so that nothing overflows and no compiler warns, where `int` has 16 bits too.

use crate::codegen::ir::*;

/// What printing needs to know.
pub struct Context<'p> {
    /// The program.
    pub program: &'p Program,
    /// Prefix of global names.
    pub prefix: &'p str,
    /// The same in capitals.
    pub capitals: &'p str,
}

/// Whether bounds need more than an `int` of 16 bits.
pub fn is_long(lo: i64, hi: i64) -> bool {
    lo < -0x8000 || hi > 0x7FFF
}

impl Context<'_> {
    /// Type of words.
    pub fn word(&self) -> &'static str {
        if self.program.word == 8 { "uint8_t" } else { "uint32_t" }
    }
    /// Type of a local.
    pub fn local(&self, ty: Ty, lo: i64, hi: i64) -> &'static str {
        match ty {
            Ty::Int if is_long(lo, hi) => "int32_t",
            Ty::Int => "int",
            Ty::Word => self.word(),
            Ty::Float => "float",
        }
    }
    /// Type of an element in memory; `aliased` where it shares memory with elements of other types.
    pub fn kind(&self, kind: Kind, aliased: bool) -> String {
        let plain = match kind {
            Kind::U8 => "uint8_t",
            Kind::I8 => "int8_t",
            Kind::U16 => "uint16_t",
            Kind::I16 => "int16_t",
            Kind::U32 => "uint32_t",
            Kind::I32 => "int32_t",
            Kind::F32 => "float",
        };
        match (kind, aliased) {
            (Kind::U16 | Kind::I16 | Kind::F32, true) => format!("{}_{}", self.prefix, alias(kind)),
            _ => plain.into(),
        }
    }
    /// Whether the C type of an integer expression is `int32_t`.
    fn long(&self, locals: &[Local], e: &Expr) -> bool {
        if e.ty != Ty::Int {
            return false;
        }
        match &*e.node {
            Node::Int(v) => is_long(*v, *v),
            Node::Var(v) => is_long(locals[*v].lo, locals[*v].hi),
            Node::Load(b, _) => wide(self.program.buffers[*b].kind),
            Node::Table(t, _) => wide(self.program.tables[*t].kind),
            Node::Binary(Op2::Lt | Op2::Ge | Op2::Eq, _, _) => false,
            Node::Binary(_, a, b) => is_long(e.lo, e.hi) || self.long(locals, a) || self.long(locals, b),
            Node::Select(_, a, b) => self.long(locals, a) || self.long(locals, b),
            Node::Convert(_) | Node::Mismatches { .. } | Node::Float(_) => is_long(e.lo, e.hi),
        }
    }
    /// An expression without outer brackets.
    pub fn bare(&self, locals: &[Local], e: &Expr) -> String {
        let text = self.expr(locals, e);
        let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
        match inner {
            // Only where the first bracket is closed by the last.
            Some(inner) if closes(inner) => inner.into(),
            _ => text,
        }
    }
    /// An expression as the value of an `int`, `int32_t`, word or float variable.
    pub fn assigned(&self, locals: &[Local], e: &Expr, to: &Local) -> String {
        if e.ty == Ty::Int && !is_long(to.lo, to.hi) && self.long(locals, e) {
            return format!("(int){}", self.expr(locals, e));
        }
        self.bare(locals, e)
    }
    /// An expression as an element of memory.
    pub fn stored(&self, locals: &[Local], e: &Expr, kind: Kind) -> String {
        match kind {
            Kind::F32 => self.bare(locals, e),
            Kind::I32 if e.ty == Ty::Int => self.bare(locals, e),
            Kind::U32 if e.ty == Ty::Word && self.program.word == 32 => self.bare(locals, e),
            _ => format!("({}){}", self.kind(kind, false), self.expr(locals, e)),
        }
    }
    /// An expression, in brackets where it needs them.
    pub fn expr(&self, locals: &[Local], e: &Expr) -> String {
        let p = |e: &Expr| self.expr(locals, e);
        match &*e.node {
            Node::Int(v) if e.ty == Ty::Word => format!("0x{v:x}u"),
            Node::Int(v) => integer(*v),
            Node::Float(v) => float(*v),
            Node::Var(v) => locals[*v].name.clone(),
            Node::Load(b, index) => {
                let b = &self.program.buffers[*b];
                let text = format!("b_{}[{}]", b.name, self.bare(locals, index));
                self.read(text, b.kind, e.ty)
            }
            Node::Table(t, index) => {
                let t = &self.program.tables[*t];
                let at = format!("&{}_{}[{}]", self.prefix, t.name, self.bare(locals, index));
                let text = format!("{}_READ_{}({at})", self.capitals, alias(t.kind).to_uppercase());
                self.read(text, t.kind, e.ty)
            }
            Node::Select(c, a, b) => {
                let text = format!("({} ? {} : {})", p(c), p(a), p(b));
                if e.ty == Ty::Word && self.program.word == 8 { format!("(uint8_t){text}") } else { text }
            }
            Node::Convert(a) => format!("({}){}", self.local(e.ty, e.lo, e.hi), p(a)),
            Node::Mismatches { buffer, table, from, words, mask } => {
                let (b, t) = (&self.program.buffers[*buffer], &self.program.tables[*table]);
                let masked = mask.map(|m| format!(", b_{}", self.program.buffers[m].name));
                format!(
                    "{}(b_{}, &{}_{}[{}]{})",
                    self.counter(*words, mask.is_some()),
                    b.name,
                    self.prefix,
                    t.name,
                    self.bare(locals, from),
                    masked.unwrap_or_default()
                )
            }
            Node::Binary(op, a, b) => self.binary(locals, e, *op, a, b),
        }
    }
    /// Name of the function that counts bits that differ.
    pub fn counter(&self, words: usize, masked: bool) -> String {
        format!("{}_differ{words}{}", self.prefix, if masked { "_masked" } else { "" })
    }
    /// What was read from memory, as an expression of a type.
    fn read(&self, text: String, kind: Kind, ty: Ty) -> String {
        match (ty, kind) {
            (Ty::Word, _) if kind == Kind::unsigned(self.program.word) => text,
            (Ty::Word, _) => format!("({}){text}", self.word()),
            (Ty::Int, Kind::U16) => format!("(int32_t){text}"),
            _ => text,
        }
    }
    fn binary(&self, locals: &[Local], e: &Expr, op: Op2, a: &Expr, b: &Expr) -> String {
        let p = |e: &Expr| self.expr(locals, e);
        if op == Op2::Mul && e.ty == Ty::Float {
            return format!("{}_mul({}, {})", self.prefix, self.bare(locals, a), self.bare(locals, b));
        }
        let truth = |e: &Expr| e.ty == Ty::Int && e.lo >= 0 && e.hi <= 1;
        let both = truth(a) && truth(b);
        let symbol = match op {
            Op2::Add => "+",
            Op2::Sub => "-",
            Op2::Mul => "*",
            Op2::Div => "/",
            Op2::And if both => "&&",
            Op2::Or if both => "||",
            Op2::And => "&",
            Op2::Or => "|",
            Op2::Xor if both => "!=",
            Op2::Xor => "^",
            Op2::Shl => "<<",
            Op2::Shr => ">>",
            Op2::Lt => "<",
            Op2::Ge => ">=",
            Op2::Eq => "==",
        };
        let mut left = p(a);
        // `a + -5` is `a - 5`.
        let (symbol, right) = match (op, b.constant()) {
            (Op2::Add, Some(v)) if v < 0 && v > i64::from(i32::MIN) => ("-", integer(-v)),
            _ => (symbol, p(b)),
        };
        let arithmetic = !matches!(op, Op2::Lt | Op2::Ge | Op2::Eq);
        if e.ty == Ty::Int
            && arithmetic
            && is_long(e.lo, e.hi)
            && !self.long(locals, a)
            && !self.long(locals, b)
        {
            left = format!("(int32_t){left}");
        }
        if e.ty == Ty::Word && op == Op2::Shl && a.constant().is_some() {
            left = format!("({}){left}", self.word());
        }
        let text = format!("({left} {symbol} {right})");
        if e.ty == Ty::Word && self.program.word == 8 { format!("(uint8_t){text}") } else { text }
    }
}

/// Short name of a kind.
pub fn alias(kind: Kind) -> &'static str {
    match kind {
        Kind::U8 => "u8",
        Kind::I8 => "i8",
        Kind::U16 => "u16",
        Kind::I16 => "i16",
        Kind::U32 => "u32",
        Kind::I32 => "i32",
        Kind::F32 => "f32",
    }
}

/// Whether an element of a kind is more than an `int` of 16 bits.
fn wide(kind: Kind) -> bool {
    matches!(kind, Kind::U16 | Kind::I32 | Kind::U32)
}

/// Whether no bracket is closed that is not open.
fn closes(text: &str) -> bool {
    let mut open = 0i32;
    text.chars().all(|c| {
        open += i32::from(c == '(') - i32::from(c == ')');
        open >= 0
    })
}

/// An integer constant.
pub fn integer(v: i64) -> String {
    match v {
        -2_147_483_648 => "(-2147483647 - 1)".into(),
        v if v < 0 => format!("({v})"),
        v => v.to_string(),
    }
}

/// A float constant that reads back as the same number.
pub fn float(v: f32) -> String {
    match v {
        f32::NEG_INFINITY => "(-1.0f / 0.0f)".into(),
        v if v.is_sign_negative() => format!("({v:?}f)"),
        v => format!("{v:?}f"),
    }
}
