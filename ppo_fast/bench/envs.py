"""Environment steps per second through Python, infos on: ours, Gymnasium's, EnvPool's.

What counts is one call of `step` for the whole batch with actions that were sampled before, times
the environments in it; every contender steps through its own autoresets. The floor of a CartPole
step is the arithmetic of the physics, about 40 floating point operations of which four are
divisions, and 34 bytes written per environment (observation, reward, flags).
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import gymnasium

from ppo_fast.bench.report import write_report
from ppo_fast.bench.timing import table, time_in_turns
from ppo_fast.envs import NativeVectorEnv, make_vec
from ppo_fast.extras import require

CARTPOLE = "CartPole-v1"
OTHERS = ("MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1")
SIZES = (1, 8, 64, 1024, 4096, 65536)
OTHERS_SIZE = 1024
OURS = "ppo_fast"
ENVPOOL = "EnvPool"
_THREADS = {1: "1 thread", 2: "2 threads"}
_BETTER = "better of 1 and 2 threads"
_CHOSEN = "threads chosen by itself"
_ASYNC_UP_TO = 64  # a process per environment

# Makes a batch by id and size that was reset and has `step` and `close`; None if it has no such id.
Maker = Callable[[str, int], Any]


@dataclass(frozen=True)
class Result:
    """Environment steps per second in one batch."""

    env_id: str
    num_envs: int
    rates: dict[str, float]
    """By contender."""
    default_threads: int
    """That we choose when no number is given."""

    @property
    def best_other(self) -> str:
        """The fastest contender that is not ours."""
        others = [name for name in self.rates if not name.startswith(OURS)]
        return max(others, key=self.rates.__getitem__)

    def ratio(self, threads: int) -> float:
        """Ours with 1 or 2 threads over the best of the others."""
        return self.rates[_ours(threads)] / self.rates[self.best_other]

    @property
    def best_envpool(self) -> str | None:
        """EnvPool with its better number of threads, where it was measured."""
        names = [name for name in self.rates if name.startswith(ENVPOOL)]
        return max(names, key=self.rates.__getitem__, default=None)

    @property
    def shown(self) -> dict[str, str]:
        """Contenders by the name they are shown under: EnvPool once, at its best."""
        return {
            (ENVPOOL if name.startswith(ENVPOOL) else name): name
            for name in self.rates
            if not name.startswith(ENVPOOL) or name == self.best_envpool
        }


def bench_envs(
    *,
    seconds: float,
    env_ids: Sequence[str] = (CARTPOLE, *OTHERS),
    sizes: Sequence[int] = SIZES,
    others_size: int = OTHERS_SIZE,
    peers: Mapping[str, Maker] | None = None,
    out: Path | None = None,
) -> list[Result]:
    """Print and return environment steps per second by batch and contender.

    CartPole-v1 is measured in each of `sizes`, the others of `env_ids` in batches of `others_size`.
    Each entry gets about `seconds`, but a contender whose step takes longer than that still a few
    steps. `out` is a path without suffix: to write the results to as .json, with facts about the
    machine, and as .png.
    """
    makers = _makers(peers or {})
    for env_id in env_ids:
        check_answers(env_id)
    print(f"Equal to Gymnasium's SyncVectorEnv bit for bit: {', '.join(env_ids)}.", flush=True)
    cartpole = [(CARTPOLE, size) for size in sizes if CARTPOLE in env_ids]
    others = [(env_id, others_size) for env_id in env_ids if env_id != CARTPOLE]
    results = []
    for batches in filter(None, (cartpole, others)):
        group = [_measure(*batch, makers, seconds) for batch in batches]
        print(f"\n{_table(group)}", flush=True)
        results += group
    if out is not None:
        write_report(
            out,
            benchmark="envs",
            unit="environment steps per second",
            packages=("numpy", "gymnasium", "envpool"),
            results=[_record(result) for result in results],
            plot=lambda path: _plot(path, results),
        )
    return results


def check_answers(env_id: str, num_envs: int = 70, steps: int = 300) -> None:
    """Raise AssertionError unless ours equals Gymnasium's SyncVectorEnv bit for bit."""
    theirs = gymnasium.make_vec(env_id, num_envs, vectorization_mode="sync")
    ours = [make_vec(env_id, num_envs, num_threads=threads) for threads in (*_THREADS, None)]
    theirs.action_space.seed(0)
    obs, infos = theirs.reset(seed=0)
    for env in ours:
        _check(f"native {env_id} starts", env.reset(seed=0), (obs, infos))
    for _ in range(steps):
        actions = theirs.action_space.sample()
        expected = theirs.step(actions)
        for env in ours:
            _check(f"native {env_id} steps", env.step(actions), expected)
    theirs.close()


