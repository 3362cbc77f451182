"""Writes evaluate_*.onnx: nodes, their constant inputs, and what onnxruntime and qonnx make of them.

Needs onnx, onnxruntime, qonnx and numpy. The value that belongs to output `y` is the constant `y=`.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from qonnx.custom_op.registry import getCustomOp

QONNX = "qonnx.custom_op.general"
rng = np.random.default_rng(7)


def f(*shape):
    return (rng.integers(-40, 40, shape) / 8).astype(np.float32)


def i(*values):
    return np.array(values, np.int64)


def s(value):
    return np.array(value, np.float32)


def run(op, inputs, attributes, outputs, domain, opset):
    names = [f"x{k}" if x is not None else "" for k, x in enumerate(inputs)]
    outs = [f"y{k}" for k in range(outputs)]
    node = h.make_node(op, names, outs, domain=domain, **attributes)
    values = {n: x for n, x in zip(names, inputs) if x is not None}
    if domain:
        getCustomOp(node, onnx_opset_version=2 if op == "Trunc" and len(inputs) == 6 else 1).execute_node(values, None)
        return [np.asarray(values[o], np.float32) for o in outs]
    infos = [h.make_tensor_value_info(n, h.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in values.items()]
    graph = h.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=o) for o in outs])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return session.run(None, values)


def write(name, opset, cases):
    nodes, constants = [], []
    for k, case in enumerate(cases):
        op, inputs = case[0], case[1]
        attributes = case[2] if len(case) > 2 else {}
        outputs = case[3] if len(case) > 3 else 1
        domain = case[4] if len(case) > 4 else ""
        names = [f"{k}.{j}" if x is not None else "" for j, x in enumerate(inputs)]
        outs = [f"{k}.y{j}" for j in range(outputs)]
        results = run(op, inputs, attributes, outputs, domain, opset)
        nodes.append(h.make_node(op, names, outs, name=f"{op} {k}", domain=domain, **attributes))
        constants += [nh.from_array(np.asarray(x), n) for n, x in zip(names, inputs) if x is not None]
        constants += [nh.from_array(np.asarray(r), o + "=") for o, r in zip(outs, results)]
    graph = h.make_graph(nodes, name, [], [], constants)
    opsets = [h.make_opsetid("", opset), h.make_opsetid(QONNX, 2)]
    data = h.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    (Path(__file__).parent / f"evaluate_{name}.onnx").write_bytes(data)
    print(name, len(cases), "nodes,", len(data), "bytes")


x = f(2, 3, 4)
vec = s([-2.5, -1.5, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 1.5, 2.5, 3.75])
positive = np.abs(f(3, 4)) + s(0.5)
ints = rng.integers(-9, 9, (3, 4)).astype(np.int64)
divisors = np.where(ints == 0, 3, ints[::-1]).astype(np.int64)
divisors[divisors == 0] = -4
yes = f(3, 4) > 0
old = [
    ("Slice", [x], dict(starts=[1, -3], ends=[2, 1000], axes=[0, 2])),
    ("Slice", [x], dict(starts=[0, 1], ends=[-1, 2**62])),
    ("Unsqueeze", [x], dict(axes=[0, 4])),
    ("Squeeze", [f(1, 3, 1)], dict(axes=[0])),
    ("Squeeze", [f(1, 3, 1)]),
    ("Split", [x], dict(axis=2, split=[1, 3]), 2),
    ("Split", [x], dict(axis=2), 2),
    ("Clip", [vec], dict(min=-1.0, max=1.25)),
    ("Clip", [vec], dict(min=0.0)),
    ("Pad", [x], dict(pads=[0, 1, 2, 1, 0, 0], value=1.5)),
    ("Pad", [x], dict(pads=[0, -1, 0, 0, 0, -2])),
    ("ReduceSum", [x], dict(axes=[1], keepdims=0)),
    ("ReduceMean", [x], dict(axes=[0, 2])),
    ("Softmax", [x], dict(axis=1)),
    ("Softmax", [x], dict(axis=2)),
    ("BatchNormalization", [f(2, 3, 2), f(3), f(3), f(3), np.abs(f(3)) + s(1)], dict(epsilon=0.0)),
    ("Constant", [], dict(value=nh.from_array(f(2, 2)))),
]
new = [
    ("Constant", [], dict(value_float=1.5)),
    ("Constant", [], dict(value_floats=[1.5, 2.0])),
    ("Constant", [], dict(value_int=3)),
    ("Constant", [], dict(value_ints=[3, -4])),
    ("ConstantOfShape", [i(2, 3)], dict(value=nh.from_array(np.array([7], np.int64)))),
    ("ConstantOfShape", [i(2)]),
    ("ConstantOfShape", [np.zeros(0, np.int64)], dict(value=nh.from_array(s([1])))),
    ("Identity", [yes]),
    ("Shape", [x]), ("Shape", [x], dict(start=1)), ("Shape", [x], dict(start=-2, end=-1)), ("Shape", [x], dict(end=9)),
    ("Size", [x]),
    ("Gather", [x, np.array(1, np.int64)], dict(axis=1)),
    ("Gather", [x, np.array([[0, -1], [2, 2]], np.int64)], dict(axis=1)),
    ("Gather", [i(5, 6, 7), np.array(-1, np.int64)]),
    ("Slice", [x, i(3), i(-10), i(2), i(-2)]),
    ("Slice", [x, i(-1, 0), i(-(2**63), 2), i(0, 1), i(-1, 1)]),
    ("Slice", [x, i(0), i(2**63 - 1)]),
    ("Slice", [x, i(2), i(1), i(2)]),
    ("Concat", [x, f(2, 1, 4), f(2, 0, 4)], dict(axis=-2)),
    ("Concat", [i(1), i(2, 3)], dict(axis=0)),
    ("Split", [x, i(1, 0, 3)], dict(axis=-1), 3),
    ("Split", [f(5)], dict(num_outputs=3), 3),
    ("Unsqueeze", [x, i(-1, 1)]),
    ("Squeeze", [f(1, 3, 1), i(-1)]),
    ("Reshape", [x, i(0, -1)]), ("Reshape", [x, i(4, 1, -1, 3)]), ("Reshape", [f(0, 3), i(3, 0)], dict(allowzero=1)),
    ("Flatten", [x]), ("Flatten", [x], dict(axis=0)), ("Flatten", [x], dict(axis=3)), ("Flatten", [x], dict(axis=-1)),
    ("Transpose", [x]), ("Transpose", [x], dict(perm=[1, 2, 0])), ("Transpose", [s(3)]),
    ("Expand", [f(3, 1), i(2, 1, 4)]), ("Expand", [s(2), i(3)]),
    ("Tile", [f(2, 3), i(2, 3)]), ("Tile", [f(2, 3), i(1, 0)]),
    ("Range", [np.array(3, np.int64), np.array(-4, np.int64), np.array(-2, np.int64)]),
    ("Range", [s(0), s(1.05), s(0.1)]), ("Range", [s(2), s(1), s(1)]),
    ("Add", [x, f(3, 1)]), ("Sub", [f(3, 1), x]), ("Mul", [x, f(4)]), ("Div", [x, positive]),
    ("Add", [ints, divisors]), ("Sub", [ints, i(2)]), ("Mul", [ints, divisors]), ("Div", [ints, divisors]),
    ("Mod", [ints, divisors]), ("Mod", [ints, divisors], dict(fmod=1)), ("Mod", [x, positive], dict(fmod=1)),
    ("Pow", [positive, s(0.5)]), ("Pow", [x, s(2)]), ("Pow", [x, i(3)]), ("Pow", [ints, i(2)]), ("Pow", [positive, f(4)]),
    ("Min", [x, f(4), s(0.5)]), ("Max", [x, f(4), s(0.5)]), ("Max", [ints, divisors]), ("Sum", [x, f(4), s(1)]),
    ("Min", [s([np.nan, 1, 2]), s([1, np.nan, 3])]),
    ("Neg", [x]), ("Neg", [ints]), ("Abs", [x]), ("Abs", [ints]), ("Sign", [vec]), ("Sign", [ints]),
    ("Sqrt", [positive]), ("Exp", [vec]), ("Log", [positive]), ("Tanh", [vec]), ("Sigmoid", [vec]), ("Erf", [vec]),
    ("Floor", [vec]), ("Ceil", [vec]), ("Round", [vec]), ("Reciprocal", [positive]), ("Relu", [vec]), ("Softplus", [vec]),
    ("LeakyRelu", [vec]), ("LeakyRelu", [vec], dict(alpha=0.3)), ("PRelu", [x, f(3, 1)]),
    ("HardSigmoid", [vec]), ("HardSigmoid", [vec], dict(alpha=1.0, beta=0.25)),
    ("Clip", [vec, s(-1), s(1)]), ("Clip", [vec, None, s(1)]), ("Clip", [vec, s(2), s(1)]), ("Clip", [ints, np.array(0, np.int64)]),
    ("Equal", [ints, divisors]), ("Equal", [vec, s(0.25)]), ("Equal", [yes, yes[::-1]]),
    ("Greater", [vec, s(0)]), ("GreaterOrEqual", [vec, s(0)]), ("Less", [vec, s(0)]), ("LessOrEqual", [ints, divisors]),
    ("Not", [yes]), ("And", [yes, yes[::-1]]), ("Or", [yes, yes[0]]), ("Xor", [yes, yes[::-1]]),
    ("Where", [yes, s(1), s(-1)]), ("Where", [yes[0], f(3, 4), f(2, 1, 1)]),
    ("Cast", [vec], dict(to=T.INT64)), ("Cast", [vec], dict(to=T.BOOL)), ("Cast", [vec], dict(to=T.INT8)),
    ("Cast", [i(300, -1, 127, 128)], dict(to=T.INT8)), ("Cast", [i(300, -1, 255)], dict(to=T.UINT8)),
    ("Cast", [yes], dict(to=T.FLOAT)), ("Cast", [yes], dict(to=T.INT64)), ("Cast", [ints], dict(to=T.FLOAT)),
    ("Cast", [s([1.0005, 70000, 65519, 3e-8, 5e-8, -1e-5, 2049, 2051, 6.1e-5, 0])], dict(to=T.FLOAT16)),
    ("CastLike", [vec, ints]), ("CastLike", [ints, vec]), ("CastLike", [vec, yes]),
    *[("Reduce" + how, [x, i(1)]) for how in ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare"]],
    ("ReduceMean", [x, i(-1, 0)], dict(keepdims=0)), ("ReduceSum", [x]), ("ReduceSum", [ints, i(0)]),
    ("ReduceSum", [x, np.zeros(0, np.int64)], dict(noop_with_empty_axes=1)), ("ReduceMax", [ints]),
    ("MatMul", [f(3, 4), f(4, 5)]),
    ("Gemm", [f(3, 4), f(5, 4), f(5)], dict(transB=1, alpha=0.5, beta=2.0)), ("Gemm", [f(4, 3), f(4, 2)], dict(transA=1)),
    ("Softmax", [x]), ("Softmax", [x], dict(axis=1)),
    ("ArgMax", [s([[1, 3, 3], [2, 0, 2]])], dict(axis=1)), ("ArgMax", [x], dict(axis=-1, keepdims=0)),
    ("ArgMax", [s([[1, 3, 3], [2, 0, 2]])], dict(axis=1, select_last_index=1)),
    ("Pad", [x, i(1, 0, 0, 0, 0, 2), s(-1)]), ("Pad", [x, i(1, -1), None, i(2)]), ("Pad", [ints, i(0, 1, 0, 1)]),
    ("DequantizeLinear", [np.array([[-128, 0, 127], [5, 6, 7]], np.int8), s(0.1), np.array(3, np.int8)]),
    ("DequantizeLinear", [np.array([[200, 0, 127], [5, 6, 7]], np.uint8), s([0.1, 0.3, 7])]),
    ("DequantizeLinear", [np.array([[200, 0], [5, 6]], np.uint8), s([0.1, 0.3]), np.array([1, 200], np.uint8)], dict(axis=0)),
    ("QuantizeLinear", [vec, s(0.01)]), ("QuantizeLinear", [vec, s(0.5)]),
    ("BatchNormalization", [f(2, 3, 2, 1), f(3), f(3), f(3), np.abs(f(3)) + s(0.3)], dict(epsilon=1e-3)),
]
wide = s(np.concatenate([np.arange(-36, 37) / 8, [100, -100, 0.49999997, -0.49999997]]))
modes = ["ROUND", "half_even", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]
quant = [
    ("BipolarQuant", [vec, s(0.3)]), ("BipolarQuant", [f(3, 4), np.abs(f(3, 1))]),
    *[("Quant", [wide, s(0.75), s(0.5 if k % 2 else 0), s(3)], dict(rounding_mode=m, signed=k % 3 != 0, narrow=k % 2))
      for k, m in enumerate(modes)],
    ("IntQuant", [wide, s(0.1), s(0), s(8)], dict(rounding_mode="ROUND", signed=1, narrow=0)),
    ("Quant", [wide, s([0.1]), s([0]), s([4])], dict(rounding_mode="ROUND", signed=0, narrow=1)),
    ("Quant", [vec, s(0.3), s(0), s(1)], dict(rounding_mode="ROUND", signed=1, narrow=1)),
    ("Quant", [vec, s(0.3), s(0), s(1)], dict(rounding_mode="ROUND", signed=0, narrow=0)),
    ("Quant", [f(3, 4), np.abs(f(3, 1)) + s(0.1), s(0), s(2)], dict(rounding_mode="ROUND", signed=1, narrow=1)),
    ("Trunc", [np.arange(-40, 40).astype(np.float32) * s(0.25), s(0.25), s(0), s(8), s(4)], dict(rounding_mode="FLOOR")),
    ("Trunc", [np.arange(-40, 40).astype(np.float32) * s(0.3), s(0.3), s(3), s(8), s(6)], dict(rounding_mode="round")),
    ("Trunc", [np.arange(-40, 40).astype(np.float32) * s(0.3), s(0.3), s(0), s(8), s(2.4), s(3)],
     dict(rounding_mode="floor", signed=1, narrow=1)),
    ("Trunc", [np.arange(-40, 40).astype(np.float32) * s(0.25), s(0.25), s(4), s(8), s(1), s(4)],
     dict(rounding_mode="CEIL", signed=0)),
    ("MultiThreshold", [f(2, 3, 2, 2), np.sort(f(3, 5), 1)], dict(out_dtype="UINT4")),
    ("MultiThreshold", [f(2, 3), np.sort(f(1, 5), 1)], dict(out_dtype="INT4", out_scale=2.0, out_bias=-1.0)),
    ("MultiThreshold", [f(2, 2, 2, 3), np.sort(f(3, 4), 1)], dict(out_dtype="UINT4", data_layout="NHWC")),
    ("MultiThreshold", [f(2, 4, 3), np.sort(f(3, 4), 1)], dict(out_dtype="UINT4")),
    ("XnorPopcountMatMul", [s(f(3, 6) > 0), s(f(6, 4) > 0)]),
]
write("9", 9, old)
write("18", 18, new)
write("qonnx", 18, [(op, xs, rest[0] if rest else {}, 1, QONNX) for op, xs, *rest in quant])
