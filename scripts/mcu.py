#!/usr/bin/env python3
"""Runs a network that `onebit codegen` wrote as a C header on emulated microcontrollers, and says what only the linker
and the emulator know: flash, RAM, stack, instructions.

    onebit codegen model.onebit -o mnist.h
    onebit run model.onebit images.npy --output scores.npy
    python3 scripts/mcu.py mnist.h --images images.npy --labels labels.npy --expected scores.npy
    python3 scripts/mcu.py mnist.h --images t10k-images-idx3-ubyte.gz --target cortex-m0,avr --opt Os,O2 --json out.json
    python3 scripts/mcu.py mnist.h --images images.npy --record figures.json      # once; later, to fail on any growth:
    python3 scripts/mcu.py mnist.h --images images.npy --check figures.json

Every target runs the same images; scores must be the same bit for bit on all of them, and as expected. The header must
also compile without a warning as C99 and C++11 on every compiler of the targets. embedded/README.md says what each
figure means and what to install.
"""
import argparse
import collections
import json
import os
import re
import statistics
import struct
import subprocess
import sys

import arrays

SCRIPTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(SCRIPTS)
EMBEDDED = os.path.join(ROOT, "embedded")
BUILD = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "mcu")

# What is missing, as programs say it, and the Debian package that has it.
PACKAGES = {
    "gcc": "gcc libc6-dev", "clang++": "clang", "qemu-system-riscv32": "qemu-system-misc",
    "arm-none-eabi-": "gcc-arm-none-eabi", "avr-": "gcc-avr", "riscv64-unknown-elf-": "gcc-riscv64-unknown-elf"}
FILES = {
    "libclang_rt": "libclang-rt-dev", "avr/io.h": "avr-libc", "crtatmega328p.o": "avr-libc", "simavr/": "libsimavr-dev"}
