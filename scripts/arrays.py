"""Reads the arrays that tests of networks come in (.npy, IDX as MNIST has it) with the standard library alone."""
import array
import ast
import gzip
import json
import math
import struct
import sys

IDX = {8: "B", 9: "b", 11: "h", 12: "i", 13: "f", 14: "d"}
NPY = {"|u1": "B", "|b1": "B", "|i1": "b", "<u2": "H", "<i2": "h", "<u4": "I", "<i4": "i", "<u8": "Q", "<i8": "q",
       "<f4": "f", "<f8": "d"}


class Unreadable(Exception):
    """One sentence that names the file."""


def load(path):
    """Shape and numbers (`array.array`, last axis fastest) of a .npy or IDX file, which may be compressed by gzip."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from None
    try:
        kind, shape, start = npy_head(data) if data[:6] == b"\x93NUMPY" else idx_head(data)
        numbers = array.array(kind)
        size = math.prod(shape) * numbers.itemsize
        if len(data) < start + size:
            raise ValueError(f"{len(data)} bytes where {start + size} are announced")
        numbers.frombytes(data[start:start + size])
    except (ValueError, KeyError, SyntaxError, struct.error, IndexError) as error:
        raise Unreadable(f"{path} is no .npy or IDX file that is understood: {error}") from None
    if (data[0] == 0) == (sys.byteorder == "little"):
        numbers.byteswap()
    return shape, numbers


def npy_head(data):
    """Type, shape and where numbers begin (NumPy's format 1 and 2)."""
    start = 10 if data[6] == 1 else 12
    start += struct.unpack_from("<H" if data[6] == 1 else "<I", data, 8)[0]
    head = ast.literal_eval(data[10 if data[6] == 1 else 12:start].decode("latin-1"))
    if head["fortran_order"]:
        raise ValueError("Fortran's order")
    return NPY[head["descr"]], tuple(head["shape"]), start


def idx_head(data):
    """As `npy_head`; numbers are big-endian."""
    if data[:2] != b"\0\0":
        raise ValueError("it begins otherwise")
    axes = data[3]
    return IDX[data[2]], struct.unpack_from(f">{axes}I", data, 4), 4 + 4 * axes


def pack(pixels, width, threshold):
    """Rows of one bit per pixel, least significant first, each padded to a byte."""
    packed = bytearray()
    for row in range(0, len(pixels), width):
        bits = sum((p >= threshold) << i for i, p in enumerate(pixels[row:row + width]))
        packed += bits.to_bytes((width + 7) // 8, "little")
    return bytes(packed)


def pictures(path, count, input_bytes, threshold=None):
    """The first pictures, as bytes for a network that takes so many; one that takes bits has a threshold."""
    shape, numbers = load(path)
    if numbers.typecode != "B" or len(shape) < 2:
        raise Unreadable(f"{path}: pictures are bytes with two axes or more, not {shape} of '{numbers.typecode}'")
    if shape[0] < count:
        raise Unreadable(f"{path} has {shape[0]} pictures, --count asks for {count}")
    size = len(numbers) // shape[0]
    data = numbers.tobytes()
    images = [data[i * size:(i + 1) * size] for i in range(count)]
    if size == input_bytes:
        return images
    if threshold is not None and len(shape) >= 3:
        width = size // shape[1]
        if shape[1] * ((width + 7) // 8) == input_bytes:
            return [pack(image, width, threshold) for image in images]
    raise Unreadable(f"{path}: a picture of {shape[1:]} is no input of {input_bytes} bytes")


def scores(path, count):
    """Scores: .npy, or JSON as `onebit run --json --top` prints it, a list of lists, or one such list a line."""
    if path.endswith(".npy"):
        shape, numbers = load(path)
        width = len(numbers) // shape[0] if shape and shape[0] else 0
        rows = [list(numbers[i * width:(i + 1) * width]) for i in range(shape[0] if shape else 0)]
    else:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            try:
                rows = json.loads(text)
            except ValueError:
                rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            rows = rows["results"] if isinstance(rows, dict) else rows
            rows = [json_scores(row) for row in rows]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{path} has no scores that are understood: {error}") from None
    if len(rows) < count:
        raise Unreadable(f"{path} has the scores of {len(rows)} pictures, --count asks for {count}")
    return rows[:count]


def json_scores(row):
    if isinstance(row, dict):
        if "top" in row:
            return [c["score"] for c in sorted(row["top"], key=lambda c: c["class"])]
        row = row["scores"]
    return [float(score) for score in row]
