#!/usr/bin/env python3
"""Times an epoch of training in onebit and in PyTorch on the CPU, in turn, in one run.

    cargo build --release -p onebit-cli --features train
    python3 scripts/bench-train.py --setup                    # once: makes an environment with PyTorch
    python3 scripts/bench-train.py --data data/mnist          # about 15 minutes on two idle cores; --quick: 4
    python3 scripts/bench-train.py --data data/mnist --markdown docs/training.md

Every turn is a process of its own that trains a network on the first pictures of MNIST for two epochs. The second
counts: the first pays for memory and threads. Both programs time their epoch themselves, in seconds of all cores
together and on the clock; times are extrapolated to the 60,000 pictures of an epoch. PyTorch is measured twice: with the
same signs as onebit and as the float network; `peers/train_torch.py` says what it is given.
"""
import argparse
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile

from peers.common import cpu_name
from peers.report import between_marks

SCRIPTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(SCRIPTS)
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))

# Recipe and learning rate, which is the recipe's.
NETWORKS = {"bmxnet-lenet": 3e-3, "mnist-mlp": 1e-2}
PROGRAMS = ["onebit", "PyTorch, signs", "PyTorch, float"]
FULL = 60_000
PYTORCH_CPU = "https://download.pytorch.org/whl/cpu"

COMPARED = """\
An epoch of 60,000 pictures of 28x28, extrapolated from {pictures:,}: minimum (median) of {rounds} turns, and how many
times onebit's minimum that is; below 1 PyTorch is faster. Every program runs the same layers with the same batch and Adam, without
augmentation and without validation.

* **onebit** is `onebit train RECIPE`: decoded pictures become batches, binary layers of signs, and the report's counts.
* **PyTorch, signs** computes the same: float products of +1 and -1, the gradient of `clip(x, -1, 1)`, latent weights clipped.
* **PyTorch, float** is the network that a user would train instead: float weights, `hardtanh` where the other has signs.

PyTorch has oneDNN, the fused Adam, NHWC and threads that sleep while they wait (`OMP_WAIT_POLICY=passive`).
"""


def note(text):
    print(text, file=sys.stderr, flush=True)


def setup(env):
    """Makes an environment with PyTorch, without the CUDA packages if their site can be reached."""
    subprocess.run([sys.executable, "-m", "venv", env], check=True)
    pip = [os.path.join(env, "bin", "pip"), "install", "-q"]
    small = [*pip, "torch", "--index-url", PYTORCH_CPU, "--retries", "1", "--timeout", "15"]
    if subprocess.run(small, check=False).returncode:
        note(f"{PYTORCH_CPU} cannot be reached: the larger package of PyPI is installed")
        if subprocess.run([*pip, "torch"], check=False).returncode:
            sys.exit("pip cannot install torch; name a Python that has it with --python")


def ask(command, threads):
    """What a process prints as JSON."""
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    # PyTorch's threads spin while they wait, which costs up to ten times the work where other programs run too.
    variables["OMP_WAIT_POLICY"] = "passive"
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env={**os.environ, **variables})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        sys.exit(f"{command[0]} ended with {done.returncode}: {last}")
    return json.loads(done.stdout)


