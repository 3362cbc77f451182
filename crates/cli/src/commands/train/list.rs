//! The built-in recipes.

use crate::Global;
use crate::text::{Table, bytes, count, print_json};
use anyhow::{Context, Result};
use onebit_train::network::{Network, NodeOp};
use onebit_train::recipe::Recipe;
use onebit_train::recipes;
use serde::Serialize;

#[derive(Serialize)]
struct List {
    recipes: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    about: String,
    data: String,
    /// Rows, columns and channels.
    input: [usize; 3],
    classes: usize,
    epochs: usize,
    parameters: u64,
    /// Of all parameters at the bits of their quantisers; a model file is smaller where BatchNorm becomes thresholds.
    bytes: u64,
}

/// Prints them.
pub fn print(global: &Global) -> Result<()> {
    let entries: Result<Vec<Entry>> = recipes::names().into_iter().map(entry).collect();
    let list = List { recipes: entries? };
    if global.json {
        return print_json(&list);
    }
    let mut table = Table::new(&["recipe", "input", ">parameters", ">size", "what it is"]);
    for e in &list.recipes {
        let [h, w, c] = e.input;
        let size = [count(e.parameters), bytes(e.bytes)];
        let [parameters, size] = size;
        table.row(vec![e.name.into(), format!("{h}x{w}x{c}"), parameters, size, e.about.clone()]);
    }
    crate::text::print(&table.render())
}

fn entry(name: &'static str) -> Result<Entry> {
    let text = recipes::text(name).context("a recipe without a text")?;
    let recipe = Recipe::parse(text, &[]).with_context(|| format!("recipe {name}"))?;
    let network = Network::new(&recipe.network).with_context(|| format!("recipe {name}"))?;
    let numbers = |shape: [usize; 4]| shape.iter().product::<usize>() as u64;
    let parameters: u64 = network.params.iter().map(|p| numbers(p.shape)).sum();
    // What quantised weights save.
    let saved = network.nodes.iter().filter_map(|node| match &node.op {
        NodeOp::Linear(linear) if linear.fixed.is_none() => {
            let bits = linear.weights.quant()?.bits;
            Some(numbers(network.params.get(node.params.start)?.shape) * (32 - u64::from(bits)))
        }
        _ => None,
    });
    let bits = 32 * parameters - saved.sum::<u64>();
    Ok(Entry {
        name,
        about: recipe.about,
        data: recipe.data,
        input: recipe.network.input.into(),
        classes: network.classes(),
        epochs: recipe.train.epochs,
        parameters,
        bytes: bits.div_ceil(8),
    })
}
