"""Printing that never ends a run."""

import contextlib


def say(line: str) -> None:
    """Print a line at once, or nothing where it cannot be.

    Ctrl-C ends a `| tee` before us, and a signal's handler may come in the middle of another print.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        print(line, flush=True)