def _check(what: str, answer: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    *arrays, infos = answer
    *expected_arrays, expected_infos = expected
    equal = infos == expected_infos and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(arrays, expected_arrays, strict=True)
    )
    if not equal:
        raise AssertionError(f"{what} differently from Gymnasium's SyncVectorEnv")


def _ours(threads: int) -> str:
    return f"{OURS}, {_THREADS[threads]}"


def _makers(peers: Mapping[str, Maker]) -> dict[str, Maker]:
    """All contenders; those that start processes come before those that start threads."""
    makers: dict[str, Maker] = {
        "Gymnasium sync": partial(_gymnasium, "sync"),
        "Gymnasium async": partial(_gymnasium, "async"),
        "Gymnasium vectorised": partial(_gymnasium, "vector_entry_point"),
    }
    if find_spec("envpool") is None:
        print("EnvPool is not installed and left out")
    else:
        makers |= {f"{ENVPOOL}, {words}": partial(_envpool, n) for n, words in _THREADS.items()}
    makers |= peers
    makers |= {_ours(n): partial(_native, n) for n in _THREADS}
    makers[OURS] = partial(_native, None)
    return makers


def _gymnasium(mode: str, env_id: str, num_envs: int) -> Any:
    if mode == "async" and num_envs > _ASYNC_UP_TO:
        return None
    if mode == "vector_entry_point" and gymnasium.spec(env_id).vector_entry_point is None:
        return None
    env = gymnasium.make_vec(env_id, num_envs, vectorization_mode=mode)
    env.reset(seed=0)
    return env


def _envpool(num_threads: int, env_id: str, num_envs: int) -> Any:
    import envpool

    if env_id not in envpool.list_all_envs():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its spaces round float64 bounds to float32
        env = envpool.make_gymnasium(env_id, num_envs=num_envs, num_threads=num_threads, seed=0)
        _ = env.observation_space  # made on first use
    env.reset()
    return env


def _native(num_threads: int | None, env_id: str, num_envs: int) -> NativeVectorEnv:
    env = make_vec(env_id, num_envs, num_threads=num_threads)
    assert isinstance(env, NativeVectorEnv)
    env.reset(seed=0)
    return env


def _measure(env_id: str, num_envs: int, makers: Mapping[str, Maker], seconds: float) -> Result:
    with ExitStack() as stack:
        envs = {}
        for name, make in makers.items():
            env = make(env_id, num_envs)
            if env is not None:
                stack.callback(env.close)
                envs[name] = env
        actions = _actions(envs[OURS])
        # A call is the next step; nothing of it but `step` itself runs in Python.
        calls = {name: map(env.step, cycle(actions)).__next__ for name, env in envs.items()}
        times = time_in_turns(calls, seconds)
        rates = {name: num_envs / time for name, time in times.items()}
        return Result(env_id, num_envs, rates, envs[OURS].num_threads)


