//! The recipes that are part of the program.

/// Name, sentence and TOML.
const RECIPES: [(&str, &str, &str); 1] = [(
    "tiny",
    "Two binary dense layers",
    r#"name = "tiny"
about = "Two binary dense layers"
data = "MNIST"

[network]
input = [28, 28, 1]
layers = [
    { dense = { units = 64 } },
    { norm = {} },
    { act = "sign" },
    { dense = { units = 10 } },
    { norm = {} },
]

[train]
epochs = 2
"#,
)];

/// Names of all recipes.
pub fn names() -> Vec<&'static str> {
    RECIPES.iter().map(|r| r.0).collect()
}

/// TOML of a recipe.
pub fn text(name: &str) -> Option<&'static str> {
    RECIPES.iter().find(|r| r.0 == name).map(|r| r.2)
}

/// What a recipe is, in a sentence.
pub fn about(name: &str) -> Option<&'static str> {
    RECIPES.iter().find(|r| r.0 == name).map(|r| r.1)
}
