"""OpenVINO: float32, bfloat16 and 8 bits from the ONNX files, and its binary convolution from its own opset.

No front end of OpenVINO produces `BinaryConvolution`, so the binary networks are built with the Python API. What lets
its bits stay bits: `FakeQuantize` with two levels, equal lower and upper input limits, and the output values 0 and 1
(not -1 and 1, which make it an ordinary quantisation and add a reordering of floats to bits that takes longer than
the convolution), so that it is fused into the convolution before it. Dense layers are convolutions of the whole map;
float layers run in bfloat16, its own choice on this kind of CPU.

A batch of a binary network runs image by image, on a stream for each thread: its batched form is five times slower.

Networks are timed end to end. Single convolutions and products count the time of their node alone, as OpenVINO's
profile tells it in whole microseconds, rounded down, and for products from floats the `FakeQuantize` before it: the
reorderings around them are not counted.
"""
import numpy as np
import openvino
from openvino import AsyncInferQueue, Core, Model, Shape, Tensor, Type, opset1

from . import models
from .common import Skip

VERSION = openvino.__version__.split("-")[0]
NODES = {"Convolution", "BinaryConvolution", "MatMul", "FullyConnected"}
# Networks whose maps are padded with ones; in the others zeros are left out of the sum.
ONE_PADDED = {"resnet18-imagenet", "quicknet"}


class BinaryBuilder:
    """Builds a network in OpenVINO's opset, its binary layers on bits."""

    def __init__(self, pad_value=0.0):
        self.pad_value = pad_value
        self.rng, self.bits, self.parameter = np.random.default_rng(1), {}, None

    def _constant(self, shape, scale):
        return opset1.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def binarize(self, x):
        """The signs of `x`, made once. Thresholds differ: a constant with two readers would hinder fusing."""
        key = x.get_name()
        if key not in self.bits:
            shape = (1, x.output(0).get_shape()[1], 1, 1)
            limit = np.round(self.rng.standard_normal(shape) * 8).astype(np.float32)
            low, high = np.zeros(shape, np.float32), np.ones(shape, np.float32)
            constants = [opset1.constant(v.copy()) for v in (limit, limit, low, high)]
            self.bits[key] = opset1.fake_quantize(x, *constants, 2)
        return self.bits[key]

    def input(self, c, h, w):
        self.parameter = opset1.parameter([1, c, h, w], np.float32)
        return self.parameter

    def conv(self, x, n, kernel, stride, pad, groups=1, binary=True):
        c = x.output(0).get_shape()[1]
        kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        window = [[stride] * 2, [pad] * 2, [pad] * 2, [1, 1]]
        if binary:
            shape = [n, c, *kernel]
            # A tensor that owns its bits: one made of an array would not keep the array.
            bits = Tensor(Type.u1, Shape(shape))
            bits.data[:] = self.rng.integers(0, 256, bits.data.shape, dtype=np.uint8)
            weight = openvino.op.Constant(bits)
            x = self.binarize(x)
            return opset1.binary_convolution(x, weight, *window, "xnor-popcount", self.pad_value, "explicit")
        scale = (c // groups * kernel[0] * kernel[1]) ** -0.5
        if groups > 1:
            weight = self._constant((groups, n // groups, c // groups, *kernel), scale)
            y = opset1.group_convolution(x, weight, *window)
        else:
            y = opset1.convolution(x, self._constant((n, c, *kernel), scale), *window)
        return opset1.add(y, self._constant((1, n, 1, 1), 0.1))

    def dense(self, x, n, binary=True):
        return self.conv(x, n, tuple(x.output(0).get_shape()[2:]), 1, 0, binary=binary)

    def max_pool(self, x, kernel, stride, pad):
        return opset1.max_pool(x, [stride] * 2, [pad] * 2, [pad] * 2, [kernel] * 2, "floor", "explicit")

    def avg_pool(self, x, kernel):
        return opset1.avg_pool(x, [kernel] * 2, [0, 0], [0, 0], [kernel] * 2, True, "floor", "explicit")

    def mean(self, x):
        return opset1.reduce_mean(x, opset1.constant(np.array([2, 3])), True)

    def relu(self, x):
        return opset1.relu(x)

    def act(self, x):
        return x

    def add(self, x, y):
        return opset1.add(x, y)


def _binary_model(load):
    p = load.params
    b = BinaryBuilder(1.0 if p.get("network") in ONE_PADDED else 0.0)
    if load.kind == "gemm":
        w = min(p["m"], 64)
        y = b.conv(b.input(p["k"], p["m"] // w, w), p["n"], 1, 1, 0)
    else:
        y = models.build(b, load)
    if load.kind == "conv":
        # A layer that reads bits makes this one write them.
        y = b.conv(y, 8, 1, 1, 0)
    return Model([y], [b.parameter], "binary")


def _gemm_model(p):
    x = opset1.parameter([p["m"], p["k"]], np.float32)
    weight = np.random.default_rng(1).standard_normal((p["n"], p["k"]), dtype=np.float32)
    return Model([opset1.matmul(x, opset1.constant(weight), False, True)], [x], "gemm")


def prepare(load, variant, threads, directory):
    """A function that runs `load` once; for single nodes it returns the node's seconds."""
    core, single = Core(), load.kind != "network"
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERF_COUNT": single}
    if variant in ("f32", "bf16"):
        config["INFERENCE_PRECISION_HINT"] = variant
    if variant == "binary":
        model = _binary_model(load)
    elif load.kind == "gemm":
        if variant == "int8":
            raise Skip("products in 8 bits are left to ONNX Runtime")
        model = _gemm_model(load.params)
    else:
        file = models.int8_file if variant == "int8" else models.float_file
        model = core.read_model(file(load, directory)[0])
    x = Tensor(np.random.default_rng(3).random(list(model.input(0).shape), dtype=np.float32))
    batch = load.params.get("batch", 1)
    if variant == "binary" and batch > 1:
        config["NUM_STREAMS"] = threads
        queue = AsyncInferQueue(core.compile_model(model, "CPU", config), threads)

        def run_images():
            for _ in range(batch):
                queue.start_async({0: x}, share_inputs=True)
            queue.wait_all()

        return run_images
    request = core.compile_model(model, "CPU", config).create_infer_request()
    request.set_input_tensor(x)

    def run():
        # As infer(), without the copies of results that it makes for Python.
        request.start_async()
        request.wait()
        if not single:
            return None
        nodes = request.profiling_info
        kinds = [NODES, {"FakeQuantize"}] if variant == "binary" and load.params.get("binarize") else [NODES]
        first = [next(n for n in nodes if n.node_type in kind) for kind in kinds]
        return sum(n.real_time.total_seconds() for n in first)

    return run
