"""Side-by-side timing: contenders take turns, so that a slow moment hits them all."""

import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS = 7
_FEWEST_ROUNDS = 3  # for contenders of which more would take too long


def time_in_turns(
    contenders: Mapping[str, Callable[[], object]], seconds: float
) -> dict[str, float]:
    """Median seconds per call of each contender.

    Each gets about `seconds` in `ROUNDS` turns, or fewer if its calls are too slow for that; the
    first call of each is not counted.
    """
    calls, rounds = {}, {}
    for name, call in contenders.items():
        call()
        once = max(_time(call, 1), 1e-9)
        calls[name] = max(1, int(seconds / ROUNDS / once))
        rounds[name] = max(_FEWEST_ROUNDS, min(ROUNDS, int(seconds / once)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(ROUNDS):
        for name, call in contenders.items():
            if turn < rounds[name]:
                times[name].append(_time(call, calls[name]) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}


def _time(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


def table(title: str, header: list[str], rows: list[list[str]]) -> str:
    """A plain text table, the first column left, the others right aligned."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    lines = [title]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
