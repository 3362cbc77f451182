"""A process that runs one program: `python -m peers.worker MODULE VARIANT THREADS DIRECTORY`.

It reads one JSON object a line and answers with one: {"prepare": NAME of a workload}, which also runs it once,
{"seconds": S} for each turn, and {"release": true}. The first two are answered with the shortest milliseconds of a run.
"""
import importlib
import json
import os
import sys
import time

from .common import Skip
from .workloads import all_workloads


def turn(run, seconds):
    """Shortest milliseconds of a run; at least one run."""
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        own = run()
        best = min(best, time.perf_counter() - start if own is None else own)
    return best * 1e3


def main():
    module, variant, threads, directory = sys.argv[1:]
    # Libraries print to standard output: answers go to a copy of it, all else to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    loads, run = {load.name: load for load in all_workloads()}, None

    def answer(**values):
        print(json.dumps(values), file=answers)

    try:
        peer = importlib.import_module(f"peers.{module}")
    except Exception as e:  # A wheel may fail to load in any way; the others still run.
        answer(skip=f"{type(e).__name__}: {e}".splitlines()[0])
        return
    answer(version=peer.VERSION)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "release" in request:
                run = None
                answer(released=True)
            elif "prepare" in request:
                run = peer.prepare(loads[request["prepare"]], variant, int(threads), directory)
                answer(ms=turn(run, 0))
            else:
                answer(ms=turn(run, request["seconds"]))
        except Skip as e:
            answer(skip=str(e))
        except Exception as e:  # As above.
            answer(skip=f"{type(e).__name__}: {e}".splitlines()[0], failed=True)


if __name__ == "__main__":
    main()
