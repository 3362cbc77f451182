//! Writing functions of the [`ir`](super::ir): names that are unique, blocks by closures, loops that vanish where they run once.

use super::ir::*;

/// A function under construction, and the program that it becomes part of.
pub struct Body<'p> {
    /// The program.
    pub program: &'p mut Program,
    function: Function,
    blocks: Vec<Vec<Stmt>>,
}

impl<'p> Body<'p> {
    /// A function that runs `times` for one input.
    pub fn new(program: &'p mut Program, name: &str, about: String, times: usize) -> Self {
        let taken: Vec<&str> = program.functions.iter().map(|f| f.name.as_str()).collect();
        let name = unique(name, &taken);
        let function = Function {
            name,
            about,
            params: 0,
            locals: Vec::new(),
            arrays: Vec::new(),
            body: Vec::new(),
            times,
        };
        Body { program, function, blocks: vec![Vec::new()] }
    }
    /// Adds the function to the program.
    pub fn finish(mut self) -> FunctionId {
        self.function.body = self.blocks.pop().unwrap_or_default();
        self.program.functions.push(self.function);
        self.program.functions.len() - 1
    }
    /// Name of the function.
    pub fn function_name(&self) -> &str {
        &self.function.name
    }
    fn local(&mut self, name: &str, ty: Ty, (lo, hi): (i64, i64)) -> Var {
        // Printers name the caller's memory.
        let caller = ["input", "scores", "scratch"];
        let taken: Vec<&str> = self.function.locals.iter().map(|l| l.name.as_str()).chain(caller).collect();
        self.function.locals.push(Local { name: unique(name, &taken), ty, lo, hi });
        self.function.locals.len() - 1
    }
    fn read(&self, var: Var) -> Expr {
        Expr::var(var, &self.function.locals[var])
    }
    fn push(&mut self, stmt: Stmt) {
        if let Some(block) = self.blocks.last_mut() {
            block.push(stmt);
        }
    }
    fn block(&mut self, f: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        self.blocks.push(Vec::new());
        f(self);
        self.blocks.pop().unwrap_or_default()
    }

