"""Steps per second of CartPole-v1 through Python: ours, Gymnasium's, and whoever a caller adds.

The floor of a step is the arithmetic of the physics, about 40 floating point operations of which
four are divisions, and 34 bytes written per environment (observation, reward, flags).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import gymnasium
import numpy as np

from ppo_fast.bench.timing import table, time_in_turns
from ppo_fast.envs import make_vec

# Makes a batch of n environments and returns its step function of the actions [n].
Maker = Callable[[int], Callable[[Any], object]]

SIZES = (1, 8, 64, 1024, 4096)
_SYNC_UP_TO = 64  # a Python loop over more environments only takes time


def bench_envs(
    *, seconds: float = 1.0, sizes: Sequence[int] = SIZES, peers: Mapping[str, Maker] | None = None
) -> dict[int, dict[str, float]]:
    """Print and return environment steps per second by batch size and contender."""
    check_answers()
    makers: dict[str, Maker] = {
        "ppo_fast, 1 thread": lambda n: _native(n, 1),
        "ppo_fast": lambda n: _native(n, None),
        "gymnasium vectorised": lambda n: _gymnasium(n, "vector_entry_point"),
        "gymnasium sync": lambda n: _gymnasium(n, "sync"),
        **(peers or {}),
    }
    rates: dict[int, dict[str, float]] = {}
    for size in sizes:
        present = {
            name: make
            for name, make in makers.items()
            if name != "gymnasium sync" or size <= _SYNC_UP_TO
        }
        rng = np.random.default_rng(0)
        batches = [rng.integers(0, 2, size) for _ in range(64)]
        calls = {name: _stepper(make(size), batches) for name, make in present.items()}
        times = time_in_turns(calls, seconds)
        rates[size] = {name: size / time for name, time in times.items()}
    names = list(makers)
    rows = [[name] + [_cell(rates[size], name) for size in sizes] for name in names]
    print(table("CartPole-v1, million env-steps/s (ours / it)", ["envs", *map(str, sizes)], rows))
    return rates


def check_answers(num_envs: int = 130, steps: int = 200) -> None:
    """Raise AssertionError unless ours equals Gymnasium's SyncVectorEnv bit for bit."""
    ours = make_vec("CartPole-v1", num_envs)
    theirs = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="sync")
    actions = np.random.default_rng(0).integers(0, 2, (steps, num_envs))
    if ours.reset(seed=0)[0].tobytes() != theirs.reset(seed=0)[0].tobytes():
        raise AssertionError("native CartPole-v1 starts differently from Gymnasium's")
    for action in actions:
        for a, b in zip(ours.step(action)[:4], theirs.step(action)[:4], strict=True):
            if np.asarray(a).tobytes() != np.asarray(b).tobytes():
                raise AssertionError("native CartPole-v1 differs from Gymnasium's")


def _native(num_envs: int, num_threads: int | None) -> Callable[[Any], object]:
    env = make_vec("CartPole-v1", num_envs, num_threads=num_threads)
    env.reset(seed=0)
    return env.step


def _gymnasium(num_envs: int, mode: str) -> Callable[[Any], object]:
    env = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode=mode)
    env.reset(seed=0)
    return env.step


def _stepper(step: Callable[[Any], object], batches: list[Any]) -> Callable[[], object]:
    actions: Iterator[Any] = cycle(batches)
    return lambda: step(next(actions))


def _cell(rates: dict[str, float], name: str) -> str:
    if name not in rates:
        return "-"
    ratio = rates["ppo_fast, 1 thread"] / rates[name]
    return f"{rates[name] / 1e6:.2f} ({ratio:.1f}x)"
