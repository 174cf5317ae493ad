"""Work that a device is given again and again, as CUDA graphs: one launch, thousands of kernels.

A graph is the kernels of one call with the addresses that it used. So the function must read what
changes from tensors that stay where they are, must not look at a number on the device, and whoever
replaces a tensor lets the graph be captured anew. What it allocates inside is the graph's.
"""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

Function = Callable[[], None]


@dataclass
class _Known:
    key: Hashable
    function: Function
    """What it holds is what the graph reads."""
    graph: Any = None


class Graphs:
    """Functions of one device, by name; one after the other, never at once.

    The first call of a function runs it as it is: that is the work that was asked for, and it makes
    what libraries make once (cuBLAS's workspaces, kernels that are loaded when they are first
    used). The second call captures it, which runs nothing, and from then on the graph is launched.
    So nothing is run for the sake of a warm-up, and nothing has to be put back after one.

    Where tensors are on the CPU every call runs the function.
    """

    def __init__(self, place: torch.device) -> None:
        self._place = place
        self._stream: Any = None
        self._known: dict[str, _Known] = {}

    def run(self, name: str, key: Hashable, function: Function) -> None:
        """Do what `function` does, on the current stream.

        `key` says which tensors and settings it works on: with another one it is another function.
        """
        if not captures(self._place):
            function()
            return
        with _current(self._place):
            known = self._known.get(name)
            if known is None or known.key != key:
                self._known.pop(name, None)
                self._run_once(function)
                self._known[name] = _Known(key, function)
                return
            if known.graph is None:
                known.function = function
                known.graph = self._captured(function)
            known.graph.replay()

    def forget(self) -> None:
        """Capture everything anew: tensors have been replaced."""
        self._known.clear()

    def _run_once(self, function: Function) -> None:
        """On the stream of the captures, so that what is bound to a stream is bound to this one."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._place)  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def _captured(self, function: Function) -> Any:
        """The kernels of a call, which is not run."""
        # One pool of memory serves all: none leaves anything there for after its end.
        graphs = (known.graph for known in self._known.values() if known.graph is not None)
        pool = next((graph.pool() for graph in graphs), None)
        graph = torch.cuda.CUDAGraph()
        # What other threads of the process do with the device is theirs.
        mode = "thread_local"
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode=mode):
            function()
        return graph


def _current(place: torch.device) -> AbstractContextManager[object]:
    """A context in which that device is the current one, of whose streams torch speaks."""
    return torch.cuda.device(place) if place.type == "cuda" else nullcontext()


def captures(place: torch.device) -> bool:
    """Whether work on a device can be captured."""
    return place.type == "cuda"


class Span:
    """How long a device works on what is put on its stream inside of a `with` block."""

    def __init__(self, place: torch.device) -> None:
        self._place = place
        self._marks: list[Any] = []

    def __enter__(self) -> None:
        self._marks = [self._mark()]

    def __exit__(self, *_: object) -> None:
        self._marks.append(self._mark())

    def seconds(self) -> float:
        """Of the last block; only once the device is done with it."""
        first, last = self._marks
        if self._place.type != "cuda":
            return float(last - first)
        return float(first.elapsed_time(last)) / 1e3

    def _mark(self) -> Any:
        if self._place.type != "cuda":
            return perf_counter()
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record(torch.cuda.current_stream(self._place))
        return mark
