//! Walks through the nodes of an ONNX graph.

use super::budget::Budget;
use super::evaluate::{evaluate_within, quantize_linear};
use super::operators::CHANNELS_LAST;
use super::proto::{self, Dim, Graph, Node, Tensor, ValueInfo};
use super::rewrite::{Aliases, uses};
use super::tensors::External;
use crate::driver::map::map;
use crate::error::{Error, Result};
use crate::graph;
use crate::import::array::Array;
use crate::import::build::{self, choose_classes, preprocessing};
use crate::import::lower::{Channels, Lowerer, Split, Var};
use crate::import::{ImportOptions, Imported, Importer};
use crate::meta::{Layout, Meta, Preprocessing};
use onebit_core::types::DType;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

/// The importer.
pub struct Onnx;

impl Importer for Onnx {
    fn name(&self) -> &'static str {
        "onnx"
    }
    fn detects(&self, path: &Path) -> bool {
        let mut first = [0; 64];
        let read = File::open(path).and_then(|mut f| f.read(&mut first));
        path.is_file() && read.is_ok_and(|n| proto::looks_like(&first[..n], path))
    }
    fn import(&self, path: &Path, options: &ImportOptions) -> Result<Imported> {
        let file = map(path).map_err(Error::io(path))?;
        let model = proto::read(&file).map_err(|e| match proto::looks_like(&file, Path::new("")) {
            true => e,
            // A text or another format that is called so fails somewhere inside.
            false => Error::Model("is no ONNX file".into()),
        });
        let imported = model.and_then(|m| import(&m, External::beside(path), path, options));
        imported.map_err(|e| e.in_file(path))
    }
}

/// A value while the graph is walked through.
#[derive(Clone)]
pub(super) enum Wire {
    /// Known now.
    Constant(Rc<Array>),
    /// Known when the network runs.
    Var(Var),
    /// The same with more axes than a map has, until a reshape joins some of them again.
    Split(Rc<Split>),
    /// The same with the first axis after the batch joined to it, as `Dense` of Keras has values of several axes.
    Rows(Var),
}

/// The state of the walk.
pub(super) struct Walk<'a> {
    pub lowerer: Lowerer,
    pub notes: Vec<String>,
    /// Version of the standard operators.
    pub opset: i64,
    /// Length of the first axis of the input.
    pub batch: usize,
    /// Length of the file.
    bytes: usize,
    /// Bytes of its files of weights that are open.
    files: usize,
    budget: Budget,
    external: External,
    initializers: HashMap<&'a str, &'a Tensor<'a>>,
    aliases: Aliases<'a>,
    /// ONNX's number of the type of each constant that nodes make.
    types: HashMap<&'a str, i32>,
    /// How often each value will still be read.
    uses: HashMap<&'a str, usize>,
    values: HashMap<&'a str, Wire>,
}

fn import(
    model: &proto::Model<'_>,
    external: External,
    path: &Path,
    options: &ImportOptions,
) -> Result<Imported> {
    let graph = &model.graph;
    if model.functions > 0 {
        return Err(Error::Model(format!(
            "contains {} functions of its own; export it again with functions inlined \
             (onnx.inliner.inline_local_functions)",
            model.functions
        )));
    }
    refuse_by_kind(graph)?;
    let standard = |domain: &str| matches!(domain, "" | "ai.onnx");
    let opset = model.opsets.iter().filter(|(d, _)| standard(d)).map(|o| o.1).max().unwrap_or(1);
    let aliases = Aliases::of(graph);
    let output = graph.outputs.first().ok_or_else(|| Error::Model("has no output".into()))?.name;
    let uses = uses(graph, &aliases, output);
    let mut notes = Vec::new();
    if graph.outputs.len() > 1 {
        notes
            .push(format!("The source has {} outputs; the first, '{output}', is used.", graph.outputs.len()));
    }
    let initializers: HashMap<&str, &Tensor<'_>> = graph.initializers.iter().map(|t| (t.name, t)).collect();
    let mut inputs =
        graph.inputs.iter().filter(|i| !initializers.contains_key(i.name) && uses.contains_key(i.name));
    let input =
        inputs.next().ok_or_else(|| Error::Model("has no input that its output depends on".into()))?;
    if let Some(second) = inputs.next() {
        return Err(Error::Model(format!(
            "has several inputs ('{}', '{}'); networks of one are imported",
            input.name, second.name
        )));
    }
    let channels = channels_of(graph, &aliases, input.name);
    let (batch, dims) = input_dims(input, channels, options)?;
    let layout = if channels == Channels::First { Layout::Nchw } else { Layout::Nhwc };
    let qonnx = graph.nodes.iter().any(|n| !standard(n.domain));
    let source = format!("{} of {}", if qonnx { "QONNX" } else { "ONNX" }, model.producer);
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let meta = Meta { name: build::name(options, &stem), source, ..Meta::default() };
    let dtype = match input.elem_type {
        2 => DType::U8,
        3 => DType::I8,
        _ => DType::F32,
    };
    let (mut lowerer, var) = Lowerer::new(&dims, channels, dtype, meta)?;
    lowerer.allow(model.bytes);
    let shape = lowerer.graph().ty(graph::Graph::INPUT).shape;
    let values = HashMap::from([(input.name, Wire::Var(var))]);
    let (bytes, budget, types) = (model.bytes, Budget::default(), HashMap::new());
    let mut walk = Walk {
        lowerer,
        notes,
        opset,
        batch,
        bytes,
        files: 0,
        budget,
        external,
        initializers,
        aliases,
        types,
        uses,
        values,
    };
    for node in &graph.nodes {
        if node.outputs.iter().any(|o| walk.uses.contains_key(o)) {
            walk.node(node)?;
        }
    }
    let Wire::Var(result) = walk.wire(output).ok_or_else(|| nothing_makes(output))?? else {
        return Err(Error::Model("its output does not depend on its input".into()));
    };
    let mut graph = walk.lowerer.finish(result, channels)?;
    let mut notes = walk.notes;
    graph.meta.input = match model.metadata.iter().find(|(key, _)| *key == "onebit.input") {
        // What this program has exported says how pixels become its input.
        Some((_, json)) if options.mean.is_empty() && options.std.is_empty() => serde_json::from_str(json)
            .map(|input| Preprocessing { layout, ..input })
            .map_err(|e| Error::Model(format!("has a wrong 'onebit.input' in its metadata: {e}")))?,
        _ => preprocessing(options, shape, layout, &mut notes)?,
    };
    choose_classes(&mut graph, options)?;
    Ok(Imported { graph, notes, format: "onnx" })
}

