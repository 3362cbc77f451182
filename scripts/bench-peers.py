#!/usr/bin/env python3
"""Times onebit beside other programs on the same workloads, in turn, in one run.

    cargo build --release
    python3 scripts/bench-peers.py --setup              # once: makes environments with pinned wheels
    python3 scripts/bench-peers.py                      # about 15 minutes; --quick: 4
    python3 scripts/bench-peers.py --check --markdown docs/performance.md --svg docs/peers.svg

Programs take turns: in each round each runs for a short time on the same workload, so that a change of the machine's
speed meets all of them. A turn's result is its shortest run; the table shows the minimum and the median of the
turns. Every program keeps its weights packed as it likes beforehand. A program that is not installed, or cannot run a
workload, is left out with a line that says so. What each program is given is told at the head of its file in `peers/`.
"""
import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from peers import onebit, report
from peers.common import cpu_name
from peers.workloads import all_workloads

SCRIPTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(SCRIPTS)
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))

# Name, file in `peers/`, variant, variables of its process.
PROGRAMS = [
    ("openvino binary", "openvino_", "binary", {}),
    ("openvino int8", "openvino_", "int8", {}),
    ("openvino bf16", "openvino_", "bf16", {}),
    ("openvino f32", "openvino_", "f32", {}),
    ("onnxruntime int8", "ort", "int8", {}),
    ("onnxruntime f32", "ort", "f32", {}),
    ("openblas", "openblas", "default", {}),
    ("openblas skylakex", "openblas", "skylakex", {"OPENBLAS_CORETYPE": "SKYLAKEX"}),
    ("textbook native", "textbook", "native", {}),
    ("textbook popcnt", "textbook", "popcnt", {}),
    ("larq compute engine", "lce", "binary", {}),
]
# A program whose first run takes longer than this is not asked again.
LONG_MS = 2000


def note(text):
    print(text, file=sys.stderr, flush=True)


def python_of(env, module):
    """The Python of a module's environment; this one where the environment was not made."""
    path = os.path.join(env + ("-lce" if module == "lce" else ""), "bin", "python")
    return path if os.path.exists(path) else sys.executable


def setup(env):
    """Makes the two environments: a second one for Larq Compute Engine, whose TensorFlow needs an old Python."""
    old = next((p for p in ("python3.11", "python3.10", "python3.9") if shutil.which(p)), None)
    for python, path, wheels in [(sys.executable, env, "requirements"), (old, env + "-lce", "requirements-lce")]:
        if not python:
            note("skipped: larq compute engine needs Python 3.9 to 3.11, and there is none")
            continue
        subprocess.run([python, "-m", "venv", path], check=True)
        wheels = os.path.join(SCRIPTS, "peers", wheels + ".txt")
        if subprocess.run([os.path.join(path, "bin", "pip"), "install", "-q", "-r", wheels], check=False).returncode:
            note(f"skipped: pip cannot install {wheels}")


class Worker:
    """A process that runs one program. `hello` tells its version, or why it is skipped."""

    def __init__(self, program, threads, env, directory):
        self.name, module, variant, variables = program
        count = {v: str(threads) for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        command = [python_of(env, module), "-m", "peers.worker", module, variant, str(threads), directory]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=SCRIPTS,
            env={**os.environ, **count, **variables})
        self.hello = self._answer()

    def ask(self, **request):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"skip": "its process has ended", "failed": True}

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # It has ended already.
        self.process.wait()


def measure(load, threads, workers, args):
    """Lists of milliseconds by program: its turns on one workload."""
    ready, times = [], {"onebit": []}
    for worker in workers:
        answer = worker.ask(prepare=load.name)
        if answer.get("failed"):
            note(f"  skipped: {worker.name} on {load.name}: {answer['skip']}")
        elif answer.get("ms", 0) > LONG_MS:
            times[worker.name] = [answer["ms"]]
        elif "ms" in answer:
            times[worker.name] = []
            ready.append(worker)
    for _ in range(args.rounds):
        times["onebit"].append(onebit.turn(args.onebit, load, threads, args.seconds))
        for worker in list(ready):
            time.sleep(0.02)  # Threads of the last program stop spinning.
            answer = worker.ask(seconds=args.seconds)
            if "ms" in answer:
                times[worker.name].append(answer["ms"])
            else:
                note(f"  skipped: {worker.name} on {load.name}: {answer['skip']}")
                ready.remove(worker)
    for worker in workers:
        worker.ask(release=True)
    return {name: ms for name, ms in times.items() if ms}