INSTALL = "apt-get install -y --no-install-recommends"
WARNINGS = ["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
# That loops do not become calls of memset, which would then be there without the network.
PLAIN = ["-Os", "-fno-builtin", "-fno-tree-loop-distribute-patterns"]
SECTIONS = ["-ffunction-sections", "-fdata-sections"]
ARM = ["-mthumb", "-ffreestanding"]
RISCV = ["-march=rv32imc", "-mabi=ilp32", "-mcmodel=medany", "-ffreestanding"]


def memory(flash_origin, flash_kb, ram_origin, ram_kb):
    """Symbols of link.ld."""
    places = {"flash_origin": flash_origin, "flash_bytes": flash_kb << 10,
              "ram_origin": ram_origin, "ram_bytes": ram_kb << 10}
    return ["-nostdlib", "-T", os.path.join(EMBEDDED, "link.ld"), "-Wl,--no-warn-rwx-segments",
            *(f"-Wl,--defsym={name}={value}" for name, value in places.items())]


# A chip: in words, its compiler, what it is compiled and linked with, its board_*.c, its emulator.
Target = collections.namedtuple("Target", "machine prefix flags link board emulator")
TARGETS = {
    "cortex-m4": Target(
        "Cortex-M4F, 1 MB flash, 256 kB RAM", "arm-none-eabi-",
        ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", *ARM], memory(0, 1024, 0x20000000, 256),
        "semihosting", ["qemu-system-arm", "-M", "mps2-an386"]),
    "cortex-m0": Target(
        "Cortex-M0, 256 kB flash, 16 kB RAM", "arm-none-eabi-", ["-mcpu=cortex-m0", *ARM], memory(0, 256, 0x20000000, 16),
        "semihosting", ["qemu-system-arm", "-M", "microbit"]),
    "rv32imc": Target(
        "RV32IMC, 1 MB flash, 256 kB RAM", "riscv64-unknown-elf-", RISCV, memory(0x80000000, 1024, 0x80400000, 256),
        "semihosting", ["qemu-system-riscv32", "-M", "virt", "-bios", "none"]),
    # Its compiler knows its memory.
    "avr": Target("ATmega328P at 16 MHz, 32 kB flash, 2 kB RAM", "avr-", ["-mmcu=atmega328p"], [], "avr", None),
    "host": Target("this machine", "", [], [], "host", None),
}
# Compiler, options and what they find on the host.
SANITIZERS = [
    ("gcc", ["-fsanitize=address,undefined", "-fstack-protector-all"], "address, undefined"),
    ("clang", ["-fsanitize=address,undefined", "-fstack-protector-all"], "address, undefined"),
    ("clang", ["-fsanitize=memory", "-DNETWORK_POISON"], "memory"),
]
AVR_DATA = 0x800000


class Failure(Exception):
    """One sentence for the user."""


def note(text):
    print(text, file=sys.stderr, flush=True)


def run(command, what, **options):
    """Runs a program; its standard output. Names the package of one that is missing."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, **options)
    except FileNotFoundError:
        name = os.path.basename(command[0])
        package = PACKAGES.get(name) or PACKAGES.get(re.sub(r"[^-]+$", "", name), name)
        raise Failure(f"{name} is missing: {INSTALL} {package}") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{what}: no end after {options['timeout']} s (--timeout gives it more)") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        for part in [p for p in FILES if p in said and re.search("no such file|cannot find", said, re.I)]:
            said += f"\n{INSTALL} {FILES[part]}"
        raise Failure(f"{what}: {os.path.basename(command[0])} ended with {done.returncode}"
                      + (f"\n{said[:4000]}" if said else ", as it does where the program meets a fault"))
    return done.stdout


class Network:
    """A generated header: its prefix, and what it says of itself."""

    def __init__(self, header):
        self.header = os.path.abspath(header)
        try:
            with open(header, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"{header} cannot be read: {error}") from None
        found = re.search(r"\bvoid (\w+)_run\s*\(const uint8_t", text, re.M)
        upper = re.search(r"^#define (\w+)_INPUT_BYTES\b", text, re.M)
        if not found or not upper:
            raise Failure(f"{header} is not from `onebit codegen`: it declares no NAME_run or no NAME_INPUT_BYTES")
        self.name, self.upper = found[1], upper[1]
        self.defines = [f'-DNETWORK_HEADER="{self.header}"'] + [
            f"-Dnetwork_{part}={self.name}_{part}" for part in ("run", "class", "score", "scratch")] + [
            f"-DNETWORK_{part}={self.upper}_{part}" for part in ("OUTPUTS", "INPUT_BYTES")]
        self.implementation = f"-D{self.upper}_IMPLEMENTATION"
        self.folder = os.path.join(BUILD, self.name)
        os.makedirs(self.folder, exist_ok=True)
        self.ask()

    def ask(self):
        """What the compiler makes of the header's constants and types."""
        constants = ("INPUT_BYTES", "INPUT_BITS", "OUTPUTS", "SCRATCH_BYTES", "TABLE_BYTES")
        values = [f"{self.upper}_{c}" for c in constants] + [f"sizeof({self.name}_scratch)", f"({self.name}_score)0.5 != 0"]
        source = (f'#include "{self.header}"\n#include <stdio.h>\nint main(void) {{ printf("'
                  + "%ld " * len(values) + '", ' + ", ".join(f"(long)({v})" for v in values) + "); return 0; }\n")
        probe = os.path.join(self.folder, "probe")
        what = f"constants of {self.header}"
        run(["gcc", "-std=c99", "-x", "c", "-", "-o", probe], what, input=source.encode())
        said = map(int, run([probe], what).split())
        self.input_bytes, self.input_bits, self.outputs, scratch, self.tables, self.scratch, self.is_float = said
        if scratch != self.scratch:
            raise Failure(f"{self.header}: {self.upper}_SCRATCH_BYTES is {scratch}, but {self.name}_scratch has "
                          f"{self.scratch} bytes")
        if self.is_float:
            self.defines.append("-DNETWORK_FLOAT")

    def number(self, word):
        """A score, from the hexadecimal word that main.c prints."""
        bits = int(word, 16)
        if self.is_float:
            return struct.unpack("<f", struct.pack("<I", bits))[0]
        return bits - (bits >> 31 << 32)

    def same(self, a, b):
        """Whether two scores are equal to the last bit."""
        try:
            return struct.pack("<f", a) == struct.pack("<f", b) if self.is_float else a == b
        except OverflowError:
            return False


def first_difference(network, ours, theirs):
    """A sentence on the first score that differs; None without."""
    for image, (a, b) in enumerate(zip(ours, theirs)):
        if len(a) != len(b):
            return f"picture {image} has {len(a)} scores, {len(b)} are expected"
        for output, (x, y) in enumerate(zip(a, b)):
            if not network.same(x, y):
                return f"picture {image}, score {output}: {x}, expected {y}"
    return None


class Job:
    """A network on a target at one level of optimisation."""

    def __init__(self, network, name, level, args):
        self.network, self.target, self.args = network, TARGETS[name], args
        self.key = f"{name} {level}"
        self.row = {"target": name, "opt": level, "machine": self.target.machine}
        self.level = f"-{level}"
        self.folder = os.path.join(network.folder, f"{name}-{level}")
        os.makedirs(self.folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def tool(self, name):
        return self.target.prefix + name

    def object(self, source, compiler, options):
        """Compiles a file of embedded/; the object."""
        out = self.path(source + ".o")
        run([compiler, "-std=gnu99", "-Wall", "-Wextra", "-Werror", *self.target.flags, *SECTIONS, *self.network.defines,
             *options, "-I", EMBEDDED, "-c", os.path.join(EMBEDDED, source + ".c"), "-o", out],
            f"{self.key}: {source}.c")
        return out

    def network_object(self, compiler, options):
        """The network as users compile it; as C99 at the level that is measured, with all warnings."""
        out = self.path("network.o")
        run([compiler, "-std=c99", *WARNINGS, self.level, *self.target.flags, *SECTIONS, *self.network.defines,
             self.network.implementation, *options, "-c", os.path.join(EMBEDDED, "network.c"), "-o", out],
            f"{self.key}: {self.network.header} as C99")
        return out

    def as_cpp(self, compiler):
        run([compiler, "-x", "c++", "-std=c++11", *WARNINGS, self.level, *self.target.flags, *self.network.defines,
             self.network.implementation, "-c", os.path.join(EMBEDDED, "network.c"), "-o", os.devnull],
            f"{self.key}: {self.network.header} as C++11")

    def link(self, objects, name):
        out = self.path(name)
        run([self.tool("gcc"), *self.target.flags, *self.target.link, "-Wl,--gc-sections", f"-Wl,-Map={out}.map", *objects,
             "-lgcc", "-o", out],
            f"{self.key}: linking for {self.target.machine}")
        return out

    def sections(self, path):
        """Sizes of the sections of a file, by name."""
        lines = run([self.tool("size"), "-A", path], self.key).decode().splitlines()
        found = [re.match(r"(\.\S+)\s+(\d+)\s", line) for line in lines]
        sizes = {}
        for m in filter(None, found):
            sizes[m[1]] = sizes.get(m[1], 0) + int(m[2])
        return sizes

    def symbols(self, path):
        """Address and size by name."""
        lines = run([self.tool("nm"), "-S", path], self.key).decode().splitlines()
        words = [line.split() for line in lines]
        return {w[-1]: (int(w[0], 16), int(w[1], 16) if len(w) == 4 else 0) for w in words if len(w) >= 3}

    def flash(self, path):
        sizes = self.sections(path)
        return sum(sizes.get(s, 0) for s in (".text", ".rodata", ".data"))

    def build(self):
        """Images with and without the network; fills in what the linker knows. The image."""
        compiler = self.tool("gcc")
        self.as_cpp(self.tool("g++"))
        board = [self.object(s, compiler, PLAIN) for s in ("main", f"board_{self.target.board}")]
        if self.target.board == "semihosting":
            board.append(self.object("memory", compiler, PLAIN))
        stub = self.object("stub", compiler, PLAIN)
        code = self.network_object(compiler, ["-fstack-usage"])
        parts = self.sections(code)
        # The AVR has constants in RAM unless they are marked.
        writable = (".data", ".bss", ".sdata", ".sbss") + ((".rodata",) if self.target.board == "avr" else ())
        state = sum(v for k, v in parts.items() if k.startswith(writable))
        if state:
            raise Failure(f"{self.key}: {self.network.header} has {state} bytes of variables of its own: tables must be "
                          "constants in flash, state belongs to the scratch")
        empty, image = self.link([*board, stub], "empty.elf"), self.link([*board, code], "image.elf")
        known = self.symbols(empty)
        stubs = sum(known[f"{self.network.name}_{part}"][1] for part in ("run", "class"))
        flash = self.flash(image) - self.flash(empty) + stubs
        tables = sum(v for k, v in parts.items() if k.startswith((".rodata", ".srodata", ".progmem")))
        version = run([compiler, "--version"], self.key).decode().splitlines()[0]
        sizes = self.sections(image)
        self.row.update(
            compiler=version, flash=flash, tables=tables, code=flash - tables, scratch=self.network.scratch,
            image_flash=self.flash(image), image_ram=sum(sizes.get(s, 0) for s in (".data", ".bss")))
        return image

    def frame(self):
        """Stack of NAME_run itself, as the compiler knows it."""
        with open(self.path("network.su"), encoding="utf-8") as file:
            return max((int(m[1]) for m in re.finditer(rf"\b{self.network.name}_run\t(\d+)", file.read())), default=0)

    def emulate(self, image, inputs):
        """Runs the image, which reads the file `inputs` and writes `outputs`; `calls` gets a line for each call."""
        for name in ("outputs", "calls"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        with open(self.path("inputs"), "wb") as file:
            file.write(b"".join(inputs))
        symbols = self.symbols(image)
        entry = symbols[f"{self.network.name}_run"][0] & ~1
        if self.target.board == "avr":
            lines = 1 + len(inputs)
            command = [helper("simulate"), image, str(entry), str(symbols["__bss_end"][0] - AVR_DATA), str(lines)]
        else:
            low, high = symbols["bss_end"][0], symbols["stack_top"][0]
            plugin = f"{helper('calls.so')},entry={entry:#x},stack={low:#x}:{high:#x},out=calls"
            command = [*self.target.emulator, "-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config",
                       "enable=on,target=native", "-plugin", plugin, "-kernel", image]
        run(command, self.key, cwd=self.folder, timeout=self.args.timeout, stdin=subprocess.DEVNULL)

    def scores(self, printed, count):
        """Of all pictures, from what main.c printed; and the classes and the stack pointer."""
        head, *lines = printed.decode("ascii", "replace").splitlines() or [""]
        rows = [line.split() for line in lines]
        if len(rows) != count or not head.startswith("@") or any(len(r) != self.network.outputs + 1 for r in rows):
            raise Failure(f"{self.key}: {len(rows)} lines of scores for {count} pictures; see {self.folder}")
        scores = [[self.network.number(word) for word in row[1:]] for row in rows]
        classes = [int(row[0], 16) for row in rows]
        for image, (answer, of) in enumerate(zip(classes, scores)):
            if answer != of.index(max(of)):
                raise Failure(f"{self.key}: picture {image}: {self.network.name}_class says {answer}, of {of}")
        return scores, classes, int(head[1:], 16)

    def measure(self, inputs):
        """Runs everything; scores and classes."""
        if self.target.board == "host":
            return self.sanitize(inputs)
        self.emulate(self.build(), inputs)
        with open(self.path("outputs"), "rb") as file:
            scores, classes, stack = self.scores(file.read(), len(inputs))
        with open(self.path("calls"), encoding="ascii") as file:
            pairs = [tuple(map(int, line.split())) for line in file]
        if len(pairs) != len(inputs):
            raise Failure(f"{self.key}: {len(pairs)} calls of {self.network.name}_run for {len(inputs)} pictures")
        counts = [count for count, _ in pairs]
        unit = "cycles" if self.target.board == "avr" else "instructions"
        # Parts of a frame may never be written.
        self.row["stack"] = max(stack - min(lowest for _, lowest in pairs), self.frame())
        self.row[unit] = {"min": min(counts), "mean": round(statistics.fmean(counts), 1), "max": max(counts)}
        if unit == "cycles":
            self.row["ms"] = {k: round(v / 16000, 3) for k, v in self.row[unit].items()}
        return scores, classes

    def sanitize(self, inputs):
        """On this machine under every sanitizer; scores must not depend on it."""
        first, found = None, []
        for compiler, cpp in (("gcc", "g++"), ("clang", "clang++")):
            self.as_cpp(cpp)
            self.network_object(compiler, [])
        for compiler, options, what in SANITIZERS:
            # Compilers see faults in what sanitizers add.
            options = ["-g", "-fno-sanitize-recover=all", "-Wno-error", *options]
            objects = [self.object(s, compiler, options) for s in ("main", "board_host")]
            objects.append(self.network_object(compiler, options))
            image = self.path("image")
            run([compiler, *options, *objects, "-o", image], f"{self.key}: linking")
            printed = run([image], f"{self.key}, {compiler} {what}", input=b"".join(inputs), timeout=self.args.timeout)
            scores, classes, _ = self.scores(printed, len(inputs))
            difference = first and first_difference(self.network, scores, first)
            if difference:
                raise Failure(f"{self.key}: {compiler} ({what}) and gcc differ: {difference}")
            first = first or scores
            found.append(f"{compiler} ({what})")
        self.row["sanitizers"] = found
        return first, classes


def helper(name):
    """A program of embedded/ for this machine."""
    out = os.path.join(BUILD, name)
    if name == "simulate":
        command = ["gcc", "-O2", os.path.join(EMBEDDED, "avr", "simulate.c"), "-o", out, "-lsimavr"]
    else:
        command = ["gcc", "-O2", "-shared", "-fPIC", os.path.join(EMBEDDED, "plugin", "calls.c"), "-o", out]
    run(command, name)
    return out


def figures(row):
    """What must not grow, by name."""
    flat = {name: row[name] for name in ("flash", "scratch", "stack")}
    unit = "cycles" if "cycles" in row else "instructions"
    return {**flat, **{f"{unit}, {k}": row[unit][k] for k in ("mean", "max")}}


def read_record(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise Failure(f"{path} cannot be read: {error}; write it with --record") from None


def grown(network, rows, path, tolerance):
    """Sentences on what has grown beyond the record, or is not in it; and how many figures have fallen."""
    known = read_record(path).get(network.name, {})
    wrong, fallen = [], 0
    for row in rows:
        key = f"{row['target']} {row['opt']}"
        before = known.get(key)
        if before is None:
            wrong.append(f"{key}: not recorded")
            continue
        other = "" if before["compiler"] == row["compiler"] else f" (recorded with {before['compiler']})"
        if before["images"] != row["images"]:
            wrong.append(f"{key}: recorded with {before['images']} pictures, not {row['images']}")
            continue
        for name, now in figures(row).items():
            if now > before[name] * (1 + tolerance / 100):
                wrong.append(f"{key}: {name} {before[name]:,} -> {now:,}{other}")
            fallen += now < before[name]
    return wrong, fallen


def record(network, rows, path):
    """Writes figures into the record; those of other networks and targets stay."""
    known = read_record(path) if os.path.exists(path) else {}
    mine = known.setdefault(network.name, {})
    for row in rows:
        mine[f"{row['target']} {row['opt']}"] = {"compiler": row["compiler"], "images": row["images"], **figures(row)}
    write(path, json.dumps(known, indent=1) + "\n")


def write(path, text):
    """A whole file or none."""
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".tmp", path)


def table(rows):
    """For people, and Markdown."""
    heads = ["target", "opt", "flash", "tables", "code", "scratch", "stack", "per inference, mean", "least", "most", "unit",
             "right"]
    lines = []
    for r in rows:
        right = f"{r['correct']} of {r['images']}" if "correct" in r else "–"
        if "sanitizers" in r:
            lines.append([r["target"], r["opt"], *["–"] * 8, "sanitizers", right])
            continue
        unit = "cycles" if "cycles" in r else "instructions"
        counts = [f"{r[unit][k]:,.0f}" for k in ("mean", "min", "max")]
        sizes = [f"{r[k]:,}" for k in ("flash", "tables", "code", "scratch", "stack")]
        unit += f", {r['ms']['mean']:.1f} ms" if "ms" in r else ""
        lines.append([r["target"], r["opt"], *sizes, *counts, unit, right])
    widths = [max(map(len, column)) for column in zip(heads, *lines)]
    rule = ["-" * w for w in widths]
    padded = [[c.ljust(w) for c, w in zip(line, widths)] for line in [heads, rule, *lines]]
    return "".join("| " + " | ".join(line) + " |\n" for line in padded)


def names(text):
    return text.split(",")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("header", help="what `onebit codegen` wrote")
    parser.add_argument("--target", type=names, default=list(TARGETS), metavar="T,T",
                        help=f"of {','.join(TARGETS)}; default: all")
    parser.add_argument("--images", required=True, metavar="FILE", help="pictures: .npy of bytes, or IDX as MNIST")
    parser.add_argument("--labels", metavar="FILE", help="their classes: .npy or IDX")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="the first N pictures (default: 200)")
    parser.add_argument("--threshold", type=int, default=128, metavar="P", help="for a network that takes bits: pixels from "
                        "P on are +1 (default: 128); arrays of packed bits are taken as they are")
    parser.add_argument("--expected", metavar="FILE", help="scores: .npy, lists, JSON of `onebit run --json --top 10`")
    parser.add_argument("--opt", type=names, default=["O2"], metavar="O,O", help="Os, O2, O3 or several (default: O2)")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--check", metavar="FILE", help="fail where a figure exceeds the one recorded there")
    parser.add_argument("--record", metavar="FILE", help="write flash, scratch, stack and instructions there")
    parser.add_argument("--tolerance", type=float, default=0, metavar="P", help="percent that --check lets pass")
    parser.add_argument("--timeout", type=int, default=600, metavar="S", help="seconds for one target (default: 600)")
    args = parser.parse_args()
    levels = ("Os", "O0", "O1", "O2", "O3")
    unknown = [t for t in args.target if t not in TARGETS] + [o for o in args.opt if o not in levels]
    if unknown:
        parser.error(f"{', '.join(unknown)}: targets are {', '.join(TARGETS)}, levels are {', '.join(levels)}")
    if args.count < 1:
        parser.error("--count is 1 or more")
    return args


def main():
    args = parse()
    network = Network(args.header)
    threshold = args.threshold if network.input_bits else None
    inputs = arrays.pictures(args.images, args.count, network.input_bytes, threshold)
    labels = arrays.load(args.labels)[1] if args.labels else None
    if labels is not None and len(labels) < args.count:
        raise Failure(f"{args.labels} has {len(labels)} labels, --count asks for {args.count}")
    expected = arrays.scores(args.expected, args.count) if args.expected else None
    whose, rows, wrong = args.expected, [], []
    for level in args.opt:
        for name in args.target:
            job = Job(network, name, level, args)
            note(f"{network.name}: {job.key}")
            try:
                scores, classes = job.measure(inputs)
            except Failure as failure:
                wrong.append(str(failure))
                continue
            if expected is None:
                whose, expected = job.key, scores
            difference = first_difference(network, scores, expected)
            if difference:
                wrong.append(f"{job.key} differs from {whose}: {difference}")
                continue
            job.row["images"] = len(inputs)
            if labels is not None:
                job.row["correct"] = sum(a == b for a, b in zip(classes, labels))
            rows.append(job.row)
    if rows:
        print(table(rows), end="")
    if args.json:
        about = {"network": network.name, "input_bytes": network.input_bytes, "input_bits": network.input_bits,
                 "outputs": network.outputs, "tables_declared": network.tables, "expected": args.expected, "rows": rows}
        write(args.json, json.dumps(about, indent=1) + "\n")
    measured = [row for row in rows if "flash" in row]
    if args.check:
        worse, fallen = grown(network, measured, args.check, args.tolerance)
        wrong += worse
        if fallen:
            note(f"{fallen} figures have fallen: keep that with --record {args.check}")
    if wrong:
        raise Failure("\n  ".join([f"{len(wrong)} things are wrong:", *wrong]))
    if args.record:
        record(network, measured, args.record)
    note(f"scores of {len(inputs)} pictures are equal bit for bit on {len(rows)} runs"
         + (f" and in {args.expected}" if args.expected else ""))


if __name__ == "__main__":
    try:
        main()
    except (Failure, arrays.Unreadable) as failure:
        sys.exit(f"mcu: {failure}")
    except KeyboardInterrupt:
        sys.exit("stopped")
