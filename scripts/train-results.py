#!/usr/bin/env python3
"""Trains the networks whose accuracy the project publishes, several seeds each, and writes a table of what came out.

    cargo build --release -p onebit-cli --features train
    python3 scripts/train-results.py --data data --jobs 2               # what a CPU can train
    python3 scripts/train-results.py --data data --gpu --device cuda    # what needs a GPU (feature `cuda` or another)
    python3 scripts/train-results.py --data data bmxnet-lenet --seeds 0,1 --install models

`data` holds folders as `onebit train` reads them: `mnist`, `fashion-mnist`, `cifar-10`. Call it again after a stop, by
Ctrl-C or otherwise: runs that are finished are kept, others go on. The folder of the runs gets `results.json` and
`results.md`; networks of an earlier call stay in both. A network of your own is added with

    --add "two-bits mnist-mlp mnist --weights dorefa:2 --act dorefa:2 --seeds 0,1"

which is its name, recipe (built-in or a file), data (a folder in `data`, or any path) and options of `onebit train`.
Of several seeds `--install` takes the one with the best validation accuracy. The test part chooses nothing.
"""
import argparse
import collections
import datetime
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

from peers.common import cpu_name
from peers.report import between_marks

SCRIPTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(SCRIPTS)
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))

# Name in tables, recipe, folder of the data, options of `onebit train`, seeds (None: those of --seeds).
Network = collections.namedtuple("Network", "name recipe data options seeds")
CPU = [
    Network("bmxnet-lenet", "bmxnet-lenet", "mnist", [], None),
    Network("mnist-mlp", "mnist-mlp", "mnist", [], None),
    Network("fashion-lenet", "fashion-lenet", "fashion-mnist", [], None),
    Network("cifar10-small", "cifar10-small", "cifar-10", [], None),
]
GPU = [
    Network("binarynet-vgg", "binarynet-vgg", "cifar-10", [], None),
    Network("bmxnet-resnet18", "bmxnet-resnet18", "cifar-10", [], None),
    Network("vgg-w1a2", "vgg-w1a2", "cifar-10", [], None),
    Network("vgg-w2a2", "vgg-w1a2", "cifar-10", ["--weights", "dorefa:2"], None),
]
DATA = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar-10": "CIFAR-10"}
# A run's notes of this script, beside the files that `onebit train` writes.
NOTES = "machine.json"


def note(text):
    print(text, file=sys.stderr, flush=True)


