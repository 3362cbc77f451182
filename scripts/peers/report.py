"""Tables, a chart, and the project's targets, from the result of a run."""
import math
from html import escape

# Workloads of the chart.
CHART = ["binarynet-vgg", "binarynet-mlp", "resnet18-imagenet", "quicknet", "conv 3x3 256->256 @16", "gemm 4096^3"]
WITH_BITS = ("openvino binary", "textbook", "larq")

# What the project wants to be: a workload or all of a group, a program, the least ratio of its time to onebit's.
ALL_CONVS, ALL_PRODUCTS, BMXNET = "convolutions", "products", "BMXNet's shapes, from bits"
TARGETS = [
    ("binarynet-vgg", "onnxruntime int8", 9),
    ("binarynet-vgg", "onnxruntime f32", 35),
    ("binarynet-mlp", "onnxruntime int8", 20),
    ("binarynet-mlp", "onnxruntime f32", 100),
    ("binarynet-vgg", "openvino binary", 3),
    (ALL_CONVS, "openvino binary", 1.5),
    (ALL_CONVS, "larq compute engine", 200),
    ("binarynet-vgg", "larq compute engine", 200),
    (ALL_CONVS, "textbook native", 2.5),
    (ALL_PRODUCTS, "textbook native", 2.5),
    (BMXNET, "textbook native", 2.5),
    (ALL_CONVS, "textbook popcnt", 20),
    (ALL_PRODUCTS, "textbook popcnt", 20),
    (BMXNET, "textbook popcnt", 20),
    ("resnet18-imagenet", "onnxruntime f32", 6),
    ("resnet18-imagenet", "openvino bf16", 3),
]
# Workload and how many times faster all threads have to be than one.
THREAD_TARGETS = [("binarynet-vgg", 1.8), ("binarynet-vgg batch 64", 1.9)]


def _time(ms):
    for unit, scale in (("s", 1e-3), ("ms", 1), ("µs", 1e3)):
        if ms * scale >= 1 or unit == "µs":
            return f"{ms * scale:.3g} {unit}"


def _ratio(value):
    return f"{value:.3g}x" if value < 100 else f"{value:.0f}x"


def _unique(values):
    return list(dict.fromkeys(values))


def _table(result, threads, group=None):
    """{workload: {program: row}} of the rows that fit."""
    table = {}
    for row in result["rows"]:
        if row["threads"] == threads and group in (None, row["group"]):
            table.setdefault(row["workload"], {})[row["program"]] = row
    return table


def markdown(result):
    """A table for each group and number of threads: minimum (median), and the peer's minimum over onebit's."""
    versions = {}
    for program, version in result["versions"].items():
        versions.setdefault(version, []).append(program)
    lines = [
        f"{result['machine']}, {result['date']}, {result['rounds']} rounds of {result['seconds']} s. Each cell: "
        "shortest time (median of the rounds), and in bold the shortest time over onebit's.", "",
        "; ".join(f"{', '.join(p)}: {v}" for v, p in versions.items())]
    for threads in _unique(row["threads"] for row in result["rows"]):
        for group in _unique(row["group"] for row in result["rows"] if row["threads"] == threads):
            table = _table(result, threads, group)
            programs = _unique(p for rows in table.values() for p in rows)
            lines += ["", f"### {group[0].upper() + group[1:]}, {threads} thread{'s' * (threads > 1)}", ""]
            lines += ["| | " + " | ".join(programs) + " |", "|---" * (len(programs) + 1) + "|"]
            for workload, rows in table.items():
                cells = []
                for program in programs:
                    row = rows.get(program)
                    text = f"{_time(row['min_ms'])} ({_time(row['median_ms'])})" if row else "·"
                    if row and program != "onebit" and "onebit" in rows:
                        text += f" **{_ratio(row['min_ms'] / rows['onebit']['min_ms'])}**"
                    cells.append(text)
                lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def between_marks(path, text, name="peers", script="bench-peers.py"):
    """The text of a file with `text` between its marks; `text` alone where there is no such file, or it has none."""
    first, last = f"<!-- {name}: written by scripts/{script} -->\n", f"<!-- end of {name} -->"
    try:
        with open(path, encoding="utf-8") as file:
            old = file.read()
    except FileNotFoundError:
        return text
    head, mark, rest = old.partition(first)
    return head + mark + text + last + rest.partition(last)[2] if mark else text


