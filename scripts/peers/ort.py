"""ONNX Runtime, float32 and 8 bits, end to end: a model's run with arrays in and out."""
import os

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from . import models
from .common import Skip

VERSION = onnxruntime.__version__
FLOAT, U8, I8, I32 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32


def _single(node, inputs, output, constants, path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "single", [value("input", *i) for i in inputs], [value("y", *output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()])
    models.save(graph, path)


def _gemm(p, variant, path):
    """MatMul or MatMulInteger with constant weights, which are packed beforehand; shape and type of the input."""
    rng, shape = np.random.default_rng(1), [p["m"], p["k"]]
    weight = rng.integers(0, 2, (p["k"], p["n"]), dtype=np.int8) * np.int8(2) - np.int8(1)
    if variant == "f32":
        node = helper.make_node("MatMul", ["input", "w"], ["y"])
        _single(node, [(FLOAT, shape)], (FLOAT, [p["m"], p["n"]]), {"w": weight.astype(np.float32)}, path)
        return shape, np.float32
    node = helper.make_node("MatMulInteger", ["input", "w"], ["y"])
    _single(node, [(U8, shape)], (I32, [p["m"], p["n"]]), {"w": weight}, path)
    return shape, np.uint8


def _int8_conv(p, path):
    """QLinearConv from bytes to bytes: no floats are quantised on the way."""
    h, c, n, k = (p[key] for key in ("h", "c", "n", "kernel"))
    rng = np.random.default_rng(1)
    f32, u8, i8 = np.float32, np.uint8, np.int8
    constants = {
        "xs": f32(0.02), "xz": u8(128), "w": rng.integers(-127, 128, (n, c, k, k), dtype=i8),
        "ws": np.full(n, 0.01, f32), "wz": np.zeros(n, i8), "ys": f32(1), "yz": u8(0),
    }
    node = helper.make_node(
        "QLinearConv", ["input", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], kernel_shape=[k, k],
        pads=[k // 2] * 4)
    arrays = {name: np.asarray(v) for name, v in constants.items()}
    _single(node, [(U8, [1, c, h, h])], (U8, [1, n, h, h]), arrays, path)
    return [1, c, h, h], u8


def prepare(load, variant, threads, directory):
    """A function that runs `load` once."""
    path, dtype = os.path.join(directory, f"ort-{variant}-{threads}.onnx"), np.float32
    if load.kind == "gemm":
        if load.params["binarize"] and variant == "int8":
            raise Skip("takes bytes")
        shape, dtype = _gemm(load.params, variant, path)
    elif variant == "f32":
        path, shape = models.float_file(load, directory)
    elif load.kind == "conv":
        shape, dtype = _int8_conv(load.params, path)
    else:
        path, shape = models.int8_file(load, directory)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    x = rng.random(shape, dtype=np.float32) if dtype == np.float32 else rng.integers(0, 256, shape, dtype=dtype)

    def run():
        session.run(None, {"input": x})

    return run
