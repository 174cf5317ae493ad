"""Times of the kernels on a GPU: of a call on the host, and of its kernels on the device.

The floor is traffic: next to each time stands the share of the bandwidth that a copy of a gigabyte
reached in the same run. Device times are those of a CUDA graph of several calls, by events. Answers
are checked against the CPU's before anything is timed.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ppo_fast import advantage, cuda, reference
from ppo_fast.bench.cuda_training import (
    SHAPES,
    TrainingResult,
    measure_training,
    show_training,
    training_cells,
)
from ppo_fast.bench.report import machine
from ppo_fast.bench.surrogate import CLIP_RANGE, ENTROPY_COEF, VALUE_COEF
from ppo_fast.bench.timing import table
from ppo_fast.distributions import Categorical
from ppo_fast.envs.cuda import CudaVectorEnv
from ppo_fast.envs.native import NativeVectorEnv
from ppo_fast.extras import require, require_train
from ppo_fast.surrogate import ppo_loss

# [T, N]: time-major rollouts, wide, narrow and large.
ROLLOUTS = ((128, 4096), (4096, 128), (16, 65536), (128, 65536), (1024, 16384))
# [N, T]: rows along time, e.g. few very long ones.
ROWS = ((16, 65536), (1024, 4096), (65536, 128), (1, 1_000_000))
TOKENS = ((16, 65536), (512, 2048))
BATCHES = (4096, 65536, 1_000_000)
ENVS = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1")
NUM_ENVS = (4096, 65536, 1_048_576)
# What is followed by V of last observations where episodes are cut, [T, N] and [N, T]; and V-trace.
CUT = (((128, 65536), 0), ((1024, 4096), 1))
COPY_BYTES = 1 << 30
_FACTORS: dict[str, Any] = {"gamma": 0.99, "gae_lambda": 0.95}
_ROUNDS = 7
_GRAPH_CALLS = 10
_GAE_BYTES = 17  # of an element: reward, value and flag in, advantage and return out
_CUT_BYTES = 18  # another flag
_VTRACE_BYTES = 21  # and the log-ratio
_TOKEN_BYTES = 17  # a mask in the place of the flag
_TOLERANCE = 1e-4


class Timer(Protocol):
    """Seconds of a call."""

    def host(self, call: Callable[[], object]) -> float:
        """Until it returns."""

    def device(self, call: Callable[[], object]) -> float:
        """Of what it started."""


class CudaTimer:
    """Times on a CUDA device; each is the median of `_ROUNDS`, of about `seconds` altogether."""

    def __init__(self, seconds: float) -> None:
        self._torch = require("torch")
        self._seconds = seconds / _ROUNDS

    def host(self, call: Callable[[], object]) -> float:
        call()
        self._torch.cuda.synchronize()
        count = self._count(call)
        times = []
        for _ in range(_ROUNDS):
            self._torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(count):
                call()
            times.append((time.perf_counter() - start) / count)
        return statistics.median(times)

    def device(self, call: Callable[[], object]) -> float:
        gpu = self._torch.cuda
        side = gpu.Stream()
        with gpu.stream(side):
            call()
        gpu.synchronize()
        graph = gpu.CUDAGraph()
        with gpu.graph(graph):
            for _ in range(_GRAPH_CALLS):
                call()
        graph.replay()
        count = self._count(graph.replay)
        times: list[float] = []
        for _ in range(_ROUNDS):
            first, last = gpu.Event(enable_timing=True), gpu.Event(enable_timing=True)
            first.record()
            for _ in range(count):
                graph.replay()
            last.record()
            gpu.synchronize()
            times.append(float(first.elapsed_time(last)) / 1e3 / (count * _GRAPH_CALLS))
        return statistics.median(times)

    def _count(self, call: Callable[[], object]) -> int:
        """How many calls fill a round, but not the device's queue."""
        self._torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        self._torch.cuda.synchronize()
        once = max(time.perf_counter() - start, 1e-7)
        return max(1, min(500, int(self._seconds / once)))


@dataclass(frozen=True)
class Entry:
    """One thing that is timed."""

    what: str
    shape: str
    items: int
    """Elements, samples or steps of a call."""
    bytes: int
    """That must be moved."""
    call: Callable[[], Any]
    check: Callable[[], None]
    other: Callable[[], Any] | None = None
    """The same in torch operations."""


@dataclass(frozen=True)
class Result:
    """Times of one entry."""

    what: str
    shape: str
    host_seconds: float
    device_seconds: float
    items_per_second: float
    """On the device."""
    share_of_copy: float
    """Of the bandwidth of a copy."""
    torch_device_seconds: float | None