fn nothing_makes(name: &str) -> Error {
    Error::Model(format!("nothing makes the value '{name}' before it is read"))
}

/// Networks of a kind that is not for us are told from convolutional ones at once, in one sentence.
fn refuse_by_kind(graph: &Graph<'_>) -> Result<()> {
    for node in &graph.nodes {
        let kind = match node.op {
            "LSTM" | "GRU" | "RNN" | "QuantLSTMCell" | "Scan" | "Loop" => "makes it a recurrent network",
            "Attention"
            | "MultiHeadAttention"
            | "GroupQueryAttention"
            | "RotaryEmbedding"
            | "MatMulNBits"
            | "LayerNormalization"
            | "SkipLayerNormalization"
            | "SimplifiedLayerNormalization"
            | "RMSNormalization" => "makes it a transformer or language model",
            "If" => "makes what is computed depend on the input",
            "NonMaxSuppression" | "NonZero" | "TopK" | "Unique" | "Compress" => {
                "makes shapes depend on the input"
            }
            _ => continue,
        };
        return Err(Error::layer(node.label(), format!("({}) {kind}, which is not supported", node.op)));
    }
    Ok(())
}

/// Largest batch that a file may fix.
const MAX_BATCH: usize = 1 << 20;

/// Length of the batch axis (1 if it is open) and of the others.
fn input_dims(
    input: &ValueInfo<'_>,
    channels: Channels,
    options: &ImportOptions,
) -> Result<(usize, Vec<usize>)> {
    let unknown = || {
        Error::Model(format!("the size of its input '{}' is open; give it with --input HxWxC", input.name))
    };
    let first = channels == Channels::First;
    let given = options.input.map(|[h, w, c]| if first { vec![c, h, w] } else { vec![h, w, c] });
    let Some(dims) = input.dims.as_ref().filter(|d| !d.is_empty()) else {
        return Ok((1, given.ok_or_else(unknown)?));
    };
    let fixed = |dim: &Dim<'_>| match dim {
        Dim::Fixed(n) => usize::try_from(*n).ok().filter(|n| *n > 0),
        _ => None,
    };
    let batch = fixed(&dims[0]).unwrap_or(1);
    if batch > MAX_BATCH {
        return Err(Error::Model(format!(
            "has a batch of {batch} samples; export it with an open batch axis"
        )));
    }
    // One axis: there is no batch.
    if dims.len() == 1 {
        return Ok((1, vec![fixed(&dims[0]).ok_or_else(unknown)?]));
    }
    let given = given.filter(|g| g.len() == dims.len() - 1);
    let known = |(i, dim): (usize, &Dim<'_>)| fixed(dim).or(given.as_ref().map(|g| g[i]));
    let known: Option<Vec<usize>> = dims[1..].iter().enumerate().map(known).collect();
    if let (Some(given), Some(known)) = (&given, &known)
        && given != known
    {
        let order = if first { "channels, rows, columns" } else { "rows, columns, channels" };
        return Err(Error::Input(format!(
            "--input says {given:?} ({order}), but in the file it is {known:?}; say what fits, or leave it out"
        )));
    }
    Ok((batch, known.ok_or_else(unknown)?))
}