def check(result):
    """One line for each target: what it is, what was measured, and whether it holds."""
    lines, one = [], _table(result, 1)

    def line(what, ratios, least):
        if not ratios:
            lines.append(f"   ?    {what}: not measured, target {least}x")
            return
        worst, where = min(ratios)
        lines.append(f"{'holds' if worst >= least else 'MISSED':6}  {what}: {_ratio(worst)}, target {least}x{where}")

    for which, program, least in TARGETS:
        rows = one if which in one else _table(result, 1, which)
        ratios = [
            (row[program]["min_ms"] / row["onebit"]["min_ms"], "" if which in one else f" (least: {name})")
            for name, row in rows.items()
            if program in row and "onebit" in row and which in (name, row[program]["group"])]
        line(f"{which} beside {program}", ratios, least)
    for threads in _unique(row["threads"] for row in result["rows"] if row["threads"] > 1):
        for workload, least in THREAD_TARGETS:
            both = [t.get(workload, {}).get("onebit") for t in (one, _table(result, threads))]
            ratios = [(both[0]["min_ms"] / both[1]["min_ms"], "")] if all(both) else []
            line(f"{workload} on {threads} threads beside one", ratios, least)
    return "\n".join(lines)


STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.head { font-weight: 600; } .small { font-size: 11px; fill: #59636e; }
.grid { stroke: #d1d9e0; } .self { fill: #1a7f37; } .bits { fill: #8250df; } .other { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .small { fill: #9198a1; }
  .grid { stroke: #3d444d; } .self { fill: #3fb950; } .bits { fill: #a371f7; } .other { fill: #656c76; }
}
"""


def svg(result):
    """Bars of each program's time over onebit's on a logarithmic axis, one thread, fastest first in each workload."""
    table = {name: rows for name, rows in _table(result, 1).items() if name in CHART and "onebit" in rows}
    left, width, step, gap, top = 150, 460, 17, 30, 52
    ratios = {
        name: sorted((row["min_ms"] / rows["onebit"]["min_ms"], row["min_ms"], p) for p, row in rows.items())
        for name, rows in table.items()}
    highest = max((r[-1][0] for r in ratios.values()), default=10)
    # Programs may be faster than onebit: the axis starts at the fastest.
    lowest = min([0.8, *(r[0][0] * 0.9 for r in ratios.values())])
    scale = width / math.log10(highest / lowest)

    def x(ratio):
        return left + scale * math.log10(ratio / lowest)

    body, y = [], top
    for name in sorted(ratios, key=CHART.index):
        body.append(f'<text class="head" x="8" y="{y + 12}">{escape(name)}</text>')
        y += 20
        for ratio, ms, program in ratios[name]:
            kind = "self" if program == "onebit" else "bits" if program.startswith(WITH_BITS) else "other"
            label = f"{_time(ms)}" + ("" if program == "onebit" else f" · {_ratio(ratio)}")
            long = max(2, x(ratio) - left)
            body.append(
                f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{program}</text>'
                f'<rect class="{kind}" x="{left}" y="{y + 1}" width="{long:.1f}" height="{step - 4}" rx="2"/>'
                f'<text class="small" x="{left + long + 6:.1f}" y="{y + 11}">{label}</text>')
            y += step
        y += gap - 20
    marks = [m for m in (1, 3, 10, 30, 100, 300, 1000) if lowest < m <= highest]
    grid = "".join(
        f'<line class="grid" x1="{x(m):.1f}" x2="{x(m):.1f}" y1="{top - 4}" y2="{y - 8}"/>'
        f'<text class="small" x="{x(m):.1f}" y="{top - 10}" text-anchor="middle">{m}x</text>' for m in marks)
    title = f"Time of one run on one thread over onebit's, shorter is better · {result['machine']}, {result['date']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 120} {y}" width="{left + width + 120}" '
        f'height="{y}" role="img"><title>{escape(title)}</title><style>{STYLE}</style>'
        f'<text class="small" x="8" y="20">{escape(title)}</text>{grid}' + "\n".join(body) + "</svg>\n")