def bench_cuda(
    *,
    timer: Timer,
    device: str = "cuda",
    rollouts: Sequence[tuple[int, int]] = ROLLOUTS,
    rows: Sequence[tuple[int, int]] = ROWS,
    cut: Sequence[tuple[tuple[int, int], int]] = CUT,
    tokens: Sequence[tuple[int, int]] = TOKENS,
    batches: Sequence[int] = BATCHES,
    envs: Sequence[str] = ENVS,
    num_envs: Sequence[int] = NUM_ENVS,
    training: Sequence[tuple[int, int]] = SHAPES,
    copy_bytes: int = COPY_BYTES,
    checks: Sequence[str] = (),
    out: Path | None = None,
) -> list[Result]:
    """Print the times of advantages, losses, environments and training; return all but the last.

    `checks` are lines to stand above the table, e.g. what tests said. `out` is a path without
    suffix to write .json and .md to.
    """
    cuda.kernels(f"bench_cuda: device={device!r}")
    torch = require("torch")
    name = torch.cuda.get_device_name() if device == "cuda" else device
    source = torch.zeros(copy_bytes // 2, dtype=torch.uint8, device=device)
    copy = partial(torch.empty_like(source).copy_, source)
    bandwidth = copy_bytes / timer.device(copy)
    print(f"{name}: a copy of {copy_bytes:,} bytes, in and out, at {bandwidth / 1e9:,.0f} GB/s")
    del source, copy
    four = torch.zeros(4, device=device)
    add = timer.host(partial(torch.add, four, four, out=four))
    print(f"torch.add of four numbers takes {add * 1e6:.1f} us of host time")
    entries = (
        *(partial(_rollout, shape, device, 0) for shape in rollouts),
        *(partial(_rollout, shape, device, 1) for shape in rows),
        *(partial(_cut, shape, device, time_axis) for shape, time_axis in cut),
        *(partial(_vtrace, shape, device, time_axis) for shape, time_axis in cut),
        *(partial(_tokens, shape, device) for shape in tokens),
        *(partial(_loss, size, device) for size in batches),
        *(partial(_env, env_id, n, device) for env_id in envs for n in num_envs),
    )
    results = [_measure(make(), timer, bandwidth) for make in entries]
    header, cells = _cells(results)
    print("\n" + table("", header, cells))
    trained: list[TrainingResult] = []
    if out is not None:
        _write(out, name, bandwidth, add, checks, results, trained)  # whatever becomes of the runs
    try:
        require_train()
    except ModuleNotFoundError as error:
        print(f"\ntraining is not timed: {error}")
    else:
        trained = measure_training(timer.device, device=device, shapes=training)
        show_training(trained)
    if out is not None:
        _write(out, name, bandwidth, add, checks, results, trained)
        print(f"\n{out.with_suffix('.json')}  {out.with_suffix('.md')}")
    return results


def _measure(entry: Entry, timer: Timer, bandwidth: float) -> Result:
    entry.check()
    device = timer.device(entry.call)
    return Result(
        what=entry.what,
        shape=entry.shape,
        host_seconds=timer.host(entry.call),
        device_seconds=device,
        items_per_second=entry.items / device,
        share_of_copy=entry.bytes / device / bandwidth,
        torch_device_seconds=None if entry.other is None else timer.device(entry.other),
    )


def _draw(device: str, *shape: int, seed: int = 0) -> Iterator[Any]:
    """Normal float32 tensors."""
    torch = require("torch")
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=generator).to(device)


def _require_close(what: str, ours: Any, expected: Any) -> None:
    ours, expected = (np.asarray(x.detach().cpu(), np.float64) for x in (ours, expected))
    error = np.abs(ours - expected).max() / max(np.abs(expected).max(), 1e-9)
    if not error <= _TOLERANCE:
        raise AssertionError(f"{what} differs from the CPU by {error:.1e}")


@dataclass(frozen=True)
class _Data:
    """What a function of `ppo_fast.advantage` is called with."""

    function: str
    arrays: tuple[Any, ...]
    keywords: dict[str, Any]

    def __call__(self) -> Any:
        return getattr(advantage, self.function)(*self.arrays, **self.keywords)

    def check(self) -> None:
        """The answer against the CPU's."""
        arrays = tuple(x.cpu() for x in self.arrays)
        keywords = {k: x.cpu() if hasattr(x, "cpu") else x for k, x in self.keywords.items()}
        expected = _Data(self.function, arrays, keywords)()
        for ours, other in zip(self(), expected, strict=True):
            _require_close(self.function, ours, other)