/// Whether maps that enter the network have their channels first (as all operators do) or last (as Keras has it, then
/// the first thing that happens to them is a transposition).
fn channels_of<'a>(graph: &Graph<'a>, aliases: &Aliases<'a>, input: &'a str) -> Channels {
    let mut reached = HashSet::from([input]);
    for node in &graph.nodes {
        if !node.inputs.iter().any(|i| reached.contains(aliases.resolve(i))) {
            continue;
        }
        match node.op {
            _ if node.domain == CHANNELS_LAST => return Channels::Last,
            "MaxPoolNHWC" => return Channels::Last,
            "Transpose" => {
                let last = matches!(node.ints("perm"), Ok(Some([0, 3, 1, 2] | [0, 2, 1])));
                return if last { Channels::Last } else { Channels::First };
            }
            "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" | "GlobalAveragePool" | "Reshape"
            | "Flatten" | "BatchNormalization" => return Channels::First,
            _ => reached.extend(&node.outputs),
        }
    }
    Channels::First
}

impl<'a> Walk<'a> {
    /// The value called `name`, or `None` when nothing makes it.
    fn wire(&self, name: &'a str) -> Option<Result<Wire>> {
        let name = self.aliases.resolve(name);
        if let Some(wire) = self.values.get(name) {
            return Some(Ok(wire.clone()));
        }
        let tensor = self.initializers.get(name)?;
        Some(tensor.to_array(&self.external).map(|a| Wire::Constant(Rc::new(a))))
    }

    /// ONNX's number of the type of the constant called `name`.
    pub(super) fn element_type(&self, name: &'a str) -> Option<i32> {
        let name = self.aliases.resolve(name);
        self.initializers.get(name).map(|t| t.data_type).or_else(|| self.types.get(name).copied())
    }

    /// ONNX's number of the type of what a node makes of constants, where it is known.
    fn type_made(&self, node: &Node<'a>) -> Result<Option<i32>> {
        Ok(match node.op {
            "Constant" => node.tensor("value")?.map(|t| t.data_type),
            "Cast" => i32::try_from(node.int("to", 1)?).ok(),
            _ => node.inputs.first().and_then(|i| self.element_type(i)),
        })
    }

    fn node(&mut self, node: &'a Node<'a>) -> Result<()> {
        let mut wires = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            let at = |e: Error| Error::layer(node.label(), e.to_string());
            let wire = || self.wire(name).ok_or_else(|| nothing_makes(name)).and_then(|w| w).map_err(at);
            wires.push(if name.is_empty() { None } else { Some(wire()?) });
        }
        // Files of weights count once they are open.
        let files = self.external.bytes();
        self.lowerer.allow(files - self.files);
        self.files = files;
        // What was read for the last time is freed before more is made.
        for name in node.inputs.iter().filter(|n| !n.is_empty()) {
            let name = self.aliases.resolve(name);
            if let Some(left) = self.uses.get_mut(name) {
                *left = left.saturating_sub(1);
                if *left == 0
                    && let Some(Wire::Constant(a)) = self.values.remove(name)
                {
                    self.budget.free(a.len());
                }
            }
        }
        let made = self.evaluated(node, wires)?;
        for (name, wire) in node.outputs.iter().zip(made) {
            if self.uses.contains_key(name) {
                if let Wire::Constant(a) = &wire {
                    self.budget.keep(a.len());
                }
                self.values.insert(name, wire);
            }
        }
        Ok(())
    }

    /// The results of a node: computed if all inputs are constants, else made part of the graph.
    fn evaluated(&mut self, node: &'a Node<'a>, wires: Vec<Option<Wire>>) -> Result<Vec<Wire>> {
        let constants: Option<Vec<Option<Rc<Array>>>> = wires
            .iter()
            .map(|w| match w {
                None => Some(None),
                Some(Wire::Constant(a)) => Some(Some(a.clone())),
                Some(Wire::Var(_) | Wire::Split(_) | Wire::Rows(_)) => None,
            })
            .collect();
        let Some(constants) = constants else { return self.operator(node, wires) };
        let most = self.budget.room(self.bytes.saturating_add(self.external.bytes()));
        let made = match (node.op, constants.as_slice()) {
            // The type of the zero point is that of the codes, and arrays do not keep it.
            ("QuantizeLinear", [Some(x), Some(scale), Some(zero)]) => {
                let kind = node.inputs.get(2).and_then(|name| self.element_type(name)).unwrap_or(0);
                quantize_linear(node, x, scale, Some(zero), kind)
                    .map_err(|e| Error::layer(node.label(), e.to_string()))?
                    .map(|codes| vec![codes])
            }
            _ => evaluate_within(most, node.op, node.domain, self.opset, node, &constants)?,
        };
        let unknown =
            || Error::layer(node.label(), format!("({}) is an operator that is not supported", node.op));
        let made = made.ok_or_else(unknown)?;
        if let (Some(kind), Some(out)) = (self.type_made(node)?, node.outputs.first()) {
            self.types.insert(out, kind);
        }
        made.iter().for_each(|a| self.budget.make(a.len()));
        Ok(made.into_iter().map(|a| Wire::Constant(Rc::new(a))).collect())
    }
}
