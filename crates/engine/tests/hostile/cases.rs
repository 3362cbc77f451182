//! The hostile files: each is a small valid model with one thing wrong.

use serde_json::{Value, json};

/// A file to be refused, and words that the refusal must contain.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub says: &'static str,
}

/// A model file in parts.
#[derive(Clone)]
pub struct Draft {
    pub document: Value,
    /// Name, type, shape, bytes.
    pub tensors: Vec<(String, &'static str, Vec<u64>, Vec<u8>)>,
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn tensor(dtype: &str, rows: u64, cols: u64) -> Value {
    json!({"dtype": dtype, "rows": rows, "cols": cols})
}

/// A vector of 4 floats, its signs, a binary layer to bits and a ternary layer to floats.
pub fn valid() -> Draft {
    let document = json!({
        "version": 1,
        "input": {"shape": [1, 1, 4], "dtype": "f32"},
        "meta": {"name": "small", "classes": ["cat", "dog"], "input": {"mean": [0.5], "std": [0.25]}},
        "nodes": [
            {"name": "sign", "op": "sign", "inputs": ["input"], "zero": "positive"},
            {"name": "fc1", "op": "b_dense", "inputs": ["sign"], "output": "bit", "tensors": {
                "weight": tensor("bit", 3, 4), "thresholds": tensor("i32", 3, 1), "flips": tensor("bit", 1, 3)}},
            {"name": "fc2", "op": "b_dense", "inputs": ["fc1"], "output": "f32", "tensors": {
                "weight": tensor("ternary", 2, 3), "scale": tensor("f32", 1, 2)}},
        ]
    });
    let t = |name: &str, dtype, shape: &[u64], bytes| (name.to_owned(), dtype, shape.to_vec(), bytes);
    Draft {
        document,
        tensors: vec![
            t("fc1.weight", "U64", &[3, 1, 1], words(&[0b0110, 0b1011, 0b0001])),
            t("fc1.flips", "U64", &[1, 1, 1], words(&[0b010])),
            // Plane 1 is the sign: 0b001 over 0b001 is -1, 0b000 over 0b100 is +1.
            t("fc2.weight", "U64", &[2, 2, 1], words(&[0b101, 0b001, 0b111, 0b010])),
            t("fc1.thresholds", "I32", &[3, 1], [0i32, -2, 2].iter().flat_map(|v| v.to_le_bytes()).collect()),
            t("fc2.scale", "F32", &[1, 2], floats(&[0.5, -1.5])),
        ],
    }
}

/// A draft with one node and no tensors.
fn one_node(shape: [u64; 3], dtype: &str, node: Value) -> Draft {
    let mut node = node;
    node["name"] = json!("n");
    if node["inputs"].is_null() {
        node["inputs"] = json!(["input"]);
    }
    let document =
        json!({"version": 1, "input": {"shape": shape, "dtype": dtype}, "meta": {}, "nodes": [node]});
    Draft { document, tensors: Vec::new() }
}

impl Draft {
    /// The header of the container.
    pub fn header(&self) -> Value {
        let mut header = json!({"__metadata__": {"onebit": self.document.to_string()}});
        let mut at = 0;
        for (name, dtype, shape, bytes) in &self.tensors {
            let end = at + bytes.len();
            header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
            at = end;
        }
        header
    }
    /// The file, with another header.
    pub fn with_header(&self, header: &str) -> Vec<u8> {
        let length = header.len().next_multiple_of(8);
        let mut file = (length as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.resize(8 + length, b' ');
        self.tensors.iter().for_each(|(.., bytes)| file.extend_from_slice(bytes));
        file
    }
    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        self.with_header(&self.header().to_string())
    }
    fn node(&mut self, i: usize) -> &mut Value {
        &mut self.document["nodes"][i]
    }
    fn stored(&mut self, name: &str) -> &mut (String, &'static str, Vec<u64>, Vec<u8>) {
        self.tensors.iter_mut().find(|t| t.0 == name).unwrap()
    }
}

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases = container();
    cases.extend(document());
    cases.extend(network());
    cases.extend(constants());
    cases
}

fn edited(name: &'static str, says: &'static str, edit: impl FnOnce(&mut Draft)) -> Case {
    let mut draft = valid();
    edit(&mut draft);
    Case { name, bytes: draft.bytes(), says }
}

fn container() -> Vec<Case> {
    let good = valid();
    let file = good.bytes();
    let header = good.header();
    let case = |name, says, bytes| Case { name, bytes, says };
    let length = |n: u64| [&n.to_le_bytes()[..], &file[8..]].concat();
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        edit(&mut header);
        good.with_header(&header.to_string())
    };
    let text = header.to_string();
    let data: usize = good.tensors.iter().map(|t| t.3.len()).sum();
    vec![
        case("empty", "only 0 bytes", vec![]),
        case("seven-bytes", "only 7 bytes", file[..7].into()),
        case("only-a-length", "is cut off", file[..8].into()),
        case("cut-in-the-header", "is cut off", file[..200].into()),
        case("cut-before-the-tensors", "its header describes", file[..file.len() - data].into()),
        case("cut-in-the-tensors", "its header describes", file[..file.len() - 5].into()),
        case("trailing-bytes", "its header describes", [&file[..], &[0; 3]].concat()),
        case("header-of-2-to-the-60", "would have 1152921504606846976 bytes", length(1 << 60)),
        case("header-of-all-ones", "would have 18446744073709551615 bytes", length(u64::MAX)),
        case("header-beyond-the-file", "is cut off", length(file.len() as u64)),
        case("header-of-nothing", "not valid", length(0)),
        case("not-json", "not valid", good.with_header("P5 28 28 255")),
        case("not-text", "no text", [&8u64.to_le_bytes()[..], &[0xff; 8]].concat()),
        case("not-a-map", "not valid", good.with_header("[1, 2, 3]")),
        case("deep", "not valid", good.with_header(&"[".repeat(10_000))),
        case("deep-tensor", "not valid", good.with_header(&format!("{{\"a\":{}", "{\"a\":".repeat(10_000)))),
        case(
            "deep-metadata",
            "not valid",
            good.with_header(&format!("{{\"__metadata__\":{{\"x\":{}", "[".repeat(10_000))),
        ),
        case("not-onebit", "not a onebit model", with(&|h| h["__metadata__"] = json!({"format": "pt"}))),
        case("no-metadata", "not a onebit model", {
            with(&|h| drop(h.as_object_mut().unwrap().remove("__metadata__")))
        }),
        case(
            "metadata-is-no-text",
            "not valid",
            with(&|h| h["__metadata__"]["onebit"] = json!({"version": 1})),
        ),
        case("overlap", "gap or an overlap", with(&|h| h["fc1.flips"]["data_offsets"] = json!([16, 24]))),
        case(
            "same-bytes-twice",
            "gap or an overlap",
            with(&|h| h["fc1.flips"]["data_offsets"] = json!([0, 8])),
        ),
        case(
            "gap",
            "gap or an overlap",
            with(&|h| {
                h["fc2.scale"]["data_offsets"] = json!([data - 4, data]);
            }),
        ),
        case(
            "offsets-backwards",
            "gap or an overlap",
            with(&|h| h["fc1.flips"]["data_offsets"] = json!([32, 24])),
        ),
        case(
            "offsets-beyond-the-file",
            "does not fit its bytes",
            with(&|h| {
                h["fc2.scale"]["data_offsets"] = json!([data - 8, 1u64 << 60]);
            }),
        ),
        case("offsets-negative", "not valid", with(&|h| h["fc1.flips"]["data_offsets"] = json!([-8, 0]))),
        case("one-offset", "not valid", with(&|h| h["fc1.flips"]["data_offsets"] = json!([24]))),
        case("wrong-count", "does not fit its bytes", with(&|h| h["fc1.weight"]["shape"] = json!([4, 1, 1]))),
        case(
            "shape-2-to-the-40",
            "does not fit its bytes",
            with(&|h| {
                h["fc1.weight"]["shape"] = json!([1u64 << 40, 1, 1]);
            }),
        ),
        case(
            "shape-2-to-the-60",
            "does not fit its bytes",
            with(&|h| {
                h["fc1.weight"]["shape"] = json!([1u64 << 60, 1u64 << 60, 1]);
            }),
        ),
        // 2^61 words are 2^64 bytes, which is 0.
        case(
            "shape-that-wraps",
            "does not fit its bytes",
            with(&|h| {
                h["fc1.weight"]["shape"] = json!([1u64 << 61, 1, 1]);
            }),
        ),
        case(
            "shape-of-many-dimensions",
            "more than 3 elements",
            with(&|h| {
                h["fc1.weight"]["shape"] = json!(vec![1; 5000]);
            }),
        ),
        case("container-type-unknown", "not valid", with(&|h| h["fc2.scale"]["dtype"] = json!("F31"))),
        case(
            "container-type-of-half-floats",
            "not U64, F32 or I32",
            with(&|h| {
                h["fc2.scale"]["dtype"] = json!("F16");
                h["fc2.scale"]["shape"] = json!([1, 4]);
            }),
        ),
        case("container-field-unknown", "not valid", with(&|h| h["fc2.scale"]["stride"] = json!([1, 2]))),
        case("tensor-twice", "the same name", {
            let again = format!("{{\"fc2.scale\":{},", header["fc2.scale"]);
            good.with_header(&text.replacen('{', &again, 1))
        }),
        case("metadata-twice", "the same name", {
            good.with_header(&text.replacen('{', "{\"__metadata__\":{},", 1))
        }),
    ]
}

