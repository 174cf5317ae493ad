"""Time of one call that computes advantages and returns: ours, and the peers'.

The floor is traffic: an element takes 17 bytes at least (reward, value and flag in, advantage and
return out), so each of our times is printed with its share of the bandwidth that copies reach in
the same run: one of the rewards alone, which may fit a cache where GAE does not, and one of as
many bytes. Small shapes are all call overhead; large ones may be shared among threads, which a copy
is not, and then exceed 100%.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppo_fast import reference
from ppo_fast.advantage import gae, token_gae
from ppo_fast.bench.report import torch_threads, write_report
from ppo_fast.bench.timing import table, time_in_turns
from ppo_fast.extras import require

Array = NDArray[Any]

SHAPES = ((128, 8), (2048, 1), (128, 64), (128, 1024), (1024, 4096), (32, 16384), (10**6, 1))
TOKEN_SHAPES = ((4, 8192), (64, 4096))
OURS = "ppo_fast"
GAMMA, GAE_LAMBDA = 0.99, 0.95
_FACTORS: dict[str, Any] = {"gamma": GAMMA, "gae_lambda": GAE_LAMBDA}
_COPY = "copy of the rewards"
_COPY_ALL = "copy of as many bytes"
_TOLERANCE = 1e-4
_SLOW = 1.0  # seconds; a slower contender is not called again
_BYTES = 17  # that an element takes at least
_COPY_BYTES = 8
_PACKAGES = ("numpy", "torch", "stable-baselines3", "tianshou", "numba", "torchrl", "scipy")


@dataclass(frozen=True)
class Problem:
    """What one shape asks for: float32 arrays, the same for all contenders.

    A rollout is [T, N], and its episodes terminate with probability 0.01 in every step. Tokens are
    [B, L], time last: sequences of L / 2 to L tokens that count, padded on the right, each of them
    an episode that terminates with its last token.
    """

    rewards: Array
    values: Array
    terminated: NDArray[np.bool_]
    last_values: Array
    """[N], or zeros [B]."""
    mask: NDArray[np.bool_] | None
    """Tokens that count; None for a rollout."""

    @property
    def title(self) -> str:
        """The shape in words."""
        a, b = self.rewards.shape
        return f"GAE, T = {a:,}, N = {b:,}" if self.mask is None else f"tokens, B = {a}, L = {b:,}"

    @property
    def label(self) -> str:
        """The shape in few characters."""
        a, b = self.rewards.shape
        return f"{a:,} x {b:,}" + ("" if self.mask is None else "\ntokens")

    @property
    def is_scanned(self) -> bool:
        """Whether `exact` makes a difference to us."""
        axis = 0 if self.mask is None else 1
        length, rows = self.rewards.shape[axis], self.rewards.shape[1 - axis]
        return bool(length >= 4096 and rows < (2 if axis == 0 else 32))

    def truth(self) -> tuple[Array, Array]:
        """Advantages and returns of the NumPy reference in float64."""
        return _reference(self, np.dtype(np.float64))()


def rollout(num_steps: int, num_envs: int) -> Problem:
    """A random rollout [T, N]."""
    rng = np.random.default_rng(0)
    shape = (num_steps, num_envs)
    return Problem(
        rewards=rng.standard_normal(shape, np.float32),
        values=rng.standard_normal(shape, np.float32),
        terminated=rng.random(shape) < 0.01,
        last_values=rng.standard_normal(num_envs, np.float32),
        mask=None,
    )


def tokens(num_sequences: int, length: int) -> Problem:
    """Random sequences of tokens [B, L]."""
    rng = np.random.default_rng(0)
    shape = (num_sequences, length)
    lengths = rng.integers(length // 2, length, (num_sequences, 1), endpoint=True)
    place = np.arange(length)
    return Problem(
        rewards=rng.standard_normal(shape, np.float32),
        values=rng.standard_normal(shape, np.float32),
        terminated=place == lengths - 1,
        last_values=np.zeros(num_sequences, np.float32),
        mask=place < lengths,
    )


class Contender(NamedTuple):
    """One way to solve a problem, with everything prepared that does not belong to the time."""

    call: Callable[[], Any]
    """What is timed."""
    answer: Callable[[Any], tuple[Array, Array]] = lambda result: result
    """Advantages and returns, shaped like the rewards, from what the first call returned."""


# Makes a contender, warmed up where its first call compiles; None if it cannot solve the problem.
Maker = Callable[[Problem], Contender | None]


@dataclass(frozen=True)
class Result:
    """Times of one problem, in seconds."""

    problem: Problem
    seconds: dict[str, float]
    """Of a call, by contender."""
    called_once: frozenset[str]
    """Those too slow to be called again."""
    copy_seconds: float
    """Of a copy of the rewards: 8 bytes an element, in and out."""
    copy_all_seconds: float
    """Of a copy that moves 17 bytes an element, in and out, as GAE must."""

    def ratio(self, name: str) -> float:
        """How many times as long as ours it takes."""
        return self.seconds[name] / self.seconds[OURS]

    def copy_share(self, name: str) -> float:
        """Bandwidth, at 17 bytes an element, over that of a copy of the rewards."""
        return (_BYTES / self.seconds[name]) / (_COPY_BYTES / self.copy_seconds)

    def copy_all_share(self, name: str) -> float:
        """Time of a copy of as many bytes, which needs as much cache, over that of a call."""
        return self.copy_all_seconds / self.seconds[name]


def bench_advantage(
    *,
    seconds: float,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    token_shapes: Sequence[tuple[int, int]] = TOKEN_SHAPES,
    peers: Mapping[str, Maker] | None = None,
    out: Path | None = None,
) -> list[Result]:
    """Print and return the time of a call by shape and contender.

    `peers` are other contenders than ours; None for those of `advantage_peers.py` that are
    installed. `out` is a path without suffix: to write the results to as .json, with facts about
    the machine, and as .png.
    """
    if peers is None:
        from ppo_fast.bench.advantage_peers import installed_peers

        peers = installed_peers()
    makers = {**_our_makers(), **peers}
    print(
        f"A contender whose first call takes more than {_SLOW:g} s is not called again: its time,\n"
        "marked *, is that of this call. Torch runs with its own number of threads"
        f"{f', {torch_threads()}' if torch_threads() else ''}."
    )
    results = []
    for make, group in ((rollout, shapes), (tokens, token_shapes)):
        for shape in group:
            results.append(_measure(make(*shape), makers, seconds))
            print(f"\n{_table(results[-1])}", flush=True)
    if out is not None:
        write_report(
            out,
            benchmark="advantage",
            unit="seconds per call",
            packages=_PACKAGES,
            results=[_record(result) for result in results],
            plot=lambda path: _plot(path, results),
        )
    return results


def _measure(problem: Problem, makers: Mapping[str, Maker], seconds: float) -> Result:
    truth = problem.truth()
    calls: dict[str, Callable[[], object]] = {}
    slow: dict[str, float] = {}
    for name, make in makers.items():
        contender = make(problem)
        if contender is None:
            continue
        start = time.perf_counter()
        result = contender.call()
        took = time.perf_counter() - start
        _check(name, problem, contender.answer(result), truth)
        if took > _SLOW:
            slow[name] = took
        else:
            calls[name] = contender.call
    calls[_COPY] = partial(np.copyto, np.empty_like(problem.rewards), problem.rewards)
    half = np.ones(max(1, problem.rewards.size * _BYTES // 2), np.uint8)
    calls[_COPY_ALL] = partial(np.copyto, np.empty_like(half), half)
    times = time_in_turns(calls, seconds)
    copies = (times.pop(_COPY), times.pop(_COPY_ALL))
    ordered = {name: {**times, **slow}[name] for name in makers if name in times or name in slow}
    return Result(problem, ordered, frozenset(slow), *copies)


def _check(name: str, problem: Problem, answer: tuple[Any, Any], truth: tuple[Any, Any]) -> None:
    """Raise AssertionError unless an answer is right wherever it counts."""
    counted = np.ones(problem.rewards.shape, bool) if problem.mask is None else problem.mask
    for what, ours, expected in zip(("advantages", "returns"), answer, truth, strict=True):
        if np.shape(ours) != expected.shape:
            raise AssertionError(
                f"{problem.title}: {name} gave {what} of shape {np.shape(ours)} "
                f"instead of {expected.shape}"
            )
        error = np.abs(ours - expected)[counted].max() / np.abs(expected[counted]).max()
        if not error <= _TOLERANCE:
            raise AssertionError(f"{problem.title}: {name} gave wrong {what}, off by {error:.1e}")


def _our_makers() -> dict[str, Maker]:
    makers: dict[str, Maker] = {
        OURS: lambda problem: Contender(_native(problem)),
        f"{OURS}, out": _ours_into,
        f"{OURS}, exact": lambda problem: (
            Contender(_native(problem, exact=True)) if problem.is_scanned else None
        ),
        f"{OURS}, torch": _ours_on_torch,
        f"{OURS}, time_axis=1": _ours_time_last,
        "NumPy loop": lambda problem: Contender(_reference(problem, problem.rewards.dtype)),
    }
    try:
        import torch  # noqa: F401
    except ImportError:
        print("torch is not installed and left out")
        del makers[f"{OURS}, torch"]
    return makers


def _native(
    problem: Problem, convert: Callable[[Array], Any] = lambda array: array, **options: Any
) -> Callable[[], Any]:
    """A call of ours on converted arrays."""
    rewards, values = convert(problem.rewards), convert(problem.values)
    options = {**_FACTORS, **options}
    if problem.mask is not None:
        return partial(token_gae, rewards, values, mask=convert(problem.mask), **options)
    ends = {
        "terminated": convert(problem.terminated),
        "last_values": convert(problem.last_values),
    }
    return partial(gae, rewards, values, **ends, **options)


def _ours_into(problem: Problem) -> Contender:
    out = _native(problem)()  # as a caller gets them: what we allocate starts on a cache line
    return Contender(_native(problem, out=out))


def _ours_on_torch(problem: Problem) -> Contender:
    import torch

    return Contender(
        _native(problem, torch.from_numpy),
        lambda result: (result.advantages.numpy(), result.returns.numpy()),
    )


def _ours_time_last(problem: Problem) -> Contender | None:
    """Sequences of tokens as ordinary episodes [N, T]."""
    if problem.mask is None:
        return None
    call = partial(
        gae,
        problem.rewards,
        problem.values,
        terminated=problem.terminated,
        last_values=problem.last_values,
        time_axis=1,
        **_FACTORS,
    )
    return Contender(call)


def _reference(problem: Problem, dtype: np.dtype[Any]) -> Callable[[], tuple[Array, Array]]:
    rewards, values, last_values = (
        array.astype(dtype) for array in (problem.rewards, problem.values, problem.last_values)
    )
    if problem.mask is not None:
        return partial(reference.token_gae, rewards, values, mask=problem.mask, **_FACTORS)
    ends: dict[str, Any] = {"terminated": problem.terminated, "last_values": last_values}
    return partial(reference.gae, rewards, values, **ends, **_FACTORS)


def _table(result: Result) -> str:
    rows = []
    for name, seconds in result.seconds.items():
        mark = "*" if name in result.called_once else " "
        ours = name.startswith(OURS)
        share = f"{result.copy_share(name):.0%}" if ours else ""
        share_all = f"{result.copy_all_share(name):.0%}" if ours else ""
        rows.append(
            [name, f"{seconds * 1e6:,.1f}{mark}", f"{result.ratio(name):,.2f}", share, share_all]
        )
    for name, seconds in ((_COPY, result.copy_seconds), (_COPY_ALL, result.copy_all_seconds)):
        rows.append([name, f"{seconds * 1e6:,.1f} ", "", "", ""])
    header = ["", "us per call ", f"it / {OURS}", "share of copy", "of as many bytes"]
    return table(result.problem.title, header, rows)


def _record(result: Result) -> dict[str, object]:
    return {
        "kind": "rollout" if result.problem.mask is None else "tokens",
        "shape": list(result.problem.rewards.shape),
        "copy_seconds": result.copy_seconds,
        "copy_all_seconds": result.copy_all_seconds,
        "contenders": {
            name: {
                "seconds": seconds,
                "ratio": result.ratio(name),
                "share_of_copy": result.copy_share(name),
                "share_of_copy_of_as_many_bytes": result.copy_all_share(name),
                "called_once": name in result.called_once,
            }
            for name, seconds in result.seconds.items()
        },
    }


def _plot(path: Path, results: Sequence[Result]) -> None:
    """Time over ours as bars, a group for each shape; ours is the line at 1."""
    figure = require("matplotlib.figure", "bench").Figure(figsize=(14, 6), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(name for result in results for name in result.seconds))
    names = [name for name in names if not name.startswith(OURS)]
    colours = dict(zip(names, cycle(require("matplotlib").colormaps["tab10"].colors), strict=False))
    for place, result in enumerate(results):
        present = [name for name in names if name in result.seconds]
        width = 0.86 / max(1, len(present))
        for k, name in enumerate(present):
            x = place + (k - (len(present) - 1) / 2) * width
            ratio = result.ratio(name)
            axes.bar(x, ratio - 1, width, bottom=1, color=colours[name])
            axes.annotate(
                f"{ratio:.3g}" if ratio < 1000 else f"{ratio:,.0f}",
                (x, max(ratio, 1)),
                (0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                rotation=90,
                fontsize=8,
            )
    axes.margins(x=0.01)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 4)  # room for the numbers
    axes.set_xticks(range(len(results)), [result.problem.label for result in results])
    axes.set_ylabel(f"time of a call / {OURS}")
    axes.set_title(
        f"Advantages and returns, float32, shape [T, N] (tokens: [B, L]); {OURS} is the line at 1"
    )
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    handles = [axes.bar(0, 0, color=colours[name], label=name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(4, len(names))))
    figure.savefig(path, dpi=120)
