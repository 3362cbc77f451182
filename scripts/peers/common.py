"""What all programs share."""
import platform


class Skip(Exception):
    """A program cannot run a workload, or not at all; says why."""


def cpu_name():
    """Model and flags that matter of this CPU."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
        return next(v.strip() for k, v in lines.items() if k.strip() == "model name")
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
