"""What all programs share."""


class Skip(Exception):
    """A program cannot run a workload, or not at all; says why."""
