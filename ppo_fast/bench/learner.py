"""Time of a gradient step on a minibatch, and of a rollout: our engines, plain torch, peers.

The networks are a 64x64 tanh policy and critic for CartPole. A step gathers its samples, goes
forward, computes PPO's loss, goes backward, limits the gradient's norm and moves Adam; what is
reported is a pass over a few minibatches, divided by their number. Torch has one thread unless the
name says otherwise. The floor of a step is the arithmetic of its layers at the rate of a large
matrix product; that rate is the best of the run, since a disturbed one would flatter the steps.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppo_fast.bench.report import write_report
from ppo_fast.bench.timing import table, time_in_turns
from ppo_fast.config import TrainConfig
from ppo_fast.envs import make_stepper
from ppo_fast.extras import require
from ppo_fast.learners import GradientStep
from ppo_fast.rollout import Rollout

if TYPE_CHECKING:
    from ppo_fast.bench.updates import MakeUpdater, Updater

BATCHES = (64, 256, 1024, 4096)
SIZES = (8, 64, 1024)
MINIBATCHES = 8
NUM_STEPS = 128
OURS = "ppo_fast"
OURS_SHARED = "ppo_fast, 2 threads"
TORCH_ENGINE = "ppo_fast, torch engine"
EAGER = "torch eager"
EAGER_SHARED = "torch eager, 2 threads"
COMPILED = "torch.compile"
SB3 = "stable-baselines3"
MATRIX_SIZE = 1024
MATRIX_PRODUCT = f"torch.mm of {MATRIX_SIZE:,} x {MATRIX_SIZE:,}, float32, 1 thread"
_TOLERANCE = 1e-5
_FEWEST_PRODUCTS = 5
_PACKAGES = ("numpy", "torch", "stable-baselines3")
# Below, torch's operators are too small to be shared: it does so from 32,768 elements on.
_EAGER_SHARED_FROM = 1024
# The policy hardly moves while steps are timed, or the samples would soon be no longer of it.
_TIMED_LEARNING_RATE = 1e-7


@dataclass(frozen=True)
class UpdateResult:
    """Times of gradient steps on minibatches of one size.

    Attributes:
        batch: Samples of a minibatch.
        seconds: Of one step, by contender.
        flops: Of one step, in the layers alone.
        matrix_rate: Of MATRIX_PRODUCT at its best, in FLOP/s.
    """

    batch: int
    seconds: dict[str, float]
    flops: int
    matrix_rate: float

    def ratio(self, name: str) -> float:
        """How many times as long as ours on one thread it takes."""
        return self.seconds[name] / self.seconds[OURS]

    def rate(self, name: str) -> float:
        """FLOP/s in the layers, as if nothing else took time."""
        return self.flops / self.seconds[name]

    def share(self, name: str) -> float | None:
        """`rate` over `matrix_rate`; None for more threads than that was measured on."""
        return None if name in (OURS_SHARED, EAGER_SHARED) else self.rate(name) / self.matrix_rate


@dataclass(frozen=True)
class RolloutResult:
    """Environment steps per second, by contender."""

    num_envs: int
    rates: dict[str, float]


def bench_learner(
    *,
    seconds: float,
    batches: Sequence[int] = BATCHES,
    sizes: Sequence[int] = SIZES,
    minibatches: int = MINIBATCHES,
    compiled: bool = True,
    updaters: "Mapping[str, MakeUpdater] | None" = None,
    out: Path | None = None,
) -> tuple[list[UpdateResult], list[RolloutResult]]:
    """Print and return times of gradient steps and rates of rollouts.

    `sizes` are numbers of environments, `minibatches` those of a timed pass, `updaters` more
    contenders. `out` is a path without suffix: to write the results to as .json, with facts about
    the machine, and as .png.
    """
    torch = require("torch", "bench")
    from ppo_fast.bench.updates import flops_per_sample

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        contenders = _contenders(compiled) | dict(updaters or {})
        updates = []
        matrix_rate = _matrix_rate(seconds) if batches else 0.0
        for batch in batches:
            torch.compiler.reset()  # else it would give up after some batches
            times = _time_updates(batch, contenders, minibatches, seconds)
            matrix_rate = max(matrix_rate, _matrix_rate(seconds))
            updates.append(UpdateResult(batch, times, batch * flops_per_sample(), matrix_rate))
            print(f"\n{_update_table(updates[-1])}", flush=True)
        updates = [replace(result, matrix_rate=matrix_rate) for result in updates]
        if updates:
            print(f"\nMatrix rate: {MATRIX_PRODUCT}; at its best {matrix_rate / 1e9:,.0f} GFLOP/s.")
        rollouts = [_time_rollouts(num_envs, seconds) for num_envs in sizes]
        if rollouts:
            print(f"\n{_rollout_table(rollouts)}", flush=True)
        if out is not None:
            write_report(
                out,
                benchmark="learner",
                unit="seconds per gradient step; environment steps per second",
                packages=_PACKAGES,
                results=[
                    *(_update_record(result, minibatches) for result in updates),
                    *(_rollout_record(result) for result in rollouts),
                ],
                plot=lambda path: _plot(path, updates, rollouts),
            )
    finally:
        torch.set_num_threads(threads)
    return updates, rollouts


def _contenders(compiled: bool) -> "dict[str, MakeUpdater]":
    from ppo_fast.bench import updates

    contenders: dict[str, MakeUpdater] = {
        OURS: updates.native,
        OURS_SHARED: partial(updates.native, num_threads=2),
        TORCH_ENGINE: updates.torch_engine,
        EAGER: updates.plain_torch,
        EAGER_SHARED: updates.on_threads(updates.plain_torch, 2),
    }
    if compiled:
        reason = updates.why_not_compiled()
        if reason is None:
            contenders[COMPILED] = partial(updates.plain_torch, compiled=True)
        else:
            print(f"torch.compile does not work here and is left out: {reason}")
    if find_spec("stable_baselines3") is None:
        print("stable-baselines3 is not installed and left out")
    else:
        contenders[SB3] = updates.stable_baselines3
    return contenders


def _time_updates(
    batch: int, contenders: "Mapping[str, MakeUpdater]", minibatches: int, seconds: float
) -> dict[str, float]:
    """Seconds of a step, by contender."""
    from ppo_fast.bench.updates import first_parameters, make_samples, plain_torch

    samples = make_samples(batch * minibatches)
    order = np.random.default_rng(0).permutation(len(samples))
    expected = _two_steps(plain_torch(samples.double()), order[:batch])
    step = GradientStep(batch, learning_rate=_TIMED_LEARNING_RATE, max_grad_norm=0.5)
    passes: dict[str, Callable[[], object]] = {}
    for name, make in contenders.items():
        if name == EAGER_SHARED and batch < _EAGER_SHARED_FROM:
            continue
        updater = make(samples)
        _check(f"batch {batch:,}: {name}", _two_steps(updater, order[:batch]), expected)
        updater.load(first_parameters())
        passes[name] = partial(updater.epoch, order, step)
    times = time_in_turns(passes, seconds)
    return {name: passed / minibatches for name, passed in times.items()}


# Gradients and parameters after the first step, and the parameters after the second.
_Steps = dict[str, list[Any]]


def _two_steps(updater: "Updater", rows: np.ndarray[Any, np.dtype[np.int64]]) -> _Steps:
    """One step as it comes, and one whose gradient is limited, on one minibatch."""
    from ppo_fast.bench.updates import first_parameters

    def parameters() -> list[Any]:
        return [x.detach().double().clone() for x in updater.parameters]

    updater.load(first_parameters())
    updater.epoch(rows, GradientStep(len(rows), learning_rate=1e-3, max_grad_norm=None))
    steps = {
        "gradient": [x.clone() for x in updater.gradients()],
        "parameters after one step": parameters(),
    }
    updater.epoch(rows, GradientStep(len(rows), learning_rate=1e-3, max_grad_norm=0.05))
    return steps | {"parameters after a limited step": parameters()}


def _check(title: str, found: _Steps, expected: _Steps) -> None:
    """Refuse a contender that is off by more than 1e-5 of a tensor's largest element."""
    for what, tensors in expected.items():
        for k, (ours, truth) in enumerate(zip(found[what], tensors, strict=True)):
            error = ((ours - truth).abs().max() / truth.abs().max()).item()
            if not error <= _TOLERANCE:
                raise AssertionError(f"{title} gave wrong {what}, tensor {k} off by {error:.1e}")


