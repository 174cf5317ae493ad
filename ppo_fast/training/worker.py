"""A process that trains one run after another for `fleet`; started as a module.

In: a line of JSON per run, the fields of its TrainConfig. The end of the input asks to save and
stop, so that a worker never outlives whoever started it.
Out: lines of JSON. `{"row": {...}}` a few times a second; at the end of a run, with the last row,
`{"end": "finished"}`, `{"end": "stopped"}` or `{"end": "failed", "error": ..., "traceback": ...}`.
"""

import _thread
import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TextIO

from ppo_fast.config import TrainConfig
from ppo_fast.training.checkpoint import FILE_NAME
from ppo_fast.training.metrics import Row
from ppo_fast.training.run_folder import is_finished
from ppo_fast.training.trainer import train

_SECONDS_BETWEEN_ROWS = 0.25

Send = Callable[[dict[str, Any]], None]


def main() -> None:
    """Train what standard input asks for, until it ends."""
    # A shell has its background jobs ignore SIGINT; inherited, that would leave no way to stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what an environment prints is no answer

    def send(message: dict[str, Any]) -> None:
        # If nobody listens any more, the input has ended as well, and that stops and saves.
        with contextlib.suppress(OSError):
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    tasks: SimpleQueue[str | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, tasks), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # asked to stop while there is nothing to save
        while (task := tasks.get()) is not None:
            _run(TrainConfig.from_json(json.loads(task)), send)


def _listen(lines: TextIO, tasks: "SimpleQueue[str | None]") -> None:
    """Hand on the tasks; at the end of the input interrupt the one that is under way."""
    for line in lines:
        tasks.put(line)
    tasks.put(None)
    _thread.interrupt_main()


def _run(config: TrainConfig, send: Send) -> None:
    """Start a run, or go on with it, and send how it goes and ends."""
    latest: Row | None = None
    next_time = 0.0

    def show(row: Row) -> None:
        nonlocal latest, next_time
        latest = {name: row[name] for name in ("steps", "mean_return")}
        if time.monotonic() >= next_time:
            next_time = time.monotonic() + _SECONDS_BETWEEN_ROWS
            send({"row": latest})

    assert config.out is not None
    try:
        if (config.out / FILE_NAME).exists():
            train(resume=config.out, on_update=show)
        else:
            train(config, on_update=show)
        end: dict[str, Any] = {"end": "finished"}
    except KeyboardInterrupt:
        end = {"end": "finished" if is_finished(config.out) else "stopped"}
    except Exception as error:  # whatever it is, the other runs are not to blame
        text = " ".join(str(error).split()) or type(error).__name__
        end = {"end": "failed", "error": text, "traceback": traceback.format_exc()}
    send(end | {"row": latest})


if __name__ == "__main__":
    main()
