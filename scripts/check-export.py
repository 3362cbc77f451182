#!/usr/bin/env python3
"""Compares exported ONNX files with what the engine itself computes.

    check-export.py ONEBIT MODEL...      exports each model, runs it on random inputs with onnxruntime, and in the
                                         dialect of QONNX with its executor
    check-export.py --cases FOLDER       files NAME.onnx or NAME.qonnx with NAME.input.npy and NAME.expected.npy

Integers must be equal; floats may differ by a ten-thousandth of the largest output. Needs onnx, onnxruntime, qonnx.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

TOLERANCE = 1e-4
SAMPLES = 3
# Multiply-adds; the executor of QONNX is written for clarity, and larger networks take minutes.
LARGEST_FOR_QONNX = 200_000_000


def run_onnx(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    assert source.shape[0] == "N", f"the batch axis is {source.shape[0]}"
    x = x.astype(np.uint8 if source.type == "tensor(uint8)" else np.float32)
    return session.run(None, {source.name: x})[0]


def run_qonnx(path, x):
    model = ModelWrapper(str(path))
    source, target = model.graph.input[0].name, model.graph.output[0].name
    outputs = [execute_onnx(model, {source: x[i : i + 1].astype(np.float32)})[target] for i in range(len(x))]
    return np.concatenate(outputs)


def check_structure(path):
    """The file is valid, and what its nodes make is described."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=path.suffix == ".onnx")
    described = {v.name for v in [*model.graph.value_info, *model.graph.output]}
    made = {name for node in model.graph.node for name in node.output}
    assert made == described, f"no shape of {made ^ described}"


def difference(path, x, expected):
    """Largest difference as a part of the largest expected value; 0 is demanded of integers."""
    check_structure(path)
    y = (run_onnx if path.suffix == ".onnx" else run_qonnx)(path, x)
    assert y.shape == expected.shape, f"shape {y.shape} instead of {expected.shape}"
    # Equal infinities and two that are no numbers do not differ.
    other = ~((y == expected) | (np.isnan(y) & np.isnan(expected)))
    finite = expected[np.isfinite(expected)]
    scale = max(1.0, np.abs(finite).max(initial=0))
    part = np.abs(y[other].astype(np.float64) - expected[other]).max(initial=0) / scale
    whole = np.array_equal(expected, np.round(expected))
    assert part <= (0.0 if whole else TOLERANCE), f"differs by {part:.2g}"
    return part


def check_cases(folder):
    failures = 0
    files = sorted(p for p in pathlib.Path(folder).iterdir() if p.suffix in (".onnx", ".qonnx"))
    for path in files:
        x, expected = (np.load(path.with_suffix(f".{part}.npy")) for part in ("input", "expected"))
        try:
            difference(path, x, expected)
        except Exception as e:  # whatever a library throws is a failure of this case
            failures += 1
            print(f"{path.name}: {e}")
    print(f"{len(files) - failures} of {len(files)} exported ops agree")
    return failures == 0 and len(files) > 0


def check_model(onebit, model, folder):
    def tool(*args):
        return subprocess.run([onebit, *map(str, args)], check=True, capture_output=True).stdout

    info = json.loads(tool("info", model, "--json"))
    h, w, c = info["input"]["shape"]
    axes = [c] if h * w == 1 else [c, h, w] if info["input"]["layout"] == "nchw" else [h, w, c]
    rng = np.random.default_rng(1)
    pixels = info["input"]["format"] == "bytes-u8"
    x = rng.integers(0, 256, [SAMPLES, *axes]) if pixels else rng.normal(size=[SAMPLES, *axes])
    np.save(folder / "input.npy", x.astype(np.float32))
    tool("run", model, folder / "input.npy", "--output", folder / "expected.npy")
    expected = np.load(folder / "expected.npy")
    for dialect in ("onnx", "qonnx"):
        if dialect == "qonnx" and info["binary_macs"] + info["float_macs"] > LARGEST_FOR_QONNX:
            continue
        path = folder / f"model.{dialect}"
        tool("export", model, "-o", path, "--format", dialect)
        part = difference(path, x, expected)
        print(f"{info['name']}: {dialect} of {path.stat().st_size} bytes agrees to {part:.2g}")


def main():
    if sys.argv[1] == "--cases":
        return 0 if check_cases(sys.argv[2]) else 1
    onebit, models = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            check_model(onebit, model, pathlib.Path(folder))
    return 0


sys.exit(main())
