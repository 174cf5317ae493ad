"""Printing that never ends a run, and hints that can be pasted."""

import contextlib
import os
import shlex
import subprocess
from pathlib import Path


def say(line: str) -> None:
    """Print a line at once, or nothing where it cannot be.

    Ctrl-C ends a `| tee` before us, and a signal's handler may come in the middle of another print.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        print(line, flush=True)


def shell_word(path: Path) -> str:
    """A path as a command line takes it."""
    text = str(path)
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)
