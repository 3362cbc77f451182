"""Networks as ONNX files, float32 and quantised to 8 bits, with random weights."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .workloads import NETWORKS


class OnnxBuilder:
    """Builds the float32 network a user would have: ReLU between the layers, BatchNorm folded away."""

    def __init__(self, batch=1):
        self.batch, self.nodes, self.constants, self.shapes = batch, [], [], {}
        self.rng = np.random.default_rng(1)

    def _node(self, op, inputs, shape, **attributes):
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        self.shapes[out] = shape
        return out

    def _constant(self, shape, scale):
        name = f"w{len(self.constants)}"
        values = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def _window(self, x, n, kernel, stride, pad):
        return [self.batch, n] + [(s + 2 * pad - kernel) // stride + 1 for s in self.shapes[x][2:]]

    def input(self, c, h, w):
        self.shapes["input"] = [self.batch, c, h, w]
        return "input"

    def conv(self, x, n, kernel, stride, pad, groups=1, binary=True):
        taps = self.shapes[x][1] // groups * kernel**2
        constants = [
            self._constant((n, self.shapes[x][1] // groups, kernel, kernel), taps**-0.5),
            self._constant((n,), 0.1),
        ]
        shape = self._window(x, n, kernel, stride, pad)
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self._node("Conv", [x, *constants], shape, group=groups, **window)

    def dense(self, x, n, binary=True):
        k = int(np.prod(self.shapes[x][1:]))
        if len(self.shapes[x]) > 2:
            x = self._node("Flatten", [x], [self.batch, k])
        return self._node("Gemm", [x, self._constant((k, n), k**-0.5), self._constant((n,), 0.1)], [self.batch, n])

    def max_pool(self, x, kernel, stride, pad):
        shape = self._window(x, self.shapes[x][1], kernel, stride, pad)
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self._node("MaxPool", [x], shape, **window)

    def avg_pool(self, x, kernel):
        shape = self._window(x, self.shapes[x][1], kernel, kernel, 0)
        return self._node("AveragePool", [x], shape, kernel_shape=[kernel] * 2, strides=[kernel] * 2)

    def mean(self, x):
        return self._node("GlobalAveragePool", [x], self.shapes[x][:2] + [1, 1])

    def relu(self, x):
        return self._node("Relu", [x], self.shapes[x])

    act = relu

    def add(self, x, y):
        return self._node("Add", [x, y], self.shapes[x])

    def save(self, output, path):
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "network",
            [value("input", TensorProto.FLOAT, self.shapes["input"])],
            [value(output, TensorProto.FLOAT, self.shapes[output])], self.constants)
        save(graph, path)


def save(graph, path):
    """Checks and writes a model of the opset that all programs read."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def build(b, load):
    """Calls `b` for the network or the single convolution of `load` and returns the output."""
    if load.kind == "network":
        return NETWORKS[load.params["network"]](b)
    p = load.params
    return b.act(b.conv(b.input(p["c"], p["h"], p["h"]), p["n"], p["kernel"], 1, p["kernel"] // 2))


def float_file(load, directory):
    """Path of the float32 model of a network or convolution, and the shape of its input."""
    path = os.path.join(directory, load.name.replace(" ", "_") + ".onnx")
    b = OnnxBuilder(load.params.get("batch", 1))
    output = build(b, load)
    if not os.path.exists(path):
        b.save(output, path)
    return path, b.shapes["input"]


def int8_file(load, directory):
    """Path of the same model quantised statically (QDQ, u8 activations, s8 weights, per channel)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Calibration(CalibrationDataReader):
        def __init__(self, shape):
            rng = np.random.default_rng(2)
            self.samples = iter([{"input": rng.random(shape, dtype=np.float32)}])

        def get_next(self):
            return next(self.samples, None)

    source, shape = float_file(load, directory)
    path = source.replace(".onnx", ".int8.onnx")
    if not os.path.exists(path):
        quantize_static(
            source, path, Calibration(shape), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, per_channel=True)
    return path, shape
