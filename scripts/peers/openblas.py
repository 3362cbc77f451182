"""OpenBLAS, through numpy's wheel: float32 products, convolutions as products whose lowering is not counted.

Its variants are chosen by the variable OPENBLAS_CORETYPE, which `worker.py` sets before this file is read.
"""
import numpy as np

from .common import Skip

VERSION = f"{np.show_config(mode='dicts')['Build Dependencies']['blas']['version']} (numpy {np.__version__})"


def as_gemm(load):
    """The matrix product that `load` amounts to: m, n, k."""
    p = load.params
    if load.kind == "gemm":
        return p["m"], p["n"], p["k"]
    if load.kind == "conv":
        return p["h"] ** 2, p["n"], p["c"] * p["kernel"] ** 2
    raise Skip("runs products and convolutions only")


def prepare(load, variant, threads, directory):
    """A function that runs `load` once."""
    m, n, k = as_gemm(load)
    rng = np.random.default_rng(1)
    a, b = rng.random((m, k), dtype=np.float32), rng.random((k, n), dtype=np.float32)
    c = np.empty((m, n), np.float32)

    def run():
        np.matmul(a, b, out=c)

    return run