def onebit(args, network, batch, threads):
    """Epochs of a run, and the version."""
    settings = {"train.validation": 0, "train.augment": "{}", "train.schedule": "constant"}
    command = [args.onebit, "--threads", threads, "train", network, "--data", args.data, "--limit", args.pictures,
               "--epochs", 2, "--batch", batch, "--rate", NETWORKS[network], "--json"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    with tempfile.TemporaryDirectory() as folder:
        ask([*command, "--out", folder], threads)
        with open(os.path.join(folder, "log.json"), encoding="utf-8") as file:
            log = json.load(file)
    if log["pictures"][0] != args.pictures:
        sys.exit(f"{args.data} has {log['pictures'][0]:,} training pictures: give a smaller --pictures")
    return log["epochs"], log["version"]


def pytorch(args, network, batch, threads, *options):
    """As `onebit`."""
    result = ask([
        args.python, os.path.join(SCRIPTS, "peers", "train_torch.py"), network, args.data, "--pictures", args.pictures,
        "--batch", batch, "--threads", threads, "--rate", NETWORKS[network], *options], threads)
    return result["epochs"], result["version"]


def measure(args):
    """Everything; the result as `markdown` reads it."""
    result = {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores", "date": datetime.date.today().isoformat(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, "rounds": args.rounds,
        "pictures": args.pictures, "versions": {}, "rows": []}
    try:
        for place in itertools.product(args.networks, args.batches, sorted({1, args.threads})):
            rows = take_turns(args, place, result["versions"])
            result["rows"] += rows
            shown = "; ".join(f"{r['program']} {r['cpu_seconds'][0]:.1f}" for r in rows)
            note("{}, batch {}, threads {}: CPU-seconds of an epoch: ".format(*place) + shown)
    except KeyboardInterrupt:
        if not result["rows"]:
            sys.exit("stopped")
        note("stopped: the result holds what was measured so far")
    return result


def take_turns(args, place, versions):
    """Rows of the result for one network, batch and number of threads."""
    runs = [onebit, lambda *a: pytorch(*a, "--binary"), pytorch]
    turns = {program: [] for program in PROGRAMS}
    for _ in range(args.rounds):
        for program, run in zip(PROGRAMS, runs):
            epochs, versions[program.split(",")[0]] = run(args, *place)
            turns[program].append(epochs[-1])
    return [row(*place, program, epochs, FULL / args.pictures) for program, epochs in turns.items()]


def row(network, batch, threads, program, epochs, factor):
    def times(key):
        seconds = [e[key] * factor for e in epochs]
        return [min(seconds), statistics.median(seconds)]

    return {
        "network": network, "batch": batch, "threads": threads, "program": program,
        "cpu_seconds": times("cpu_seconds"), "seconds": times("seconds"),
        # Of the pictures while they are learned, in the second epoch: whether both learn.
        "train_accuracy": statistics.median(e["train_accuracy"] for e in epochs)}


def markdown(result):
    """Two tables, and what is compared."""
    lines = [COMPARED.format(**result)]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines.append(f"{result['machine']}, {versions}, {result['date']}; load average {result['load']:.1f} when it began"
                 f"{', so not an idle machine' if result['load'] > 0.5 else ''}.\n")
    for key, what in [("cpu_seconds", "Seconds of all cores together"), ("seconds", "Seconds on the clock")]:
        lines += [f"{what}:\n", "| network | batch | threads | " + " | ".join(PROGRAMS) + " |", "|---" * 6 + "|"]
        places = dict.fromkeys((r["network"], r["batch"], r["threads"]) for r in result["rows"])
        for place in places:
            rows = [r for r in result["rows"] if (r["network"], r["batch"], r["threads"]) == place]
            cells = [f"{r[key][0]:.1f} ({r[key][1]:.1f})" for r in rows]
            cells = [cells[0], *(f"{c}, {r[key][0] / rows[0][key][0]:.2f}x" for c, r in zip(cells[1:], rows[1:]))]
            lines.append("| " + " | ".join(map(str, [*place, *cells])) + " |")
        lines.append("")
    learned = [f"{p}: {100 * statistics.median(r['train_accuracy'] for r in result['rows'] if r['program'] == p):.0f} %"
               for p in PROGRAMS]
    lines.append("That all of them learn: of the pictures these are classified right during the second epoch (median of\n"
                 f"the rows): {'; '.join(learned)}.")
    return "\n".join(lines) + "\n"


def numbers(text):
    values = [int(n) for n in text.split(",")]
    if min(values) < 2:
        raise ValueError
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)} (default: both)")
    parser.add_argument("--setup", action="store_true", help="make the environment and stop")
    parser.add_argument("--env", default=os.path.join(TARGET, "train-peers"), help="folder of the environment")
    parser.add_argument("--python", help="a Python that has PyTorch (default: that of --env)")
    parser.add_argument("--onebit", default=os.path.join(TARGET, "release", "onebit"), help="the command to measure")
    parser.add_argument("--data", default=os.path.join("data", "mnist"), help="folder of MNIST (default: data/mnist)")
    parser.add_argument("--batches", type=numbers, default=[64, 128], metavar="N,N", help="default: 64,128")
    parser.add_argument("--pictures", type=int, help="default 7680, with --quick 5120: whole batches")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="measure with 1 and with so many")
    parser.add_argument("--rounds", type=int, help="default 5; with --quick 2")
    parser.add_argument("--quick", action="store_true", help="fewer pictures and rounds")
    parser.add_argument("--json", metavar="FILE", help="write the result")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there, between its marks if it has them")
    args = parser.parse_args()
    if args.setup:
        setup(args.env)
        return
    args.networks = args.networks or list(NETWORKS)
    if set(args.networks) - set(NETWORKS):
        parser.error(f"networks are {', '.join(NETWORKS)}")
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.pictures = args.pictures or (5120 if args.quick else 7680)
    args.python = args.python or os.path.join(args.env, "bin", "python")
    missing = [
        (args.onebit, "run `cargo build --release -p onebit-cli --features train` first, or name it with --onebit"),
        (args.python, "run this script with --setup first, or name a Python that has PyTorch with --python"),
        (args.data, "name the folder of MNIST's four files with --data")]
    for path, remedy in missing:
        if not os.path.exists(path):
            sys.exit(f"{path} is missing: {remedy}")
    result = measure(args)
    text = markdown(result)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            file.write(json.dumps(result, indent=1) + "\n")
    if args.markdown:
        text = between_marks(args.markdown, text, "training", "bench-train.py")
        with open(args.markdown, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