def _matrix_rate(seconds: float) -> float:
    """FLOP/s of MATRIX_PRODUCT, the best of calls in so many seconds."""
    torch = require("torch", "bench")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, generator=generator) for _ in range(2))
    out = torch.empty_like(a)
    times: list[float] = []
    while len(times) < _FEWEST_PRODUCTS or sum(times) < seconds:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - start)
    return 2 * MATRIX_SIZE**3 / min(times)


def _time_rollouts(num_envs: int, seconds: float) -> RolloutResult:
    games = {
        OURS: _Game(num_envs, engine="native", num_threads=1),
        OURS_SHARED: _Game(num_envs, engine="native", num_threads=2),
        TORCH_ENGINE: _Game(num_envs, engine="torch", num_threads=1),
    }
    try:
        for game in games.values():
            game.play()
        for name, game in games.items():
            game.check(f"{num_envs:,} environments: {name}", games[TORCH_ENGINE].rollout)
        times = time_in_turns({name: game.play for name, game in games.items()}, seconds)
    finally:
        for game in games.values():
            game.close()
    samples = NUM_STEPS * num_envs
    return RolloutResult(num_envs, {name: samples / passed for name, passed in times.items()})


class _Game:
    """Environments, who plays them, and the rollout that is filled."""

    def __init__(self, num_envs: int, **settings: Any) -> None:
        from ppo_fast.bench.updates import ENV_ID, HIDDEN_SIZES, OBS_SIZE, make_layout, make_ours

        config = TrainConfig(
            ENV_ID, num_envs=num_envs, hidden_sizes=HIDDEN_SIZES, seed=1, **settings
        )
        self._stepper = make_stepper(ENV_ID, num_envs, num_threads=config.num_threads)
        self._learner = make_ours(config)
        self._first_steps = count(0, NUM_STEPS)
        self.rollout = Rollout(NUM_STEPS, num_envs, (OBS_SIZE,), make_layout())
        obs, _ = self._stepper.reset(seed=list(range(num_envs)))
        self.rollout.start(obs)

    def play(self) -> None:
        """Fill the rollout, from where the last one ended."""
        self.rollout.collect(self._stepper, self._learner, first_step=next(self._first_steps))

    def check(self, title: str, expected: Rollout) -> None:
        """Refuse other actions or log-probabilities than expected.

        Where a probability lies between two roundings an action may differ, and all that follows
        from it: in one environment of a hundred.
        """
        ours = self.rollout
        same = (ours.actions == expected.actions).all(axis=0)
        differing = int(np.count_nonzero(~same))
        if differing > self.rollout.num_envs // 100:
            raise AssertionError(f"{title} took other actions in {differing} environments")
        error = np.abs(ours.logp - expected.logp)[:, same].max()
        if not error <= _TOLERANCE:
            raise AssertionError(f"{title} gave wrong log-probabilities, off by {error:.1e}")

    def close(self) -> None:
        self._stepper.close()