def _data(function: str, shape: tuple[int, int], device: str, time_axis: int, **more: Any) -> _Data:
    draw = _draw(device, *shape)
    rewards, values = next(draw), next(draw)
    keywords = {
        "terminated": next(draw) > 2.3,  # one in a hundred
        "last_values": next(_draw(device, shape[1 - time_axis])),
        "time_axis": time_axis,
        **more,
    }
    return _Data(function, (rewards, values), keywords)


def _entry(what: str, shape: tuple[int, int], time_axis: int, item: int, data: _Data) -> Entry:
    size = shape[0] * shape[1]
    axes = "[T, N]" if time_axis == 0 else "[N, T]"
    return Entry(f"{what} {axes}", _by(shape), size, size * item, data, data.check)


def _cut(shape: tuple[int, int], device: str, time_axis: int) -> Entry:
    draw = _draw(device, *shape, seed=1)
    more = {"final_values": next(draw), "truncated": next(draw).abs() > 2.5}
    data = _data("gae", shape, device, time_axis, **_FACTORS, **more)
    return _entry("gae, truncated", shape, time_axis, _CUT_BYTES, data)


def _vtrace(shape: tuple[int, int], device: str, time_axis: int) -> Entry:
    log_rhos = next(_draw(device, *shape, seed=1)) / 4
    gamma = _FACTORS["gamma"]
    data = _data("vtrace", shape, device, time_axis, gamma=gamma, log_rhos=log_rhos)
    return _entry("vtrace", shape, time_axis, _VTRACE_BYTES, data)


def _rollout(shape: tuple[int, int], device: str, time_axis: int) -> Entry:
    torch = require("torch")
    data = _data("gae", shape, device, time_axis, **_FACTORS)
    rewards, values = data.arrays
    terminated, last_values = data.keywords["terminated"], data.keywords["last_values"]
    gamma, gae_lambda = _FACTORS["gamma"], _FACTORS["gae_lambda"]

    # As users write it: data(), which unpacks a dictionary, takes a tenth longer on the host.
    def call() -> Any:
        return advantage.gae(
            rewards,
            values,
            gamma=gamma,
            gae_lambda=gae_lambda,
            last_values=last_values,
            terminated=terminated,
            time_axis=time_axis,
        )

    def loop() -> Any:
        advantages = torch.empty_like(rewards)
        following, carry = last_values, torch.zeros_like(last_values)
        for t in reversed(range(len(rewards))):
            goes_on = (~terminated[t]).float()
            delta = rewards[t] + 0.99 * following * goes_on - values[t]
            carry = delta + 0.99 * 0.95 * goes_on * carry
            advantages[t] = carry
            following = values[t]
        return advantages, advantages + values

    few_steps = time_axis == 0 and shape[0] <= 128
    entry = _entry("gae", shape, time_axis, _GAE_BYTES, data)
    return replace(entry, call=call, other=loop if few_steps else None)


def _tokens(shape: tuple[int, int], device: str) -> Entry:
    draw = _draw(device, *shape)
    rewards, values = next(draw), next(draw)
    mask = next(draw) < 1.0
    call = partial(advantage.token_gae, rewards, values, mask=mask, **_FACTORS)

    def check() -> None:
        arrays = (x.cpu().numpy().astype(np.float64) for x in (rewards, values))
        expected = reference.token_gae(*arrays, mask=mask.cpu().numpy(), **_FACTORS)
        torch = require("torch")
        for ours, other in zip(call(), expected, strict=True):
            counted = mask.cpu()
            _require_close("token_gae", ours.cpu()[counted], torch.from_numpy(other)[counted])

    size = rewards.numel()
    return Entry("token_gae [B, L]", _by(shape), size, size * _TOKEN_BYTES, call, check)


