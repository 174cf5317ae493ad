"""Time of the PPO loss, forward and backward from logits or from mean and log_std: ours and torch.

Everybody starts with the same float32 tensors, computes the loss with the statistics that a
training loop logs, and leaves gradients in `.grad`; one more entry computes the loss alone. One
thread each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ppo_fast.bench.report import write_report
from ppo_fast.bench.timing import table, time_in_turns
from ppo_fast.distributions import Categorical, Gaussian
from ppo_fast.extras import require
from ppo_fast.surrogate import fused_loss

BATCHES = (64, 256, 2048, 16384)
ACTIONS = (2, 6, 18)
DIMS = (1, 6, 17)
OURS = "ppo_fast"
EAGER = "torch eager"
EAGER_ALONE = "torch eager, loss alone"
COMPILED = "torch.compile"
CLIP_RANGE, ENTROPY_COEF, VALUE_COEF = 0.2, 0.01, 0.5
_TOLERANCE = 1e-4
_PACKAGES = ("numpy", "torch")


@dataclass(frozen=True)
class Problem:
    """What one shape asks for: float32 tensors, the same for all contenders.

    Attributes:
        family: "categorical" or "gaussian".
        leaves: Logits [B, A], or mean [B, D] and log_std [D]; then values [B]. They ask for
            gradients.
        actions: Drawn from the leaves.
        columns: old_logp, advantages and returns [B].
    """

    family: str
    leaves: tuple[Any, ...]
    actions: Any
    columns: tuple[Any, ...]

    @property
    def title(self) -> str:
        """The shape in words."""
        size, width = self.leaves[0].shape
        what = "actions" if self.family == "categorical" else "dimensions"
        return f"{self.family}, batch {size:,}, {width} {what}"

    def gradients(self, loss: Callable[["Problem"], Any]) -> list[Any]:
        """Of a loss of this problem, fresh."""
        for leaf in self.leaves:
            leaf.grad = None
        loss(self).backward()
        return [leaf.grad for leaf in self.leaves]

    def double(self) -> "Problem":
        """The same numbers in float64."""
        leaves = tuple(x.detach().double().requires_grad_() for x in self.leaves)
        columns = tuple(x.double() for x in self.columns)
        is_float = self.actions.is_floating_point()
        actions = self.actions.double() if is_float else self.actions
        return Problem(self.family, leaves, actions, columns)


# From a problem to its loss, a torch scalar.
Loss = Callable[[Problem], Any]


def make_problem(family: str, size: int, width: int) -> Problem:
    """A random batch, in which about half of the ratios are clipped."""
    torch = require("torch")
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=generator)

    first = normal(size, width)
    parameters = (first,) if family == "categorical" else (first, 0.1 * normal(width))
    dist = Categorical(*parameters) if family == "categorical" else Gaussian(*parameters)
    sample = dist.sample(seed=0, step=0)
    old_logp = torch.from_numpy(sample.logp) + 0.3 * normal(size)
    leaves = tuple(x.requires_grad_() for x in (*parameters, normal(size)))
    actions = torch.from_numpy(sample.actions)
    return Problem(family, leaves, actions, (old_logp, normal(size), 1 + normal(size)))


def our_loss(problem: Problem) -> Any:
    """The fused loss, whose statistics come along."""
    *parameters, values = problem.leaves
    old_logp, advantages, returns = problem.columns
    dist = Categorical if problem.family == "categorical" else Gaussian
    loss, _ = fused_loss(
        dist(*parameters),
        problem.actions,
        advantages,
        objective="clipped",
        old_logp=old_logp,
        values=values,
        returns=returns,
        clip_range=CLIP_RANGE,
        entropy_coef=ENTROPY_COEF,
        value_coef=VALUE_COEF,
    )
    return loss


def torch_loss(problem: Problem) -> Any:
    """The same in plain torch."""
    return _torch_parts(problem)[0]


def torch_loss_with_statistics(problem: Problem) -> Any:
    """The same in plain torch, with our statistics."""
    torch = require("torch")
    loss, log_ratio, ratio = _torch_parts(problem)
    values, returns = problem.leaves[-1], problem.columns[2]
    with torch.no_grad():
        torch.stack(
            [
                ((ratio - 1) - log_ratio).mean(),
                -log_ratio.mean(),
                ((ratio - 1).abs() > CLIP_RANGE).float().mean(),
                ratio.mean(),
                ratio.max(),
                ratio.sum() ** 2 / (len(ratio) * (ratio**2).sum()),
                (log_ratio.abs() > 60).float().mean(),
                1 - (returns - values).var() / returns.var(),
            ]
        )
    return loss


def _torch_parts(problem: Problem) -> tuple[Any, Any, Any]:
    torch = require("torch")
    *parameters, values = problem.leaves
    old_logp, advantages, returns = problem.columns
    if problem.family == "categorical":
        logp_all = torch.log_softmax(parameters[0], 1)
        logp = logp_all.gather(1, problem.actions[:, None])[:, 0]
        entropy = -(logp_all.exp() * logp_all).sum(1).mean()
    else:
        # torch.distributions.Normal with its checks takes longer.
        mean, log_std = parameters
        z = (problem.actions - mean) * torch.exp(-log_std)
        logp = (-0.5 * z**2 - log_std - 0.9189385332046727).sum(1)
        entropy = (log_std + 1.4189385332046727).sum()
    log_ratio = logp - old_logp
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - CLIP_RANGE, 1 + CLIP_RANGE)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = torch.nn.functional.mse_loss(values, returns)
    loss = policy_loss + VALUE_COEF * value_loss - ENTROPY_COEF * entropy
    return loss, log_ratio, ratio


def _compiled() -> Loss | None:
    """torch.compile of the loss with statistics; None where there is no compiler."""
    torch = require("torch")

    def of_tensors(
        family: str, leaves: tuple[Any, ...], actions: Any, columns: tuple[Any, ...]
    ) -> Any:
        return torch_loss_with_statistics(Problem(family, leaves, actions, columns))

    call = torch.compile(of_tensors, dynamic=False)

    def loss(problem: Problem) -> Any:
        return call(problem.family, problem.leaves, problem.actions, problem.columns)

    try:
        make_problem("categorical", 4, 2).gradients(loss)
    except Exception as error:  # of the toolchain, of any kind
        print(f"torch.compile does not work here and is left out: {str(error).splitlines()[0]}")
        return None
    return loss


@dataclass(frozen=True)
class Result:
    """Times of one problem, in seconds."""

    problem: Problem
    seconds: dict[str, float]
    """Of forward and backward, by contender."""

    def ratio(self, name: str) -> float:
        """How many times as long as ours it takes."""
        return self.seconds[name] / self.seconds[OURS]


def bench_surrogate(
    *,
    seconds: float,
    batches: Sequence[int] = BATCHES,
    actions: Sequence[int] = ACTIONS,
    dims: Sequence[int] = DIMS,
    compiled: bool = True,
    losses: Mapping[str, Loss] | None = None,
    out: Path | None = None,
) -> list[Result]:
    """Print and return the time of forward and backward by shape and contender.

    `losses` are more contenders: functions from a problem to its loss, a torch scalar. `out` is a
    path without suffix: to write the results to as .json, with facts about the machine, and as
    .png.
    """
    torch = require("torch", "bench")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        contenders: dict[str, Loss] = {
            OURS: our_loss,
            EAGER: torch_loss_with_statistics,
            EAGER_ALONE: torch_loss,
        }
        if compiled and (compiled_loss := _compiled()) is not None:
            contenders[COMPILED] = compiled_loss
        contenders |= losses or {}
        shapes = [("categorical", size, width) for width in actions for size in batches]
        shapes += [("gaussian", size, width) for width in dims for size in batches]
        results = []
        for shape in shapes:
            torch.compiler.reset()
            results.append(_measure(make_problem(*shape), contenders, seconds))
            print(f"\n{_table(results[-1])}", flush=True)
        if out is not None:
            write_report(
                out,
                benchmark="surrogate",
                unit="seconds per forward and backward",
                packages=_PACKAGES,
                results=[_record(result) for result in results],
                plot=lambda path: _plot(path, results),
            )
    finally:
        torch.set_num_threads(threads)
    return results


def _measure(problem: Problem, contenders: Mapping[str, Loss], seconds: float) -> Result:
    exact = problem.double()
    truth = exact.gradients(torch_loss)
    for name, loss in contenders.items():
        for k, (ours, expected) in enumerate(zip(problem.gradients(loss), truth, strict=True)):
            error = ((ours.double() - expected).abs().max() / expected.abs().max()).item()
            if not error <= _TOLERANCE:
                raise AssertionError(
                    f"{problem.title}: {name} gave a wrong gradient {k}, off by {error:.1e}"
                )
    calls = {name: partial(problem.gradients, loss) for name, loss in contenders.items()}
    return Result(problem, time_in_turns(calls, seconds))


def _table(result: Result) -> str:
    rows = [
        [name, f"{seconds * 1e6:,.1f}", f"{result.ratio(name):,.2f}"]
        for name, seconds in result.seconds.items()
    ]
    return table(result.problem.title, ["", "us", f"it / {OURS}"], rows)


def _record(result: Result) -> dict[str, object]:
    size, width = result.problem.leaves[0].shape
    return {
        "family": result.problem.family,
        "batch": size,
        "width": width,
        "contenders": {
            name: {"seconds": seconds, "ratio": result.ratio(name)}
            for name, seconds in result.seconds.items()
        },
    }


def _plot(path: Path, results: Sequence[Result]) -> None:
    """Time over ours against the batch, a panel for each family and a line for each width."""
    figure = require("matplotlib.figure", "bench").Figure(figsize=(12, 5), layout="constrained")
    families = list(dict.fromkeys(result.problem.family for result in results))
    names = [name for name in results[0].seconds if name != OURS]
    styles = dict(zip(names, ("-", ":", "--", "-."), strict=False))
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for axes, family in zip(panels, families, strict=True):
        chosen = [result for result in results if result.problem.family == family]
        widths = list(dict.fromkeys(result.problem.leaves[0].shape[1] for result in chosen))
        for k, width in enumerate(widths):
            line = [r for r in chosen if r.problem.leaves[0].shape[1] == width]
            sizes = [len(r.problem.leaves[0]) for r in line]
            for name in names:
                axes.plot(
                    sizes,
                    [r.ratio(name) for r in line],
                    styles.get(name, "-"),
                    color=f"C{k}",
                    marker="o",
                    label=f"{name}, {width}",
                )
        axes.axhline(1, color="black", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xlabel("batch")
        axes.set_title(f"{family}, by {'actions' if family == 'categorical' else 'dimensions'}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[0].set_ylabel(f"time / {OURS}")
    figure.suptitle("PPO loss, forward and backward, float32, one thread; 1 is ours")
    figure.savefig(path, dpi=120)
