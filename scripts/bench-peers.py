#!/usr/bin/env python3
"""Times BinaryNet's two networks in onebit and in ONNX Runtime (float32 and int8), in turn, in one run.

    pip install -r scripts/bench-peers.txt
    cargo build --release && python3 scripts/bench-peers.py [--rounds 7] [--json]

Both use one thread and a batch of one. ONNX Runtime gets the network a user would give it: the same
convolutions and dense layers with ReLU between them, BatchNorm folded away, quantised statically (QDQ, u8
activations, s8 weights, per channel). Rounds alternate between the programs, so that a change of the
machine's speed meets all of them; the table shows the minimum and the median over rounds of each round's minimum.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NETWORKS = {
    # name: (input shape, [("conv", out, pool) or ("dense", out)])
    "binarynet-vgg": (
        [1, 3, 32, 32],
        [("conv", 128, 0), ("conv", 128, 1), ("conv", 256, 0), ("conv", 256, 1), ("conv", 512, 0), ("conv", 512, 1),
         ("dense", 1024), ("dense", 1024), ("dense", 10)],
    ),
    "binarynet-mlp": ([1, 784], [("dense", 4096), ("dense", 4096), ("dense", 4096), ("dense", 10)]),
}


def float_model(shape, layers, path):
    rng = np.random.default_rng(1)
    nodes, constants, value, shape = [], [], "input", list(shape)
    first = list(shape)

    def constant(name, array):
        constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    for i, layer in enumerate(layers):
        out = f"v{i}"
        if layer[0] == "conv":
            k = shape[1] * 9
            w = constant(f"w{i}", rng.choice([-1.0, 1.0], (layer[1], shape[1], 3, 3)) / np.sqrt(k))
            nodes.append(helper.make_node("Conv", [value, w], [out], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
            shape[1] = layer[1]
            if layer[2]:
                nodes.append(helper.make_node("MaxPool", [out], [out + "p"], kernel_shape=[2, 2], strides=[2, 2]))
                out += "p"
                shape[2:] = [shape[2] // 2, shape[3] // 2]
        else:
            if len(shape) == 4:
                nodes.append(helper.make_node("Flatten", [value], [value + "f"]))
                value, shape = value + "f", [1, int(np.prod(shape))]
            w = constant(f"w{i}", rng.choice([-1.0, 1.0], (shape[1], layer[1])) / np.sqrt(shape[1]))
            nodes.append(helper.make_node("MatMul", [value, w], [out]))
            shape = [1, layer[1]]
        if i + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [out], [out + "r"]))
            out += "r"
        value = out
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, first)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


class Calibration(CalibrationDataReader):
    def __init__(self, shape):
        rng = np.random.default_rng(2)
        self.samples = iter([{"input": rng.random(shape, dtype=np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.samples, None)


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def time_ort(s, x, seconds=0.8):
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        t = time.perf_counter()
        s.run(None, {"input": x})
        best = min(best, time.perf_counter() - t)
    return best * 1e3


def time_onebit(binary, name):
    out = subprocess.run([binary, "bench", name, "--threads", "1", "--json"], check=True, capture_output=True)
    result = json.loads(out.stdout)
    return result["latency_ms"]["min"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--onebit", default=os.path.join(ROOT, "target", "release", "onebit"))
    args = parser.parse_args()
    if not os.path.exists(args.onebit):
        sys.exit(f"{args.onebit} is missing: run `cargo build --release` first, or name it with --onebit")
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, (shape, layers) in NETWORKS.items():
            float_path, int8_path = (os.path.join(directory, name + s) for s in (".onnx", ".int8.onnx"))
            float_model(shape, layers, float_path)
            quantize_static(float_path, int8_path, Calibration(shape), quant_format=QuantFormat.QDQ,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)
            f32, int8 = session(float_path), session(int8_path)
            x = np.random.default_rng(3).random(shape, dtype=np.float32)
            times = {"onebit": [], "onnxruntime int8": [], "onnxruntime f32": []}
            for _ in range(args.rounds):
                times["onebit"].append(time_onebit(args.onebit, name))
                times["onnxruntime int8"].append(time_ort(int8, x))
                times["onnxruntime f32"].append(time_ort(f32, x))
            results[name] = {
                who: {"min_ms": min(t), "median_ms": statistics.median(t)} for who, t in times.items()}
    if args.json:
        print(json.dumps({"onnxruntime": ort.__version__, "networks": results}))
        return
    print(f"one thread, batch 1, {args.rounds} rounds, onnxruntime {ort.__version__}")
    print(f"{'network':16} {'program':18} {'min ms':>9} {'median ms':>10} {'ratio of minima':>16}")
    for name, rows in results.items():
        for who, t in rows.items():
            ratio = t["min_ms"] / rows["onebit"]["min_ms"]
            print(f"{name:16} {who:18} {t['min_ms']:9.4f} {t['median_ms']:10.4f} {ratio:15.1f}x")


if __name__ == "__main__":
    main()