fn document() -> Vec<Case> {
    let raw = |name, says, text: &str| {
        let draft = Draft { tensors: Vec::new(), ..valid() };
        let header = json!({"__metadata__": {"onebit": text}}).to_string();
        Case { name, bytes: draft.with_header(&header), says }
    };
    let text = valid().document.to_string();
    vec![
        raw("document-empty", "network wrongly", ""),
        raw("document-not-json", "network wrongly", "hello"),
        raw("document-deep", "network wrongly", &"{\"a\":".repeat(10_000)),
        raw(
            "document-deep-list",
            "network wrongly",
            &format!("{{\"version\":1,\"nodes\":{}", "[".repeat(10_000)),
        ),
        raw("document-deep-attribute", "network wrongly", &text.replace("\"positive\"", &"[".repeat(10_000))),
        raw("document-cut", "network wrongly", &text[..text.len() - 2]),
        raw("document-field-twice", "network wrongly", &text.replacen('{', "{\"version\":1,", 1)),
        raw(
            "layer-field-twice",
            "occurs twice",
            &text.replace("\"zero\":", "\"zero\":\"negative\",\"zero\":"),
        ),
        raw("number-out-of-range", "network wrongly", &text.replace("[0.5]", "[1e999]")),
        edited("version-missing", "missing field `version`", |d| {
            d.document.as_object_mut().unwrap().remove("version");
        }),
        edited("version-2", "format version 2", |d| {
            d.document["version"] = json!(2);
            d.document["modules"] = json!([]);
        }),
        edited("version-0", "format version 0", |d| d.document["version"] = json!(0)),
        edited("version-text", "network wrongly", |d| d.document["version"] = json!("1")),
        edited("field-unknown", "unknown field `script`", |d| d.document["script"] = json!("rm")),
        edited("meta-field-unknown", "unknown field", |d| d.document["meta"]["gamma"] = json!(2.2)),
        edited("meta-missing", "missing field `meta`", |d| {
            d.document.as_object_mut().unwrap().remove("meta");
        }),
        edited("meta-control-character", "control character", |d| {
            d.document["meta"]["classes"] = json!(["cat", "\u{1b}[2Jdog\nlayer"]);
        }),
        edited("meta-std-0", "cannot be normalised", |d| d.document["meta"]["input"]["std"] = json!([0.0])),
        edited("meta-mean-infinite", "cannot be normalised", |d| {
            d.document["meta"]["input"]["mean"] = json!([1e300]);
        }),
        edited("meta-mean-of-3-channels", "3 values of mean for 4 channels", |d| {
            d.document["meta"]["input"]["mean"] = json!([0.1, 0.2, 0.3]);
        }),
        edited("meta-resize", "above the limit", |d| {
            d.document["meta"]["input"]["resize"] = json!(1u64 << 40);
        }),
        edited("input-field-unknown", "unknown field", |d| d.document["input"]["layout"] = json!("nchw")),
        edited("input-type-unknown", "unknown number format", |d| {
            d.document["input"]["dtype"] = json!("f64")
        }),
        edited("input-type-of-9-bits", "1 to 8 bit planes", |d| d.document["input"]["dtype"] = json!("u9")),
        edited("input-of-two-dimensions", "network wrongly", |d| {
            d.document["input"]["shape"] = json!([2, 2])
        }),
        edited("input-negative", "network wrongly", |d| d.document["input"]["shape"] = json!([1, 1, -4])),
        edited("input-of-nothing", "impossible shape", |d| d.document["input"]["shape"] = json!([1, 0, 4])),
        edited("input-2-to-the-60", "impossible shape", |d| {
            d.document["input"]["shape"] = json!([1u64 << 60, 1u64 << 60, 4]);
        }),
        edited("input-that-wraps", "impossible shape", |d| {
            d.document["input"]["shape"] = json!([1u64 << 32, 1u64 << 32, 4]);
        }),
    ]
}

