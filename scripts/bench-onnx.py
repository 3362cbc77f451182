#!/usr/bin/env python3
"""Times ONNX networks in onebit and in ONNX Runtime, one thread each, taking turns.

    python3 scripts/bench-onnx.py model.onnx ... [--rounds N] [--threads N]

Needs numpy and onnxruntime, and `target/release/onebit` (`cargo build --release`). For each network it checks that both
give the same class, and prints the part of binary MACs, the minimum and median of the best run of each round in
milliseconds, and onnxruntime's minimum over onebit's.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime

ONEBIT = Path(__file__).resolve().parent.parent / "target/release/onebit"


def onebit(*arguments):
    """What a command prints as JSON."""
    run = subprocess.run([ONEBIT, *map(str, arguments), "--json"], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr.strip())
    return json.loads(run.stdout)


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def best(run, seconds):
    """Shortest of the runs that fit into so many seconds."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


def bench(path, rounds, threads, folder):
    model = folder / "model.onebit"
    binary = onebit("convert", path, "-o", model, "--mean", "0", "--std", "1")
    peer = session(path, threads)
    (value,) = [i for i in peer.get_inputs()]
    shape = [d if isinstance(d, int) else 1 for d in value.shape]
    x = numpy.random.default_rng(1).standard_normal(shape).astype(numpy.float32)
    numpy.save(folder / "input.npy", x)
    feed = {value.name: x}
    want = peer.run(None, feed)[0].reshape(shape[0], -1)
    onebit("run", model, folder / "input.npy", "--output", folder / "output.npy")
    got = numpy.load(folder / "output.npy").reshape(shape[0], -1)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(onebit("bench", model, "--threads", threads)["latency_ms"]["min"])
        theirs.append(best(lambda: peer.run(None, feed), 1.0) / shape[0])
    macs = binary["binary_macs"], binary["binary_macs"] + binary["float_macs"]
    return [
        path.stem,
        f"{100 * macs[0] / max(macs[1], 1):.1f} %",
        f"{min(ours):.3g} ({statistics.median(ours):.3g})",
        f"{min(theirs):.3g} ({statistics.median(theirs):.3g})",
        f"{min(theirs) / min(ours):.1f}x",
        "yes" if (got.argmax(1) == want.argmax(1)).all() else "NO",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    heads = ["network", "binary MACs", "onebit ms", "ONNX Runtime ms", "ratio", "same class"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads), flush=True)
    for path in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            row = bench(path, options.rounds, options.threads, Path(folder))
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
