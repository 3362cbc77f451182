//! Runs a [`Program`] and checks it: no element outside its buffer, no number outside the bounds of its expression.
//! For tests; it is slow.

use super::ir::*;

/// A number of any type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer or a word.
    Int(i64),
    /// A float.
    Float(f32),
}

impl Number {
    fn int(self) -> i64 {
        match self {
            Number::Int(v) => v,
            Number::Float(v) => panic!("{v} is no integer"),
        }
    }
}

/// Runs a program on the bytes of an input and returns its scores. The scratch is as `scratch` says before.
///
/// # Panics
/// When the program does what it must not do.
pub fn run(program: &Program, input: &[u8], scratch: u8) -> Vec<Number> {
    let mut machine = Machine {
        program,
        memory: program.buffers.iter().map(|b| vec![0x5A; b.len * b.kind.bytes()]).collect(),
        scratch: vec![scratch; program.scratch],
        locals: Vec::new(),
    };
    for (b, buffer) in program.buffers.iter().enumerate() {
        if buffer.place == Place::Input {
            assert_eq!(input.len(), buffer.len * buffer.kind.bytes(), "the input has the wrong length");
            machine.memory[b] = input.to_vec();
        }
    }
    machine.call(program.functions.len() - 1, Vec::new());
    let scores = program.buffers.iter().position(|b| b.place == Place::Scores).expect("a program has scores");
    (0..program.buffers[scores].len).map(|i| machine.load(scores, i as i64)).collect()
}

struct Machine<'p> {
    program: &'p Program,
    /// Of buffers that are not in the scratch.
    memory: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    /// Of the functions that run.
    locals: Vec<Vec<Option<Number>>>,
}