fn network() -> Vec<Case> {
    let window = |op: &str, key: &str, value: Value| {
        let mut node = json!({"op": op, "kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1], "pad": [0, 0, 0, 0],
            "kind": "max", "count_pad": false});
        if !key.is_empty() {
            node[key] = value;
        }
        one_node([5, 5, 2], "f32", node)
    };
    let pool =
        |name, says, key: &str, value| Case { name, bytes: window("pool2d", key, value).bytes(), says };
    let one = |name, says, draft: Draft| Case { name, bytes: draft.bytes(), says };
    let chain = |n: usize, shape: [u64; 3], op: &dyn Fn(usize) -> Value| {
        let mut draft = one_node(shape, "f32", op(0));
        let nodes: Vec<Value> = (0..n)
            .map(|i| {
                let mut node = op(i);
                node["name"] = json!(format!("n{i}"));
                if node["inputs"].is_null() {
                    node["inputs"] = json!([if i == 0 { "input".into() } else { format!("n{}", i - 1) }]);
                }
                node
            })
            .collect();
        draft.document["nodes"] = json!(nodes);
        draft
    };
    let conv = |conv: Value, rows: u64, cols: u64, shape: [u64; 3]| {
        let mut node = json!({"op": "b_conv2d", "kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1],
            "pad": [0, 0, 0, 0], "groups": 1, "pad_value": 0, "output": "i32",
            "tensors": {"weight": tensor("bit", rows, cols)}});
        for (key, value) in conv.as_object().unwrap() {
            node[key] = value.clone();
        }
        let mut draft = one_node(shape, "bit", node);
        let n = cols.div_ceil(64);
        draft.tensors.push(("n.weight".into(), "U64", vec![rows, 1, n], vec![0; (rows * n * 8) as usize]));
        draft
    };
    vec![
        edited("no-layers", "no layers", |d| {
            d.document["nodes"] = json!([]);
            d.tensors.clear();
        }),
        edited("layer-reads-itself", "'fc1' reads 'fc1', which no earlier layer makes", |d| {
            d.node(1)["inputs"] = json!(["fc1"]);
        }),
        edited("layer-reads-a-later-one", "reads 'fc2', which no earlier layer makes", |d| {
            d.node(1)["inputs"] = json!(["fc2"]);
        }),
        edited("layer-reads-nothing", "has 0 inputs", |d| d.node(1)["inputs"] = json!([])),
        edited("layer-reads-two", "has 2 inputs", |d| d.node(1)["inputs"] = json!(["sign", "sign"])),
        edited("layer-reads-what-is-not", "reads 'fc9'", |d| d.node(1)["inputs"] = json!(["fc9"])),
        edited("inputs-by-number", "network wrongly", |d| d.node(1)["inputs"] = json!([0])),
        edited("layer-names-twice", "two layers called 'sign'", |d| {
            let again = d.node(0).clone();
            d.document["nodes"].as_array_mut().unwrap().insert(1, again);
        }),
        edited("layer-called-input", "impossible name 'input'", |d| d.node(0)["name"] = json!("input")),
        edited("layer-without-name", "impossible name ''", |d| d.node(0)["name"] = json!("")),
        edited("layer-name-missing", "missing field `name`", |d| {
            d.node(0).as_object_mut().unwrap().remove("name");
        }),
        edited("layer-name-long", "impossible name", |d| d.node(0)["name"] = json!("x".repeat(300))),
        edited("layer-name-of-lines", "control character", |d| d.node(0)["name"] = json!("a\nb")),
        edited("op-unknown", "layer 'sign' is described wrongly: unknown variant `eval`", |d| {
            d.node(0)["op"] = json!("eval");
        }),
        edited("op-unknown-of-lines", "layer 'sign' is described wrongly", |d| {
            d.node(0)["op"] = json!(format!("a\nb{}", "y".repeat(5000)));
        }),
        edited("op-missing", "missing field `op`", |d| {
            d.node(0).as_object_mut().unwrap().remove("op");
        }),
        edited("op-a-number", "layer 'sign' is described wrongly", |d| d.node(0)["op"] = json!(7)),
        edited("attribute-unknown", "unknown field `threads`", |d| d.node(0)["threads"] = json!(8)),
        edited("attribute-of-another-op", "unknown field `groups`", |d| d.node(1)["groups"] = json!(1)),
        edited("attribute-missing", "missing field `zero`", |d| {
            d.node(0).as_object_mut().unwrap().remove("zero");
        }),
        edited("attribute-of-a-wrong-kind", "layer 'sign' is described wrongly", |d| {
            d.node(0)["zero"] = json!(1)
        }),
        edited("attribute-a-map", "network wrongly", |d| d.node(0)["zero"] = json!({"positive": true})),
        edited("attribute-long", "more than four numbers", |d| d.node(0)["zero"] = json!(vec![1; 2000])),
        edited("attributes-many", "too many attributes", |d| {
            (0..100).for_each(|i| d.node(0)[format!("x{i}")] = json!(i));
        }),
        edited("output-unknown", "1 to 8 bit planes", |d| d.node(1)["output"] = json!("bf16")),
        pool("stride-0", "of 0 or above 65536", "stride", json!([0, 1])),
        pool("stride-huge", "of 0 or above 65536", "stride", json!([1u64 << 40, 1])),
        pool("dilation-huge", "of 0 or above 65536", "dilation", json!([1, u64::MAX])),
        pool("kernel-0", "of 0 or above 65536", "kernel", json!([3, 0])),
        pool("kernel-larger-than-the-map", "does not fit into a 5 x 5 map", "kernel", json!([6, 3])),
        pool("kernel-negative", "is described wrongly", "kernel", json!([-3, 3])),
        pool("kernel-a-fraction", "is described wrongly", "kernel", json!([2.5, 3])),
        pool("kernel-of-three", "is described wrongly", "kernel", json!([3, 3, 3])),
        pool("pad-huge", "of 0 or above 65536", "pad", json!([1u64 << 63, 0, 0, 0])),
        pool("pad-of-two", "is described wrongly", "pad", json!([1, 1])),
        pool("pool-in-the-padding", "wholly in the padding", "pad", json!([60_000, 60_000, 60_000, 60_000])),
        pool("pool-kind-unknown", "unknown variant `median`", "kind", json!("median")),
        one(
            "reshape-that-wraps",
            "cannot make",
            one_node([1, 1, 4], "f32", json!({"op": "reshape", "shape": [1u64 << 32, 1u64 << 32, 4]})),
        ),
        one(
            "transpose-order",
            "none of the axes",
            one_node([2, 3, 4], "f32", json!({"op": "transpose", "order": [0, 3, 1]})),
        ),
        one(
            "slice-that-wraps",
            "cannot take",
            one_node([2, 3, 4], "f32", {
                json!({"op": "slice", "from": [1, 0, 0], "size": [3, 1, 1], "step": [1u64 << 63, 1, 1]})
            }),
        ),
        one(
            "padding-bomb",
            "impossible shape",
            one_node([2, 3, 4], "f32", {
                json!({"op": "pad", "pad": [65_536, 65_536, 65_536, 65_536], "mode": "constant", "value": 0})
            }),
        ),
        one(
            "padding-that-is-no-bit",
            "that bit cannot hold",
            one_node(
                [2, 3, 4],
                "bit",
                json!({"op": "pad", "pad": [1, 1, 1, 1], "mode": "constant", "value": 0}),
            ),
        ),
        one(
            "resize-bomb",
            "more than 65536",
            one_node([2, 3, 4], "f32", {
                json!({"op": "resize", "size": [1u64 << 60, 1], "mode": "linear", "coordinates": "asymmetric"})
            }),
        ),
        one(
            "blocks-that-wrap",
            "cannot cut",
            one_node([2, 3, 4], "f32", json!({"op": "depth_to_space", "block": [1u64 << 32, 1u64 << 32]})),
        ),
        one(
            "quantize-infinite",
            "not finite",
            one_node([1, 1, 4], "f32", {
                json!({"op": "quantize", "scale": 1e39, "offset": 0, "rounding": "floor", "output": "bytes-u8",
                "lowest": 0, "highest": 255})
            }),
        ),
        one(
            "quantize-beyond-its-format",
            "cannot hold",
            one_node([1, 1, 4], "f32", {
                json!({"op": "quantize", "scale": 1, "offset": 0, "rounding": "floor", "output": "u2",
                "lowest": 0, "highest": 255})
            }),
        ),
        one(
            "clip-out-of-order",
            "not in order",
            one_node([1, 1, 4], "f32", {
                json!({"op": "activation", "function": "clip", "low": 1, "high": -1})
            }),
        ),
        one("groups-0", "has 0 groups", conv(json!({"groups": 0}), 2, 27, [5, 5, 3])),
        one("groups-that-do-not-divide", "has 2 groups", conv(json!({"groups": 2}), 2, 27, [5, 5, 3])),
        one("pad-value-2", "padding value other than", conv(json!({"pad_value": 2}), 2, 27, [5, 5, 3])),
        one("filter-too-short", "has 26 columns", conv(json!({}), 2, 26, [5, 5, 3])),
        one("output-of-bytes", "cannot put out", conv(json!({"output": "bytes-u8"}), 2, 27, [5, 5, 3])),
        one("no-thresholds", "has no thresholds", conv(json!({"output": "bit"}), 2, 27, [5, 5, 3])),
        // 1 KiB of weights whose border table would need 64 MiB for each filter.
        one(
            "border-bomb",
            "absurdly large",
            conv(json!({"kernel": [4096, 1], "pad": [4095, 60_000, 4095, 60_000]}), 2, 4096, [4096, 1, 1]),
        ),
        one("map-bomb", "impossible shape", {
            let mut draft = one_node(
                [1, 1, 1],
                "f32",
                json!({"op": "conv2d", "kernel": [1, 1], "stride": [1, 1],
                "dilation": [1, 1], "pad": [65_536, 65_536, 65_536, 65_536], "groups": 1, "pad_value": 0,
                "tensors": {"weight": tensor("f32", 1, 1)}}),
            );
            draft.tensors.push(("n.weight".into(), "F32", vec![1, 1], floats(&[1.0])));
            draft
        }),
        one(
            "concat-of-1025",
            "more than 1024 elements",
            one_node([1, 1, 4], "f32", json!({"op": "concat", "inputs": vec!["input"; 1025]})),
        ),
        one(
            "concat-bomb",
            "impossible shape",
            chain(40, [1, 1, 64], &|i| {
                let x = if i == 0 { "input".to_owned() } else { format!("n{}", i - 1) };
                json!({"op": "concat", "inputs": [x, x]})
            }),
        ),
    ]
}

