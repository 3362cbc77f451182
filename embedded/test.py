#!/usr/bin/env python3
"""Tests scripts/mcu.py with a small network written by hand, and with faults put into it that must be noticed.

    python3 embedded/test.py            # needs every compiler and emulator of embedded/README.md; about a minute
"""
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
MCU = os.path.join(os.path.dirname(HERE), "scripts", "mcu.py")
COUNT, OUTPUTS = 12, 3
ROWS, COLUMNS = 3, 10

HEADER = """\
#ifndef TINY_H
#define TINY_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define TINY_INPUT_BYTES %(bytes)d
#define TINY_INPUT_BITS %(bits)d
#define TINY_OUTPUTS 3
#define TINY_SCRATCH_BYTES 32
#define TINY_TABLE_BYTES (3 * TINY_INPUT_BYTES)
typedef %(score)s tiny_score;
typedef struct { uint32_t words[TINY_SCRATCH_BYTES / 4]; } tiny_scratch;
void tiny_run(const uint8_t *input, tiny_score *scores, tiny_scratch *scratch);
int tiny_class(const tiny_score *scores);
#ifdef __cplusplus
}
#endif
#endif
#ifdef TINY_IMPLEMENTATION
#ifdef __AVR__
#include <avr/pgmspace.h>
#define TINY_ROM PROGMEM
#define TINY_READ(p) pgm_read_byte(p)
#else
#define TINY_ROM
#define TINY_READ(p) (*(p))
#endif
static const int8_t tiny_weights[3][TINY_INPUT_BYTES] TINY_ROM = {%(weights)s};
void tiny_run(const uint8_t *input, tiny_score *scores, tiny_scratch *scratch) {
    /*declare*/
    for (int k = 0; k < 3; k++) {
        int32_t sum = 0;
        for (int i = 0; i < TINY_INPUT_BYTES; i++) sum += (int8_t)TINY_READ(&tiny_weights[k][i]) * (int16_t)input[i];
        scratch->words[k] = (uint32_t)sum;
    }
    /*work*/
    for (int k = 0; k < 3; k++) scores[k] = (tiny_score)((tiny_score)(int32_t)scratch->words[k] %(scale)s);
}
int tiny_class(const tiny_score *scores) {
    int best = 0;
    for (int k = 1; k < 3; k++) if (scores[k] > scores[best]) best = k;
    return best;
}
#endif
"""