    /// A parameter in `lo..=hi`; all before the first local.
    pub fn param(&mut self, name: &str, lo: i64, hi: i64) -> Expr {
        let var = self.local(name, Ty::Int, (lo, hi));
        self.function.params = var + 1;
        self.read(var)
    }
    /// A name for a value that does not change; constants and names stay what they are.
    pub fn name(&mut self, name: &str, value: Expr) -> Expr {
        if matches!(*value.node, Node::Int(_) | Node::Float(_) | Node::Var(_)) {
            return value;
        }
        self.variable(name, value)
    }
    /// A local that changes, but stays within the bounds of its first value.
    pub fn variable(&mut self, name: &str, value: Expr) -> Expr {
        let bounds = if value.ty == Ty::Word { (0, self.program.word_max()) } else { (value.lo, value.hi) };
        let var = self.local(name, value.ty, bounds);
        self.push(Stmt::Let(var, value));
        self.read(var)
    }
    /// An integer that changes within `lo..=hi`.
    pub fn counter(&mut self, name: &str, value: Expr, lo: i64, hi: i64) -> Expr {
        let var = self.local(name, Ty::Int, (lo.min(value.lo), hi.max(value.hi)));
        self.push(Stmt::Let(var, value));
        self.read(var)
    }
    /// Changes a local.
    pub fn set(&mut self, variable: &Expr, value: Expr) {
        match *variable.node {
            Node::Var(v) => self.push(Stmt::Set(v, value)),
            _ => debug_assert!(false, "only locals change"),
        }
    }
    /// A loop over `0..count`; without a loop where it runs once.
    pub fn repeat(&mut self, name: &str, count: usize, f: impl FnOnce(&mut Self, Expr)) {
        if count == 1 {
            return f(self, Expr::int(0));
        }
        let var = self.local(name, Ty::Int, (0, count as i64 - 1));
        let i = self.read(var);
        let body = self.block(|b| f(b, i));
        self.push(Stmt::For(var, count, body));
    }
    /// Runs `f` where the condition holds.
    pub fn when(&mut self, condition: Expr, f: impl FnOnce(&mut Self)) {
        self.either(condition, f, |_| {});
    }
    /// Runs `yes` where the condition holds, else `no`.
    pub fn either(&mut self, condition: Expr, yes: impl FnOnce(&mut Self), no: impl FnOnce(&mut Self)) {
        match condition.constant() {
            Some(0) => no(self),
            Some(_) => yes(self),
            None => {
                let yes = self.block(yes);
                let no = self.block(no);
                self.push(Stmt::If(condition, yes, no));
            }
        }
    }
    /// Loops while the condition holds.
    pub fn while_(&mut self, condition: Expr, f: impl FnOnce(&mut Self)) {
        let body = self.block(f);
        self.push(Stmt::While(condition, body));
    }
    /// Runs a function.
    pub fn call(&mut self, function: FunctionId, args: Vec<Expr>) {
        self.push(Stmt::Call(function, args));
    }
    /// An array on the stack.
    pub fn array(&mut self, name: &str, kind: Kind, len: usize) -> BufferId {
        let id = self.program.buffer(&format!("{}_{name}", self.function.name), Place::Local, kind, len);
        self.function.arrays.push(id);
        id
    }
    /// Writes an element.
    pub fn store(&mut self, buffer: BufferId, index: Expr, value: Expr) {
        self.push(Stmt::Store(buffer, index, value));
    }
    /// Reads an element as a number.
    pub fn load(&self, buffer: BufferId, index: Expr) -> Expr {
        let kind = self.program.buffers[buffer].kind;
        let ty = if kind == Kind::F32 { Ty::Float } else { Ty::Int };
        Expr::element(Node::Load(buffer, index), ty, kind.bounds())
    }
    /// Reads an element as bits.
    pub fn load_word(&self, buffer: BufferId, index: Expr) -> Expr {
        let kind = self.program.buffers[buffer].kind;
        Expr::element(Node::Load(buffer, index), Ty::Word, kind.bounds())
    }
    /// Reads a constant as a number.
    pub fn constant(&self, table: TableId, index: Expr) -> Expr {
        let t = &self.program.tables[table];
        let (ty, bounds) = match &t.data {
            Constants::Float(_) => (Ty::Float, (0, 0)),
            Constants::Int(v) => {
                let low = v.iter().copied().min().unwrap_or(0);
                (Ty::Int, (low, v.iter().copied().max().unwrap_or(0)))
            }
        };
        Expr::element(Node::Table(table, index), ty, bounds)
    }
    /// Reads a constant as bits.
    pub fn constant_word(&self, table: TableId, index: Expr) -> Expr {
        Expr::element(Node::Table(table, index), Ty::Word, self.program.tables[table].kind.bounds())
    }
    /// Counts bits that differ, see [`Node::Mismatches`].
    pub fn mismatches(
        &self,
        buffer: BufferId,
        table: TableId,
        from: Expr,
        words: usize,
        mask: Option<BufferId>,
    ) -> Expr {
        let most = (words * self.program.word) as i64;
        Expr::element(Node::Mismatches { buffer, table, from, words, mask }, Ty::Int, (0, most))
    }
    /// A number as another type.
    pub fn convert(&self, value: Expr, ty: Ty) -> Expr {
        value.to(ty, self.program.word_max())
    }
}

impl Program {
    /// Adds memory.
    pub fn buffer(&mut self, name: &str, place: Place, kind: Kind, len: usize) -> BufferId {
        let taken: Vec<&str> = self.buffers.iter().map(|b| b.name.as_str()).collect();
        let name = unique(name, &taken);
        self.buffers.push(Buffer { name, place, kind, len });
        self.buffers.len() - 1
    }
    /// Adds constants, in the smallest kind that holds them.
    pub fn integers(&mut self, name: &str, values: Vec<i64>) -> TableId {
        let (lo, hi) = values.iter().fold((0, 0), |(lo, hi), v| (*v.min(&lo), *v.max(&hi)));
        let kind = Kind::holding(lo, hi).unwrap_or(Kind::I32);
        self.table(name, kind, Constants::Int(values))
    }
    /// Adds constants.
    pub fn table(&mut self, name: &str, kind: Kind, data: Constants) -> TableId {
        // The same constants twice are one table.
        if let Some(same) = self.tables.iter().position(|t| t.kind == kind && t.data == data) {
            return same;
        }
        let taken: Vec<&str> = self.tables.iter().map(|t| t.name.as_str()).collect();
        let name = unique(name, &taken);
        self.tables.push(Table { name, kind, data });
        self.tables.len() - 1
    }
}

/// `name`, or `name_2`, `name_3`, ... where that is taken.
fn unique(name: &str, taken: &[&str]) -> String {
    if !taken.contains(&name) {
        return name.into();
    }
    (2..).map(|i| format!("{name}_{i}")).find(|n| !taken.contains(&n.as_str())).unwrap_or_default()
}
