"""Writes the small ONNX networks of this folder, what goes in and what onnxruntime makes of it.

Each is one way in which training code writes something down; its last convolution has binary weights and must run on bits.
Needs numpy, onnx and onnxruntime: python3 make.py
"""
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

C, SIZE = 8, 6
SHAPE = [2, C, SIZE, SIZE]
# (operator, inputs, output, attributes), in order; `bits` is what the convolution reads.
SIGN = [("GreaterOrEqual", ["x", "zero"], "c", {}), ("Where", ["c", "one", "minus"], "s", {})]
GATE = [
    ("GlobalAveragePool", ["x"], "mean", {}),
    ("Sigmoid", ["mean"], "gate", {}),
    ("Expand", ["gate", "shape"], "wide", {}),
]
MODELS = {
    "ste_zero": SIGN + [("Sub", ["x", "x"], "d", {}), ("Add", ["d", "s"], "bits", {})],
    "ste_back": SIGN + [("Sub", ["x", "s"], "d", {}), ("Sub", ["x", "d"], "bits", {})],
    "ste_twice": SIGN
    + [
        ("Tanh", ["x"], "t", {}),
        ("Tanh", ["x"], "u", {}),
        ("Add", ["s", "t"], "a", {}),
        ("Sub", ["a", "u"], "bits", {}),
    ],
    "where_clip": [
        ("Relu", ["x"], "r", {}),
        ("Less", ["r", "one"], "c", {}),
        ("Where", ["c", "r", "one"], "y", {}),
        ("Mul", ["y", "three"], "m", {}),
        ("Round", ["m"], "bits", {}),
    ],
    "expand_gate": GATE
    + [
        ("Mul", ["x", "wide"], "g", {}),
        ("Sub", ["g", "wide"], "h", {}),
        ("Greater", ["h", "zero"], "c", {}),
        ("Where", ["c", "one", "minus"], "bits", {}),
    ],
    "expand_alone": GATE
    + [
        ("Mul", ["wide", "wide"], "square", {}),
        ("Sub", ["x", "square"], "g", {}),
        ("Greater", ["g", "zero"], "c", {}),
        ("Where", ["c", "one", "minus"], "bits", {}),
    ],
    "shuffle": [
        ("Reshape", ["x", "split"], "a", {}),
        ("Transpose", ["a"], "b", {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", ["b", "joined"], "y", {}),
        ("Greater", ["y", "zero"], "c", {}),
        ("Where", ["c", "one", "minus"], "bits", {}),
    ],
    "shuffle_rows": [
        ("Reshape", ["x", "rows"], "a", {}),
        ("Transpose", ["a"], "b", {"perm": [0, 3, 1, 2, 4]}),
        ("Reshape", ["b", "joined"], "y", {}),
        ("Greater", ["y", "zero"], "c", {}),
        ("Where", ["c", "one", "minus"], "bits", {}),
    ],
    # 0 where x cancels the bias to the last bit: one bit, with a note.
    "sign_biased": [("Add", ["x", "bias"], "y", {}), ("Sign", ["y"], "bits", {})],
}


def main():
    rng = np.random.default_rng(1)
    x = rng.normal(size=SHAPE).astype(np.float32)
    np.save("input.npy", x)
    floats = {"zero": 0, "one": 1, "minus": -1, "three": 3}
    constants = {name: np.array(v, np.float32) for name, v in floats.items()}
    constants["w"] = np.where(rng.random((4, C, 3, 3)) < 0.5, -1, 1).astype(np.float32)
    constants["bias"] = rng.normal(size=(1, C, 1, 1)).astype(np.float32)
    ints = {"split": [0, 2, C // 2, SIZE, SIZE], "joined": [0, C, SIZE, SIZE], "rows": [0, C, 2, SIZE // 2, SIZE]}
    constants |= {name: np.array(v, np.int64) for name, v in (ints | {"shape": [1, C, SIZE, SIZE]}).items()}
    for name, steps in MODELS.items():
        nodes = [helper.make_node(op, ins, [out], **attributes) for op, ins, out, attributes in steps]
        nodes.append(helper.make_node("Conv", ["bits", "w"], ["out"], pads=[1] * 4))
        used = {i for n in nodes for i in n.input}
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *SHAPE[1:]])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(v, k) for k, v in constants.items() if k in used],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, f"{name}.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(f"{name}.onnx", options)
        np.save(f"{name}.npy", session.run(None, {"x": x})[0])


main()