def run(args):
    """Runs everything; the result as `report.py` reads it."""
    loads = [load for load in all_workloads() if not (args.quick and load.slow)]
    if args.only:
        loads = [load for load in loads if any(w in load.name or w in load.group for w in args.only.split(","))]
    programs = [p for p in PROGRAMS if not args.peers or any(word in p[0] for word in args.peers.split(","))]
    today = datetime.date.today().isoformat()
    result = {
        "machine": cpu_name(), "date": today, "rounds": args.rounds, "seconds": args.seconds, "versions": {},
        "rows": []}
    with tempfile.TemporaryDirectory() as directory:
        try:
            for threads in sorted({1, args.threads}):
                some = [load for load in loads if threads == 1 or load.threaded]
                if some:
                    run_threads(threads, some, programs, directory, args, result)
        except KeyboardInterrupt:
            note("stopped: the result holds what was measured so far")
    return result


def run_threads(threads, loads, programs, directory, args, result):
    """Appends to `result` what `loads` take on so many threads."""
    workers = []
    try:
        for program in programs:
            worker = Worker(program, threads, args.env, directory)
            if "skip" in worker.hello:
                note(f"skipped: {worker.name}: {worker.hello['skip']}")
                worker.close()
            else:
                result["versions"][worker.name] = worker.hello["version"]
                workers.append(worker)
        for load in loads:
            note(f"{time.monotonic() - args.start:4.0f} s  {threads} thread{'s' * (threads > 1)}: {load.name}")
            for program, ms in measure(load, threads, workers, args).items():
                result["rows"].append({
                    "workload": load.name, "group": load.group, "threads": threads, "program": program,
                    "min_ms": min(ms), "median_ms": statistics.median(ms), "turns": len(ms)})
    finally:
        for worker in workers:
            worker.close()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="make the environments and stop")
    parser.add_argument("--env", default=os.path.join(TARGET, "peers"), help="folder of the environments")
    parser.add_argument("--onebit", default=os.path.join(TARGET, "release", "onebit"), help="the command to measure")
    parser.add_argument("--only", metavar="WORDS", help="workloads or groups that contain one of these, by commas")
    parser.add_argument("--peers", metavar="WORDS", help="programs that contain one of these, by commas")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="measure with 1 and with so many")
    parser.add_argument("--rounds", type=int, help="default 5; with --quick 2")
    parser.add_argument("--quick", action="store_true", help="short turns, fewer rounds and workloads")
    parser.add_argument("--read", metavar="FILE", help="take the result of an earlier --json instead of measuring")
    parser.add_argument("--json", metavar="FILE", help="write the result")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there, between its marks if it has them")
    parser.add_argument("--svg", metavar="FILE", help="write a chart")
    parser.add_argument("--check", action="store_true", help="compare the ratios with the project's targets")
    args = parser.parse_args()
    args.start = time.monotonic()
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.seconds = 0.1 if args.quick else 0.25
    if args.setup:
        setup(args.env)
        return
    if args.read:
        try:
            with open(args.read, encoding="utf-8") as file:
                result = json.load(file)
            result["rows"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.exit(f"{args.read} is not a result of an earlier --json: {error}")
    else:
        if not os.path.exists(args.onebit):
            sys.exit(f"{args.onebit} is missing: run `cargo build --release` first, or name it with --onebit")
        result = run(args)
    if args.markdown:
        write(args.markdown, report.between_marks(args.markdown, report.markdown(result)))
    else:
        print(report.markdown(result))
    if args.json:
        write(args.json, json.dumps(result, indent=1) + "\n")
    if args.svg:
        write(args.svg, report.svg(result))
    if args.check:
        print(report.check(result))


if __name__ == "__main__":
    main()