def _update_table(result: UpdateResult) -> str:
    rows = []
    for name, seconds in result.seconds.items():
        cells = [name, f"{seconds * 1e6:,.1f}", f"{result.ratio(name):,.2f}"]
        share = result.share(name)
        cells += [f"{result.rate(name) / 1e9:,.1f}", "" if share is None else f"{share:.0%}"]
        rows.append(cells)
    title = (
        f"gradient step, batch {result.batch:,}, {result.flops / 1e6:,.2f} MFLOP; "
        f"matrix rate {result.matrix_rate / 1e9:,.0f} GFLOP/s"
    )
    return table(title, ["", "us", f"it / {OURS}", "GFLOP/s", "of matrix rate"], rows)


def _rollout_table(results: Sequence[RolloutResult]) -> str:
    header = ["", *(f"{result.num_envs:,} envs" for result in results)]
    rows = [
        [name, *(f"{result.rates[name] / 1e6:,.3f}" for result in results)]
        for name in results[0].rates
    ]
    return table(f"rollout of {NUM_STEPS} steps, million env-steps/s", header, rows)


def _update_record(result: UpdateResult, minibatches: int) -> dict[str, object]:
    return {
        "part": "update",
        "batch": result.batch,
        "minibatches_per_pass": minibatches,
        "flops": result.flops,
        "matrix_rate": {"of": MATRIX_PRODUCT, "flops_per_second": result.matrix_rate},
        "contenders": {
            name: {
                "seconds": seconds,
                "ratio": result.ratio(name),
                "flops_per_second": result.rate(name),
                "share_of_matrix_rate": result.share(name),
            }
            for name, seconds in result.seconds.items()
        },
    }


def _rollout_record(result: RolloutResult) -> dict[str, object]:
    return {
        "part": "rollout",
        "num_envs": result.num_envs,
        "num_steps": NUM_STEPS,
        "steps_per_second": result.rates,
    }


def _plot(path: Path, updates: Sequence[UpdateResult], rollouts: Sequence[RolloutResult]) -> None:
    """Time of a step over ours against the batch, and the rates of rollouts."""
    figure = require("matplotlib.figure", "bench").Figure(figsize=(12, 5), layout="constrained")
    steps, plays = figure.subplots(1, 2)
    if updates:
        for name in dict.fromkeys(name for result in updates for name in result.seconds):
            line = [result for result in updates if name in result.seconds]
            batches, ratios = [r.batch for r in line], [r.ratio(name) for r in line]
            steps.plot(batches, ratios, marker="o", label=name)
        steps.legend(fontsize=8)
    steps.set_xlabel("batch")
    steps.set_ylabel(f"time / {OURS}")
    steps.set_title("gradient step; 1 is ours on one thread")
    if rollouts:
        sizes = [result.num_envs for result in rollouts]
        for name in rollouts[0].rates:
            rates = [result.rates[name] for result in rollouts]
            plays.plot(sizes, rates, marker="o", label=name)
        plays.legend(fontsize=8)
    plays.set_xlabel("environments")
    plays.set_ylabel("env-steps/s")
    plays.set_title(f"rollout of {NUM_STEPS} steps of CartPole-v1")
    for axes, base in ((steps, 2), (plays, 10)):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=base)
        axes.grid(alpha=0.3)
    figure.suptitle("64x64 tanh policy and critic, float32")
    figure.savefig(path, dpi=120)