impl Machine<'_> {
    fn call(&mut self, function: FunctionId, args: Vec<Number>) {
        let f = &self.program.functions[function];
        assert_eq!(args.len(), f.params, "{}", f.name);
        let mut locals: Vec<Option<Number>> = args.into_iter().map(Some).collect();
        locals.resize(f.locals.len(), None);
        for (value, local) in locals.iter().zip(&f.locals).take(f.params) {
            let v = value.map_or(0, Number::int);
            assert!((local.lo..=local.hi).contains(&v), "{}: {} = {v}", f.name, local.name);
        }
        for array in &f.arrays {
            self.memory[*array].fill(0xA5);
        }
        self.locals.push(locals);
        self.block(f, &f.body);
        self.locals.pop();
    }
    fn set(&mut self, f: &Function, var: Var, value: Number) {
        let local = &f.locals[var];
        if let (Number::Int(v), Ty::Int) = (value, local.ty) {
            assert!(
                (local.lo..=local.hi).contains(&v),
                "{}: {} = {v} of {}..{}",
                f.name,
                local.name,
                local.lo,
                local.hi
            );
        }
        self.locals.last_mut().expect("a function runs")[var] = Some(value);
    }
    fn block(&mut self, f: &Function, block: &[Stmt]) {
        for stmt in block {
            match stmt {
                Stmt::Let(var, value) | Stmt::Set(var, value) => {
                    let value = self.value(value);
                    self.set(f, *var, value);
                }
                Stmt::Store(buffer, index, value) => {
                    let (index, value) = (self.value(index).int(), self.value(value));
                    self.store(*buffer, index, value);
                }
                Stmt::For(var, count, body) => {
                    for i in 0..*count {
                        self.set(f, *var, Number::Int(i as i64));
                        self.block(f, body);
                    }
                }
                Stmt::If(condition, yes, no) => {
                    let branch = if self.value(condition).int() != 0 { yes } else { no };
                    self.block(f, branch);
                }
                Stmt::While(condition, body) => {
                    while self.value(condition).int() != 0 {
                        self.block(f, body);
                    }
                }
                Stmt::Call(function, args) => {
                    let args = args.iter().map(|a| self.value(a)).collect();
                    self.call(*function, args);
                }
            }
        }
    }
    fn place(&mut self, buffer: BufferId, index: i64) -> (&mut [u8], Kind) {
        let b = &self.program.buffers[buffer];
        assert!((0..b.len as i64).contains(&index), "element {index} of {} of {}", b.name, b.len);
        let (at, size) = (index as usize * b.kind.bytes(), b.kind.bytes());
        let bytes = match b.place {
            Place::Scratch(offset) => &mut self.scratch[offset + at..][..size],
            _ => &mut self.memory[buffer][at..][..size],
        };
        (bytes, b.kind)
    }
    fn load(&mut self, buffer: BufferId, index: i64) -> Number {
        let (bytes, kind) = self.place(buffer, index);
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        let v = u32::from_le_bytes(four);
        match kind {
            Kind::F32 => Number::Float(f32::from_bits(v)),
            Kind::I8 => Number::Int(i64::from(v as i8)),
            Kind::I16 => Number::Int(i64::from(v as i16)),
            Kind::I32 => Number::Int(i64::from(v as i32)),
            _ => Number::Int(i64::from(v)),
        }
    }
    fn store(&mut self, buffer: BufferId, index: i64, value: Number) {
        let name = &self.program.buffers[buffer].name;
        let (bytes, kind) = self.place(buffer, index);
        let v = match (kind, value) {
            (Kind::F32, Number::Float(v)) => v.to_bits(),
            (Kind::F32, _) => panic!("an integer is written to {name}, which holds floats"),
            (_, value) => {
                let (v, (lo, hi)) = (value.int(), kind.bounds());
                assert!((lo..=hi).contains(&v), "{v} is written to {name} of {kind:?}");
                v as u32
            }
        };
        let size = bytes.len();
        bytes.copy_from_slice(&v.to_le_bytes()[..size]);
    }
    fn value(&mut self, e: &Expr) -> Number {
        let value = match &*e.node {
            Node::Int(v) => Number::Int(*v),
            Node::Float(v) => Number::Float(*v),
            Node::Var(v) => self.locals.last().expect("a function runs")[*v].expect("it was set"),
            Node::Load(buffer, index) => {
                let index = self.value(index).int();
                self.load(*buffer, index)
            }
            Node::Table(table, index) => {
                let (index, table) = (self.value(index).int(), &self.program.tables[*table]);
                assert!((0..table.len() as i64).contains(&index), "element {index} of {}", table.name);
                match &table.data {
                    Constants::Int(v) => Number::Int(v[index as usize]),
                    Constants::Float(v) => Number::Float(v[index as usize]),
                }
            }
            Node::Binary(op, a, b) => {
                let (a, b, ty) = (self.value(a), self.value(b), a.ty);
                self.binary(*op, a, b, ty)
            }
            Node::Select(condition, yes, no) => {
                let yes = if self.value(condition).int() != 0 { yes } else { no };
                self.value(yes)
            }
            Node::Convert(from) => match (self.value(from), e.ty) {
                (Number::Int(v), Ty::Float) => Number::Float(v as f32),
                (Number::Int(v), Ty::Word) => Number::Int(v & self.program.word_max()),
                (value, _) => value,
            },
            Node::Mismatches { buffer, table, from, words, mask } => {
                let from = self.value(from).int();
                let mut count = 0;
                for i in 0..*words as i64 {
                    let a = self.load(*buffer, i).int();
                    let t = &self.program.tables[*table];
                    let Constants::Int(all) = &t.data else { panic!("{} holds no words", t.name) };
                    let m = mask.map_or(-1, |m| self.load(m, i).int());
                    count += ((a ^ all[(from + i) as usize]) & m).count_ones();
                }
                Number::Int(count.into())
            }
        };
        match (value, e.ty) {
            (Number::Int(v), Ty::Int) => {
                assert!((e.lo..=e.hi).contains(&v), "{v} is not within {}..{}: {e:?}", e.lo, e.hi);
                assert!(
                    (i64::from(i32::MIN)..=i64::from(i32::MAX)).contains(&v),
                    "{v} does not fit into 32 bits"
                );
            }
            (Number::Int(v), Ty::Word) => {
                assert!((0..=self.program.word_max()).contains(&v), "{v} is no word")
            }
            (Number::Float(_), Ty::Float) => {}
            _ => panic!("{value:?} is no {:?}", e.ty),
        }
        value
    }
    fn binary(&self, op: Op2, a: Number, b: Number, ty: Ty) -> Number {
        if let (Number::Float(a), Number::Float(b)) = (a, b) {
            return match op {
                Op2::Add => Number::Float(a + b),
                Op2::Sub => Number::Float(a - b),
                Op2::Mul => Number::Float(a * b),
                Op2::Div => Number::Float(a / b),
                Op2::Lt => Number::Int((a < b).into()),
                Op2::Ge => Number::Int((a >= b).into()),
                Op2::Eq => Number::Int((a == b).into()),
                _ => panic!("{op:?} of floats"),
            };
        }
        let (a, b) = (a.int(), b.int());
        if matches!(op, Op2::Shl | Op2::Shr) {
            assert!((0..self.program.word.max(16) as i64).contains(&b), "shift by {b}");
            assert!(a >= 0, "shift of {a}");
        }
        let v = match op {
            Op2::Add => a + b,
            Op2::Sub => a - b,
            Op2::Mul => a * b,
            Op2::Div => a / b,
            Op2::And => a & b,
            Op2::Or => a | b,
            Op2::Xor => a ^ b,
            Op2::Shl => a << b,
            Op2::Shr => a >> b,
            Op2::Lt => i64::from(a < b),
            Op2::Ge => i64::from(a >= b),
            Op2::Eq => i64::from(a == b),
        };
        let compares = matches!(op, Op2::Lt | Op2::Ge | Op2::Eq);
        Number::Int(if ty == Ty::Word && !compares { v & self.program.word_max() } else { v })
    }
}