def _actions(env: NativeVectorEnv) -> list[Any]:
    """Random actions for some steps: many, but few enough to stay in a cache."""
    env.action_space.seed(0)
    return [env.action_space.sample() for _ in range(min(max(16, 2**16 // env.num_envs), 1024))]


def _shown(results: Iterable[Result]) -> list[str]:
    """Names to show of all results, of which some lack some: ours last."""
    names = dict.fromkeys(chain.from_iterable(result.shown for result in results))
    return sorted(names, key=lambda name: name.startswith(OURS))


def _table(results: Sequence[Result]) -> str:
    """A column per batch."""
    rows = []
    for name in _shown(results):
        rows.append([name, *(_rate(result, name) for result in results)])
        if name == ENVPOOL:
            rows.append([f"  {_BETTER}", *map(_envpool_threads, results)])
        elif name == OURS:
            rows.append([f"  {_CHOSEN}", *(f"{result.default_threads} " for result in results)])
    for threads, words in _THREADS.items():
        ratios = [f"{_digits(result.ratio(threads))}x" for result in results]
        rows.append([f"{OURS} ({words}) / best of the others", *ratios])
    title = "million environment steps/s; * is the best of the others"
    if all(result.env_id == CARTPOLE for result in results):
        header = ["environments", *(f"{result.num_envs:,} " for result in results)]
        return table(f"{CARTPOLE}, {title}", header, rows)
    header = ["", *(f"{result.env_id} " for result in results)]
    return table(f"{results[0].num_envs:,} environments, {title}", header, rows)


def _rate(result: Result, shown: str) -> str:
    name = result.shown.get(shown)
    if name is None:
        return "- "
    return _digits(result.rates[name] / 1e6) + ("*" if name == result.best_other else " ")


def _envpool_threads(result: Result) -> str:
    name = result.best_envpool
    return "- " if name is None else f"{name.removeprefix(ENVPOOL + ', ').split()[0]} "


def _digits(number: float) -> str:
    """Three significant digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:#.3g}".rstrip(".")


def _record(result: Result) -> dict[str, object]:
    return {
        "env_id": result.env_id,
        "num_envs": result.num_envs,
        "steps_per_second": result.rates,
        "default_threads": result.default_threads,
        "best_envpool": result.best_envpool,
        "best_other": result.best_other,
        "ratio_to_best_other": {words: result.ratio(n) for n, words in _THREADS.items()},
    }


def _plot(path: Path, results: Sequence[Result]) -> None:
    """Steps per second over the batch size of CartPole, and as bars for the others."""
    groups = [
        (plot, [result for result in results if (result.env_id == CARTPOLE) == is_cartpole])
        for plot, is_cartpole in ((_plot_sizes, True), (_plot_others, False))
    ]
    groups = [(plot, group) for plot, group in groups if group]
    figure = require("matplotlib.figure", "bench").Figure(figsize=(15, 7), layout="constrained")
    colours = _colours(_shown(results))
    all_axes = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (plot, group) in zip(all_axes, groups, strict=True):
        plot(axes, group, colours)
        axes.set_yscale("log")
        axes.set_ylabel("environment steps per second")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    labels = {ENVPOOL: f"{ENVPOOL}, {_BETTER}", OURS: f"{OURS}, {_CHOSEN}"}
    patch = require("matplotlib.patches", "bench").Patch
    handles = [patch(color=colours[name], label=labels.get(name, name)) for name in colours]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=120)


def _colours(names: Sequence[str]) -> dict[str, Any]:
    """Shades of blue for ours, other colours for the others."""
    maps = require("matplotlib").colormaps
    ours = iter(maps["Blues"]([0.45, 0.65, 1.0]))
    others = cycle(maps["tab10"].colors[1:])
    return {name: next(ours if name.startswith(OURS) else others) for name in names}


def _plot_sizes(axes: Any, results: Sequence[Result], colours: Mapping[str, Any]) -> None:
    """Lines over the batch size; the numbers are our ratios to the best of the others."""
    for name, colour in colours.items():
        present = [result for result in results if name in result.shown]
        sizes = [result.num_envs for result in present]
        rates = [result.rates[result.shown[name]] for result in present]
        style = "--" if name == OURS else "-"
        axes.plot(sizes, rates, style, color=colour, marker="o", markersize=4)
    for result in results:
        fastest = max(result.rates.values())
        ratios = "\n".join(f"{_digits(result.ratio(threads))}x" for threads in (2, 1))
        _annotate(axes, ratios, result.num_envs, fastest, gap=8)
    axes.set_xscale("log")
    axes.set_xticks([result.num_envs for result in results])
    axes.set_xticklabels([f"{result.num_envs:,}" for result in results])
    axes.minorticks_off()
    axes.margins(x=0.08, y=0.12)
    axes.set_xlabel("environments in the batch")
    axes.set_title(
        f"{CARTPOLE}; numbers: {OURS} with 2 threads (above) and 1 (below)\n"
        "over the best of the others"
    )


def _plot_others(axes: Any, results: Sequence[Result], colours: Mapping[str, Any]) -> None:
    """Bars with their height in millions, a group per environment."""
    for place, result in enumerate(results):
        present = [name for name in colours if name in result.shown]
        width = 0.86 / len(present)
        for k, name in enumerate(present):
            rate = result.rates[result.shown[name]]
            x = place + (k - (len(present) - 1) / 2) * width
            axes.bar(x, rate, width, color=colours[name])
            _annotate(axes, _digits(rate / 1e6), x, rate, gap=2, rotation=90)
    axes.margins(y=0.12)
    axes.set_xticks(range(len(results)), [_broken(result.env_id) for result in results])
    axes.set_title(f"{results[0].num_envs:,} environments; numbers: million steps/s")


def _annotate(axes: Any, text: str, x: float, y: float, gap: int, **settings: Any) -> None:
    """Text above a point."""
    settings |= {"ha": "center", "va": "bottom", "fontsize": 8}
    axes.annotate(text, (x, y), (0, gap), textcoords="offset points", **settings)


def _broken(env_id: str) -> str:
    """An id in two lines where it is long."""
    return env_id.replace("Continuous", "\nContinuous")