def read_json(path):
    """What is in a file; None where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        sys.exit(f"{path} is damaged, remove it: {error}")


def write(path, text):
    """A whole file or none."""
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".tmp", path)


class Run:
    """One network with one seed."""

    def __init__(self, network, seed, args):
        self.network, self.seed, self.args = network, seed, args
        some = f"-first{args.limit}" if args.limit else ""
        self.folder = os.path.join(args.out, f"{network.name}{some}-{seed}")
        self.process = None
        self.recipe = [network.recipe, *network.options, *args.options, "--seed", str(seed)]

    def __str__(self):
        return f"{self.network.name}, seed {self.seed}"

    def file(self, name):
        return os.path.join(self.folder, name)

    def log(self):
        """The log of the run if it is finished."""
        log = read_json(self.file("log.json"))
        return log if log and log["result"] and os.path.exists(self.file("model.onebit")) else None

    def check(self):
        """Ends the script where the recipe is wrong, or the folder holds a run of another one."""
        command = [self.args.onebit, "train", *self.recipe, "--print-recipe"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        if shown.returncode:
            sys.exit(f"{self}: {shown.stderr.strip()}")
        path = self.file("recipe.toml")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                if file.read().strip() != shown.stdout.strip():
                    sys.exit(f"{self.folder} holds a run with another recipe or other options: remove it, or choose "
                             "another --out")

    def start(self):
        args = self.args
        resumes = os.path.exists(self.file("checkpoint.safetensors"))
        command = [args.onebit, "--threads", str(args.threads), "train", *self.recipe, "--data", data_path(self),
                   "--out", self.folder, "--json"]
        command += ["--limit", str(args.limit)] if args.limit else []
        command += ["--device", args.device] if args.device else []
        command += ["--devices", args.devices] if args.devices else []
        command += ["--resume"] if resumes else []
        os.makedirs(self.folder, exist_ok=True)
        note(f"{clock()} {self}: {'goes on' if resumes else 'begins'}")
        with open(self.file("progress.txt"), "a", encoding="utf-8") as progress:
            # In a group of its own, so that Ctrl-C reaches it once, from here: a second would stop it without saving.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=progress, start_new_session=True)

    def end(self):
        """Notes the machine; false if the run failed."""
        log = self.log()
        if self.process.returncode or not log:
            with open(self.file("progress.txt"), encoding="utf-8") as progress:
                last = (progress.read().strip().splitlines() or ["it said nothing"])[-1]
            note(f"{clock()} {self}: ended with {self.process.returncode}: {last}")
            return False
        write(self.file(NOTES), json.dumps(machine(self.args)) + "\n")
        note(f"{clock()} {self}: {accuracy(log['result']['test'])}")
        return True

    def result(self):
        """What results.json holds of a finished run; None of another."""
        log = self.log()
        if not log:
            return None
        result = log["result"]
        best = next((e for e in log["epochs"] if e["epoch"] == result["best_epoch"]), {})
        keys = ["best_epoch", "ended", "test", "file_bytes", "cpu_seconds", "seconds", "differences"]
        return {
            "seed": self.seed, "epochs": len(log["epochs"]), "valid_accuracy": best.get("valid_accuracy"),
            **{key: result[key] for key in keys}, "pictures": log["pictures"], "data_hash": log["data_hash"],
            "device": log["device"], "threads": log["threads"], "version": log["version"], "warnings": log["warnings"],
            # A run that was not started from here.
            **(read_json(self.file(NOTES)) or {"machine": "a machine that is not known", "date": "", "jobs": None})}


def clock():
    return time.strftime("%H:%M:%S")


def machine(args):
    """The machine, in words, and how it is used."""
    name = f"{cpu_name()}, {os.cpu_count()} cores"
    if (args.device or args.devices or "cpu") != "cpu" and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        cards = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().splitlines()
        name = ", ".join([name, *(f"{n} x {card}" for card, n in collections.Counter(cards).items())])
    return {"machine": name, "date": datetime.date.today().isoformat(), "jobs": args.jobs}


def data_path(run):
    inside = os.path.join(run.args.data, run.network.data)
    path = inside if os.path.exists(inside) else run.network.data
    if not os.path.exists(path):
        sys.exit(f"{inside} is missing: {run} needs its pictures there; --data names the folder of the data sets")
    return path


def train(runs, jobs):
    """Runs all, so many at a time. False if one failed or the user stopped."""
    waiting, active, good = collections.deque(runs), [], True
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                active.append(waiting.popleft())
                active[-1].start()
            time.sleep(0.2)
            for run in [r for r in active if r.process.poll() is not None]:
                active.remove(run)
                good &= run.end()
    except KeyboardInterrupt:
        note("stopping: runs save where they are, the same command goes on")
        for run in active:
            run.process.send_signal(signal.SIGINT)
        try:
            for run in active:
                run.process.wait()
        except KeyboardInterrupt:
            for run in active:
                run.process.kill()
        return False
    return good


def entry(network, args, results):
    """What results.json holds of a network."""
    options = [*network.options, *args.options, *(["--limit", str(args.limit)] if args.limit else [])]
    data = os.path.basename(os.path.normpath(network.data))
    command = ["onebit", "train", os.path.basename(network.recipe), "--data", data, *options]
    return {
        "network": network.name, "data": DATA.get(data, data), "command": shlex.join(command),
        "trial": bool(args.epochs or args.limit), "runs": results}


def merged(path, new):
    """Networks of an earlier call and of this one, which replaces."""
    old = {e["network"]: e for e in (read_json(path) or {"networks": []})["networks"]}
    return list({**old, **{e["network"]: e for e in new}}.values())


def percent(share):
    return f"{100 * share:.2f} %"


def accuracy(test):
    return f"{percent(test[0] / test[1])} of {test[1]:,} test pictures" if test else "no test pictures"


def of_seeds(runs):
    """Mean, least and most test accuracy."""
    shares = [correct / total for correct, total in (r["test"] for r in runs if r["test"])]
    if not shares:
        return ["–"] * 3
    return [percent(s) for s in (sum(shares) / len(shares), min(shares), max(shares))]


def span(numbers, form="{:,}"):
    """One number, or least to most."""
    shown = [form.format(f(numbers)) for f in (min, max)]
    return shown[0] if shown[0] == shown[1] else " to ".join(shown)


def differ(runs):
    """Of the test pictures of all runs, those with another class; and, if any, those with other scores."""
    classes = sum(text.startswith("picture ") for r in runs for text in r["differences"])
    scores = sum(not text.startswith("picture ") for r in runs for text in r["differences"])
    return f"{classes}" + (f" (scores: in {scores} of {len(runs)} runs)" if scores else "")


def table(heads, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows]) + "\n"


def markdown(networks):
    """The table of all, and below it what it was measured on."""
    heads = ["network", "data", "seeds", "test accuracy, mean", "least", "most", "epochs", "CPU-minutes", "minutes",
             "file, bytes", "differences"]
    rows, places = [], {}
    for e in networks:
        runs = e["runs"]
        minutes = [span([r[key] / 60 for r in runs], "{:.1f}") for key in ("cpu_seconds", "seconds")]
        rows.append([
            e["network"], e["data"], str(len(runs)), *of_seeds(runs), span([r["epochs"] for r in runs]), *minutes,
            span([r["file_bytes"] for r in runs]), differ(runs)])
        for r in runs:
            threads = f"{r['threads']} thread{'s' * (r['threads'] > 1)} a run"
            jobs = f", {r['jobs']} at a time" if (r["jobs"] or 1) > 1 else ""
            place = f"{r['machine']}, device {r['device']}, {threads}{jobs}, onebit {r['version']}, {r['date']}"
            places.setdefault(place, []).append(e["network"])
    text = table(heads, rows) + BELOW
    trials = [e["network"] for e in networks if e["trial"]]
    if trials:
        text += f"\nOnly trials, with fewer epochs or pictures: {', '.join(trials)}.\n"
    for place, names in places.items():
        text += f"\nMeasured on {place}: {', '.join(dict.fromkeys(names))}.\n"
    text += "\n```\n" + "".join(f"{e['command']}{seed_option(e['runs'])}\n" for e in networks) + "```\n"
    return text


def seed_option(runs):
    first, *others = [str(r["seed"]) for r in runs]
    return f" --seed {first}" + (f"    # and {', '.join(others)}" if others else "")


def best(runs):
    """The run to publish: validation decides, then the lower seed."""
    if any(r["valid_accuracy"] is None for r in runs):
        note("no validation accuracy: the first seed is installed")
        return runs[0]
    return max(runs, key=lambda r: (r["valid_accuracy"], -r["seed"]))


def install(folder, trained, entries):
    """Copies the best seed of each network, and writes results.json and README.md over all that are there; these."""
    new = []
    for e in entries:
        chosen = best(e["runs"])
        source = next(r for r in trained if r.network.name == e["network"] and r.seed == chosen["seed"])
        to = os.path.join(folder, e["network"])
        os.makedirs(to, exist_ok=True)
        for name in ("model.onebit", "recipe.toml"):
            shutil.copyfile(source.file(name), os.path.join(to, name))
        # Where the pictures lay on this machine is nobody's concern.
        log = {**source.log(), "data": e["data"]}
        write(os.path.join(to, "log.json"), json.dumps(log, separators=(",", ":")) + "\n")
        new.append({**e, "installed": chosen["seed"]})
    path = os.path.join(folder, "results.json")
    networks = merged(path, new)
    write(path, json.dumps({"networks": networks}, indent=1) + "\n")
    rows = []
    for e in networks:
        runs, name = e["runs"], e["network"]
        r = next(r for r in runs if r["seed"] == e["installed"])
        valid = "–" if r["valid_accuracy"] is None else percent(r["valid_accuracy"])
        rows.append([
            f"[{name}]({name}/model.onebit)", e["data"], str(r["seed"]), valid, of_seeds([r])[0],
            f"{of_seeds(runs)[0]} of {len(runs)}", f"{r['file_bytes']:,}", differ([r]),
            f"`{e['command']} --seed {r['seed']}`"])
    heads = ["network", "data", "seed", "validation", "test, this file", "test, mean of seeds", "bytes", "differences",
             "made by"]
    write(os.path.join(folder, "README.md"), "# Trained networks\n\n" + INSTALLED + "\n" + table(heads, rows))
    return networks


BELOW = """
CPU-minutes are those of all cores together for one seed, minutes those on the clock. Differences are test pictures, of all seeds
together, on which the model file and the training graph give another class.
"""
INSTALLED = """\
Written by `scripts/train-results.py --install`, which trained them. Each folder has the network (`model.onebit`), its recipe with all
that was replaced, and the log of its run. Of several seeds the one with the best validation accuracy is here; test pictures chose
nothing. A difference is a test picture on which the file and the training graph give another class.
"""


def parse_added(text):
    """A network of --add."""
    parser = argparse.ArgumentParser(prog="--add", usage='--add "NAME RECIPE DATA [--seeds N,N] [options of train]"')
    for name in ("name", "recipe", "data"):
        parser.add_argument(name)
    parser.add_argument("--seeds", type=seeds)
    parser.add_argument("options", nargs=argparse.REMAINDER)
    # What belongs to `onebit train` comes after the three names, but --seeds may stand anywhere.
    words = shlex.split(text)
    given = []
    if "--seeds" in words:
        at = words.index("--seeds")
        given, words = words[at:at + 2], words[:at] + words[at + 2:]
    a = parser.parse_args([*given, *words])
    if os.path.basename(a.name) != a.name or a.name.startswith((".", "-")):
        sys.exit(f"--add: '{a.name}' is no name of a folder")
    return Network(a.name, a.recipe, a.data, a.options, a.seeds)


def seeds(text):
    """Numbers by commas."""
    numbers = [int(n) for n in text.split(",")]
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ValueError
    return numbers


def positive(text):
    if int(text) < 1:
        raise ValueError
    return int(text)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names from the list; all if none is given (see --list)")
    parser.add_argument("--list", action="store_true", help="show the networks and stop")
    parser.add_argument("--gpu", action="store_true", help="the networks that need a GPU instead of the others")
    parser.add_argument("--add", action="append", default=[], metavar="TEXT", help="one more network, see above; with it "
                        "and without names only what is added is trained")
    parser.add_argument("--data", default="data", metavar="FOLDER", help="folder of the data sets (default: data)")
    parser.add_argument("--out", metavar="FOLDER", help="folder of the runs (default: runs/results; of trials "
                        "runs/results-trial)")
    parser.add_argument("--seeds", type=seeds, default=[0, 1, 2], metavar="N,N", help="default: 0,1,2")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of each run (default: 1; with --gpu all cores)")
    parser.add_argument("--device", metavar="D", help="as `onebit train` takes it")
    parser.add_argument("--devices", metavar="D,D", help="as `onebit train` takes it")
    parser.add_argument("--epochs", type=positive, metavar="N", help="for a trial: of each run")
    parser.add_argument("--limit", type=positive, metavar="N", help="for a trial: the first N pictures of each part")
    parser.add_argument("--onebit", default=os.path.join(TARGET, "release", "onebit"), help="the command to run")
    parser.add_argument("--markdown", metavar="FILE", help="write the table there too, between its marks if it has "
                        "them; with --install that of all that are installed")
    parser.add_argument("--install", metavar="FOLDER", help="copy the best seed of each network there")
    args = parser.parse_intermixed_args()
    if args.gpu and not (args.device or args.devices):
        parser.error("--gpu needs --device (cuda, vulkan, wgpu; cuda:1) or --devices")
    if args.device and args.devices:
        parser.error("--device and --devices exclude each other")
    args.threads = args.threads or (os.cpu_count() if args.gpu else 1)
    args.out = args.out or os.path.join("runs", "results-trial" if args.epochs or args.limit else "results")
    args.options = ["--epochs", str(args.epochs)] if args.epochs else []
    return args


def main():
    args = parse()
    known = [*(GPU if args.gpu else CPU), *map(parse_added, args.add)]
    names = args.networks or [n.name for n in (known[-len(args.add):] if args.add else known)]
    unknown = set(names) - {n.name for n in known}
    if unknown:
        sys.exit(f"{', '.join(sorted(unknown))}: not in the list, which has {', '.join(n.name for n in known)}")
    networks = [n for n in known if n.name in names]
    if len({n.name for n in networks}) < len(networks):
        sys.exit("two networks have the same name")
    if args.list:
        for n in networks:
            print(shlex.join([n.name, n.recipe, n.data, *n.options]))
        return
    if not os.path.exists(args.onebit):
        sys.exit(f"{args.onebit} is missing: run `cargo build --release -p onebit-cli --features train` first, or name "
                 "it with --onebit")
    runs = [Run(n, seed, args) for n in networks for seed in n.seeds or args.seeds]
    for run in runs:
        data_path(run)
        run.check()
    open_runs = [run for run in runs if not run.log()]
    note(f"{len(runs)} runs, {len(runs) - len(open_runs)} of them finished already")
    good = train(open_runs, args.jobs)

    found = [(n, [r.result() for r in runs if r.network is n]) for n in networks]
    entries = [entry(n, args, [r for r in results if r]) for n, results in found if any(results)]
    if not entries:
        sys.exit("no run is finished")
    path = os.path.join(args.out, "results.json")
    all_networks = merged(path, entries)
    text = markdown(all_networks)
    write(path, json.dumps({"networks": all_networks}, indent=1) + "\n")
    write(os.path.join(args.out, "results.md"), text)
    print(text, end="")
    if not good:
        sys.exit("not all runs are finished: call it again to go on"
                 + ("; nothing was installed" if args.install else ""))
    if args.install:
        text = markdown(install(args.install, runs, entries))
    if args.markdown:
        write(args.markdown, between_marks(args.markdown, text, "results", "train-results.py"))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped")
