"""The XNOR product of textbooks in plain C, as this machine's compiler makes it; see textbook.c.

Of two orders of loops, the one that is faster on the shape counts. Its input is bits, lowered and packed, unless
`binarize` is asked for.
"""
import ctypes
import os
import subprocess
import time

import numpy as np

from .openblas import as_gemm

FLAGS = {"native": ["-O3", "-march=native"], "popcnt": ["-O3", "-mpopcnt"]}
VERSION = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "textbook.c")


def _pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def prepare(load, variant, threads, directory):
    """A function that runs `load` once and returns its seconds."""
    m, n, k = as_gemm(load)
    path = os.path.join(directory, f"textbook-{variant}.so")
    if not os.path.exists(path):
        subprocess.run(["cc", *FLAGS[variant], "-fopenmp", "-shared", "-fPIC", "-o", path, SOURCE], check=True)
    library = ctypes.CDLL(path)
    rng, words = np.random.default_rng(1), -(-k // 64)
    a, b = (rng.integers(0, 2**64, rows * words, dtype=np.uint64) for rows in (m, n))
    c = np.empty(m * n, np.int32)
    arguments = [*map(ctypes.c_long, (m, n, words)), *map(_pointer, (a, b, c))]
    floats = None
    if load.params.get("binarize"):
        floats = rng.random(m * words * 64, dtype=np.float32) - np.float32(0.5)

    def seconds(function, *args):
        start = time.perf_counter()
        function(*args)
        return time.perf_counter() - start

    orders = [library.xnor_gemm_dot, library.xnor_gemm_row]
    trials = [min(seconds(f, *arguments) for _ in range(2)) for f in orders]
    faster = orders[trials.index(min(trials))]

    def run():
        gemm = seconds(faster, *arguments)
        if floats is None:
            return gemm
        return gemm + seconds(library.binarize, ctypes.c_long(m * words), _pointer(floats), _pointer(a))

    return run