def _loss(size: int, device: str) -> Entry:
    torch = require("torch")
    logits = next(_draw(device, size, 2)).requires_grad_()
    draw = _draw(device, size)
    values = next(draw).requires_grad_()
    old_logp, advantages, returns = (next(draw) for _ in range(3))
    old_logp = old_logp.abs().neg()
    actions = (next(draw) > 0).long()
    leaves = (logits, values)

    def ours_of(leaves: Any, actions: Any, *columns: Any) -> Any:
        logits, values = leaves
        old_logp, advantages, returns = columns
        loss, _ = ppo_loss(
            Categorical(logits),
            actions,
            old_logp,
            advantages,
            values,
            returns,
            clip_range=CLIP_RANGE,
            entropy_coef=ENTROPY_COEF,
            value_coef=VALUE_COEF,
        )
        return loss, *torch.autograd.grad(loss, leaves)

    columns = (old_logp, advantages, returns)
    call = partial(ours_of, leaves, actions, *columns)

    def check() -> None:
        copies = [x.detach().cpu().requires_grad_() for x in leaves]
        expected = ours_of(copies, actions.cpu(), *(x.cpu() for x in columns))
        for ours, other in zip(call(), expected, strict=True):
            _require_close("ppo_loss", ours, other)

    def eager() -> Any:
        log_p = torch.log_softmax(logits, 1)
        ratio = (log_p.gather(1, actions[:, None])[:, 0] - old_logp).exp()
        clipped = ratio.clamp(1 - CLIP_RANGE, 1 + CLIP_RANGE)
        policy = -torch.min(ratio * advantages, clipped * advantages).mean()
        entropy = -(log_p.exp() * log_p).sum(1).mean()
        loss = policy + VALUE_COEF * (values - returns).square().mean() - ENTROPY_COEF * entropy
        return torch.autograd.grad(loss, leaves)

    # Two logits and a value with gradients, an action of 8 bytes, three columns.
    return Entry("ppo_loss", f"{size:,} x 2", size, size * (3 * 8 + 8 + 12), call, check, eager)


def _env(env_id: str, num_envs: int, device: str) -> Entry:
    torch = require("torch")
    env = CudaVectorEnv(env_id, num_envs, device=device, autoreset_mode="SameStep")
    cpu = NativeVectorEnv(env_id, num_envs, autoreset_mode="SameStep")
    env.reset(seed=0)
    cpu.reset(seed=0)
    discrete = hasattr(env.single_action_space, "n")
    shape = (num_envs,) if discrete else (num_envs, *(env.single_action_space.shape or ()))
    noise = next(_draw(device, *shape))
    actions = (noise > 0).long() if discrete else noise
    out = list(env.step(actions)[:4])
    cpu.step(actions.cpu().numpy())
    call = partial(env.step_into, actions, *out)

    def check() -> None:
        env.set_state(cpu.get_state())
        call()
        expected = cpu.step(actions.cpu().numpy())
        for ours, other in zip(out, expected[:4], strict=True):
            _require_close(env_id, ours.float(), torch.from_numpy(np.asarray(other)).float())

    one = NativeVectorEnv(env_id, 1)
    one.reset()
    state = one.get_attr("state")[0].nbytes
    obs = out[0][0].numel() * out[0].element_size()
    # State, return, length and whether it is over, in and out; the action; what comes out.
    moved = 2 * (state + 8 + 4 + 1) + actions[0].numel() * actions.element_size() + obs + 8 + 2
    return Entry(env_id, f"{num_envs:,}", num_envs, num_envs * moved, call, check)


def _by(shape: tuple[int, int]) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def _cells(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    header = ["", "shape", "host us", "device us", "G items/s", "of a copy", "torch / ours"]
    rows = []
    for r in results:
        other = r.torch_device_seconds
        rows.append(
            [
                r.what,
                r.shape,
                f"{r.host_seconds * 1e6:,.1f}",
                f"{r.device_seconds * 1e6:,.1f}",
                f"{r.items_per_second / 1e9:,.2f}",
                f"{r.share_of_copy:.0%}",
                "" if other is None else f"{other / r.device_seconds:,.1f}",
            ]
        )
    return header, rows


def _write(
    out: Path,
    name: str,
    bandwidth: float,
    add: float,
    checks: Sequence[str],
    results: Sequence[Result],
    trained: Sequence[TrainingResult],
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "benchmark": "cuda",
        "device": name,
        "copy_bytes_per_second": bandwidth,
        "torch_add_host_seconds": add,
        "machine": machine(("numpy", "torch")),
        "checks": list(checks),
        "results": [asdict(result) for result in results],
        "training": [asdict(result) for result in trained],
    }
    out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    tables = [_cells(results)] + ([training_cells(trained)] if trained else [])
    lines = [
        f"# {name}",
        "",
        *(f"- {check}" for check in checks),
        f"- A copy of a gigabyte runs at {bandwidth / 1e9:,.0f} GB/s, in and out.",
        f"- torch.add of four numbers, into a tensor, takes {add * 1e6:.1f} us of host time.",
    ]
    for header, rows in tables:
        lines += [
            "",
            f"| {' | '.join(header)} |",
            f"|---|---|{'---:|' * (len(header) - 2)}",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