fn constants() -> Vec<Case> {
    vec![
        edited("tensor-missing", "needs the tensor 'fc2.scale', which is missing", |d| {
            d.tensors.retain(|t| t.0 != "fc2.scale");
        }),
        edited("tensor-extra", "has a tensor 'fc3.weight' that no layer uses", |d| {
            d.tensors.push(("fc3.weight".into(), "F32", vec![1], floats(&[1.0])));
        }),
        edited("tensor-not-mentioned", "has a tensor 'fc2.scale' that no layer uses", |d| {
            d.node(2)["tensors"].as_object_mut().unwrap().remove("scale");
        }),
        edited("role-unknown", "unknown constant 'kernel'", |d| {
            d.node(2)["tensors"]["kernel"] = tensor("f32", 1, 2);
        }),
        edited("role-of-another-op", "takes no bias", |d| {
            d.node(0)["tensors"] = json!({"bias": tensor("f32", 1, 4)});
            d.tensors.push(("sign.bias".into(), "F32", vec![1, 4], floats(&[0.0; 4])));
        }),
        edited("roles-many", "too many constants", |d| {
            (0..100).for_each(|i| d.node(2)["tensors"][format!("x{i}")] = tensor("f32", 1, 2));
        }),
        edited("format-unknown", "unknown number format", |d| {
            d.node(2)["tensors"]["scale"]["dtype"] = json!("f16");
        }),
        edited("format-of-bytes", "which constants cannot have", |d| {
            d.node(2)["tensors"]["scale"]["dtype"] = json!("bytes-u8");
        }),
        edited("format-field-unknown", "unknown field", |d| {
            d.node(2)["tensors"]["scale"]["offset"] = json!(8);
        }),
        edited("format-not-as-stored", "but the file has F32", |d| {
            d.node(2)["tensors"]["scale"]["dtype"] = json!("i32");
        }),
        edited("rows-not-as-stored", "but the file has U64 [3, 1, 1]", |d| {
            d.node(1)["tensors"]["weight"]["rows"] = json!(4);
        }),
        edited("cols-not-as-stored", "but the file has U64 [3, 1, 1]", |d| {
            d.node(1)["tensors"]["weight"]["cols"] = json!(65);
        }),
        edited("cols-of-the-same-words", "takes 5 inputs, but gets 4", |d| {
            d.node(1)["tensors"]["weight"]["cols"] = json!(5);
        }),
        edited("planes-not-as-stored", "but the file has U64 [3, 1, 1]", |d| {
            d.node(1)["tensors"]["weight"]["dtype"] = json!("u2");
        }),
        edited("rows-2-to-the-60", "but the file has U64", |d| {
            d.node(1)["tensors"]["weight"]["rows"] = json!(1u64 << 60);
        }),
        edited("cols-of-all-ones", "but the file has U64", |d| {
            d.node(1)["tensors"]["weight"]["cols"] = json!(u64::MAX);
        }),
        edited("rows-0", "impossible size, 0 x 4", |d| {
            d.node(1)["tensors"]["weight"]["rows"] = json!(0);
            *d.stored("fc1.weight") = ("fc1.weight".into(), "U64", vec![0, 1, 1], vec![]);
        }),
        edited("rows-2-to-the-60-of-nothing", "impossible size", |d| {
            d.node(1)["tensors"]["weight"] = tensor("bit", 1 << 60, 0);
            *d.stored("fc1.weight") = ("fc1.weight".into(), "U64", vec![1 << 60, 1, 0], vec![]);
        }),
        edited("weight-not-bits", "needs bit-packed weights", |d| {
            d.node(1)["tensors"]["weight"] = tensor("f32", 3, 4);
            *d.stored("fc1.weight") = ("fc1.weight".into(), "F32", vec![3, 4], floats(&[1.0; 12]));
        }),
        edited("padding-bits-set", "its weight has set bits after the end of a row", |d| {
            d.stored("fc1.weight").3[8] |= 0x10;
        }),
        edited("padding-bits-set-in-flips", "its flips has set bits", |d| d.stored("fc1.flips").3[7] = 0x80),
        edited("ternary-code-invalid", "ternary code that is not -1, 0 or 1", |d| {
            d.stored("fc2.weight").3[8] = 0b111;
        }),
        edited("scale-nan", "layer 'fc2' (b_dense): its scale contains NaN or infinity", |d| {
            d.stored("fc2.scale").3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        edited("scale-infinite", "NaN or infinity", |d| {
            d.stored("fc2.scale").3[4..].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        }),
        Case {
            name: "threshold-nan",
            says: "its thresholds contains NaN or infinity",
            bytes: {
                let node = json!({"op": "threshold", "output": "bit", "tensors": {"thresholds": tensor("f32", 2, 1)}});
                let mut draft = one_node([1, 1, 2], "f32", node);
                draft.tensors.push(("n.thresholds".into(), "F32", vec![2, 1], floats(&[1.0, f32::NAN])));
                draft.bytes()
            },
        },
        edited("thresholds-too-many", "needs 1 for each of 3 channels", |d| {
            d.node(1)["tensors"]["thresholds"] = tensor("i32", 3, 2);
            *d.stored("fc1.thresholds") = ("fc1.thresholds".into(), "I32", vec![3, 2], vec![0; 24]);
        }),
    ]
}

/// A valid file of a few hundred bytes whose values need more memory than the executor grants.
pub fn arena_bomb() -> Vec<u8> {
    let mut draft = one_node([1 << 14, 1 << 14, 1], "f32", json!({}));
    let node = |i: usize| {
        let inputs = if i == 0 {
            vec!["input".into(), "input".into()]
        } else {
            vec![format!("n{}", i - 1), "input".into()]
        };
        json!({"name": format!("n{i}"), "op": "add", "inputs": inputs})
    };
    draft.document["nodes"] = (0..4).map(node).collect();
    draft.bytes()
}

/// More layers than a file may have; the list is too long before any of them is looked at.
pub fn too_many_layers() -> Draft {
    let mut draft = one_node([1, 1, 4], "f32", json!({}));
    draft.document["nodes"] = json!(vec![json!({"name": "", "inputs": []}); 8193]);
    draft
}