class Mcu(unittest.TestCase):
    """Every test has a folder with pictures, and a network that it may change."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        chance = random.Random(1)
        self.pictures = [[chance.randrange(256) for _ in range(ROWS * COLUMNS)] for _ in range(COUNT)]
        idx = b"\0\0\x08\x03" + struct.pack(">3I", COUNT, ROWS, COLUMNS)
        self.write("images", idx + b"".join(map(bytes, self.pictures)))

    def write(self, name, content):
        with open(os.path.join(self.folder, name), "wb" if isinstance(content, bytes) else "w") as file:
            file.write(content)

    def header(self, score="int32_t", bits=0, scale="", declare="", work=""):
        """Writes a network; the integers that it computes before it scales."""
        chance = random.Random(2)
        size = ROWS * 2 if bits else ROWS * COLUMNS
        most = 16 if score == "int16_t" else 128
        weights = [[chance.randrange(-most, most) for _ in range(size)] for _ in range(OUTPUTS)]
        text = HEADER % {"bytes": size, "bits": bits, "score": score, "scale": scale, "weights": ", ".join(
            "{" + ", ".join(map(str, row)) + "}" for row in weights)}
        self.write("tiny.h", text.replace("/*declare*/", declare).replace("/*work*/", work))
        inputs = [self.packed(p) for p in self.pictures] if bits else self.pictures
        return [[sum(a * b for a, b in zip(row, values)) for row in weights] for values in inputs]

    @staticmethod
    def packed(picture):
        """Rows of 10 pixels in two bytes."""
        rows = [picture[i:i + COLUMNS] for i in range(0, len(picture), COLUMNS)]
        words = [sum((p >= 100) << i for i, p in enumerate(row)) for row in rows]
        return [byte for word in words for byte in word.to_bytes(2, "little")]

    def mcu(self, targets, *options, path=None):
        """Exit status, and everything that is printed."""
        env = {**os.environ, "CARGO_TARGET_DIR": self.folder, **({"PATH": path} if path is not None else {})}
        command = [sys.executable, MCU, "tiny.h", "--images", "images", "--count", str(COUNT), "--timeout", "60",
                   "--target", targets, *options]
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def passes(self, targets, *options):
        status, said = self.mcu(targets, *options)
        self.assertEqual(status, 0, said)
        return said

    def fails(self, targets, what, *options, **more):
        status, said = self.mcu(targets, *options, **more)
        self.assertEqual(status, 1, said)
        self.assertRegex(said, re.compile(what, re.M))
        self.assertNotIn("Traceback", said)

    def test_all_targets(self):
        scores = self.header()
        self.write("expected.json", json.dumps(scores))
        labels = [row.index(max(row)) for row in scores]
        labels[0] += 1
        self.write("labels", b"\0\0\x08\x01" + struct.pack(">I", COUNT) + bytes(labels))
        self.passes("cortex-m4,cortex-m0,rv32imc,avr,host", "--expected", "expected.json", "--labels", "labels",
                    "--json", "out.json", "--opt", "Os,O2")
        with open(os.path.join(self.folder, "out.json"), encoding="utf-8") as file:
            rows = json.load(file)["rows"]
        self.assertEqual(len(rows), 10)
        for row in rows:
            self.assertEqual((row["correct"], row["images"]), (COUNT - 1, COUNT))
            if row["target"] != "host":
                self.assertEqual((row["tables"], row["scratch"]), (90, 32))
                counts = row.get("cycles") or row["instructions"]
                # 90 products, each of at least three instructions and at most a few dozen.
                self.assertTrue(270 < counts["min"] <= counts["mean"] <= counts["max"] < 9000, row)
                self.assertTrue(20 < row["code"] < 1000 and 0 <= row["stack"] < 100, row)

    def test_the_stack(self):
        self.header()
        stacks = []
        for extra in ("", "volatile uint8_t room[400]; room[0] = input[0]; scratch->words[7] = room[0];"):
            self.header(declare=extra)
            self.passes("cortex-m4,cortex-m0,rv32imc,avr", "--json", "out.json")
            with open(os.path.join(self.folder, "out.json"), encoding="utf-8") as file:
                stacks.append([row["stack"] for row in json.load(file)["rows"]])
        for before, after in zip(*stacks):
            self.assertTrue(400 <= after - before + 16 < 450, stacks)

    def test_floats(self):
        scores = self.header("float", scale="/ 3.0f")
        rows = [[struct.unpack("<f", struct.pack("<f", s / 3))[0] for s in row] for row in scores]
        self.write("expected.json", "\n".join(json.dumps({"scores": row}) for row in rows))
        self.passes("cortex-m4,cortex-m0,rv32imc,avr,host", "--expected", "expected.json")
        # The next float is another score.
        bits = struct.unpack("<I", struct.pack("<f", rows[4][1]))[0]
        rows[4][1] = struct.unpack("<f", struct.pack("<I", bits + 1))[0]
        self.write("expected.json", json.dumps(rows))
        self.fails("cortex-m4", "picture 4, score 1", "--expected", "expected.json")

    def test_bits(self):
        scores = self.header("int16_t", bits=1)
        npy = b"{'descr': '<i4', 'fortran_order': False, 'shape': (12, 3), }".ljust(117) + b"\n"
        head = b"\x93NUMPY\1\0" + struct.pack("<H", len(npy)) + npy
        self.write("expected.npy", head + b"".join(struct.pack("<3i", *row) for row in scores))
        self.passes("cortex-m0,avr", "--expected", "expected.npy", "--threshold", "100")
        self.fails("cortex-m0", "differs from expected.npy", "--expected", "expected.npy", "--threshold", "140")

    def test_a_wrong_score_fails(self):
        scores = self.header()
        scores[7][2] += 1
        self.write("expected.json", json.dumps(scores))
        for target in ("cortex-m4", "cortex-m0", "rv32imc", "avr", "host"):
            what = f"{target} O2 differs from expected.json: picture 7, score 2"
            self.fails(target, what, "--expected", "expected.json")

    def test_targets_that_differ(self):
        self.header(work="if (sizeof(void *) == 2) scratch->words[1] += 1;")
        self.fails("cortex-m4,avr", "avr O2 differs from cortex-m4 O2: picture 0, score 1")

    def test_sanitizers(self):
        for work, what in [
            ("scratch->words[0] += scratch->words[7] & 1 ? 1u : 0u;", "use-of-uninitialized-value"),
            ("for (int i = 0; i < 9; i++) ((volatile uint32_t *)scratch->words)[i] = 1;", "overflow|out of bounds"),
            ("scratch->words[0] += *(const volatile uint16_t *)(const void *)input;", "misaligned"),
        ]:
            self.header(work=work)
            self.fails("host", what)

    def test_faults_of_a_chip(self):
        self.header(work="scratch->words[0] += *(const volatile uint16_t *)(const void *)input;")
        self.fails("cortex-m0", "meets a fault")
        self.header(declare="volatile uint8_t room[1950]; room[0] = input[0]; scratch->words[7] = room[0];")
        self.fails("avr", "stack runs into")

    def test_what_does_not_fit(self):
        # The compiler must not know what is read.
        table = "static const uint8_t %s[20000] TINY_ROM = {1}; "
        read = "scratch->words[7] = (uint32_t)TINY_READ(&a[input[0]]) + TINY_READ(&b[input[1]]);"
        self.header(declare=table % "a" + table % "b" + read)
        self.fails("avr", "for ATmega328P.*32 kB flash(.|\n)*will not fit")
        self.passes("cortex-m0")
        self.header(declare="static const uint8_t large[2000] = {1}; scratch->words[7] = large[input[0]];")
        self.fails("avr", "2000 bytes of variables of its own")
        self.header(declare="static uint32_t calls; calls++;")
        self.fails("cortex-m4", "4 bytes of variables of its own")

    def test_headers_that_do_not_compile(self):
        self.header(work="{ int unused; }")
        self.fails("cortex-m4", "unused")
        self.header(work="{ uint8_t narrow = scratch->words[0]; scratch->words[0] = narrow; }")
        self.fails("avr", "conversion")
        self.header(work="{ const void *p = input; const uint8_t *q = p; scratch->words[0] = q[0]; }")
        self.fails("rv32imc", r"as C\+\+11")
        self.write("tiny.h", "int x;")
        self.fails("host", "is not from `onebit codegen`")

    def test_a_wrong_class_fails(self):
        self.header()
        with open(os.path.join(self.folder, "tiny.h"), encoding="utf-8") as file:
            text = file.read()
        self.write("tiny.h", text.replace("scores[k] > scores[best]", "scores[k] < scores[best]"))
        self.fails("cortex-m0", "tiny_class says")

    def test_growth_fails(self):
        self.header()
        targets = "cortex-m0,avr"
        self.fails(targets, "figures.json cannot be read", "--check", "figures.json")
        self.passes(targets, "--record", "figures.json")
        self.passes(targets, "--check", "figures.json")
        self.fails("rv32imc", "rv32imc O2: not recorded", "--check", "figures.json")
        self.header(work="for (volatile uint8_t i = 0; i < 20; i++) {}")
        for figure in ("flash", "mean"):
            self.fails(targets, rf"cortex-m0 O2: .*{figure} [\d,.]+ -> ", "--check", "figures.json")
            self.fails(targets, rf"avr O2: .*{figure} [\d,.]+ -> ", "--check", "figures.json")
        self.passes(targets, "--check", "figures.json", "--tolerance", "60")

    def test_missing_tools(self):
        """Every tool that is taken away is named with its package."""
        self.header()
        tools = os.path.join(self.folder, "tools")
        os.mkdir(tools)
        for folder in ("/usr/bin", "/bin"):
            for name in os.listdir(folder):
                if not os.path.lexists(os.path.join(tools, name)):
                    os.symlink(os.path.join(folder, name), os.path.join(tools, name))
        for target, tool, package in [
            ("host", "gcc", "gcc libc6-dev"), ("host", "g[+][+]", "g[+][+]"), ("host", "clang", "clang"),
            ("cortex-m4", "arm-none-eabi-g[+][+]", "gcc-arm-none-eabi"), ("cortex-m0", "qemu-system-arm", "qemu-system-arm"),
            ("rv32imc", "riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf"), ("avr", "avr-nm", "gcc-avr"),
            ("rv32imc", "qemu-system-riscv32", "qemu-system-misc"),
        ]:
            link = os.path.join(tools, tool.replace("[+]", "+"))
            os.unlink(link)
            self.fails(target, f"{tool} is missing: apt-get install -y --no-install-recommends {package}$", path=tools)
            os.symlink(link.replace(tools, "/usr/bin"), link)

    def test_bad_arrays(self):
        self.header()
        for content in (b"", b"\0\0\x08", b"\x93NUMPY\1\0\xff\xff{", b"\0\0\x08\x02" + b"\xff" * 8, b"\x1f\x8b123",
                        b"\0\0\x08\x02" + struct.pack(">2I", COUNT, 5) + bytes(5 * COUNT)):
            self.write("images", content)
            self.fails("host", "^mcu: images[: ]")


if __name__ == "__main__":
    unittest.main()
