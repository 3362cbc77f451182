"""onebit itself, through its command: `onebit bench`.

Networks and products run for the command's own time, which is longer than a peer's turn.
"""
import json
import subprocess


def turn(binary, load, threads, seconds):
    """Shortest milliseconds of one run of `load`."""

    def bench(*arguments):
        command = [binary, "bench", *map(str, arguments), "--threads", str(threads), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return json.loads(done.stdout)

    def conv(*arguments):
        report = bench("conv", *arguments, "--milliseconds", round(seconds * 1e3))
        return report["conv_microseconds"] / 1e3, report["binarize_microseconds"] / 1e3

    p = load.params
    if load.kind == "network":
        return bench(p["network"], "--batch", p["batch"])["latency_ms"]["min"]
    if load.kind == "conv":
        return conv(p["h"], p["h"], p["c"], p["n"], p["kernel"])[0]
    if p["m"] == 200 * 64:
        # As a 1x1 convolution, which can start from floats.
        product, bits = conv(100, 128, p["k"], p["n"], 1, "--sums")
        return product + bits if p["binarize"] else product
    return bench("gemm", p["m"], p["n"], p["k"])["latency_ms"]["min"]
