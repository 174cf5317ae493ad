"""Ctrl-C as a request: the first asks to stop, the second stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ppo_fast.training.output import say


@contextmanager
def stop_on_signal(announcement: str | None) -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set, printing the announcement; a second one raises
    KeyboardInterrupt at once.

    Python delivers signals to the main thread only, so elsewhere the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt("stopped at once; what came after the last checkpoint is lost")
        stop.set()
        if announcement is not None:
            say(f"\n{announcement}")

    numbers = [signal.SIGINT, signal.SIGTERM]
    # The end of a terminal; nohup has it ignored, and Windows does not know it.
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)
